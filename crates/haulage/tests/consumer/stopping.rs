//! Shutdown, polite and not.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use haulage::{
    Backend, Consumer, Context, Failure, Job, JobId, NewJob, Producer, Status,
    consumer::{Event, Summary},
    memory::MemoryBackend,
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    claim_request,
    support::{Faulty, Mode, OnDrop, Running, Verb, manual_clock, s, soon},
};

type Answer<T = ()> = Result<T, Failure>;
type Endless = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How the first attempt of a job ends whose consumer stops.
fn given_back(id: JobId) -> Event {
    Event::Released { id, attempt: 1, after: s(0), reason: None }
}

/// What another consumer would get, now: id, attempt, and how many count.
async fn claim(backend: &dyn Backend) -> Vec<(String, u32, u32)> {
    let claimed = backend.claim(claim_request(), Default::default()).await.expect("claim").into_iter();
    claimed.map(|c| (c.key.id.to_string(), c.key.attempt, c.counted)).collect()
}

/// A handler that never ends, and says when it begins and when it is dropped.
fn endless(
    sender: &mpsc::UnboundedSender<&'static str>,
) -> impl Fn(Job<()>, Context) -> Endless + Send + Sync + use<> {
    let sender = sender.clone();
    move |_, _| {
        let dropped = OnDrop(sender.clone(), "dropped");
        let _ = sender.send("begun");
        Box::pin(async move {
            let _dropped = dropped;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn an_idle_consumer_stops_at_once() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let running =
        Running::start(Consumer::builder(backend.clone()).handler(async |_: Job<()>, _| Answer::Ok(())));
    backend.called(Verb::Claim, 1).await;
    assert_eq!(running.stop().await, Summary::default());
}

#[tokio::test]
async fn a_consumer_leaves_nothing_under_way_that_it_has_asked_for() {
    for second_signal in [false, true] {
        let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
        backend.set(Verb::Drain, Mode::Hangs);
        let running =
            Running::start(Consumer::builder(backend.clone()).handler(async |_: Job<()>, _| Answer::Ok(())));
        backend.called(Verb::Claim, 1).await;
        let shutdown = running.shutdown.clone();
        let drained = backend.clone();
        let stopping = tokio::spawn(async move { (running.stop().await, drained.answers(Verb::Drain)) });
        backend.called(Verb::Drain, 1).await;
        backend.answered(Verb::Claim, 1).await;
        if second_signal {
            shutdown.stop_now();
        } else {
            backend.set(Verb::Drain, Mode::Works);
        }
        let (summary, drained) = soon(stopping).await.expect("joins");
        assert_eq!(summary, Summary::default());
        assert_eq!(drained, usize::from(!second_signal), "it waits for the backend, unless told not to");
    }
}

#[tokio::test]
async fn a_backend_that_does_not_drain_holds_a_consumer_for_its_grace_period_only() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    backend.set(Verb::Drain, Mode::Hangs);
    let builder = Consumer::builder(backend.clone()).shutdown_grace_period(s(10));
    let running = Running::start(builder.handler(async |_: Job<()>, _| Answer::Ok(())));
    backend.called(Verb::Claim, 1).await;
    let (began, at_end) = (clock.now(), clock.clone());
    let mut stopping = tokio::spawn(async move { (running.stop().await, at_end.now()) });
    // The period has begun by then.
    backend.called(Verb::Drain, 1).await;
    clock.advance(s(9));
    let early = tokio::time::timeout(Duration::from_millis(20), &mut stopping).await;
    assert!(early.is_err(), "it has not waited: {early:?}");
    clock.advance(s(1));
    let (summary, ended) = soon(stopping).await.expect("joins");
    assert_eq!(summary, Summary::default());
    assert_eq!(ended.since(began), s(10));
}

#[tokio::test]
async fn what_runs_is_finished_and_nothing_new_begun() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let builder = Consumer::builder(backend.clone()).concurrency(2);
    let mut running = Running::start(builder.handler(move |_: Job<u8>, context: Context| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            assert!(!context.is_cancelled());
            Answer::Ok(())
        }
    }));
    let producer = Producer::new(backend.clone());
    let job = producer.submit(&1).await.expect("submit");
    running.started(1).await;
    backend.called(Verb::Claim, 2).await;
    running.shutdown.stop();
    backend.answered(Verb::Claim, 2).await;
    let later = producer.submit(&2).await.expect("submit");
    // Heartbeats go on meanwhile.
    for round in 1..3 {
        clock.advance(s(10));
        backend.answered(Verb::Heartbeat, round).await;
    }
    open.add_permits(1);
    assert_eq!(running.finish().await, Summary { succeeded: 1, ..Summary::default() });
    assert_eq!(job.status().await.expect("status"), Status::Success);
    assert_eq!(later.status().await.expect("status"), Status::Submitted);
    assert_eq!(backend.count(Verb::Claim), 2);
}

#[tokio::test]
async fn what_is_not_finished_in_time_is_given_back() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let (sender, mut seen) = mpsc::unbounded_channel();
    let builder = Consumer::builder(backend.clone()).concurrency(3).shutdown_grace_period(s(20));
    let mut running = Running::start(builder.handler(endless(&sender)));
    let producer = Producer::new(backend.clone());
    let jobs = (0..3).map(|_| NewJob::new(&()).expect("body").max_attempts(1)).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    running.started(3).await;
    for _ in 0..3 {
        assert_eq!(soon(seen.recv()).await, Some("begun"));
    }
    running.shutdown.stop();
    // With no room, it is not claiming. A heartbeat shows that it is going on.
    clock.advance(s(10));
    backend.answered(Verb::Heartbeat, 1).await;
    clock.advance(s(9));
    assert_eq!(claim(&*backend).await, []);
    assert!(seen.try_recv().is_err());
    clock.advance(s(11));
    assert_eq!(running.finish().await, Summary { released: 3, ..Summary::default() });
    for _ in 0..3 {
        assert_eq!(soon(seen.recv()).await, Some("dropped"));
    }
    // In one call, and the attempt does not count.
    assert_eq!(backend.calls(Verb::Settle).iter().map(|call| call.items).collect::<Vec<_>>(), [3]);
    let expected: Vec<_> = jobs.iter().map(|job| (job.id().to_string(), 2, 1)).collect();
    assert_eq!(claim(&*backend).await, expected);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let (sender, mut seen) = mpsc::unbounded_channel();
    let running = Running::start(Consumer::builder(backend.clone()).handler(endless(&sender)));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    assert_eq!(soon(seen.recv()).await, Some("begun"));
    running.shutdown.stop();
    assert!(running.shutdown.is_stopping() && !running.shutdown.is_stopping_now());
    running.shutdown.stop_now();
    assert_eq!(running.finish().await, Summary { released: 1, ..Summary::default() });
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    assert_eq!(claim(&*backend).await, [(job.id().to_string(), 2, 1)]);
}

#[tokio::test]
async fn dropping_the_future_gives_everything_back() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut running = Running::start(Consumer::builder(backend.clone()).handler(endless(&sender)));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    assert_eq!(soon(seen.recv()).await, Some("begun"));
    running.task.abort();
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    assert_eq!(running.ending().await, given_back(job.id().clone()));
    assert_eq!(claim(&*backend).await, [(job.id().to_string(), 2, 1)]);
    assert!(soon(running.events.recv()).await.is_none(), "the engine is gone");
}

#[test]
fn a_runtime_that_ends_gives_everything_back() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (sender, _seen) = mpsc::unbounded_channel();
    let first = runtime();
    let (mut running, job) = first.block_on(async {
        let mut running = Running::start(Consumer::builder(backend.clone()).handler(endless(&sender)));
        let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
        running.started(1).await;
        (running, job)
    });
    drop(first);
    runtime().block_on(async {
        assert!(matches!(running.ending().await, Event::Released { attempt: 1, after: Duration::ZERO, .. }));
        assert!(soon(running.events.recv()).await.is_none(), "the engine is gone");
        assert_eq!(claim(&*backend).await, [(job.id().to_string(), 2, 1)]);
    });
}

#[tokio::test]
async fn jobs_that_wait_for_their_batch_are_given_back_unstarted() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let builder = Consumer::builder(backend.clone());
    let mut running =
        Running::start(builder.batch_handler(8, s(3600), async |batch: Vec<(Job<()>, Context)>| {
            batch.iter().map(|_| Answer::Ok(())).collect()
        }));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    assert!(matches!(running.next().await, Event::Claimed { .. }));
    running.shutdown.stop();
    assert!(matches!(running.next().await, Event::Released { .. }));
    assert_eq!(running.finish().await, Summary { released: 1, ..Summary::default() });
    assert_eq!(claim(&*backend).await, [(job.id().to_string(), 2, 1)]);
}

#[tokio::test]
async fn what_the_last_claim_still_brings_is_given_back() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    backend.set(Verb::Claim, Mode::Hangs);
    let mut running =
        Running::start(Consumer::builder(backend.clone()).handler(async |_: Job<()>, _| Answer::Ok(())));
    backend.called(Verb::Claim, 1).await;
    running.shutdown.stop();
    while job.status().await.expect("status") == Status::Submitted {
        tokio::task::yield_now().await;
    }
    backend.set(Verb::Claim, Mode::Works);
    let id = job.id().clone();
    assert_eq!(running.next().await, Event::Claimed { id: id.clone(), attempt: 1 });
    assert_eq!(running.next().await, given_back(id));
    assert_eq!(running.finish().await, Summary { released: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_backend_out_of_reach_does_not_hold_up_the_end() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let builder = Consumer::builder(backend.clone()).concurrency(2);
    let mut running = Running::start(builder.handler(async |_: Job<()>, _| Answer::Ok(())));
    backend.set(Verb::Settle, Mode::Fails);
    backend.called(Verb::Claim, 1).await;
    backend.set(Verb::Claim, Mode::Hangs);
    Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    backend.called(Verb::Claim, 2).await;
    let start = Instant::now();
    running.shutdown.stop_now();
    assert_eq!(running.finish().await, Summary { lost: 1, ..Summary::default() });
    assert!(start.elapsed() < s(60), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_blocking_handler_that_does_not_return_does_not_hold_up_the_end() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let (gate, go_on) = std::sync::mpsc::channel::<()>();
    let go_on = std::sync::Mutex::new(go_on);
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.blocking_handler(move |_: Job<()>, context: Context| {
        let told = go_on.lock().expect("alone").recv();
        assert!(told.is_err() && context.is_cancelled());
        Answer::Ok(())
    }));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    running.shutdown.stop_now();
    assert_eq!(running.finish().await, Summary { released: 1, ..Summary::default() });
    assert_eq!(claim(&*backend).await, [(job.id().to_string(), 2, 1)]);
    drop(gate);
}

#[tokio::test]
async fn a_blocking_handler_that_finishes_on_being_told_is_recorded() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let builder = Consumer::builder(backend.clone()).shutdown_grace_period(s(0)).concurrency(2);
    let mut running = Running::start(builder.blocking_handler(|job: Job<bool>, context: Context| {
        while !context.is_cancelled() {
            std::thread::yield_now();
        }
        if job.body { Ok("as far as I got") } else { Err(Failure::fatal("interrupted")) }
    }));
    let producer = Producer::new(backend);
    let done = producer.submit(&true).await.expect("submit");
    let not = producer.submit(&false).await.expect("submit");
    running.started(2).await;
    assert_eq!(running.stop().await, Summary { succeeded: 1, released: 1, ..Summary::default() });
    assert_eq!(done.try_result::<String>().await.expect("result"), "as far as I got");
    assert_eq!(not.status().await.expect("status"), Status::Submitted);
}

#[tokio::test]
async fn a_stop_takes_no_longer_because_the_clock_was_set_back() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let (sender, mut calls) = mpsc::unbounded_channel();
    let builder = Consumer::builder(backend.clone()).shutdown_grace_period(s(60)).handler(endless(&sender));
    let running = Running::start(builder);
    Producer::new(backend.clone()).submit(&()).await.expect("submit");
    assert_eq!(soon(calls.recv()).await, Some("begun"));
    running.shutdown.stop();
    // A round of heartbeats, by which it has seen that it is to stop.
    clock.advance(s(11));
    backend.answered(Verb::Heartbeat, 1).await;
    clock.set(clock.now().before(s(3600)));
    clock.advance(s(60));
    assert_eq!(running.finish().await, Summary { released: 1, ..Summary::default() });
}
