//! The user's function, with its types taken off.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    dispatch::Call,
    report::{CallContext, Delivery, Verdict, Verdicts, judge_all},
};
use crate::{Context, Failure, FailureKind, Job, JobError, with_causes};

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
