//! Nobody can reach the database for longer than a lease.
#![cfg(feature = "sqlite")]

#[path = "support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use haulage::{
    Consumer, Failure, Job, NewJob, Producer, Status,
    consumer::{Event, Summary},
    sqlite::SqliteBackend,
};
use tokio::sync::Semaphore;

use crate::support::{Running, s};

const LEASE: Duration = Duration::from_secs(1);

/// A backup, a `VACUUM`, somebody's open transaction: two workers with a job of
/// one attempt each, and a third that looks for work, wait for the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_lock_that_outlasts_the_leases_costs_no_job_its_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let gate = Arc::new(Semaphore::new(0));
    let start = async || {
        let gate = gate.clone();
        let backend = Arc::new(SqliteBackend::open(&path).await.expect("open"));
        let builder = Consumer::builder(backend).lease(LEASE);
        Running::start(builder.handler(move |job: Job<u32>, _| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, Failure>(job.body)
            }
        }))
    };
    let producer = Producer::new(Arc::new(SqliteBackend::open(&path).await.expect("open")));
    let (mut one, mut two) = (start().await, start().await);
    let jobs = (0..2).map(|n| NewJob::new(&n).expect("body").max_attempts(1)).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    one.started(1).await;
    two.started(1).await;
    let idle = start().await;

    let other = rusqlite::Connection::open(&path).expect("open");
    other.busy_timeout(s(20)).expect("a limit");
    other.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
    // The leases run out, and another time each.
    tokio::time::sleep(3 * LEASE).await;
    other.execute_batch("ROLLBACK").expect("the end of the lock");
    // Whoever comes first after it may look before the holders have spoken.
    for job in &jobs {
        assert_eq!(job.status().await.expect("status"), Status::InProgress);
    }
    gate.add_permits(2);
    for (n, job) in jobs.iter().enumerate() {
        assert_eq!(job.wait_result::<usize>(Some(s(20))).await.expect("result"), n);
        assert_eq!(job.record().await.expect("record").attempt, 1);
    }
    assert!(matches!(one.ending().await, Event::Succeeded { attempt: 1, .. }));
    assert!(matches!(two.ending().await, Event::Succeeded { attempt: 1, .. }));
    for running in [one, two] {
        assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
    }
    assert_eq!(idle.stop().await, Summary::default());
}
