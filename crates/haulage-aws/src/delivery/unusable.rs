//! Messages whose job cannot run, now or ever: those that are no job, and those
//! whose body cannot be had.

use std::time::Duration;

use haulage::{Error, FailureKind, JobError, Result, lifecycle::End};
use tracing::warn;

use crate::{
    delivery::{
        deduplication,
        disposition::{Disposition, hand_over, misplaced},
    },
    schema::{
        body::Place,
        envelope::{Envelope, Poison},
        fence::{NOTED, noted, unchanged},
        item::{Row, document},
        name,
        update::{Write, moment, number, text},
    },
    services::table::Written,
    state::{Inner, Shared, in_flight::Received},
};

/// A message that is no job goes to the dead-letter queue, and is recorded as an
/// error, under its own id.
pub(crate) async fn dead_letter(inner: &Inner, message: &Received, poison: &Poison) -> Result<Disposition> {
    let error = JobError::new(FailureKind::InvalidBody, poison.reason.clone());
    warn!(message = %message.id, error = error.message, "a message that is not a job");
    // First, as the record does not have what the message says.
    message.queue.dead_letter(poison).await?;
    let (envelope, queue) = (&poison.envelope, &message.queue.name);
    let mut before = Row([(name::ID.to_owned(), text(message.id.as_str()))].into());
    for round in 0.. {
        inner.store.give_up_after(round, &message.id)?;
        let write = ended(inner, &error, envelope, queue, &before);
        match inner.store.change(&before, write, None).await? {
            // A submit whose message was broken later has its record, and somebody may be told of its end; another
            // program may have noted one.
            Written::Refused(Some(row))
                if row.status().is_some() && (before.status().is_none() || row.op() != before.op()) =>
            {
                before = row;
            }
            Written::Done(_) | Written::Refused(_) => break,
        }
    }
    Ok(Disposition::Dropped)
}

/// The record of a message that is no job; or of a job that waits, and whose message it was.
fn ended(inner: &Inner, error: &JobError, envelope: &Envelope, queue: &str, before: &Row) -> Write {
    let mut write = inner
        .ended(&End::dead(error.clone()), queue, inner.now(), envelope.spec.result_ttl)
        .set(name::QUEUE, text(queue))
        .set(name::SUBMITTED_AT, moment(envelope.submitted_at))
        .set(name::MAX_ATTEMPTS, number(envelope.spec.max_attempts));
    // A state of Step Functions may wait for it.
    if let Some(token) = envelope.spec.metadata.get(name::TASK_TOKEN) {
        write = write.set(name::TASK_TOKEN, text(token));
    }
    // So may whoever its webhook tells.
    if envelope.spec.webhook.is_some()
        && let Some(options) = document(&envelope.spec)
    {
        write = write.keep(name::SPEC, text(options));
    }
    match before.status() {
        None => write.when("attribute_not_exists(#message_id)"),
        Some(_) => unchanged(noted(write.when(&format!("(#status = :waits OR {NOTED})"))), before),
    }
}

/// A submit has written its record after so long, or never will.
const RECORDED: Duration = Duration::from_secs(3600);

/// The body of a job is gone, or is not what was stored.
pub(crate) async fn no_body(
    inner: &Shared,
    message: &Received,
    envelope: &Envelope,
    why: &str,
) -> Result<Disposition> {
    let at = match &envelope.body.place {
        Place::Object(key) => format!("object {key}"),
        place => place.to_text().unwrap_or_default(),
    };
    let error = JobError::new(FailureKind::InvalidBody, format!("the body in {at}: {why}"));
    let mut round = 0;
    loop {
        inner.store.give_up_after(round, &message.id)?;
        round += 1;
        let now = inner.now();
        let Some(row) = inner.store.table.get(message.id.as_str()).await?.and_then(Row::of) else {
            // A second message of a submit whose first one was the job, and is over.
            match deduplication::job_of(inner, &message.queue, envelope, &message.id).await? {
                Some(job) if job == message.id => {}
                Some(job) => {
                    let row = inner.store.table.get(job.as_str()).await?.and_then(Row::of);
                    if row.is_none_or(|row| row.is_over()) {
                        return Ok(Disposition::Dropped);
                    }
                }
                None => return Ok(Disposition::Dropped),
            }
            // Its submit may be about to write it; or it has ended, and expired.
            if envelope.redrive.is_some() || now > envelope.submitted_at.after(RECORDED) {
                warn!(job_id = %message.id, error = error.message, "a message of a job that has no record; dropped");
                return Ok(Disposition::Dropped);
            }
            let message = format!("job {} has no record yet, and no body: {}", message.id, error.message);
            return Err(Error::Unavailable { message, source: None });
        };
        if row.is_over() {
            return Ok(Disposition::Dropped);
        }
        if let Some(disposition) = misplaced(message, &row) {
            return Ok(disposition);
        }
        // Whoever runs it has had the body.
        if row.is_leased(now) {
            let left = row.due_at().map(|end| end.since(now)).unwrap_or_default();
            match hand_over(inner, message, &row, left).await? {
                Some(disposition) => return Ok(disposition),
                None => continue,
            }
        }
        let queue = &message.queue.name;
        let end = inner.ended(&End::failed(error.clone()), queue, now, row.result_ttl());
        let end = end.keep(name::QUEUE, text(queue));
        if let Written::Done(_) = inner.store.change(&row, unchanged(end, &row), None).await? {
            return Ok(Disposition::Dropped);
        }
    }
}
