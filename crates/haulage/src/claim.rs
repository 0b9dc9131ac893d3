//! A claim: how a consumer asks for one, keeps it, and ends it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Error, JobError, JobId, JobSpec, Json, Progress, Queues, Result, Timestamp,
    json::present,
    seconds,
    spec::{check_size, is_false},
};

/// What a consumer asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// Who asks: shown in the record. Jobs that one worker holds are lost together.
    pub worker: String,
    /// From which queues.
    #[serde(default)]
    pub queues: Queues,
    /// How many jobs it has had so far, by which it is decided which queue comes
    /// first: see [`Queues::order`]. Any number will do to begin with.
    #[serde(default)]
    pub turn: u64,
    /// How many jobs at most; at least 1.
    pub max: usize,
    /// How long a claim lives without a heartbeat.
    #[serde(with = "seconds")]
    pub lease: Duration,
    /// How long to wait for the first job.
    #[serde(with = "seconds")]
    pub wait: Duration,
    /// Names this request, where it may have to be made again: see [`ClaimRequest::again`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// See [`ClaimRequest::again`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
}

impl ClaimRequest {
    /// For one job of the default queue, without waiting.
    pub fn new(worker: impl Into<String>, lease: Duration) -> Self {
        Self {
            worker: worker.into(),
            queues: Queues::default(),
            turn: 0,
            max: 1,
            lease,
            wait: Duration::ZERO,
            id: None,
            again: false,
        }
    }

    /// Under this id, which no other request has.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// A request with this id may have been made before, and its answer lost. Jobs that it brought, and
    /// that are still held by it, are the answer, with their leases anew, however many they are; only where
    /// there are none are others claimed. For backends that declare
    /// [`Capabilities::claims_again`](crate::backend::Capabilities::claims_again).
    #[must_use]
    pub const fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// From these queues, `turn` jobs after the first.
    #[must_use]
    pub fn queues(mut self, queues: impl Into<Queues>, turn: u64) -> Self {
        (self.queues, self.turn) = (queues.into(), turn);
        self
    }

    /// For up to so many jobs.
    #[must_use]
    pub const fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// With another lease.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Waiting so long for the first.
    #[must_use]
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// Names one claim: the job, and the attempt that fences it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimKey {
    /// The job.
    pub id: JobId,
    /// The attempt of this claim.
    pub attempt: u32,
}

/// A job in a consumer's hands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claimed {
    /// The claim.
    pub key: ClaimKey,
    /// How many attempts, this one included, count towards `max_attempts`.
    pub counted: u32,
    /// The body.
    pub body: Json,
    /// What was fixed at submit; the request id is there in any case.
    pub spec: Arc<JobSpec>,
    /// When the job was submitted.
    pub submitted_at: Timestamp,
    /// When the lease ends, unless a heartbeat extends it.
    pub lease_until: Timestamp,
    /// For how long it is watched, as an attempt of it was lost with its worker.
    /// Until that time is over, or the claim, this worker is given no other such job.
    #[serde(default, with = "seconds::option")]
    pub watched: Option<Duration>,
    /// What an earlier attempt has left for this one.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Json>,
}

impl Claimed {
    /// A claim of a job with these fields; a backend fills in the rest.
    pub fn new(
        key: ClaimKey,
        body: Json,
        mut spec: JobSpec,
        submitted_at: Timestamp,
        lease_until: Timestamp,
    ) -> Self {
        spec.request_id.get_or_insert_with(|| key.id.to_string());
        let spec = Arc::new(spec);
        Self {
            counted: key.attempt,
            key,
            body,
            spec,
            submitted_at,
            lease_until,
            watched: None,
            checkpoint: None,
        }
    }

    /// The caller's correlation id; the job's id where the caller gave none.
    pub fn request_id(&self) -> &str {
        self.spec.request_id.as_deref().unwrap_or(self.key.id.as_str())
    }
}

/// What a running attempt tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Update {
    /// How far it is, where there is news.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it leaves for the next attempt, where that is new. It takes the place of
    /// what was left before. At most [`Update::MAX_CHECKPOINT`] bytes.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Json>,
    /// In which slot of its worker it runs: see [`Record::slot`](crate::Record::slot).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

impl Update {
    /// The largest checkpoint, in bytes: 64 KiB.
    pub const MAX_CHECKPOINT: usize = 64 * 1024;

    /// With this checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn checkpoint(mut self, checkpoint: Json) -> Result<Self> {
        self.checkpoint = Some(checkpoint);
        self.check().map(|()| self)
    }

    /// With this progress, and what [`Progress::MAX_MESSAGE_BYTES`] leave of its message.
    #[must_use]
    pub fn progress(mut self, progress: impl Into<Option<Progress>>) -> Self {
        self.progress = progress.into().map(Progress::cut);
        self
    }

    /// Refuses what is larger than it may be.
    pub(crate) fn check(&self) -> Result<()> {
        let (size, limit) = (self.checkpoint.as_ref().map_or(0, Json::size), Self::MAX_CHECKPOINT);
        if size > limit {
            let hint = "keep it elsewhere, and leave a reference to it".into();
            return Err(Error::TooLarge { what: "checkpoint", size, limit, hint });
        }
        let message = self.progress.as_ref().and_then(|progress| progress.message.as_deref());
        check_size("the message of the progress", message.unwrap_or_default(), Progress::MAX_MESSAGE_BYTES)
    }

    /// With this slot.
    #[must_use]
    pub fn slot(mut self, slot: impl Into<Option<String>>) -> Self {
        self.slot = slot.into();
        self
    }

    /// What is still of use where the attempt has succeeded.
    #[must_use]
    pub fn of_success(&self) -> Self {
        Self { slot: self.slot.clone(), ..Self::default() }
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A sign of life for a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The claim.
    pub key: ClaimKey,
    /// How long it lives from now.
    #[serde(with = "seconds")]
    pub lease: Duration,
    /// What the attempt says.
    #[serde(default)]
    pub update: Update,
}

impl Heartbeat {
    /// One that says nothing more.
    pub fn new(key: ClaimKey, lease: Duration) -> Self {
        Self { key, lease, update: Update::default() }
    }

    /// One that brings this along.
    #[must_use]
    pub fn update(mut self, update: Update) -> Self {
        self.update = update;
        self
    }
}

/// What a heartbeat brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatStatus {
    /// The claim is held, until then.
    Held(Timestamp),
    /// The claim is held, and somebody wants the job cancelled.
    CancelRequested(Timestamp),
    /// The claim is gone: stop working on the job.
    Lost,
}

/// How a claim ends. A backend has to know all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The job is done.
    Success(Json),
    /// This attempt failed; try again after `delay`, if attempts are left.
    Retry {
        /// Why it failed.
        error: JobError,
        /// How long to wait before the next attempt.
        #[serde(with = "seconds")]
        delay: Duration,
    },
    /// The job failed, and trying again would not help.
    Fail(JobError),
    /// The handler stopped because the job was cancelled.
    Cancelled,
    /// Give the job back; the attempt does not count.
    Release {
        /// How long the job waits before it may be claimed again. With zero it
        /// goes back to the place in the queue that it had.
        #[serde(with = "seconds")]
        after: Duration,
        /// Why, for the record: it is kept there as its error, of the kind
        /// [`FailureKind::Released`](crate::FailureKind::Released). With `None`
        /// the record keeps the error that it has.
        reason: Option<String>,
        /// Whether the job was handed to its handler: then it has begun, as far as
        /// [`NewJob::start_within`](crate::NewJob::start_within) asks.
        #[serde(default)]
        begun: bool,
    },
}

impl Outcome {
    /// Give the job back to its place in the queue, without a word, as if nobody
    /// had claimed it.
    pub const fn release() -> Self {
        Self::Release { after: Duration::ZERO, reason: None, begun: false }
    }

    /// The same of a job that has run.
    pub const fn interrupted() -> Self {
        Self::Release { after: Duration::ZERO, reason: None, begun: true }
    }
}

/// The end of one claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Settlement {
    /// The claim.
    pub key: ClaimKey,
    /// How it ends.
    pub outcome: Outcome,
    /// The last that the attempt says; of a success, the slot alone is kept.
    #[serde(default)]
    pub update: Update,
}

impl Settlement {
    /// Ends this claim so.
    pub fn new(key: ClaimKey, outcome: Outcome) -> Self {
        Self { key, outcome, update: Update::default() }
    }

    /// The same, with this as its last word.
    #[must_use]
    pub fn update(mut self, update: Update) -> Self {
        self.update = update;
        self
    }
}
