//! `redrive`: ended jobs go back to work.
//!
//! A message is sent first, and then the record is changed. If we die between
//! the two, the consumer that receives the message does the rest; so does it
//! for a dead letter that other tools move from the dead-letter queue back.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aws_sdk_sqs::types::Message;
use futures_util::{StreamExt, stream};
use haulage::{JobId, Result, Status, Timestamp, backend::Redrive};
use tracing::warn;

use crate::{
    body::{Body, Packed, Place},
    envelope::Envelope,
    in_flight::Received,
    inner::{Inner, Shared},
    item::{Row, name, remember},
    queue::MAX_BATCH,
    random,
    store::unchanged,
    table::{PARALLEL, Written},
    update::{Write, moment, number, text},
};

pub(crate) async fn redrive(inner: Shared, what: Redrive) -> Result<Vec<JobId>> {
    let (rows, all_dead) = match what {
        Redrive::Dead { limit: 0, .. } => return Ok(Vec::new()),
        Redrive::Dead { limit, .. } => (dead(&inner, limit).await?, Some(limit)),
        Redrive::Jobs(ids) => (by_id(&inner, ids).await?, None),
    };
    let had_dead = rows.iter().any(|row| row.flag(name::DEAD));
    let redriven: Vec<Result<Option<JobId>>> = if inner.queue.fifo {
        // One after the other, as they may be of one group.
        stream::iter(rows).map(|row| one(&inner, row)).buffered(1).collect().await
    } else {
        stream::iter(rows).map(|row| one(&inner, row)).buffered(PARALLEL).collect().await
    };
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
    if let Some(error) = failure.filter(|_| ids.is_empty()) {
        return Err(error);
    }
    if had_dead || all_dead.is_some() {
        let limit = all_dead.map_or(0, |limit| limit.saturating_sub(ids.len()));
        ids.extend(clear_copies(&inner, limit).await);
    }
    Ok(ids)
}

/// Dead letters, in the order of their submits.
async fn dead(inner: &Inner, limit: usize) -> Result<Vec<Row>> {
    let (filter, value) = inner.of_queue();
    let filter = format!("{filter} AND #dead = :dead AND #status = :status");
    let values = HashMap::from([
        value,
        (":dead".into(), aws_sdk_dynamodb::types::AttributeValue::Bool(true)),
        (":status".into(), text(Status::Error.as_str())),
    ]);
    let mut rows = inner.store.table.scan(&filter, values, None).await?;
    // A lapse that nobody has seen is a death, too.
    rows.extend(unseen_deaths(inner).await?);
    let now = inner.now();
    rows.retain(|row| !row.is_expired(now));
    sort(&mut rows);
    rows.truncate(limit);
    Ok(rows)
}

async fn unseen_deaths(inner: &Inner) -> Result<Vec<Row>> {
    let (filter, value) = inner.of_queue();
    let filter = format!("{filter} AND #status = :status AND #due_at <= :now");
    let values = HashMap::from([
        value,
        (":status".into(), text(Status::InProgress.as_str())),
        (":now".into(), moment(inner.now())),
    ]);
    let mut dead = Vec::new();
    for row in inner.store.table.scan(&filter, values, None).await? {
        dead.extend(inner.store.reaped(row).await?.filter(|row| row.flag(name::DEAD)));
    }
    Ok(dead)
}

/// The jobs of these ids, oldest first, with claims that lapsed noted.
pub(crate) async fn by_id(inner: &Inner, ids: Vec<JobId>) -> Result<Vec<Row>> {
    let keys: HashSet<String> = ids.iter().map(ToString::to_string).collect();
    let found = inner.store.table.get_many(keys, None).await?;
    let mut rows: Vec<Row> = Vec::new();
    for row in found.into_values().filter_map(Row::of).filter(Row::is_job) {
        rows.extend(inner.store.reaped(row).await?);
    }
    sort(&mut rows);
    Ok(rows)
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| (row.moment(name::SUBMITTED_AT), row.id()));
}

fn can_go_back(row: &Row, now: Timestamp) -> bool {
    matches!(row.status(), Some(Status::Error | Status::Cancelled)) && !row.is_expired(now)
}

/// Whether a message asks for this job to go back to work.
pub(crate) fn is_wanted(row: &Row, envelope: &Envelope, now: Timestamp) -> bool {
    envelope.redrive.is_some() && envelope.redrive == row.ending() && can_go_back(row, now)
}

async fn one(inner: &Inner, row: Row) -> Result<Option<JobId>> {
    if !can_go_back(&row, inner.now()) {
        return Ok(None);
    }
    let Some(proof) = inner.store.proof(&row).await? else { return Ok(None) };
    let envelope = envelope_of(inner, &row, proof).await?;
    if envelope.body.packed.is_none() && envelope.body.place == Place::Record {
        warn!(job = %row.id(), "not redriven: its message was no job, or its body is not kept");
        return Ok(None);
    }
    let token = envelope.token.clone();
    match inner.queue.send(&[envelope], inner.now()).await.pop() {
        Some(Ok(_)) | None => {}
        Some(Err(error)) => return Err(error),
    }
    let revived = revive(inner, &row, &token).await?;
    Ok(revived.then(|| row.id()))
}

/// Makes the record of an ended job that of one which waits. Tells whether the
/// message with this token is why it waits, or did: a consumer that was faster
/// has done this for the same message.
pub(crate) async fn revive(inner: &Inner, row: &Row, token: &str) -> Result<bool> {
    let mut row = row.clone();
    for round in 0.. {
        inner.store.give_up_after(round, &row.id())?;
        let now = inner.now();
        // The record is about to forget the end of the latest.
        let mut record = row.record(now);
        let latest = record.as_mut().and_then(|record| {
            record.remember(row.past());
            record.attempts.last()
        });
        let write = remember(Write::at(now), latest)
            .set(name::STATUS, text(Status::Submitted.as_str()))
            .set(name::DUE_AT, moment(now))
            .set(name::UNCOUNTED, number(row.attempt()))
            .set(name::LEFT, number(row.count(name::MAX_ATTEMPTS).max(1)))
            .set(name::REDRIVEN_BY, text(token))
            .remove(&[
                name::FINISHED_AT,
                name::EXPIRES_AT,
                name::EXPIRATION,
                name::DEAD,
                name::COPIED,
                name::CANCEL,
            ])
            .remove(&[name::RESULT, name::RESULT_AT]);
        match inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await? {
            Written::Done(_) => return Ok(true),
            // Somebody has noted something else about the same end.
            Written::Refused(Some(other)) if other.ending() == row.ending() && can_go_back(&other, now) => {
                row = other;
            }
            Written::Refused(other) => {
                return Ok(other.is_some_and(|other| other.text(name::REDRIVEN_BY) == Some(token)));
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// A new message for a job, from its record.
async fn envelope_of(inner: &Inner, row: &Row, proof: String) -> Result<Envelope> {
    let (place, packed) = match row.text(name::BODY_AT).and_then(Place::from_text) {
        Some(place @ Place::Object(_)) => (place, None),
        Some(place) => {
            let body = inner.store.fetch(&place).await?;
            let body = body.ok_or_else(|| haulage::Error::Unavailable {
                message: format!("job {} cannot be redriven: its body is gone", row.id()),
                source: None,
            })?;
            (place, Some(Packed::new(&body, inner.config.compression)))
        }
        None => (Place::Record, row.0.get(name::BODY).and_then(Packed::from_attribute)),
    };
    Ok(Envelope {
        token: random::token(),
        id: Some(row.id()),
        proof,
        submitted_at: row.moment(name::SUBMITTED_AT).unwrap_or_else(|| inner.now()),
        not_before: None,
        spec: row.spec(),
        key: None,
        redrive: row.ending(),
        queue: None,
        body: Body { packed, place },
    })
}

/// How long one look into the dead-letter queue hides what it finds; and how
/// long it waits, so that SQS asks all of its servers.
const COPIES_HIDDEN: Duration = Duration::from_secs(60);
const COPIES_WAIT: Duration = Duration::from_secs(1);

/// Goes through the dead-letter queue: copies of jobs that are no longer dead
/// are deleted. A message that SQS itself has moved there, of a job that is not
/// over, goes back to the queue, `limit` at most. What is of other queues, and
/// what is no job, stays.
pub(crate) async fn clear_copies(inner: &Inner, limit: usize) -> Vec<JobId> {
    let Some(dead) = inner.queue.dead.as_deref() else { return Vec::new() };
    let mut back = Vec::new();
    let mut keep = Vec::new();
    let mut seen = HashSet::new();
    loop {
        let messages = match inner.queue.receive(dead, MAX_BATCH, COPIES_HIDDEN, COPIES_WAIT).await {
            Ok(messages) => messages,
            Err(error) => {
                warn!(%error, "old copies stay in the dead-letter queue");
                break;
            }
        };
        let fresh =
            messages.iter().filter(|m| seen.insert(m.message_id().unwrap_or_default().to_owned())).count();
        if fresh == 0 {
            keep.extend(messages.into_iter().filter_map(|message| message.receipt_handle));
            break;
        }
        let stale = sort_out(inner, messages, limit, &mut back, &mut keep).await;
        inner.queue.delete(dead, stale).await;
    }
    inner.queue.show_in(dead, keep).await;
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

/// `retention` is that of the queue; a record is kept for at least as long after
/// its job's end.
fn judge(queue: &str, retention: Duration, message: &Received, row: Option<&Row>, now: Timestamp) -> Verdict {
    let Ok(envelope) = &message.envelope else { return Verdict::Keep };
    // It is not the job's, whatever it says.
    if row.is_some_and(|row| !message.is_proved_by(row)) {
        return Verdict::Keep;
    }
    let from = message.moved_from.as_deref().or(envelope.queue.as_deref());
    if from.or(row.and_then(|row| row.text(name::QUEUE))) != Some(queue) {
        return Verdict::Keep;
    }
    // Where there is no record, the job has had none yet, or has ended long ago.
    let never_recorded = || now < envelope.due_at().after(envelope.spec.result_ttl.max(retention));
    let unfinished = match row {
        Some(row) => row.status().is_some_and(|status| !status.is_terminal()),
        // What is sent for a job again is sent once it has a record.
        None => !message.needs_proof() && never_recorded(),
    };
    // What we have put there names its queue.
    let is_copy = envelope.queue.is_some() && message.moved_from.is_none();
    let dead = row.filter(|row| row.flag(name::DEAD) && !row.is_expired(now));
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

async fn sort_out(
    inner: &Inner,
    messages: Vec<Message>,
    limit: usize,
    back: &mut Vec<JobId>,
    keep: &mut Vec<String>,
) -> Vec<String> {
    let now = inner.now();
    let received: Vec<Received> = messages
        .iter()
        .map(|message| Received::new(message, &inner.queue.name, now, COPIES_HIDDEN))
        .collect();
    let rows = match inner.store.table.get_many(received.iter().map(|r| r.id.to_string()), None).await {
        Ok(rows) => rows,
        Err(error) => {
            warn!(%error, "some messages stay in the dead-letter queue");
            keep.extend(received.into_iter().map(|message| message.receipt));
            return Vec::new();
        }
    };
    let mut stale = Vec::new();
    for message in received {
        let row = match rows.get(message.id.as_str()).cloned().and_then(Row::of) {
            Some(row) => match inner.store.reaped(row).await {
                Ok(row) => row,
                Err(error) => {
                    warn!(%error, job = %message.id, "stays in the dead-letter queue");
                    keep.push(message.receipt);
                    continue;
                }
            },
            None => None,
        };
        match judge(&inner.queue.name, inner.queue.retention, &message, row.as_ref(), now) {
            Verdict::Delete => stale.push(message.receipt),
            Verdict::Back if back.len() < limit => match inner.replace(&message).await {
                Ok(true) => {
                    stale.push(message.receipt);
                    back.push(message.id);
                }
                Ok(false) => keep.push(message.receipt),
                Err(error) => {
                    warn!(%error, job = %message.id, "stays in the dead-letter queue");
                    keep.push(message.receipt);
                }
            },
            Verdict::Keep | Verdict::Back => keep.push(message.receipt),
        }
    }
    stale
}
