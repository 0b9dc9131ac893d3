//! What becomes of a job when an attempt of it ends.
//!
//! It is decided here, once, and every backend stores what that says: so a job
//! has the same life wherever it is kept. See docs/lifecycle.md for the whole.

use std::{borrow::Cow, time::Duration};

use crate::{
    ERROR_TTL, FailureKind, JobError, Json, Status,
    backend::{Capabilities, Outcome},
};

/// What the decision needs to know of a job that is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many of its attempts count, the present one included.
    pub counted: u32,
    /// How many may.
    pub max_attempts: u32,
    /// Whether somebody wants it cancelled.
    pub cancel_requested: bool,
    /// Its `start_within`, where that is over and no earlier attempt has begun: then
    /// it ends unless the present one has.
    pub late: Option<Duration>,
}

impl Terms {
    /// Whether the present attempt is the last one.
    pub const fn is_exhausted(&self) -> bool {
        self.counted >= self.max_attempts
    }
}

/// What becomes of the job.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// It waits for its next attempt.
    Wait(Wait),
    /// It is over.
    End(End),
}

/// How a job waits for its next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// For how long at least. `None`: it goes back to the place in the queue that it had.
    pub delay: Option<Duration>,
    /// Whether the attempt that is over counts.
    pub counts: bool,
    /// Whether it has begun: then the job need not start in time any more.
    pub begun: bool,
    /// Why there has to be another one. `None`: the record keeps the error that it has.
    pub error: Option<JobError>,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With this result.
    Success(Json),
    /// It failed for good.
    Error {
        /// Why.
        error: JobError,
        /// Whether that makes it a dead letter: its attempts are used up.
        dead: bool,
    },
    /// Somebody wanted that.
    Cancelled,
}

impl End {
    /// A failure that another attempt would not mend.
    pub const fn failed(error: JobError) -> Self {
        Self::Error { error, dead: false }
    }

    /// The failure of the last attempt.
    pub const fn dead(error: JobError) -> Self {
        Self::Error { error, dead: true }
    }

    /// Nobody has started it in time.
    pub fn expired(start_within: Duration) -> Self {
        Self::failed(JobError::expired(Some(start_within), None))
    }

    /// The status that it leads to.
    pub const fn status(&self) -> Status {
        match self {
            Self::Success(_) => Status::Success,
            Self::Error { .. } => Status::Error,
            Self::Cancelled => Status::Cancelled,
        }
    }

    /// The error for the record, where there is a new one.
    pub fn error(&self) -> Option<Cow<'_, JobError>> {
        match self {
            Self::Success(_) => None,
            Self::Error { error, .. } => Some(Cow::Borrowed(error)),
            Self::Cancelled => Some(Cow::Owned(JobError::cancelled())),
        }
    }

    /// Whether the job is a dead letter.
    pub const fn is_dead(&self) -> bool {
        matches!(self, Self::Error { dead: true, .. })
    }

    /// How long the record is kept: what went wrong for [`ERROR_TTL`] at least.
    pub fn kept(&self, result_ttl: Duration) -> Duration {
        if self.status() == Status::Error { result_ttl.max(ERROR_TTL) } else { result_ttl }
    }
}

/// A claim is settled. A result that cannot be stored fails the job, since the
/// work was done, and doing it again would bring the same.
pub fn settle(terms: &Terms, outcome: Outcome, limits: &Capabilities) -> Transition {
    match outcome {
        Outcome::Success(result) => Transition::End(match limits.check_payload("result", &result) {
            Ok(()) => End::Success(result),
            Err(error) => End::failed(JobError::new(FailureKind::InvalidResult, error.to_string())),
        }),
        Outcome::Fail(error) => Transition::End(End::failed(error)),
        Outcome::Cancelled => Transition::End(End::Cancelled),
        Outcome::Retry { .. } | Outcome::Release { .. } if terms.cancel_requested => {
            Transition::End(End::Cancelled)
        }
        Outcome::Retry { error, .. } if terms.is_exhausted() => Transition::End(End::dead(error)),
        Outcome::Retry { error, delay } => {
            Transition::Wait(Wait { delay: Some(delay), counts: true, begun: true, error: Some(error) })
        }
        Outcome::Release { reason, begun: false, .. } if terms.late.is_some() => {
            Transition::End(End::failed(JobError::expired(terms.late, reason.as_deref())))
        }
        Outcome::Release { after, reason, begun } => Transition::Wait(Wait {
            delay: (!after.is_zero()).then_some(after),
            counts: false,
            begun,
            error: reason.map(JobError::released),
        }),
    }
}

/// A job is taken from a holder that has been silent for too long: it has
/// crashed, was killed, or has lost the store. `spared`: another job of that
/// worker is to blame, so the attempt does not count.
pub fn lapse(terms: &Terms, worker: Option<&str>, spared: bool) -> Transition {
    let error = JobError::worker_lost(terms.counted, terms.max_attempts, worker);
    if terms.cancel_requested {
        Transition::End(End::Cancelled)
    } else if spared {
        Transition::Wait(Wait { delay: None, counts: false, begun: true, error: Some(error.spared()) })
    } else if terms.is_exhausted() {
        Transition::End(End::dead(error))
    } else {
        Transition::Wait(Wait { delay: None, counts: true, begun: true, error: Some(error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Terms = Terms { counted: 1, max_attempts: 2, cancel_requested: false, late: None };
    const LAST: Terms = Terms { counted: 2, ..FRESH };
    const UNWANTED: Terms = Terms { cancel_requested: true, ..FRESH };

    fn error() -> JobError {
        JobError::new(FailureKind::Handler, "no")
    }

    fn settled(terms: Terms, outcome: Outcome) -> Transition {
        settle(&terms, outcome, &Capabilities { max_payload: 4, ..Capabilities::ALL })
    }

    #[test]
    fn a_failure_is_tried_again_as_long_as_attempts_are_left_and_somebody_wants_it() {
        let retry = || Outcome::Retry { error: error(), delay: Duration::ZERO };
        let again = Wait { delay: Some(Duration::ZERO), counts: true, begun: true, error: Some(error()) };
        assert_eq!(settled(FRESH, retry()), Transition::Wait(again));
        assert_eq!(settled(LAST, retry()), Transition::End(End::dead(error())));
        assert_eq!(settled(UNWANTED, retry()), Transition::End(End::Cancelled));
    }

    #[test]
    fn what_is_given_back_costs_no_attempt() {
        let release = |seconds| Outcome::Release {
            after: Duration::from_secs(seconds),
            reason: Some("later".to_owned()),
            begun: false,
        };
        let place =
            Wait { delay: None, counts: false, begun: false, error: Some(JobError::released("later")) };
        let later = Wait { delay: Some(Duration::from_secs(5)), ..place.clone() };
        assert_eq!(settled(LAST, release(0)), Transition::Wait(place));
        assert_eq!(settled(LAST, release(5)), Transition::Wait(later));
        assert_eq!(settled(UNWANTED, release(0)), Transition::End(End::Cancelled));
    }

    #[test]
    fn what_is_given_back_after_its_time_to_start_is_over() {
        let limit = Duration::from_secs(30);
        let late = Terms { late: Some(limit), ..FRESH };
        assert_eq!(settled(late, Outcome::release()), Transition::End(End::expired(limit)));
        let outcome =
            Outcome::Release { after: limit, reason: Some("the model is loading".into()), begun: false };
        let Transition::End(End::Error { error: why, dead: false }) = settled(late, outcome) else {
            panic!()
        };
        assert_eq!(
            why.message,
            "not started within 30s of its submit (start_within); it was given back: the model is loading"
        );
        let retry = Outcome::Retry { error: error(), delay: Duration::ZERO };
        let begun = [
            settled(late, Outcome::interrupted()),
            settled(late, retry),
            lapse(&late, None, true),
            lapse(&late, None, false),
        ];
        for begun in begun {
            assert!(matches!(begun, Transition::Wait(Wait { begun: true, .. })), "{begun:?}");
        }
    }

    #[test]
    fn a_result_that_cannot_be_stored_ends_the_job() {
        let result = |text: &str| Outcome::Success(Json::from_stored(text));
        for terms in [FRESH, LAST, UNWANTED] {
            let Transition::End(End::Success(_)) = settled(terms, result("1234")) else { panic!() };
            let end = settled(terms, result("12345"));
            let Transition::End(End::Error { error, dead: false }) = end else { panic!("{end:?}") };
            assert_eq!(error.kind, FailureKind::InvalidResult);
        }
    }

    #[test]
    fn a_lost_attempt_counts_unless_another_job_is_to_blame() {
        let kinds = |terms, spared| match lapse(&terms, Some("w"), spared) {
            Transition::Wait(Wait { delay: None, counts, .. }) => ("waits", counts),
            Transition::End(End::Error { dead, .. }) => ("failed", dead),
            Transition::End(End::Cancelled) => ("cancelled", false),
            other => panic!("{other:?}"),
        };
        assert_eq!(kinds(FRESH, false), ("waits", true));
        assert_eq!(kinds(LAST, false), ("failed", true));
        assert_eq!(kinds(LAST, true), ("waits", false));
        assert_eq!(kinds(UNWANTED, true), ("cancelled", false));
    }

    #[test]
    fn what_went_wrong_is_kept_for_two_weeks_at_least() {
        let (short, long) = (Duration::from_secs(1), ERROR_TTL * 2);
        for (end, least) in [
            (End::Success(Json::from_stored("1")), short),
            (End::Cancelled, short),
            (End::failed(error()), ERROR_TTL),
            (End::dead(error()), ERROR_TTL),
        ] {
            assert_eq!(end.kept(short), least, "{end:?}");
            assert_eq!(end.kept(long), long, "{end:?}");
        }
    }
}
