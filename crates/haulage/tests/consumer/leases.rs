//! Claims are kept by heartbeats, and lost without.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use haulage::{
    Backend, Consumer, Context, Failure, FailureKind, Job, NewJob, Producer, Status,
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

/// What is seen when a claim is lost, however it came about, and what comes
/// after once the backend, too, thinks that it is lost.
async fn loses_its_claim(backend: Arc<Faulty>, lose: impl AsyncFnOnce(), later: Duration) {
    let clock = backend.clock().clone();
    let builder = Consumer::builder(backend.clone()).cancel_grace_period(s(3));
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let sender = sender.clone();
        async move {
            if context.attempt() > 1 {
                return Answer::Ok(());
            }
            let _dropped = OnDrop(sender.clone(), "dropped");
            context.cancelled().await;
            let _ = sender.send("told");
            std::future::pending().await
        }
    }));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    lose().await;
    assert_eq!(soon(seen.recv()).await, Some("told"));
    assert_eq!(running.ending().await, Event::Lost { id: job.id().clone(), attempt: 1 });
    assert_eq!(backend.count(Verb::Settle), 0);
    // The handler has time to tidy up, and keeps its slot meanwhile.
    clock.advance(s(2));
    assert!(seen.try_recv().is_err());
    assert_ne!(job.record().await.expect("record").attempt, 2);
    clock.advance(s(1));
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    backend.set(Verb::Heartbeat, Mode::Works);
    clock.advance(later);
    assert_eq!(running.ending().await, Event::Succeeded { id: job.id().clone(), attempt: 2 });
    let record = job.record().await.expect("record");
    assert_eq!(record.error.map(|e| e.kind), Some(FailureKind::WorkerLost));
    assert_eq!(running.stop().await, Summary { succeeded: 1, lost: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_claim_that_the_backend_says_is_lost() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    loses_its_claim(backend, async || clock.advance(s(31)), s(0)).await;
}

#[tokio::test]
async fn a_claim_whose_heartbeats_fail_until_its_lease_is_over() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    backend.set(Verb::Heartbeat, Mode::Fails);
    loses_its_claim(
        backend.clone(),
        async || {
            clock.advance(s(10));
            backend.answered(Verb::Heartbeat, 1).await;
            // It is tried again soon, as leases are running out.
            backend.answered(Verb::Heartbeat, 2).await;
            clock.advance(s(20));
        },
        s(0),
    )
    .await;
}

#[tokio::test]
async fn a_claim_whose_heartbeat_gets_no_answer_until_its_lease_is_over() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    backend.set(Verb::Heartbeat, Mode::Hangs);
    loses_its_claim(
        backend.clone(),
        async || {
            clock.advance(s(10));
            backend.called(Verb::Heartbeat, 1).await;
            // The backend has extended the lease, but nobody here knows.
            clock.advance(s(20));
        },
        s(10),
    )
    .await;
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
    clock.advance(s(31));
    assert!(matches!(running.ending().await, Event::Lost { .. }));
    assert_eq!(running.stop().await, Summary { lost: 1, ..Summary::default() });
    assert_eq!(backend.count(Verb::Settle), 0);
    assert_eq!(job.status().await.expect("status"), Status::Error);
}

/// In real time, since that is what it is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_burn_every_thread_of_the_runtime_keep_their_leases() {
    let backend = Arc::new(MemoryBackend::new());
    let builder = Consumer::builder(backend.clone()).concurrency(2).lease(Duration::from_millis(300));
    let attempts = Arc::new(AtomicU32::new(0));
    let count = attempts.clone();
    let running = Running::start(builder.handler(move |_: Job<u32>, _| {
        count.fetch_add(1, SeqCst);
        async {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1500) {
                std::hint::spin_loop();
            }
            Answer::Ok(())
        }
    }));
    let producer = Producer::new(backend);
    let jobs = vec![NewJob::new(&1).expect("body"), NewJob::new(&2).expect("body")];
    let jobs = producer.submit_many(jobs).await.expect("submit");
    for job in &jobs {
        job.wait_result::<()>(Some(s(20))).await.expect("result");
        assert_eq!(job.record().await.expect("record").attempt, 1);
    }
    assert_eq!(attempts.load(SeqCst), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_recorded_yet_keeps_its_claim() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
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
        assert_eq!(job.wait_result::<usize>(None).await.expect("result"), n);
        assert_eq!(job.record().await.expect("record").attempt, 1);
    }
    assert_eq!(running.stop().await, Summary { succeeded: 10, ..Summary::default() });
}

#[tokio::test]
async fn a_claim_that_runs_out_while_its_result_waits_is_lost() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    for verb in [Verb::Settle, Verb::Heartbeat] {
        backend.set(verb, Mode::Fails);
    }
    let builder = Consumer::builder(backend.clone());
    let mut running =
        Running::start(builder.handler(async |_: Job<()>, context: Context| Answer::Ok(context.attempt())));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    backend.answered(Verb::Settle, 1).await;
    clock.advance(s(31));
    assert!(matches!(running.ending().await, Event::Lost { attempt: 1, .. }));
    for verb in [Verb::Settle, Verb::Heartbeat] {
        backend.set(verb, Mode::Works);
    }
    assert_eq!(job.wait_result::<u32>(None).await.expect("result"), 2);
    running.stop().await;
}
