//! Jobs that are told to stop: by somebody, or by their timeout.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use haulage::{
    Consumer, Context, Error, Failure, FailureKind, Job, NewJob, Producer, RetryPolicy, Status,
    backend::Cancellation,
    consumer::{Event, Summary},
    memory::MemoryBackend,
};
use tokio::sync::{Semaphore, mpsc};

use crate::support::{Faulty, Mode, OnDrop, Running, Verb, manual_clock, s, soon};

type Answer<T = ()> = Result<T, Failure>;

#[tokio::test]
async fn a_running_handler_hears_of_it_and_stops() {
    for blocking in [false, true] {
        let clock = manual_clock();
        let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
        let builder = Consumer::builder(backend.clone());
        let mut running = Running::start(if blocking {
            builder.blocking_handler(|_: Job<()>, context: Context| {
                while !context.is_cancelled() {
                    std::thread::yield_now();
                }
                Answer::<()>::Err(Failure::retry("whatever the error is"))
            })
        } else {
            builder.handler(async |_: Job<()>, context: Context| {
                context.cancelled().await;
                Answer::<()>::Err(Failure::cancelled())
            })
        });
        let job = Producer::new(backend).submit(&()).await.expect("submit");
        running.started(1).await;
        clock.advance(s(7));
        assert_eq!(job.cancel().await.expect("cancel"), Cancellation::Requested);
        let expected = Event::Cancelled { id: job.id().clone(), attempt: 1, took: s(7) };
        assert_eq!(running.ending().await, expected);
        let error = job.result::<()>(None).await.expect_err("cancelled");
        assert!(matches!(error, Error::JobCancelled(_)), "{error}");
        assert_eq!(running.stop().await, Summary { cancelled: 1, ..Summary::default() });
    }
}

#[tokio::test]
async fn whatever_fails_after_it_was_told_to_stop_is_a_cancelled_job() {
    let failures: [fn(&'static str) -> Failure; 3] = [Failure::retry, Failure::fatal, Failure::not_ready];
    for failure in failures {
        let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
        let mut running = Running::start(Consumer::builder(backend.clone()).handler(
            move |_: Job<()>, context: Context| async move {
                context.cancelled().await;
                Answer::<()>::Err(failure("connection reset"))
            },
        ));
        let job = Producer::new(backend).submit(&()).await.expect("submit");
        running.started(1).await;
        job.cancel().await.expect("cancel");
        assert!(matches!(running.ending().await, Event::Cancelled { attempt: 1, .. }));
        assert_eq!(job.status().await.expect("status"), Status::Cancelled);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_cancel_between_the_claim_and_its_answer_is_heard() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    backend.set(Verb::Claim, Mode::Hangs);
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |_: Job<()>, context: Context| {
        context.cancelled().await;
        Answer::<()>::Err(Failure::cancelled())
    }));
    while job.status().await.expect("status") == Status::Submitted {
        tokio::task::yield_now().await;
    }
    assert_eq!(job.cancel().await.expect("cancel"), Cancellation::Requested);
    backend.set(Verb::Claim, Mode::Works);
    assert!(matches!(running.ending().await, Event::Cancelled { .. }));
    running.stop().await;
}

#[tokio::test]
async fn a_job_that_waits_for_its_batch_is_cancelled_unstarted() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let builder = Consumer::builder(backend.clone());
    let mut running =
        Running::start(builder.batch_handler(2, s(3600), async |batch: Vec<(Job<u8>, Context)>| {
            batch.iter().map(|(job, _)| Answer::Ok(job.body)).collect()
        }));
    let producer = Producer::new(backend);
    let job = producer.submit(&0).await.expect("submit");
    assert!(matches!(running.next().await, Event::Claimed { .. }));
    job.cancel().await.expect("cancel");
    assert_eq!(running.next().await, Event::Cancelled { id: job.id().clone(), attempt: 1, took: s(0) });
    // Its place in the batch is free again.
    let new = [1, 2].map(|n| NewJob::new(&n).expect("body"));
    for handle in producer.submit_many(new.into()).await.expect("submit") {
        handle.result::<u8>(None).await.expect("result");
    }
    assert_eq!(running.stop().await, Summary { succeeded: 2, cancelled: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_result_in_time_counts_all_the_same() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |_: Job<()>, context: Context| {
        context.cancelled().await;
        Answer::Ok("done before I could stop")
    }));
    let job = Producer::new(backend).submit(&()).await.expect("submit");
    running.started(1).await;
    job.cancel().await.expect("cancel");
    assert!(matches!(running.ending().await, Event::Succeeded { .. }));
    assert_eq!(job.status().await.expect("status"), Status::Success);
    running.stop().await;
}

#[tokio::test]
async fn a_handler_that_does_not_stop_is_dropped_after_the_grace_period() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone()).cancel_grace_period(s(3));
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let sender = sender.clone();
        async move {
            let _dropped = OnDrop(sender.clone(), "dropped");
            context.cancelled().await;
            let _ = sender.send("told");
            std::future::pending::<()>().await;
            Answer::Ok(())
        }
    }));
    let job = Producer::new(backend).submit(&()).await.expect("submit");
    running.started(1).await;
    job.cancel().await.expect("cancel");
    assert_eq!(soon(seen.recv()).await, Some("told"));
    clock.advance(s(2));
    assert_eq!(job.status().await.expect("status"), Status::InProgress);
    clock.advance(s(1));
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    assert!(matches!(running.ending().await, Event::Cancelled { .. }));
    running.stop().await;
}

#[tokio::test]
async fn a_handler_may_cancel_its_job_itself() {
    let backend = Arc::new(MemoryBackend::new());
    let builder = Consumer::builder(backend.clone());
    let mut running =
        Running::start(builder.handler(async |_: Job<()>, _| Answer::<()>::Err(Failure::cancelled())));
    Producer::new(backend).submit(&()).await.expect("submit");
    assert!(matches!(running.ending().await, Event::Cancelled { attempt: 1, .. }));
    running.stop().await;
}

#[tokio::test]
async fn an_attempt_that_runs_too_long_is_dropped_and_tried_again() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy::immediate());
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let dropped = OnDrop(sender.clone(), "dropped");
        async move {
            if context.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            drop(dropped);
            Answer::Ok(())
        }
    }));
    let job = NewJob::new(&()).expect("body").timeout(s(15));
    let job = Producer::new(backend).submit_job(job).await.expect("submit");
    running.started(1).await;
    clock.advance(s(14));
    assert_eq!(job.status().await.expect("status"), Status::InProgress);
    clock.advance(s(1));
    let Event::Retried { error, attempt: 1, .. } = running.ending().await else { panic!("a retry") };
    assert_eq!(error.kind, FailureKind::Timeout);
    assert_eq!(error.message, "attempt 1 ran longer than its timeout of 15s");
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    assert!(matches!(running.ending().await, Event::Succeeded { attempt: 2, .. }));
    running.stop().await;
}

#[tokio::test]
async fn a_blocking_handler_keeps_its_slot_until_it_returns() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone());
    let returned = Arc::new(AtomicBool::new(false));
    let (gate, go_on) = std::sync::mpsc::channel::<()>();
    let go_on = std::sync::Mutex::new(go_on);
    let mut running = Running::start(builder.blocking_handler(move |job: Job<String>, context: Context| {
        if job.body == "slow" {
            go_on.lock().expect("alone").recv().expect("the test goes on");
            assert!(context.is_cancelled());
            returned.store(true, SeqCst);
        }
        Answer::Ok(returned.load(SeqCst))
    }));
    let producer = Producer::new(backend);
    let job = NewJob::new("slow").expect("body").timeout(s(5)).max_attempts(1);
    producer.submit_job(job).await.expect("submit");
    let next = producer.submit("next").await.expect("submit");
    running.started(1).await;
    clock.advance(s(5));
    assert!(matches!(running.ending().await, Event::Failed { .. }), "settled while it runs");
    assert_eq!(next.status().await.expect("status"), Status::Submitted, "there is no room for it");
    gate.send(()).expect("the handler listens");
    assert!(next.result::<bool>(None).await.expect("result"), "started after the other's return");
    assert_eq!(running.stop().await, Summary { succeeded: 1, failed: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_without_a_consumer() {
    let backend = Arc::new(MemoryBackend::new());
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let mut running = Running::start(Consumer::builder(backend.clone()).handler(move |_: Job<u8>, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Answer::Ok(())
        }
    }));
    let producer = Producer::new(backend);
    let first = producer.submit(&1).await.expect("submit");
    running.started(1).await;
    let second = producer.submit(&2).await.expect("submit");
    assert_eq!(second.cancel().await.expect("cancel"), Cancellation::Done);
    open.add_permits(1);
    first.result::<()>(None).await.expect("result");
    assert_eq!(first.cancel().await.expect("cancel"), Cancellation::TooLate(Status::Success));
    assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
}
