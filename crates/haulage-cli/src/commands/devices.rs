//! The GPUs of a worker, and what becomes of those that break.

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    devices::gpus,
    env,
    exit::{Exit, Result},
    handlers::split,
    options, pool,
};

/// For how long nothing may work until the worker ends.
const QUARANTINE_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Devices")]
pub(crate) struct DeviceArgs {
    #[arg(long, value_name = "all|LIST", env = env::GPUS.name, help = env::GPUS.help)]
    gpus: Option<String>,

    #[arg(long, value_name = "NUMBER", env = env::SLOTS_PER_GPU.name, help = env::SLOTS_PER_GPU.help)]
    slots_per_gpu: Option<NonZeroUsize>,

    #[arg(long, value_name = "COMMAND", env = env::HEALTH_CHECK.name, help = env::HEALTH_CHECK.help)]
    health_check: Option<String>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::QUARANTINE_LIMIT.name, help = env::QUARANTINE_LIMIT.help
    )]
    quarantine_limit: Option<Duration>,
}

impl DeviceArgs {
    /// All of it, under the names that `haulage.Worker` has for it.
    pub(crate) fn options(&self) -> [(&'static str, serde_json::Value); 4] {
        [
            ("gpus", self.gpus.clone().into()),
            ("slots_per_gpu", self.slots_per_gpu.map(NonZeroUsize::get).into()),
            ("health_check", self.health_check.clone().into()),
            ("quarantine_limit", self.quarantine_limit.map(|limit| limit.as_secs_f64()).into()),
        ]
    }

    /// The slots of a worker whose jobs a program runs, or a server, if there is none.
    pub(crate) fn slots(&self, concurrency: usize, has_program: bool) -> Result<pool::Options> {
        let health_check = self.health_check.as_deref().map(split).transpose().map_err(|why| {
            Exit::usage(format!("cannot split the command of --health-check into words: {why}"))
        })?;
        if health_check.as_ref().is_some_and(Vec::is_empty) {
            return Err(Exit::usage("--health-check needs a command to run"));
        }
        let gpus = self.gpus(concurrency, has_program)?;
        let per_gpu = self.slots_per_gpu.map_or(1, NonZeroUsize::get);
        Ok(pool::Options {
            slots: if gpus.is_empty() { concurrency } else { gpus.len() * per_gpu },
            gpus,
            health_check: health_check.unwrap_or_default(),
            quarantine_limit: self.quarantine_limit.unwrap_or(QUARANTINE_LIMIT),
        })
    }

    /// The GPUs to use, if any.
    fn gpus(&self, concurrency: usize, has_program: bool) -> Result<Vec<String>> {
        let Some(named) = &self.gpus else {
            return match self.slots_per_gpu {
                Some(_) => Err(Exit::usage("--slots-per-gpu goes with --gpus, and there is none")),
                None => Ok(Vec::new()),
            };
        };
        if !has_program {
            return Err(Exit::usage(
                "--gpus goes with --exec, --shell and --python; a server has chosen its GPUs when its worker starts",
            ));
        }
        if concurrency != 1 {
            return Err(Exit::usage(
                "give --concurrency, or --gpus with --slots-per-gpu, which says how many jobs run at once, but not both",
            ));
        }
        gpus::devices(named).map_err(|why| Exit::usage(format!("--gpus: {why}")))
    }
}
