//! `cancel`: at once where the job waits, by a note to its consumer where it runs.

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{JobId, Result, backend::Cancellation, lifecycle::End};

use crate::{
    inner::{Inner, Shared},
    item::{Row, ended, name},
    store::unchanged,
    table::Written,
    update::Write,
};

/// One after the other, as a job may be named twice; an operator's verb.
pub(crate) async fn cancel(inner: Shared, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
    let found = inner.store.table.get_many(ids.iter().map(ToString::to_string), None).await?;
    let mut rows: std::collections::HashMap<String, Row> =
        found.into_iter().filter_map(|(key, item)| Some((key, Row::of(item)?))).collect();
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        let (answer, row) = one(&inner, rows.remove(id.as_str())).await?;
        if let Some(row) = row {
            rows.insert(id.to_string(), row);
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// The answer, and the record as it is now.
async fn one(inner: &Inner, mut seen: Option<Row>) -> Result<(Cancellation, Option<Row>)> {
    loop {
        let now = inner.now();
        let Some(row) = seen.take().filter(|row| row.is_job() && !row.is_expired(now)) else {
            return Ok((Cancellation::Missing, None));
        };
        if row.late(now).is_some() {
            seen = inner.store.reaped(row).await?;
            continue;
        }
        let Some(status) = row.status() else { return Ok((Cancellation::Missing, Some(row))) };
        if status.is_terminal() {
            return Ok((Cancellation::TooLate(status), Some(row)));
        }
        let (write, answer) = if row.is_leased(now) {
            let write = Write::at(now).set(name::CANCEL, AttributeValue::Bool(true));
            (write, Cancellation::Requested)
        } else {
            // Nobody can be asked. Should a holder come back, it is told that it has lost the job.
            let end = ended(&End::Cancelled, now, row.result_ttl(), inner.queue.retention);
            (end, Cancellation::Done)
        };
        match inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await? {
            Written::Done(row) => return Ok((answer, Some(row))),
            Written::Refused(other) => seen = other,
        }
    }
}
