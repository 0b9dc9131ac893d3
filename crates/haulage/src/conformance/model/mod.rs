//! The model test: random sequences of verbs, on a backend and on a plain
//! model of it. Every answer and every record must be the same.

mod job;
mod reference;
mod steps;
mod view;

use std::{sync::Arc, time::Duration};

use proptest::test_runner::{Config, TestError, TestRunner};

use self::{
    reference::Model,
    steps::{Pick, Step},
    view::View,
};
use super::Subject;
use crate::{
    Backend, Error, JobId, Queues, Record,
    backend::{
        ClaimKey, ClaimRequest, Detail, Heartbeat, ListQuery, Lookup, Outcome, Purge, Redrive, Settlement,
        Submitted,
    },
};

/// Tries `sequences` random sequences of verbs, each on a fresh backend, and
/// compares it with a plain model; `PROPTEST_CASES=2560` tries ten times as many.
///
/// On a manual clock everything is compared, to the microsecond. On a clock that nobody moves, no
/// time passes in a sequence: what is due is due at once, or only after its end; and which of the
/// jobs that are due a claim takes, is the backend's choice. What the backend declares that it
/// cannot do is left out.
///
/// It makes a runtime of its own, so call it from a plain `#[test]`.
///
/// # Panics
///
/// Where the backend and the model differ: with the shortest sequence that
/// shows it.
pub fn run_model(subject: &dyn Subject, sequences: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let usual = Config::default();
    let cases = (usual.cases * sequences).div_ceil(256);
    // A queue that is elsewhere takes seconds for each try to make the sequence shorter.
    let tries =
        if runtime.block_on(subject.fresh()).clock().is_manual() { usual.max_shrink_iters } else { 100 };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: tries, ..usual };
    let outcome = TestRunner::new(config).run(&steps::sequence(), |steps| {
        runtime.block_on(async { Pair::new(subject, subject.fresh().await).run(&steps).await });
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("{why}\nafter {steps:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// A backend and the model of it.
struct Pair<'a> {
    subject: &'a dyn Subject,
    backend: Arc<dyn Backend>,
    model: Model,
    view: View,
    /// Every claim there ever was.
    claims: Vec<ClaimKey>,
}

impl<'a> Pair<'a> {
    fn new(subject: &'a dyn Subject, backend: Arc<dyn Backend>) -> Self {
        let (model, view) =
            (Model::new(backend.clock().now(), backend.capabilities().groups), View::of(&*backend));
        Self { subject, backend, model, view, claims: Vec::new() }
    }

    async fn run(mut self, steps: &[Step]) {
        for step in steps {
            if self.is_out_of_time() {
                break;
            }
            if let Some(step) = self.view.step(step) {
                self.step(&step).await;
            }
        }
        self.compare_everything().await;
        self.drain().await;
        self.compare_everything().await;
    }

    async fn step(&mut self, step: &Step) {
        self.keep_time();
        match step {
            Step::Submit(jobs) => {
                let jobs: Vec<_> = jobs.iter().map(|spec| self.view.job(spec.job())).collect();
                let answers = self.backend.submit(jobs.clone()).await.expect("submit");
                let answers: Vec<_> = answers
                    .into_iter()
                    .map(|answer| match answer {
                        Ok(submitted) => Ok(submitted),
                        Err(Error::IdempotencyConflict { key, id }) => Err((key, id)),
                        Err(error) => panic!("{error}"),
                    })
                    .collect();
                let id = |answer: &Result<_, (String, JobId)>| match answer {
                    Ok(Submitted { id, .. }) | Err((_, id)) => id.clone(),
                };
                let ids = answers.iter().map(id).collect();
                let expected = self.model.submit(jobs, ids);
                assert_eq!(answers.len(), expected.len());
                for (answer, expected) in answers.into_iter().zip(expected) {
                    match (answer, expected) {
                        // How long a body that is gone is remembered is the backend's choice.
                        (Err((_, id)), Ok(found)) if found.duplicate && self.model.is_without_body(&id) => {
                            assert_eq!(id, found.id, "{step:?}");
                        }
                        (answer, expected) => assert_eq!(answer, expected, "{step:?}"),
                    }
                }
            }
            Step::Claim { queues, turn, max, lease } => self.claim(queues, *turn, *max, *lease).await,
            Step::Beat(beats) => {
                let beats: Vec<_> = beats
                    .iter()
                    .map(|(pick, lease, update)| {
                        Heartbeat::new(self.pick_claim(pick), *lease).update(update.clone())
                    })
                    .collect();
                let beats = self.view.distinct(beats, |beat| beat.key.clone());
                let expected = beats.iter().map(|beat| self.model.heartbeat(beat));
                let expected: Vec<_> = expected.map(|status| self.view.status(status)).collect();
                let statuses = self.backend.heartbeat(beats.clone()).await.expect("heartbeat");
                let statuses: Vec<_> = statuses.into_iter().map(|status| self.view.status(status)).collect();
                assert_eq!(statuses, expected, "{beats:?}");
            }
            Step::Settle(settlements) => {
                let settlements: Vec<_> = settlements
                    .iter()
                    .map(|(pick, outcome, update)| {
                        Settlement::new(self.pick_claim(pick), outcome.clone()).update(update.clone())
                    })
                    .collect();
                self.settle(settlements).await;
            }
            Step::Cancel(picks) => {
                let ids = self.pick_jobs(picks);
                self.cancel(ids).await;
            }
            Step::RedriveDead(limit, queue) => {
                let ids = self.model.dead(*limit, queue.as_ref());
                let expected = self.model.redrive(&ids);
                let what = Redrive::Dead { limit: *limit, queue: queue.clone(), after: None };
                let redriven = self.backend.redrive(what).await.expect("redrive");
                assert_eq!(redriven, expected, "{step:?}");
            }
            Step::Redrive(picks) => {
                let mut ids = self.pick_jobs(picks);
                if !self.view.is_exact {
                    // The oldest first, whatever the order in which they are named.
                    let known = self.model.ids();
                    ids.sort_by_key(|id| known.iter().position(|known| known == id));
                }
                let expected = self.model.redrive(&ids);
                let redriven = self.backend.redrive(Redrive::Jobs(ids.clone())).await.expect("redrive");
                assert_eq!(redriven, expected, "{ids:?}");
            }
            Step::Purge(status, older_than, queue) => {
                let query = Purge::Status { status: *status, older_than: *older_than, queue: queue.clone() };
                let purged = self.backend.purge(query).await.expect("purge");
                assert_eq!(purged, self.model.purge(*status, *older_than, queue.as_ref()), "{step:?}");
            }
            Step::Pause(queue, paused) => {
                let changed = self.backend.set_paused(queue.clone(), *paused).await.expect("pause");
                assert_eq!(changed, self.model.set_paused(queue, *paused), "{step:?}");
            }
            Step::Pass(time) => self.pass(*time).await,
            Step::Get(picks) => {
                let ids = self.pick_jobs(picks);
                self.compare_records(&ids, Detail::Result).await;
            }
            Step::List { query, before } => {
                let before = before.as_ref().map(|pick| self.pick_jobs(std::slice::from_ref(pick)).remove(0));
                self.list(query.clone().before(before)).await;
            }
        }
    }

    async fn claim(&mut self, queues: &Queues, turn: u64, max: usize, lease: Duration) {
        let worker = format!("worker-{}", self.claims.len() % 3);
        let request = ClaimRequest::new(worker, lease).queues(queues.clone(), turn).max(max);
        let claimed = if self.view.is_exact {
            let expected = self.model.claim(&request);
            let claimed = self.backend.claim(request, Default::default()).await.expect("claim");
            assert_eq!(claimed, expected);
            claimed
        } else {
            self.claim_any(request).await
        };
        self.claims.extend(claimed.into_iter().map(|c| c.key));
    }

    async fn cancel(&mut self, ids: Vec<JobId>) {
        let ids = self.view.distinct(ids, JobId::clone);
        let expected: Vec<_> = ids.iter().map(|id| self.model.cancel(id)).collect();
        assert_eq!(self.backend.cancel(ids.clone()).await.expect("cancel"), expected, "{ids:?}");
    }

    async fn settle(&mut self, settlements: Vec<Settlement>) {
        let settlements = self.view.distinct(settlements, |settlement| settlement.key.clone());
        let expected: Vec<_> = settlements.iter().map(|s| self.model.settle(s)).collect();
        let answers = self.backend.settle(settlements.clone()).await.expect("settle");
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer {
                Ok(status) => Some(status),
                Err(Error::LostClaim { .. }) => None,
                Err(error) => panic!("{error}"),
            })
            .collect();
        assert_eq!(answers, expected, "{settlements:?}");
    }

    /// Lets time pass, and looks at once, so that both see what is abandoned at the same moment.
    async fn pass(&mut self, time: Duration) {
        self.subject.pass(&*self.backend, time).await;
        self.model.pass(time);
        self.compare_stats().await;
    }

    /// Brings every job to its end.
    async fn drain(&mut self) {
        let every: Queues = "default,a,b".parse().expect("queues");
        for queue in every.names() {
            self.step(&Step::Pause(queue.clone(), false)).await;
        }
        if !self.view.is_exact {
            return self.drain_any(&every).await;
        }
        for _ in 0..1000 {
            if self.model.stats().unfinished() == 0 {
                return;
            }
            self.pass(Duration::from_secs(3600)).await;
            self.claim(&every, 0, 1000, Duration::from_secs(60)).await;
            self.finish_held().await;
        }
        panic!("some jobs never end: {:?}", self.model.stats());
    }

    async fn finish_held(&mut self) {
        let held = self.model.held().into_iter();
        let success = |key| Settlement::new(key, Outcome::Success(steps::json(0)));
        self.settle(held.map(success).collect()).await;
    }

    async fn compare_everything(&mut self) {
        self.keep_time();
        self.compare_records(&self.model.ids(), Detail::Full).await;
        self.compare_stats().await;
        if self.backend.capabilities().list {
            self.list(ListQuery::new().limit(usize::MAX)).await;
        }
    }

    async fn compare_records(&self, ids: &[JobId], detail: Detail) {
        let found = self.backend.get(ids.to_vec(), detail).await.expect("get");
        assert_eq!(found.len(), ids.len());
        for (found, id) in found.into_iter().zip(ids) {
            match (found, self.model.get(id, detail)) {
                // How long an expired record is remembered is the backend's choice.
                (Lookup::Missing, Lookup::Expired) => {}
                (found, expected) => assert_eq!(self.view.lookup(found), self.view.lookup(expected)),
            }
        }
    }

    async fn compare_stats(&mut self) {
        self.model.end_abandoned();
        let stats = self.backend.stats().await.expect("stats");
        assert_eq!(self.view.stats(stats), self.view.stats(self.model.stats()));
    }

    async fn list(&self, query: ListQuery) {
        let forgotten = query.before.as_ref().is_some_and(|id| self.model.has_expired(id));
        let expected: Option<Vec<Record>> = self.model.list(&query);
        match self.backend.list(query.clone()).await {
            Ok(records) => {
                let shown = |records: Vec<Record>| -> Vec<Record> {
                    records.into_iter().map(|record| self.view.record(record)).collect()
                };
                assert_eq!(Some(shown(records)), expected.map(shown), "{query:?}");
            }
            Err(Error::NotFound(id)) => {
                assert_eq!(Some(id), query.before);
                assert!(expected.is_none() || forgotten, "{query:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A claim, current or of any time.
    fn pick_claim(&self, pick: &Pick) -> ClaimKey {
        let held = self.model.held();
        let claims = if pick.likely && !held.is_empty() { &held } else { &self.claims };
        if claims.is_empty() {
            return ClaimKey { id: "no-such-job".into(), attempt: 1 };
        }
        pick.index.get(claims).clone()
    }

    fn pick_jobs(&self, picks: &[Pick]) -> Vec<JobId> {
        let ids = self.model.ids();
        let pick = |pick: &Pick| {
            if ids.is_empty() || !pick.likely { "no-such-job".into() } else { pick.index.get(&ids).clone() }
        };
        picks.iter().map(pick).collect()
    }
}
