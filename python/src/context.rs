//! What a handler can know and say of its job.

use pyo3::{prelude::*, types::PyDict};

use crate::{convert, encode::encode, errors, operation::Operation};

/// What surrounds one attempt at a job.
#[pyclass(frozen, module = "haulage")]
#[derive(Debug)]
pub(crate) struct Context(haulage::Context);

impl Context {
    pub(crate) fn new(context: haulage::Context) -> Self {
        Self(context)
    }

    fn leave(&self, py: Python<'_>, checkpoint: haulage::Json) -> PyResult<()> {
        self.0.set_checkpoint(checkpoint).map_err(|error| errors::raise(py, &error))
    }
}

#[pymethods]
impl Context {
    #[getter]
    fn job_id(&self) -> &str {
        self.0.job_id().as_str()
    }

    #[getter]
    fn request_id(&self) -> &str {
        self.0.request_id()
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt()
    }

    #[getter]
    fn max_attempts(&self) -> u32 {
        self.0.max_attempts()
    }

    #[getter]
    fn is_last_attempt(&self) -> bool {
        self.0.is_last_attempt()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        convert::metadata(py, self.0.metadata())
    }

    #[getter]
    fn queue(&self) -> &str {
        self.0.queue().as_str()
    }

    #[getter]
    fn task(&self) -> Option<&str> {
        self.0.task()
    }

    #[getter]
    fn group(&self) -> Option<&str> {
        self.0.group()
    }

    #[getter]
    fn submitted_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, Some(self.0.submitted_at()))
    }

    #[getter]
    fn deadline<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, self.0.deadline())
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    #[pyo3(signature = (fraction, message=None))]
    fn set_progress(&self, fraction: f64, message: Option<String>) {
        self.0.set_progress(fraction, message);
    }

    /// For slots that differ.
    fn set_slot(&self, name: String) {
        self.0.set_slot(name);
    }

    fn checkpoint(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.leave(py, encode("the checkpoint", value).map_err(errors::invalid_json)?)
    }

    /// The same for the text of a child process, which has made it.
    fn checkpoint_json(&self, py: Python<'_>, json: &str) -> PyResult<()> {
        self.leave(py, haulage::Json::parse(json).map_err(|error| errors::raise(py, &error))?)
    }

    #[getter]
    fn last_checkpoint<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let last = self.0.last_checkpoint();
        last.map(|json| convert::loads(py, "the checkpoint", json.as_str())).transpose()
    }

    /// For child processes.
    #[getter]
    fn last_checkpoint_json(&self) -> Option<String> {
        self.0.last_checkpoint().map(|json| json.as_str().to_owned())
    }

    /// An operation that ends when the handler is to stop, or the time is up.
    #[pyo3(signature = (timeout=None))]
    fn cancellation(&self, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Operation> {
        let context = self.0.clone();
        let timeout = convert::optional_duration("timeout", timeout)?;
        Operation::start(async move {
            match timeout {
                Some(timeout) => {
                    let _ = tokio::time::timeout(timeout, context.cancelled()).await;
                }
                None => context.cancelled().await,
            }
            Ok(())
        })
    }

    #[pyo3(signature = (timeout=None))]
    fn wait_cancelled(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.cancellation(timeout)?.wait(py)?;
        Ok(self.0.is_cancelled())
    }

    fn __repr__(&self) -> String {
        format!("<Context of job {}, attempt {}>", self.0.job_id(), self.0.attempt())
    }
}
