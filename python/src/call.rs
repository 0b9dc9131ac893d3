//! One call of the user's function.

use std::sync::{Mutex, MutexGuard, PoisonError};

use haulage::{Failure, Json, consumer::Call as CoreCall};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyList, PyString, PyTuple},
};

use crate::{context::Context, convert, encode::encode, errors, process::Here};

#[derive(Debug)]
struct CallState {
    /// Until it has ended.
    call: Option<CoreCall>,
    /// How many of its jobs have been taken, and wait for an answer.
    taken: usize,
    /// Those of the jobs that were taken.
    contexts: Vec<haulage::Context>,
}

/// A call: one job, or a batch. Dropped unfinished, it gives its jobs back.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Call(Here<Mutex<CallState>>);

impl Call {
    pub(crate) fn new(call: CoreCall) -> Self {
        Self(Here::new(Mutex::new(CallState { call: Some(call), taken: 0, contexts: Vec::new() })))
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, CallState>> {
        Ok(self.0.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_jobs(&self) -> PyResult<Vec<(haulage::Job<Json>, haulage::Context)>> {
        let mut state = self.lock()?;
        let jobs = state.call.as_mut().map(CoreCall::take_jobs).unwrap_or_default();
        state.taken += jobs.len();
        state.contexts.extend(jobs.iter().map(|(_, context)| context.clone()));
        Ok(jobs)
    }

    /// Ends the job at this place, whose body cannot be decoded.
    fn refuse(&self, index: usize, why: &str) -> PyResult<()> {
        let mut state = self.lock()?;
        if let Some(call) = &mut state.call {
            call.refuse(index, why);
            state.taken = state.taken.saturating_sub(1);
        }
        Ok(())
    }

    fn end(&self, answers: Vec<Result<Json, Failure>>) -> PyResult<()> {
        let call = self.lock()?.call.take();
        call.ok_or_else(|| errors::invalid("the call has been finished already"))?.finish(answers);
        Ok(())
    }
}

fn answered(value: &Bound<'_, PyAny>) -> Result<Json, Failure> {
    encode("the result", value).map_err(Failure::invalid_result)
}

fn answer(of: &Bound<'_, PyTuple>) -> PyResult<Result<Json, Failure>> {
    let value = || of.get_item(1);
    Ok(match of.get_item(0)?.extract::<String>()?.as_str() {
        "ok" => answered(&value()?),
        // From a child process, which has encoded it.
        "json" => Json::parse(&value()?.cast::<PyString>()?.to_cow()?).map_err(Failure::invalid_result),
        "unfit" => Err(Failure::invalid_result(value()?.extract::<String>()?)),
        "retry" => {
            let message: String = value()?.extract()?;
            let failure = match of.get_item(2)?.extract::<Option<f64>>()? {
                Some(after) => Failure::retry_after(message, convert::duration_of("after", after)?),
                None => Failure::retry(message),
            };
            Err(of_type(failure, &of.get_item(3)?)?)
        }
        "snooze" => {
            let after = convert::duration_of("after", of.get_item(2)?.extract()?)?;
            Err(Failure::snooze(after).because(value()?.extract::<String>()?))
        }
        "put_back" => {
            let attempt = of.get_item(2)?.extract()?;
            Err(haulage_cli::devices::health::put_back(value()?.extract::<String>()?, attempt))
        }
        "not_ready" => Err(Failure::not_ready(value()?.extract::<String>()?)),
        "fail" => Err(of_type(Failure::fatal(value()?.extract::<String>()?), &of.get_item(2)?)?),
        "cancelled" => Err(Failure::cancelled()),
        other => return Err(errors::invalid(format!("there is no answer {other:?}"))),
    })
}

/// With the name of the type of the exception, if there was one.
fn of_type(failure: Failure, name: &Bound<'_, PyAny>) -> PyResult<Failure> {
    Ok(match name.extract::<Option<String>>()? {
        Some(name) => failure.of_type(name),
        None => failure,
    })
}

#[pymethods]
impl Call {
    /// Takes the jobs out: each with its body, decoded, and its context. Those
    /// whose bodies cannot be decoded are ended, and left out; where that is all
    /// of them, so is the call.
    fn jobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let jobs = self.take_jobs()?;
        let refused_all = !jobs.is_empty();
        for (job, context) in jobs {
            match convert::loads(py, "the body", job.body.as_str()) {
                Ok(body) => list.append((body, Context::new(context)))?,
                Err(why) if why.is_instance_of::<PyValueError>(py) => {
                    self.refuse(list.len(), &why.value(py).to_string())?;
                }
                Err(why) => return Err(why),
            }
        }
        if refused_all && list.is_empty() {
            self.end(Vec::new())?;
        }
        Ok(list)
    }

    /// The same, the bodies as text.
    fn texts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (job, context) in self.take_jobs()? {
            list.append((job.body.as_str(), Context::new(context)))?;
        }
        Ok(list)
    }

    /// Whether its jobs are over, or are to be, without its answer.
    #[getter]
    fn is_unwanted(&self) -> PyResult<bool> {
        let state = self.lock()?;
        Ok(state.call.is_some()
            && !state.contexts.is_empty()
            && state.contexts.iter().all(haulage::Context::is_cancelled))
    }

    /// The ids of the jobs that were taken.
    #[getter]
    fn job_ids(&self) -> PyResult<Vec<String>> {
        Ok(self.lock()?.contexts.iter().map(|context| context.job_id().to_string()).collect())
    }

    /// Ends a call of one job with its result.
    fn succeed(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end(vec![answered(value)])
    }

    /// Ends the call with an answer for each job: `("ok", value)`,
    /// `("json", text)`, `("unfit", why)`, `("retry", message, after, type)`,
    /// `("snooze", message, after)`, `("put_back", reason, attempt)`, where the worker is broken,
    /// `("not_ready", reason)`, `("fail", message, type)`, `("cancelled",)` or `("invalid_body", why)`.
    fn finish(&self, answers: Vec<Bound<'_, PyTuple>>) -> PyResult<()> {
        let mut made = Vec::with_capacity(answers.len());
        for one in &answers {
            if one.get_item(0)?.eq("invalid_body")? {
                self.refuse(made.len(), &one.get_item(1)?.extract::<String>()?)?;
            } else {
                made.push(answer(one)?);
            }
        }
        self.end(made)
    }

    /// Ends the call, unless it has ended: all its jobs have failed, and are
    /// tried again. Tells whether it had to.
    fn retry(&self, message: &str) -> PyResult<bool> {
        self.take_jobs()?;
        let mut state = self.lock()?;
        let Some(call) = state.call.take() else { return Ok(false) };
        let failures = (0..state.taken).map(|_| Err::<Json, _>(Failure::retry(message)));
        call.finish(failures.collect());
        Ok(true)
    }
}
