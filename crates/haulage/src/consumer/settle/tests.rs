//! What becomes of outcomes that a backend does not take, and when they are tried again.

use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::{
    JobId, Json,
    backend::{ClaimKey, Claimed},
    memory::MemoryBackend,
};

fn unavailable() -> Error {
    Error::Unavailable { message: "down".into(), source: None }
}

fn failure() -> Outcome {
    Outcome::Fail(JobError::new(FailureKind::Handler, "bad"))
}

/// Jobs whose outcomes are known, and what settles them.
struct Known {
    backend: Arc<dyn Backend>,
    table: Table,
    settles: Settles,
}

impl Known {
    fn new(outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let (mut table, mut settles) = (Table::default(), Settles::new(1));
        let now = backend.clock().now();
        for outcome in outcomes {
            let key = ClaimKey { id: JobId::new("job"), attempt: 1 };
            let ticket = table.admit(Claimed::new(
                key,
                Json::from_stored("null"),
                crate::JobSpec::default(),
                now,
                now,
            ));
            assert!(table.conclude(ticket, backend.clock()).is_some());
            settles.push(ticket, outcome, Update::default());
        }
        Self { backend, table, settles }
    }

    /// Sends what is due.
    fn send(&mut self) -> Vec<Outcome> {
        self.settles.start(&mut self.table, &self.backend, |_| None);
        let batches = self.settles.batches.iter();
        batches.flat_map(|batch| batch.outcomes.iter().map(|waiting| waiting.outcome.clone())).collect()
    }

    /// The answer to what was sent.
    fn answer(&mut self, answer: Result<Vec<Result<Status>>>) -> Vec<(u64, Settled)> {
        let Batch { outcomes, failures, .. } = self.settles.batches.pop().expect("a call is under way");
        self.settles.answered(Answer { outcomes, answer, failures }, &mut self.table)
    }

    /// What was not taken is sent again after this time, and not before.
    async fn waits_for(&mut self, wait: Duration) {
        assert!(self.send().is_empty());
        let mut deadlines = Deadlines::default();
        self.settles.deadlines(&mut deadlines);
        let before = Instant::now();
        deadlines.wait(self.backend.clock()).await;
        let waited = before.elapsed();
        // Timers count whole milliseconds.
        assert!((wait..=wait + Duration::from_millis(1)).contains(&waited), "{waited:?}, not {wait:?}");
        assert_eq!(self.send().len(), 1);
    }
}

#[test]
fn calls_that_fail_together_are_one_failure() {
    let (mut settles, mut table) = (Settles::new(3), Table::default());
    let failed = |failures| Answer { outcomes: Vec::new(), answer: Err(unavailable()), failures };
    for _ in 0..3 {
        settles.answered(failed(0), &mut table);
    }
    assert_eq!(settles.outage.failures(), 1);
    settles.answered(failed(1), &mut table);
    assert_eq!(settles.outage.failures(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_is_asked_less_and_less() {
    for each in [false, true] {
        let mut known = Known::new([Outcome::Cancelled]);
        assert_eq!(known.send().len(), 1);
        for millis in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let answer = if each { Ok(vec![Err(unavailable())]) } else { Err(unavailable()) };
            assert!(known.answer(answer).is_empty());
            assert!(known.settles.outage().is_on());
            known.waits_for(Duration::from_millis(millis)).await;
        }
        assert!(matches!(known.answer(Ok(vec![Ok(Status::Cancelled)]))[..], [(_, Settled::Done(..))]));
        assert!(!known.settles.outage().is_on());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_alone_is_refused_is_tried_less_and_less_and_is_no_outage() {
    let mut known = Known::new([failure(), Outcome::Cancelled]);
    assert_eq!(known.send().len(), 2);
    let refused = || Err(Error::Invalid("no failures here".into()));
    let done = known.answer(Ok(vec![refused(), Ok(Status::Cancelled)]));
    assert!(matches!(done[..], [(2, Settled::Done(..))]), "{done:?}");
    for millis in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        assert!(!known.settles.outage().is_on());
        known.waits_for(Duration::from_millis(millis)).await;
        assert!(known.answer(Ok(vec![refused()])).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_beside_others_that_work_is_no_outage() {
    let mut known = Known::new([Outcome::Cancelled, Outcome::Cancelled]);
    assert_eq!(known.send().len(), 2);
    let done = known.answer(Ok(vec![Ok(Status::Cancelled), Err(unavailable())]));
    assert!(matches!(done[..], [(1, Settled::Done(..))]), "{done:?}");
    assert!(!known.settles.outage().is_on());
    known.waits_for(Duration::from_millis(100)).await;
    let done = known.answer(Ok(vec![Err(Error::NotFound(JobId::new("job")))]));
    assert!(matches!(done[..], [(2, Settled::Lost)]), "{done:?}");
}

#[tokio::test]
async fn a_result_that_the_backend_does_not_take_fails_its_job_at_once() {
    let mut known = Known::new([Outcome::Success(Json::from_stored("null"))]);
    assert_eq!(known.send().len(), 1);
    assert!(known.answer(Ok(vec![Err(Error::Invalid("no such result".into()))])).is_empty());
    let [Outcome::Fail(error)] = &known.send()[..] else { panic!("a failure instead") };
    assert_eq!(error.kind, FailureKind::InvalidResult);
    assert!(error.message.contains("no such result"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_answers_is_an_answer_to_none() {
    for answers in [1, 3] {
        let mut known = Known::new([Outcome::Cancelled, Outcome::Cancelled]);
        assert_eq!(known.send().len(), 2);
        let answers = (0..answers).map(|_| Ok(Status::Cancelled)).collect();
        assert!(known.answer(Ok(answers)).is_empty());
        assert!(known.settles.outage().is_on());
        advance(Duration::from_millis(100)).await;
        assert_eq!(known.send().len(), 2);
    }
}
