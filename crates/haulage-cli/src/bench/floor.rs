//! What the disk and the database do by themselves: a single-threaded loop
//! that writes the same rows, as durably, in the largest transactions that help.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{actor::BODY_BYTES, failed, report::median};
use crate::exit::Result;

/// Sizes of transactions to try; the best counts.
pub(super) const TRANSACTIONS: [u64; 3] = [1_000, 4_000, 10_000];

const ADD_JOB: &str = "INSERT INTO job (seq, id, status, max_attempts, due, submitted_at, result_ttl)
    VALUES (?1, ?2, 0, 3, ?3, ?3, 604800000000)";
const ADD_BODY: &str = "INSERT INTO body (seq, json) VALUES (?1, ?2)";
pub(super) const CLAIM: &str = "UPDATE job SET status = 1, attempt = 1, due = ?2 + 30000000, started_at = ?2,
    worker = 'floor:100000' WHERE seq = ?1";
pub(super) const SETTLE: &str =
    "UPDATE job SET status = 2, due = NULL, finished_at = ?2, expires_at = ?2 + result_ttl
    WHERE seq = ?1";
pub(super) const ADD_RESULT: &str = "INSERT INTO result (seq, json) VALUES (?1, ?2)";

/// Flushes of the disk a second, each after 4 KiB appended: the median of three runs.
pub(super) fn fdatasync_per_s(path: &Path) -> Result<f64> {
    const FLUSHES: u32 = 400;
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = || {
            let mut file = File::create(path)?;
            let began = Instant::now();
            for _ in 0..FLUSHES {
                file.write_all(&[1; 4096])?;
                file.sync_data()?;
            }
            Ok::<_, std::io::Error>(f64::from(FLUSHES) / began.elapsed().as_secs_f64())
        };
        runs.push(run().map_err(|error| failed("writing to the disk", error))?);
    }
    Ok(median(&mut runs))
}

pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -32000;")?;
    connection.pragma_update(None, "wal_autocheckpoint", haulage::sqlite::CHECKPOINT_PAGES)?;
    Ok(connection)
}

/// Jobs a second through insert, claim and settle.
pub(super) fn jobs_per_s(path: &Path, jobs: u64) -> Result<f64> {
    let run = || {
        let connection = open(path)?;
        let (mut best, mut first) = (0.0_f64, 1);
        for size in TRANSACTIONS {
            let began = Instant::now();
            let rounds = jobs / TRANSACTIONS.len() as u64 / size;
            for _ in 0..rounds.max(1) {
                let rows = first..first + i64::try_from(size).unwrap_or(i64::MAX);
                first = rows.end;
                insert(&connection, rows.clone())?;
                transaction(&connection, "in_progress = in_progress + 1", || {
                    let mut claim = connection.prepare_cached(CLAIM)?;
                    rows.clone().try_for_each(|seq| claim.execute(params![seq, seq]).map(drop))
                })?;
                transaction(&connection, "success = success + 1", || {
                    let mut settle = connection.prepare_cached(SETTLE)?;
                    let mut add_result = connection.prepare_cached(ADD_RESULT)?;
                    let result = document();
                    rows.clone().try_for_each(|seq| {
                        settle.execute(params![seq, seq])?;
                        add_result.execute(params![seq, result]).map(drop)
                    })
                })?;
            }
            best = best.max((rounds.max(1) * size) as f64 / began.elapsed().as_secs_f64());
        }
        Ok::<_, rusqlite::Error>(best)
    };
    run().map_err(|error| failed("the floor", error))
}

/// Submits a second, in transactions of so many, after those that are there already; and
/// whether the log's pages are moved meanwhile.
pub(super) fn submits_per_s(path: &Path, tasks: u64, watch: Duration, moves_log: bool) -> Result<f64> {
    let run = || {
        let connection = open(path)?;
        if !moves_log {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        }
        let last: i64 = connection.query_row("SELECT ifnull(max(seq), 0) FROM job", [], |row| row.get(0))?;
        let (mut first, began) = (last + 1, Instant::now());
        while began.elapsed() < watch {
            let rows = first..first + i64::try_from(tasks).unwrap_or(i64::MAX);
            first = rows.end;
            insert(&connection, rows)?;
        }
        Ok::<_, rusqlite::Error>((first - 1 - last) as f64 / began.elapsed().as_secs_f64())
    };
    run().map_err(|error| failed("the floor of single submits", error))
}

pub(super) fn insert(connection: &Connection, mut rows: std::ops::Range<i64>) -> rusqlite::Result<()> {
    transaction(connection, "submitted = submitted + 1", || {
        let mut add_job = connection.prepare_cached(ADD_JOB)?;
        let mut add_body = connection.prepare_cached(ADD_BODY)?;
        let body = document();
        rows.try_for_each(|seq| {
            add_job.execute(params![seq, id(seq), seq])?;
            add_body.execute(params![seq, body]).map(drop)
        })
    })
}

pub(super) fn transaction(
    connection: &Connection,
    counts: &str,
    work: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    work()?;
    connection.execute(&format!("UPDATE counts SET {counts}"), [])?;
    connection.execute_batch("COMMIT")
}

/// An id for this row.
pub(super) fn id(seq: i64) -> [u8; 16] {
    (u128::from(fastrand::u64(..)) << 64 | u128::from(seq.unsigned_abs())).to_be_bytes()
}

pub(super) fn document() -> String {
    format!("{:?}", "x".repeat(BODY_BYTES - 2))
}
