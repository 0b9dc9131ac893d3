//! Messages whose job cannot run, now or ever: those that are no job, and those
//! whose body cannot be had.

use std::time::Duration;

use haulage::{Error, FailureKind, JobError, Result, lifecycle::End};
use tracing::warn;

use crate::{
    delivery::{deduplication, disposition::Disposition},
    schema::{
        body::DocumentPlace,
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

/// What is wrong with a job whose body is gone, or is not what was stored.
pub(crate) fn no_body(place: &DocumentPlace, why: Option<String>) -> JobError {
    let at = match place {
        DocumentPlace::Object(key) => format!("object {key}"),
        place => place.to_text().unwrap_or_default(),
    };
    let what = match why {
        Some(why) => format!("the body in {at} cannot be read: {why}"),
        None => format!("the body in {at} is gone"),
    };
    JobError::new(FailureKind::InvalidBody, what)
}

/// What becomes of a message without a body whose job has no record that could say so: no claim makes one, as
/// the job may be over and purged.
pub(crate) async fn without_record(
    inner: &Shared,
    message: &Received,
    envelope: &Envelope,
    error: &JobError,
) -> Result<Option<Disposition>> {
    if inner.store.table.get(message.id.as_str()).await?.and_then(Row::of).is_some() {
        return Ok(None);
    }
    // A second message of a submit whose first one was the job, and is over.
    match deduplication::job_of(inner, &message.queue, envelope, &message.id).await? {
        Some(job) if job == message.id => {}
        Some(job) => {
            let row = inner.store.table.get(job.as_str()).await?.and_then(Row::of);
            if row.is_none_or(|row| row.is_over()) {
                return Ok(Some(Disposition::Dropped));
            }
        }
        None => return Ok(Some(Disposition::Dropped)),
    }
    // Its submit may be about to write it; or it has ended, and expired.
    if envelope.redrive.is_some() || inner.now() > envelope.submitted_at.after(RECORDED) {
        warn!(job_id = %message.id, error = error.message, "a message of a job that has no record; dropped");
        return Ok(Some(Disposition::Dropped));
    }
    let message = format!("job {} has no record yet, and no body: {}", message.id, error.message);
    Err(Error::Unavailable { message, source: None })
}
