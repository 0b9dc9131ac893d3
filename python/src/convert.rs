//! Small values between the languages.

use std::time::Duration;

use haulage::{NewJob, QueueName, Queues, Timestamp};
use pyo3::{
    exceptions::{PyRecursionError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyMapping, PyString},
};

use crate::errors;

/// A function of a Python module, looked up once.
pub(crate) fn function<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let made = cell.get_or_try_init(py, || PyResult::Ok(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(made.bind(py).clone())
}

/// The Python value of a JSON document, which `what` names in the error.
/// Python's own decoder is exact for integers, but has limits of its own: of
/// their digits, and of the depth of lists and dicts.
pub(crate) fn loads<'py>(py: Python<'py>, what: &str, json: &str) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &LOADS, "json", "loads")?.call1((PyString::new(py, json),)).map_err(|error| {
        // Not for want of memory, which another attempt may have.
        if error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyRecursionError>(py) {
            errors::invalid_json(format!("{what} cannot be decoded: {error}"))
        } else {
            error
        }
    })
}

/// A text of UTF-8.
pub(crate) fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| {
        let what = if value.is_instance_of::<PyString>() {
            "has a lone surrogate (half of a character), which no UTF-8 text can hold".into()
        } else {
            format!("is {}; it is a text", shown(value))
        };
        errors::invalid(format!("{name} {what}"))
    })
}

/// The same, where it may be left out.
pub(crate) fn optional_text(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<String>> {
    value.map(|value| text(name, value)).transpose()
}

/// True or false.
pub(crate) fn flag(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().map_err(|_| errors::invalid(format!("{name} is {}; it is True or False", shown(value))))
}

/// A whole number.
pub(crate) fn count<T>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T>
where
    T: for<'a, 'py> FromPyObject<'a, 'py>,
{
    value.extract().map_err(|_| {
        errors::invalid(format!("{name} is {}; it is a whole number that is not negative", shown(value)))
    })
}

/// A value in an error's words, whatever it is.
fn shown(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "of a type that cannot be shown".into(), |text| text.to_string())
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

/// Labels, of any mapping of texts to texts.
pub(crate) fn labels(value: Option<&Bound<'_, PyAny>>) -> PyResult<haulage::Metadata> {
    let Some(value) = value else { return Ok(haulage::Metadata::new()) };
    let pairs = value.call_method0("items").and_then(|items| items.try_iter()).map_err(|_| {
        errors::invalid(format!("metadata is {}; it is a mapping of texts to texts", shown(value)))
    })?;
    let mut labels = haulage::Metadata::new();
    for pair in pairs {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        let key = text("a key of metadata", &key)?;
        let value = text(&format!("metadata[{key:?}]"), &value)?;
        labels.insert(key, value);
    }
    Ok(labels)
}

/// The name of a queue, where it may be left out.
pub(crate) fn optional_queue(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<QueueName>> {
    let Some(value) = value else { return Ok(None) };
    let name = QueueName::new(text("queue", value)?).map_err(|error| errors::raise(value.py(), &error))?;
    Ok(Some(name))
}

/// Queues in an order, as a list of names, or by weights, as a mapping of names to numbers; or either
/// as the command line has it.
pub(crate) fn queues(value: &Bound<'_, PyAny>) -> PyResult<Queues> {
    let wrong = || {
        let shown = shown(value);
        errors::invalid(format!(
            "queues is {shown}; it is a list of names, in order, or a mapping of names to weights"
        ))
    };
    let mut entries = Vec::new();
    if let Ok(weights) = value.cast::<PyMapping>() {
        for pair in weights.items()? {
            let (name, weight): (String, i64) = pair.extract().map_err(|_| wrong())?;
            entries.push(format!("{name}={weight}"));
        }
    } else if let Ok(text) = value.cast::<PyString>() {
        entries.extend(text.to_cow()?.split(',').map(str::to_owned));
    } else {
        for name in value.try_iter().map_err(|_| wrong())? {
            // The name is checked whole.
            let name: String = name?.extract().map_err(|_| wrong())?;
            QueueName::new(&name).map_err(|error| errors::raise(value.py(), &error))?;
            entries.push(name);
        }
    }
    Queues::parse(entries).map_err(|error| errors::raise(value.py(), &error))
}

/// Labels as a dict.
pub(crate) fn metadata<'py>(py: Python<'py>, labels: &haulage::Metadata) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in labels {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}
