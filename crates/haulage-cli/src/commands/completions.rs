//! `haulage completions`

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, exit::Result, output::Output};

/// Print the script that completes this program's arguments in a shell
///
/// For bash: haulage completions bash > ~/.local/share/bash-completion/completions/haulage
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, output: Output) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "haulage", &mut script);
        output.text(&String::from_utf8_lossy(&script))
    }
}
