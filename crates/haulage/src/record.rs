//! What the store holds for a job.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    Attempt, Error, JobId, JobSpec, Json, QueueName, Timestamp, Webhook, json::present, seconds,
    spec::is_false,
};

/// Where a job is in its life.
///
/// `SUBMITTED` → `IN_PROGRESS` → `SUCCESS` | `ERROR` | `CANCELLED`; a retry
/// goes back to `SUBMITTED`. The last three are terminal: only an operator's
/// redrive leads out of `ERROR` and `CANCELLED`, and nothing out of `SUCCESS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Accepted, and waiting for a consumer: for the first time, or again.
    Submitted,
    /// Held by a consumer.
    InProgress,
    /// Done; the result is there.
    Success,
    /// Failed for good; the error is there.
    Error,
    /// Cancelled before it was done.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a job's life.
    pub const ALL: [Self; 5] =
        [Self::Submitted, Self::InProgress, Self::Success, Self::Error, Self::Cancelled];

    /// Whether the job is over.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Error | Self::Cancelled)
    }

    /// The name, spelled as everywhere: `SUBMITTED` and so on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::InProgress => "IN_PROGRESS",
            Self::Success => "SUCCESS",
            Self::Error => "ERROR",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    /// Takes any case, and `-` for `_`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text.to_ascii_uppercase().replace('-', "_");
        Self::ALL.into_iter().find(|s| s.as_str() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::Invalid(format!("unknown status {text:?}; the statuses are {names}"))
        })
    }
}

/// The caller's own labels on a job, kept with it and shown with its record.
pub type Metadata = BTreeMap<String, String>;

/// How far a running job says it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The part that is done, from 0 to 1.
    pub fraction: f64,
    /// What is being done, in the handler's words: the first [`Progress::MAX_MESSAGE_BYTES`] of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Progress {
    /// The longest message, in bytes: 4 KiB.
    pub const MAX_MESSAGE_BYTES: usize = 4096;

    /// The same with as much of its message as there may be.
    pub(crate) fn cut(mut self) -> Self {
        if let Some(message) = &mut self.message {
            message.truncate(message.floor_char_boundary(Self::MAX_MESSAGE_BYTES));
        }
        self
    }
}

/// What kind of failure an attempt ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler returned an error.
    Handler,
    /// The handler panicked.
    Panic,
    /// The attempt ran longer than its `timeout`.
    Timeout,
    /// The worker that ran the job stopped heartbeating: it crashed, was
    /// killed, or lost the database.
    WorkerLost,
    /// The body does not fit the type that the handler takes.
    InvalidBody,
    /// The result could not be stored: it has no JSON form, or is too large.
    InvalidResult,
    /// Somebody cancelled the job.
    Cancelled,
    /// The attempt was given back and does not count: the handler put the job
    /// off, or what it needs was out of reach.
    Released,
    /// Nobody had started the job within its `start_within`.
    Expired,
    /// The queue had deleted the job's message, as nobody received it in time,
    /// and there was no body left to make another one of.
    MessageLost,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Handler,
        Self::Panic,
        Self::Timeout,
        Self::WorkerLost,
        Self::InvalidBody,
        Self::InvalidResult,
        Self::Cancelled,
        Self::Released,
        Self::Expired,
        Self::MessageLost,
    ];

    /// The name in records: `handler`, `worker_lost` and so on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::WorkerLost => "worker_lost",
            Self::InvalidBody => "invalid_body",
            Self::InvalidResult => "invalid_result",
            Self::Cancelled => "cancelled",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::MessageLost => "message_lost",
        }
    }

    /// The kind with this name; an unknown name, from a later version, reads
    /// as [`FailureKind::Handler`].
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|k| k.as_str() == name).unwrap_or(Self::Handler)
    }
}

/// Why an attempt, or the whole job, failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The kind of failure.
    pub kind: FailureKind,
    /// What happened, in words. At most [`JobError::MAX_BYTES`] long.
    pub message: String,
    /// The name of the type of error that the handler gave, such as `ValueError` or
    /// `torch.OutOfMemoryError`, where it is known. At most [`JobError::MAX_TYPE_BYTES`] long.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
}

impl JobError {
    /// The longest message that a record keeps, in bytes: 64 KiB. The end of a
    /// longer one is kept, as that is where a traceback says what happened.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// The longest name of a type that a record keeps, in bytes; of a longer one the beginning.
    pub const MAX_TYPE_BYTES: usize = 256;

    /// An error of this kind; a long message is cut to its end.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let message = message.into();
        if message.len() <= Self::MAX_BYTES {
            Self { kind, message, type_name: None }
        } else {
            Self::cut_to(kind, &message, Self::MAX_BYTES)
        }
    }

    /// The same, of a type with this name, if it is known.
    #[must_use]
    pub fn of_type(mut self, name: Option<String>) -> Self {
        self.type_name = name.filter(|name| !name.is_empty()).map(|mut name| {
            name.truncate(name.floor_char_boundary(Self::MAX_TYPE_BYTES));
            name
        });
        self
    }

    /// The same with the end of its message, if that is longer than so many bytes.
    pub(crate) fn cut(&self, bytes: usize) -> Self {
        if self.message.len() <= bytes {
            self.clone()
        } else {
            Self { type_name: self.type_name.clone(), ..Self::cut_to(self.kind, &self.message, bytes) }
        }
    }

    fn cut_to(kind: FailureKind, message: &str, bytes: usize) -> Self {
        const MARK: &str = "[cut] … ";
        let mut start = message.len() - (bytes - MARK.len());
        while !message.is_char_boundary(start) {
            start += 1;
        }
        Self { kind, message: format!("{MARK}{}", &message[start..]), type_name: None }
    }

    /// The error of a job that was cancelled.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "cancelled")
    }

    /// The error of a job that nobody has started in time, and why it was given
    /// back last, if it was.
    pub(crate) fn expired(start_within: Option<Duration>, given_back: Option<&str>) -> Self {
        let limit = start_within.map(|limit| format!(" within {}", humantime::format_duration(limit)));
        let mut message = format!("not started{} of its submit (start_within)", limit.unwrap_or_default());
        if let Some(reason) = given_back {
            message = format!("{message}; it was given back: {reason}");
        }
        Self::new(FailureKind::Expired, message)
    }

    /// Why a job was given back, in its record.
    pub fn released(reason: impl Into<String>) -> Self {
        Self::new(FailureKind::Released, reason)
    }

    /// The error of a job whose lease ran out in the hands of its worker.
    pub fn worker_lost(counted: u32, max: u32, worker: Option<&str>) -> Self {
        let worker = worker.unwrap_or("unknown");
        let message = format!(
            "attempt {counted} of {max} was lost: worker {worker} stopped heartbeating and its lease ran out; \
             it crashed, was killed, or lost the database"
        );
        Self::new(FailureKind::WorkerLost, message)
    }

    /// The same, where another job is to blame.
    pub(crate) fn spared(mut self) -> Self {
        self.message
            .push_str("; a job that had been lost before was lost with it, so this attempt does not count");
        self
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What is known about a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The job's id.
    pub id: JobId,
    /// Where the job is in its life.
    pub status: Status,
    /// How many times it has been claimed; also the fencing token of the
    /// latest claim. 0 before the first.
    pub attempt: u32,
    /// How many of these attempts do not count towards `max_attempts`: those
    /// that were given back, and all before a redrive.
    pub uncounted: u32,
    /// What was fixed at submit; the request id is there in any case. In JSON its
    /// fields stand among the others, and its webhook is as it is [shown](Webhook::shown).
    #[serde(flatten, serialize_with = "with_defaults")]
    pub spec: JobSpec,
    /// When the submit was accepted.
    pub submitted_at: Timestamp,
    /// When the latest attempt was claimed.
    pub started_at: Option<Timestamp>,
    /// When the job became terminal.
    pub finished_at: Option<Timestamp>,
    /// While `SUBMITTED`, the moment from which a consumer may claim the job
    /// (`None` while it waits behind its group); while `IN_PROGRESS`, the end
    /// of the lease.
    pub due_at: Option<Timestamp>,
    /// From when on the record reads as expired. Set when the job ends.
    pub expires_at: Option<Timestamp>,
    /// The worker that holds the job, or held it last.
    pub worker: Option<String>,
    /// The slot of that worker in which it runs, or ran last, where its slots differ, as each has
    /// a GPU of its own: `slot 3, GPU 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// What the handler said of its progress.
    pub progress: Option<Progress>,
    /// What an attempt has left for the next one, where all of the record was asked
    /// for. A success ends it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Json>,
    /// Whether somebody asked for the running job to be cancelled.
    pub cancel_requested: bool,
    /// Whether the job is a dead letter: in `ERROR`, its attempts used up.
    pub dead: bool,
    /// The error of the latest attempt that failed, or the reason for which it
    /// was given back.
    pub error: Option<JobError>,
    /// The last attempts, up to [`Attempt::KEPT`], where all of the record was asked
    /// for; the latest comes last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// The result, where the job succeeded and the result was asked for.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// The body, where it was asked for; a job with `drop_body` has none after its success.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub body: Option<Json>,
}

/// A record shows options that nobody set, too.
fn with_defaults<S: Serializer>(spec: &JobSpec, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(skip_serializing_if = "QueueName::is_default")]
        queue: &'a QueueName,
        #[serde(skip_serializing_if = "Option::is_none")]
        task: Option<&'a str>,
        request_id: Option<&'a str>,
        group: Option<&'a str>,
        max_attempts: u32,
        #[serde(with = "seconds::option")]
        timeout: Option<Duration>,
        #[serde(with = "seconds::option", skip_serializing_if = "Option::is_none")]
        start_within: Option<Duration>,
        #[serde(with = "seconds")]
        result_ttl: Duration,
        #[serde(skip_serializing_if = "is_false")]
        drop_body: bool,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        metadata: &'a Metadata,
        /// Who may see a record need not know a token in the URL.
        #[serde(skip_serializing_if = "Option::is_none")]
        webhook: Option<Webhook>,
    }
    Shown {
        queue: &spec.queue,
        task: spec.task.as_deref(),
        request_id: spec.request_id.as_deref(),
        group: spec.group.as_deref(),
        max_attempts: spec.max_attempts,
        timeout: spec.timeout,
        start_within: spec.start_within,
        result_ttl: spec.result_ttl,
        drop_body: spec.drop_body,
        metadata: &spec.metadata,
        webhook: spec.webhook.as_ref().map(Webhook::shown),
    }
    .serialize(serializer)
}

impl Record {
    /// The record of a job that was just accepted; a backend fills in the rest.
    pub fn new(id: JobId, mut spec: JobSpec, submitted_at: Timestamp) -> Self {
        spec.request_id.get_or_insert_with(|| id.to_string());
        Self {
            id,
            status: Status::Submitted,
            attempt: 0,
            uncounted: 0,
            spec,
            submitted_at,
            started_at: None,
            finished_at: None,
            due_at: Some(submitted_at),
            expires_at: None,
            worker: None,
            slot: None,
            progress: None,
            checkpoint: None,
            cancel_requested: false,
            dead: false,
            error: None,
            attempts: Vec::new(),
            result: None,
            body: None,
        }
    }

    /// The result, or the error that says why there is none.
    ///
    /// # Errors
    ///
    /// [`Error::JobFailed`], [`Error::JobCancelled`]; [`Error::NotFinished`] while the job goes on;
    /// [`Error::Unavailable`] for a success whose result was not asked for.
    pub fn into_result(self) -> Result<Json, Error> {
        let Self { id, status, .. } = self;
        match (status, self.result) {
            (Status::Success, Some(result)) => Ok(result),
            (Status::Success, None) => {
                let message = format!("job {id} is SUCCESS, but its result did not come with the record");
                Err(Error::Unavailable { message, source: None })
            }
            (Status::Error, _) => {
                let unknown = || JobError::new(FailureKind::Handler, "no error was recorded");
                Err(Error::JobFailed { id, error: self.error.unwrap_or_else(unknown) })
            }
            (Status::Cancelled, _) => Err(Error::JobCancelled(id)),
            (Status::Submitted | Status::InProgress, _) => Err(Error::NotFinished { id, status }),
        }
    }

    /// The caller's correlation id; the job's id where the caller gave none.
    pub fn request_id(&self) -> &str {
        self.spec.request_id.as_deref().unwrap_or(self.id.as_str())
    }

    /// How many attempts so far count towards `max_attempts`.
    pub fn counted(&self) -> u32 {
        self.attempt.saturating_sub(self.uncounted)
    }

    /// Whether the attempts that count are used up.
    pub fn is_exhausted(&self) -> bool {
        self.counted() >= self.spec.max_attempts
    }

    /// The error of an attempt whose lease ran out.
    pub(crate) fn worker_lost(&self) -> JobError {
        JobError::worker_lost(self.counted(), self.spec.max_attempts, self.worker.as_deref())
    }

    /// Shows a job that its holder has abandoned as what it is: one that waits
    /// for its next attempt, if it has one.
    pub(crate) fn show_abandoned(&mut self) {
        if !self.cancel_requested && !self.is_exhausted() {
            self.status = Status::Submitted;
            self.error = Some(self.worker_lost());
        }
    }

    /// Whether the record has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|t| t <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_result_or_says_why_not() {
        let new = |status| {
            let spec = JobSpec::default();
            Record { status, ..Record::new(JobId::from("7"), spec, Timestamp::from_micros(0)) }
        };
        let done = Record { result: Some(Json::from_stored("null")), ..new(Status::Success) };
        assert_eq!(done.into_result().expect("a result"), Json::from_stored("null"));
        let failed = Record { error: Some(JobError::cancelled()), ..new(Status::Error) };
        let mut said: Vec<_> = Status::ALL.map(new).into();
        said.push(failed);
        let said: Vec<_> =
            said.into_iter().map(|record| record.into_result().expect_err("no result").to_string()).collect();
        assert_eq!(
            said,
            [
                "job 7 has no result yet: it is SUBMITTED",
                "job 7 has no result yet: it is IN_PROGRESS",
                "job 7 is SUCCESS, but its result did not come with the record",
                "job 7 failed: no error was recorded",
                "job 7 was cancelled",
                "job 7 failed: cancelled",
            ]
        );
    }
}
