//! The pages of a worker over HTTP, from before its handler is loaded.

use std::sync::{Mutex, MutexGuard, PoisonError};

use haulage::metrics::{Labels, Listener, Meter, Serving};
use pyo3::prelude::*;

use crate::{convert, errors, process::Here};

#[derive(Debug)]
enum Stage {
    /// There is no consumer yet.
    Starting(Listener),
    Serving {
        _until_dropped: Serving,
    },
    Closed,
}

/// Pages that are there from the moment this is made, and until it is closed.
/// They come from a thread that never waits for the interpreter, so that an
/// import which holds it for minutes does not keep them waiting.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Pages {
    stage: Here<Mutex<Stage>>,
}

impl Pages {
    fn lock(&self) -> PyResult<MutexGuard<'_, Stage>> {
        Ok(self.stage.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on, they are about the consumer of this meter.
    pub(crate) fn show(&self, meter: Meter) -> PyResult<()> {
        let mut stage = self.lock()?;
        match std::mem::replace(&mut *stage, Stage::Closed) {
            Stage::Starting(listener) => {
                *stage = Stage::Serving { _until_dropped: listener.serve(meter) };
                Ok(())
            }
            other => {
                *stage = other;
                Err(errors::invalid("the pages are closed, or those of another worker"))
            }
        }
    }
}

#[pymethods]
impl Pages {
    #[new]
    fn new(py: Python<'_>, http_listen: &Bound<'_, PyAny>, url: &str) -> PyResult<Self> {
        let address = convert::text("http_listen", http_listen)?;
        let listener = py.detach(|| Listener::bind(&address, Labels::of(url)));
        let listener = listener.map_err(|error| errors::raise(py, &error))?;
        Ok(Self { stage: Here::new(Mutex::new(Stage::Starting(listener))) })
    }

    /// Ends the answers; the address is free then. In another process, does nothing.
    pub(crate) fn close(&self, py: Python<'_>) {
        let Ok(mut stage) = self.lock() else { return };
        let old = std::mem::replace(&mut *stage, Stage::Closed);
        drop(stage);
        py.detach(|| drop(old));
    }
}
