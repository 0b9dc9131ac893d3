//! How a job's options are kept: what SQL has to know in columns, the rest as
//! one document. So the next option needs no column.

use std::time::Duration;

use rusqlite::{Row, types::Type};

use crate::{Error, JobSpec, NewJob, QueueName};

/// The columns that [`read`] needs.
macro_rules! spec_columns {
    () => {
        "queue, group_id, request_id, max_attempts, result_ttl, drop_body, spec"
    };
}
pub(super) use spec_columns;

/// What has no column; nothing where all of that is the default.
pub(super) fn document(spec: &JobSpec) -> Result<Option<String>, Error> {
    let rest = JobSpec {
        queue: QueueName::default(),
        group: None,
        request_id: None,
        max_attempts: NewJob::DEFAULT_MAX_ATTEMPTS,
        result_ttl: NewJob::DEFAULT_RESULT_TTL,
        drop_body: false,
        ..spec.clone()
    };
    if rest.is_default() { Ok(None) } else { Ok(Some(serde_json::to_string(&rest)?)) }
}

/// As they are for whoever runs the job.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<JobSpec> {
    let rest = match row.get_ref("spec")?.as_str_or_null()? {
        None => JobSpec::default(),
        Some(document) => serde_json::from_str(document)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e)))?,
    };
    with_columns(row, rest)
}

/// As they are for whoever only looks: what a damaged file has in their place
/// hides neither the record nor others that are looked up with it.
pub(super) fn shown(row: &Row<'_>) -> rusqlite::Result<JobSpec> {
    let document = row.get_ref("spec")?.as_str_or_null().ok().flatten();
    let rest = document.and_then(|document| serde_json::from_str(document).ok());
    with_columns(row, rest.unwrap_or_default())
}

fn with_columns(row: &Row<'_>, rest: JobSpec) -> rusqlite::Result<JobSpec> {
    Ok(JobSpec {
        queue: row.get("queue")?,
        group: row.get("group_id")?,
        request_id: row.get("request_id")?,
        max_attempts: row.get("max_attempts")?,
        result_ttl: duration(row.get("result_ttl")?),
        drop_body: row.get("drop_body")?,
        ..rest
    })
}

/// A span as stored, which is never negative.
pub(super) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_column_is_not_kept_twice() {
        let in_columns = JobSpec {
            queue: "gpu".parse().expect("a name"),
            group: Some("g".into()),
            request_id: Some("r".into()),
            max_attempts: 7,
            result_ttl: Duration::from_secs(1),
            drop_body: true,
            ..JobSpec::default()
        };
        assert_eq!(document(&in_columns).expect("JSON"), None);
        let more = JobSpec { timeout: Some(Duration::from_secs(5)), ..JobSpec::default() };
        let (both, alone) = (JobSpec { timeout: more.timeout, ..in_columns }, document(&more).expect("JSON"));
        assert!(alone.is_some());
        assert_eq!(document(&both).expect("JSON"), alone);
    }
}
