//! What SQLite does for two who share a file and take turns, with nothing around it: one
//! submits, the other records what it has claimed and claims the next, each in one transaction.
//! SQLite lets one write at a time, so two processes can do no more.

use std::{
    ops::Range,
    path::Path,
    sync::mpsc::{self, Receiver, SyncSender},
    time::Instant,
};

use rusqlite::{Connection, params};

use super::{
    failed,
    floor::{ADD_RESULT, CLAIM, SETTLE, TRANSACTIONS, document, insert, open, transaction},
};
use crate::exit::Result;

/// Jobs a second through both, by the size of transactions that is the fastest.
pub(super) fn jobs_per_s(path: &Path, jobs: u64) -> Result<f64> {
    let (mut best, mut first) = (0.0_f64, 1);
    for size in TRANSACTIONS {
        let jobs = (jobs / TRANSACTIONS.len() as u64).max(size) / size * size;
        best = best.max(both(path, first, jobs, size)?);
        first += i64::try_from(jobs).unwrap_or(i64::MAX / 2);
    }
    Ok(best)
}

/// The same job by job.
pub(super) fn one_by_one_per_s(path: &Path, jobs: u64) -> Result<f64> {
    both(path, 1, jobs, 1)
}

/// Jobs a second of one that has all of them, and records one and claims the next.
pub(super) fn one_slot_per_s(path: &Path, jobs: u64) -> Result<f64> {
    let run = || {
        let connection = open(path)?;
        let all = parts(1, jobs, jobs);
        all.into_iter().try_for_each(|rows| insert(&connection, rows))?;
        let began = Instant::now();
        work(&connection, parts(1, jobs, 1), |_| true)?;
        Ok::<_, rusqlite::Error>(jobs as f64 / began.elapsed().as_secs_f64())
    };
    run().map_err(|error| failed("one connection, job by job", error))
}

fn both(path: &Path, first: i64, jobs: u64, size: u64) -> Result<f64> {
    let run = || {
        let (submitter, worker) = (open(path)?, open(path)?);
        let (to_worker, submitted) = mpsc::sync_channel(1);
        let (to_submitter, done) = mpsc::sync_channel(1);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let submits =
                scope.spawn(move || submit(&submitter, parts(first, jobs, size), &to_worker, &done));
            let worked = work(&worker, parts(first, jobs, size), |last| {
                last || to_submitter.send(()).is_ok() && submitted.recv().is_ok()
            });
            drop(to_submitter);
            let submits = submits.join().unwrap_or(Ok(()));
            worked.and(submits)
        })?;
        Ok::<_, rusqlite::Error>(jobs as f64 / began.elapsed().as_secs_f64())
    };
    run().map_err(|error| failed("two connections that take turns", error))
}

/// Jobs in parts of this size.
fn parts(first: i64, jobs: u64, size: u64) -> Vec<Range<i64>> {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX / 2);
    (0..jobs / size).map(|n| first + whole(n * size)..first + whole((n + 1) * size)).collect()
}

fn submit(
    connection: &Connection,
    parts: Vec<Range<i64>>,
    to_worker: &SyncSender<()>,
    done: &Receiver<()>,
) -> rusqlite::Result<()> {
    for rows in parts {
        // Whoever has gone away has failed, and says so.
        if done.recv().is_err() {
            return Ok(());
        }
        insert(connection, rows)?;
        if to_worker.send(()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Claims each part, once it is its turn, and records the one before.
fn work(
    connection: &Connection,
    parts: Vec<Range<i64>>,
    turn: impl Fn(bool) -> bool,
) -> rusqlite::Result<()> {
    let mut claimed = 0..0;
    for next in parts.into_iter().chain(std::iter::once(0..0)) {
        if !turn(next.is_empty()) {
            return Ok(());
        }
        transaction(connection, "in_progress = in_progress + 1", || {
            let (mut settle, mut add_result) =
                (connection.prepare_cached(SETTLE)?, connection.prepare_cached(ADD_RESULT)?);
            let result = document();
            for seq in claimed {
                settle.execute(params![seq, seq])?;
                add_result.execute(params![seq, result])?;
            }
            let mut claim = connection.prepare_cached(CLAIM)?;
            let mut body = connection.prepare_cached("SELECT json FROM body WHERE seq = ?1")?;
            for seq in next.clone() {
                claim.execute(params![seq, seq])?;
                body.query_row([seq], |row| row.get::<_, String>(0))?;
            }
            Ok(())
        })?;
        claimed = next;
    }
    Ok(())
}
