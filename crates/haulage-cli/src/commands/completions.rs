//! `haulage completions`

use clap::CommandFactory as _;
use clap_complete::{CompleteEnv, Shell, env::Shells};

use crate::{
    cli::Cli,
    exit::{Code, Exit, Result},
    output::Output,
};

/// By which a script asks this program for completions.
const VARIABLE: &str = "_HAULAGE_COMPLETE";

/// Print the script that completes this program's arguments in a shell
///
/// The script asks this program each time: for commands and options, statuses, and the ids of the
/// newest jobs of an embedded database.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage completions bash > ~/.local/share/bash-completion/completions/haulage\n  haulage completions zsh > ~/.zfunc/_haulage\n  haulage completions fish > ~/.config/fish/completions/haulage.fish"
)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, output: Output) -> Result {
        let shell = self.shell.to_string();
        let failed = |why: &dyn std::fmt::Display| {
            Exit::new(Code::Failure, format!("cannot write the script for {shell}: {why}"))
        };
        let shells = Shells::builtins();
        let completer = shells.completer(&shell).ok_or_else(|| failed(&"there is none"))?;
        let mut script = Vec::new();
        completer
            .write_registration(VARIABLE, "haulage", "haulage", "haulage", &mut script)
            .map_err(|error| failed(&error))?;
        output.text(&String::from_utf8_lossy(&script))
    }
}

/// Answers a script that asks, and ends the program.
pub(crate) fn answer() {
    CompleteEnv::with_factory(|| visible(&Cli::command())).var(VARIABLE).complete();
}

/// The program without the commands that are not for people.
fn visible(root: &clap::Command) -> clap::Command {
    let commands = root.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new("haulage").args(root.get_arguments().cloned()).subcommands(commands.cloned())
}
