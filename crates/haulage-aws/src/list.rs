//! `list`, `stats` and `purge`: what looks at every record of the queue.
//!
//! They read the whole table, page by page: for people, not for loops. What
//! scales consumers reads the queue's own counts, which cost next to nothing.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use haulage::{
    Error, Record, Result, Status, Timestamp,
    backend::{ListQuery, Purge, Stats},
};

use crate::{
    inner::{Inner, Shared},
    item::{PURGED, Row, name, seconds},
    redrive::{by_id, clear_copies},
    store::{places, unchanged},
    table::{PARALLEL, Written},
    update::{Write, text},
};

/// What `stats` and `purge` need of a record.
const OUTLINE: &str = "#message_id, #status, #queue, #due_at, #dead, #attempt, #attempts_left, #uncounted, #max_attempts, \
                       #cancel_requested, #worker, #lease_us, #op, #expires_at, #submitted_at, #finished_at, #result_ttl_us, \
                       #body_at, #result_at, #spec, #redriven_by, #begun, #started_at";

/// What `list` shows besides: all but body and result.
const LISTED: &str = "#request_id, #job_group, #progress, #error, #error_kind";

/// All records of this queue that have not expired, with every claim that was
/// abandoned and ended its job noted.
async fn rows(inner: &Inner, names: &str) -> Result<Vec<Row>> {
    let (filter, value) = inner.of_queue();
    let rows = inner.store.table.scan(filter, HashMap::from([value]), Some(names)).await?;
    let now = inner.now();
    let rows: Vec<Option<Row>> = stream::iter(rows)
        .map(|row| inner.store.reaped(row))
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(rows.into_iter().flatten().filter(|row| row.status().is_some() && !row.is_expired(now)).collect())
}

fn place(row: &Row) -> (Timestamp, String) {
    (row.moment(name::SUBMITTED_AT).unwrap_or(Timestamp::from_micros(0)), row.id().to_string())
}

pub(crate) async fn list(inner: Shared, query: ListQuery) -> Result<Vec<Record>> {
    let before = match &query.before {
        Some(id) => {
            let row = inner
                .store
                .table
                .get(id.as_str())
                .await?
                .and_then(Row::of)
                .filter(|row| row.is_job() && row.status().is_some());
            Some(place(&row.ok_or_else(|| Error::NotFound(id.clone()))?))
        }
        None => None,
    };
    let names = format!("{OUTLINE}, {LISTED}");
    let mut rows = rows(&inner, &names).await?;
    rows.sort_by_key(|row| std::cmp::Reverse(place(row)));
    let now = inner.now();
    let records = rows
        .iter()
        .filter(|row| before.as_ref().is_none_or(|before| place(row) < *before))
        .filter_map(|row| row.record(now))
        .filter(|record| query.matches(record, now));
    Ok(records.take(query.limit).collect())
}

pub(crate) async fn stats(inner: Shared) -> Result<Stats> {
    let rows = rows(&inner, OUTLINE).await?;
    let now = inner.now();
    let mut stats = Stats::default();
    let mut oldest: Option<Timestamp> = None;
    for record in rows.iter().filter_map(|row| row.record(now)) {
        let count = match (record.status, record.due_at) {
            (Status::Submitted, Some(due)) if due > now => &mut stats.delayed,
            (Status::Submitted, due) => {
                oldest = oldest.into_iter().chain(due).min();
                &mut stats.visible
            }
            (Status::InProgress, _) => &mut stats.in_progress,
            (Status::Success, _) => &mut stats.success,
            (Status::Error, _) => &mut stats.error,
            (Status::Cancelled, _) => &mut stats.cancelled,
        };
        *count += 1;
        stats.dead += u64::from(record.dead);
    }
    stats.oldest_visible_seconds = oldest.map(|due| now.since(due).as_secs_f64());
    Ok(stats)
}

pub(crate) async fn purge(inner: Shared, what: Purge) -> Result<u64> {
    what.check()?;
    let rows = match &what {
        Purge::Status { .. } => rows(&inner, OUTLINE).await?,
        Purge::Jobs(ids) => by_id(&inner, ids.clone()).await?,
    };
    let now = inner.now();
    let meant = |record: &Record| match &what {
        Purge::Status { status, older_than, queue } => {
            let since = record.finished_at.unwrap_or(record.submitted_at);
            let in_queue = queue.as_ref().is_none_or(|queue| record.spec.queue == *queue);
            record.status == *status && in_queue && since <= now.before(*older_than)
        }
        Purge::Jobs(_) => record.status != Status::InProgress,
    };
    let wanted = rows.into_iter().filter(|row| row.record(now).is_some_and(|record| meant(&record)));
    let wanted: Vec<Row> = wanted.collect();
    let had_dead = wanted.iter().any(|row| row.flag(name::DEAD));
    let purged: Vec<bool> =
        stream::iter(wanted).map(|row| one(&inner, row)).buffer_unordered(PARALLEL).try_collect().await?;
    // An alarm on the dead-letter queue would go on for what is gone.
    if had_dead {
        clear_copies(&inner, 0).await;
    }
    Ok(purged.into_iter().filter(|purged| *purged).count() as u64)
}

/// Purges one job. Its item stays for as long as the queue may hold a message
/// of it, and says that there is nothing to do.
async fn one(inner: &Inner, row: Row) -> Result<bool> {
    let now = inner.now();
    let write = Write::at(now)
        .set(name::STATUS, text(PURGED))
        .set(name::EXPIRATION, seconds(now.after(inner.queue.retention)))
        .remove(&[name::BODY, name::BODY_AT, name::RESULT, name::RESULT_AT, name::ERROR, name::ERROR_KIND])
        .remove(&[name::CHECKPOINT, name::PROGRESS])
        .remove(&name::PAST)
        .remove(&[name::SPEC, name::REQUEST_ID, name::DEAD, name::EXPIRES_AT, name::DUE_AT]);
    match inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await? {
        Written::Done(_) => {
            inner.store.delete_documents(places(&row).collect::<Vec<_>>()).await;
            Ok(true)
        }
        Written::Refused(_) => Ok(false),
    }
}
