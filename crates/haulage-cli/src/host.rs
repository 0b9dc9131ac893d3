//! What the command line runs in: the program, or a Python interpreter.

use std::{ffi::OsString, io, process::Command, sync::OnceLock};

/// What the command line runs in.
#[derive(Clone, Debug)]
pub enum Host {
    /// The program `haulage`.
    Program,
    /// An interpreter that has loaded this as a part of an extension module.
    Python {
        /// The words that start another process with this command line, wherever
        /// it is and with no environment; its arguments follow.
        again: Vec<OsString>,
    },
}

static HOST: OnceLock<Host> = OnceLock::new();

/// The same for each call in a process.
pub(crate) fn set(host: Host) {
    let _ = HOST.set(host);
}

/// This command line once more, in a process of its own, without the environment of this one.
pub(crate) fn alone() -> io::Result<Command> {
    /// Where an interpreter may find the library that it is made of.
    const LIBRARIES: &str = "LD_LIBRARY_PATH";
    let mut command = match HOST.get() {
        Some(Host::Python { again }) => {
            let (program, arguments) = again.split_first().ok_or(io::ErrorKind::NotFound)?;
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env_clear()
                .envs(std::env::var_os(LIBRARIES).map(|path| (LIBRARIES, path)));
            return Ok(command);
        }
        // The file may have been replaced by another version.
        _ if cfg!(target_os = "linux") => Command::new("/proc/self/exe"),
        _ => Command::new(std::env::current_exe()?),
    };
    command.env_clear();
    Ok(command)
}
