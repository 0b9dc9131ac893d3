//! `redrive`: ended jobs go back to work.
//!
//! A message is sent first, and then the record is changed. If we die between
//! the two, the consumer that receives the message does the rest; so does it
//! for a dead letter that other tools move from the dead-letter queue back.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_sqs::types::Message;
use futures_util::{StreamExt, TryStreamExt, stream};
use haulage::{Error, JobId, QueueName, Result, Timestamp, backend::Redrive};
use tracing::warn;

use crate::{
    delivery::revival::{can_go_back, envelope_of, revive},
    schema::{body::DocumentPlace, item::Row, name},
    services::{
        queue::{MAX_BATCH, MAX_VISIBILITY, Queue},
        scan::Order,
        table::PARALLEL,
    },
    state::{Inner, Shared, in_flight::Received},
    verbs::lost,
};

pub(crate) async fn redrive(inner: Shared, what: Redrive) -> Result<Vec<JobId>> {
    match what {
        Redrive::Dead { limit: 0, .. } => Ok(Vec::new()),
        Redrive::Lost { limit } => lost::redrive(&inner, limit).await,
        Redrive::Dead { limit, after, queue } => dead(&inner, limit, after, queue).await,
        Redrive::Jobs(ids) => {
            let rows = inner.store.jobs(ids).await?;
            let had_dead = rows.iter().filter(|row| row.is_dead()).map(Row::queue).collect();
            let ids = all(&inner, rows).await?;
            clear_copies(&inner, had_dead, None, 0).await;
            Ok(ids)
        }
    }
}

/// Dead letters, in the order of their submits; and where there are too few, what
/// SQS itself has put into the dead-letter queue.
async fn dead(
    inner: &Inner,
    limit: usize,
    after: Option<JobId>,
    only: Option<QueueName>,
) -> Result<Vec<JobId>> {
    let after = match after {
        Some(id) => {
            let row = inner.store.table.get(id.as_str()).await?.map(Row);
            Some(row.ok_or_else(|| Error::NotFound(id))?.place())
        }
        None => None,
    };
    let order = Order::OldestFirst(after.as_ref().map(|(moment, _)| *moment));
    let now = inner.now();
    let dead = inner.store.table.dead_letters(inner.queues.store(), &order, limit);
    let mut dead = dead
        .try_filter(|row| {
            let of_it = only.as_ref().is_none_or(|only| row.queue() == *only);
            let meant =
                of_it && !row.is_expired(now) && after.as_ref().is_none_or(|after| row.place() > *after);
            std::future::ready(meant)
        })
        .boxed();
    let (mut ids, mut failure, mut room) = (Vec::new(), None, limit);
    // Some cannot be put back, and must not hide those that come after them.
    while ids.len() < room {
        let rows = match dead.as_mut().take(room - ids.len()).try_collect::<Vec<_>>().await {
            Ok(rows) if rows.is_empty() => break,
            Ok(rows) => rows,
            Err(error) => {
                (failure, room) = (Some(error), 0);
                break;
            }
        };
        match all(inner, rows).await {
            Ok(some) => ids.extend(some),
            Err(error) => {
                let passes = matches!(error, Error::Unavailable { .. });
                failure = Some(error);
                // Whoever gets as many as they asked for takes it that all before them were redriven.
                room = limit - 1;
                if passes {
                    break;
                }
            }
        }
    }
    if ids.len() < room {
        let queues = match &only {
            Some(only) => BTreeSet::from([only.clone()]),
            None => inner.queues.all().await.into_iter().collect(),
        };
        ids.extend(clear_copies(inner, queues, only.as_ref(), room - ids.len()).await);
    }
    // Those that were put back are told; whoever asks for more is told of the failure.
    match failure {
        Some(error) if ids.is_empty() => Err(error),
        Some(error) => {
            warn!(%error, "not all dead letters were redriven");
            Ok(ids)
        }
        None => Ok(ids),
    }
}

/// Puts these jobs back to work, as far as they can be, and tells which were. One
/// that cannot be redriven for now is an error only where it keeps company with none
/// that can.
async fn all(inner: &Inner, rows: Vec<Row>) -> Result<Vec<JobId>> {
    let without = without_bodies(inner, &rows).await?;
    if !without.is_empty() {
        // A message that SQS itself has moved has its job's body.
        clear_copies(inner, without, None, 0).await;
    }
    // One after the other where they may be of one group.
    let side_by_side = if inner.config.is_fifo() { 1 } else { PARALLEL };
    let redriven: Vec<Result<Option<JobId>>> =
        stream::iter(rows).map(|row| one(inner, row)).buffered(side_by_side).collect().await;
    let (mut ids, mut failure) = (Vec::new(), None);
    for redriven in redriven {
        match redriven {
            Ok(id) => ids.extend(id),
            Err(error) => {
                warn!(%error, "a job that cannot be redriven is left as it is");
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if ids.is_empty() => Err(error),
        _ => Ok(ids),
    }
}

/// The queues of those jobs whose bodies only their messages have.
async fn without_bodies(inner: &Inner, rows: &[Row]) -> Result<BTreeSet<QueueName>> {
    let mut queues = BTreeSet::new();
    for row in rows.iter().filter(|row| row.has_failed()) {
        if let Some(DocumentPlace::Message(key)) = row.body_place()
            && inner.store.table.get(&key).await?.is_none()
        {
            queues.insert(row.queue());
        }
    }
    Ok(queues)
}

async fn one(inner: &Inner, row: Row) -> Result<Option<JobId>> {
    if !can_go_back(&row, inner.now()) {
        return Ok(None);
    }
    let Some(proof) = inner.store.proof(&row).await? else { return Ok(None) };
    let Some(envelope) = envelope_of(inner, &row, proof).await? else {
        if let Some(DocumentPlace::Message(_)) = row.body_place() {
            let message = format!(
                "job {} cannot be redriven yet: its message alone has its body (keep_bodies=false), and no \
                 consumer has seen that since the job ended; try again while one runs",
                row.id()
            );
            return Err(Error::Unavailable { message, source: None });
        }
        warn!(job_id = %row.id(), "not redriven: its message was not a job, or its body is gone");
        return Ok(None);
    };
    let token = envelope.token.clone();
    let queue = inner.queues.get(&row.queue()).await?;
    match queue.send(&[envelope], inner.now()).await.pop() {
        Some(Ok(_)) | None => {}
        Some(Err(error)) => return Err(error),
    }
    let revived = revive(inner, &row, &token).await?;
    Ok(revived.then(|| row.id()))
}

/// How long a look into the dead-letter queue waits, so that SQS asks all of its servers.
const COPIES_WAIT: Duration = Duration::from_secs(1);

/// Goes through the dead-letter queues of these queues: copies of jobs that are no longer
/// dead are deleted. A message that SQS itself has moved there, of a job that is not
/// over, goes back to its queue, `limit` at most; only those of one queue, where that is
/// named. What is of other stores, and what is no job, stays.
pub(crate) async fn clear_copies(
    inner: &Inner,
    queues: BTreeSet<QueueName>,
    only: Option<&QueueName>,
    limit: usize,
) -> Vec<JobId> {
    let (mut back, mut seen) = (Vec::new(), HashSet::new());
    for queue in queues {
        match inner.queues.get(&queue).await {
            // Most often they share one.
            Ok(queue) if queue.dead.as_ref().is_some_and(|dead| seen.insert(dead.clone())) => {
                back.extend(clear(inner, &queue, only, limit.saturating_sub(back.len())).await);
            }
            Ok(_) => {}
            Err(error) => warn!(%error, %queue, "old copies stay in its dead-letter queue"),
        }
    }
    back
}

/// The same with that of one queue.
///
/// It ends where nothing is left to see. Each look hides what it finds for twice as
/// long as all have taken so far, so a large queue comes round a few times and no more.
async fn clear(inner: &Inner, queue: &Arc<Queue>, only: Option<&QueueName>, limit: usize) -> Vec<JobId> {
    let Some(dead) = queue.dead.as_deref() else { return Vec::new() };
    let mut back = Vec::new();
    let mut keep = Vec::new();
    let mut seen = HashSet::new();
    let began = Instant::now();
    loop {
        let hidden = (began.elapsed() * 2).clamp(inner.copies_hidden, MAX_VISIBILITY);
        let messages = match queue.receive(dead, MAX_BATCH, hidden, COPIES_WAIT).await {
            Ok(messages) if messages.is_empty() => break,
            Ok(messages) => messages,
            Err(error) => {
                warn!(%error, "old copies stay in the dead-letter queue");
                break;
            }
        };
        let (fresh, again): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|message| seen.insert(message.message_id().unwrap_or_default().to_owned()));
        keep.extend(again.into_iter().filter_map(|message| message.receipt_handle));
        let Some(stale) = sort_out(inner, queue, only, fresh, limit, &mut back, &mut keep).await else {
            break;
        };
        queue.delete(dead, stale).await;
    }
    queue.show_in(dead, keep).await;
    back
}

/// What is to become of a message of the dead-letter queue.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Delete,
    /// Its job goes on.
    Back,
}

/// The queue that a message of a dead-letter queue is from, as SQS calls it.
fn origin<'a>(message: &'a Received, row: Option<&'a Row>) -> Option<&'a str> {
    let from = message.moved_from.as_deref().or(message.says().came_from.as_deref());
    from.or_else(|| row?.text(name::QUEUE))
}

/// `retention` is that of the queue; a record is kept for at least as long after
/// its job's end.
fn judge(retention: Duration, message: &Received, row: Option<&Row>, now: Timestamp) -> Verdict {
    let Ok(envelope) = &message.envelope else { return Verdict::Keep };
    // It is not the job's, whatever it says.
    if row.is_some_and(|row| !message.is_proved_by(row)) {
        return Verdict::Keep;
    }
    // Where there is no record, the job has had none yet, or has ended long ago.
    let never_recorded = || now < envelope.due_at().after(envelope.spec.result_ttl.max(retention));
    let unfinished = match row {
        Some(row) => row.status().is_some_and(|status| !status.is_terminal()),
        // Also of a message that was sent in place of another while the table was away.
        None => envelope.redrive.is_none() && never_recorded(),
    };
    // What we have put there names its queue.
    let is_copy = envelope.came_from.is_some() && message.moved_from.is_none();
    let dead = row.filter(|row| row.is_dead() && !row.is_expired(now));
    match (&envelope.redrive, dead) {
        // Moved by SQS itself, and then the job died another way: that has its copy.
        (None, Some(_)) => Verdict::Keep,
        (ending, Some(row)) if *ending == row.ending() => Verdict::Keep,
        (None, None) if unfinished => Verdict::Back,
        // SQS has moved the message of a redrive, and its job waits for it.
        (Some(_), None) if unfinished && row.is_some() && !is_copy => Verdict::Back,
        _ => Verdict::Delete,
    }
}

/// Which of these messages can be deleted. Nothing, where their records cannot be read now.
async fn sort_out(
    inner: &Inner,
    queue: &Arc<Queue>,
    only: Option<&QueueName>,
    messages: Vec<Message>,
    limit: usize,
    back: &mut Vec<JobId>,
    keep: &mut Vec<String>,
) -> Option<Vec<String>> {
    let now = inner.now();
    let received: Vec<Received> = messages
        .iter()
        .map(|message| Received::new(message, &inner.config, queue, now, inner.copies_hidden))
        .collect();
    let rows = match inner.store.table.get_many(received.iter().map(|r| r.id.to_string()), None).await {
        Ok(rows) => rows,
        Err(error) => {
            warn!(%error, "some messages stay in the dead-letter queue");
            keep.extend(received.into_iter().map(|message| message.receipt));
            return None;
        }
    };
    let mut stale = Vec::new();
    for mut message in received {
        let row = match rows.get(message.id.as_str()).cloned().and_then(Row::of) {
            Some(row) => match inner.store.reaped(row).await {
                Ok(row) => row,
                Err(error) => {
                    warn!(%error, job_id = %message.id, "stays in the dead-letter queue");
                    keep.push(message.receipt);
                    continue;
                }
            },
            None => None,
        };
        let from = match origin(&message, row.as_ref()).map(|from| inner.queues.by_sqs_name(from)) {
            Some(from) => from.await.ok().flatten(),
            None => None,
        };
        let from = from.filter(|from| only.is_none_or(|only| from.named == *only));
        let Some(from) = from else {
            keep.push(message.receipt);
            continue;
        };
        let verdict = judge(from.retention, &message, row.as_ref(), now);
        if let (Some(row), Ok(envelope)) = (&row, &message.envelope)
            && row.has_failed()
            && message.is_proved_by(row)
            && let Err(error) = inner.keep_body(row, envelope).await
        {
            warn!(%error, job_id = %message.id, "stays in the dead-letter queue");
            keep.push(message.receipt);
            continue;
        }
        message.queue = from;
        match verdict {
            Verdict::Delete => stale.push(message.receipt),
            Verdict::Back if back.len() < limit => match inner.replace(&message).await {
                Ok(true) => {
                    stale.push(message.receipt);
                    back.push(message.id);
                }
                Ok(false) => keep.push(message.receipt),
                Err(error) => {
                    warn!(%error, job_id = %message.id, "stays in the dead-letter queue");
                    keep.push(message.receipt);
                }
            },
            Verdict::Keep | Verdict::Back => keep.push(message.receipt),
        }
    }
    Some(stale)
}
