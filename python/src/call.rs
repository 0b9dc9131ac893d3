//! One call of the user's function.

use std::sync::{Mutex, MutexGuard, PoisonError};

use haulage::{Failure, Json, consumer::Call as CoreCall};
use pyo3::{
    prelude::*,
    types::{PyList, PyTuple},
};
use serde::{Serialize, Serializer, ser::Error as _};

use crate::{context::Context, convert, encode::encode, errors, process};

/// A result, or the reason why it has no JSON form.
enum Answer {
    Json(Json),
    Unfit(String),
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(json) => json.serialize(serializer),
            Self::Unfit(why) => Err(S::Error::custom(why)),
        }
    }
}

/// A call: one job, or a batch. Dropped unfinished, it gives its jobs back.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Call(Mutex<Option<CoreCall>>);

impl Call {
    pub(crate) fn new(call: CoreCall) -> Self {
        Self(Mutex::new(Some(call)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<CoreCall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_jobs(&self) -> Vec<(haulage::Job<Json>, haulage::Context)> {
        self.lock().as_mut().map(CoreCall::take_jobs).unwrap_or_default()
    }

    fn end(&self, answers: Vec<Result<Answer, Failure>>) -> PyResult<()> {
        match self.lock().take() {
            Some(call) => {
                call.finish(answers);
                Ok(())
            }
            None => Err(errors::invalid("the call has been finished already")),
        }
    }
}

fn answered(value: &Bound<'_, PyAny>) -> Answer {
    match encode("the result", value) {
        Ok(json) => Answer::Json(json),
        Err(why) => Answer::Unfit(why),
    }
}

fn answer(of: &Bound<'_, PyTuple>) -> PyResult<Result<Answer, Failure>> {
    let value = || of.get_item(1);
    Ok(match of.get_item(0)?.extract::<String>()?.as_str() {
        "ok" => Ok(answered(&value()?)),
        // From a child process, which has encoded it.
        "json" => Ok(match Json::parse(&value()?.extract::<String>()?) {
            Ok(json) => Answer::Json(json),
            Err(error) => Answer::Unfit(error.to_string()),
        }),
        "unfit" => Ok(Answer::Unfit(value()?.extract()?)),
        "retry" => {
            let message: String = value()?.extract()?;
            let after: Option<Bound<'_, PyAny>> = of.get_item(2)?.extract()?;
            match after {
                Some(after) => Err(Failure::retry_after(message, convert::duration("after", &after)?)),
                None => Err(Failure::retry(message)),
            }
        }
        "fail" => Err(Failure::fatal(value()?.extract::<String>()?)),
        "cancelled" => Err(Failure::cancelled()),
        other => return Err(errors::invalid(format!("there is no answer {other:?}"))),
    })
}

#[pymethods]
impl Call {
    /// Takes the jobs out: each with its body, decoded, and its context.
    fn jobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        process::runtime()?;
        let list = PyList::empty(py);
        for (job, context) in self.take_jobs() {
            list.append((convert::loads(py, job.body.as_str())?, Context::new(context)))?;
        }
        Ok(list)
    }

    /// The same, the bodies as text.
    fn texts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (job, context) in self.take_jobs() {
            list.append((job.body.as_str(), Context::new(context)))?;
        }
        Ok(list)
    }

    /// Ends a call of one job with its result.
    fn succeed(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end(vec![Ok(answered(value))])
    }

    /// Ends the call with an answer for each job: `("ok", value)`,
    /// `("json", text)`, `("unfit", why)`, `("retry", message, after)`,
    /// `("fail", message)` or `("cancelled",)`.
    fn finish(&self, answers: Vec<Bound<'_, PyTuple>>) -> PyResult<()> {
        let answers: PyResult<Vec<_>> = answers.iter().map(answer).collect();
        self.end(answers?)
    }
}
