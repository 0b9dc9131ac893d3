//! `list`, `stats` and `purge`.
//!
//! Dead letters are found by an index. For all else the whole table is read, page by
//! page: for people, not for loops. What scales consumers, and what watches a queue,
//! reads the queue's own counts, which cost next to nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use haulage::{
    Error, QueueName, Record, Result, Status,
    backend::{ListQuery, Purge, QueueStats, Stats},
};
use tracing::warn;

use crate::{
    schema::{
        item::{Row, seconds},
        name::{self, PURGED},
        update::{Write, text},
    },
    services::{
        scan::{OF_STORE, OUTLINE, Order},
        store::places,
        table::{PARALLEL, Written},
    },
    state::{Inner, Shared},
    verbs::redrive::clear_copies,
};

/// What `list` shows besides: all but body and result.
const LISTED: &str = "#request_id, #job_group, #slot, #progress, #error, #error_kind, #error_type";

/// All records of this store that have not expired, in no order, with every claim
/// that was abandoned and ended its job noted.
fn rows(inner: &Shared, names: &str) -> impl Stream<Item = Result<Row>> + Send {
    let (read, reader, ours) = (inner.counting(), inner.clone(), inner.clone());
    let now = inner.now();
    inner
        .store
        .table
        .scan(OF_STORE, HashMap::from(inner.of_store()), names, read)
        .try_filter(move |row| std::future::ready(ours.is_ours(row)))
        .map_ok(move |row| {
            let inner = reader.clone();
            async move { Ok(inner.store.seen(row).await) }
        })
        .try_buffer_unordered(PARALLEL)
        .try_filter_map(move |row| {
            std::future::ready(Ok(row.filter(|row| row.status().is_some() && !row.is_expired(now))))
        })
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
            Some(row.ok_or_else(|| Error::NotFound(id.clone()))?.place())
        }
        None => None,
    };
    let now = inner.now();
    let meant = |row: &Row| {
        let record =
            row.record(now).filter(|record| !record.is_expired(now) && query.matches(record, now))?;
        before.as_ref().is_none_or(|before| row.place() < *before).then_some(record)
    };
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    if query.dead {
        let order = Order::NewestFirst(before.as_ref().map(|(moment, _)| *moment));
        let dead = inner.store.table.dead_letters(inner.queues.store(), &order, query.limit);
        return dead
            .try_filter_map(|row| std::future::ready(Ok(meant(&row))))
            .take(query.limit)
            .try_collect()
            .await;
    }
    // The newest so far, however many there are in all.
    let mut newest = BTreeMap::new();
    let names = format!("{OUTLINE}, {LISTED}");
    let mut rows = pin!(rows(&inner, &names));
    while let Some(row) = rows.try_next().await? {
        if let Some(record) = meant(&row) {
            newest.insert(row.place(), record);
            if newest.len() > query.limit {
                newest.pop_first();
            }
        }
    }
    Ok(newest.into_values().rev().collect())
}

pub(crate) async fn stats(inner: Shared) -> Result<Stats> {
    let paused = inner.pauses.look(&inner.store.table).await?;
    let mut queues: BTreeMap<QueueName, QueueStats> = BTreeMap::new();
    for queue in paused {
        queues.entry(queue).or_default().is_paused = true;
    }
    let mut rows = pin!(rows(&inner, OUTLINE));
    let now = inner.now();
    while let Some(row) = rows.try_next().await? {
        let Some(record) = row.record(now) else { continue };
        let stats = queues.entry(record.spec.queue).or_default();
        let count = match (record.status, record.due_at) {
            (Status::Submitted, Some(due)) if due > now => &mut stats.delayed,
            (Status::Submitted, due) => {
                let age = due.map(|due| now.since(due).as_secs_f64());
                stats.oldest_due_seconds =
                    [stats.oldest_due_seconds, age].into_iter().flatten().reduce(f64::max);
                &mut stats.due
            }
            (Status::InProgress, _) => &mut stats.in_progress,
            (Status::Success, _) => &mut stats.success,
            (Status::Error, _) => &mut stats.error,
            (Status::Cancelled, _) => &mut stats.cancelled,
        };
        *count += 1;
        stats.dead += u64::from(record.dead);
    }
    let mut stats = Stats::default();
    queues.into_iter().for_each(|(queue, of_it)| stats.add(queue, of_it));
    Ok(stats)
}

pub(crate) async fn purge(inner: Shared, what: Purge) -> Result<u64> {
    what.check()?;
    let now = inner.now();
    let meant = |row: &Row| {
        row.record(now).is_some_and(|record| match &what {
            Purge::Status { status, older_than, queue } => {
                let since = record.finished_at.unwrap_or(record.submitted_at);
                let in_queue = queue.as_ref().is_none_or(|queue| record.spec.queue == *queue);
                record.status == *status && in_queue && since <= now.before(*older_than)
            }
            Purge::Jobs(_) => record.status != Status::InProgress,
        })
    };
    let rows = match &what {
        Purge::Status { .. } => rows(&inner, OUTLINE).boxed(),
        Purge::Jobs(ids) => stream::iter(inner.store.jobs(ids.clone()).await?.into_iter().map(Ok)).boxed(),
    };
    let (mut purged, mut had_dead, mut failure) = (0, BTreeSet::new(), None);
    let mut gone = rows
        .try_filter(|row| std::future::ready(meant(row)))
        .map_ok(|row| {
            let inner = inner.clone();
            async move { Ok((row.is_dead().then(|| row.queue()), one(&inner, row).await)) }
        })
        .try_buffer_unordered(PARALLEL);
    while let Some((dead_of, answer)) = gone.try_next().await? {
        match answer {
            Ok(done) => {
                purged += u64::from(done);
                had_dead.extend(dead_of.filter(|_| done));
            }
            // It must not keep the others.
            Err(error) => {
                warn!(%error, "a record that cannot be purged stays");
                failure = Some(error);
            }
        }
    }
    if !had_dead.is_empty() {
        // An alarm on the dead-letter queue would go on for what is gone.
        clear_copies(&inner, had_dead, None, 0).await;
    }
    match failure {
        Some(error) if purged == 0 => Err(error),
        _ => Ok(purged),
    }
}

/// Purges one job. Its item stays for as long as the queue may hold a message
/// of it, and says that there is nothing to do.
async fn one(inner: &Inner, row: Row) -> Result<bool> {
    let now = inner.now();
    let write = Write::at(now)
        .set(name::STATUS, text(PURGED))
        .set(
            name::EXPIRATION,
            seconds(now.after(inner.store.retentions.of(row.text(name::QUEUE).unwrap_or_default()))),
        )
        .remove(&[name::BODY, name::BODY_AT, name::RESULT, name::RESULT_AT])
        .remove(&[name::ERROR, name::ERROR_KIND, name::ERROR_TYPE])
        .remove(&[name::CHECKPOINT, name::CHECKPOINT_AT, name::SLOT, name::PROGRESS, name::TASK_TOKEN])
        .remove(&name::PAST)
        .remove(&[name::SPEC, name::REQUEST_ID, name::DEAD_OF, name::EXPIRES_AT, name::DUE_AT])
        .remove(&[name::DELIVERIES, name::TOLD_AT]);
    match inner.store.purge(&row, write).await? {
        Written::Done(_) => {
            inner.store.delete_documents(places(&row).collect::<Vec<_>>()).await;
            Ok(true)
        }
        Written::Refused(_) => Ok(false),
    }
}
