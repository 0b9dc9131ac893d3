//! Whether anybody takes jobs, for those who wait.

use std::{convert::Infallible, time::Duration};

use haulage::{
    JobId, Producer, QueueName, Record, Status,
    backend::{Detail, Lookup, QueueStats, Unready},
};

use crate::{
    output::{brief, count, sanitized_line},
    session::Session,
};

/// How long jobs may wait before that is worth a word.
const PATIENCE: Duration = Duration::from_secs(10);
/// When to look again: a worker that is between two jobs looks idle.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How many of the jobs are looked at.
const SAMPLE: usize = 100;

/// Says once, by `say`, that no worker takes these jobs, where it looks like it.
/// Never ends.
pub(super) async fn watch(
    session: &Session,
    producer: &Producer,
    ids: &[JobId],
    say: impl Fn(String),
) -> Infallible {
    let ids = &ids[..ids.len().min(SAMPLE)];
    loop {
        tokio::time::sleep(PATIENCE).await;
        if let Some(message) = unserved(session, producer, ids).await {
            say(message);
            return std::future::pending().await;
        }
    }
}

/// What there is to say of a job that may be in the queue alone.
pub(super) fn unrecorded(session: &Session, id: &JobId) -> String {
    let url = &session.url;
    format!(
        "job {id} has no record: no worker of {url} has received its message yet, or there is no such job"
    )
}

/// What there is to say. A backend that cannot be reached is told of by whoever
/// waits.
async fn unserved(session: &Session, producer: &Producer, ids: &[JobId]) -> Option<String> {
    let backend = producer.backend();
    let found = backend.get(ids.to_vec(), Detail::Status).await.ok()?;
    if let Some((id, _)) =
        ids.iter().zip(&found).find(|(_, found)| matches!(found, Lookup::Unrecorded { .. }))
    {
        return Some(unrecorded(session, id));
    }
    let records: Vec<Record> = found
        .into_iter()
        .filter_map(|lookup| match lookup {
            Lookup::Found(record) => Some(record),
            _ => None,
        })
        .collect();
    let now = backend.clock().now();
    let is_due =
        |record: &Record| record.status == Status::Submitted && record.due_at.is_some_and(|due| due <= now);
    if !records.iter().any(is_due) {
        return None;
    }
    let url = &session.url;
    let held_up = |queue: &QueueName| {
        format!("the queue {queue} is paused; `haulage queue resume {queue}` lets it go on")
    };
    if !backend.capabilities().cheap_looks {
        // All jobs are counted by a look at the whole table, which is not for free.
        let queues = backend.backlog().await.ok()?.queues;
        let is_paused =
            |record: &&Record| queues.get(&record.spec.queue).is_some_and(|queue| queue.is_paused);
        if let Some(record) = records.iter().filter(|record| is_due(record)).find(is_paused) {
            return Some(held_up(&record.spec.queue));
        }
        let none_taken = records.iter().all(|record| record.attempt == 0);
        return none_taken.then(|| {
            let patience = PATIENCE.as_secs();
            format!("no worker has taken it for {patience} s: none serves {url}, or they are all busy")
        });
    }
    let before = backend.stats().await.ok()?;
    let is_paused =
        |record: &&Record| before.queues.get(&record.spec.queue).is_some_and(|queue| queue.is_paused);
    if let Some(record) = records.iter().filter(|record| is_due(record)).find(is_paused) {
        return Some(held_up(&record.spec.queue));
    }
    let wanted = |name: &QueueName| records.iter().any(|r| is_due(r) && r.spec.queue == *name);
    if !before.unserved(&before).any(|(name, _)| wanted(name)) {
        return None;
    }
    tokio::time::sleep(LOOK_AGAIN).await;
    let stats = backend.stats().await.ok()?;
    let oldest = |queue: &QueueStats| Duration::try_from_secs_f64(queue.oldest_due_seconds?).ok();
    let (name, queue, oldest) = stats
        .unserved(&before)
        .filter(|(name, _)| wanted(name))
        .filter_map(|(name, queue)| Some((name, queue, oldest(queue)?)))
        .find(|(_, _, oldest)| *oldest >= PATIENCE)?;
    let (of, with) = match name.is_default() {
        true => (String::new(), String::new()),
        false => (format!(" of the queue {name}"), format!(" with --queue {name}")),
    };
    let busy = if stats.in_progress > 0 { ", unless it is busy with jobs of other queues" } else { "" };
    // Who may submit need not be allowed to see workers.
    let unready = backend.unready_workers().await.unwrap_or_default();
    let unready = unready.iter().filter(|(_, unready)| unready.queues.contains(name));
    let more = match unready.min_by_key(|(_, unready)| unready.since) {
        Some((worker, Unready { reason, since, .. })) => {
            let (worker, reason) = (sanitized_line(worker), sanitized_line(reason));
            format!(
                "{worker} has not been ready for {}: {reason}",
                brief(backend.clock().now().since(*since))
            )
        }
        None => format!(
            "start a worker on {url}{with}, or see in the log of the one that runs why it takes no jobs{busy}"
        ),
    };
    Some(format!(
        "no worker takes jobs{of}: {} {}, the oldest for {}, and none is in progress; {more}",
        count(queue.due, "job"),
        if queue.due == 1 { "waits" } else { "wait" },
        brief(oldest)
    ))
}
