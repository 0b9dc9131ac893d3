//! What a consumer tells about the jobs that pass through it.

use std::time::Duration;

use serde::Serialize;
use tracing::{debug, info, warn};

use crate::{
    FailureKind, JobError, JobId, Json, Status,
    backend::{Capabilities, ClaimKey, Outcome},
};

/// By whom the log says that it is told.
const TARGET: &str = "haulage::consumer";

/// A step in the life of a claim, told to the hook of
/// [`ConsumerBuilder::on_event`](crate::consumer::ConsumerBuilder::on_event).
///
/// Every claim begins with `Claimed`; `Started` follows when its handler is
/// called. It ends with one of the others, which is told once the backend has
/// recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The consumer has taken hold of the job.
    Claimed {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// The handler is called.
    Started {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
    },
    /// The job is done, its result recorded.
    Succeeded {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
        /// How long it took up a slot; see
        /// [`QueueSnapshot::job_seconds`](crate::metrics::QueueSnapshot::job_seconds).
        took: Duration,
    },
    /// The attempt failed; another will follow.
    Retried {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
        /// Why it failed.
        error: JobError,
        /// How long the job waits now.
        delay: Duration,
        /// How long it took up a slot.
        took: Duration,
    },
    /// The job failed for good.
    Failed {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
        /// Why it failed.
        error: JobError,
        /// How long it took up a slot.
        took: Duration,
    },
    /// The job ended because somebody cancelled it.
    Cancelled {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
        /// How long it took up a slot: zero where its handler had not been called.
        took: Duration,
    },
    /// The job was given back; the attempt does not count.
    Released {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
        /// How long the job waits now.
        after: Duration,
        /// Why, where there is more to say than that the consumer stops.
        reason: Option<String>,
    },
    /// The claim ended without this consumer: it was silent for so long that its
    /// job was taken from it.
    Lost {
        /// The job.
        id: JobId,
        /// The attempt.
        attempt: u32,
    },
}

impl Event {
    /// Whether a job has ended with it that was not given back.
    pub(crate) const fn is_end(&self) -> bool {
        !matches!(self, Self::Claimed { .. } | Self::Started { .. } | Self::Released { .. })
    }

    /// What a settled outcome came to: `status` is what the job has now, and
    /// `took` how long it took up a slot.
    pub(crate) fn settled(
        key: ClaimKey,
        outcome: Outcome,
        status: Status,
        took: Duration,
        limits: Capabilities,
    ) -> Self {
        let ClaimKey { id, attempt } = key;
        match (outcome, status) {
            (Outcome::Cancelled, _) | (_, Status::Cancelled) => Self::Cancelled { id, attempt, took },
            // The backend takes no result like that.
            (Outcome::Success(result), Status::Error) => {
                Self::Failed { id, attempt, error: why_not_stored(&result, limits), took }
            }
            (Outcome::Success(_), _) => Self::Succeeded { id, attempt, took },
            // The attempts are used up.
            (Outcome::Retry { error, .. }, Status::Error) => Self::Failed { id, attempt, error, took },
            (Outcome::Retry { error, delay }, _) => Self::Retried { id, attempt, error, delay, took },
            (Outcome::Fail(error), _) => Self::Failed { id, attempt, error, took },
            // It came back too late to be started again.
            (Outcome::Release { reason, .. }, Status::Error) => {
                Self::Failed { id, attempt, error: JobError::expired(None, reason.as_deref()), took }
            }
            (Outcome::Release { after, reason, .. }, _) => Self::Released { id, attempt, after, reason },
        }
    }

    /// The job.
    pub fn id(&self) -> &JobId {
        self.parts().0
    }

    /// The attempt.
    pub fn attempt(&self) -> u32 {
        self.parts().1
    }

    /// Failures and losses as warnings, the course of things for those who want it.
    pub(crate) fn log(&self, request_id: Option<&str>, slot: Option<&str>) {
        let (job_id, attempt) = (self.id(), self.attempt());
        // Where the caller gave none, it is the job's id.
        let request_id = request_id.filter(|id| *id != job_id.as_str());
        match self {
            Self::Claimed { .. } => debug!(target: TARGET, %job_id, request_id, attempt, "claimed"),
            Self::Started { .. } => debug!(target: TARGET, %job_id, request_id, attempt, "started"),
            Self::Succeeded { took, .. } => {
                debug!(target: TARGET, %job_id, request_id, attempt, slot, ?took, "succeeded");
            }
            Self::Retried { error, delay, took, .. } => {
                warn!(target: TARGET, %job_id, request_id, attempt, slot, %error, ?took, ?delay, "failed; to be tried again");
            }
            Self::Failed { error, took, .. } => {
                warn!(target: TARGET, %job_id, request_id, attempt, slot, %error, ?took, "failed");
            }
            Self::Cancelled { took, .. } => {
                info!(target: TARGET, %job_id, request_id, attempt, slot, ?took, "cancelled");
            }
            // The consumer says itself that it is not ready, once.
            Self::Released { after: Duration::ZERO, reason: Some(reason), .. } => {
                debug!(target: TARGET, %job_id, request_id, attempt, slot, reason, "given back");
            }
            Self::Released { after, reason, .. } => {
                let reason = reason.as_deref();
                info!(target: TARGET, %job_id, request_id, attempt, slot, ?after, reason, "given back");
            }
            Self::Lost { .. } => warn!(target: TARGET, %job_id, request_id, attempt, slot, "claim lost"),
        }
    }

    fn parts(&self) -> (&JobId, u32) {
        match self {
            Self::Claimed { id, attempt }
            | Self::Started { id, attempt }
            | Self::Succeeded { id, attempt, .. }
            | Self::Retried { id, attempt, .. }
            | Self::Failed { id, attempt, .. }
            | Self::Cancelled { id, attempt, .. }
            | Self::Released { id, attempt, .. }
            | Self::Lost { id, attempt } => (id, *attempt),
        }
    }
}

fn why_not_stored(result: &Json, limits: Capabilities) -> JobError {
    let checked = limits.check_payload("result", result);
    let message = checked.err().map(|e| e.to_string());
    let message = message.unwrap_or_else(|| "the result could not be stored; its record says why".into());
    JobError::new(FailureKind::InvalidResult, message)
}

/// How the claims of a consumer ended, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Attempts that ended their job in `SUCCESS`.
    pub succeeded: u64,
    /// Attempts that failed and were followed, or will be, by another.
    pub retried: u64,
    /// Attempts that ended their job in `ERROR`.
    pub failed: u64,
    /// Attempts that ended their job in `CANCELLED`.
    pub cancelled: u64,
    /// Claims that were given back.
    pub released: u64,
    /// Claims that were lost.
    pub lost: u64,
}

impl Summary {
    pub(crate) fn count(&mut self, event: &Event) {
        let counter = match event {
            Event::Claimed { .. } | Event::Started { .. } => return,
            Event::Succeeded { .. } => &mut self.succeeded,
            Event::Retried { .. } => &mut self.retried,
            Event::Failed { .. } => &mut self.failed,
            Event::Cancelled { .. } => &mut self.cancelled,
            Event::Released { .. } => &mut self.released,
            Event::Lost { .. } => &mut self.lost,
        };
        *counter += 1;
    }
}

impl std::iter::Sum for Summary {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            succeeded: sum.succeeded + one.succeeded,
            retried: sum.retried + one.retried,
            failed: sum.failed + one.failed,
            cancelled: sum.cancelled + one.cancelled,
            released: sum.released + one.released,
            lost: sum.lost + one.lost,
        })
    }
}
