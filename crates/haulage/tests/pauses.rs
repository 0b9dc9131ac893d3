//! Nobody can reach the database for longer than a lease.
#![cfg(feature = "sqlite")]

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use haulage::{
    Consumer, Failure, Job, NewJob, Producer, Status,
    consumer::{Event, Summary},
    sqlite::SqliteBackend,
};
use tokio::sync::Semaphore;

use crate::support::{Running, manual_clock, s, soon};

/// A backup, a `VACUUM`, somebody's open transaction: two workers with a job of
/// one attempt each, and a third that looks for work, wait for the lock. Whoever comes first
/// after it may look before the holders have spoken; the clock stands still meanwhile, so that
/// they have their time for that, however slow the machine is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_lock_that_outlasts_the_leases_costs_no_job_its_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let clock = manual_clock();
    let open = async || {
        let options = SqliteBackend::options(&path).clock(clock.clone());
        Arc::new(options.open().await.expect("open"))
    };
    let lease = s(30);
    let gate = Arc::new(Semaphore::new(0));
    let start = async || {
        let gate = gate.clone();
        let builder = Consumer::builder(open().await).lease(lease);
        Running::start(builder.handler(move |job: Job<u32>, _| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, Failure>(job.body)
            }
        }))
    };
    let producer = Producer::new(open().await);
    let (mut one, mut two) = (start().await, start().await);
    let jobs = (0..2).map(|n| NewJob::new(&n).expect("body").max_attempts(1)).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    one.started(1).await;
    two.started(1).await;
    let idle = start().await;

    let other = rusqlite::Connection::open(&path).expect("open");
    other.busy_timeout(s(300)).expect("a limit");
    other.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
    // The leases run out, and another time each.
    clock.advance(3 * lease);
    // Most likely all of them wait for the lock by then.
    tokio::time::sleep(s(1) / 2).await;
    other.execute_batch("ROLLBACK").expect("the end of the lock");
    // Longer than the notice that the first look gives, and by then both are heard of again.
    for _ in 0..3 {
        for job in &jobs {
            assert_eq!(job.status().await.expect("status"), Status::InProgress);
            let soon_over = clock.now().after(lease / 2);
            soon(async {
                while job.record().await.expect("record").due_at.is_none_or(|due| due <= soon_over) {
                    tokio::time::sleep(s(1) / 1000).await;
                }
            })
            .await;
        }
        clock.advance(lease / 2);
    }
    gate.add_permits(2);
    for (n, job) in jobs.iter().enumerate() {
        assert_eq!(soon(job.result::<usize>(None)).await.expect("result"), n);
        assert_eq!(job.record().await.expect("record").attempt, 1);
    }
    assert!(matches!(one.ending().await, Event::Succeeded { attempt: 1, .. }));
    assert!(matches!(two.ending().await, Event::Succeeded { attempt: 1, .. }));
    for running in [one, two] {
        assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
    }
    assert_eq!(idle.stop().await, Summary::default());
}
