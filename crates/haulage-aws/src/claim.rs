//! `claim`: from a message to a hold on its job.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use haulage::{
    Error, FailureKind, JobError, Json, Result, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    arbiter,
    body::Place,
    expr::{Write, moment, number, text},
    held::{Chain, Hold, Received, chains},
    inner::{Inner, Shared, noting_lapse, unchanged},
    item::{End, Lapse, Row, described, name},
    poll,
    queue::{MAX_BATCH, MAX_WAIT},
    redrive,
    table::{PARALLEL, Written},
    ticket::{Poison, Ticket},
};

/// How long a message is left alone whose job could not be looked at: twice as
/// long with each receive, as SQS moves it away after so many.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
const AFTER_FAILURES: Duration = Duration::from_secs(3600);
/// A lease that ends so soon is waited for, as SQS counts in whole seconds.
const SOON: Duration = Duration::from_secs(1);
/// How long before the end of its retention a message is replaced.
const RETENTION_LEFT: Duration = Duration::from_secs(24 * 3600);

/// What became of a message.
enum Fate {
    /// Its job is ours.
    Claimed(Box<(Claimed, Hold)>),
    /// Its job is over, or not this message's: it is deleted.
    Dropped,
    /// It shows again after so long.
    Hidden(Duration),
}

pub(crate) async fn claim(inner: Shared, request: ClaimRequest) -> Result<Vec<Claimed>> {
    inner.capabilities.check_claim(&request)?;
    let deadline = Instant::now() + request.wait;
    loop {
        if request.stop.is_cancelled() {
            return Ok(Vec::new());
        }
        // Where the task could not be protected, nothing is received in vain:
        // SQS counts receives.
        if inner.unprotected.load(Ordering::Relaxed) {
            protect(&inner).await?;
        }
        let mut found = inner.held.take_ready(request.max, inner.now());
        if found.is_empty() {
            let Some(received) = receive(&inner, &request, deadline).await? else { continue };
            found = chains(received, inner.queue.fifo);
        }
        if found.is_empty() {
            if let Ok(_starting) = inner.starting.try_write()
                && inner.held.is_idle()
            {
                inner.protection.release().await;
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            continue;
        }
        let _starting = inner.starting.read().await;
        // Before anything is started: a task that is stopped then has worked for nothing.
        if let Err(error) = protect(&inner).await {
            inner.show_again(found.into_iter().flatten().collect()).await;
            return Err(error);
        }
        let claimed = work_through(&inner, &request, found).await?;
        if !claimed.is_empty() {
            return Ok(claimed);
        }
    }
}

async fn protect(inner: &Inner) -> Result<()> {
    let protected = inner.protection.hold().await;
    inner.unprotected.store(protected.is_err(), Ordering::Relaxed);
    protected
}

/// Receives up to as many messages as are asked for. `None` where something
/// else is to be looked at first.
async fn receive(inner: &Shared, request: &ClaimRequest, deadline: Instant) -> Result<Option<Vec<Received>>> {
    let wait = deadline.saturating_duration_since(Instant::now()).min(MAX_WAIT);
    let mut watch = poll::watch(inner, request.max, request.lease, wait);
    let mut received = tokio::select! {
        answer = watch.answer() => answer?,
        () = request.stop.cancelled() => return Ok(None),
        () = inner.held.news.notified() => return Ok(None),
        // A poll that an earlier claim began may last longer than this one wants.
        () = tokio::time::sleep_until(deadline + SOON), if !wait.is_zero() => return Ok(Some(Vec::new())),
    };
    // There seems to be more: ask for it, at once and more and more boldly.
    let mut full = received.len() == MAX_BATCH;
    while full && received.len() < request.max {
        let left = request.max - received.len();
        let width = inner.fan_out.load(Ordering::Relaxed).clamp(1, left.div_ceil(MAX_BATCH).min(PARALLEL));
        let maxima = (0..width).map(|n| (left - n * MAX_BATCH).min(MAX_BATCH));
        let answers = join_all(maxima.map(|max| inner.receive(max, request.lease, Duration::ZERO))).await;
        for answer in answers {
            match answer {
                Ok(more) => {
                    full &= more.len() == MAX_BATCH;
                    received.extend(more);
                }
                // What is there already must not wait for this to mend.
                Err(error) => {
                    warn!(%error, "fewer messages than could be");
                    full = false;
                }
            }
        }
        inner.fan_out.store(if full { width * 2 } else { 1.max(width / 2) }, Ordering::Relaxed);
    }
    Ok(Some(received))
}

/// Tries the first message of each chain; the oldest job comes first in the answer.
async fn work_through(inner: &Shared, request: &ClaimRequest, found: Vec<Chain>) -> Result<Vec<Claimed>> {
    let outcomes: Vec<Result<Option<(Timestamp, Claimed)>>> = stream::iter(found)
        .map(|chain| work_chain(inner, request, chain))
        .buffer_unordered(2 * PARALLEL)
        .collect()
        .await;
    let mut claimed = Vec::new();
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            Ok(one) => claimed.extend(one),
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        if claimed.is_empty() {
            return Err(error);
        }
        warn!(%error, "some messages could not be looked at; they show again");
    }
    claimed.sort_by_key(|(due, claimed)| (*due, claimed.submitted_at));
    Ok(claimed.into_iter().map(|(_, claimed)| claimed).collect())
}

/// Goes along a chain until one of its jobs is ours, or has to wait.
async fn work_chain(
    inner: &Shared,
    request: &ClaimRequest,
    mut chain: Chain,
) -> Result<Option<(Timestamp, Claimed)>> {
    while let Some(message) = chain.pop_front() {
        match look(inner, request, &message).await {
            Ok(Fate::Claimed(claim)) => {
                let (claimed, mut hold) = *claim;
                let due = hold.ticket.due_at();
                hold.followers = chain;
                let late = message.hidden_until < claimed.lease_until.before(SOON);
                inner.held.insert(claimed.key.clone(), hold);
                if late {
                    // It has waited here behind another of its group.
                    inner.queue.hide(vec![(message.receipt.clone(), request.lease)]).await;
                }
                return Ok(Some((due, claimed)));
            }
            Ok(Fate::Dropped) => inner.deleter.delete(message.receipt, !chain.is_empty()),
            Ok(Fate::Hidden(time)) => {
                inner.queue.hide(vec![(message.receipt, time)]).await;
                inner.show_again(chain).await;
                return Ok(None);
            }
            Err(error) => {
                put_off(inner, message).await;
                inner.show_again(chain).await;
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// Leaves a message alone for a while, and sees to it that it is not lost.
async fn put_off(inner: &Inner, message: Received) {
    let doublings = u32::try_from(message.receives).unwrap_or(0).min(16);
    let time = AFTER_FAILURE.saturating_mul(1 << doublings).min(AFTER_FAILURES);
    let fate = match &message.ticket {
        Ok(ticket) => hidden(inner, &message, ticket, time).await,
        Err(_) => Ok(Fate::Hidden(time)),
    };
    match fate {
        Ok(Fate::Dropped) => inner.deleter.delete(message.receipt, true),
        _ => inner.queue.hide(vec![(message.receipt, time)]).await,
    }
}

/// Finds out what a message's job needs, and claims it if it can be.
async fn look(inner: &Shared, request: &ClaimRequest, message: &Received) -> Result<Fate> {
    let ticket = match &message.ticket {
        Ok(ticket) => ticket,
        Err(poison) if poison.is_newer => {
            let message = format!("message {} is left to others: {}", message.id, poison.reason);
            return Err(Error::Unavailable { message, source: None });
        }
        Err(poison) => return bury_poison(inner, message, poison).await,
    };
    let now = inner.now();
    if let Some(moment) = ticket.not_before.filter(|moment| *moment > now) {
        // A job that is over must not hold up its group meanwhile.
        let row = inner.table.get(message.id.as_str()).await?.and_then(Row::of);
        let over = row.is_some_and(|row| row.status().is_none_or(Status::is_terminal));
        return if over {
            Ok(Fate::Dropped)
        } else {
            hidden(inner, message, ticket, moment.since(now)).await
        };
    }
    // Fetched first: a bucket out of reach must not use up attempts.
    let body = match inner.body(&ticket.body).await {
        Ok(Some(body)) => body,
        Ok(None) => return no_body(inner, message, ticket).await,
        Err(error) => return Err(error),
    };
    let plain = ticket.id.is_none() && ticket.key.is_none() && !is_foreign(message, ticket);
    let mut may_create = inner.queue.fifo && plain;
    loop {
        let now = inner.now();
        let answer =
            inner.table.write(message.id.as_str(), first_claim(inner, request, ticket, may_create, now));
        let row = match answer.await? {
            Written::Done(row) => return Ok(ours(inner, message, ticket, body, &row).await),
            Written::Refused(row) => row,
        };
        let Some(row) = row else {
            // A copy is of a job whose record has been there before.
            if may_create || ticket.id.is_some() {
                return Ok(Fate::Dropped);
            }
            if !arbiter::is_the_job(inner, ticket, &message.id).await? {
                info!(message = %message.id, "a second message of one submit; dropped");
                return Ok(Fate::Dropped);
            }
            if is_foreign(message, ticket) {
                inner.store_bodies(&[ticket]).await?;
            }
            may_create = true;
            continue;
        };
        match consider(inner, request, message, ticket, row).await? {
            Next::Fate(fate) => return Ok(fate),
            Next::Claimed(row) => return Ok(ours(inner, message, ticket, body, &row).await),
            Next::LookAgain => {}
        }
    }
}

/// A message that some other program has sent.
fn is_foreign(message: &Received, ticket: &Ticket) -> bool {
    ticket.token == message.id.as_str()
}

/// The write that claims a job which waits for that, or which has no record yet.
fn first_claim(
    inner: &Inner,
    request: &ClaimRequest,
    ticket: &Ticket,
    may_create: bool,
    now: Timestamp,
) -> Write {
    let waits = "(#status = :waits AND #due_at <= :now AND #attempts_left > :none)";
    let max = i64::from(ticket.max_attempts);
    let mut write = held(request, now).add(name::ATTEMPT, 0, 1).add(name::LEFT, max, -1);
    if may_create {
        write = write
            .keep(name::QUEUE, text(&inner.queue.name))
            .keep(name::UNCOUNTED, number(0))
            .keep(name::MAX_ATTEMPTS, number(max))
            .when(&format!("(attribute_not_exists(#message_id) OR {waits})"));
        for (name, value) in described(ticket) {
            write = write.keep(name, value);
        }
    } else {
        write = write.when(waits);
    }
    write.bind("waits", text(Status::Submitted.as_str())).bind("now", moment(now)).bind("none", number(0))
}

/// What every claim writes.
fn held(request: &ClaimRequest, now: Timestamp) -> Write {
    Write::at(now)
        .set(name::STATUS, text(Status::InProgress.as_str()))
        .set(name::DUE_AT, moment(now.after(request.lease)))
        .set(name::STARTED_AT, moment(now))
        .set(name::WORKER, text(&request.worker))
        .remove(&[name::PROGRESS, name::RECEIPT, name::RECEIVED_AT])
}

enum Next {
    Fate(Fate),
    Claimed(Box<Row>),
    LookAgain,
}

/// What to do about a message whose job could not simply be claimed.
async fn consider(
    inner: &Shared,
    request: &ClaimRequest,
    message: &Received,
    ticket: &Arc<Ticket>,
    row: Row,
) -> Result<Next> {
    let now = inner.now();
    let over = |row: &Row| row.status().is_none_or(Status::is_terminal);
    if over(&row) {
        if redrive::is_wanted(&row, ticket, now) {
            redrive::revive(inner, &row).await?;
            return Ok(Next::LookAgain);
        }
        if row.flag(name::DEAD) && ticket.redrive.is_none() {
            // Whoever recorded it may not have come to this, or may not have been allowed to.
            inner.copy_dead(&row, ticket).await;
        }
        return Ok(Next::Fate(Fate::Dropped));
    }
    if row.status() == Some(Status::Submitted) {
        let wait = row.due_at().map(|due| due.since(now)).unwrap_or_default();
        if wait.is_zero() && row.count(name::LEFT) == 0 {
            // No write of ours leaves a record like this; it must not keep a message alive for ever.
            let error = JobError::new(FailureKind::Handler, "the record had no attempts left");
            let write = End::dead(error).write(now, row.result_ttl(), inner.queue.retention);
            inner.table.write(message.id.as_str(), unchanged(write, &row)).await?;
        }
        if wait.is_zero() {
            return Ok(Next::LookAgain);
        }
        return Ok(Next::Fate(hidden(inner, message, ticket, wait).await?));
    }
    match row.lapse(now) {
        None => elsewhere(inner, message, ticket, &row, now).await,
        Some(Lapse::Again) => {
            let left = row.count(name::LEFT);
            let write = noting_lapse(held(request, now), &row, Some(Lapse::Again))
                .set(name::ATTEMPT, number(row.attempt() + 1))
                .set(name::LEFT, number(left - 1));
            Ok(match inner.table.write(message.id.as_str(), unchanged(write, &row)).await? {
                Written::Done(row) => Next::Claimed(Box::new(row)),
                Written::Refused(_) => Next::LookAgain,
            })
        }
        Some(_) => {
            if let Some(row) = inner.reaped(row).await?
                && row.flag(name::DEAD)
            {
                inner.copy_dead(&row, ticket).await;
            }
            Ok(Next::LookAgain)
        }
    }
}

/// The job is in somebody's hands, and its message has shown again: it was
/// delivered twice, or has been held for as long as SQS lets one hold it. Its
/// holder gets the new receipt, and goes on.
async fn elsewhere(
    inner: &Shared,
    message: &Received,
    ticket: &Arc<Ticket>,
    row: &Row,
    now: Timestamp,
) -> Result<Next> {
    let left = row.due_at().map(|end| end.since(now)).unwrap_or_default();
    if left <= SOON {
        tokio::time::sleep(left).await;
        return Ok(Next::LookAgain);
    }
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    if !inner.held.adopt(&key, &message.receipt, message.received_at) {
        let write = Write::at(now)
            .set(name::RECEIPT, text(&message.receipt))
            .set(name::RECEIVED_AT, moment(message.received_at));
        if let Written::Refused(_) = inner.table.write(message.id.as_str(), unchanged(write, row)).await? {
            return Ok(Next::LookAgain);
        }
    }
    Ok(Next::Fate(hidden(inner, message, ticket, left).await?))
}

/// Hides a message, or replaces it where SQS would not keep it for so long.
async fn hidden(inner: &Inner, message: &Received, ticket: &Ticket, time: Duration) -> Result<Fate> {
    if needs_replacing(inner, message, time) && replace(inner, message, ticket).await? {
        return Ok(Fate::Dropped);
    }
    Ok(Fate::Hidden(time))
}

/// Whether SQS is about to move or delete the message on its own. Messages of a
/// group stay as they are: a new one would be the last of its group.
fn needs_replacing(inner: &Inner, message: &Received, time: Duration) -> bool {
    let grouped = message.ticket.as_ref().is_ok_and(|ticket| ticket.group.is_some());
    let last = inner.queue.max_receives.is_some_and(|max| message.receives >= max);
    let ends = message.sent_at.after(inner.queue.retention.saturating_sub(RETENTION_LEFT));
    !grouped
        && (last || inner.now().after(time) > ends && inner.now() > message.sent_at.after(RETENTION_LEFT))
}

/// Sends a new message for the same job.
async fn replace(inner: &Inner, message: &Received, ticket: &Ticket) -> Result<bool> {
    let copy = Ticket { id: Some(message.id.clone()), redrive: None, ..ticket.clone() };
    match inner.queue.send(&[copy], inner.now()).await.pop() {
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => Err(error),
        None => Ok(false),
    }
}

/// The job is ours.
async fn ours(inner: &Shared, message: &Received, ticket: &Arc<Ticket>, body: Json, row: &Row) -> Fate {
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    let record = row.record(inner.now());
    let submitted_at = row.moment(name::SUBMITTED_AT).unwrap_or(ticket.submitted_at);
    let lease_until = row.due_at().unwrap_or(message.hidden_until);
    let mut claimed = Claimed::new(key, body, submitted_at, lease_until);
    if let Some(record) = record {
        claimed.counted = record.counted();
        claimed.max_attempts = record.max_attempts;
        claimed.request_id = record.request_id;
        claimed.group = record.group;
        claimed.metadata = record.metadata;
    }
    claimed.timeout = row.duration(name::TIMEOUT);
    let mut hold = Hold {
        receipt: Some(message.receipt.clone()),
        received_at: message.received_at,
        ticket: ticket.clone(),
        result_ttl: row.result_ttl(),
        attempts_left: row.count(name::LEFT),
        followers: VecDeque::new(),
    };
    // At the next receive SQS would move it away; so a new message takes over
    // now, in case that we do not live to see the end.
    if needs_replacing(inner, message, Duration::ZERO) {
        match replace(inner, message, ticket).await {
            Ok(true) => {
                inner.deleter.delete(message.receipt.clone(), false);
                hold.receipt = None;
            }
            Ok(false) => {}
            Err(error) => warn!(%error, job = %message.id, "its message may end in the dead-letter queue"),
        }
    }
    Fate::Claimed(Box::new((claimed, hold)))
}

/// A message that is no job is recorded as an error, under its own id.
async fn bury_poison(inner: &Shared, message: &Received, poison: &Poison) -> Result<Fate> {
    let now = inner.now();
    let error = JobError::new(FailureKind::InvalidBody, poison.reason.clone());
    warn!(message = %message.id, error = error.message, "a message that is no job");
    let ticket = &poison.ticket;
    let write = End::dead(error)
        .write(now, ticket.result_ttl, inner.queue.retention)
        .set(name::QUEUE, text(&inner.queue.name))
        .set(name::SUBMITTED_AT, moment(ticket.submitted_at))
        .set(name::MAX_ATTEMPTS, number(ticket.max_attempts))
        .when("attribute_not_exists(#message_id)");
    if let Written::Done(_) = inner.table.write(message.id.as_str(), write).await?
        && let Err(error) = inner.queue.bury(poison).await
    {
        warn!(%error, message = %message.id, "it is gone; only its record is left");
    }
    Ok(Fate::Dropped)
}

/// The body's object is gone: the job cannot run, now or ever.
async fn no_body(inner: &Shared, message: &Received, ticket: &Ticket) -> Result<Fate> {
    let at = match &ticket.body.place {
        Place::Object(key) => format!("object {key}"),
        place => place.to_text().unwrap_or_default(),
    };
    let error = JobError::new(FailureKind::InvalidBody, format!("the body was in {at}, and is gone"));
    let write = End::failed(error)
        .write(inner.now(), ticket.result_ttl, inner.queue.retention)
        .when("#status = :waits")
        .bind("waits", text(Status::Submitted.as_str()));
    inner.table.write(message.id.as_str(), write).await?;
    Ok(Fate::Dropped)
}
