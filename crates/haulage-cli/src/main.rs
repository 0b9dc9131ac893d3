//! `haulage`: submit jobs, work them off, watch them, and repair what went wrong.

#[cfg(feature = "bench")]
mod bench;
mod cli;
mod commands;
mod env;
mod exit;
mod handlers;
mod init;
mod input;
mod logging;
mod options;
mod output;
mod progress;
mod session;

use std::{process::ExitCode, time::Duration};

use crate::{
    cli::Cli,
    exit::{Code, Exit, Result},
    output::Output,
    session::Session,
};

/// How long the end waits for the log to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// The same where somebody wants an end at once.
const FLUSH_LIMIT_NOW: Duration = Duration::from_millis(250);

fn main() -> ExitCode {
    commands::completions::answer();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    let output = Output::new(cli.json, cli.command.log_format());
    if cli.command.is_worker() {
        match init::run_in_child() {
            Ok(None) => {}
            Ok(Some(code)) => return code.into(),
            Err(error) => {
                output.report(format!("haulage: as process 1, cannot start the worker in a child: {error}"));
            }
        }
    }
    let code = match run(cli, output) {
        Ok(()) => Code::Ok,
        Err(exit) => {
            if let Some(report) = exit.report(output) {
                output.report(report);
            }
            exit.code
        }
    };
    // Who was told twice to end does not wait for whoever reads the log.
    logging::flush(if matches!(code, Code::Signal(_)) { FLUSH_LIMIT_NOW } else { FLUSH_LIMIT });
    code.into()
}

fn run(cli: Cli, output: Output) -> Result {
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
