//! Which of several messages is the job.
//!
//! Two submits with one idempotency key, or a send that was repeated because
//! its answer was lost, may leave two messages in the queue for what is to be
//! one job. An item of the table names the one that counts; whoever comes first
//! writes it, and everybody goes by it.

use std::time::Duration;

use haulage::{Error, JobId, NewJob, Result, Timestamp};

use crate::{
    expr::{Write, moment, text},
    inner::Inner,
    item::{Row, name, seconds},
    table::{Written, pause},
    ticket::{Ticket, token_item},
};

/// The job that has the key.
const JOB: &str = "job_id";
/// The submit that is about to have it.
const TOKEN: &str = "token";
/// For how long that submit has it to itself.
const RESERVED_UNTIL: &str = "reserved_until";
/// From when on the key is free again.
const UNTIL: &str = "until_at";

/// How long a submit may take from its reservation to its message; one that
/// takes longer has died.
const RESERVATION: Duration = Duration::from_secs(30);

/// Who a key belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This submit.
    Me,
    /// An earlier one, with this job.
    Job(JobId),
}

fn job(row: &Row) -> Option<JobId> {
    row.text(JOB).map(JobId::from)
}

/// Reserves an idempotency key for the submit with this token, or finds the job
/// that has it. Waits for another submit that is in the middle of this.
pub(crate) async fn reserve(inner: &Inner, key: &str, token: &str) -> Result<Owner> {
    for round in 0.. {
        let now = inner.now();
        let until = now.after(NewJob::IDEMPOTENCY_WINDOW);
        let write = Write::at(now)
            .set(TOKEN, text(token))
            .set(RESERVED_UNTIL, moment(now.after(RESERVATION)))
            .set(UNTIL, moment(until))
            .set(name::EXPIRATION, seconds(until.after(inner.queue.retention)))
            .remove(&[JOB])
            .when(
                "(attribute_not_exists(#message_id) OR #until_at <= :now \
                 OR (attribute_not_exists(#job_id) AND #reserved_until <= :now))",
            )
            .bind("now", moment(now));
        match inner.table.write(key, write).await? {
            Written::Done(_) => return Ok(Owner::Me),
            Written::Refused(Some(row)) => {
                if let Some(job) = job(&row) {
                    return Ok(Owner::Job(job));
                }
            }
            Written::Refused(None) => {}
        }
        pause(round).await;
    }
    unreachable!("the loop ends by returning")
}

/// Gives a key back whose submit has come to nothing.
pub(crate) async fn free(inner: &Inner, key: &str, token: &str) {
    let write = Write::at(inner.now())
        .set(RESERVED_UNTIL, moment(Timestamp::from_micros(0)))
        .when("#token = :token AND attribute_not_exists(#job_id)")
        .bind("token", text(token));
    if let Err(error) = inner.table.write(key, write).await {
        tracing::debug!(%error, "the key is free again once its reservation is over");
    }
}

/// Says that this job is the one of the submit that reserved the key. If some
/// other submit has taken the key meanwhile, its job is the answer.
pub(crate) async fn confirm(inner: &Inner, key: &str, token: &str, id: &JobId) -> Result<Owner> {
    for round in 0..12 {
        if let Some(owner) = try_confirm(inner, key, token, id).await? {
            return Ok(owner);
        }
        pause(round).await;
    }
    Err(Error::Unavailable {
        message: "another submit with the same idempotency key does not end".into(),
        source: None,
    })
}

/// One try; `None` while another submit has the key and no job yet.
async fn try_confirm(inner: &Inner, key: &str, token: &str, id: &JobId) -> Result<Option<Owner>> {
    let write = Write::at(inner.now())
        .set(JOB, text(id.as_str()))
        .when("#token = :mine AND (attribute_not_exists(#job_id) OR #job_id = :job_id)")
        .bind("mine", text(token));
    Ok(match inner.table.write(key, write).await? {
        // If nothing is known of the key any more, nobody can object.
        Written::Done(_) | Written::Refused(None) => Some(Owner::Me),
        Written::Refused(Some(row)) => match job(&row) {
            Some(job) if job == *id => Some(Owner::Me),
            Some(job) => Some(Owner::Job(job)),
            None => None,
        },
    })
}

/// Notes which job the message with a token is, where more than one message may
/// have been sent with it; the first note counts.
pub(crate) async fn note(inner: &Inner, token: &str, id: &JobId) -> Result<JobId> {
    let now = inner.now();
    let write = Write::at(now)
        .keep(JOB, text(id.as_str()))
        .keep(name::EXPIRATION, seconds(now.after(inner.queue.retention).after(NewJob::IDEMPOTENCY_WINDOW)));
    match inner.table.write(&token_item(token), write).await? {
        Written::Done(row) => Ok(job(&row).unwrap_or_else(|| id.clone())),
        Written::Refused(_) => Ok(id.clone()),
    }
}

/// Whether a message that has no record is the job of its submit.
pub(crate) async fn is_the_job(inner: &Inner, ticket: &Ticket, id: &JobId) -> Result<bool> {
    if let Some(key) = &ticket.key {
        // While another submit has the key, that one's job will be the one.
        return Ok(try_confirm(inner, key, &ticket.token, id).await? == Some(Owner::Me));
    }
    if inner.queue.fifo || ticket.token == id.as_str() {
        return Ok(true);
    }
    Ok(note(inner, &ticket.token, id).await? == *id)
}
