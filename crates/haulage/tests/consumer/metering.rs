//! What a consumer measures of itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use haulage::{
    Clock, Consumer, Context, Failure, Job, NewJob, Producer, QueueName, Queues, RetryPolicy,
    consumer::{ConsumerBuilder, Summary},
    memory::MemoryBackend,
    metrics::{Labels, Meter, Snapshot, WorkerState},
    shutdown::Shutdown,
};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::support::{Faulty, Mode, Verb, manual_clock, s, soon};

type Answer<T = ()> = Result<T, Failure>;

/// A consumer that runs, and its meter.
struct Metered {
    meter: Meter,
    shutdown: Shutdown,
    task: JoinHandle<Summary>,
}

impl Metered {
    fn start(builder: ConsumerBuilder) -> Self {
        let consumer = builder.build().expect("the settings are in range");
        let (meter, shutdown) = (consumer.meter(), Shutdown::new());
        assert_eq!(meter.snapshot().state, WorkerState::Starting);
        Self { meter, task: tokio::spawn(consumer.run(shutdown.clone())), shutdown }
    }

    async fn stop(self) -> Snapshot {
        self.shutdown.stop();
        let summary = soon(self.task).await.expect("the consumer does not panic");
        let snapshot = self.meter.snapshot();
        assert_eq!(snapshot.ended(), summary);
        assert_eq!((snapshot.state, snapshot.busy, snapshot.held), (WorkerState::Stopped, 0, 0));
        snapshot
    }
}

/// Waits until it is so. The engine publishes with each of its turns, and
/// there is nothing else to wait for.
async fn until(meter: &Meter, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
    soon(async {
        loop {
            let snapshot = meter.snapshot();
            if holds(&snapshot) {
                return snapshot;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

#[tokio::test]
async fn every_outcome_is_counted_and_its_time_taken() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let moved = clock.clone();
    // Each attempt takes as many seconds as its body says.
    let handler = move |job: Job<(u64, String)>, _: Context| {
        moved.advance(s(job.body.0));
        async move {
            match job.body.1.as_str() {
                "fine" => Answer::Ok(()),
                "bad" => Err(Failure::fatal("bad")),
                "again" => Err(Failure::retry("again")),
                _ => panic!("a bug"),
            }
        }
    };
    let metered = Metered::start(
        Consumer::builder(backend.clone())
            .lease(s(3600 * 24))
            .retry_policy(RetryPolicy::immediate())
            .handler(handler),
    );
    let producer = Producer::new(backend);
    for (seconds, kind) in [(1, "fine"), (60, "fine"), (4, "bad"), (7, "again"), (20, "panic")] {
        let job = NewJob::new(&(seconds, kind)).expect("body").max_attempts(2);
        producer.submit_job(job).await.expect("submit").wait(None).await.expect("the end");
    }
    let snapshot = metered.stop().await;
    let expected = Summary { succeeded: 2, failed: 3, retried: 2, ..Summary::default() };
    assert_eq!(snapshot.ended(), expected);
    assert_eq!(snapshot.job_seconds().count(), 7);
    assert_eq!(snapshot.job_seconds().sum(), s(1 + 60 + 4 + 7 + 7 + 20 + 20));
}

#[tokio::test]
async fn a_timeout_counts_in_full_and_what_was_cut_short_not_at_all() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone())
        .concurrency(2)
        .lease(s(3600))
        .cancel_grace_period(s(0))
        .retry_policy(RetryPolicy::immediate());
    let handler = async |_: Job<()>, _: Context| {
        std::future::pending::<()>().await;
        Answer::Ok(())
    };
    let metered = Metered::start(builder.handler(handler));
    let producer = Producer::new(backend.clone());
    let job = NewJob::new(&()).expect("body").timeout(s(90)).max_attempts(1);
    producer.submit_job(job).await.expect("submit");
    let cancelled = producer.submit(&()).await.expect("submit");
    until(&metered.meter, |snapshot| snapshot.busy == 2).await;
    clock.advance(s(30));
    cancelled.cancel().await.expect("cancel");
    until(&metered.meter, |snapshot| snapshot.ended().cancelled == 1).await;
    clock.advance(s(60));
    until(&metered.meter, |snapshot| snapshot.ended().failed == 1).await;
    let snapshot = metered.stop().await;
    assert_eq!((snapshot.job_seconds().count(), snapshot.job_seconds().sum()), (1, s(90)));
}

#[tokio::test]
async fn each_queue_has_its_own_numbers() {
    let backend = Arc::new(MemoryBackend::new());
    let queues: Queues = "interactive,bulk,idle".parse().expect("queues");
    let handler = async |job: Job<bool>, _: Context| {
        if job.body { Ok(()) } else { Err(Failure::fatal("bad")) }
    };
    let builder = Consumer::builder(backend.clone()).queues(queues);
    let metered = Metered::start(builder.handler(handler));
    let producer = Producer::new(backend);
    for (queue, body) in [("interactive", true), ("bulk", true), ("bulk", false), ("bulk", false)] {
        let queue = QueueName::new(queue).expect("a name");
        let job = NewJob::new(&body).expect("body").queue(queue);
        producer.submit_job(job).await.expect("submit").wait(None).await.expect("the end");
    }
    let snapshot = metered.stop().await;
    let counts = snapshot.queues.iter().map(|queue| {
        let taken = queue.job_seconds.count();
        (queue.queue.as_str(), queue.ended.succeeded, queue.ended.failed, taken)
    });
    assert_eq!(counts.collect::<Vec<_>>(), [("interactive", 1, 0, 1), ("bulk", 1, 2, 3), ("idle", 0, 0, 0)]);
    let page = snapshot.prometheus(&Labels::of("memory://"));
    for line in [
        r#"haulage_jobs_total{store="memory",queue="bulk",outcome="error"} 2"#,
        r#"haulage_jobs_total{store="memory",queue="idle",outcome="error"} 0"#,
        r#"haulage_job_duration_seconds_count{store="memory",queue="interactive"} 1"#,
    ] {
        assert!(page.lines().any(|one| one == line), "{line} in {page}");
    }
}

#[tokio::test]
async fn the_jobs_of_a_batch_share_its_time() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let moved = clock.clone();
    let handler = move |jobs: Vec<(Job<u32>, Context)>| {
        moved.advance(s(12));
        async move { jobs.iter().map(|(job, _)| Answer::Ok(job.body)).collect() }
    };
    let jobs = [1, 2, 3, 4].iter().map(|body| NewJob::new(body).expect("body")).collect();
    Producer::new(backend.clone()).submit_many(jobs).await.expect("submit");
    let builder = Consumer::builder(backend).lease(s(3600)).batch_handler(4, s(0), handler);
    let metered = Metered::start(builder);
    until(&metered.meter, |snapshot| snapshot.ended().succeeded == 4).await;
    let snapshot = metered.stop().await;
    assert_eq!(snapshot.job_seconds().count(), 4);
    assert_eq!(snapshot.job_seconds().sum(), s(12));
}

#[tokio::test]
async fn what_runs_is_seen_before_the_handler_can_ask() {
    let backend = Arc::new(MemoryBackend::new());
    let (asked, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (seen, gate) = (asked.clone(), go.clone());
    let handler = move |_: Job<()>, _: Context| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            seen.add_permits(1);
            gate.acquire().await.expect("open").forget();
            Answer::Ok(())
        }
    };
    let metered = Metered::start(Consumer::builder(backend.clone()).concurrency(3).handler(handler));
    let ready = until(&metered.meter, |snapshot| snapshot.state == WorkerState::Ready).await;
    assert_eq!((ready.slots, ready.busy, ready.held), (3, 0, 0));
    let producer = Producer::new(backend);
    let job = producer.submit(&()).await.expect("submit");
    soon(asked.acquire()).await.expect("open").forget();
    assert_eq!(metered.meter.snapshot().held, 1);
    until(&metered.meter, |snapshot| snapshot.busy == 1).await;
    metered.shutdown.stop();
    let stopping = until(&metered.meter, |snapshot| snapshot.state == WorkerState::Stopping).await;
    assert_eq!((stopping.busy, stopping.held), (1, 1));
    go.add_permits(1);
    job.wait(None).await.expect("the end");
    assert_eq!(metered.stop().await.ended().succeeded, 1);
}

#[tokio::test]
async fn a_backend_that_fails_is_unreachable_until_it_answers() {
    for verb in [Verb::Claim, Verb::Heartbeat, Verb::Settle] {
        let backend = Faulty::new(MemoryBackend::new());
        let go = Arc::new(Semaphore::new(0));
        let gate = go.clone();
        let handler = move |_: Job<()>, _: Context| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.expect("open").forget();
                Answer::Ok(())
            }
        };
        let builder = Consumer::builder(backend.clone())
            .lease(s(60))
            .heartbeat_interval(Duration::from_millis(20))
            .claim_wait(Duration::from_millis(20));
        let metered = Metered::start(builder.handler(handler));
        Producer::new(backend.clone()).submit(&()).await.expect("submit");
        until(&metered.meter, |snapshot| snapshot.state == WorkerState::Ready && snapshot.busy == 1).await;
        backend.set(verb, Mode::Fails);
        if verb != Verb::Heartbeat {
            go.add_permits(1);
        }
        until(&metered.meter, |snapshot| snapshot.state == WorkerState::Unreachable).await;
        backend.set(verb, Mode::Works);
        go.add_permits(1);
        until(&metered.meter, |snapshot| {
            snapshot.state == WorkerState::Ready && snapshot.ended().succeeded == 1
        })
        .await;
        metered.stop().await;
    }
}

#[tokio::test]
async fn an_outage_of_what_is_not_called_any_more_is_over() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let builder = Consumer::builder(backend.clone()).lease(s(30));
    let metered = Metered::start(builder.handler(move |_: Job<()>, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Answer::Ok(())
        }
    }));
    Producer::new(backend.clone()).submit(&()).await.expect("submit");
    until(&metered.meter, |snapshot| snapshot.held == 1).await;
    backend.set(Verb::Heartbeat, Mode::Fails);
    clock.advance(s(31));
    until(&metered.meter, |snapshot| snapshot.state == WorkerState::Unreachable).await;
    // The settle works, and then there is nothing to heartbeat for.
    open.add_permits(1);
    let done = until(&metered.meter, |snapshot| snapshot.state == WorkerState::Ready).await;
    assert_eq!((done.held, done.ended().succeeded), (0, 1));
    metered.stop().await;
}

#[tokio::test]
async fn a_claim_that_failed_is_over_when_there_is_no_room_for_another() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let handler = async |jobs: Vec<(Job<()>, Context)>| {
        jobs[0].1.cancelled().await;
        jobs.iter().map(|_| Answer::Ok(())).collect()
    };
    let builder = Consumer::builder(backend.clone()).lease(s(24 * 3600)).claim_wait(s(1)).batch_handler(
        2,
        s(12 * 3600),
        handler,
    );
    let metered = Metered::start(builder);
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    until(&metered.meter, |snapshot| snapshot.held == 1).await;
    backend.set(Verb::Claim, Mode::Fails);
    until(&metered.meter, |snapshot| {
        // The claim that is under way waits by this clock.
        clock.advance(s(1));
        snapshot.state == WorkerState::Unreachable
    })
    .await;
    clock.advance(s(12 * 3600));
    until(&metered.meter, |snapshot| snapshot.state == WorkerState::Ready && snapshot.busy == 1).await;
    job.cancel().await.expect("cancel");
    metered.stop().await;
}

#[tokio::test]
async fn the_time_of_a_job_does_not_go_by_a_clock_that_can_be_set() {
    let correction = Arc::new(AtomicI64::new(0));
    let backend = Arc::new(MemoryBackend::with_clock(Clock::corrected(correction.clone())));
    let handler = move |_: Job<()>, _: Context| {
        correction.fetch_add(3_600_000_000, Ordering::Relaxed);
        async { Answer::Ok(()) }
    };
    let metered = Metered::start(Consumer::builder(backend.clone()).lease(s(3600 * 24)).handler(handler));
    let job = Producer::new(backend).submit(&()).await.expect("submit");
    job.wait(None).await.expect("the end");
    let snapshot = metered.stop().await;
    assert!(snapshot.job_seconds().sum() < s(60), "{:?}", snapshot.job_seconds().sum());
}

#[tokio::test]
async fn a_consumer_that_never_ran_has_ended_when_it_is_dropped() {
    let builder = Consumer::builder(Arc::new(MemoryBackend::new()));
    let consumer = builder.handler(async |_: Job<()>, _| Answer::Ok(())).build().expect("build");
    let meter = consumer.meter();
    drop(consumer);
    assert_eq!(meter.snapshot().state, WorkerState::Stopped);
    assert!(!meter.snapshot().state.is_alive());
}
