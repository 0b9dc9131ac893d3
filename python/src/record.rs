//! What is known of a job, as Python sees it.

use pyo3::{prelude::*, types::PyDict};

use crate::{convert, errors};

/// One attempt of a job.
#[pyclass(frozen, module = "haulage")]
#[derive(Debug)]
pub(crate) struct Attempt(haulage::Attempt);

#[pymethods]
impl Attempt {
    #[getter]
    fn number(&self) -> u32 {
        self.0.number
    }

    #[getter]
    fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }

    #[getter]
    fn started_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, Some(self.0.started_at))
    }

    #[getter]
    fn ended_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, self.0.ended_at)
    }

    #[getter]
    fn error(&self) -> Option<&str> {
        self.0.error.as_ref().map(|error| error.message.as_str())
    }

    #[getter]
    fn error_kind(&self) -> Option<&str> {
        self.0.error.as_ref().map(|error| error.kind.as_str())
    }

    fn __repr__(&self) -> String {
        format!("<Attempt {} error_kind={:?}>", self.0.number, self.error_kind().unwrap_or("None"))
    }
}

/// A record. What is decoded is made anew with each look.
#[pyclass(frozen, module = "haulage")]
#[derive(Debug)]
pub(crate) struct Record(pub(crate) haulage::Record);

#[pymethods]
impl Record {
    #[getter]
    fn id(&self) -> &str {
        self.0.id.as_str()
    }

    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::status(py, self.0.status.as_str())
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Of these attempts, those that do not count towards `max_attempts`.
    #[getter]
    fn uncounted(&self) -> u32 {
        self.0.uncounted
    }

    #[getter]
    fn max_attempts(&self) -> u32 {
        self.0.spec.max_attempts
    }

    #[getter]
    fn request_id(&self) -> &str {
        self.0.request_id()
    }

    #[getter]
    fn queue(&self) -> &str {
        self.0.spec.queue.as_str()
    }

    #[getter]
    fn group(&self) -> Option<&str> {
        self.0.spec.group.as_deref()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        convert::metadata(py, &self.0.spec.metadata)
    }

    /// In seconds.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.0.spec.timeout.map(|timeout| timeout.as_secs_f64())
    }

    /// In seconds.
    #[getter]
    fn start_within(&self) -> Option<f64> {
        self.0.spec.start_within.map(|limit| limit.as_secs_f64())
    }

    #[getter]
    fn drop_body(&self) -> bool {
        self.0.spec.drop_body
    }

    /// In seconds.
    #[getter]
    fn result_ttl(&self) -> f64 {
        self.0.spec.result_ttl.as_secs_f64()
    }

    #[getter]
    fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }

    #[getter]
    fn dead(&self) -> bool {
        self.0.dead
    }

    #[getter]
    fn cancel_requested(&self) -> bool {
        self.0.cancel_requested
    }

    #[getter]
    fn error(&self) -> Option<&str> {
        self.0.error.as_ref().map(|error| error.message.as_str())
    }

    #[getter]
    fn error_kind(&self) -> Option<&str> {
        self.0.error.as_ref().map(|error| error.kind.as_str())
    }

    #[getter]
    fn progress(&self) -> Option<(f64, Option<&str>)> {
        self.0.progress.as_ref().map(|p| (p.fraction, p.message.as_deref()))
    }

    #[getter]
    fn checkpoint<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let checkpoint = self.0.checkpoint.as_ref();
        checkpoint.map(|json| convert::loads(py, "the checkpoint", json.as_str())).transpose()
    }

    #[getter]
    fn attempts(&self) -> Vec<Attempt> {
        self.0.attempts.iter().cloned().map(Attempt).collect()
    }

    #[getter]
    fn submitted_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, Some(self.0.submitted_at))
    }

    #[getter]
    fn started_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, self.0.started_at)
    }

    #[getter]
    fn finished_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, self.0.finished_at)
    }

    #[getter]
    fn due_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, self.0.due_at)
    }

    #[getter]
    fn expires_at<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        convert::moment(py, self.0.expires_at)
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.body.as_ref().map(|json| convert::loads(py, "the body", json.as_str())).transpose()
    }

    /// The result, or the error that says why there is none.
    #[getter]
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let record = &self.0;
        let id = record.id.clone();
        let error = match (record.status, &record.result) {
            (haulage::Status::Success, Some(json)) => return convert::loads(py, "the result", json.as_str()),
            (haulage::Status::Success, None) => {
                return Err(errors::unavailable(format!(
                    "the result of job {id} did not come with its record"
                )));
            }
            (haulage::Status::Error, _) => {
                let unknown =
                    || haulage::JobError::new(haulage::FailureKind::Handler, "no error was recorded");
                haulage::Error::JobFailed { id, error: record.error.clone().unwrap_or_else(unknown) }
            }
            (haulage::Status::Cancelled, _) => haulage::Error::JobCancelled(id),
            (status, _) => haulage::Error::NotFinished { id, status },
        };
        Err(errors::raise(py, &error))
    }

    fn __repr__(&self) -> String {
        format!("<Record {} {} attempt={}>", self.0.id, self.0.status, self.0.attempt)
    }
}
