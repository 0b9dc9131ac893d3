//! The end of the interpreter.

use std::time::Duration;

use pyo3::prelude::*;

use crate::{client, consumer, log, process};

/// To be called when the interpreter ends: stops what still works, and gives
/// its jobs back.
#[pyfunction]
pub(crate) fn close(py: Python<'_>) {
    if let Some(runtime) = process::started_runtime() {
        py.detach(|| {
            consumer::stop_all(Duration::from_secs(3));
            // A database that somebody else keeps busy is left as it is.
            let closing = async { tokio::time::timeout(Duration::from_secs(3), client::close_all()).await };
            let _ = runtime.block_on(closing);
            log::close();
        });
    }
    process::end();
}
