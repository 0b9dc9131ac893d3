//! What is known of a job, as Python sees it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyType},
};

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
    fn slot(&self) -> Option<&str> {
        self.0.slot.as_deref()
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

    #[getter]
    fn error_type(&self) -> Option<&str> {
        self.0.error.as_ref()?.type_name.as_deref()
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
    fn task(&self) -> Option<&str> {
        self.0.spec.task.as_deref()
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

    /// Its URL, without what may be a secret, and of what that is told.
    #[getter]
    fn webhook<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(webhook) = &self.0.spec.webhook else { return Ok(None) };
        let webhook = webhook.shown();
        let dict = PyDict::new(py);
        dict.set_item("url", webhook.url)?;
        dict.set_item("events", webhook.events.iter().map(|event| event.as_str()).collect::<Vec<_>>())?;
        Ok(Some(dict))
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
    fn slot(&self) -> Option<&str> {
        self.0.slot.as_deref()
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
    fn error_type(&self) -> Option<&str> {
        self.0.error.as_ref()?.type_name.as_deref()
    }

    #[getter]
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        static PROGRESS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let Some(progress) = &self.0.progress else { return Ok(None) };
        let class = convert::function(py, &PROGRESS, "haulage._job", "Progress")?;
        class.call1((progress.fraction, progress.message.as_deref())).map(Some)
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
        match self.0.clone().into_result() {
            Ok(json) => convert::loads(py, "the result", json.as_str()),
            Err(error) => Err(errors::raise(py, &error)),
        }
    }

    /// As the command line shows it.
    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0).map_err(|error| errors::invalid_json(format!("the record: {error}")))
    }

    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::loads(py, "the record", &self.to_json()?)
    }

    /// The record that `to_json` has written.
    #[staticmethod]
    fn from_json(json: &str) -> PyResult<Self> {
        serde_json::from_str(json)
            .map(Self)
            .map_err(|error| errors::invalid_json(format!("this is not a record: {error}")))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.id.as_str().hash(&mut hasher);
        hasher.finish()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        Ok((py.get_type::<Self>().getattr("from_json")?, (self.to_json()?,)))
    }

    /// As pairs, like a model of pydantic: `dict(record)`, and what FastAPI does with what it does not know.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.to_dict(py)?.call_method0("items")?.try_iter()?.into_any())
    }

    /// For pydantic, and so for FastAPI where a function is declared to return a record.
    #[classmethod]
    fn __get_pydantic_core_schema__<'py>(
        class: &Bound<'py, PyType>,
        _source: &Bound<'py, PyAny>,
        _handler: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("haulage._convert")?.getattr("record_schema")?.call1((class,))
    }

    fn __repr__(&self) -> String {
        format!("<Record {} {} attempt={}>", self.0.id, self.0.status, self.0.attempt)
    }
}
