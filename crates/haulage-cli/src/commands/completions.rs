//! `haulage completions`

use std::{
    ffi::OsString,
    io::{self, Write as _},
};

use clap::Command;
use clap_complete::{CompleteEnv, Shell, env::Shells};

use super::completing;
use crate::{
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

/// Answers a script that asks about this program; whether one did.
pub(crate) fn answer(arguments: &[OsString], program: fn() -> Command) -> bool {
    if arguments.is_empty() || std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    completing::line_is(arguments);
    let complete = CompleteEnv::with_factory(|| visible(&program())).var(VARIABLE);
    let folder = std::env::current_dir().ok();
    let answered = complete.try_complete(arguments, folder.as_deref()).unwrap_or_else(|error| error.exit());
    // Its last line may have no end, and in an interpreter nothing else writes it.
    let _ = io::stdout().flush();
    answered
}

/// The program without the commands that are not for people.
fn visible(root: &Command) -> Command {
    let commands = root.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("haulage").args(root.get_arguments().cloned()).subcommands(commands.cloned())
}
