//! What the program of a worker gets, and may do.

use std::{collections::BTreeMap, ffi::OsString};

use crate::{
    env,
    exit::{Exit, Result},
    handlers::{Confinement, split},
    options,
};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Programs")]
pub(super) struct ProgramArgs {
    /// Variable that the program of --exec or --shell gets, with this value or the worker's; may be
    /// repeated [env: HAULAGE_ENV, several, split into words as a shell does]
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, Option<OsString>)>,

    #[arg(long, env = env::CLEAN_ENV.name, help = env::CLEAN_ENV.help)]
    clean_env: bool,

    #[arg(
        long, value_name = "SIZE", value_parser = options::size,
        env = env::MEMORY_LIMIT.name, help = env::MEMORY_LIMIT.help
    )]
    memory_limit: Option<u64>,

    #[arg(
        long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..),
        env = env::PROCESS_LIMIT.name, help = env::PROCESS_LIMIT.help
    )]
    process_limit: Option<u64>,

    #[arg(
        long, value_name = "SIZE", value_parser = options::size,
        env = env::LOG_LIMIT.name, default_value = env::LOG_LIMIT.fallback(), help = env::LOG_LIMIT.help
    )]
    log_limit: u64,
}

impl ProgramArgs {
    /// How much of what a program prints for one job is logged, in bytes.
    pub(super) fn log_limit(&self) -> usize {
        usize::try_from(self.log_limit).unwrap_or(usize::MAX)
    }

    /// The rest; flags go before the environment.
    pub(super) fn confinement(&self) -> Result<Confinement> {
        let mut variables = BTreeMap::new();
        for word in split(&env::ENV.read().unwrap_or_default()).map_err(wrong)? {
            variables.extend([variable(&word).map_err(wrong)?]);
        }
        variables.extend(self.env.iter().cloned());
        Ok(Confinement {
            clean: self.clean_env,
            variables,
            memory: self.memory_limit,
            processes: self.process_limit,
        })
    }

    /// Refuses what would do nothing, where no program is run.
    pub(super) fn refuse(&self) -> Result {
        if self.confinement()?.is_none() {
            return Ok(());
        }
        Err(Exit::usage(
            "--env, --clean-env, --memory-limit and --process-limit go with --exec and --shell, and there is none",
        ))
    }
}

fn wrong(why: String) -> Exit {
    Exit::usage(format!("{}: {why}", env::ENV.name))
}

/// `NAME` or `NAME=VALUE`.
fn variable(text: &str) -> Result<(String, Option<OsString>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, None),
    };
    if name.is_empty() || name.contains('\0') {
        return Err(format!("`{text}` names no variable; write it like NAME or NAME=VALUE"));
    }
    Ok((name.to_owned(), value))
}
