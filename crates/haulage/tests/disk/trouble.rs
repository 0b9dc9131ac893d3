//! A consumer whose database cannot be written for a while.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use haulage::{
    Backend as _, Consumer, Error, Failure, Job, JobHandle, JobId, Json, NewJob, Producer, Status,
    consumer::Summary, sqlite::SqliteBackend,
};
use tokio::sync::Semaphore;

use crate::{
    Store,
    disk::Trouble,
    job, submit,
    support::{Running, s, soon},
    wait_for,
};

/// What keeps a database from being written.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    Disk(Trouble),
    /// Another program holds SQLite's lock.
    Lock,
}

const OBSTACLES: [Obstacle; 5] = [
    Obstacle::Disk(Trouble::Full),
    Obstacle::Disk(Trouble::NoWrites),
    Obstacle::Disk(Trouble::NoFlushes),
    Obstacle::Disk(Trouble::Stuck),
    Obstacle::Lock,
];

/// Submits a job with this document. A writer that a machine under load does not let run within
/// the busy timeout is refused, with nothing stored, and comes again.
async fn stored(store: &Store, body: &str) -> JobId {
    let job = || NewJob::from_json(Json::parse(body).expect("JSON"));
    loop {
        match submit(&*store.backend, job()).await {
            Ok(id) => return id,
            Err(error) => assert!(error.to_string().contains("nothing was stored"), "{error}"),
        }
    }
}

/// A consumer, and a job in it that ends when it is let through the gate.
async fn a_running_job(store: &Store) -> (Running, JobHandle, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let open = gate.clone();
    let builder = Consumer::builder(store.backend.clone()).handler(move |job: Job<u32>, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Ok::<_, Failure>(job.body)
        }
    });
    let mut running = Running::start(builder.shutdown_grace_period(s(0)));
    let id = stored(store, "7").await;
    let handle = Producer::new(store.backend.clone()).job(id);
    running.started(1).await;
    (running, handle, open)
}

/// A job runs, and ends, while nothing can be written for so long.
async fn a_job_ends_behind(obstacle: Obstacle, lasting: Duration) {
    let store = Store::with_busy_timeout(Duration::from_millis(100)).await;
    let (running, handle, gate) = a_running_job(&store).await;
    let backend = store.backend.clone();
    let mut flushes = store.disk.flushes();
    let other = store.sql();
    match obstacle {
        Obstacle::Disk(trouble) => store.disk.breaks(trouble),
        Obstacle::Lock => other.execute_batch("BEGIN IMMEDIATE").expect("lock"),
    }
    gate.add_permits(1);
    if let Obstacle::Disk(Trouble::Stuck) = obstacle {
        soon(flushes.changed()).await.expect("the disk is there");
    }
    for _ in 0..2 {
        // Behind the job's own calls, so that these have failed as well.
        if !matches!(obstacle, Obstacle::Disk(Trouble::Stuck)) {
            submit(&*backend, job("refused")).await.expect_err("nothing can be written");
        }
        store.clock.advance(lasting / 2);
    }
    match obstacle {
        Obstacle::Disk(_) => store.disk.mend(),
        Obstacle::Lock => other.execute_batch("ROLLBACK").expect("unlock"),
    }
    let result: u32 = soon(handle.result(None)).await.expect("result");
    let record = handle.record().await.expect("record");
    assert_eq!((result, record.status, record.attempt), (7, Status::Success, 1), "{obstacle:?}");
    assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() }, "{obstacle:?}");
}

#[tokio::test]
async fn a_database_that_cannot_be_written_for_a_while_costs_no_job_anything() {
    for obstacle in OBSTACLES {
        a_job_ends_behind(obstacle, s(20)).await;
    }
}

#[tokio::test]
async fn a_consumer_records_no_result_into_files_that_were_deleted_and_can_be_stopped() {
    let store = Store::new().await;
    let (running, _, gate) = a_running_job(&store).await;
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(store.folder.path().join(format!("x.db{suffix}"))).expect("delete");
    }
    gate.add_permits(1);
    let error = submit(&*store.backend, job("lost")).await.expect_err("there is no database");
    assert!(error.to_string().contains("was deleted"), "{error}");
    assert_eq!(running.stop().await, Summary { lost: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_database_that_cannot_be_written_for_longer_than_the_lease_costs_no_job_anything() {
    for obstacle in OBSTACLES {
        a_job_ends_behind(obstacle, s(200)).await;
    }
}

#[tokio::test]
async fn a_call_is_given_up_only_before_it_has_begun_and_then_never_done() {
    let store = Store::with_busy_timeout(Duration::from_millis(100)).await;
    let backend = &*store.backend;
    let mut flushes = store.disk.flushes();
    store.disk.breaks(Trouble::Stuck);
    let mut begun = Box::pin(submit(backend, job("begun")));
    tokio::select! {
        answer = &mut begun => panic!("{answer:?} before it was flushed"),
        flushed = soon(flushes.changed()) => flushed.expect("the disk is there"),
    }
    let mut dropped = Box::pin(submit(backend, job("dropped")));
    assert!((&mut dropped).now_or_never().is_none());
    drop(dropped);
    let error = soon(submit(backend, job("given up"))).await.expect_err("its turn never comes");
    assert!(error.to_string().contains("nothing was stored"), "{error}");
    // That came later, and so has been waiting for less long.
    assert!((&mut begun).now_or_never().is_none());
    store.disk.mend();
    soon(begun).await.expect("submit");
    stored(&store, "\"after\"").await;
    assert_eq!(store.count("job"), 2);
}

#[tokio::test]
async fn a_database_that_is_locked_while_it_is_made_is_said_to_be_locked() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    let other = rusqlite::Connection::open(&path).expect("open");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock");
    let options = SqliteBackend::options(&path).busy_timeout(Duration::from_millis(100));
    let error = options.open().await.expect_err("locked");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("has been locked for more than 100ms"), "{error}");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_once_is_no_end_of_its_job() {
    let store = Store::new().await;
    let id = submit(&*store.backend, job("hard to read")).await.expect("submit");
    store.backend.close().await.expect("close");
    // A connection that has not read it yet.
    let options = SqliteBackend::options(store.path()).clock(store.clock.clone());
    let backend = options.open().await.expect("open");
    store.disk.misreads_once("hard to read");
    let error = wait_for(&backend, 1, s(0)).await.expect_err("it cannot be read");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let claimed = wait_for(&backend, 1, s(0)).await.expect("claim");
    assert_eq!(claimed.iter().map(|job| &job.key.id).collect::<Vec<_>>(), [&id]);
}
