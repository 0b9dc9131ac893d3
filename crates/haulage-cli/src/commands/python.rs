//! `haulage worker --python`: the Python package does the work.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    env,
    exit::{Code, Exit, Result},
    options,
};

/// What only Python functions have.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Python")]
pub(crate) struct PythonArgs {
    #[arg(long, value_name = "NUMBER", env = env::PROCESSES.name, help = env::PROCESSES.help)]
    processes: Option<usize>,

    #[arg(
        long, value_name = "NUMBER",
        env = env::MAX_JOBS_PER_CHILD.name, help = env::MAX_JOBS_PER_CHILD.help
    )]
    max_jobs_per_child: Option<usize>,

    #[arg(
        long, value_name = "SIZE", value_parser = options::size,
        env = env::MAX_MEMORY_PER_CHILD.name, help = env::MAX_MEMORY_PER_CHILD.help
    )]
    max_memory_per_child: Option<u64>,

    #[arg(
        long, value_name = "SIZE", value_parser = options::size,
        env = env::MAX_DEVICE_MEMORY_PER_CHILD.name, help = env::MAX_DEVICE_MEMORY_PER_CHILD.help
    )]
    max_device_memory_per_child: Option<u64>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::CHILD_TIMEOUT.name, help = env::CHILD_TIMEOUT.help
    )]
    child_timeout: Option<Duration>,

    #[arg(long, value_name = "NUMBER", env = env::MAX_BATCH_SIZE.name, help = env::MAX_BATCH_SIZE.help)]
    max_batch_size: Option<usize>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::BATCH_TIMEOUT.name, help = env::BATCH_TIMEOUT.help
    )]
    batch_timeout: Option<Duration>,

    #[arg(long, value_name = "MODULE:FUNCTION", env = env::ON_START.name, help = env::ON_START.help)]
    on_start: Option<String>,
}

impl PythonArgs {
    /// All of it, under the names that `haulage.Worker` has for it.
    pub(crate) fn options(&self) -> [(&'static str, serde_json::Value); 8] {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64()).into();
        [
            ("processes", self.processes.into()),
            ("max_jobs_per_child", self.max_jobs_per_child.into()),
            ("max_memory_per_child", self.max_memory_per_child.into()),
            ("max_device_memory_per_child", self.max_device_memory_per_child.into()),
            ("child_timeout", seconds(self.child_timeout)),
            ("max_batch_size", self.max_batch_size.into()),
            ("batch_timeout", seconds(self.batch_timeout)),
            ("on_start", self.on_start.clone().into()),
        ]
    }

    /// Refuses what would do nothing.
    pub(crate) fn check(&self, python: bool) -> Result {
        let given = self.options().into_iter().find(|(_, value)| !value.is_null());
        match given {
            Some((name, _)) if !python => {
                let flag = name.replace('_', "-");
                Err(Exit::usage(format!("--{flag} goes with --python, and there is none")))
            }
            _ => Ok(()),
        }
    }
}

// Both without the working folder on the path, where `-c` puts it: what lies
// there must not stand in for the package, or for the standard library.
/// Ends with [`NO_PACKAGE`] where Python does not find the package.
const LOOK: &str = "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]; import importlib.util; \
                    sys.exit(0 if importlib.util.find_spec('haulage') else 77)";
/// What `python3 -m haulage` does.
const MAIN: &str = "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]; from haulage.__main__ import main; \
                    sys.exit(main())";
const NO_PACKAGE: i32 = 77;

/// Becomes `python3 -m haulage`, as it were, with the arguments of this program, which the
/// package knows, too; comes back only where that fails.
pub(crate) fn become_python() -> Exit {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for python in ["python3", "python"] {
        let looked =
            Command::new(python).args(["-c", LOOK]).stdin(Stdio::null()).stdout(Stdio::null()).status();
        if looked.is_ok_and(|status| status.code() == Some(NO_PACKAGE)) {
            return Exit::new(
                Code::Usage,
                format!(
                    "{python} has no package haulage, which --python needs; install its wheel with \
                     `{python} -m pip install`, or put the {python} that has it first in PATH"
                ),
            );
        }
        error = Command::new(python).args(["-c", MAIN]).args(std::env::args_os().skip(1)).exec();
        if error.kind() != io::ErrorKind::NotFound {
            break;
        }
    }
    Exit::new(
        Code::Usage,
        format!(
            "cannot run python3 for --python: {error}; install Python 3.9 or later, and the package haulage in it"
        ),
    )
}
