//! What the model and a backend can be compared by: all of it on a manual clock, and on one that
//! nobody moves, what does not depend on how long a call takes.

use std::{collections::HashSet, hash::Hash, time::Duration};

use super::{Pair, reference::Model, steps::Step};
use crate::{
    Backend, JobId, NewJob, Queues, Record, Timestamp,
    backend::{
        Capabilities, ClaimRequest, Claimed, Groups, HeartbeatStatus, ListQuery, Lookup, Outcome, Stats,
    },
};

/// On a clock that nobody moves, a second of a step is so long: no lease and no delay that has begun
/// ends in a sequence, which is over in half of it.
const UNIT: u32 = 100;
const LIMIT: Duration = Duration::from_secs(50);

/// How long a claim waits for a job that is due.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct View {
    pub(crate) is_exact: bool,
    capabilities: Capabilities,
    start: Timestamp,
}

impl View {
    pub(crate) fn of(backend: &dyn Backend) -> Self {
        let clock = backend.clock();
        Self { is_exact: clock.is_manual(), capabilities: backend.capabilities(), start: clock.now() }
    }

    /// The step as this backend can take it, if it can.
    pub(crate) fn step(&self, step: &Step) -> Option<Step> {
        let mut step = step.clone();
        if !self.capabilities.list && matches!(step, Step::List { .. }) {
            return None;
        }
        if !self.is_exact {
            match &mut step {
                Step::Pass(_) => return None,
                Step::Claim { lease, .. } => *lease *= UNIT,
                Step::Beat(beats) => beats.iter_mut().for_each(|(_, lease, _)| *lease *= UNIT),
                Step::Settle(settlements) => {
                    for (_, outcome, _) in settlements {
                        match outcome {
                            Outcome::Retry { delay: wait, .. } | Outcome::Release { after: wait, .. } => {
                                *wait *= UNIT;
                            }
                            _ => {}
                        }
                    }
                }
                Step::Purge(_, age, _) => *age *= UNIT,
                Step::List { query: ListQuery { older_than, newer_than, .. }, .. } => {
                    older_than.iter_mut().chain(newer_than).for_each(|age| *age *= UNIT);
                }
                _ => {}
            }
        }
        Some(step)
    }

    pub(crate) fn job(&self, mut job: NewJob) -> NewJob {
        if !self.is_exact {
            job.delay *= UNIT;
            job.idempotency_window *= UNIT;
            job.spec.start_within = job.spec.start_within.map(|limit| limit * UNIT);
            if job.spec.result_ttl < NewJob::DEFAULT_RESULT_TTL {
                job.spec.result_ttl *= UNIT;
            }
        }
        job
    }

    /// Several of one call are different ones, where it does not take them one after the other.
    pub(crate) fn distinct<T, K: Eq + Hash>(&self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
        if !self.is_exact {
            let mut seen = HashSet::new();
            items.retain(|item| seen.insert(key(item)));
        }
        items
    }

    fn time(&self, time: Timestamp) -> Timestamp {
        if self.is_exact {
            return time;
        }
        let unit = i64::from(UNIT) * 1_000_000;
        Timestamp::from_micros((time.as_micros() - self.start.as_micros() + unit / 2).div_euclid(unit))
    }

    pub(crate) fn status(&self, status: HeartbeatStatus) -> HeartbeatStatus {
        match status {
            HeartbeatStatus::Held(until) => HeartbeatStatus::Held(self.time(until)),
            HeartbeatStatus::CancelRequested(until) => HeartbeatStatus::CancelRequested(self.time(until)),
            HeartbeatStatus::Lost => HeartbeatStatus::Lost,
        }
    }

    pub(crate) fn record(&self, mut record: Record) -> Record {
        record.submitted_at = self.time(record.submitted_at);
        let times =
            [&mut record.due_at, &mut record.started_at, &mut record.finished_at, &mut record.expires_at];
        times.into_iter().flatten().for_each(|time| *time = self.time(*time));
        for attempt in &mut record.attempts {
            attempt.started_at = self.time(attempt.started_at);
            attempt.ended_at = attempt.ended_at.map(|end| self.time(end));
        }
        record
    }

    pub(crate) fn lookup(&self, lookup: Lookup) -> Lookup {
        match lookup {
            Lookup::Found(record) => Lookup::Found(self.record(record)),
            other => other,
        }
    }

    fn claimed(&self, mut claimed: Claimed) -> Claimed {
        claimed.submitted_at = self.time(claimed.submitted_at);
        claimed.lease_until = self.time(claimed.lease_until);
        claimed
    }

    pub(crate) fn stats(&self, mut stats: Stats) -> Stats {
        let age = |seconds: f64| if self.is_exact { seconds.round() } else { 0.0 };
        stats.stored_bytes = None;
        stats.oldest_visible_seconds = stats.oldest_visible_seconds.map(age);
        for queue in stats.queues.values_mut() {
            queue.oldest_due_seconds = queue.oldest_due_seconds.map(age);
        }
        stats
    }
}

impl Model {
    /// Whether this job can be claimed now.
    fn is_claimable(&self, id: &JobId, request: &ClaimRequest) -> bool {
        let Some(job) = self.jobs.iter().find(|job| job.record.id == *id) else { return false };
        (self.groups == Groups::Ignored || job.is_first(&self.jobs))
            && job.is_due(self.now)
            && !self.paused.contains(&job.record.spec.queue)
            && request.queues.names().any(|queue| *queue == job.record.spec.queue)
    }

    /// Whether a claim has to bring something.
    fn has_claimable(&self, request: &ClaimRequest) -> bool {
        let free = |job: &&super::job::Job| job.group().is_none_or(|group| !self.held_up.contains(&group));
        self.jobs.iter().filter(free).any(|job| self.is_claimable(&job.record.id, request))
    }
}

impl Pair<'_> {
    /// On a clock that nobody moves, the model goes by it, too.
    pub(crate) fn keep_time(&mut self) {
        if !self.view.is_exact {
            self.model.now = self.backend.clock().now();
        }
    }

    /// Whether what this sequence still has to do might take too long.
    pub(crate) fn is_out_of_time(&self) -> bool {
        !self.view.is_exact && self.backend.clock().now().since(self.view.start) > LIMIT / 2
    }

    /// A claim, which may bring whichever jobs are due.
    pub(crate) async fn claim_any(&mut self, request: ClaimRequest) -> Vec<Claimed> {
        let must = self.model.has_claimable(&request);
        let request = request.wait(if must { WAIT } else { Duration::ZERO });
        let claimed = self.backend.claim(request.clone(), Default::default()).await.expect("claim");
        assert!(!must || !claimed.is_empty(), "nothing was claimed, and something was due");
        assert!(claimed.len() <= request.max, "{} jobs for a claim of {}", claimed.len(), request.max);
        for claimed in &claimed {
            let id = &claimed.key.id;
            assert!(self.model.is_claimable(id, &request), "{claimed:?} was not to be claimed");
            let now = self.model.now;
            let job = self.model.jobs.iter_mut().find(|job| job.record.id == *id).expect("it is known");
            let expected = job.hand_out(&request, now);
            assert_eq!(self.view.claimed(claimed.clone()), self.view.claimed(expected));
        }
        claimed
    }

    /// Brings every job to its end: what is due by a success, and what is not is cancelled.
    pub(crate) async fn drain_any(&mut self, queues: &Queues) {
        let lease = Duration::from_secs(u64::from(UNIT));
        let every = ClaimRequest::new("drain", lease).queues(queues.clone(), 0);
        while self.model.has_claimable(&every) || !self.model.held().is_empty() {
            self.claim(queues, 0, 10, lease).await;
            self.finish_held().await;
        }
        let unfinished = self.model.jobs.iter().filter(|job| job.is_unfinished());
        let ids: Vec<_> = unfinished.map(|job| job.record.id.clone()).collect();
        self.cancel(ids).await;
        assert_eq!(self.model.stats().unfinished(), 0);
    }
}
