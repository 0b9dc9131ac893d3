//! The contract between the job engine and what keeps the jobs.
//!
//! A backend is both queue and store, since only it knows in which order, or
//! in which transaction, the two change. It speaks in whole jobs and in
//! batches; everything convenient is built once, over it, by
//! [`Producer`](crate::Producer) and [`Consumer`](crate::Consumer).
//!
//! What every implementation promises is written at each method, and tested
//! by the conformance suite (feature `conformance`).

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Clock, Error, JobId, NewJob, QueueName, Record, Result, Status, seconds};

pub use crate::{
    capabilities::{Capabilities, Groups},
    claim::{ClaimKey, ClaimRequest, Claimed, Heartbeat, HeartbeatStatus, Outcome, Settlement, Update},
    delivery::{
        ClaimedDeliveries, ClaimedDelivery, Deliveries, Delivery, DeliveryOutcome, DeliveryQuery,
        DeliveryRequest, DeliverySettlement, Notice, RedriveDeliveries, Schedule,
    },
    finding::{Finding, Severity},
    holder::{Holder, holders},
    list_query::ListQuery,
    stats::{Backlog, QueueBacklog, QueueStats, Stats, WholeRead},
    unready::Unready,
};

/// A queue and store of jobs. Shared as `Arc<dyn Backend>`.
///
/// Dropping the future of a method may or may not leave its work done; the
/// one future that must be driven to its end is that of [`Backend::claim`],
/// which has a `stop` signal for the purpose.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The kind of backend, for messages: `"embedded"`, `"memory"`, …
    fn name(&self) -> &'static str;

    /// What this backend can and cannot do.
    fn capabilities(&self) -> Capabilities;

    /// The clock by which leases, delays and expiry are judged.
    fn clock(&self) -> &Clock;

    /// How this backend tells that something changed.
    fn signals(&self) -> Signals;

    /// Accepts jobs durably. The answers are in the order of the jobs, and an
    /// `Ok` is never taken back: such a job reaches a terminal status.
    ///
    /// Every job is checked before anything is stored. At most
    /// [`Capabilities::max_submit`] jobs a call. Where the backend can, all or
    /// none are accepted.
    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>>;

    /// Takes hold of up to [`ClaimRequest::max`] jobs that are due, the oldest of each
    /// queue first, waiting up to [`ClaimRequest::wait`] for the first. Returns early and empty
    /// when `stop` fires.
    ///
    /// The jobs come from the queues that are asked for, those that are paused left
    /// out, and which of these is looked at first is decided by [`Queues::draw`](crate::Queues::draw).
    ///
    /// Each claim has an attempt number that no earlier claim of its job had.
    /// No job is claimed while the lease of another claim on it is live, or
    /// while an earlier job of its group is not over. A job without a delay is
    /// claimable at once, wherever the clock has been or goes.
    ///
    /// A claim whose lease ran out is its holder's until its job is taken. That
    /// is for claims to do, one lease after its end at the latest: the job is
    /// claimed again where it has attempts left, and recorded as `ERROR` where it
    /// has none. A holder that could not heartbeat for a reason that kept others
    /// from it too (the machine slept, the disk was full, the clock was set) is
    /// given time to do so first.
    ///
    /// A request whose answer was lost can be made again: see [`ClaimRequest::again`].
    ///
    /// When a worker dies, any of its jobs may have been the cause. So a job whose
    /// attempt was lost is watched in the next, for as long as the lost one may
    /// have run, and five minutes at most: meanwhile the worker that has it is
    /// given no other such job. If that worker is lost as well, the attempts of
    /// its jobs that were never lost before do not count. All that holds where
    /// [`Capabilities::suspects`] is declared.
    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>>;

    /// Comes back when nothing is under way any more that claims have asked for:
    /// a queue elsewhere may hand jobs to a call that nobody waits for, and they
    /// would be hidden from others. What still comes is given back at once. A
    /// consumer that is idle and has stopped claiming calls it, and waits for no
    /// longer than its grace period.
    async fn drain(&self) -> Result<()> {
        Ok(())
    }

    /// Sets leases anew, which may make them shorter, and stores what the attempts say; tells
    /// which claims are lost and which jobs somebody wants cancelled. Answers in
    /// order.
    ///
    /// However late it comes, it revives a claim whose job nobody has taken.
    /// [`HeartbeatStatus::Lost`] is the one sign that a handler is to stop; a backend that
    /// is silent or fails says nothing about claims.
    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>>;

    /// Ends claims; each answer, in order, is the status that the job has now.
    ///
    /// A claim that is not current changes nothing and is answered with
    /// [`Error::LostClaim`]; one whose lease ran out is current as long as nobody
    /// has taken the job. A [`Outcome::Retry`] of a job whose attempts are
    /// used up is recorded as `ERROR`, a dead letter; one of a job that
    /// somebody wants cancelled as `CANCELLED`, and so is a [`Outcome::Release`]
    /// of it. A result over [`Capabilities::max_payload`] ends the job in
    /// `ERROR`, as [`FailureKind::InvalidResult`](crate::FailureKind::InvalidResult).
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>>;

    /// Settles, and then claims without waiting. Either both are done or neither:
    /// where a claim fails, its caller settles alone. For a backend that can do
    /// both for the cost of one, and declares [`Capabilities::joins_claims`]; what
    /// is here for others claims nothing where the claim fails.
    async fn settle_and_claim(
        &self,
        settlements: Vec<Settlement>,
        request: ClaimRequest,
    ) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
        let settled = self.settle(settlements).await?;
        // An error would say that nothing was settled.
        let claimed = self.claim(request.wait(Duration::ZERO), CancellationToken::new()).await;
        Ok((settled, claimed.unwrap_or_default()))
    }

    /// Looks records up; answers in order.
    ///
    /// This, as all that only looks, takes no job from a holder that may only be
    /// asleep. Once the holder has been silent for a second lease, a job that has
    /// attempts left is shown as `SUBMITTED`, as whoever claims finds it; one that
    /// has none, or was to be cancelled, is ended, so that nobody waits for it for
    /// ever.
    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>>;

    /// The same for who looks again and again: a record may be as it was a moment ago,
    /// where that costs less. What is over is over, and what is not there is not.
    async fn peek(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.get(ids, detail).await
    }

    /// Cancels jobs: one that waits at once, and one whose lease ran out; one
    /// that runs by asking its consumer. Answers in order.
    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>>;

    /// Records, newest first, without bodies and results.
    async fn list(&self, query: ListQuery) -> Result<Vec<Record>>;

    /// Puts ended jobs back to work with all their attempts, and tells which. With
    /// the dead letters comes, last, what the queue has put aside by itself, where
    /// it does such a thing.
    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>>;

    /// Deletes records for good, bodies and results included, and tells how many.
    async fn purge(&self, what: Purge) -> Result<u64>;

    /// Pauses a queue, or lets it go on, and tells whether that changed anything.
    ///
    /// No job of a paused queue is claimed, by nobody, until it goes on. All else
    /// goes on meanwhile: submits, what runs, cancels. Workers that wait learn at
    /// once that there are jobs for them. A queue can be paused before it has any.
    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool>;

    /// Counts by status, and the age of what waits. Where every record has to be read
    /// for that, [`whole_read`](Backend::whole_read) says what it takes.
    async fn stats(&self) -> Result<Stats>;

    /// What waits and what runs, at the least cost: for whoever watches. Where that is
    /// what the queue counts by itself, it may be a minute old.
    async fn backlog(&self) -> Result<Backlog> {
        self.stats().await.map(Backlog::from)
    }

    /// What it takes to read everything, as `list`, `stats` and a purge by status do
    /// where there is no index for them. `None` where that costs nothing to speak of.
    async fn whole_read(&self) -> Result<Option<WholeRead>> {
        Ok(None)
    }

    /// Whether queue and records can be reached, at the least cost: for the
    /// health checks of a worker. A look at an id that no job has is enough for
    /// a backend that keeps both in one place.
    async fn ping(&self) -> Result<()> {
        self.get(vec![JobId::from("ping")], Detail::Status).await.map(drop)
    }

    /// What is to be told to webhooks, where the backend keeps that: it declares
    /// [`Capabilities::webhooks`], then.
    fn deliveries(&self) -> Option<&dyn Deliveries> {
        None
    }

    /// Takes note that this worker is not ready for jobs, or is no longer so (`None`): it is ready, or has
    /// ended. That is for people who ask why jobs wait, and changes nothing else.
    ///
    /// It is forgotten [`Unready::KEPT`] after it was told last, so whoever is not ready tells it again and
    /// again. Of more than [`Unready::MOST`] workers, some are not known. A backend that does not declare
    /// [`Capabilities::keeps_unready`] takes note of nothing.
    async fn set_unready(&self, worker: String, unready: Option<Unready>) -> Result<()> {
        self.capabilities().check_unready(&worker, unready.as_ref())
    }

    /// The workers that are not ready, by name, as far as they have told.
    async fn unready_workers(&self) -> Result<BTreeMap<String, Unready>> {
        Ok(BTreeMap::new())
    }

    /// Checks the backend's health and set-up, one finding a check.
    async fn check(&self) -> Result<Vec<Finding>>;

    /// Lets go of what the backend has open, for this handle and all others of
    /// it. What was acknowledged stays; calls that come later fail. To be
    /// called when nothing uses the backend any more: not every one has
    /// something to close.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// How a backend tells of changes. `None` means that one has to ask.
///
/// A signal may come without cause; it comes for every change, also one made
/// by another process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Changes when a record may have become terminal.
    pub outcomes: Option<watch::Receiver<u64>>,
    /// Changes when a running job may have been cancelled.
    pub cancels: Option<watch::Receiver<u64>>,
    /// How many records a look at everything has read so far.
    pub scanned: Option<watch::Receiver<u64>>,
}

/// A job that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// Whether an earlier job with the same idempotency key was found instead.
    pub duplicate: bool,
}

/// How much of a record to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Neither body nor result.
    Status,
    /// With the result.
    Result,
    /// With result, body and checkpoint.
    Full,
}

/// The answer to a look-up by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // `Found` is what it almost always is
pub enum Lookup {
    /// The record.
    Found(Record),
    /// There was a record, and its time is over.
    Expired,
    /// No such job, or its expired record is gone already.
    Missing,
    /// There is no record, and one may still come: where the queue is kept apart
    /// from the records, a job may have been submitted whose record nobody has
    /// written yet. Who waits for it goes on waiting, for so long.
    Unrecorded {
        /// For how long after its submit the job's message may still come.
        within: Duration,
    },
    /// There is a record, and not all that was asked for can be had: a body or
    /// result is kept elsewhere.
    Incomplete {
        /// What is missing, why, and what to do.
        message: String,
        /// Asking again would not help.
        for_good: bool,
    },
}

impl Lookup {
    /// The record, or the error that names the id.
    ///
    /// # Errors
    ///
    /// [`Error::Expired`], [`Error::NotFound`]; [`Error::Unavailable`] or
    /// [`Error::Config`] where the record is not complete.
    pub fn into_record(self, id: &JobId) -> Result<Record> {
        match self {
            Self::Found(record) => Ok(record),
            Self::Expired => Err(Error::Expired(id.clone())),
            Self::Missing | Self::Unrecorded { .. } => Err(Error::NotFound(id.clone())),
            Self::Incomplete { message, for_good: true } => Err(Error::Config(message)),
            Self::Incomplete { message, for_good: false } => {
                Err(Error::Unavailable { message, source: None })
            }
        }
    }
}

/// The answer to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancellation {
    /// The job was waiting and is cancelled now.
    Done,
    /// The job is running; its consumer has been asked.
    Requested,
    /// The job was over already, with this status.
    TooLate(Status),
    /// No such job.
    Missing,
}

/// Which jobs to put back to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redrive {
    /// Dead letters, oldest first.
    Dead {
        /// Up to so many.
        limit: usize,
        /// Only those of this queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
        /// Only those that were submitted after this job. With the last one of the
        /// answer before, whoever wants all of them goes through them a part at a
        /// time, until an answer is empty, and meets none twice that dies again
        /// meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<JobId>,
    },
    /// These jobs, where they are in `ERROR` or `CANCELLED`.
    Jobs(Vec<JobId>),
    /// Jobs that wait, oldest first, and wait in vain: a queue that is kept apart
    /// from the records has lost their messages. Their attempts stay as they are.
    /// One of which there is no body left ends instead, as
    /// [`FailureKind::MessageLost`](crate::FailureKind::MessageLost).
    Lost {
        /// Up to so many.
        limit: usize,
    },
}

/// Which records to delete. Jobs that are `IN_PROGRESS` cannot be purged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purge {
    /// All of one status.
    Status {
        /// The status.
        status: Status,
        /// Only what got that status this long ago: for `SUBMITTED` since the
        /// submit, for the others since the end.
        #[serde(with = "seconds")]
        older_than: Duration,
        /// Only those of this queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
    },
    /// These jobs; those that are `IN_PROGRESS` or not there are left out.
    Jobs(Vec<JobId>),
}

impl Redrive {
    /// Up to so many dead letters, of all queues.
    pub const fn dead(limit: usize) -> Self {
        Self::Dead { limit, queue: None, after: None }
    }
}

impl Purge {
    /// All of this status that have had it for so long, of all queues.
    pub const fn status(status: Status, older_than: Duration) -> Self {
        Self::Status { status, older_than, queue: None }
    }

    /// Refuses what cannot be purged.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the status `IN_PROGRESS`.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Status { status: Status::InProgress, .. } => {
                Err(Error::Invalid("jobs in progress cannot be purged; cancel them first".into()))
            }
            _ => Ok(()),
        }
    }
}
