//! Jobs that their handlers put off.

use std::sync::Arc;

use haulage::{
    Backend, Consumer, Context, Failure, Job, JobError, NewJob, Producer, Status,
    consumer::{Event, Summary},
    memory::MemoryBackend,
};

use crate::support::{Running, manual_clock, s};

#[tokio::test]
async fn a_job_that_is_put_off_waits_and_no_attempt_is_counted() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let clock = backend.clock().clone();
    let job = NewJob::new(&1).expect("body").max_attempts(1);
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    let handler = async |_: Job<u8>, ctx: Context| match ctx.attempt() {
        1..=4 => Err(Failure::snooze(s(100)).because("no licence is free")),
        _ => Ok(()),
    };
    let mut running = Running::start(Consumer::builder(backend.clone()).handler(handler));
    for attempt in 1..=4 {
        let reason = Some("no licence is free".to_owned());
        let expected = Event::Released { id: job.id().clone(), attempt, after: s(100), reason };
        assert_eq!(running.ending().await, expected);
        let record = job.record().await.expect("record");
        assert_eq!((record.status, record.counted()), (Status::Submitted, 0));
        assert_eq!(record.due_at, Some(clock.now().after(s(100))));
        assert_eq!(record.error, Some(JobError::released("no licence is free")));
        clock.advance(s(100));
    }
    assert_eq!(job.wait(None).await.expect("record").status, Status::Success);
    let summary = Summary { succeeded: 1, released: 4, ..Summary::default() };
    assert_eq!(running.stop().await, summary);
}

#[tokio::test]
async fn a_job_that_is_put_off_for_no_time_waits_for_a_second() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let handler = async |_: Job<u8>, _| Err::<(), _>(Failure::snooze(s(0)));
    let mut running = Running::start(Consumer::builder(backend.clone()).handler(handler));
    assert!(matches!(running.ending().await, Event::Released { after, .. } if after == Failure::MIN_SNOOZE));
    let record = job.record().await.expect("record");
    assert_eq!(record.due_at, Some(backend.clock().now().after(s(1))));
    assert_eq!(record.error, Some(JobError::released("put off for 1s")));
    running.stop().await;
}

#[tokio::test]
async fn one_job_of_a_batch_is_put_off_and_the_others_are_done() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let jobs = (0..3).map(|n| NewJob::new(&n).expect("body").max_attempts(1)).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    let handler = async |jobs: Vec<(Job<u8>, Context)>| {
        let answer = |(job, ctx): (Job<u8>, Context)| match (job.body, ctx.attempt()) {
            (1, 1) => Err(Failure::snooze(s(5))),
            _ => Ok(job.body),
        };
        jobs.into_iter().map(answer).collect()
    };
    let running = Running::start(Consumer::builder(backend.clone()).batch_handler(3, s(0), handler));
    for n in [0, 2] {
        assert_eq!(jobs[n].result::<usize>(None).await.expect("result"), n);
    }
    assert_eq!(jobs[1].status().await.expect("status"), Status::Submitted);
    backend.clock().advance(s(5));
    assert_eq!(jobs[1].result::<u8>(None).await.expect("result"), 1);
    assert_eq!(running.stop().await, Summary { succeeded: 3, released: 1, ..Summary::default() });
}
