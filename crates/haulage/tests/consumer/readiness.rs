//! Consumers whose handlers lack what they need.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use haulage::{
    Backend, Clock, Consumer, Context, Failure, FailureKind, Job, JobError, NewJob, Producer, Status,
    consumer::{Call, Event, Summary},
    memory::MemoryBackend,
    metrics::{Labels, Meter, WorkerState},
    shutdown::Shutdown,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    claim_request,
    support::{Faulty, Running, Verb, manual_clock, s, soon},
};

type Answer<T = ()> = Result<T, Failure>;

/// Waits until the consumer says so of itself.
async fn becomes(meter: &Meter, state: WorkerState) {
    soon(async {
        while meter.snapshot().state != state {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Lets the longest wait that there is pass.
fn wait_out(clock: &Clock) {
    clock.advance(s(60));
}

/// What is there, or is not.
#[derive(Clone, Default)]
struct Server(Arc<AtomicBool>);

impl Server {
    fn up(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn ask(&self) -> Answer {
        match self.0.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Failure::not_ready("connection refused")),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_down_costs_no_job_an_attempt() {
    const SLOTS: u32 = 4;
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let producer = Producer::new(backend.clone());
    let jobs = (0..100).map(|n| NewJob::new(&n).expect("body").max_attempts(1)).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    let (server, calls) = (Server::default(), Arc::new(AtomicU32::new(0)));
    let handler = {
        let (server, calls) = (server.clone(), calls.clone());
        move |_: Job<u8>, _| {
            calls.fetch_add(1, Ordering::SeqCst);
            let answer = server.ask();
            async { answer }
        }
    };
    let builder = Consumer::builder(backend.clone()).concurrency(SLOTS as usize).handler(handler);
    let mut running = Running::start(builder);
    for _ in 0..SLOTS {
        assert!(matches!(running.ending().await, Event::Released { after: Duration::ZERO, .. }));
    }
    let record = jobs[0].record().await.expect("record");
    assert_eq!((record.status, record.counted()), (Status::Submitted, 0));
    assert_eq!(record.error, Some(JobError::released("connection refused")));
    assert_eq!(record.due_at, Some(record.submitted_at), "others may have it at once");
    // One job finds out whether it is there, again and again.
    for trial in 1..=10 {
        wait_out(&clock);
        assert!(matches!(running.ending().await, Event::Released { .. }));
        assert_eq!(calls.load(Ordering::SeqCst), SLOTS + trial);
        assert_eq!(backend.count(Verb::Claim), 1 + trial as usize);
    }
    let trials = &backend.calls(Verb::Claim)[1..];
    assert!(trials.iter().all(|call| call.items == 1), "{trials:?}");
    server.up();
    wait_out(&clock);
    for job in &jobs {
        assert_eq!(job.wait(None).await.expect("record").status, Status::Success);
    }
    let released = u64::from(SLOTS) + 10;
    assert_eq!(running.stop().await, Summary { succeeded: 100, released, ..Summary::default() });
}

#[tokio::test]
async fn the_waits_for_a_server_grow() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let server = Server::default();
    let handler = move |_: Job<u8>, _| {
        let answer = server.ask();
        async { answer }
    };
    let mut running = Running::start(Consumer::builder(backend.clone()).handler(handler));
    assert!(matches!(running.ending().await, Event::Released { .. }));
    let mut longest = s(1);
    for trial in 1..=8 {
        let waits = clock.now();
        // Not before half of it, and not after all.
        clock.advance(longest / 2 - Duration::from_millis(1));
        while running.events.try_recv().is_ok() {}
        assert_eq!(backend.count(Verb::Claim), trial, "after half of {longest:?}");
        clock.advance(longest / 2 + Duration::from_millis(1));
        assert!(matches!(running.ending().await, Event::Released { .. }));
        assert_eq!(clock.now().since(waits), longest);
        longest = (longest * 2).min(s(60));
    }
    running.stop().await;
}

#[tokio::test]
async fn other_workers_have_the_jobs_at_once_and_groups_stay_in_order() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let of_group = |n: u8| NewJob::new(&n).expect("body").group("g");
    let jobs = producer.submit_many((0..3).map(of_group).collect()).await.expect("submit");
    let handler = async |_: Job<u8>, _| Answer::<()>::Err(Failure::not_ready("no device"));
    let mut broken = Running::start(Consumer::builder(backend.clone()).concurrency(3).handler(handler));
    assert!(matches!(broken.ending().await, Event::Released { .. }));
    let (done, mut order) = mpsc::unbounded_channel();
    let handler = move |job: Job<u8>, _| {
        let sent = done.send(job.body);
        async move { Answer::Ok(sent.is_ok()) }
    };
    let sound = Running::start(Consumer::builder(backend.clone()).concurrency(3).handler(handler));
    for (n, job) in jobs.iter().enumerate() {
        job.wait(None).await.expect("record");
        assert_eq!(order.recv().await.map(usize::from), Some(n));
    }
    assert_eq!(sound.stop().await, Summary { succeeded: 3, ..Summary::default() });
    assert_eq!(broken.stop().await, Summary { released: 1, ..Summary::default() });
}

#[tokio::test]
async fn jobs_that_run_go_on_while_others_find_no_server() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let long = producer.submit(&0).await.expect("submit");
    let finish = Arc::new(Notify::new());
    let handler = {
        let finish = finish.clone();
        move |job: Job<u8>, _| {
            let finish = finish.clone();
            async move {
                match job.body {
                    0 => {
                        finish.notified().await;
                        Answer::Ok(())
                    }
                    _ => Err(Failure::not_ready("no device")),
                }
            }
        }
    };
    let mut running = Running::start(Consumer::builder(backend.clone()).concurrency(2).handler(handler));
    running.started(1).await;
    let other = producer.submit(&1).await.expect("submit");
    assert!(matches!(running.ending().await, Event::Released { .. }));
    assert_eq!(long.status().await.expect("status"), Status::InProgress);
    finish.notify_one();
    assert_eq!(long.wait(None).await.expect("record").status, Status::Success);
    // That one got through is a reason to look again, by one job, without waiting.
    loop {
        if matches!(running.ending().await, Event::Released { .. }) {
            break;
        }
    }
    assert_eq!(other.record().await.expect("record").counted(), 0);
    let summary = running.stop().await;
    assert_eq!(summary, Summary { succeeded: 1, released: 2, ..Summary::default() });
}

#[tokio::test]
async fn a_trial_that_takes_long_is_one_that_got_through() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let producer = Producer::new(backend.clone());
    producer.submit_many((0..3).map(|n| NewJob::new(&n).expect("body")).collect()).await.expect("submit");
    let (server, finish) = (Server::default(), CancellationToken::new());
    let handler = {
        let (server, finish) = (server.clone(), finish.clone());
        move |_: Job<u8>, _| {
            let (answer, finish) = (server.ask(), finish.clone());
            async move {
                answer?;
                finish.cancelled().await;
                Answer::Ok(())
            }
        }
    };
    let mut running = Running::start(Consumer::builder(backend.clone()).concurrency(3).handler(handler));
    for _ in 0..3 {
        running.ending().await;
    }
    server.up();
    wait_out(&clock);
    running.started(1).await;
    clock.advance(s(14));
    assert!(running.events.try_recv().is_err(), "the trial is alone");
    clock.advance(s(1));
    running.started(2).await;
    finish.cancel();
    for _ in 0..3 {
        assert!(matches!(running.ending().await, Event::Succeeded { .. }));
    }
    running.stop().await;
}

#[tokio::test]
async fn no_job_is_claimed_before_the_probe_says_so() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let (server, asked) = (Server::default(), Arc::new(AtomicU32::new(0)));
    let probe = {
        let (server, asked) = (server.clone(), asked.clone());
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let answer = server.ask();
            async { answer }
        }
    };
    let builder = Consumer::builder(backend.clone()).readiness_probe(probe);
    let consumer = builder.handler(async |_: Job<u8>, _| Answer::Ok(())).build().expect("in range");
    let (meter, shutdown) = (consumer.meter(), Shutdown::new());
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    becomes(&meter, WorkerState::NotReady).await;
    assert_eq!(meter.snapshot().reason.as_deref(), Some("connection refused"));
    for _ in 0..10 {
        let before = asked.load(Ordering::SeqCst);
        soon(async {
            // The next time counts from the answer, which may not be there yet.
            while asked.load(Ordering::SeqCst) == before {
                clock.advance(s(5));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert_eq!(backend.count(Verb::Claim), 0);
    server.up();
    let time_passes = async {
        loop {
            clock.advance(s(5));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        record = job.wait(None) => assert_eq!(record.expect("record").status, Status::Success),
        () = time_passes => {}
    }
    becomes(&meter, WorkerState::Ready).await;
    let snapshot = meter.snapshot();
    assert_eq!((snapshot.reason, snapshot.outages), (None, 1));
    shutdown.stop();
    soon(running).await.expect("the consumer does not panic");
}

#[tokio::test]
async fn a_probe_that_panics_or_hangs_has_said_no() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let asked = Arc::new(AtomicU32::new(0));
    let probe = move || {
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        async move {
            match turn {
                0 => panic!("this test's probe panics"),
                1 => std::future::pending().await,
                _ => Answer::Ok(()),
            }
        }
    };
    let builder = Consumer::builder(backend.clone()).readiness_probe(probe);
    let consumer = builder.handler(async |_: Job<u8>, _| Answer::Ok(())).build().expect("in range");
    let (meter, shutdown) = (consumer.meter(), Shutdown::new());
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    let says = async |words: &str| {
        soon(async {
            while !meter.snapshot().reason.is_some_and(|reason| reason.contains(words)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    };
    says("this test's probe panics").await;
    clock.advance(s(5));
    soon(async {
        while !meter.snapshot().reason.is_some_and(|reason| reason.contains("has taken longer than 30s")) {
            clock.advance(s(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    clock.advance(s(5));
    assert_eq!(job.wait(None).await.expect("record").status, Status::Success);
    shutdown.stop();
    soon(running).await.expect("the consumer does not panic");
}

#[tokio::test]
async fn a_consumer_that_is_not_ready_says_so_and_stops_when_told() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let handler = async |_: Job<u8>, _| Answer::<()>::Err(Failure::not_ready("no device"));
    let consumer = Consumer::builder(backend.clone()).handler(handler).build().expect("in range");
    let (meter, shutdown) = (consumer.meter(), Shutdown::new());
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    becomes(&meter, WorkerState::NotReady).await;
    let snapshot = meter.snapshot();
    assert_eq!((snapshot.reason.as_deref(), snapshot.outages), (Some("no device"), 1));
    assert!(snapshot.state.is_alive() && !snapshot.state.is_ready());
    assert!(
        snapshot.prometheus(&Labels::of("memory://")).contains("haulage_outages_total{store=\"memory\"} 1\n")
    );
    // It is that for as long as it takes, and not out of reach of its queue.
    for tries in 1..20 {
        soon(async {
            while meter.snapshot().ended().released < tries {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(meter.snapshot().state, WorkerState::NotReady);
        wait_out(backend.clock());
    }
    shutdown.stop();
    let summary = soon(running).await.expect("the consumer does not panic");
    assert_eq!((summary.failed, summary.retried), (0, 0));
    assert_eq!(meter.snapshot().reason, None);
}

#[tokio::test]
async fn a_consumer_with_nothing_to_try_is_ready_for_the_next_job() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let producer = Producer::new(backend.clone());
    let job = producer.submit(&1).await.expect("submit");
    let handler = async |job: Job<u8>, _| match job.body {
        1 => Err(Failure::not_ready("no device")),
        _ => Ok(()),
    };
    let consumer = Consumer::builder(backend.clone()).handler(handler).build().expect("in range");
    let (meter, shutdown) = (consumer.meter(), Shutdown::new());
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    becomes(&meter, WorkerState::NotReady).await;
    job.cancel().await.expect("cancel");
    wait_out(&clock);
    soon(async {
        while meter.snapshot().state != WorkerState::Ready {
            clock.advance(s(5));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let job = producer.submit(&2).await.expect("submit");
    assert_eq!(job.wait(None).await.expect("record").status, Status::Success);
    shutdown.stop();
    soon(running).await.expect("the consumer does not panic");
}

#[tokio::test]
async fn what_a_stop_takes_away_from_a_handler_is_no_outage() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let (shutdown, begun) = (Shutdown::new(), Arc::new(Notify::new()));
    let handler = {
        let (shutdown, begun) = (shutdown.clone(), begun.clone());
        move |_: Job<u8>, _| {
            let (shutdown, begun) = (shutdown.clone(), begun.clone());
            async move {
                begun.notify_one();
                shutdown.stopping().await;
                Answer::<()>::Err(Failure::not_ready("killed by SIGTERM"))
            }
        }
    };
    let consumer = Consumer::builder(backend.clone()).handler(handler).build().expect("in range");
    let meter = consumer.meter();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    soon(begun.notified()).await;
    shutdown.stop();
    let summary = soon(running).await.expect("the consumer does not panic");
    assert_eq!(summary, Summary { released: 1, ..Summary::default() });
    assert_eq!(meter.snapshot().outages, 0);
    assert_eq!(job.record().await.expect("record").counted(), 0);
}

#[tokio::test]
async fn a_dispatcher_that_drops_every_call_does_not_spin() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let job = Producer::new(backend.clone()).submit("x").await.expect("submit");
    for dispatch in [(|call| drop(call)) as fn(Call), |_| panic!("this test's dispatcher panics")] {
        let before = backend.count(Verb::Claim);
        let mut running = Running::start(Consumer::builder(backend.clone()).dispatcher(1, s(0), dispatch));
        for calls in 1..=5 {
            let Event::Released { reason: Some(reason), .. } = running.ending().await else {
                panic!("given back, with a reason")
            };
            assert_eq!(reason, "the call was dropped before it had an answer");
            assert_eq!(backend.count(Verb::Claim), before + calls);
            wait_out(backend.clock());
        }
        running.stop().await;
    }
    let record = job.record().await.expect("record");
    assert_eq!((record.status, record.counted()), (Status::Submitted, 0));
    assert_eq!(record.error.expect("why").kind, FailureKind::Released);
}

#[tokio::test]
async fn a_job_that_waits_for_its_batch_is_given_back_with_the_reason() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let jobs = (0..3).map(|n| NewJob::new(&n).expect("body")).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    let handler = async |jobs: Vec<(Job<u8>, Context)>| {
        jobs.iter().map(|_| Err::<(), _>(Failure::not_ready("no device"))).collect()
    };
    let builder = Consumer::builder(backend.clone()).concurrency(2).batch_handler(2, s(3600), handler);
    let mut running = Running::start(builder);
    for _ in 0..3 {
        assert!(matches!(running.ending().await, Event::Released { after: Duration::ZERO, .. }));
    }
    let record = jobs[2].record().await.expect("record");
    assert_eq!((record.status, record.counted()), (Status::Submitted, 0));
    assert_eq!(record.error, Some(JobError::released("no device")));
    running.stop().await;
}

#[tokio::test]
async fn what_a_claim_brings_late_is_given_back() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    producer.submit(&1).await.expect("submit");
    let handler = async |_: Job<u8>, _| Answer::<()>::Err(Failure::not_ready("no device"));
    let mut running = Running::start(Consumer::builder(backend.clone()).concurrency(2).handler(handler));
    running.started(1).await;
    running.ending().await;
    // The second claim waited for more jobs; it was ended, and asks for nothing now.
    backend.answered(Verb::Claim, 2).await;
    producer.submit(&2).await.expect("submit");
    assert_eq!(
        backend.claim(claim_request(), Default::default()).await.expect("claim").len(),
        2,
        "both are there for others"
    );
    running.stop().await;
}
