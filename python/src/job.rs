//! What is submitted.

use pyo3::{exceptions::PyTypeError, prelude::*};

use crate::{convert, encode::encode, errors};

/// A job to submit: a body, and its options.
#[pyclass(frozen, module = "haulage")]
#[derive(Debug)]
pub(crate) struct NewJob(pub(crate) haulage::NewJob);

#[pymethods]
impl NewJob {
    /// Its body is JSON already, and its options have been checked.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a NewJob cannot be pickled; send the body and the options, and make it where it is submitted",
        ))
    }

    #[new]
    #[pyo3(signature = (body, *, request_id=None, idempotency_key=None, idempotency_window=None, queue=None, task=None,
                        group=None, delay=None, max_attempts=None, timeout=None, start_within=None,
                        result_ttl=None, drop_body=false, metadata=None, webhook=None))]
    #[allow(clippy::too_many_arguments)] // keywords, in Python
    fn new(
        body: &Bound<'_, PyAny>,
        request_id: Option<&Bound<'_, PyAny>>,
        idempotency_key: Option<&Bound<'_, PyAny>>,
        idempotency_window: Option<&Bound<'_, PyAny>>,
        queue: Option<&Bound<'_, PyAny>>,
        task: Option<&Bound<'_, PyAny>>,
        group: Option<&Bound<'_, PyAny>>,
        delay: Option<&Bound<'_, PyAny>>,
        max_attempts: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
        start_within: Option<&Bound<'_, PyAny>>,
        result_ttl: Option<&Bound<'_, PyAny>>,
        drop_body: bool,
        metadata: Option<&Bound<'_, PyAny>>,
        webhook: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut job = haulage::NewJob::from_json(encode("the body", body).map_err(errors::invalid_json)?);
        job.spec.request_id = convert::optional_text("request_id", request_id)?;
        job.idempotency_key = convert::optional_text("idempotency_key", idempotency_key)?;
        job.idempotency_window = convert::optional_duration("idempotency_window", idempotency_window)?
            .unwrap_or(job.idempotency_window);
        job.spec.queue = convert::optional_queue(queue)?.unwrap_or_default();
        job.spec.task = convert::optional_text("task", task)?;
        job.spec.group = convert::optional_text("group", group)?;
        job.spec.max_attempts = match max_attempts {
            Some(count) => convert::count("max_attempts", count)?,
            None => job.spec.max_attempts,
        };
        job.delay = convert::optional_duration("delay", delay)?.unwrap_or_default();
        job.spec.timeout = convert::optional_duration("timeout", timeout)?;
        job.spec.start_within = convert::optional_duration("start_within", start_within)?;
        job.spec.drop_body = drop_body;
        job.spec.result_ttl =
            convert::optional_duration("result_ttl", result_ttl)?.unwrap_or(job.spec.result_ttl);
        job.spec.metadata = convert::labels(metadata)?;
        if let Some(webhook) = webhook.filter(|webhook| !webhook.is_none()) {
            let wrong = |error: haulage::Error| {
                errors::raise(body.py(), &haulage::Error::Invalid(format!("webhook: {error}")))
            };
            let webhook = encode("webhook", webhook).map_err(errors::invalid_json)?;
            job.spec.webhook = Some(webhook.decode().map_err(wrong)?);
        }
        job.validate().map_err(|error| errors::raise(body.py(), &error))?;
        Ok(Self(job))
    }

    fn __repr__(&self) -> String {
        format!("<NewJob of {} bytes>", self.0.body.size())
    }
}
