//! From a message to a hold on its job, or to what else becomes of it.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc, time::Duration};

use haulage::{
    Error, FailureKind, JobError, JobId, Json, Result, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed, Update},
    lifecycle::{End, Transition, Wait},
};
use tracing::{info, warn};

use crate::{
    delivery::{
        deduplication,
        disposition::{Disposition, hand_over, misplaced},
        revival, unusable,
    },
    schema::{
        body::DocumentPlace,
        envelope::Envelope,
        fence::{NOTED, noted, unchanged, while_held},
        item::{Row, begun, described, remember, spelled, with_error},
        name,
        update::{Write, moment, number, text},
    },
    services::{
        table::Written,
        time_limit::{LEAST, SOON, within},
    },
    state::{
        Inner, Shared,
        in_flight::{Hold, Received},
    },
};

/// Finds out what a message's job needs, and claims it if it can be: which job it is for,
/// then its body, and then the job itself.
pub(crate) async fn resolve(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
) -> Result<Disposition> {
    let envelope = match meant(inner, message).await? {
        ControlFlow::Continue(envelope) => envelope,
        ControlFlow::Break(disposition) => return Ok(disposition),
    };
    // Fetched first: a bucket out of reach must not use up attempts.
    let limit = (request.lease / 3).max(LEAST);
    let body = match fetched(inner, message, envelope, limit).await? {
        ControlFlow::Continue(body) => body,
        ControlFlow::Break(disposition) => return Ok(disposition),
    };
    match claimed(inner, request, message, envelope, limit).await? {
        Claim::Ours(row) => ours(inner, request, message, envelope, body, *row).await,
        Claim::Not(disposition) => Ok(disposition),
        Claim::OfAnother(id) => {
            let message = Received { id, second: true, ..message.clone() };
            Box::pin(resolve(inner, request, &message)).await
        }
    }
}

/// What a message says of a job that it may speak for and that may be claimed now.
async fn meant<'a>(
    inner: &Shared,
    message: &'a Received,
) -> Result<ControlFlow<Disposition, &'a Arc<Envelope>>> {
    match &message.envelope {
        Err(poison) if poison.is_newer => {
            let message = format!("message {} is left to others: {}", message.id, poison.reason);
            return Err(Error::Unavailable { message, source: None });
        }
        Err(poison) if poison.is_nothing => return Ok(ControlFlow::Break(Disposition::Dropped)),
        _ => {}
    }
    if let Some(disposition) = unproved(inner, message).await? {
        return Ok(ControlFlow::Break(disposition));
    }
    let envelope = match &message.envelope {
        Ok(envelope) => envelope,
        Err(poison) => return unusable::dead_letter(inner, message, poison).await.map(ControlFlow::Break),
    };
    if let Some(to) = &envelope.bound_for {
        inner.send_on(message, envelope, to).await?;
        return Ok(ControlFlow::Break(Disposition::Dropped));
    }
    let now = inner.now();
    if let Some(moment) = envelope.not_before.filter(|moment| *moment > now) {
        // A job that is over must not hold up its group meanwhile.
        let row = inner.store.table.get(message.id.as_str()).await?.and_then(Row::of);
        let Some(row) = row.filter(Row::is_over) else {
            return Ok(ControlFlow::Break(Disposition::Hidden(moment.since(now))));
        };
        // Whoever ended it did not have its message.
        if row.has_failed() {
            inner.keep_body(&row, envelope).await?;
        }
        return Ok(ControlFlow::Break(Disposition::Dropped));
    }
    Ok(ControlFlow::Continue(envelope))
}

/// The body of its job; or why there is none, which the job's attempt then ends with.
async fn fetched(
    inner: &Shared,
    message: &Received,
    envelope: &Envelope,
    limit: Duration,
) -> Result<ControlFlow<Disposition, Result<Json, JobError>>> {
    let slow = || format!("the body of job {} has not come", message.id);
    let why = match within(limit, slow, inner.body(&envelope.body)).await {
        Ok(Some(body)) => return Ok(ControlFlow::Continue(Ok(body))),
        Ok(None) => None,
        Err(Error::InvalidJson { message, .. }) => Some(message),
        Err(error) => return Err(error),
    };
    let error = unusable::no_body(&envelope.body.place, why);
    Ok(match unusable::without_record(inner, message, envelope, &error).await? {
        Some(disposition) => ControlFlow::Break(disposition),
        None => ControlFlow::Continue(Err(error)),
    })
}

/// What came of the attempt to claim a message's job.
enum Claim {
    Ours(Box<Row>),
    Not(Disposition),
    /// The message is a second one of the submit that made this job.
    OfAnother(JobId),
}

async fn claimed(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
    envelope: &Arc<Envelope>,
    limit: Duration,
) -> Result<Claim> {
    let plain = envelope.id.is_none() && envelope.key.is_none() && !message.is_foreign();
    let mut may_create = message.queue.fifo && plain;
    let mut tries = Tries { limit, marks: Vec::new() };
    let mut round = 0;
    loop {
        inner.store.give_up_after(round, &message.id)?;
        round += 1;
        let now = inner.now();
        let write = first_claim(request, message, envelope, may_create, now);
        let row = match tries.write(inner, &message.id, None, write).await? {
            Written::Done(row) => return Ok(Claim::Ours(Box::new(row))),
            Written::Refused(row) => row,
        };
        if let Some(disposition) = row.as_ref().and_then(|row| misplaced(message, row)) {
            return Ok(Claim::Not(disposition));
        }
        let Some(row) = row.filter(|row| row.is_job() || row.is_over()) else {
            // The record of an ended job, which this was to put back to work, has expired.
            if envelope.redrive.is_some() {
                return Ok(Claim::Not(Disposition::Dropped));
            }
            if may_create {
                return Err(inner.store.table.odd("the item of a refused update"));
            }
            match deduplication::job_of(inner, &message.queue, envelope, &message.id).await? {
                None => {
                    info!(message = %message.id, "a second message of one submit; dropped");
                    return Ok(Claim::Not(Disposition::Dropped));
                }
                Some(job) if job != message.id => return Ok(Claim::OfAnother(job)),
                Some(_) => {}
            }
            if message.is_foreign() {
                inner.store_bodies(&[envelope]).await?;
            }
            may_create = true;
            continue;
        };
        match consider(inner, request, message, envelope, row, &mut tries).await? {
            Next::Disposition(disposition) => return Ok(Claim::Not(disposition)),
            Next::Claimed(row) => return Ok(Claim::Ours(row)),
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
    async fn write(
        &mut self,
        inner: &Inner,
        id: &JobId,
        before: Option<&Row>,
        write: Write,
    ) -> Result<Written> {
        self.marks.push(write.op.clone());
        let slow = || format!("table {} has not answered", inner.store.table.name());
        let made = async {
            match before {
                // A claim says, too, that the last one has come to nothing.
                Some(before) => inner.store.change(before, write, None).await,
                None => inner.store.table.write(id.as_str(), write).await,
            }
        };
        let error = match within(self.limit, slow, made).await {
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

/// The write that claims a job which waits for that, or which has no record yet.
fn first_claim(
    request: &ClaimRequest,
    message: &Received,
    envelope: &Envelope,
    may_create: bool,
    now: Timestamp,
) -> Write {
    // A record that has come since the look says itself whether the message may speak for it.
    let proves = if message.needs_proof() { " AND #proof = :proof" } else { "" };
    // Other programs may have written a record without the moment.
    let waits = format!(
        "(#queue = :queue AND #status = :waits AND (attribute_not_exists(#due_at) OR #due_at <= :now) \
         AND #attempts_left > :none{proves})"
    );
    let max = i64::from(envelope.spec.max_attempts);
    let mut write = claim_write(request, now).add(name::ATTEMPT, 0, 1).add(name::LEFT, max, -1);
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
        write = write.when(&waits);
    }
    if message.needs_proof() {
        write = write.bind("proof", text(&envelope.proof));
    }
    let write = write.bind("queue", text(&message.queue.name));
    write.bind("waits", spelled(Status::Submitted)).bind("now", moment(now)).bind("none", number(0))
}

/// What every claim writes.
fn claim_write(request: &ClaimRequest, now: Timestamp) -> Write {
    let write = Write::at(now);
    let mark = text(&write.op);
    write
        .set(name::CLAIM, mark)
        .set(name::STATUS, spelled(Status::InProgress))
        .set(name::DUE_AT, moment(now.after(request.lease)))
        .set(name::LEASE, number(request.lease.as_micros()))
        .set(name::STARTED_AT, moment(now))
        .set(name::WORKER, text(&request.worker))
        .remove(&[name::SLOT, name::PROGRESS, name::RECEIPT, name::RECEIVED_AT])
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
        if revival::is_wanted(&row, envelope, now) {
            revival::revive(inner, &row, &envelope.token).await?;
            return Ok(Next::ResolveAgain);
        }
        if row.has_failed() {
            inner.keep_body(&row, envelope).await?;
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
            inner.keep_body(&row, envelope).await?;
            inner.store.change(&row, unchanged(write, &row), None).await?;
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
            let write = remember(claim_write(request, now), row.attempt_over(now, error.as_ref()).as_ref());
            let mut write = begun(write, &row);
            if let Some(error) = &error {
                write = with_error(write, error);
            }
            let write = write
                .set(name::ATTEMPT, number(row.attempt().saturating_add(1)))
                .set(name::LEFT, number(left - 1));
            Ok(match tries.write(inner, &message.id, Some(&row), unchanged(write, &row)).await? {
                Written::Done(row) => Next::Claimed(Box::new(row)),
                Written::Refused(_) => Next::ResolveAgain,
            })
        }
        Some(Transition::End(_)) => {
            inner.keep_body(&row, envelope).await?;
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

/// The job is ours. It ends here where it has come too late, or has no body.
async fn ours(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
    envelope: &Arc<Envelope>,
    body: Result<Json, JobError>,
    row: Row,
) -> Result<Disposition> {
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    let (end, uncounted) = match (row.claimed_late(), body) {
        (Some(end), body) => {
            if body.is_ok() {
                inner.keep_body(&row, envelope).await?;
            }
            (end, 1)
        }
        (None, Err(error)) => (End::failed(error), 0),
        (None, Ok(body)) => return handed_out(inner, request, message, envelope, body, row, key).await,
    };
    let write = inner.ended(&end, &message.queue.name, inner.now(), row.result_ttl());
    let write = while_held(write.add(name::UNCOUNTED, 0, uncounted), &key);
    Ok(match inner.store.change(&row, write, None).await? {
        Written::Done(_) => Disposition::Dropped,
        Written::Refused(_) => Disposition::Hidden(LEAST),
    })
}

/// The job goes to its handler.
async fn handed_out(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
    envelope: &Arc<Envelope>,
    body: Json,
    row: Row,
    key: ClaimKey,
) -> Result<Disposition> {
    let submitted_at = row.moment(name::SUBMITTED_AT).unwrap_or(envelope.submitted_at);
    let lease_until = row.due_at().unwrap_or(message.hidden_until);
    let mut claimed = Claimed::new(key, body, row.spec(), submitted_at, lease_until);
    claimed.counted = row.counted();
    claimed.checkpoint = inner.left_for(&row).await?;
    let checkpoint_at = row.text(name::CHECKPOINT_AT).and_then(DocumentPlace::from_text);
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
