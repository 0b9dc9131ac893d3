//! From the core's errors to the exceptions of `haulage.errors`.

use haulage::Error;
use pyo3::{prelude::*, types::PyDict};

/// An exception of this class of `haulage.errors`.
fn exception(py: Python<'_>, class: &str, message: String, attributes: &[(&str, String)]) -> PyErr {
    let made = || -> PyResult<Bound<'_, PyAny>> {
        let exception = py.import("haulage.errors")?.getattr(class)?.call1((message,))?;
        for (name, value) in attributes {
            exception.setattr(*name, value)?;
        }
        Ok(exception)
    };
    made().map_or_else(|error| error, PyErr::from_value)
}

fn plain(class: &str, message: impl Into<String>) -> PyErr {
    Python::attach(|py| exception(py, class, message.into(), &[]))
}

pub(crate) fn invalid(message: impl Into<String>) -> PyErr {
    plain("InvalidArgumentError", message)
}

pub(crate) fn invalid_json(message: impl Into<String>) -> PyErr {
    plain("InvalidJSONError", message)
}

pub(crate) fn unavailable(message: impl Into<String>) -> PyErr {
    plain("UnavailableError", message)
}

pub(crate) fn forked() -> PyErr {
    plain(
        "ForkError",
        "this was made before the process was forked, and neither its threads nor its connections survive that; \
         call haulage.connect() in the child, or start processes with multiprocessing's `spawn` or `forkserver` \
         method",
    )
}

/// A database was open at the fork, and so no other can be opened here.
pub(crate) fn forked_while_open() -> PyErr {
    plain(
        "ForkError",
        "this process was forked while its parent had an SQLite database open, and can open none itself; have \
         the parent call client.close() before it forks, or connect only in the child, or start processes with \
         multiprocessing's `spawn` or `forkserver` method",
    )
}

/// The exception for an error of the core.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let mut message = error.to_string();
    let (class, attributes) = match error {
        Error::InvalidJson { .. } => ("InvalidJSONError", Vec::new()),
        Error::Invalid(_) => ("InvalidArgumentError", Vec::new()),
        Error::TooLarge { .. } => ("TooLargeError", Vec::new()),
        Error::IdempotencyConflict { id, .. } => {
            ("IdempotencyConflictError", vec![("job_id", id.to_string())])
        }
        Error::NotFound(id) => ("NotFoundError", vec![("job_id", id.to_string())]),
        Error::Expired(id) => ("ExpiredError", vec![("job_id", id.to_string())]),
        Error::JobFailed { id, error } => {
            message.clone_from(&error.message);
            let mut told = vec![("job_id", id.to_string()), ("kind", error.kind.as_str().to_owned())];
            told.extend(error.type_name.clone().map(|name| ("type", name)));
            ("JobFailedError", told)
        }
        Error::JobCancelled(id) => ("JobCancelledError", vec![("job_id", id.to_string())]),
        Error::NotFinished { id, .. } => ("NotFinishedError", vec![("job_id", id.to_string())]),
        Error::TimedOut(_) => ("WaitTimeoutError", Vec::new()),
        Error::Config(_) => ("ConfigError", Vec::new()),
        Error::Unavailable { source, .. } => {
            if let Some(source) = source {
                let cause = source.to_string();
                if !message.contains(&cause) {
                    message = format!("{message}: {cause}");
                }
            }
            ("UnavailableError", Vec::new())
        }
        _ => ("HaulageError", Vec::new()),
    };
    exception(py, class, message, &attributes)
}

/// The exception for a submit of several jobs that was not accepted as a whole.
pub(crate) fn raise_submit_many(
    py: Python<'_>,
    error: &haulage::producer::SubmitManyError,
    of: usize,
) -> PyErr {
    let plain = raise(py, &error.error);
    if of == 1 {
        return plain;
    }
    let made = || -> PyResult<Bound<'_, PyAny>> {
        let accepted: Vec<(usize, String)> = error
            .accepted
            .iter()
            .enumerate()
            .chain(error.accepted_later.iter().map(|(index, job)| (*index, job)))
            .map(|(index, job)| (index, job.id().to_string()))
            .collect();
        let class = py.import("haulage.errors")?.getattr("SubmitManyError")?;
        let attributes = PyDict::new(py);
        attributes.set_item("index", error.index)?;
        attributes.set_item("accepted", accepted)?;
        attributes.set_item("error", plain.value(py))?;
        class.call((error.to_string(),), Some(&attributes))
    };
    made().map_or_else(
        |error| error,
        |exception| {
            let error = PyErr::from_value(exception);
            error.set_cause(py, Some(plain));
            error
        },
    )
}
