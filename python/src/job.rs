//! What is submitted.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use crate::{convert, encode::encode, errors};

/// A job to submit: a body, and its options.
#[pyclass(frozen, module = "haulage")]
#[derive(Debug)]
pub(crate) struct NewJob(pub(crate) haulage::NewJob);

#[pymethods]
impl NewJob {
    #[new]
    #[pyo3(signature = (body, *, request_id=None, idempotency_key=None, group=None, delay=None,
                        max_attempts=None, timeout=None, result_ttl=None, metadata=None))]
    #[allow(clippy::too_many_arguments)] // keywords, in Python
    fn new(
        body: &Bound<'_, PyAny>,
        request_id: Option<String>,
        idempotency_key: Option<String>,
        group: Option<String>,
        delay: Option<&Bound<'_, PyAny>>,
        max_attempts: Option<u32>,
        timeout: Option<&Bound<'_, PyAny>>,
        result_ttl: Option<&Bound<'_, PyAny>>,
        metadata: Option<BTreeMap<String, String>>,
    ) -> PyResult<Self> {
        let mut job = haulage::NewJob::from_json(encode("the body", body).map_err(errors::invalid_json)?);
        job.request_id = request_id;
        job.idempotency_key = idempotency_key;
        job.group = group;
        job.max_attempts = max_attempts.unwrap_or(job.max_attempts);
        job.delay = convert::optional_duration("delay", delay)?.unwrap_or_default();
        job.timeout = convert::optional_duration("timeout", timeout)?;
        job.result_ttl = convert::optional_duration("result_ttl", result_ttl)?.unwrap_or(job.result_ttl);
        job.metadata = metadata.unwrap_or_default();
        job.validate().map_err(|error| errors::raise(body.py(), &error))?;
        Ok(Self(job))
    }

    fn __repr__(&self) -> String {
        format!("<NewJob of {} bytes>", self.0.body.size())
    }
}
