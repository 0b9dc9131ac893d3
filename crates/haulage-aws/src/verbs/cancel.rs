//! `cancel`: at once where the job waits, by a note in its record where it runs, of which its consumer hears.

use std::sync::{Arc, atomic::Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{JobId, Result, backend::Cancellation, lifecycle::End};
use tracing::{debug, warn};

use crate::{
    schema::{fence::unchanged, item::Row, name, update::Write},
    services::{cancels, table::Written},
    state::{Inner, Shared},
};

/// One after the other, as a job may be named twice; an operator's verb.
pub(crate) async fn cancel(inner: Shared, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
    // Those whose records this process could not write so far get them first, or an error.
    let late = ids.iter().filter_map(|id| inner.store.unrecorded.get(id)).map(|row| row.0).collect();
    for answer in inner.store.table.insert(late).await {
        answer.map_err(|not_written| not_written.error)?;
    }
    let found = inner.store.table.get_many(ids.iter().map(ToString::to_string), None).await?;
    let mut rows: std::collections::HashMap<String, Row> =
        found.into_iter().filter_map(|(key, item)| Some((key, Row::of(item)?))).collect();
    let (mut answers, mut failure) = (Vec::with_capacity(ids.len()), None);
    let mut running = Vec::new();
    for id in ids {
        match one(&inner, rows.remove(id.as_str())).await {
            Ok((answer, row)) => {
                if answer == Cancellation::Requested {
                    running.push(id.clone());
                }
                if let Some(row) = row {
                    rows.insert(id.to_string(), row);
                }
                answers.push(answer);
            }
            // The others are cancelled all the same; asked again, they are told to be.
            Err(error) => {
                warn!(%error, job_id = %id, "not cancelled");
                failure = Some(error);
            }
        }
    }
    if !running.is_empty()
        && let Err(error) = inner.cancels.name(&inner.store.table, &running, inner.now()).await
    {
        warn!(%error, "workers hear of cancelled jobs with their next heartbeats only");
    }
    failure.map_or(Ok(answers), Err)
}

/// Looks for cancels of jobs that this process holds, for as long as it holds some.
pub(crate) fn listen(inner: &Shared) {
    let watched = |inner: &Inner| inner.cancels.is_watched.swap(true, Ordering::SeqCst);
    if watched(inner) {
        return;
    }
    // It keeps nothing alive.
    let weak = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(cancels::LOOK_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            if !inner.in_flight.has_jobs(inner.now()) {
                inner.cancels.is_watched.store(false, Ordering::SeqCst);
                // Somebody may have claimed one meanwhile, and have found that this looks.
                if !inner.in_flight.has_jobs(inner.now()) || watched(&inner) {
                    return;
                }
            }
            let look = inner.cancels.look(&inner.store.table, |id| inner.in_flight.holds_job(id));
            if let Err(error) = look.await {
                debug!(%error, "cancels could not be looked for; heartbeats tell of them");
            }
        }
    });
}

/// The answer, and the record as it is now.
async fn one(inner: &Inner, mut seen: Option<Row>) -> Result<(Cancellation, Option<Row>)> {
    let mut round = 0;
    loop {
        let now = inner.now();
        let Some(row) = seen.take().filter(|row| row.is_job() && !row.is_expired(now)) else {
            return Ok((Cancellation::Missing, None));
        };
        inner.store.give_up_after(round, &row.id())?;
        round += 1;
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
            let queue = row.text(name::QUEUE).unwrap_or_default();
            let end = inner.ended(&End::Cancelled, queue, now, row.result_ttl());
            (end, Cancellation::Done)
        };
        match inner.store.change(&row, unchanged(write, &row), None).await? {
            Written::Done(row) => return Ok((answer, Some(row))),
            Written::Refused(other) => seen = other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use haulage::{FailureKind, JobError, Timestamp, lifecycle::End};

    use super::*;
    use crate::schema::{
        item::ended,
        update::{moment, text},
    };

    /// Whoever may cancel, may write these and no others: what it writes has to be among them.
    #[test]
    fn terraform_lets_a_cancellation_write_what_it_writes() {
        let now = Timestamp::from_micros(7);
        let dead = End::dead(JobError::new(FailureKind::WorkerLost, "gone"));
        let rows = [Row([(name::OP.to_owned(), AttributeValue::S("op".into()))].into()), Row([].into())];
        let writes = [
            Write::at(now).set(name::CANCEL, AttributeValue::Bool(true)),
            ended(&End::Cancelled, "jobs", now, Duration::ZERO, Duration::ZERO),
            Write::at(now).set(name::CANCELLED_JOBS, text("j")).set(name::EXPIRATION, moment(now)),
            // What is told to a webhook of that is noted, and its progress taken back.
            ended(&dead, "jobs", now, Duration::ZERO, Duration::ZERO)
                .join(name::DELIVERIES, "msg_1")
                .remove(&[name::TOLD_AT]),
        ];
        let written: BTreeSet<String> = (writes.into_iter().zip(rows.iter().cycle()))
            .flat_map(|(write, row)| unchanged(write, row).expressions().names.into_values())
            .chain([name::ID.to_owned()])
            .collect();
        assert_eq!(written, name::in_terraform("cancelled_attributes"));
    }
}
