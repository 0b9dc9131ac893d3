//! Claims are kept by heartbeats, and lost without.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Instant,
};

use haulage::{
    Backend, Consumer, Context, Failure, FailureKind, Job, NewJob, Producer, Status,
    backend::{ClaimRequest, Claimed},
    consumer::{Event, Summary},
    memory::MemoryBackend,
};
use tokio::sync::{Semaphore, mpsc};

use crate::support::{Faulty, Mode, OnDrop, Running, Verb, manual_clock, s, soon};

type Answer<T = ()> = Result<T, Failure>;

#[tokio::test]
async fn heartbeats_keep_a_claim_for_as_long_as_the_handler_runs() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone()).concurrency(3);
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let mut running = Running::start(builder.handler(move |_: Job<u32>, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Answer::Ok(())
        }
    }));
    let producer = Producer::new(backend.clone());
    for n in 0..3 {
        producer.submit(&n).await.expect("submit");
    }
    running.started(3).await;
    for round in 1..=20 {
        clock.advance(s(10));
        backend.answered(Verb::Heartbeat, round).await;
        assert_eq!(backend.calls(Verb::Heartbeat)[round - 1].items, 3, "one call for all of them");
    }
    open.add_permits(3);
    for _ in 0..3 {
        assert!(matches!(running.ending().await, Event::Succeeded { attempt: 1, .. }));
    }
    running.stop().await;
}

/// Claims one job as somebody else, and with it takes those that have been
/// silent for too long from their holders.
async fn taken_by_another(backend: &Faulty) -> Claimed {
    for _ in 0..2 {
        let request = ClaimRequest::new("another", s(1000));
        // Not through the faults: it is somebody else.
        if let Some(claimed) = backend.inner.claim(request, Default::default()).await.expect("claim").pop() {
            return claimed;
        }
        backend.clock().advance(s(31));
    }
    panic!("the holder keeps its job")
}

#[tokio::test]
async fn a_handler_is_stopped_when_the_backend_says_that_its_claim_is_lost() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone()).cancel_grace_period(s(3));
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let sender = sender.clone();
        async move {
            let _dropped = OnDrop(sender.clone(), "dropped");
            context.cancelled().await;
            let _ = sender.send("told");
            std::future::pending::<Answer>().await
        }
    }));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    backend.set(Verb::Heartbeat, Mode::Fails);
    clock.advance(s(31));
    let other = taken_by_another(&backend).await;
    assert_eq!(other.key.attempt, 2);
    backend.set(Verb::Heartbeat, Mode::Works);
    assert_eq!(running.ending().await, Event::Lost { id: job.id().clone(), attempt: 1 });
    assert_eq!(soon(seen.recv()).await, Some("told"));
    // The handler has time to tidy up, and keeps its slot meanwhile.
    clock.advance(s(2));
    assert!(seen.try_recv().is_err());
    clock.advance(s(1));
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    assert_eq!(backend.count(Verb::Settle), 0);
    let record = job.record().await.expect("record");
    assert_eq!(record.error.map(|e| e.kind), Some(FailureKind::WorkerLost));
    assert_eq!(running.stop().await, Summary { lost: 1, ..Summary::default() });
}

/// A handler runs while the heartbeats of its consumer do this; nobody else is there.
async fn outlives(mode: Mode) {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let builder = Consumer::builder(backend.clone()).heartbeat_interval(s(10));
    let mut running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Answer::Ok(context.is_cancelled())
        }
    }));
    let job = NewJob::new(&()).expect("body").max_attempts(1);
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    running.started(1).await;
    backend.set(Verb::Heartbeat, mode);
    clock.advance(s(10));
    backend.called(Verb::Heartbeat, 1).await;
    // Whoever looks takes nothing from it.
    clock.advance(s(45));
    assert_eq!(job.status().await.expect("status"), Status::InProgress);
    backend.set(Verb::Heartbeat, Mode::Works);
    open.add_permits(1);
    let told_to_stop: bool = job.result(Some(s(20))).await.expect("result");
    assert!(!told_to_stop);
    assert_eq!(job.record().await.expect("record").attempt, 1);
    assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_backend_that_refuses_heartbeats_for_longer_than_a_lease_stops_no_handler() {
    outlives(Mode::Fails).await;
}

#[tokio::test]
async fn a_backend_that_answers_no_heartbeat_for_longer_than_a_lease_stops_no_handler() {
    outlives(Mode::Hangs).await;
}

#[tokio::test]
async fn an_answer_after_the_claim_was_lost_is_not_recorded() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |_: Job<()>, context: Context| {
        context.cancelled().await;
        Answer::Ok("too late")
    }));
    let job = NewJob::new(&()).expect("body").max_attempts(1);
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    running.started(1).await;
    backend.set(Verb::Heartbeat, Mode::Fails);
    for _ in 0..2 {
        clock.advance(s(61));
        job.status().await.expect("status");
    }
    assert_eq!(job.status().await.expect("status"), Status::Error, "abandoned");
    backend.set(Verb::Heartbeat, Mode::Works);
    assert!(matches!(running.ending().await, Event::Lost { .. }));
    assert_eq!(running.stop().await, Summary { lost: 1, ..Summary::default() });
    assert_eq!(backend.count(Verb::Settle), 0);
}

/// In real time, since that is what it is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_burn_every_thread_of_the_runtime_keep_their_leases() {
    let backend = Arc::new(MemoryBackend::new());
    let builder = Consumer::builder(backend.clone()).concurrency(2).lease(s(2));
    let attempts = Arc::new(AtomicU32::new(0));
    let count = attempts.clone();
    let running = Running::start(builder.handler(move |_: Job<u32>, _| {
        count.fetch_add(1, SeqCst);
        async {
            let start = Instant::now();
            while start.elapsed() < s(6) {
                std::hint::spin_loop();
            }
            Answer::Ok(())
        }
    }));
    let producer = Producer::new(backend);
    let jobs = vec![NewJob::new(&1).expect("body"), NewJob::new(&2).expect("body")];
    let jobs = producer.submit_many(jobs).await.expect("submit");
    for job in &jobs {
        job.result::<()>(Some(s(300))).await.expect("result");
        assert_eq!(job.record().await.expect("record").attempt, 1);
    }
    assert_eq!(attempts.load(SeqCst), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_recorded_yet_keeps_its_claim() {
    for joins_claims in [false, true] {
        keeps_its_claim(joins_claims).await;
    }
}

async fn keeps_its_claim(joins_claims: bool) {
    let clock = manual_clock();
    let backend =
        Faulty::with(MemoryBackend::with_clock(clock.clone()), |can| can.joins_claims = joins_claims);
    backend.set(Verb::Settle, Mode::Fails);
    let builder = Consumer::builder(backend.clone()).concurrency(2);
    let mut running = Running::start(builder.handler(async |job: Job<u32>, _| Answer::Ok(job.body)));
    let producer = Producer::new(backend.clone());
    let jobs = (0..10).map(|n| NewJob::new(&n).expect("body")).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    running.started(2).await;
    backend.answered(Verb::Settle, 2).await;
    for round in 1..=9 {
        clock.advance(s(10));
        backend.answered(Verb::Heartbeat, round).await;
    }
    assert_eq!(jobs[2].status().await.expect("status"), Status::Submitted, "claims do not run ahead");
    backend.set(Verb::Settle, Mode::Works);
    for (n, job) in jobs.iter().enumerate() {
        assert_eq!(job.result::<usize>(None).await.expect("result"), n);
        assert_eq!(job.record().await.expect("record").attempt, 1);
    }
    assert_eq!(running.stop().await, Summary { succeeded: 10, ..Summary::default() });
}

/// A pause, a full disk, an outage: whatever kept everybody from the backend.
#[tokio::test]
async fn a_result_outlasts_the_lease_while_the_backend_takes_nothing() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    for verb in [Verb::Settle, Verb::Heartbeat] {
        backend.set(verb, Mode::Fails);
    }
    let builder = Consumer::builder(backend.clone());
    let mut running =
        Running::start(builder.handler(async |_: Job<()>, context: Context| Answer::Ok(context.attempt())));
    let job = NewJob::new(&()).expect("body").max_attempts(1);
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    running.started(1).await;
    backend.answered(Verb::Settle, 1).await;
    clock.advance(s(3600));
    backend.answered(Verb::Heartbeat, 1).await;
    for verb in [Verb::Settle, Verb::Heartbeat] {
        backend.set(verb, Mode::Works);
    }
    assert_eq!(job.result::<u32>(Some(s(20))).await.expect("result"), 1);
    assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_result_whose_claim_another_has_taken_is_lost() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    for verb in [Verb::Settle, Verb::Heartbeat] {
        backend.set(verb, Mode::Fails);
    }
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |_: Job<()>, _| Answer::Ok("late")));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    backend.answered(Verb::Settle, 1).await;
    clock.advance(s(31));
    let other = taken_by_another(&backend).await;
    backend.set(Verb::Settle, Mode::Works);
    assert!(matches!(running.ending().await, Event::Lost { attempt: 1, .. }));
    assert_eq!((job.status().await.expect("status"), other.key.attempt), (Status::InProgress, 2));
    running.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_ends_no_attempt_and_an_attempt_that_is_too_long_ends_all_the_same() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |_: Job<()>, context: Context| {
        context.cancelled().await;
        Answer::Ok(())
    }));
    let job = NewJob::new(&()).expect("body").max_attempts(1).timeout(s(600));
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    running.started(1).await;
    clock.set(clock.now().after(s(3600)));
    // It has come round, twice, and found nothing to end.
    for round in 1..=2 {
        backend.answered(Verb::Heartbeat, round).await;
        clock.advance(s(11));
    }
    backend.answered(Verb::Heartbeat, 3).await;
    assert_eq!(backend.count(Verb::Settle), 0);
    assert_eq!(job.status().await.expect("status"), Status::InProgress);
    clock.set(clock.now().before(s(7200)));
    clock.advance(s(600));
    assert!(matches!(running.ending().await, Event::Failed { attempt: 1, .. }));
    let error = job.record().await.expect("record").error.expect("why");
    assert_eq!(error.kind, FailureKind::Timeout);
    running.stop().await;
}
