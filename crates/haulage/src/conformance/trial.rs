//! One backend during one case, and the short forms in which cases speak.

use std::{panic::Location, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Subject;
use crate::{
    Backend, Error, FailureKind, JobError, JobId, Json, NewJob, Record, Result, Status, Timestamp,
    backend::{
        ClaimKey, ClaimRequest, Claimed, Detail, Heartbeat, HeartbeatStatus, Lookup, Outcome, Purge, Redrive,
        Settlement, Stats,
    },
};

/// How long a lease is where a case does not let it run out, in ticks.
pub(super) const LONG: u32 = 100;

/// How long the lease is with which [`Trial::end`] ends a job, in ticks.
pub(super) const END_LEASE: u32 = 20;

/// How long, in real time, something that should not happen is given to happen.
const GLIMPSE: Duration = Duration::from_millis(20);

/// One backend during one case.
pub(super) struct Trial<'a> {
    subject: &'a dyn Subject,
    pub(super) backend: Arc<dyn Backend>,
}

/// A job with this number as its body.
pub(super) fn job(body: u64) -> NewJob {
    NewJob::from_json(json(&body.to_string()))
}

/// So many jobs, numbered from 0.
pub(super) fn jobs(count: u64) -> Vec<NewJob> {
    (0..count).map(job).collect()
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text).expect("the suite's own JSON")
}

pub(super) fn success(result: u64) -> Outcome {
    Outcome::Success(json(&result.to_string()))
}

pub(super) fn error(message: &str) -> JobError {
    JobError::new(FailureKind::Handler, message)
}

pub(super) fn fail(message: &str) -> Outcome {
    Outcome::Fail(error(message))
}

/// A retry without delay.
pub(super) fn retry(message: &str) -> Outcome {
    Outcome::Retry { error: error(message), delay: Duration::ZERO }
}

/// One outcome of each kind.
pub(super) fn every_outcome() -> [Outcome; 5] {
    [success(666), retry("stale"), fail("stale"), Outcome::Cancelled, Outcome::release()]
}

/// The ways in which a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialEnd {
    Success,
    Failed,
    Dead,
    Cancelled,
}

impl TrialEnd {
    pub(super) const ALL: [Self; 4] = [Self::Success, Self::Failed, Self::Dead, Self::Cancelled];

    pub(super) fn status(self) -> Status {
        match self {
            Self::Success => Status::Success,
            Self::Failed | Self::Dead => Status::Error,
            Self::Cancelled => Status::Cancelled,
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Success => success(7),
            Self::Failed => fail("no use"),
            Self::Dead => retry("not yet"),
            Self::Cancelled => Outcome::Cancelled,
        }
    }
}

impl<'a> Trial<'a> {
    pub(super) fn new(subject: &'a dyn Subject, backend: Arc<dyn Backend>) -> Self {
        Self { subject, backend }
    }

    pub(super) fn ticks(&self, count: u32) -> Duration {
        self.subject.tick() * count
    }

    pub(super) fn now(&self) -> Timestamp {
        self.backend.clock().now()
    }

    /// Lets so many ticks pass.
    pub(super) async fn pass(&self, ticks: u32) {
        self.pass_time(self.ticks(ticks)).await;
    }

    pub(super) async fn pass_time(&self, time: Duration) {
        self.subject.pass(&*self.backend, time).await;
    }

    /// Says that `actual` is `delay` after a moment between `since` and now, as
    /// nobody knows how long a call takes on a busy machine. A tick off is as
    /// good, as clocks differ.
    #[track_caller]
    pub(super) fn assert_near(&self, actual: Option<Timestamp>, since: Timestamp, delay: Duration) {
        let actual = actual.expect("a time");
        let (from, to) = (since.after(delay), self.now().after(delay));
        let off = from.since(actual).max(actual.since(to));
        assert!(off < self.subject.tick(), "{actual} should be between {from} and {to}");
    }

    pub(super) async fn submit(&self, job: NewJob) -> JobId {
        self.submit_all(vec![job]).await.remove(0)
    }

    /// Submits jobs that are new.
    pub(super) async fn submit_all(&self, jobs: Vec<NewJob>) -> Vec<JobId> {
        let count = jobs.len();
        let answers = self.backend.submit(jobs).await.expect("submit");
        assert_eq!(answers.len(), count, "one answer for each job");
        let new = answers.into_iter().map(|answer| answer.expect("accepted"));
        new.inspect(|new| assert!(!new.duplicate, "{new:?}")).map(|new| new.id).collect()
    }

    /// A request for one job, without waiting.
    pub(super) fn request(&self) -> ClaimRequest {
        ClaimRequest::new("tester", self.ticks(LONG))
    }

    /// What can be claimed right now, `max` at most.
    pub(super) async fn claim(&self, max: usize) -> Vec<Claimed> {
        self.backend.claim(self.request().max(max), Default::default()).await.expect("claim")
    }

    #[track_caller]
    pub(super) fn assert_idle(&self) -> impl Future<Output = ()> + Send {
        let place = Location::caller();
        async move {
            let claimed = self.claim(10).await;
            assert!(claimed.is_empty(), "{place}: nothing should be claimable, and there was {claimed:?}");
        }
    }

    /// Claims one job, which is there.
    #[track_caller]
    pub(super) fn take(&self) -> impl Future<Output = Claimed> + Send {
        self.take_as(self.request())
    }

    /// Claims one job, which is there, with a lease of so many ticks.
    #[track_caller]
    pub(super) fn take_for(&self, ticks: u32) -> impl Future<Output = Claimed> + Send {
        self.take_as(self.request().lease(self.ticks(ticks)))
    }

    #[track_caller]
    pub(super) fn take_as(&self, request: ClaimRequest) -> impl Future<Output = Claimed> + Send {
        self.take_as_at(request, Location::caller())
    }

    async fn take_as_at(&self, request: ClaimRequest, place: &'static Location<'static>) -> Claimed {
        // It is there, but a queue may need a moment to find it.
        let request = request.wait(self.ticks(LONG));
        let claimed = timeout(self.subject.patience(), self.backend.claim(request, Default::default())).await;
        let claimed = claimed.unwrap_or_else(|_| panic!("{place}: no job could be claimed"));
        claimed.expect("claim").pop().unwrap_or_else(|| panic!("{place}: no job could be claimed"))
    }

    /// Lets the lease of a silent holder, of so many ticks, run out, and claims
    /// its job. A claim may give notice first, of no more than another lease.
    #[track_caller]
    pub(super) fn retake(&self, ticks: u32) -> impl Future<Output = Claimed> + Send {
        self.retake_as(ticks, self.request())
    }

    #[track_caller]
    pub(super) fn retake_as(
        &self,
        ticks: u32,
        request: ClaimRequest,
    ) -> impl Future<Output = Claimed> + Send {
        let place = Location::caller();
        async move {
            self.pass(ticks).await;
            if let Some(claimed) =
                self.backend.claim(request.clone(), Default::default()).await.expect("claim").pop()
            {
                return claimed;
            }
            self.pass(ticks).await;
            self.take_as_at(request, place).await
        }
    }

    /// Lets the lease of a silent holder, of so many ticks, run out, and another
    /// one: whoever looks then may say that the job is lost, after some notice.
    pub(super) async fn abandon(&self, ticks: u32) {
        self.pass(2 * ticks).await;
        self.stats().await;
        self.pass(ticks).await;
    }

    /// What has to happen, unless there is nothing that makes it happen.
    pub(super) async fn soon<T>(&self, future: impl Future<Output = T>) -> std::result::Result<T, Elapsed> {
        timeout(self.subject.patience(), future).await
    }

    /// Claims one job, which is there in `ticks`, and not before.
    #[track_caller]
    pub(super) fn take_after(&self, ticks: u32, due: Timestamp) -> impl Future<Output = Claimed> + Send {
        let place = Location::caller();
        async move {
            for pass in [0, ticks - 1] {
                self.pass(pass).await;
                if let Some(claimed) = self.claim(1).await.pop() {
                    // On a real clock, the calls themselves may have taken that long.
                    let moment = claimed.lease_until.before(self.ticks(LONG));
                    assert!(moment >= due, "{place}: claimed at {moment}, and due at {due}");
                    return claimed;
                }
            }
            self.pass(1).await;
            self.take().await
        }
    }

    /// Submits a job and claims it.
    pub(super) async fn start(&self, job: NewJob) -> Claimed {
        let id = self.submit(job).await;
        let claimed = self.take().await;
        assert_eq!(claimed.key.id, id, "the only job that can be claimed");
        claimed
    }

    /// Submits a job and brings it to its end.
    pub(super) async fn end(&self, job: NewJob, end: TrialEnd) -> JobId {
        let id = self.submit(job.max_attempts(1)).await;
        let claimed = self.take_for(END_LEASE).await;
        assert_eq!(claimed.key.id, id, "the only job that can be claimed");
        assert_eq!(self.settle(&claimed.key, end.outcome()).await.expect("settle"), end.status());
        id
    }

    pub(super) async fn settle(&self, key: &ClaimKey, outcome: Outcome) -> Result<Status> {
        let settlement = Settlement::new(key.clone(), outcome);
        let mut answers = self.backend.settle(vec![settlement]).await.expect("settle");
        assert_eq!(answers.len(), 1, "one answer for one settlement");
        answers.remove(0)
    }

    /// Settles a claim that is current.
    #[track_caller]
    pub(super) fn finish(&self, key: &ClaimKey, outcome: Outcome) -> impl Future<Output = Status> + Send {
        let place = Location::caller();
        let key = key.clone();
        async move { self.settle(&key, outcome).await.unwrap_or_else(|e| panic!("{place}: {e}")) }
    }

    pub(super) async fn beat(&self, key: &ClaimKey) -> HeartbeatStatus {
        let beat = Heartbeat::new(key.clone(), self.ticks(LONG));
        let mut answers = self.backend.heartbeat(vec![beat]).await.expect("heartbeat");
        assert_eq!(answers.len(), 1, "one answer for one heartbeat");
        answers.remove(0)
    }

    pub(super) async fn lookup(&self, id: &JobId) -> Lookup {
        let mut answers = self.backend.get(vec![id.clone()], Detail::Full).await.expect("get");
        assert_eq!(answers.len(), 1, "one answer for one id");
        answers.remove(0)
    }

    /// The whole record.
    pub(super) async fn record(&self, id: &JobId) -> Record {
        self.lookup(id).await.into_record(id).expect("a record")
    }

    pub(super) async fn status(&self, id: &JobId) -> Status {
        self.record(id).await.status
    }

    pub(super) async fn redrive(&self, ids: &[&JobId]) -> Vec<JobId> {
        let ids = ids.iter().copied().cloned().collect();
        self.backend.redrive(Redrive::Jobs(ids)).await.expect("redrive")
    }

    pub(super) async fn purge(&self, status: Status) -> u64 {
        self.backend.purge(Purge::status(status, Duration::ZERO)).await.expect("purge")
    }

    pub(super) async fn stats(&self) -> Stats {
        self.backend.stats().await.expect("stats")
    }

    /// Checks that a claim which is not current can do nothing.
    #[track_caller]
    pub(super) fn assert_lost(&self, key: &ClaimKey) -> impl Future<Output = ()> + Send {
        let place = Location::caller();
        let key = key.clone();
        async move {
            let before = self.lookup(&key.id).await;
            assert_eq!(self.beat(&key).await, HeartbeatStatus::Lost, "{place}: heartbeat of {key:?}");
            for outcome in every_outcome() {
                let shown = format!("{place}: {outcome:?} by {key:?}");
                match self.settle(&key, outcome).await {
                    Err(Error::LostClaim { id, attempt }) => {
                        assert_eq!((id, attempt), (key.id.clone(), key.attempt), "{shown}");
                    }
                    other => panic!("{shown} should be refused, and was answered with {other:?}"),
                }
            }
            assert_eq!(self.lookup(&key.id).await, before, "{place}: {key:?} changed the record");
        }
    }

    /// Starts a claim of one job that waits for so many ticks, in a task of its own.
    pub(super) async fn wait_for_job(&self, ticks: u32) -> Waiter {
        self.wait_for(self.request(), ticks).await
    }

    /// The same for another request.
    pub(super) async fn wait_for(&self, request: ClaimRequest, ticks: u32) -> Waiter {
        let request = request.wait(self.ticks(ticks));
        let (backend, stop) = (Arc::clone(&self.backend), CancellationToken::new());
        let stops = stop.clone();
        let task = tokio::spawn(async move { backend.claim(request, stops).await.expect("claim") });
        let mut waiter = Waiter { task, stop };
        waiter.assert_waits().await;
        waiter
    }

    /// What a waiting claim brings, with no time passing.
    #[track_caller]
    pub(super) fn answer(&self, waiter: &mut Waiter) -> impl Future<Output = Vec<Claimed>> + Send {
        let place = Location::caller();
        let patience = self.subject.patience();
        async move {
            let answer = waiter.answer(patience).await;
            answer.unwrap_or_else(|_| panic!("{place}: the waiting claim was not woken"))
        }
    }

    /// What a waiting claim brings while ticks pass, `ticks` at most.
    #[track_caller]
    pub(super) fn answer_within(
        &self,
        waiter: &mut Waiter,
        ticks: u32,
    ) -> impl Future<Output = Vec<Claimed>> + Send {
        let place = Location::caller();
        async move {
            for _ in 0..ticks {
                self.pass(1).await;
                if let Ok(answer) = waiter.answer(GLIMPSE).await {
                    return answer;
                }
            }
            let answer = waiter.answer(self.subject.patience()).await;
            answer.unwrap_or_else(|_| panic!("{place}: the waiting claim was not woken in {ticks} ticks"))
        }
    }
}

/// A claim that waits.
pub(super) struct Waiter {
    task: JoinHandle<Vec<Claimed>>,
    pub(super) stop: CancellationToken,
}

impl Waiter {
    #[track_caller]
    pub(super) fn assert_waits(&mut self) -> impl Future<Output = ()> + Send {
        let place = Location::caller();
        async move {
            if let Ok(answer) = self.answer(GLIMPSE).await {
                panic!("{place}: the claim should wait, and brought {answer:?}");
            }
        }
    }

    async fn answer(&mut self, limit: Duration) -> Result<Vec<Claimed>, Elapsed> {
        timeout(limit, &mut self.task).await.map(|answer| answer.expect("the waiting claim"))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
