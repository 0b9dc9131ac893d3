//! `haulage completions`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, exit::Result, output::Output};

/// Print the script that completes this program's arguments in a shell
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
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut visible(&Cli::command()), "haulage", &mut script);
        output.text(&String::from_utf8_lossy(&script))
    }
}

/// The program without the commands that are not for people.
fn visible(root: &clap::Command) -> clap::Command {
    let commands = root.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new("haulage").args(root.get_arguments().cloned()).subcommands(commands.cloned())
}
