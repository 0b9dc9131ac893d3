//! `redrive`: ended jobs go back to work.
//!
//! A message is sent first, and then the record is changed. If we die between
//! the two, the consumer that receives the message does the rest; so does it
//! for a dead letter that other tools move from the dead-letter queue back.

use std::collections::{HashMap, HashSet};

use aws_sdk_sqs::types::Message;
use futures_util::{StreamExt, stream};
use haulage::{JobId, Result, Status, Timestamp, backend::Redrive};
use tracing::{debug, warn};

use crate::{
    body::{Body, Packed, Place},
    expr::{Write, moment, number, text},
    held::Received,
    inner::{Inner, Shared, unchanged},
    item::{Row, name},
    queue::{MAX_BATCH, MAX_WAIT},
    table::{PARALLEL, Written},
    ticket::Ticket,
};

pub(crate) async fn redrive(inner: Shared, what: Redrive) -> Result<Vec<JobId>> {
    let (rows, all_dead) = match what {
        Redrive::Dead(0) => return Ok(Vec::new()),
        Redrive::Dead(limit) => (dead(&inner, limit).await?, Some(limit)),
        Redrive::Jobs(ids) => (by_id(&inner, ids).await?, None),
    };
    let had_dead = rows.iter().any(|row| row.flag(name::DEAD));
    let redriven: Vec<Result<Option<JobId>>> = if inner.queue.fifo {
        // One after the other, as they may be of one group.
        stream::iter(rows).map(|row| one(&inner, row)).buffered(1).collect().await
    } else {
        stream::iter(rows).map(|row| one(&inner, row)).buffered(PARALLEL).collect().await
    };
    let mut ids = Vec::new();
    for redriven in redriven {
        ids.extend(redriven?);
    }
    if had_dead || all_dead.is_some() {
        let limit = all_dead.map_or(0, |limit| limit.saturating_sub(ids.len()));
        ids.extend(clear_copies(&inner, limit).await?);
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
    let mut rows = inner.table.scan(&filter, values, None).await?;
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
    for row in inner.table.scan(&filter, values, None).await? {
        dead.extend(inner.reaped(row).await?.filter(|row| row.flag(name::DEAD)));
    }
    Ok(dead)
}

async fn by_id(inner: &Inner, ids: Vec<JobId>) -> Result<Vec<Row>> {
    let keys: HashSet<String> = ids.iter().map(ToString::to_string).collect();
    let found = inner.table.get_many(keys, None).await?;
    let mut rows: Vec<Row> = Vec::new();
    for row in found.into_values().filter_map(Row::of) {
        rows.extend(inner.reaped(row).await?);
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
pub(crate) fn is_wanted(row: &Row, ticket: &Ticket, now: Timestamp) -> bool {
    ticket.redrive == Some(row.attempt()) && can_go_back(row, now)
}

async fn one(inner: &Inner, row: Row) -> Result<Option<JobId>> {
    if !can_go_back(&row, inner.now()) {
        return Ok(None);
    }
    let ticket = ticket_of(inner, &row).await?;
    if ticket.body.packed.is_none() && ticket.body.place == Place::Record {
        warn!(job = %row.id(), "not redriven: its message was no job, or its body is not kept");
        return Ok(None);
    }
    match inner.queue.send(&[ticket], inner.now()).await.pop() {
        Some(Ok(_)) | None => {}
        Some(Err(error)) => return Err(error),
    }
    revive(inner, &row).await
}

/// Makes the record of an ended job that of one which waits; tells whether this
/// call did it.
pub(crate) async fn revive(inner: &Inner, row: &Row) -> Result<Option<JobId>> {
    let now = inner.now();
    let write = Write::at(now)
        .set(name::STATUS, text(Status::Submitted.as_str()))
        .set(name::DUE_AT, moment(now))
        .set(name::UNCOUNTED, number(row.attempt()))
        .set(name::LEFT, number(row.count(name::MAX_ATTEMPTS).max(1)))
        .remove(&[
            name::FINISHED_AT,
            name::EXPIRES_AT,
            name::EXPIRATION,
            name::DEAD,
            name::COPIED,
            name::CANCEL,
        ])
        .remove(&[name::RESULT, name::RESULT_AT]);
    let written = inner.table.write(row.id().as_str(), unchanged(write, row)).await?;
    Ok(matches!(written, Written::Done(_)).then(|| row.id()))
}

/// A new message for a job, from its record.
async fn ticket_of(inner: &Inner, row: &Row) -> Result<Ticket> {
    let (place, packed) = match row.text(name::BODY_AT).and_then(Place::from_text) {
        Some(place @ Place::Object(_)) => (place, None),
        Some(place) => {
            let body = inner.fetch(&place).await?;
            let body = body.ok_or_else(|| haulage::Error::Unavailable {
                message: format!("job {} cannot be redriven: its body is gone", row.id()),
                source: None,
            })?;
            (place, Some(Packed::new(&body, inner.config.compression)))
        }
        None => (Place::Record, row.0.get(name::BODY).and_then(Packed::from_attribute)),
    };
    let record = row.record(inner.now());
    let record = record.as_ref();
    Ok(Ticket {
        token: crate::expr::nonce(),
        id: Some(row.id()),
        submitted_at: row.moment(name::SUBMITTED_AT).unwrap_or_else(|| inner.now()),
        not_before: None,
        request_id: row.text(name::REQUEST_ID).map(str::to_owned),
        group: record.and_then(|r| r.group.clone()),
        max_attempts: row.count(name::MAX_ATTEMPTS),
        timeout: row.duration(name::TIMEOUT),
        result_ttl: row.result_ttl(),
        metadata: record.map(|r| r.metadata.clone()).unwrap_or_default(),
        key: None,
        redrive: Some(row.attempt()),
        body: Body { packed, place },
    })
}

/// Goes through the dead-letter queue: copies of jobs that are no longer dead
/// are deleted. A message that SQS itself has moved there, of a job that is not
/// over, goes back to the queue, `limit` at most.
async fn clear_copies(inner: &Inner, limit: usize) -> Result<Vec<JobId>> {
    let Some(dead) = inner.queue.dead.as_deref() else { return Ok(Vec::new()) };
    let mut back = Vec::new();
    let mut keep = Vec::new();
    let mut seen = HashSet::new();
    loop {
        let hidden = MAX_WAIT * 3;
        let messages = match inner.queue.receive(dead, MAX_BATCH, hidden, std::time::Duration::ZERO).await {
            Ok(messages) => messages,
            Err(error) => {
                warn!(%error, "old copies stay in the dead-letter queue");
                return Ok(back);
            }
        };
        let fresh =
            messages.iter().filter(|m| seen.insert(m.message_id().unwrap_or_default().to_owned())).count();
        if fresh == 0 {
            break;
        }
        let stale = sort_out(inner, messages, limit, &mut back, &mut keep).await?;
        inner.queue.delete(dead, stale).await;
    }
    inner.queue.show_in(dead, keep).await;
    Ok(back)
}

async fn sort_out(
    inner: &Inner,
    messages: Vec<Message>,
    limit: usize,
    back: &mut Vec<JobId>,
    keep: &mut Vec<String>,
) -> Result<Vec<String>> {
    let now = inner.now();
    let received: Vec<Received> =
        messages.iter().map(|m| Received::new(m, now, std::time::Duration::ZERO)).collect();
    let rows = inner.table.get_many(received.iter().map(|r| r.id.to_string()), None).await?;
    let mut stale = Vec::new();
    for message in received {
        let row = rows.get(message.id.as_str()).cloned().and_then(Row::of);
        let row = match row {
            Some(row) => inner.reaped(row).await?,
            None => None,
        };
        let unfinished = row.as_ref().is_none_or(|row| row.status().is_some_and(|s| !s.is_terminal()));
        let dead = row.as_ref().is_some_and(|row| row.flag(name::DEAD) && !row.is_expired(now));
        match &message.ticket {
            _ if dead => keep.push(message.receipt),
            Ok(ticket) if unfinished && ticket.redrive.is_none() => {
                if back.len() >= limit {
                    keep.push(message.receipt);
                    continue;
                }
                let copy = Ticket { id: Some(message.id.clone()), ..(**ticket).clone() };
                let copy = if row.is_none() { Ticket { id: None, ..(**ticket).clone() } } else { copy };
                match inner.queue.send(&[copy], now).await.pop() {
                    Some(Ok(sent)) => {
                        back.push(if row.is_none() { sent.id } else { message.id });
                        stale.push(message.receipt);
                    }
                    Some(Err(error)) => {
                        debug!(%error, "stays in the dead-letter queue");
                        keep.push(message.receipt);
                    }
                    None => {}
                }
            }
            _ => stale.push(message.receipt),
        }
    }
    Ok(stale)
}
