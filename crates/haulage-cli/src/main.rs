//! The program `haulage`; see the library.

use std::process::ExitCode;

use haulage_cli::{Ended, Host};

fn main() -> ExitCode {
    match haulage_cli::run(std::env::args_os().collect(), Host::Program) {
        Ended::Code(code) => code.into(),
        // A program becomes Python by itself.
        Ended::Python(_) => ExitCode::FAILURE,
    }
}
