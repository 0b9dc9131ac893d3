//! What was acknowledged is on the disk.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use haulage::{
    Backend, Error, FailureKind, JobError, JobId, Progress, Status,
    backend::{Cancellation, Heartbeat, Lookup, Outcome, Purge, Redrive, Severity, Update},
    sqlite::SqliteBackend,
};
use tempfile::TempDir;

use crate::{Store, claim, disk::Trouble, job, large, look, record, settle, submit, support::soon};

impl Store {
    /// The same database after the power was lost now, with nothing left of
    /// what was in the cache.
    async fn after_loss_of_power(&self) -> (SqliteBackend, TempDir) {
        let folder = tempfile::tempdir().expect("tempdir");
        self.disk.files().after_loss_of_power(folder.path(), 0, &mut fastrand::Rng::new());
        let path = folder.path().join("x.db");
        let options = SqliteBackend::options(path).clock(self.clock.clone());
        (options.open().await.expect("what is left can be opened"), folder)
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_loss_of_power() {
    let store = Store::new().await;
    let backend = &*store.backend;

    let id = submit(backend, job("kept")).await.expect("submit");
    let (left, _folder) = store.after_loss_of_power().await;
    assert_eq!(record(&left, &id).await.status, Status::Submitted);

    let claimed = claim(backend, 1).await.expect("claim").remove(0);
    let (left, _folder) = store.after_loss_of_power().await;
    let kept = record(&left, &id).await;
    assert_eq!((kept.status, kept.attempt), (Status::InProgress, 1));

    let progress = Some(Progress { fraction: 0.5, message: Some("half".into()) });
    let beat = Heartbeat::new(claimed.key.clone(), Duration::from_secs(60))
        .update(Update::default().progress(progress));
    backend.heartbeat(vec![beat]).await.expect("heartbeat");
    let (left, _folder) = store.after_loss_of_power().await;
    assert_eq!(record(&left, &id).await.progress.map(|p| p.fraction), Some(0.5));

    let error = JobError::new(FailureKind::Handler, "not yet");
    let retry = Outcome::Retry { error, delay: Duration::ZERO };
    settle(backend, &claimed, retry).await.expect("settle");
    let (left, _folder) = store.after_loss_of_power().await;
    assert_eq!(record(&left, &id).await.error.map(|e| e.message), Some("not yet".into()));

    let claimed = claim(backend, 1).await.expect("claim").remove(0);
    settle(backend, &claimed, Outcome::Success(large(100_000))).await.expect("settle");
    let (left, _folder) = store.after_loss_of_power().await;
    let kept = record(&left, &id).await;
    assert_eq!((kept.status, kept.attempt), (Status::Success, 2));
    assert_eq!(kept.result, Some(large(100_000)));

    let other = submit(backend, job("cancelled")).await.expect("submit");
    let answers = backend.cancel(vec![other.clone()]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::Done]);
    let (left, _folder) = store.after_loss_of_power().await;
    assert_eq!(record(&left, &other).await.status, Status::Cancelled);

    backend.redrive(Redrive::Jobs(vec![other.clone()])).await.expect("redrive");
    let (left, _folder) = store.after_loss_of_power().await;
    assert_eq!(record(&left, &other).await.status, Status::Submitted);

    let query = Purge::status(Status::Success, Duration::ZERO);
    assert_eq!(backend.purge(query).await.expect("purge"), 1);
    let (left, _folder) = store.after_loss_of_power().await;
    assert_eq!(look(&left, &id).await, Lookup::Missing);
}

/// What the callers of a busy backend know by some moment.
#[derive(Clone, Default)]
struct Known {
    submitted: Vec<JobId>,
    claimed: Vec<JobId>,
    done: Vec<JobId>,
}

/// `HAULAGE_POWER_SEED` chooses the moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_at_any_moment_takes_nothing_that_was_acknowledged() {
    let seed = std::env::var("HAULAGE_POWER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    let store = Store::new().await;
    let known = Arc::new(Mutex::new(Known::default()));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (knowing, taken) = (Arc::clone(&known), Arc::clone(&moments));
    let mut random = fastrand::Rng::with_seed(seed);
    store.disk.show(move |files| {
        if random.u8(..) < 8 {
            let known = knowing.lock().expect("nobody panics with it").clone();
            taken.lock().expect("nobody panics with it").push((known, files.clone()));
        }
    });
    let rounds = (0..6).map(|task| {
        let (store, backend, known) = (&store, Arc::clone(&store.backend), Arc::clone(&known));
        async move {
            let note = |note: &dyn Fn(&mut Known)| note(&mut known.lock().expect("nobody panics with it"));
            for round in 0..20 {
                let size = if round % 5 == 0 { 30_000 } else { 10 };
                let id = submit(&*backend, haulage::NewJob::from_json(large(size))).await.expect("submit");
                note(&|known| known.submitted.push(id.clone()));
                for claimed in claim(&*backend, 2).await.expect("claim") {
                    note(&|known| known.claimed.push(claimed.key.id.clone()));
                    settle(&*backend, &claimed, Outcome::Success(large(size))).await.expect("settle");
                    note(&|known| known.done.push(claimed.key.id.clone()));
                }
                // The log goes into the database again and again.
                if (task, round % 4) == (0, 3) {
                    let checkpoint = || store.sql().execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
                    tokio::task::block_in_place(checkpoint).expect("checkpoint");
                }
            }
        }
    });
    join_all(rounds).await;
    store.disk.show_nobody();

    let moments = std::mem::take(&mut *moments.lock().expect("nobody panics with it"));
    assert!(moments.len() > 5, "{} moments, seed {seed}", moments.len());
    let mut random = fastrand::Rng::with_seed(seed);
    for (known, files) in moments {
        let folder = tempfile::tempdir().expect("tempdir");
        let chance = [0, 50, 100][random.usize(..3)];
        files.after_loss_of_power(folder.path(), chance, &mut random);
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(store.clock.clone());
        let left = options.open().await.expect("what is left can be opened");
        for id in &known.submitted {
            assert!(matches!(look(&left, id).await, Lookup::Found(_)), "{id} is gone, seed {seed}");
        }
        for id in &known.claimed {
            assert_eq!(record(&left, id).await.attempt, 1, "{id} was claimed, seed {seed}");
        }
        for id in &known.done {
            let record = record(&left, id).await;
            assert_eq!(record.status, Status::Success, "{id} was done, seed {seed}");
            assert!(record.result.is_some(), "{id}, seed {seed}");
        }
        for finding in left.check().await.expect("check") {
            assert_ne!(finding.severity, Severity::Problem, "{finding:?}, seed {seed}");
        }
    }
}

#[tokio::test]
async fn nobody_is_answered_before_the_flush_has_ended() {
    let store = Store::new().await;
    let mut flushes = store.disk.flushes();
    store.disk.breaks(Trouble::Stuck);
    flushes.mark_unchanged();
    let mut submitting = Box::pin(submit(&*store.backend, job("kept")));
    tokio::select! {
        biased;
        answer = &mut submitting => panic!("{answer:?} before anything was flushed"),
        flushed = soon(flushes.changed()) => flushed.expect("the disk is there"),
    }
    assert!(futures_util::FutureExt::now_or_never(&mut submitting).is_none());
    store.disk.mend();
    soon(submitting).await.expect("submit");
}

#[tokio::test]
async fn a_commit_that_fails_is_never_answered_as_if_it_had_not() {
    for (trouble, says) in [
        (Trouble::NoFlushes, "may or may not have been stored"),
        (Trouble::NoWrites, "may or may not have been stored"),
        (Trouble::Full, "is full"),
    ] {
        let store = Store::new().await;
        let backend = &*store.backend;
        let kept = submit(backend, job("kept")).await.expect("submit");
        let claimed = claim(backend, 1).await.expect("claim").remove(0);
        let waiting = submit(backend, job("waiting")).await.expect("submit");

        store.disk.breaks(trouble);
        let refused = |error: Error| {
            assert!(matches!(error, Error::Unavailable { .. }), "{trouble:?}: {error:?}");
            assert!(error.to_string().contains(says), "{trouble:?}: {error}");
        };
        refused(submit(backend, job("lost")).await.expect_err("submit"));
        refused(claim(backend, 1).await.expect_err("claim"));
        refused(settle(backend, &claimed, Outcome::Success(large(5_000))).await.expect_err("settle"));
        refused(backend.cancel(vec![waiting.clone()]).await.expect_err("cancel"));
        store.disk.mend();

        assert_eq!(record(backend, &kept).await.status, Status::InProgress, "{trouble:?}");
        assert_eq!(record(backend, &waiting).await.status, Status::Submitted, "{trouble:?}");
        settle(backend, &claimed, Outcome::Success(large(5_000))).await.expect("settle");
        let (left, _folder) = store.after_loss_of_power().await;
        assert_eq!(record(&left, &kept).await.status, Status::Success, "{trouble:?}");
        assert_eq!(record(&left, &waiting).await.status, Status::Submitted, "{trouble:?}");
    }
}
