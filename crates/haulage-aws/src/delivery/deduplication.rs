//! Which of several messages is the job.
//!
//! Two submits with one idempotency key, or a send that was repeated because
//! its answer was lost, may leave two messages in the queue for what is to be
//! one job. An item of the table names the one that counts; whoever comes first
//! writes it, and everybody goes by it.

use std::time::Duration;

use haulage::{Error, JobId, NewJob, Result, Timestamp};

use crate::{
    schema::{
        body::Packed,
        envelope::{Envelope, hash, token_item},
        fence::unchanged,
        item::{Row, seconds},
        name,
        update::{Write, moment, text},
    },
    services::{
        queue::Queue,
        table::{Written, pause},
    },
    state::Inner,
};

/// The job that has the key.
const JOB: &str = "job_id";
/// The submit that is about to have it.
const TOKEN: &str = "token";
/// For how long that submit has it to itself.
const RESERVED_UNTIL: &str = "reserved_until";
/// From when on the key is free again, if its job is over then.
const UNTIL: &str = "until_at";
/// What identifies the body of the job that has the key.
const BODY_HASH: &str = "body_hash";

/// How long a submit may take from its reservation to its message, and more by
/// the MiB of its bodies, which are stored in between; one that takes longer
/// has died.
const RESERVATION: Duration = Duration::from_secs(30);
const RESERVATION_PER_MIB: Duration = Duration::from_secs(1);

/// Who a key belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This submit.
    Me,
    /// This submit, by another of its messages, which is this job.
    Named(JobId),
    /// An earlier one, with this job.
    Job(JobId),
    /// The same, and its body is another one, with this hash.
    Conflict(JobId, String),
}

/// A key, as a submit wants to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// As the caller has given it.
    pub(crate) key: String,
    window: Duration,
    /// The hash of its body.
    pub(crate) body: String,
}

impl Wanted {
    pub(crate) fn of(job: &NewJob) -> Option<Self> {
        let key = job.idempotency_key.clone()?;
        Some(Self { key, window: job.idempotency_window, body: hash(&job.body.compact()) })
    }
}

fn job(row: &Row) -> Option<JobId> {
    row.text(JOB).map(JobId::from)
}

/// Reserves an idempotency key for the submit with this token, or finds the job
/// that has it. `None` while another submit is in the middle of this.
pub(crate) async fn reserve(
    inner: &Inner,
    key: &str,
    wanted: &Wanted,
    token: &str,
    bytes: usize,
) -> Result<Option<Owner>> {
    let now = inner.now();
    let mibs = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
    let reserved = RESERVATION + RESERVATION_PER_MIB.saturating_mul(mibs);
    let until = now.after(wanted.window);
    let write = || {
        Write::at(now)
            .set(TOKEN, text(token))
            .set(RESERVED_UNTIL, moment(now.after(reserved)))
            .set(UNTIL, moment(until))
            .set(BODY_HASH, text(&wanted.body))
            .set(name::EXPIRATION, seconds(until.after(inner.store.retentions.longest())))
            .remove(&[JOB])
    };
    let free = write()
        .when(
            "(attribute_not_exists(#message_id) \
             OR (attribute_not_exists(#job_id) AND (attribute_not_exists(#reserved_until) \
             OR #reserved_until <= :now OR #token = :token)))",
        )
        .bind("now", moment(now));
    let row = match inner.store.table.write(key, free).await? {
        Written::Done(_) => return Ok(Some(Owner::Me)),
        Written::Refused(row) => row,
    };
    let Some((row, id)) = row.and_then(|row| job(&row).map(|id| (row, id))) else { return Ok(None) };
    if row.moment(UNTIL).is_none_or(|until| until <= now) && is_over(inner, &id).await? {
        return Ok(match inner.store.table.write(key, unchanged(write(), &row)).await? {
            Written::Done(_) => Some(Owner::Me),
            // Another submit has been faster.
            Written::Refused(_) => None,
        });
    }
    Ok(Some(match row.text(BODY_HASH) {
        Some(body) if body != wanted.body => Owner::Conflict(id, body.to_owned()),
        _ => Owner::Job(id),
    }))
}

async fn is_over(inner: &Inner, id: &JobId) -> Result<bool> {
    let status = inner.store.table.status(id.as_str()).await?;
    Ok(status.and_then(Row::of).is_none_or(|row| row.is_over()))
}

/// Gives a key back whose submit has come to nothing.
pub(crate) async fn free(inner: &Inner, key: &str, token: &str) {
    let write = Write::at(inner.now())
        .set(RESERVED_UNTIL, moment(Timestamp::from_micros(0)))
        .when("#token = :token AND attribute_not_exists(#job_id)")
        .bind("token", text(token));
    if let Err(error) = inner.store.table.write(key, write).await {
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
    Ok(match inner.store.table.write(key, write).await? {
        // If nothing is known of the key any more, nobody can object.
        Written::Done(_) | Written::Refused(None) => Some(Owner::Me),
        Written::Refused(Some(row)) => match job(&row) {
            Some(job) if job == *id => Some(Owner::Me),
            Some(job) if row.text(TOKEN) == Some(token) => Some(Owner::Named(job)),
            Some(job) => Some(Owner::Job(job)),
            None => None,
        },
    })
}

/// Notes which job the message with a token is, where more than one message may
/// have been sent with it; the first note counts.
pub(crate) async fn note(inner: &Inner, token: &str, id: &JobId) -> Result<JobId> {
    let now = inner.now();
    let write = Write::at(now).keep(JOB, text(id.as_str())).keep(
        name::EXPIRATION,
        seconds(now.after(inner.store.retentions.longest()).after(NewJob::DEFAULT_IDEMPOTENCY_WINDOW)),
    );
    match inner.store.table.write(&token_item(token), write).await? {
        Written::Done(row) => Ok(job(&row).unwrap_or_else(|| id.clone())),
        Written::Refused(_) => Ok(id.clone()),
    }
}

/// Whether it was not submitted, but sent by another program.
fn is_raw(envelope: &Envelope, id: &JobId) -> bool {
    envelope.token == id.as_str()
}

/// Whether the message of another program has the key that it asks for: nobody has reserved
/// it before the message was sent.
async fn has_key(inner: &Inner, envelope: &Envelope, key: &str, id: &JobId) -> Result<bool> {
    let body = match &envelope.body.packed {
        Some(Packed::Plain(json)) => hash(&json.compact()),
        _ => String::new(),
    };
    let wanted = Wanted { key: String::new(), window: NewJob::DEFAULT_IDEMPOTENCY_WINDOW, body };
    match reserve(inner, key, &wanted, &envelope.token, 0).await? {
        Some(Owner::Me) => Ok(true),
        Some(Owner::Named(job) | Owner::Job(job)) => Ok(job == *id),
        Some(Owner::Conflict(job, _)) => {
            tracing::warn!(%id, %job, "a message has the idempotency key of a job with another body; dropped");
            Ok(false)
        }
        None => Err(Error::Unavailable {
            message: format!("message {id} waits for another submit with its idempotency key"),
            source: None,
        }),
    }
}

/// Which job a message is for that has no record; `None` where it is to be none.
pub(crate) async fn job_of(
    inner: &Inner,
    queue: &Queue,
    envelope: &Envelope,
    id: &JobId,
) -> Result<Option<JobId>> {
    if let Some(key) = &envelope.key {
        if is_raw(envelope, id) && !has_key(inner, envelope, key, id).await? {
            return Ok(None);
        }
        return Ok(match try_confirm(inner, key, &envelope.token, id).await? {
            Some(Owner::Me) => Some(id.clone()),
            Some(Owner::Named(job)) => Some(job),
            // While another submit has the key, that one's job will be the one.
            Some(Owner::Job(_) | Owner::Conflict(..)) | None => None,
        });
    }
    if queue.fifo || is_raw(envelope, id) {
        return Ok(Some(id.clone()));
    }
    note(inner, &envelope.token, id).await.map(Some)
}
