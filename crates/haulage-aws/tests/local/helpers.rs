//! Short forms for what tests do with a backend.

use std::time::Duration;

use haulage::{
    Backend, Error, JobId, Json, NewJob, Record, Result, Status,
    backend::{ClaimKey, ClaimRequest, Claimed, Detail, Heartbeat, HeartbeatStatus, Outcome, Settlement},
};

/// A lease that no test outlives.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// How often the SDK makes a call that fails, unless told otherwise.
pub(crate) const TRIES: usize = 3;

pub(crate) fn job(body: u64) -> NewJob {
    NewJob::from_json(Json::from_stored(body.to_string()))
}

pub(crate) fn success() -> Outcome {
    Outcome::Success(Json::from_stored("1"))
}

pub(crate) fn retry() -> Outcome {
    let error = haulage::JobError::new(haulage::FailureKind::Handler, "not yet");
    Outcome::Retry { error, delay: Duration::ZERO }
}

pub(crate) fn request(lease: Duration, wait: Duration) -> ClaimRequest {
    ClaimRequest::new("tester", lease).max(10).wait(wait)
}

pub(crate) async fn submit(backend: &dyn Backend, job: NewJob) -> JobId {
    let mut answers = backend.submit(vec![job]).await.expect("submit");
    answers.remove(0).expect("accepted").id
}

/// What can be claimed within a few seconds.
pub(crate) async fn claim(backend: &dyn Backend, lease: Duration) -> Vec<Claimed> {
    backend.claim(request(lease, Duration::from_secs(4)), Default::default()).await.expect("claim")
}

/// Claims one job, which is there.
pub(crate) async fn take(backend: &dyn Backend, lease: Duration) -> Claimed {
    // It answers as soon as there is one; only a machine that is slow takes so long.
    let wait = Duration::from_secs(120);
    let mut claimed = backend.claim(request(lease, wait).max(1), Default::default()).await.expect("claim");
    claimed.pop().expect("a job to claim")
}

pub(crate) async fn settle(backend: &dyn Backend, key: &ClaimKey, outcome: Outcome) -> Result<Status> {
    backend.settle(vec![Settlement::new(key.clone(), outcome)]).await.expect("settle").remove(0)
}

pub(crate) async fn beat(backend: &dyn Backend, key: &ClaimKey, lease: Duration) -> HeartbeatStatus {
    let beat = Heartbeat::new(key.clone(), lease);
    backend.heartbeat(vec![beat]).await.expect("heartbeat")[0]
}

pub(crate) async fn record(backend: &dyn Backend, id: &JobId) -> Record {
    let lookup = backend.get(vec![id.clone()], Detail::Full).await.expect("get").remove(0);
    lookup.into_record(id).expect("a record")
}

/// Works off whatever can be claimed until nothing is left for some seconds.
pub(crate) async fn work_off(backend: &dyn Backend) -> Vec<JobId> {
    work_off_with(backend, LONG).await
}

pub(crate) async fn work_off_with(backend: &dyn Backend, lease: Duration) -> Vec<JobId> {
    let mut done = Vec::new();
    loop {
        let claimed = claim(backend, lease).await;
        if claimed.is_empty() {
            return done;
        }
        for claimed in claimed {
            match settle(backend, &claimed.key, success()).await {
                Ok(Status::Success) => done.push(claimed.key.id),
                Ok(_) | Err(Error::LostClaim { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
