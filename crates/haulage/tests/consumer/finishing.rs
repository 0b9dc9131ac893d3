//! A consumer that ends by itself.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Consumer, Context, Failure, Job, JobError, NewJob, Producer, Status,
    backend::{ClaimRequest, ListQuery, Outcome, Settlement},
    consumer::{ConsumerBuilder, Summary},
    memory::MemoryBackend,
    shutdown::Shutdown,
};

use crate::support::{Faulty, Mode, Verb, manual_clock, s, soon};

type Answer = Result<u8, Failure>;

/// Runs a consumer to the end that it comes to by itself.
async fn run(builder: ConsumerBuilder) -> Summary {
    let consumer = builder.build().expect("a consumer");
    soon(consumer.run(Shutdown::new())).await
}

fn until_empty(backend: &Arc<Faulty>) -> ConsumerBuilder {
    Consumer::builder(backend.clone())
        .until_empty(true)
        .handler(async |job: Job<u8>, _: Context| Answer::Ok(job.body))
}

async fn submit(backend: &Arc<Faulty>, jobs: impl IntoIterator<Item = u8>) {
    let producer = Producer::new(backend.clone());
    for job in jobs {
        producer.submit(&job).await.expect("submit");
    }
}

/// How many jobs have this status.
async fn count(backend: &Faulty, status: Status) -> usize {
    let query = ListQuery::new().status(status).limit(100);
    backend.list(query).await.expect("list").len()
}

#[tokio::test]
async fn an_empty_queue_ends_it_when_its_jobs_are_done() {
    let backend = Faulty::new(MemoryBackend::new());
    assert_eq!(run(until_empty(&backend)).await, Summary::default());
    submit(&backend, 0..10).await;
    assert_eq!(run(until_empty(&backend).concurrency(3)).await.succeeded, 10);
}

#[tokio::test]
async fn an_empty_queue_ends_it_where_the_backend_signals_nothing() {
    let backend = Faulty::without_signals(MemoryBackend::new());
    submit(&backend, 0..3).await;
    let summary = run(until_empty(&backend).claim_wait(Duration::from_millis(20))).await;
    assert_eq!(summary.succeeded, 3);
}

#[tokio::test]
async fn a_job_that_runs_elsewhere_is_not_left_behind() {
    let backend = Faulty::new(MemoryBackend::new());
    submit(&backend, [1, 2]).await;
    let claim = ClaimRequest::new("another", s(30)).max(2);
    let mut held =
        backend.claim(claim, Default::default()).await.expect("claim").into_iter().map(|claimed| claimed.key);
    let running = tokio::spawn(run(until_empty(&backend)));
    backend.answered(Verb::Stats, 1).await;
    let error = JobError::new(haulage::FailureKind::Handler, "not here");
    let mut settle = async |outcome| {
        let key = held.next().expect("a claim");
        let settled = backend.settle(vec![Settlement::new(key, outcome)]).await;
        settled.expect("settle").remove(0).expect("the claim is held")
    };
    settle(Outcome::Retry { error, delay: s(0) }).await;
    // The other one ends elsewhere, which nobody tells but the backend's signal.
    backend.answered(Verb::Settle, 2).await;
    settle(Outcome::Success(haulage::Json::from_stored("1"))).await;
    assert_eq!(soon(running).await.expect("no panic").succeeded, 1);
}

#[tokio::test]
async fn a_delayed_job_is_waited_for() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let mut job = NewJob::new(&1).expect("a job");
    job.delay = s(3600);
    Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    let running = tokio::spawn(run(until_empty(&backend)));
    backend.answered(Verb::Stats, 1).await;
    clock.advance(s(3600));
    assert_eq!(soon(running).await.expect("no panic").succeeded, 1);
}

#[tokio::test]
async fn every_record_is_read_only_once_the_queue_counts_no_job() {
    let clock = manual_clock();
    let backend = Faulty::with(MemoryBackend::with_clock(clock.clone()), |can| can.cheap_looks = false);
    let mut job = NewJob::new(&1).expect("a job");
    job.delay = s(3600);
    Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    let running = tokio::spawn(run(until_empty(&backend)));
    backend.answered(Verb::Backlog, 1).await;
    assert_eq!(backend.count(Verb::Stats), 0);
    clock.advance(s(3600));
    assert_eq!(soon(running).await.expect("no panic").succeeded, 1);
    let read: Vec<_> = backend.calls(Verb::Stats).iter().map(|call| call.at).collect();
    assert_eq!(read, [clock.now()]);
}

#[tokio::test]
async fn a_queue_that_cannot_be_asked_is_not_taken_for_empty() {
    let backend = Faulty::new(MemoryBackend::new());
    backend.set(Verb::Stats, Mode::Fails);
    let running = tokio::spawn(run(until_empty(&backend)));
    backend.answered(Verb::Stats, 2).await;
    submit(&backend, [1]).await;
    backend.answered(Verb::Settle, 1).await;
    backend.set(Verb::Stats, Mode::Works);
    assert_eq!(soon(running).await.expect("no panic").succeeded, 1);
}

#[tokio::test]
async fn so_many_jobs_end_it_and_no_other_is_touched() {
    for joins_claims in [false, true] {
        let backend = Faulty::with(MemoryBackend::new(), |can| can.joins_claims = joins_claims);
        submit(&backend, 0..10).await;
        let builder = Consumer::builder(backend.clone()).concurrency(3).max_jobs(5).handler(
            async |job: Job<u8>, _: Context| {
                if job.body.is_multiple_of(2) { Ok(job.body) } else { Err(Failure::fatal("odd")) }
            },
        );
        let summary = run(builder).await;
        assert_eq!((summary.succeeded + summary.failed, summary.released), (5, 0), "{summary:?}");
        assert_eq!(count(&backend, Status::Submitted).await, 5);
        let records = backend.list(ListQuery::new().limit(5)).await.expect("list");
        assert!(records.iter().all(|record| record.attempt == 0), "{records:?}");
    }
}

#[tokio::test]
async fn jobs_that_were_given_back_are_none_of_so_many() {
    let backend = Faulty::new(MemoryBackend::new());
    submit(&backend, [0, 1]).await;
    let builder = Consumer::builder(backend.clone()).max_jobs(1).handler(async |job: Job<u8>, _: Context| {
        if job.body == 0 { Err(Failure::snooze(s(3600))) } else { Ok(job.body) }
    });
    let summary = run(builder).await;
    assert_eq!((summary.succeeded, summary.released), (1, 1), "{summary:?}");
}
