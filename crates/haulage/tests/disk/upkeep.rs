//! What keeps the file small, and others from waiting.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use haulage::{
    Backend, JobId, NewJob, Status,
    backend::{Lookup, Outcome, Purge, Settlement},
    sqlite::SqliteBackend,
};

use crate::{
    Store, claim,
    disk::Trouble,
    job, large, look, record, settle, submit,
    support::{s, soon},
    wait_for,
};

const MIB: u64 = 1 << 20;

impl Store {
    /// Goes on working, for as long as it takes until nothing of this is left.
    async fn works_until_there_is_no(&self, what: &str) {
        let work = async {
            while self.count(what) > 0 {
                self.clock.advance(s(6));
                submit(&*self.backend, job("work")).await.expect("submit");
            }
        };
        soon(work).await;
    }
}

#[tokio::test]
async fn records_whose_time_is_over_leave_the_file() {
    let store = Store::new().await;
    let backend = &*store.backend;
    let jobs = vec![job("short").result_ttl(s(60)); 3];
    backend.submit(jobs).await.expect("submit");
    for claimed in claim(backend, 3).await.expect("claim") {
        settle(backend, &claimed, Outcome::Success(large(10))).await.expect("settle");
    }
    assert_eq!((store.count("result"), store.count("job WHERE status = 2")), (3, 3));
    store.clock.advance(s(61));
    store.works_until_there_is_no("job WHERE status = 2").await;
    assert_eq!((store.count("result"), store.count("body")), (0, store.count("job")));
}

#[tokio::test]
async fn records_whose_time_is_over_leave_the_file_though_nobody_writes_any_more() {
    let store = Store::new().await;
    let backend = &*store.backend;
    for _ in 0..3 {
        backend.submit(vec![job("short").result_ttl(s(60)); 1_000]).await.expect("submit");
        let claimed = claim(backend, 1_000).await.expect("claim");
        let ends = claimed.into_iter().map(|c| Settlement::new(c.key, Outcome::Cancelled));
        backend.settle(ends.collect()).await.expect("settle");
    }
    store.clock.advance(s(61));
    submit(backend, job("the last")).await.expect("submit");
    let swept = async {
        while store.count("job") > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(swept).await;
}

#[tokio::test]
async fn idempotency_keys_whose_time_is_over_leave_the_file() {
    let store = Store::new().await;
    let backend = &*store.backend;
    submit(backend, job("once").idempotency_key("key").result_ttl(s(60))).await.expect("submit");
    let claimed = claim(backend, 1).await.expect("claim").remove(0);
    settle(backend, &claimed, Outcome::Success(large(10))).await.expect("settle");
    assert_eq!(store.count("idempotency"), 1);
    store.clock.advance(NewJob::DEFAULT_IDEMPOTENCY_WINDOW + s(61));
    store.works_until_there_is_no("idempotency").await;
}

impl Store {
    /// So many jobs of 1 MiB, which are over.
    async fn holds_large_jobs(&self, count: usize) {
        for _ in 0..count / 4 {
            let jobs = vec![NewJob::from_json(large(MIB as usize)).result_ttl(s(60)); 4];
            let ids = self.backend.submit(jobs).await.expect("submit");
            let ids = ids.into_iter().map(|submitted| submitted.expect("submit").id);
            self.backend.cancel(ids.collect()).await.expect("cancel");
        }
        assert!(self.size() > count as u64 * MIB, "{}", self.size());
    }

    /// How large the file is, with what is in the log.
    fn size(&self) -> u64 {
        let connection = self.sql();
        let _: i64 =
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get(0)).expect("checkpoint");
        std::fs::metadata(self.path()).expect("the file").len()
    }
}

/// What a file keeps, and some for what is in it.
const KEPT: u64 = 18 * MIB;

#[tokio::test]
async fn the_space_of_a_backlog_that_expired_is_given_back() {
    let store = Store::new().await;
    store.holds_large_jobs(60).await;
    store.clock.advance(s(61));
    let work = async {
        while store.size() > KEPT {
            store.clock.advance(s(6));
            submit(&*store.backend, job("work")).await.expect("submit");
        }
    };
    soon(work).await;
    assert_eq!(store.count("job"), store.count("body"));
}

#[tokio::test]
async fn the_space_of_what_is_purged_is_given_back_at_once() {
    let store = Store::new().await;
    store.holds_large_jobs(60).await;
    let kept = submit(&*store.backend, job("kept")).await.expect("submit");
    let query = Purge::status(Status::Cancelled, Duration::ZERO);
    assert_eq!(store.backend.purge(query).await.expect("purge"), 60);
    assert!(store.size() <= KEPT, "the file has {} MiB", store.size() / MIB);
    assert_eq!(record(&*store.backend, &kept).await.status, Status::Submitted);
}

/// Somebody who reads at every moment, until dropped: two connections by turns.
struct Readers(Arc<AtomicBool>);

impl Readers {
    fn start(path: &Path) -> Self {
        let readers = [(); 2].map(|()| rusqlite::Connection::open(path).expect("open"));
        let begin = "BEGIN; SELECT count(*) FROM counts;";
        readers[0].execute_batch(begin).expect("read");
        let (enough, mut turn) = (Arc::new(AtomicBool::new(false)), 0);
        let this = Self(enough.clone());
        thread::spawn(move || {
            while !enough.load(Relaxed) {
                readers[1 - turn].execute_batch(begin).expect("read");
                // As long as a reader reads: it is what this is about.
                thread::sleep(Duration::from_millis(100));
                readers[turn].execute_batch("COMMIT").expect("end");
                turn = 1 - turn;
            }
        });
        this
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test]
async fn a_long_log_shrinks_though_somebody_reads_at_every_moment() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    let backend = SqliteBackend::open(&path).await.expect("open");
    let log = || std::fs::metadata(folder.path().join("x.db-wal")).expect("log").len();
    let _readers = Readers::start(&path);
    for _ in 0..10 {
        submit(&backend, NewJob::from_json(large(15 << 20))).await.expect("submit");
    }
    // On a busy machine some tries come to nothing; the next is when it has doubled, or 30 s later.
    let shrinks = async {
        while log() > 65 * MIB {
            submit(&backend, job("more")).await.expect("submit");
        }
    };
    let shrunk = tokio::time::timeout(s(300), shrinks).await;
    assert!(shrunk.is_ok(), "the log has {} MiB", log() / MIB);
}

#[tokio::test]
async fn others_get_their_turn_during_a_long_purge() {
    let store = Store::new().await;
    let backend = &*store.backend;
    backend.submit(vec![job("old"); 2_500]).await.expect("submit");
    let mut flushes = store.disk.flushes();
    store.disk.breaks(Trouble::Stuck);
    let query = Purge::status(Status::Submitted, Duration::ZERO);
    let mut purging = backend.purge(query);
    tokio::select! {
        purged = &mut purging => panic!("{purged:?} before anything was flushed"),
        flushed = soon(flushes.changed()) => flushed.expect("the disk is there"),
    }
    let mut submitting = Box::pin(submit(backend, job("new")));
    assert!((&mut submitting).now_or_never().is_none());
    store.disk.mend();
    tokio::select! {
        biased;
        submitted = &mut submitting => drop(submitted.expect("submit")),
        purged = &mut purging => panic!("{purged:?} before anybody else had a turn"),
    }
    purging.await.expect("purge");
}

#[tokio::test]
async fn a_job_that_is_claimed_while_a_purge_looks_for_it_is_not_deleted() {
    let store = Store::new().await;
    let backend = &*store.backend;
    let id = submit(backend, job("wanted")).await.expect("submit");
    let mut flushes = store.disk.flushes();
    store.disk.breaks(Trouble::Stuck);
    let mut claiming = Box::pin(claim(backend, 1));
    tokio::select! {
        claimed = &mut claiming => panic!("{claimed:?} before it was flushed"),
        flushed = soon(flushes.changed()) => flushed.expect("the disk is there"),
    }
    // Queries are answered in turn: behind each answer the purge has come a
    // step further, up to where it waits to write.
    let query = Purge::status(Status::Submitted, Duration::ZERO);
    let mut purging = backend.purge(query);
    for _ in 0..10 {
        tokio::select! {
            biased;
            purged = &mut purging => panic!("{purged:?} before its turn"),
            record = record(backend, &id) => assert_eq!(record.status, Status::Submitted),
        }
    }
    store.disk.mend();
    let claimed = claiming.await.expect("claim").remove(0);
    assert_eq!(purging.await.expect("purge"), 0);
    settle(backend, &claimed, Outcome::Success(large(10))).await.expect("settle");
    assert!(matches!(look(backend, &id).await, Lookup::Found(_)));
}

/// How many transactions it takes to submit these at the same moment.
async fn transactions(calls: Vec<Vec<NewJob>>) -> u64 {
    let store = Store::new().await;
    let backend = &*store.backend;
    let mut flushes = store.disk.flushes();
    store.disk.breaks(Trouble::Stuck);
    let mut first = Box::pin(submit(backend, job("first")));
    tokio::select! {
        answer = &mut first => panic!("{answer:?} before it was flushed"),
        flushed = soon(flushes.changed()) => flushed.expect("the disk is there"),
    }
    // All of these wait for the first, and then are there at the same moment.
    let mut others = join_all(calls.into_iter().map(|jobs| backend.submit(jobs)));
    assert!((&mut others).now_or_never().is_none());
    let before = *flushes.borrow();
    store.disk.mend();
    first.await.expect("submit");
    assert!(others.await.iter().all(Result::is_ok));
    *flushes.borrow() - before
}

#[tokio::test]
async fn small_calls_share_a_flush() {
    assert_eq!(transactions(vec![vec![job("small")]; 100]).await, 1);
}

#[tokio::test]
async fn large_jobs_do_not_wait_for_each_other_to_be_written() {
    let transactions = transactions(vec![vec![NewJob::from_json(large(9 << 20))]; 3]).await;
    assert!(transactions >= 3, "27 MiB in {transactions} transactions");
}

#[tokio::test]
async fn many_jobs_do_not_wait_for_each_other_to_be_written() {
    let transactions = transactions(vec![vec![job("small"); 2_500]; 3]).await;
    assert!(transactions >= 3, "7,500 jobs in {transactions} transactions");
}

#[tokio::test]
async fn a_claim_that_waits_has_a_job_as_soon_as_its_delay_is_over() {
    let store = Store::new().await;
    let backend = &*store.backend;
    submit(backend, job("later").delay(s(1))).await.expect("submit");
    let mut claiming = Box::pin(wait_for(backend, 1, s(60)));
    assert!((&mut claiming).now_or_never().is_none());
    // Behind the claim's own look, in the order in which they were asked for.
    backend.cancel(vec![JobId::from("nobody")]).await.expect("cancel");
    assert!((&mut claiming).now_or_never().is_none());
    store.clock.advance(s(1));
    assert_eq!(soon(claiming).await.expect("claim").len(), 1);
}

#[tokio::test]
async fn a_claim_that_waits_ends_with_its_backend() {
    let store = Store::new().await;
    let backend = &*store.backend;
    let mut claims = vec![Box::pin(wait_for(backend, 1, s(60)))];
    wait_all(backend, &mut claims).await;
    backend.close().await.expect("close");
    soon(claims.remove(0)).await.expect_err("it is closed");
}

#[tokio::test]
async fn all_claims_that_wait_hear_of_a_job_that_will_be_due_soon() {
    for kept in 0..4 {
        let store = Store::new().await;
        let backend = &*store.backend;
        let mut claims: Vec<_> = (0..4).map(|_| Box::pin(wait_for(backend, 1, s(60)))).collect();
        wait_all(backend, &mut claims).await;
        submit(backend, job("later").delay(s(1))).await.expect("submit");
        wait_all(backend, &mut claims).await;
        // By then, the others are busy.
        let claim = claims.swap_remove(kept);
        drop(claims);
        store.clock.advance(s(1));
        assert_eq!(soon(claim).await.expect("claim").len(), 1);
    }
}

/// All of them have looked, found nothing, and wait.
async fn wait_all<C: Future + Unpin>(backend: &dyn Backend, claims: &mut [C]) {
    for _ in 0..2 {
        assert!(claims.iter_mut().all(|claim| claim.now_or_never().is_none()));
        // Behind the claims' own looks, in the order in which they were asked for.
        backend.cancel(vec![JobId::from("nobody")]).await.expect("cancel");
    }
}

#[tokio::test]
async fn a_database_that_has_no_room_for_another_id_says_so_and_keeps_the_last() {
    let store = Store::new().await;
    let backend = &*store.backend;
    submit(backend, job("first")).await.expect("submit");
    store.sql().execute("UPDATE job SET seq = (1 << 44) - 2", []).expect("near the end");
    let last = submit(backend, job("last")).await.expect("submit");
    assert_eq!(record(backend, &last).await.status, Status::Submitted);
    let error = submit(backend, job("one too many")).await.expect_err("no room");
    assert!(error.to_string().contains("no row numbers left"), "{error}");
}
