//! Small values between the languages.

use std::time::Duration;

use haulage::{NewJob, Timestamp};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyString},
};

use crate::errors;

/// A function of a Python module, looked up once.
fn function<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let made = cell.get_or_try_init(py, || PyResult::Ok(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(made.bind(py).clone())
}

/// The Python value of a JSON document. Python's own decoder is exact for
/// integers of every size.
pub(crate) fn loads<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &LOADS, "json", "loads")?.call1((PyString::new(py, json),))
}

/// The member of `haulage.Status` with this name.
pub(crate) fn status<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static STATUS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &STATUS, "haulage._status", "Status")?.call1((name,))
}

/// A moment as an aware `datetime` in UTC.
pub(crate) fn moment(py: Python<'_>, at: Option<Timestamp>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static MOMENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let Some(at) = at else { return Ok(None) };
    Ok(Some(function(py, &MOMENT, "haulage._time", "moment")?.call1((at.as_micros(),))?))
}

/// A length of time: seconds, or a `timedelta`.
pub(crate) fn duration(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = match value.extract::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => value
            .call_method0("total_seconds")
            .and_then(|seconds| seconds.extract::<f64>())
            .map_err(|_| errors::invalid(format!("{name} is {value}; give seconds, or a timedelta")))?,
    };
    duration_of(name, seconds)
}

/// A length of time in seconds.
pub(crate) fn duration_of(name: &str, seconds: f64) -> PyResult<Duration> {
    // A little over the longest that is allowed anywhere, so that the core's own message names the limit.
    let most = NewJob::MAX_DURATION.as_secs_f64() * 2.0;
    if seconds.is_nan() || seconds < 0.0 {
        return Err(errors::invalid(format!("{name} is {seconds} seconds; it cannot be negative")));
    }
    Ok(Duration::from_secs_f64(seconds.min(most)))
}

/// The same, where it may be left out.
pub(crate) fn optional_duration(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    value.map(|value| duration(name, value)).transpose()
}

/// Labels as a dict.
pub(crate) fn metadata<'py>(py: Python<'py>, labels: &haulage::Metadata) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in labels {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}
