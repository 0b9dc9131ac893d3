//! Records of a table on AWS, without a queue.

use haulage::{JobId, Status, backend::Detail};
use haulage_aws::{OwnRecord, Records as Core, Refusal};
use pyo3::prelude::*;

use crate::{
    client::{Credentials, aws_config},
    convert,
    encode::encode,
    errors,
    operation::Operation,
    process::Here,
    record::Record,
};

/// The records of a table.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Records(Here<Core>);

/// Opens the table that a `dynamodb://` URL names.
#[pyfunction]
#[pyo3(signature = (url, credentials=None))]
pub(crate) fn connect_records(url: String, credentials: Option<Credentials>) -> PyResult<Operation> {
    Operation::start(async move {
        let config = haulage_aws::Config::from_table_url(&url)?;
        Ok(Records(Here::new(aws_config(config, credentials).open_records().await?)))
    })
}

#[pymethods]
impl Records {
    /// Looks one up; brings a list of one record.
    fn get(&self, id: String) -> PyResult<Operation> {
        let (records, id) = (self.0.get()?.clone(), JobId::from(id));
        Operation::start(async move {
            let lookup = records.get(vec![id.clone()], Detail::Result).await?.remove(0);
            Ok(vec![Record(lookup.into_record(&id)?)])
        })
    }

    /// Writes one of the caller's own, in this status, with a result or an
    /// error; brings `None`, `"job"` where it is a job's, or the status that it
    /// has and keeps.
    fn put(
        &self,
        id: String,
        status: &str,
        value: &Bound<'_, PyAny>,
        request_id: Option<String>,
        ttl: &Bound<'_, PyAny>,
    ) -> PyResult<Operation> {
        let own = match status.parse() {
            Ok(Status::Submitted) => OwnRecord::Submitted,
            Ok(Status::InProgress) => OwnRecord::InProgress,
            Ok(Status::Success) => {
                OwnRecord::Success(encode("the result", value).map_err(errors::invalid_json)?)
            }
            _ => OwnRecord::Error(value.extract()?),
        };
        let ttl = convert::duration("ttl_seconds", ttl)?;
        let records = self.0.get()?.clone();
        Operation::start(async move {
            Ok(match records.put(JobId::from(id), own, request_id, ttl).await? {
                Ok(()) => None,
                Err(Refusal::Exists(status)) => Some(status.as_str()),
                Err(_) => Some("job"),
            })
        })
    }
}
