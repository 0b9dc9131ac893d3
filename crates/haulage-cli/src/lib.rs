//! `haulage`: submit jobs, work them off, watch them, and repair what went wrong.
//!
//! The command line as a library: the program of the crate calls [`run`], and so
//! does the Python package, so that both are the same. It is made for these two,
//! and promises nothing to others.

#[cfg(feature = "bench")]
mod bench;
mod cli;
mod commands;
pub mod devices;
mod env;
mod exit;
mod handlers;
mod host;
mod init;
mod input;
mod logging;
mod options;
mod output;
mod pool;
mod progress;
mod session;

use std::{ffi::OsString, time::Duration};

use clap::CommandFactory as _;

pub use crate::host::Host;
use crate::{
    cli::{Cli, Read},
    exit::{Code, Exit, Result},
    output::Output,
    session::Session,
};

/// How long the end waits for the log to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// The same where somebody wants an end at once.
const FLUSH_LIMIT_NOW: Duration = Duration::from_millis(250);

/// What a command line came to.
#[derive(Debug)]
pub enum Ended {
    /// It is done; the exit code.
    Code(u8),
    /// A Python function is to run jobs, and the host is Python: what the
    /// worker is to do, as JSON. Only in [`Host::Python`].
    Python(String),
}

/// Carries out a command line, the name of the program included, as a process
/// does that does nothing else: it takes signals, and writes to stdout and
/// stderr. To be called from the main thread.
pub fn run(arguments: Vec<OsString>, host: Host) -> Ended {
    let is_python = matches!(host, Host::Python { .. });
    host::set(host);
    if commands::completions::answer(&arguments, Cli::command) {
        return Ended::Code(Code::Ok.number());
    }
    let Read { cli, given } = match Cli::read(&arguments) {
        Ok(read) => read,
        Err(code) => return Ended::Code(code.number()),
    };
    let output = Output::new(cli.json, cli.command.log_format());
    let code = if is_python {
        match cli.python_worker(&given) {
            Ok(Some(worker)) => return Ended::Python(worker.to_string()),
            Ok(None) => end(carry_out(cli, output), output),
            Err(exit) => end(Err(exit), output),
        }
    } else {
        if cli.command.is_worker() {
            match init::run_in_child() {
                Ok(None) => {}
                Ok(Some(code)) => return Ended::Code(code),
                Err(error) => {
                    output.report(format!(
                        "haulage: as process 1, cannot start the worker in a child: {error}"
                    ));
                }
            }
        }
        end(carry_out(cli, output), output)
    };
    Ended::Code(code.number())
}

/// Says how it ended, and waits for what was said to be written.
fn end(result: Result, output: Output) -> Code {
    let code = match result {
        Ok(()) => Code::Ok,
        Err(exit) => {
            output.exit(&exit);
            exit.code
        }
    };
    // Who was told twice to end does not wait for whoever reads the log.
    output::flush(if matches!(code, Code::Signal(_)) { FLUSH_LIMIT_NOW } else { FLUSH_LIMIT });
    code
}

fn carry_out(cli: Cli, output: Output) -> Result {
    // One thread, and it is the main one: the death of the thread that
    // started a program is what ends the program with a killed worker.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::new(Code::Failure, format!("cannot start: {error}")))?;
    let session = Session::new(cli.url, output);
    let result = runtime.block_on(async {
        let result = cli.command.run(&session).await;
        session.close().await;
        result
    });
    // A read of stdin that nobody waits for any more must not hold us up.
    runtime.shutdown_background();
    result
}
