//! From a message to a hold on its job, or to what else becomes of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use haulage::{
    Error, FailureKind, JobError, JobId, Json, Result, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed, Update},
    lifecycle::{End, Transition, Wait},
};
use tracing::{info, warn};

use crate::{
    body::Place,
    deduplication,
    envelope::Envelope,
    heartbeat::while_held,
    in_flight::{Hold, Received},
    inner::{Inner, Shared, within},
    item::{Row, begun, described, name, remember, spelled, with_error},
    redrive,
    store::unchanged,
    table::Written,
    unusable,
    update::{Write, moment, number, text},
};

/// A call for one job may take a part of its lease, but at least so long.
pub(crate) const LEAST: Duration = Duration::from_secs(1);
/// A lease that ends so soon is waited for, as SQS counts in whole seconds.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// The condition that a program has noted a job as its own, and not its end: by
/// its message, the record is this job's.
pub(crate) const NOTED: &str = "(attribute_not_exists(#queue) AND #status IN (:waits, :runs))";

/// What [`NOTED`] compares with.
pub(crate) fn noted(write: Write) -> Write {
    write.bind("waits", spelled(Status::Submitted)).bind("runs", spelled(Status::InProgress))
}

/// What became of a message.
pub(crate) enum Disposition {
    /// Its job is ours.
    Claimed(Box<(Claimed, Hold)>),
    /// Its job is over, or not this message's: it is deleted.
    Dropped,
    /// It shows again after so long.
    Hidden(Duration),
    /// Its job is in somebody's hands, for so long.
    Held(Duration),
}

/// Finds out what a message's job needs, and claims it if it can be.
pub(crate) async fn resolve(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
) -> Result<Disposition> {
    let envelope = match &message.envelope {
        Ok(envelope) => envelope,
        Err(poison) if poison.is_newer => {
            let message = format!("message {} is left to others: {}", message.id, poison.reason);
            return Err(Error::Unavailable { message, source: None });
        }
        Err(poison) if poison.is_nothing => return Ok(Disposition::Dropped),
        Err(poison) => {
            return Ok(match unproved(inner, message).await? {
                Some(disposition) => disposition,
                None => unusable::dead_letter(inner, message, poison).await?,
            });
        }
    };
    if let Some(disposition) = unproved(inner, message).await? {
        return Ok(disposition);
    }
    if let Some(to) = &envelope.bound_for {
        inner.send_on(message, envelope, to).await?;
        return Ok(Disposition::Dropped);
    }
    let now = inner.now();
    if let Some(moment) = envelope.not_before.filter(|moment| *moment > now) {
        // A job that is over must not hold up its group meanwhile.
        let row = inner.store.table.get(message.id.as_str()).await?.and_then(Row::of);
        let over = row.is_some_and(|row| row.is_over());
        return Ok(if over { Disposition::Dropped } else { Disposition::Hidden(moment.since(now)) });
    }
    let limit = (request.lease / 3).max(LEAST);
    // Fetched first: a bucket out of reach must not use up attempts.
    let slow = || format!("the body of job {} has not come", message.id);
    let body = within(limit, slow, inner.body(&envelope.body)).await;
    let body = match body {
        Ok(Some(body)) => body,
        Ok(None) => return unusable::no_body(inner, message, envelope, "is gone").await,
        Err(Error::InvalidJson { message: why, .. }) => {
            return unusable::no_body(inner, message, envelope, &why).await;
        }
        Err(error) => return Err(error),
    };
    let plain = envelope.id.is_none() && envelope.key.is_none() && !is_foreign(message, envelope);
    let mut may_create = message.queue.fifo && plain;
    let mut tries = Tries { limit, marks: Vec::new() };
    let mut round = 0;
    loop {
        inner.store.give_up_after(round, &message.id)?;
        round += 1;
        let now = inner.now();
        let write = first_claim(request, message, envelope, may_create, now);
        let row = match tries.write(inner, &message.id, write).await? {
            Written::Done(row) => return ours(inner, request, message, envelope, body, row).await,
            Written::Refused(row) => row,
        };
        if let Some(disposition) = row.as_ref().and_then(|row| misplaced(message, row)) {
            return Ok(disposition);
        }
        let Some(row) = row.filter(|row| row.is_job() || row.is_over()) else {
            // The record of an ended job, which this was to put back to work, has expired.
            if envelope.redrive.is_some() {
                return Ok(Disposition::Dropped);
            }
            if may_create {
                return Err(inner.store.table.odd("the item of a refused update"));
            }
            match deduplication::job_of(inner, &message.queue, envelope, &message.id).await? {
                None => {
                    info!(message = %message.id, "a second message of one submit; dropped");
                    return Ok(Disposition::Dropped);
                }
                Some(job) if job != message.id => {
                    let message = Received { id: job, second: true, ..message.clone() };
                    return Box::pin(resolve(inner, request, &message)).await;
                }
                Some(_) => {}
            }
            if is_foreign(message, envelope) {
                inner.store_bodies(&[envelope]).await?;
            }
            may_create = true;
            continue;
        };
        match consider(inner, request, message, envelope, row, &mut tries).await? {
            Next::Disposition(disposition) => return Ok(disposition),
            Next::Claimed(row) => return ours(inner, request, message, envelope, body, *row).await,
            Next::ResolveAgain => {}
        }
    }
}

/// What becomes of a message that speaks for a job it did not make, unless it
/// proves that it may. Before anything is done in that job's name.
async fn unproved(inner: &Inner, message: &Received) -> Result<Option<Disposition>> {
    if !message.needs_proof() {
        return Ok(None);
    }
    let Some(row) = inner.store.table.get(message.id.as_str()).await?.and_then(Row::of) else {
        // The record of an ended job, which this was to put back to work, has expired;
        // or there was none yet, and this message brings its proof along.
        return Ok(message.says().redrive.is_some().then_some(Disposition::Dropped));
    };
    if message.is_proved_by(&row) {
        return Ok(misplaced(message, &row));
    }
    // A tombstone has forgotten what proves it, and nothing can be done to it.
    if row.status().is_some() {
        warn!(job_id = %message.id, "a message names this job and is not of it; it goes to the dead-letter queue");
        message
            .queue
            .dead_letter(&message.as_poison("it names a job and does not prove to be of it"))
            .await?;
    }
    Ok(Some(Disposition::Dropped))
}

/// How long a message is left alone that is in another queue than its job.
const MISPLACED: Duration = Duration::from_secs(300);

/// What becomes of a message whose job is one of another queue: somebody has
/// moved it, or works on a dead-letter queue. It stays for them to move back.
pub(crate) fn misplaced(message: &Received, row: &Row) -> Option<Disposition> {
    let queue = row.text(name::QUEUE).filter(|queue| *queue != message.queue.name)?;
    let here = &message.queue.name;
    warn!(job_id = %message.id, queue, here, "a message is in another queue than its job; move it back there");
    Some(Disposition::Hidden(MISPLACED))
}

/// The writes by which one message was to claim its job.
struct Tries {
    /// The time for each.
    limit: Duration,
    /// Their marks.
    marks: Vec<String>,
}

impl Tries {
    /// Makes one. Where no answer comes, the record may say that it was made: a
    /// claim that nobody knows of would cost an attempt and a lease.
    async fn write(&mut self, inner: &Inner, id: &JobId, write: Write) -> Result<Written> {
        self.marks.push(write.op.clone());
        let slow = || format!("table {} has not answered", inner.store.table.name());
        let error = match within(self.limit, slow, inner.store.table.write(id.as_str(), write)).await {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        let row = within(self.limit, slow, inner.store.table.get(id.as_str())).await;
        match row.ok().flatten().and_then(Row::of) {
            Some(row) if self.is_ours(&row) => Ok(Written::Done(row)),
            _ => Err(error),
        }
    }

    fn is_ours(&self, row: &Row) -> bool {
        row.is_held_by(row.attempt())
            && row.text(name::CLAIM).is_some_and(|mark| self.marks.iter().any(|ours| ours == mark))
    }
}

/// A message that some other program has sent.
pub(crate) fn is_foreign(message: &Received, envelope: &Envelope) -> bool {
    envelope.token == message.id.as_str()
}

/// The write that claims a job which waits for that, or which has no record yet.
fn first_claim(
    request: &ClaimRequest,
    message: &Received,
    envelope: &Envelope,
    may_create: bool,
    now: Timestamp,
) -> Write {
    // Other programs may have written a record without the moment.
    let waits = "(#queue = :queue AND #status = :waits AND (attribute_not_exists(#due_at) OR #due_at <= :now) \
                 AND #attempts_left > :none)";
    let max = i64::from(envelope.spec.max_attempts);
    let mut write = held(request, now).add(name::ATTEMPT, 0, 1).add(name::LEFT, max, -1);
    if may_create {
        write = noted(write)
            .keep(name::QUEUE, text(&message.queue.name))
            .keep(name::UNCOUNTED, number(0))
            .keep(name::MAX_ATTEMPTS, number(max))
            .when(&format!("(attribute_not_exists(#message_id) OR {waits} OR {NOTED})"));
        for (name, value) in described(envelope) {
            write = write.keep(name, value);
        }
    } else {
        write = write.when(waits);
    }
    if message.needs_proof() && !may_create {
        write = write.when("#proof = :proof").bind("proof", text(&envelope.proof));
    }
    let write = write.bind("queue", text(&message.queue.name));
    write.bind("waits", spelled(Status::Submitted)).bind("now", moment(now)).bind("none", number(0))
}

/// What every claim writes.
fn held(request: &ClaimRequest, now: Timestamp) -> Write {
    let write = Write::at(now);
    let mark = text(&write.op);
    write
        .set(name::CLAIM, mark)
        .set(name::STATUS, spelled(Status::InProgress))
        .set(name::DUE_AT, moment(now.after(request.lease)))
        .set(name::LEASE, number(request.lease.as_micros()))
        .set(name::STARTED_AT, moment(now))
        .set(name::WORKER, text(&request.worker))
        .remove(&[name::PROGRESS, name::RECEIPT, name::RECEIVED_AT])
        // Other programs may have given the record an end of its own.
        .remove(&[name::EXPIRES_AT, name::EXPIRATION])
}

enum Next {
    Disposition(Disposition),
    Claimed(Box<Row>),
    ResolveAgain,
}

/// What to do about a message whose job could not simply be claimed.
async fn consider(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
    envelope: &Arc<Envelope>,
    row: Row,
    tries: &mut Tries,
) -> Result<Next> {
    let now = inner.now();
    // A try whose answer was lost, and of which others have taken note already.
    if tries.is_ours(&row) {
        return Ok(Next::Claimed(Box::new(row)));
    }
    if row.is_over() {
        if redrive::is_wanted(&row, envelope, now) {
            redrive::revive(inner, &row, &envelope.token).await?;
            return Ok(Next::ResolveAgain);
        }
        if row.is_dead() && envelope.redrive.is_none() {
            // Whoever recorded it may not have come to this, or may not have been allowed to.
            inner.clone().copy_dead_soon(message.queue.clone(), row, envelope.clone());
        }
        return Ok(Next::Disposition(Disposition::Dropped));
    }
    if row.status() == Some(Status::Submitted) {
        let wait = row.due_at().map(|due| due.since(now)).unwrap_or_default();
        if wait.is_zero() && row.count(name::LEFT) == 0 {
            // No write of ours leaves a record like this; it must not keep a message alive for ever.
            let error = JobError::new(FailureKind::Handler, "the record had no attempts left");
            let queue = &message.queue.name;
            let write = inner.ended(&End::dead(error), queue, now, row.result_ttl());
            inner.store.table.write(message.id.as_str(), unchanged(write, &row)).await?;
        }
        if wait.is_zero() {
            return Ok(Next::ResolveAgain);
        }
        return Ok(Next::Disposition(Disposition::Hidden(wait)));
    }
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    if row.lapse(now).is_some() && inner.in_flight.give_notice(&key) {
        // It is in our own hands, and its heartbeats had no chance: the machine
        // slept, or the table was out of reach. They have it now.
        let lease = row.duration(name::LEASE).unwrap_or(request.lease);
        let notice = (lease / 12 * 5).max(LEAST);
        let disposition = hand_over(inner, message, &row, notice).await?;
        return Ok(disposition.map_or(Next::ResolveAgain, Next::Disposition));
    }
    match row.lapse(now) {
        None => elsewhere(inner, message, &row, now).await,
        Some(Transition::Wait(Wait { error, .. })) => {
            let left = row.count(name::LEFT);
            let write = remember(held(request, now), row.attempt_over(now, error.as_ref()).as_ref());
            let mut write = begun(write, &row);
            if let Some(error) = &error {
                write = with_error(write, error);
            }
            let write = write
                .set(name::ATTEMPT, number(row.attempt().saturating_add(1)))
                .set(name::LEFT, number(left - 1));
            Ok(match tries.write(inner, &message.id, unchanged(write, &row)).await? {
                Written::Done(row) => Next::Claimed(Box::new(row)),
                Written::Refused(_) => Next::ResolveAgain,
            })
        }
        Some(Transition::End(_)) => {
            let Some(row) = inner.store.taken(row).await?.filter(Row::is_over) else {
                return Ok(Next::ResolveAgain);
            };
            if row.is_dead() {
                inner.clone().copy_dead_soon(message.queue.clone(), row, envelope.clone());
            }
            Ok(Next::Disposition(Disposition::Dropped))
        }
    }
}

/// The job is in somebody's hands, and its message has shown again: it was
/// delivered twice, or has been held for as long as SQS lets one hold it. Its
/// holder gets the new receipt, and goes on.
async fn elsewhere(inner: &Shared, message: &Received, row: &Row, now: Timestamp) -> Result<Next> {
    let left = row.due_at().map(|end| end.since(now)).unwrap_or_default();
    if left <= SOON {
        tokio::time::sleep(left).await;
        return Ok(Next::ResolveAgain);
    }
    hand_over(inner, message, row, left)
        .await
        .map(|disposition| disposition.map_or(Next::ResolveAgain, Next::Disposition))
}

/// Leaves the receipt of a message to the holder of its job. `None` where the
/// record is another one by now.
pub(crate) async fn hand_over(
    inner: &Shared,
    message: &Received,
    row: &Row,
    left: Duration,
) -> Result<Option<Disposition>> {
    // The holder may have come by another one, and needs the receipt of that.
    if message.second {
        return Ok(Some(Disposition::Hidden(left)));
    }
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    if !inner.in_flight.adopt(&key, &message.receipt, message.received_at) {
        let write = Write::at(inner.now())
            .set(name::RECEIPT, text(&message.receipt))
            .set(name::RECEIVED_AT, moment(message.received_at));
        if let Written::Refused(_) =
            inner.store.table.write(message.id.as_str(), unchanged(write, row)).await?
        {
            return Ok(None);
        }
    }
    Ok(Some(Disposition::Held(left)))
}

/// The job is ours; if it has not come too late.
async fn ours(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
    envelope: &Arc<Envelope>,
    body: Json,
    row: Row,
) -> Result<Disposition> {
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    if let Some(end) = row.claimed_late() {
        let write = inner.ended(&end, &message.queue.name, inner.now(), row.result_ttl());
        let write = while_held(write.add(name::UNCOUNTED, 0, 1), &key);
        return Ok(match inner.store.table.write(key.id.as_str(), write).await? {
            Written::Done(_) => Disposition::Dropped,
            Written::Refused(_) => Disposition::Hidden(LEAST),
        });
    }
    let submitted_at = row.moment(name::SUBMITTED_AT).unwrap_or(envelope.submitted_at);
    let lease_until = row.due_at().unwrap_or(message.hidden_until);
    let mut claimed = Claimed::new(key, body, row.spec(), submitted_at, lease_until);
    claimed.counted = row.counted();
    claimed.checkpoint = inner.left_for(&row).await?;
    let checkpoint_at = row.text(name::CHECKPOINT_AT).and_then(Place::from_text);
    let mut hold = Hold {
        message: Some(message.clone()),
        queue: message.queue.clone(),
        envelope: envelope.clone(),
        row: row.without_documents(),
        lease_until,
        wanted_at: lease_until,
        noticed: false,
        in_doubt: Vec::new(),
        settling: false,
        update: Update::default(),
        checkpoint_at,
        followers: VecDeque::new(),
    };
    // SQS is about to move or delete it; so a new message takes over now, in
    // case that we do not live to see the end. A message of a group stays beside
    // it, since nothing that follows is handed out as long as it is there.
    let mut replaced = message.clone();
    if inner.limits(&message.queue).is_last_chance(message, inner.now()) {
        let limit = (request.lease / 6).max(LEAST);
        match within(limit, || "SQS has not answered".into(), inner.ensure_replaced(&mut replaced)).await {
            Ok(_) if message.queue.fifo && message.is_grouped() => hold.message = Some(replaced),
            Ok(_) => {
                inner.queues.delete(&message.queue, message.receipt.clone(), false);
                hold.message = None;
            }
            // The next heartbeat tries again.
            Err(error) => {
                warn!(%error, job_id = %message.id, "its message may end in the dead-letter queue");
            }
        }
    }
    Ok(Disposition::Claimed(Box::new((claimed, hold))))
}
