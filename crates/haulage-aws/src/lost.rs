//! Jobs that wait for a message which SQS has deleted: nobody received it in
//! time. The record has all that is needed to send another one.
//!
//! A message is as old as its job is due, or younger. So once the retention has
//! passed since then, it is gone, or somebody replaces it again and again; a
//! second message does no harm, since the record decides.

use std::{collections::HashMap, sync::PoisonError};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    FailureKind, JobError, JobId, Record, Result, Status, Timestamp,
    backend::{Finding, Lookup, Severity},
    lifecycle::End,
};
use tracing::{debug, info, warn};

use crate::{
    fault::fault,
    inner::{Inner, Shared},
    item::{Row, ended, name},
    redrive::{envelope_of, sort},
    store::unchanged,
    table::Written,
    update::{Write, aliases, moment, text},
};

/// How many pages of the table a check reads, of a megabyte each: more than that
/// is for who asks for it.
const CHECK_PAGES: usize = 64;

/// How many jobs are remembered that were looked at.
const MOST_SEEN: usize = 10_000;

/// Sends another message for the jobs that have lost theirs, up to so many,
/// oldest first. One that cannot be sent ends as an error.
pub(crate) async fn redrive(inner: &Inner, limit: usize) -> Result<Vec<JobId>> {
    let (mut rows, _) = rows(inner, usize::MAX).await?;
    sort(&mut rows);
    let (mut sent, mut failure) = (Vec::new(), None);
    // One after the other, as they may be of one group.
    for row in rows {
        if sent.len() >= limit {
            break;
        }
        match send(inner, &row).await {
            Ok(true) => sent.push(row.id()),
            Ok(false) => {}
            Err(error) => {
                warn!(%error, job = %row.id(), "its message is lost, and another one could not be sent");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if sent.is_empty() => Err(error),
        _ => Ok(sent),
    }
}

/// How many there are, for whoever checks the queue. Nothing is said where it
/// may not be looked at: that is told elsewhere.
pub(crate) async fn check(inner: &Inner) -> Option<Finding> {
    const CHECK: &str = "lost messages";
    let (rows, whole) = match rows(inner, CHECK_PAGES).await {
        Ok(found) => found,
        Err(error) => {
            debug!(%error, "lost messages were not looked for");
            return None;
        }
    };
    let among = if whole { "" } else { "; the table is large, and only a part of it was looked at" };
    Some(match rows.len() {
        0 => Finding::ok(CHECK, format!("no job waits for a message that is gone{among}")),
        count => Finding::bad(
            Severity::Warning,
            CHECK,
            format!(
                "{count} jobs wait for a message that SQS has deleted, as nobody received it in time{among}"
            ),
            "send them again with `haulage dead redrive --lost`; if work may wait for so long, lengthen the \
             queue's retention",
        ),
    })
}

/// Whoever looks at such a job, or waits for it, sends another message behind the
/// caller's back: so no wait is for nothing.
pub(crate) fn notice(inner: &Shared, lookups: &[Lookup]) {
    let now = inner.now();
    let lost = lookups.iter().filter_map(|lookup| match lookup {
        Lookup::Found(record) if is_lost(inner, record, now) => Some(record.id.clone()),
        _ => None,
    });
    for id in lost {
        let mut seen = inner.lost_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST_SEEN {
            seen.clear();
        }
        if seen.insert(id.clone()) {
            let inner = inner.clone();
            inner.tasks.clone().spawn(async move {
                match again(&inner, &id).await {
                    Ok(true) => info!(job = %id, "its message was lost; another one was sent"),
                    Ok(false) => {}
                    Err(error) => {
                        warn!(%error, job = %id, "its message is lost, and another one could not be sent");
                        inner.lost_seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                    }
                }
            });
        }
    }
}

async fn again(inner: &Inner, id: &JobId) -> Result<bool> {
    let row = inner.store.table.get(id.as_str()).await?.and_then(Row::of);
    match row.filter(|row| has_lost(inner, row)) {
        Some(row) => send(inner, &row).await,
        None => Ok(false),
    }
}

/// The message of a job that waits is gone, whatever has become of it since.
fn is_lost(inner: &Inner, record: &Record, now: Timestamp) -> bool {
    record.status == Status::Submitted
        && record.due_at.is_some_and(|due| due.after(inner.queue.retention) < now)
}

/// The same, where no other message was sent since.
fn has_lost(inner: &Inner, row: &Row) -> bool {
    let now = inner.now();
    let sent = row.moment(name::RESENT_AT);
    row.is_job()
        && row.record(now).is_some_and(|record| is_lost(inner, &record, now))
        && sent.is_none_or(|sent| sent.after(inner.queue.retention) < now)
}

/// Sends another message; tells whether it was. Where there is no body any more,
/// that ends the job.
async fn send(inner: &Inner, row: &Row) -> Result<bool> {
    let Some(proof) = inner.store.proof(row).await? else { return Ok(false) };
    let row = match row.text(name::PROOF) {
        Some(_) => row.clone(),
        // Its record is another one, now that it has one.
        None => match inner.store.table.get(row.id().as_str()).await?.and_then(Row::of) {
            Some(row) => row,
            None => return Ok(false),
        },
    };
    let now = inner.now();
    let Some(envelope) = envelope_of(inner, &row, proof).await? else {
        let why = "the queue has deleted its message, as nobody received it in time, and its body is gone";
        let end = End::failed(JobError::new(FailureKind::MessageLost, why));
        let write = ended(&end, &inner.queue.name, now, row.result_ttl(), inner.queue.retention);
        inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await?;
        return Ok(false);
    };
    if let Some(sent) = inner.queue.send(&[envelope], now).await.pop() {
        sent?;
    }
    // If we die before this, somebody sends one more.
    let write = Write::at(now).set(name::RESENT_AT, moment(now));
    match inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await? {
        Written::Done(_) => Ok(true),
        Written::Refused(other) => Ok(other.is_some_and(|other| !other.is_over())),
    }
}

/// The jobs of this queue that have lost their messages, as far as they are in so
/// many pages of the table; and whether that is all of it.
async fn rows(inner: &Inner, most_pages: usize) -> Result<(Vec<Row>, bool)> {
    let table = &inner.store.table;
    let filter = "#queue = :queue AND (#status = :waits OR #status = :runs) AND #due_at < :gone";
    let gone = inner.now().before(inner.queue.retention);
    let values = HashMap::from([
        (":queue".to_owned(), text(&inner.queue.name)),
        (":waits".to_owned(), text(Status::Submitted.as_str())),
        (":runs".to_owned(), text(Status::InProgress.as_str())),
        (":gone".to_owned(), moment(gone)),
    ]);
    let mut rows = Vec::new();
    let mut next: Option<HashMap<String, AttributeValue>> = None;
    for _ in 0..most_pages {
        let call = table
            .client()
            .scan()
            .table_name(table.name())
            .filter_expression(filter)
            .set_expression_attribute_names(Some(aliases(filter)))
            .set_expression_attribute_values(Some(values.clone()))
            .set_exclusive_start_key(next.take());
        let page = call.send().await.map_err(|e| fault(format_args!("scan table {}", table.name()), e))?;
        let found = page.items.unwrap_or_default().into_iter().filter_map(Row::of);
        rows.extend(found.filter(|row| has_lost(inner, row)));
        next = page.last_evaluated_key.filter(|key| !key.is_empty());
        if next.is_none() {
            return Ok((rows, true));
        }
    }
    Ok((rows, false))
}
