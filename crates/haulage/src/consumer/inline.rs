//! Jobs without an engine: claimed, run and settled one after the other, in the caller's task.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    function::decode,
    report::{Delivery, judge},
};
use crate::{
    Backend, Context, Error, Failure, Job, QueueName, Record, Result, RetryPolicy, Status, Timestamp,
    backend::{ClaimRequest, Claimed, Detail, ListQuery, Settlement},
};

/// A job that has come back so often never ends.
const MOST_ATTEMPTS: u32 = 1000;

/// Longer than a handler moves the clock.
const LEASE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Runs jobs until none is left that waits: for its delay, too, which passes at once on a manual
/// clock. The records are of the jobs that ended, in that order.
pub(crate) async fn run_until_empty<T, R, E, Fut>(
    backend: &dyn Backend,
    handler: impl Fn(Job<T>, Context) -> Fut,
) -> Result<Vec<Record>>
where
    T: DeserializeOwned,
    R: Serialize + 'static,
    E: Into<Failure>,
    Fut: Future<Output = Result<R, E>>,
{
    let mut ended = Vec::new();
    loop {
        let Some((due_at, queue)) = next(backend).await? else { return Ok(ended) };
        let clock = backend.clock();
        let wait = due_at.since(clock.now());
        if clock.is_manual() {
            clock.advance(wait);
        } else {
            clock.sleep(wait).await;
        }
        let request = ClaimRequest::new("inline", LEASE).queues(queue, 0);
        for claimed in backend.claim(request, Default::default()).await? {
            let id = claimed.key.id.clone();
            if run(backend, claimed, &handler).await?.is_terminal() {
                let found = backend.get(vec![id.clone()], Detail::Full).await?.pop();
                // One that is not kept for any time has gone already.
                ended.extend(found.and_then(|found| found.into_record(&id).ok()));
            }
        }
    }
}

/// The job that is due next, of those that a claim may take.
async fn next(backend: &dyn Backend) -> Result<Option<(Timestamp, QueueName)>> {
    let paused = backend.stats().await?.queues;
    let waiting = ListQuery::new().status(Status::Submitted).limit(usize::MAX);
    let waiting = backend.list(waiting).await?.into_iter();
    let due = waiting.filter_map(|record| Some((record.due_at?, record.spec.queue)));
    Ok(due.filter(|(_, queue)| !paused.get(queue).is_some_and(|stats| stats.is_paused)).min())
}

/// Runs one job; brings what it is now.
async fn run<T, R, E, Fut>(
    backend: &dyn Backend,
    claimed: Claimed,
    handler: &impl Fn(Job<T>, Context) -> Fut,
) -> Result<Status>
where
    T: DeserializeOwned,
    R: Serialize + 'static,
    E: Into<Failure>,
    Fut: Future<Output = Result<R, E>>,
{
    let (key, counted) = (claimed.key.clone(), claimed.counted);
    if key.attempt > MOST_ATTEMPTS {
        let id = &key.id;
        return Err(Error::Invalid(format!(
            "job {id} has come back {MOST_ATTEMPTS} times and does not end: each time the handler put it off, \
             or was not ready"
        )));
    }
    let (context, body) = Context::new(claimed, backend.clock().now(), Default::default());
    let delivery = Delivery { ticket: 0, body, context: context.clone() };
    let verdict = match decode(delivery) {
        Ok((job, context)) => judge(handler(job, context).await, &[]),
        Err(verdict) => verdict,
    };
    let outcome = verdict.outcome(&RetryPolicy::default(), counted);
    let settlement = Settlement::new(key.clone(), outcome).update(context.last_update());
    match backend.settle(vec![settlement]).await?.pop() {
        Some(answer) => answer,
        None => Err(Error::Invalid(format!("no answer to the end of job {}", key.id))),
    }
}
