//! The engine step by step, by a clock that stands still.

use super::*;
use crate::{Consumer, Failure, Job, JobId, Json, consumer::ConsumerBuilder, memory::MemoryBackend};

fn engine(set: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> Engine {
    let backend = Arc::new(MemoryBackend::new());
    let handler = async |_: Job<Json>, _| -> Result<(), Failure> { std::future::pending().await };
    let builder = set(Consumer::builder(backend).handler(handler));
    let Consumer { backend, settings, recorder } = builder.build().expect("the settings are in range");
    let (shutdown, abandoned) = (Shutdown::new(), CancellationToken::new());
    let runtime = tokio::runtime::Handle::current();
    Engine::new(settings, backend, shutdown, abandoned, recorder, runtime, Span::none())
}

fn claimed(engine: &Engine, id: &str) -> Claimed {
    let now = engine.backend.clock().now();
    let key = ClaimKey { id: JobId::new(id), attempt: 1 };
    Claimed::new(key, Json::from_stored("null"), JobSpec::default(), now, now.after(Duration::from_secs(30)))
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_do_it_comes_round_every_few_seconds_and_no_more_often() {
    let mut engine = engine(|builder| builder);
    engine.advance();
    let before = Instant::now();
    assert!(matches!(engine.wait().await, Wake::Look));
    let passed = before.elapsed();
    // Timers count whole milliseconds.
    assert!((TURN..=TURN + Duration::from_millis(1)).contains(&passed), "{passed:?}");
}

#[tokio::test]
async fn no_more_calls_run_than_there_may_however_much_a_claim_brings() {
    let mut engine = engine(|builder| builder.concurrency(2));
    engine.advance();
    let jobs = ["a", "b", "c"].map(|id| claimed(&engine, id));
    engine.take_claimed(Ok(jobs.into()));
    engine.advance();
    assert_eq!((engine.table.jobs(), engine.table.calls(), engine.collector.len()), (3, 2, 1));
}

#[tokio::test]
async fn what_a_claim_brings_while_handlers_lack_what_they_need_does_not_begin() {
    let mut engine = engine(|builder| builder);
    engine.advance();
    assert!(engine.readiness.failed(0, "refused", engine.backend.clock().monotonic()));
    assert_eq!(
        engine.not_wanted(),
        Outcome::Release { after: Duration::ZERO, reason: Some("refused".into()), begun: false }
    );
    let job = claimed(&engine, "a");
    engine.take_claimed(Ok(vec![job]));
    assert_eq!(engine.collector.len(), 0);
    assert!(engine.table.iter().all(|(_, held)| matches!(held.stage, Stage::Settling { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_shortens_an_end_that_has_begun() {
    let mut engine = engine(|builder| builder.shutdown_grace_period(Duration::ZERO));
    let left = |engine: &Engine| {
        let Phase::Ending { until, .. } = engine.phase else { panic!("it ends") };
        until - Instant::now()
    };
    engine.shutdown.stop();
    engine.change_phase(Duration::ZERO);
    assert_eq!(left(&engine), Duration::from_millis(2_250));
    engine.change_phase(Duration::ZERO);
    assert_eq!(left(&engine), Duration::from_millis(2_250), "it was not told again");
    engine.shutdown.stop_now();
    engine.change_phase(Duration::ZERO);
    assert_eq!(left(&engine), Duration::from_secs(1));
    tokio::time::advance(Duration::from_millis(999)).await;
    engine.change_phase(Duration::ZERO);
    assert_eq!(left(&engine), Duration::from_millis(1), "it is told once");
}

#[tokio::test(start_paused = true)]
async fn handlers_are_dropped_before_their_jobs_are_given_to_others() {
    let mut engine = engine(|builder| builder);
    engine.advance();
    let job = claimed(&engine, "a");
    engine.take_claimed(Ok(vec![job]));
    engine.advance();
    tokio::task::yield_now().await;
    engine.shutdown.stop_now();
    let before = Instant::now();
    engine.change_phase(Duration::ZERO);
    assert!(matches!(engine.wait().await, Wake::Reports), "the handler is gone");
    assert_eq!(before.elapsed(), Duration::ZERO);
}
