//! `heartbeat`: leases in the table, visibility in the queue.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use haulage::{
    Result, Status,
    backend::{ClaimKey, Heartbeat, Pulse},
};

use crate::{
    expr::{Write, moment, number, text},
    inner::{Inner, Shared},
    item::{Row, name},
    queue::Receipt,
    table::{PARALLEL, Written},
};

pub(crate) async fn heartbeat(inner: Shared, beats: Vec<Heartbeat>) -> Result<Vec<Pulse>> {
    beats.iter().try_for_each(|beat| inner.capabilities.check_lease(beat.lease))?;
    // The record first: it alone says whether the claim is still held.
    let answers: Vec<Result<Beaten>> =
        stream::iter(beats).map(|beat| one(&inner, beat)).buffered(2 * PARALLEL).collect().await;
    let mut pulses = Vec::with_capacity(answers.len());
    let mut hide = Vec::new();
    let mut failure = None;
    for answer in answers {
        match answer {
            Ok((pulse, messages)) => {
                pulses.push(pulse);
                hide.extend(messages);
            }
            Err(error) => failure = Some(error),
        }
    }
    inner.queue.hide(hide).await;
    match failure {
        Some(error) => Err(error),
        None => Ok(pulses),
    }
}

/// The answer to one heartbeat, and the messages that are to stay hidden.
type Beaten = (Pulse, Vec<(Receipt, Duration)>);

async fn one(inner: &Inner, beat: Heartbeat) -> Result<Beaten> {
    let now = inner.now();
    let until = now.after(beat.lease);
    let mut write = while_held(Write::at(now), &beat.key, now).set(name::DUE_AT, moment(until));
    if let Some(progress) = &beat.progress {
        let json = serde_json::to_string(progress).unwrap_or_default();
        write = write.set(name::PROGRESS, text(json));
    }
    let Written::Done(row) = inner.table.write(beat.key.id.as_str(), write).await? else {
        return Ok((Pulse::Lost, Vec::new()));
    };
    adopt(inner, &beat.key, &row);
    let messages = inner.held.with(&beat.key, |hold| {
        let mut messages = Vec::new();
        // SQS hides a message for 12 hours from its receive, and no longer.
        let last = hold.received_at.after(inner.config.visibility_limit);
        let time = beat.lease.min(last.since(now));
        if !time.is_zero()
            && let Some(receipt) = hold.receipt.clone()
        {
            messages.push((receipt, time));
        }
        for follower in &mut hold.followers {
            let last = follower.received_at.after(inner.config.visibility_limit);
            let time = beat.lease.min(last.since(now));
            follower.hidden_until = now.after(time);
            messages.push((follower.receipt.clone(), time));
        }
        messages
    });
    let pulse = if row.flag(name::CANCEL) { Pulse::CancelRequested(until) } else { Pulse::Held(until) };
    Ok((pulse, messages.unwrap_or_default()))
}

/// On the condition that this claim holds the job.
pub(crate) fn while_held(write: Write, key: &ClaimKey, now: haulage::Timestamp) -> Write {
    write
        .when("#status = :running AND #attempt = :held AND #due_at > :now")
        .bind("running", text(Status::InProgress.as_str()))
        .bind("held", number(key.attempt))
        .bind("now", moment(now))
}

/// Takes the newer receipt that another consumer has left in the record.
fn adopt(inner: &Inner, key: &ClaimKey, row: &Row) {
    let (Some(receipt), Some(at)) = (row.text(name::RECEIPT), row.moment(name::RECEIVED_AT)) else { return };
    let known = inner.held.with(key, |hold| hold.received_at >= at && hold.receipt.is_some());
    if known == Some(false) {
        inner.held.adopt(key, receipt, at);
    }
}
