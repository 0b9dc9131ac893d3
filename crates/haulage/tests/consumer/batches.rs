//! Handlers that take several jobs at once.

use std::sync::{Arc, Mutex};

use haulage::{
    Consumer, Context, Failure, FailureKind, Job, NewJob, Producer, RetryPolicy, Status,
    consumer::{Event, Summary},
    memory::MemoryBackend,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::support::{Faulty, OnDrop, Running, Verb, manual_clock, s, soon};

type Answer<T = ()> = Result<T, Failure>;
type Batch<T> = Vec<(Job<T>, Context)>;

fn jobs(bodies: impl IntoIterator<Item = impl serde::Serialize>) -> Vec<NewJob> {
    bodies.into_iter().map(|body| NewJob::new(&body).expect("body")).collect()
}

/// A batch handler that answers with the size of the batch.
async fn size(batch: Batch<Value>) -> Vec<Answer<usize>> {
    let size = batch.len();
    batch.iter().map(|_| Ok(size)).collect()
}

#[tokio::test]
async fn a_full_batch_goes_at_once() {
    for blocking in [false, true] {
        let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
        let builder = Consumer::builder(backend.clone());
        let running = Running::start(if blocking {
            builder.blocking_batch_handler(3, s(3600), |batch: Batch<Value>| {
                let size = batch.len();
                batch.iter().map(|_| Answer::Ok(size)).collect()
            })
        } else {
            builder.batch_handler(3, s(3600), size)
        });
        let producer = Producer::new(backend);
        // One by one, so that the batch takes several claims.
        for n in 0..2 {
            producer.submit(&n).await.expect("submit");
        }
        let handles = producer.submit_many(jobs(2..6)).await.expect("submit");
        for handle in handles {
            assert_eq!(handle.result::<usize>(None).await.expect("result"), 3);
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn a_batch_waits_no_longer_because_the_clock_was_set_back() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let mut running = Running::start(Consumer::builder(backend.clone()).batch_handler(3, s(8), size));
    let job = Producer::new(backend).submit(&1).await.expect("submit");
    assert!(matches!(running.next().await, Event::Claimed { .. }));
    clock.set(clock.now().before(s(3600)));
    clock.advance(s(8));
    assert_eq!(job.result::<usize>(None).await.expect("result"), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_batch_that_does_not_fill_goes_after_a_while() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let mut running = Running::start(Consumer::builder(backend.clone()).batch_handler(3, s(8), size));
    let producer = Producer::new(backend);
    let first = producer.submit(&1).await.expect("submit");
    assert!(matches!(running.next().await, Event::Claimed { .. }));
    clock.advance(s(7));
    let second = producer.submit(&2).await.expect("submit");
    assert!(matches!(running.next().await, Event::Claimed { .. }));
    assert_eq!(first.status().await.expect("status"), Status::InProgress);
    // Eight seconds after the first, not after the latest.
    clock.advance(s(1));
    for handle in [first, second] {
        assert_eq!(handle.result::<usize>(None).await.expect("result"), 2);
    }
    running.stop().await;
}

#[tokio::test]
async fn without_a_timeout_a_batch_is_what_a_claim_brought() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let handles = producer.submit_many(jobs(0..5)).await.expect("submit");
    let running = Running::start(Consumer::builder(backend).batch_handler(4, s(0), size));
    let mut sizes = Vec::new();
    for handle in handles {
        sizes.push(handle.result::<usize>(None).await.expect("result"));
    }
    assert_eq!(sizes, [4, 4, 4, 4, 1]);
    running.stop().await;
}

#[tokio::test]
async fn each_job_has_its_own_outcome() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let bodies = [json!("ok"), json!("fatal"), json!(17), json!("ok")];
    let handles = producer.submit_many(jobs(bodies)).await.expect("submit");
    let builder = Consumer::builder(backend);
    let running = Running::start(builder.batch_handler(4, s(0), async |batch: Batch<String>| {
        let seen = batch.len();
        let answer = |(job, _): (Job<String>, Context)| match &*job.body {
            "fatal" => Err(Failure::fatal("no")),
            _ => Answer::Ok(seen),
        };
        batch.into_iter().map(answer).collect()
    }));
    let mut records = Vec::new();
    for handle in &handles {
        records.push(handle.wait(None).await.expect("record"));
    }
    let statuses: Vec<_> = records.iter().map(|record| record.status).collect();
    assert_eq!(statuses, [Status::Success, Status::Error, Status::Error, Status::Success]);
    assert_eq!(records[0].result.as_ref().expect("result").as_str(), "3", "the handler saw those that fit");
    let kinds = [1, 2].map(|n: usize| records[n].error.as_ref().expect("error").kind);
    assert_eq!(kinds, [FailureKind::Handler, FailureKind::InvalidBody]);
    assert_eq!(running.stop().await, Summary { succeeded: 2, failed: 2, ..Summary::default() });
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_settled_without_waiting_for_the_batch() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let handles = producer.submit_many(jobs([json!("fits"), json!(0)])).await.expect("submit");
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let builder = Consumer::builder(backend);
    let running = Running::start(builder.batch_handler(2, s(0), move |batch: Batch<String>| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            batch.iter().map(|_| Answer::Ok(())).collect::<Vec<_>>()
        }
    }));
    let record = soon(handles[1].wait(None)).await.expect("record");
    assert_eq!(record.error.expect("error").kind, FailureKind::InvalidBody);
    assert_eq!(handles[0].status().await.expect("status"), Status::InProgress);
    open.add_permits(1);
    handles[0].result::<()>(None).await.expect("result");
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_number_of_answers_or_a_panic_fails_every_attempt() {
    for (body, message) in [
        ("short", "the batch handler got 2 jobs and gave 1 answers"),
        ("panic", "the handler panicked: not this batch"),
    ] {
        let backend = Arc::new(MemoryBackend::new());
        let producer = Producer::new(backend.clone());
        producer.submit_many(jobs([body, body])).await.expect("submit");
        let builder = Consumer::builder(backend).retry_policy(RetryPolicy::immediate());
        let mut running = Running::start(builder.batch_handler(2, s(0), async |mut batch: Batch<String>| {
            if batch[0].1.attempt() == 1 {
                assert!(batch[0].0.body == "short", "not this batch");
                batch.pop();
            }
            batch.iter().map(|_| Answer::Ok(())).collect()
        }));
        for _ in 0..2 {
            let Event::Retried { error, .. } = running.ending().await else { panic!("a retry") };
            assert_eq!(error.message, message);
        }
        for _ in 0..2 {
            assert!(matches!(running.ending().await, Event::Succeeded { attempt: 2, .. }));
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn cancelling_one_job_is_nothing_to_the_others() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let handles = producer.submit_many(jobs([0, 1])).await.expect("submit");
    let builder = Consumer::builder(backend);
    let mut running = Running::start(builder.batch_handler(2, s(0), async |batch: Batch<u8>| {
        batch[1].1.cancelled().await;
        let answer = |context: Context| match context.is_cancelled() {
            true => Err(Failure::cancelled()),
            false => Ok(()),
        };
        batch.into_iter().map(|(_, context)| answer(context)).collect()
    }));
    running.started(2).await;
    handles[1].cancel().await.expect("cancel");
    let ids = [handles[0].id().clone(), handles[1].id().clone()];
    let records = producer.wait_all(&ids, None).await.expect("records");
    assert_eq!([records[0].status, records[1].status], [Status::Success, Status::Cancelled]);
    running.stop().await;
}

#[tokio::test]
async fn each_job_has_its_own_timeout() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let producer = Producer::new(backend.clone());
    let timeouts = [s(5), s(9)];
    let new = jobs([0, 1]).into_iter().zip(timeouts).map(|(job, t)| job.timeout(t).max_attempts(1));
    let handles = producer.submit_many(new.collect()).await.expect("submit");
    let (sender, mut seen) = mpsc::unbounded_channel();
    let builder = Consumer::builder(backend);
    let mut running = Running::start(builder.batch_handler(2, s(0), move |batch: Batch<u8>| {
        let dropped = OnDrop(sender.clone(), "dropped");
        async move {
            let _dropped = dropped;
            batch[0].1.cancelled().await;
            assert!(!batch[1].1.is_cancelled());
            std::future::pending::<Vec<Answer>>().await
        }
    }));
    running.started(2).await;
    clock.advance(s(5));
    let Event::Failed { id, error, .. } = running.ending().await else { panic!("a timeout") };
    assert_eq!((&id, error.kind), (handles[0].id(), FailureKind::Timeout));
    assert!(seen.try_recv().is_err(), "the other job still runs");
    clock.advance(s(4));
    let Event::Failed { id, .. } = running.ending().await else { panic!("a timeout") };
    assert_eq!(&id, handles[1].id());
    assert_eq!(soon(seen.recv()).await, Some("dropped"));
    running.stop().await;
}

#[tokio::test]
async fn an_answer_after_the_timeout_does_not_count() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let producer = Producer::new(backend.clone());
    let mut new = jobs([0, 1]);
    new[0] = new[0].clone().timeout(s(5)).max_attempts(1);
    let handles = producer.submit_many(new).await.expect("submit");
    let builder = Consumer::builder(backend);
    let mut running = Running::start(builder.batch_handler(2, s(0), async |batch: Batch<u8>| {
        batch[0].1.cancelled().await;
        batch.iter().map(|_| Answer::Ok(())).collect()
    }));
    running.started(2).await;
    clock.advance(s(5));
    let error = handles[0].result::<()>(None).await.expect_err("timed out").to_string();
    assert!(error.contains("ran longer than its timeout of 5s"), "{error}");
    handles[1].result::<()>(None).await.expect("result");
    assert_eq!(running.stop().await, Summary { succeeded: 1, failed: 1, ..Summary::default() });
}

#[tokio::test]
async fn concurrency_counts_calls_and_claims_no_more_than_they_take() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let handles = producer.submit_many(jobs(0..10)).await.expect("submit");
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0));
    let (log, open) = (sizes.clone(), gate.clone());
    let builder = Consumer::builder(backend.clone()).concurrency(2);
    let mut running = Running::start(builder.batch_handler(3, s(0), move |batch: Batch<u8>| {
        log.lock().expect("log").push(batch.len());
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            batch.iter().map(|_| Answer::Ok(())).collect::<Vec<_>>()
        }
    }));
    running.started(6).await;
    assert_eq!(backend.calls(Verb::Claim)[0].items, 6);
    assert_eq!(handles[6].status().await.expect("status"), Status::Submitted);
    open.add_permits(10);
    handles[9].result::<()>(None).await.expect("result");
    assert_eq!(sizes.lock().expect("log")[..2], [3, 3]);
    running.stop().await;
}

#[tokio::test]
async fn a_call_before_the_batch_was_full_claims_nothing_to_wait_behind_it() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone());
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let mut running = Running::start(builder.batch_handler(4, s(5), move |batch: Batch<u8>| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            batch.iter().map(|_| Answer::Ok(())).collect::<Vec<_>>()
        }
    }));
    let producer = Producer::new(backend.clone());
    let first = producer.submit(&1).await.expect("submit");
    assert!(matches!(running.next().await, Event::Claimed { .. }));
    // One of four places is taken, so it asks for three more.
    backend.called(Verb::Claim, 2).await;
    assert_eq!(backend.calls(Verb::Claim)[1].items, 3);
    clock.advance(s(5));
    running.started(1).await;
    // The call takes the only slot there is: that request is taken back.
    backend.answered(Verb::Claim, 2).await;
    let second = producer.submit(&2).await.expect("submit");
    let other = Running::start(Consumer::builder(backend).handler(async |_: Job<u8>, _| Answer::Ok(())));
    second.result::<()>(None).await.expect("the other consumer had it");
    assert_eq!(first.status().await.expect("status"), Status::InProgress);
    open.add_permits(1);
    first.result::<()>(None).await.expect("result");
    assert_eq!(running.stop().await.succeeded, 1);
    assert_eq!(other.stop().await.succeeded, 1);
}
