//! What goes into a call of the handler, and what it tells the engine.

use std::{any::Any, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    Context, Failure, FailureKind, JobError, Json, RetryPolicy,
    backend::Outcome,
    handler::{Kind, Predicate},
};

/// One job on its way into a call of the handler.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The engine's number for the claim.
    pub(super) ticket: u64,
    pub(super) body: Json,
    pub(super) context: Context,
}

/// What became of one job in the handler.
#[derive(Debug)]
pub(super) enum Verdict {
    Success(Json),
    /// With the delay that the handler asks for.
    Retry(JobError, Option<Duration>),
    Fail(JobError),
    Cancelled,
    /// The handler puts the job off for so long.
    Snooze(Duration, String),
    /// What the handler needs is not there.
    NotReady(String),
}

impl Verdict {
    /// Whether the job had been handed over: the handler, and what it needs,
    /// were there.
    pub(super) fn is_of_a_run(&self) -> bool {
        match self {
            Self::Success(_) | Self::Retry(..) | Self::Snooze(..) => true,
            Self::Fail(error) => error.kind != FailureKind::InvalidBody,
            Self::Cancelled | Self::NotReady(_) => false,
        }
    }

    /// What becomes of the job, after so many attempts that count.
    pub(super) fn outcome(self, retry_policy: &RetryPolicy, counted: u32) -> Outcome {
        match self {
            Self::Success(result) => Outcome::Success(result),
            Self::Retry(error, delay) => {
                let delay = delay.unwrap_or_else(|| retry_policy.delay(counted));
                Outcome::Retry { error, delay }
            }
            Self::Fail(error) => Outcome::Fail(error),
            Self::Cancelled => Outcome::Cancelled,
            Self::Snooze(after, reason) => Outcome::Release { after, reason: Some(reason), begun: true },
            Self::NotReady(reason) => {
                Outcome::Release { after: Duration::ZERO, reason: Some(reason), begun: false }
            }
        }
    }
}

pub(super) type Verdicts = Vec<(u64, Verdict)>;

/// What a call tells the engine.
#[derive(Debug)]
pub(super) struct CallReport {
    pub(super) call: u64,
    pub(super) verdicts: Verdicts,
    /// How the call ended; `None` while it goes on.
    pub(super) end: Option<CallEnd>,
}

#[derive(Debug)]
pub(super) enum CallEnd {
    Returned,
    Panicked(String),
    /// It was dropped before it returned: aborted by the engine, or its
    /// runtime is gone.
    Dropped,
}

/// What a call needs besides its jobs.
pub(super) struct CallContext {
    pub(super) call: u64,
    /// Errors that trying again does not help.
    pub(super) non_retryable: Arc<[Predicate]>,
    pub(super) reports: UnboundedSender<CallReport>,
}

impl CallContext {
    /// Hands in verdicts before the call ends.
    pub(super) fn hand_in(&self, verdicts: Verdicts) {
        // Nobody listens any more once the consumer has stopped.
        let _ = self.reports.send(CallReport { call: self.call, verdicts, end: None });
    }

    pub(super) fn judge<R: Serialize + 'static>(&self, answer: Result<R, impl Into<Failure>>) -> Verdict {
        judge(answer, &self.non_retryable)
    }
}

/// Tells the engine of the end of a call, whatever the end is.
pub(super) struct CallGuard {
    call: u64,
    reports: Option<UnboundedSender<CallReport>>,
}

impl CallGuard {
    pub(super) const fn new(call: u64, reports: UnboundedSender<CallReport>) -> Self {
        Self { call, reports: Some(reports) }
    }

    pub(super) fn end(mut self, verdicts: Verdicts, end: CallEnd) {
        self.send(verdicts, end);
    }

    pub(super) fn tell(mut self, result: Result<Verdicts, Box<dyn Any + Send>>) {
        match result {
            Ok(verdicts) => self.send(verdicts, CallEnd::Returned),
            Err(panic) => self.send(Vec::new(), CallEnd::Panicked(crate::panic::message(&*panic))),
        }
    }

    fn send(&mut self, verdicts: Verdicts, end: CallEnd) {
        if let Some(reports) = self.reports.take() {
            let _ = reports.send(CallReport { call: self.call, verdicts, end: Some(end) });
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.send(Vec::new(), CallEnd::Dropped);
    }
}

/// What an answer of the handler means.
pub(super) fn judge<R: Serialize + 'static>(
    answer: Result<R, impl Into<Failure>>,
    non_retryable: &[Predicate],
) -> Verdict {
    let failure = match answer.map_err(Into::into).and_then(encoded) {
        Ok(json) => return Verdict::Success(json),
        Err(failure) => failure,
    };
    let kind = match failure.kind {
        Kind::InvalidResult => FailureKind::InvalidResult,
        _ => FailureKind::Handler,
    };
    let error = JobError::new(kind, failure.message()).of_type(failure.type_name().map(str::to_owned));
    match failure.kind {
        Kind::Cancelled => Verdict::Cancelled,
        Kind::Snooze(after) => Verdict::Snooze(after, error.message),
        Kind::NotReady => Verdict::NotReady(error.message),
        Kind::Fatal | Kind::InvalidResult => Verdict::Fail(error),
        Kind::Retry(_) if failure.is_any(non_retryable) => Verdict::Fail(error),
        Kind::Retry(delay) => Verdict::Retry(error, delay),
    }
}

/// A result that is JSON already is taken as it is: it may be large.
fn encoded<R: Serialize + 'static>(result: R) -> Result<Json, Failure> {
    match (&result as &dyn Any).downcast_ref::<Json>() {
        Some(json) => Ok(json.clone()),
        None => Json::encode(&result).map_err(Failure::invalid_result),
    }
}

/// The same for each job of a call that answers for all of them at once.
pub(super) fn judge_all<R: Serialize + 'static, E: Into<Failure>>(
    tickets: Vec<u64>,
    answers: Vec<Result<R, E>>,
    call_context: &CallContext,
) -> Verdicts {
    if answers.len() != tickets.len() {
        let message =
            format!("the batch handler got {} jobs and gave {} answers", tickets.len(), answers.len());
        let error = JobError::new(FailureKind::Handler, message);
        return tickets.into_iter().map(|ticket| (ticket, Verdict::Retry(error.clone(), None))).collect();
    }
    tickets.into_iter().zip(answers).map(|(ticket, answer)| (ticket, call_context.judge(answer))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_does_not_fit_is_no_sign_that_what_the_handler_needs_is_there() {
        for (kind, is_sign) in [
            (FailureKind::InvalidBody, false),
            (FailureKind::Handler, true),
            (FailureKind::InvalidResult, true),
        ] {
            assert_eq!(Verdict::Fail(JobError::new(kind, "bad")).is_of_a_run(), is_sign, "{kind:?}");
        }
    }
}
