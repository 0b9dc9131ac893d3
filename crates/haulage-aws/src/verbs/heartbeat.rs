//! `heartbeat`: leases in the table, visibility in the queue.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use haulage::{
    Result,
    backend::{ClaimKey, Heartbeat, HeartbeatStatus},
};
use tracing::warn;

use crate::{
    delivery::checkpoint::{Told, UNKNOWN_TTL},
    schema::{
        body::DocumentPlace,
        item::Row,
        name,
        update::{Write, moment, number},
    },
    services::{
        outbox::Said,
        queues::by_queue,
        table::{PARALLEL, Written},
        time_limit::{LEAST, within},
    },
    state::{Inner, Shared, in_flight::Hold},
};

pub(crate) async fn heartbeat(inner: Shared, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
    inner.capabilities.check_heartbeats(&beats)?;
    let lease = beats.iter().map(|beat| beat.lease).min().unwrap_or_default();
    // The record first: it alone says whether the claim is still held.
    let answers: Vec<(ClaimKey, Result<HeartbeatStatus>)> = stream::iter(beats)
        .map(|beat| async { (beat.key.clone(), in_time(&inner, beat).await) })
        .buffered(2 * PARALLEL)
        .collect()
        .await;
    let all_failed = answers.iter().all(|(_, answer)| answer.is_err());
    let mut statuses = Vec::with_capacity(answers.len());
    let mut held = Vec::new();
    let mut failure = None;
    for (key, answer) in answers {
        let until = inner.in_flight.with(&key, |hold| hold.lease_until);
        match (answer, until) {
            (Ok(status), _) => {
                if status != HeartbeatStatus::Lost {
                    held.push(key);
                }
                statuses.push(status);
            }
            // One that fails leaves the others their leases. Nobody has said that it is lost.
            (Err(error), until) => {
                held.push(key.clone());
                if all_failed {
                    failure = Some(error);
                } else {
                    warn!(%error, job_id = %key.id, "its lease was not extended; the next heartbeat tries again");
                    statuses.push(HeartbeatStatus::Held(until.unwrap_or_else(|| inner.now())));
                }
            }
        }
    }
    // The queue decides nothing; where it is slow, the leases are good all the same.
    // Where the table is, others must not find the messages before it is back.
    let hidden = inner.tasks.clone().spawn(stay_hidden(inner, held, lease));
    let _ = tokio::time::timeout((lease / 6).max(LEAST), hidden).await;
    match failure {
        Some(error) => Err(error),
        None => Ok(statuses),
    }
}

/// Keeps the messages of these claims hidden, and those that follow them; and
/// sees to it that SQS does not take them away.
async fn stay_hidden(inner: Shared, keys: Vec<ClaimKey>, lease: Duration) {
    let now = inner.now();
    let mut hide = Vec::new();
    let mut leaving = Vec::new();
    for key in &keys {
        // A claim that was settled meanwhile has let go of its message.
        inner.in_flight.with(key, |hold| {
            if hold.settling {
                return;
            }
            let limits = inner.limits(&hold.queue);
            for message in hold.message.iter_mut().chain(&mut hold.followers) {
                if !message.replaced && limits.is_last_chance_while_held(message, lease * 2, now) {
                    leaving.push((key.clone(), message.clone()));
                }
                let time = lease.min(limits.latest_hide(message.received_at).since(now));
                // What has been held for as long as can be shows by itself, to be handed over.
                if !time.is_zero() {
                    message.hidden_until = now.after(time);
                    hide.push((message.queue.clone(), (message.receipt.clone(), time)));
                }
            }
        });
    }
    for (queue, hide) in by_queue(hide) {
        queue.hide(hide).await;
    }
    for (key, mut message) in leaving {
        if let Err(error) = inner.ensure_replaced(&mut message).await {
            warn!(%error, job_id = %message.id, "its message may end in the dead-letter queue");
            continue;
        }
        // Noted only now: whoever lets go of the message meanwhile sends another one.
        inner.in_flight.with(&key, |hold| {
            let mut messages = hold.message.iter_mut().chain(&mut hold.followers);
            if let Some(same) = messages.find(|other| other.receipt == message.receipt) {
                same.replaced = message.replaced;
            }
        });
    }
}

/// One heartbeat; one that takes long must not hold up the others.
async fn in_time(inner: &Shared, beat: Heartbeat) -> Result<HeartbeatStatus> {
    let limit = (beat.lease / 4).max(LEAST);
    within(limit, || format!("table {} has not answered", inner.store.table.name()), one(inner, beat)).await
}

async fn one(inner: &Shared, beat: Heartbeat) -> Result<HeartbeatStatus> {
    let key = &beat.key;
    // What an earlier heartbeat did not get through is still news.
    let news = inner.in_flight.with(key, |hold| {
        hold.update.progress = beat.update.progress.clone().or(hold.update.progress.take());
        hold.update.checkpoint = beat.update.checkpoint.clone().or(hold.update.checkpoint.take());
        hold.update.slot = beat.update.slot.clone().or(hold.update.slot.take());
        hold.update.clone()
    });
    let update = news.unwrap_or(beat.update);
    let now = inner.now();
    let until = now.after(beat.lease);
    inner.in_flight.with(key, |hold| {
        hold.wanted_at = now;
        hold.noticed = false;
    });
    let mut write =
        Write::at(now).set(name::DUE_AT, moment(until)).set(name::LEASE, number(beat.lease.as_micros()));
    let ttl = inner.in_flight.with(key, |hold| hold.row.result_ttl()).unwrap_or(UNKNOWN_TTL);
    // A lease does not depend on where checkpoints are: the next heartbeat tries again.
    let limit = (beat.lease / 8).max(LEAST / 2);
    let slow = || format!("the checkpoint of job {} was not stored", key.id);
    let told = match within(limit, slow, inner.tell(key, ttl, &update)).await {
        Ok(told) => told,
        Err(error) => {
            warn!(%error, job_id = %key.id, "its checkpoint could not be stored yet");
            Told::without_checkpoint(&update)
        }
    };
    write = told.written(write);
    let seen = inner.in_flight.with(key, |hold| hold.row.clone());
    let Said { written, told: is_told } =
        inner.store.say(key, seen, write, update.progress.is_some(), beat.lease).await?;
    let Written::Done(row) = written else {
        delete_soon(inner, told.place().cloned());
        // A settle that is under way, or whose answer was lost, may be why; it will tell.
        let settling =
            |hold: &mut Hold| (hold.settling || !hold.in_doubt.is_empty()).then_some(hold.lease_until);
        if let Some(until) = inner.in_flight.with(key, settling).flatten() {
            return Ok(HeartbeatStatus::Held(until));
        }
        inner.drop_hold(key);
        return Ok(HeartbeatStatus::Lost);
    };
    adopt(inner, key, &row);
    let is_unwanted = row.flag(name::CANCEL);
    if row.has_webhook() {
        // What it is told is the record as it was known last, where that is the latest.
        let row = row.without_documents();
        inner.in_flight.with(key, |hold| hold.row = row);
    }
    if told.has_checkpoint() {
        let new = told.place().cloned();
        let old = inner.in_flight.with(key, |hold| std::mem::replace(&mut hold.checkpoint_at, new));
        delete_soon(inner, old.flatten());
    }
    inner.in_flight.with(key, |hold| {
        hold.lease_until = until;
        hold.update.progress.take_if(|news| is_told && update.progress.as_ref() == Some(news));
        let told = told.has_checkpoint();
        hold.update.checkpoint.take_if(|news| told && update.checkpoint.as_ref() == Some(news));
    });
    Ok(if is_unwanted { HeartbeatStatus::CancelRequested(until) } else { HeartbeatStatus::Held(until) })
}

/// Deletes a checkpoint behind the caller's back that no record names any more.
fn delete_soon(inner: &Shared, place: Option<DocumentPlace>) {
    if place.is_some() {
        let inner = inner.clone();
        inner.tasks.clone().spawn(async move { inner.store.let_go(place).await });
    }
}

/// Takes the newer receipt that another consumer has left in the record.
fn adopt(inner: &Inner, key: &ClaimKey, row: &Row) {
    if let (Some(receipt), Some(at)) = (row.text(name::RECEIPT), row.moment(name::RECEIVED_AT)) {
        inner.in_flight.adopt(key, receipt, at);
    }
}
