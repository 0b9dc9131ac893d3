//! The command line, which is that of the program `haulage`.

use std::ffi::OsString;

use haulage_cli::{Ended, Host};
use pyo3::prelude::*;

/// Carries out a command line, whose first word is the name of the program.
///
/// The exit code, and, for a worker whose jobs a Python function runs, what it
/// is to do, as JSON. `again` are the words that start a process in which this
/// function gets the arguments that follow them.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, words: Vec<OsString>, again: Vec<OsString>) -> (u8, Option<String>) {
    match py.detach(|| haulage_cli::run(words, Host::Python { again })) {
        Ended::Code(code) => (code, None),
        Ended::Python(worker) => (0, Some(worker)),
    }
}
