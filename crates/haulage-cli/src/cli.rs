//! The command line as a whole.

use std::ffi::{OsStr, OsString};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};

#[cfg(feature = "bench")]
use crate::bench;
use crate::{
    commands::{
        backup, cancel, completions, dead, docs, doctor, e2e, health, key, list, purge, queue, result, retry,
        serve, show, simulate, sql, stats, status, submit, wait, webhook, worker, workers,
    },
    env,
    exit::{Code, Exit, Result},
    handlers::guard,
    output::{LogFormat, Output},
    session::Session,
};

/// Durable job engine: submit a job, let a worker run it, get its result.
#[derive(Debug, Parser)]
#[command(
    name = "haulage",
    version,
    after_help = help(),
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[arg(
        long, global = true, env = env::URL.name, default_value = env::URL.fallback(),
        help = env::URL.help, help_heading = "Global options"
    )]
    pub(crate) url: String,

    /// Write JSON: data to stdout, one document a line, and errors to stderr as one object
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Submit(submit::Args),
    Worker(Box<worker::Args>),
    Serve(Box<serve::Args>),
    Status(status::Args),
    Show(show::Args),
    Result(result::Args),
    Wait(wait::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    List(list::Args),
    Workers(workers::Args),
    #[command(subcommand)]
    Dead(dead::Command),
    Stats(stats::Args),
    Purge(purge::Args),
    Sql(sql::Args),
    Backup(backup::Args),
    Doctor(doctor::Args),
    E2e(Box<e2e::Args>),
    Health(health::Args),
    #[command(subcommand)]
    Queue(queue::Command),
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Webhook(webhook::Command),
    #[cfg(feature = "bench")]
    Bench(bench::Args),
    Simulate(simulate::Args),
    Completions(completions::Args),
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchActor(bench::ActorArgs),
    #[command(hide = true)]
    Docs(docs::Args),
    #[command(hide = true)]
    Guard(guard::Args),
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result {
        match self {
            Self::Submit(args) => args.run(session).await,
            Self::Worker(args) => args.run(session).await,
            Self::Serve(args) => args.run(session).await,
            Self::Status(args) => args.run(session).await,
            Self::Show(args) => args.run(session).await,
            Self::Result(args) => args.run(session).await,
            Self::Wait(args) => args.run(session).await,
            Self::Cancel(args) => args.run(session).await,
            Self::Retry(args) => args.run(session).await,
            Self::List(args) => args.run(session).await,
            Self::Workers(args) => args.run(session).await,
            Self::Dead(command) => command.run(session).await,
            Self::Stats(args) => args.run(session).await,
            Self::Purge(args) => args.run(session).await,
            Self::Sql(args) => args.run(session).await,
            Self::Backup(args) => args.run(session).await,
            Self::Doctor(args) => args.run(session).await,
            Self::E2e(args) => args.run(session).await,
            Self::Health(args) => args.run(session.output).await,
            Self::Queue(command) => command.run(session).await,
            Self::Key(command) => command.run(session),
            Self::Webhook(command) => command.run(session).await,
            #[cfg(feature = "bench")]
            Self::Bench(args) => args.run(session).await,
            Self::Simulate(args) => args.run(session.output),
            #[cfg(feature = "bench")]
            Self::BenchActor(args) => args.run(session).await,
            Self::Completions(args) => args.run(session.output),
            Self::Docs(args) => args.run(Cli::command(), session.output),
            Self::Guard(args) => args.run(),
        }
    }

    /// Whether it runs jobs, until it is told to stop.
    pub(crate) const fn is_worker(&self) -> bool {
        matches!(self, Self::Worker(_))
    }

    /// How the lines on stderr look.
    pub(crate) fn log_format(&self) -> LogFormat {
        match self {
            Self::Worker(args) => args.log_format(),
            Self::Serve(args) => args.log_format(),
            _ => LogFormat::Text,
        }
    }
}

/// A command line that has been read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) cli: Cli,
    pub(crate) given: worker::Given,
}

impl Cli {
    /// What a worker in Python is to do, where a Python function runs the jobs.
    pub(crate) fn python_worker(&self, given: &worker::Given) -> Result<Option<serde_json::Value>> {
        match &self.command {
            Command::Worker(args) => args.for_python(&self.url, self.json, given),
            _ => Ok(None),
        }
    }

    /// Reads the arguments and the environment. Help, the version and
    /// mistakes are written here; the code is what to end with.
    pub(crate) fn read(arguments: &[OsString]) -> std::result::Result<Read, Code> {
        let read = |mut matches: ArgMatches| {
            let cli = Self::from_arg_matches(&matches)?;
            Ok(Read { cli, given: worker::Given(matches.remove_subcommand().map(|(_, matches)| matches)) })
        };
        let matches = without_empty_variables(Self::command()).try_get_matches_from(arguments);
        let error = match matches.and_then(read) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let json = arguments.iter().any(|arg| arg == OsStr::new("--json"));
        let output = Output::new(json, LogFormat::of(arguments));
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // A closed pipe is all that can go wrong.
                let _ = error.print();
                Err(Code::Ok)
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                Err(Code::Usage)
            }
            _ => {
                let text = error.render().to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
                let exit = Exit::usage(text);
                output.exit(&exit);
                Err(exit.code)
            }
        }
    }
}

/// What follows the list of commands.
fn help() -> String {
    let examples = "Examples:\n  haulage submit --wait '{\"image\": \"cat.png\"}'\n  haulage worker --exec 'python infer.py'";
    format!("{examples}\n\n{}", Code::help())
}

/// A variable that is set to nothing, as container descriptions tend to do,
/// counts as not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_env().map(std::env::var_os) {
        Some(Some(value)) if value.is_empty() => arg.env(None),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::handlers::shell_words;

    /// Every argument with an environment variable, in the whole tree.
    fn variables(command: &clap::Command, into: &mut BTreeSet<(String, String)>) {
        for arg in command.get_arguments() {
            if let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) {
                into.insert((variable.to_string_lossy().into_owned(), format!("--{flag}")));
            }
        }
        command.get_subcommands().for_each(|c| variables(c, into));
    }

    #[test]
    fn is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command that people see, with its name.
    fn commands(command: &clap::Command, name: &str, into: &mut Vec<(String, clap::Command)>) {
        into.push((name.to_owned(), command.clone()));
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            commands(command, &format!("{name} {}", command.get_name()), into);
        }
    }

    #[test]
    fn every_help_has_an_example_that_can_be_typed() {
        let mut all = Vec::new();
        commands(&Cli::command(), "haulage", &mut all);
        for (name, command) in all {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.strip_prefix("  haulage ")).collect();
            assert!(!examples.is_empty(), "{name} --help has no example");
            for example in examples {
                // Of what only a shell understands, an id stands for the first, and the rest is its own.
                let shell = example.split_once(" | ").or(example.split_once(" > "));
                let typed = match (example.split_once("$("), shell) {
                    (Some((before, _)), _) => {
                        before.trim_end_matches(|c| c != '"').trim_end_matches('"').to_owned() + "ID"
                    }
                    (None, Some((before, _))) => before.to_owned(),
                    (None, None) => example.to_owned(),
                };
                let words = shell_words::split(&typed).unwrap_or_else(|error| panic!("{example}: {error}"));
                let read =
                    Cli::command().try_get_matches_from(std::iter::once("haulage".to_owned()).chain(words));
                assert!(read.is_ok(), "{name}: {example}: {}", read.expect_err("an error"));
            }
        }
    }

    #[test]
    fn every_variable_is_in_the_one_list_under_the_name_of_its_flag() {
        let mut used = BTreeSet::new();
        variables(&Cli::command(), &mut used);
        // What a worker does is one choice of several flags, and read as one; and
        // several variables are read as one.
        for choice in [&env::EXEC, &env::SHELL, &env::HTTP, &env::PYTHON, &env::ENV] {
            used.insert((choice.name.to_owned(), choice.flag()));
        }
        let listed: BTreeSet<_> = env::SECTIONS
            .iter()
            .flat_map(|(_, settings)| settings.iter().map(|s| (s.name.to_owned(), s.flag())))
            .collect();
        assert_eq!(used, listed);
    }
}
