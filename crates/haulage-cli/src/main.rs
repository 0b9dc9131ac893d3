//! `haulage`: submit jobs, work them off, watch them, and repair what went wrong.

mod bench;
mod cli;
mod commands;
mod env;
mod exit;
mod handlers;
mod input;
mod logging;
mod options;
mod output;
mod progress;
mod session;

use std::process::ExitCode;

use crate::{
    cli::Cli,
    exit::{Code, Exit, Result},
    output::Output,
    session::Session,
};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    let output = Output::new(cli.json);
    match run(cli, output) {
        Ok(()) => Code::Ok.into(),
        Err(exit) => {
            if let Some(report) = exit.report(output.json) {
                output.report(report);
            }
            exit.code.into()
        }
    }
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
