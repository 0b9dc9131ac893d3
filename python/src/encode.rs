//! From Python values to JSON, with nothing changed on the way that is not
//! documented, and a place for every value that is refused.

use std::fmt::Write as _;

use haulage::Json;
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyFloat, PyInt, PyIterator, PyList, PyString, PyTuple},
};

use crate::{convert::function, errors};

/// How deep lists and dicts may be nested. Python's own decoder gives up at
/// the recursion limit, 1000 frames by default.
const MAX_DEPTH: usize = 500;

/// Why a value has no JSON form.
struct Refusal {
    /// The way to it, innermost first.
    path: Vec<Step>,
    why: String,
}

enum Step {
    Index(usize),
    Key(String),
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self { path: Vec::new(), why: why.into() }
    }

    fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn message(&self, what: &str) -> String {
        let mut place = String::new();
        for step in self.path.iter().rev() {
            let _ = match step {
                Step::Index(index) => write!(place, "[{index}]"),
                Step::Key(key) => write!(place, "[{key:?}]"),
            };
        }
        format!("{what}{place} {}", self.why)
    }
}

impl From<PyErr> for Refusal {
    fn from(error: PyErr) -> Self {
        Self::new(Python::attach(|py| {
            let value = error.value(py);
            value.str().map_or_else(|_| "could not be read".to_owned(), |text| text.to_string())
        }))
    }
}

/// Encodes a value. `what` names it in the error: `"the body"`, `"the result"`.
pub(crate) fn encode(what: &str, value: &Bound<'_, PyAny>) -> Result<Json, String> {
    let mut out = Vec::new();
    write(&mut out, value, 0).map_err(|refusal| refusal.message(what))?;
    String::from_utf8(out).map(Json::from_stored).map_err(|e| e.to_string())
}

/// The JSON text of a value, for the worker's child processes.
#[pyfunction]
pub(crate) fn dumps<'py>(what: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let json = encode(what, value).map_err(errors::invalid_json)?;
    Ok(PyString::new(value.py(), json.as_str()))
}

/// The same for a checkpoint, which has to be small.
#[pyfunction]
pub(crate) fn dumps_checkpoint(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let json = encode("the checkpoint", value).map_err(errors::invalid_json)?;
    let text = json.as_str().to_owned();
    haulage::backend::Update::default().checkpoint(json).map_err(|error| errors::raise(py, &error))?;
    Ok(text)
}

fn write(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, depth: usize) -> Result<(), Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::new(format!("is nested deeper than {MAX_DEPTH} levels, or contains itself")));
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        string(out, text)
    } else if value.is_none() {
        out.extend(b"null");
        Ok(())
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        out.extend(if flag.is_true() { &b"true"[..] } else { b"false" });
        Ok(())
    } else if let Ok(number) = value.cast_exact::<PyInt>() {
        integer(out, number)
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        float(out, number.value())
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        sequence(out, list.iter().map(Ok), depth)
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        sequence(out, tuple.iter().map(Ok), depth)
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        mapping(out, dict, depth)
    } else {
        let plain = converted(value)?;
        // Of a large array; one that a user gives is refused.
        match plain.cast::<PyIterator>() {
            Ok(items) => sequence(out, items.clone(), depth + 1),
            Err(_) => write(out, &plain, depth + 1),
        }
    }
}

/// What a value of another type is written as; see `haulage/_convert.py`.
fn converted<'py>(value: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Refusal> {
    static CONVERT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(function(value.py(), &CONVERT, "haulage._convert", "convert")?.call1((value,))?)
}

fn string(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> Result<(), Refusal> {
    let text = text.to_cow().map_err(|_| {
        Refusal::new("has a lone surrogate in its text (half of a character), which no UTF-8 text can hold")
    })?;
    serde_json::to_writer(out, &*text).map_err(|e| Refusal::new(e.to_string()))
}

fn integer(out: &mut Vec<u8>, number: &Bound<'_, PyInt>) -> Result<(), Refusal> {
    match number.extract::<i64>() {
        Ok(small) => serde_json::to_writer(out, &small).map_err(|e| Refusal::new(e.to_string())),
        Err(_) => {
            let digits = number.str().map_err(|_| {
                Refusal::new(
                    "is an integer with more digits than Python turns into text, which \
                     sys.set_int_max_str_digits limits; make it a str, of hex() for example",
                )
            })?;
            out.extend(digits.to_string().as_bytes());
            Ok(())
        }
    }
}

fn float(out: &mut Vec<u8>, number: f64) -> Result<(), Refusal> {
    let name = match number {
        n if n.is_finite() => {
            return serde_json::to_writer(out, &number).map_err(|e| Refusal::new(e.to_string()));
        }
        n if n.is_nan() => "NaN",
        n if n > 0.0 => "Infinity",
        _ => "-Infinity",
    };
    Err(Refusal::new(format!("is {name}, which is not JSON; use None or a string instead")))
}

fn sequence<'py>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    depth: usize,
) -> Result<(), Refusal> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let written = item.map_err(Refusal::from).and_then(|item| write(out, &item, depth + 1));
        written.map_err(|refusal| refusal.at(Step::Index(index)))?;
    }
    out.push(b']');
    Ok(())
}

fn mapping(out: &mut Vec<u8>, dict: &Bound<'_, PyDict>, depth: usize) -> Result<(), Refusal> {
    out.push(b'{');
    let mut first = true;
    // A conversion runs Python code, which must not change the dict under the iterator.
    for pair in dict.items() {
        let (key, item): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
        if !first {
            out.push(b',');
        }
        first = false;
        let subclass = key.is_instance_of::<PyString>() && !key.is_exact_instance_of::<PyString>();
        let plain = if subclass { converted(&key)? } else { key.clone() };
        let Ok(name) = plain.cast_exact::<PyString>() else {
            let kind = key.get_type().name()?;
            return Err(Refusal::new(format!("has the key {key} of type {kind}; keys of JSON are strings")));
        };
        string(out, name)
            .and_then(|()| {
                out.push(b':');
                write(out, &item, depth + 1)
            })
            .map_err(|refusal| refusal.at(Step::Key(name.to_string_lossy().into_owned())))?;
    }
    out.push(b'}');
    Ok(())
}
