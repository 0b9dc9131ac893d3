//! The user's function, with its types taken off.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc::UnboundedSender;

use super::{call::Report, dispatch::Call};
use crate::{
    Context, Failure, FailureKind, Job, JobError, Json, RetryPolicy,
    backend::Outcome,
    handler::{Kind, Predicate},
    with_causes,
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

/// What a call needs besides its jobs.
pub(super) struct CallContext {
    pub(super) call: u64,
    /// Errors that trying again does not help.
    pub(super) non_retryable: Arc<[Predicate]>,
    pub(super) reports: UnboundedSender<Report>,
}

impl CallContext {
    /// Hands in verdicts before the call ends.
    pub(super) fn hand_in(&self, verdicts: Verdicts) {
        // Nobody listens any more once the consumer has stopped.
        let _ = self.reports.send(Report { call: self.call, verdicts, end: None });
    }

    fn judge<R: Serialize + 'static>(&self, answer: Result<R, impl Into<Failure>>) -> Verdict {
        judge(answer, &self.non_retryable)
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

/// A call is one invocation of the function, with one job or a batch of them.
#[derive(Clone)]
pub(super) enum Function {
    Async(Arc<dyn Fn(Vec<Delivery>, CallContext) -> BoxFuture<'static, Verdicts> + Send + Sync>),
    Blocking(Arc<dyn Fn(Vec<Delivery>, CallContext) -> Verdicts + Send + Sync>),
    Dispatched(Arc<dyn Fn(Call) + Send + Sync>),
}

impl Function {
    pub(super) fn single<T, R, E, F, Fut>(f: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Job<T>, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        let f = Arc::new(f);
        Self::Async(Arc::new(move |deliveries, call_context| {
            let f = f.clone();
            Box::pin(async move {
                let mut verdicts = Vec::with_capacity(deliveries.len());
                for delivery in deliveries {
                    let ticket = delivery.ticket;
                    let verdict = match decode(delivery) {
                        Ok((job, context)) => call_context.judge(f(job, context).await),
                        Err(verdict) => verdict,
                    };
                    verdicts.push((ticket, verdict));
                }
                verdicts
            })
        }))
    }

    pub(super) fn blocking<T, R, E, F>(f: F) -> Self
    where
        T: DeserializeOwned,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Job<T>, Context) -> Result<R, E> + Send + Sync + 'static,
    {
        Self::Blocking(Arc::new(move |deliveries, call_context| {
            let run = |delivery| match decode(delivery) {
                Ok((job, context)) => call_context.judge(f(job, context)),
                Err(verdict) => verdict,
            };
            deliveries.into_iter().map(|delivery| (delivery.ticket, run(delivery))).collect()
        }))
    }

    pub(super) fn batch<T, R, E, F, Fut>(f: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Vec<(Job<T>, Context)>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<Result<R, E>>> + Send + 'static,
    {
        let f = Arc::new(f);
        Self::Async(Arc::new(move |deliveries, call_context| {
            let f = f.clone();
            Box::pin(async move {
                let (tickets, jobs) = decode_all(deliveries, &call_context);
                if jobs.is_empty() {
                    return Vec::new();
                }
                // Bound before the match: an answer need not be `Send`, so none
                // may live across an await.
                let answers = f(jobs).await;
                judge_all(tickets, answers, &call_context)
            })
        }))
    }

    pub(super) fn blocking_batch<T, R, E, F>(f: F) -> Self
    where
        T: DeserializeOwned,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Vec<(Job<T>, Context)>) -> Vec<Result<R, E>> + Send + Sync + 'static,
    {
        Self::Blocking(Arc::new(move |deliveries, call_context| {
            let (tickets, jobs) = decode_all(deliveries, &call_context);
            if jobs.is_empty() {
                return Vec::new();
            }
            judge_all(tickets, f(jobs), &call_context)
        }))
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "async",
            Self::Blocking(_) => "blocking",
            Self::Dispatched(_) => "dispatched",
        })
    }
}

pub(super) fn decode<T: DeserializeOwned>(delivery: Delivery) -> Result<(Job<T>, Context), Verdict> {
    let Delivery { body, context, .. } = delivery;
    match body.decode() {
        Ok(body) => Ok((Job { id: context.job_id().clone(), body }, context)),
        Err(e) => {
            let message = format!("the body does not fit the handler: {}", with_causes(&e));
            Err(Verdict::Fail(JobError::new(FailureKind::InvalidBody, message)))
        }
    }
}

/// The jobs whose bodies fit; the others are answered here and now.
fn decode_all<T: DeserializeOwned>(
    deliveries: Vec<Delivery>,
    call_context: &CallContext,
) -> (Vec<u64>, Vec<(Job<T>, Context)>) {
    let mut unfit = Vec::new();
    let (mut tickets, mut jobs) = (Vec::new(), Vec::new());
    for delivery in deliveries {
        let ticket = delivery.ticket;
        match decode(delivery) {
            Ok(job) => {
                tickets.push(ticket);
                jobs.push(job);
            }
            Err(verdict) => unfit.push((ticket, verdict)),
        }
    }
    if !unfit.is_empty() {
        call_context.hand_in(unfit);
    }
    (tickets, jobs)
}

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
