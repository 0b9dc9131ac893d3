//! `haulage docs`, hidden: pages of the documentation that come from the code.

use std::fmt::Write as _;

use clap::{Command, ValueEnum};

use crate::{env, exit::Result, output::Output};

/// Print a page of the documentation, in Markdown
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which page
    page: Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    /// Every environment variable
    Environment,
    /// Every command
    Cli,
}

impl Args {
    pub(crate) fn run(self, root: Command, output: Output) -> Result {
        output.text(&match self.page {
            Page::Environment => env::markdown(),
            Page::Cli => commands(root),
        })
    }
}

fn commands(root: Command) -> String {
    let mut page = String::from(
        "# Commands\n\n<!-- Made by `haulage docs cli` from the program's own help: edit there. -->\n",
    );
    // Without a terminal, help is as wide as this says.
    let mut root = root.term_width(100);
    root.build();
    describe(&mut root, &mut page);
    page
}

fn describe(command: &mut Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let is_root = !name.contains(' ');
    // Not the value that the environment happens to have, nor the same
    // global options again and again.
    let mut plain = command.clone().mut_args(|arg| {
        let again = arg.is_global_set() && !is_root;
        arg.hide_env_values(true).hide(again)
    });
    let help = plain.render_long_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n"));
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        describe(sub, page);
    }
}
