//! Databases with many records, written straight into the file: by way of the
//! queue it would take longer than all that is measured on them.

use std::path::Path;

use haulage::{Clock, sqlite::SqliteBackend};
use rusqlite::{Connection, params};

use super::super::{blocking, failed, floor};
use crate::exit::Result;

/// How many records of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bench) struct Records {
    /// Over, and to be kept for a week.
    pub(in crate::bench) kept: i64,
    /// Over for a week.
    pub(in crate::bench) expired: i64,
    /// Waiting, the newest of all.
    pub(in crate::bench) waiting: i64,
    /// Waiting for a moment in a week, which no measurement lives to see, after all that are over.
    pub(in crate::bench) delayed: i64,
    /// Whether they have bodies and results.
    pub(in crate::bench) with_bodies: bool,
}

const WEEK: i64 = 7 * 24 * 3600 * 1_000_000;
const HOUR: i64 = 3600 * 1_000_000;
const AT_ONCE: usize = 100_000;

/// Makes a database with these records.
pub(in crate::bench) async fn fill(path: &Path, records: Records) -> Result {
    SqliteBackend::open(path).await?;
    let path = path.to_owned();
    blocking(move || write(&path, records).map_err(|error| failed("filling a database", error))).await
}

fn write(path: &Path, records: Records) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -64000;")?;
    let now = Clock::system().now().as_micros();
    let kinds = [
        (records.expired, 2, None, Some(now - 1), None),
        (records.kept, 2, None, Some(now + WEEK), None),
        (records.delayed, 0, Some(now + WEEK), None, Some(now + WEEK)),
        (records.waiting, 0, Some(now - HOUR), None, None),
    ];
    let rows = kinds.iter().flat_map(|kind| (0..kind.0).map(move |n| (n, kind)));
    let mut rows = rows.zip(1_i64..).peekable();
    let body = floor::document();
    while rows.peek().is_some() {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut add_job = connection.prepare_cached(
            "INSERT INTO job (seq, id, status, attempt, max_attempts, due, submitted_at, started_at, finished_at,
                 expires_at, not_before, result_ttl) VALUES (?1, ?2, ?3, ?3 / 2, 3, ?4, ?5, ?6, ?6, ?7, ?8, ?9)",
        )?;
        let mut add_body = connection.prepare_cached("INSERT INTO body (seq, json) VALUES (?1, ?2)")?;
        let mut add_result = connection.prepare_cached("INSERT INTO result (seq, json) VALUES (?1, ?2)")?;
        for ((n, (_, status, due, expires, not_before)), seq) in rows.by_ref().take(AT_ONCE) {
            let ended = expires.map(|at| at - WEEK + n / 1_000_000);
            let expires = expires.map(|at| if at < now { at - 1_000_000 + n / 1_000_000 } else { at + n });
            let submitted = ended.or(*due).unwrap_or(now).min(now) - 1_000;
            let id = floor::id(seq);
            add_job.execute(params![seq, id, status, due, submitted, ended, expires, not_before, WEEK])?;
            if records.with_bodies {
                add_body.execute(params![seq, body])?;
                if ended.is_some() {
                    add_result.execute(params![seq, body])?;
                }
            }
        }
        connection.execute_batch("COMMIT")?;
    }
    connection.execute(
        "UPDATE counts SET submitted = submitted + ?1, success = success + ?2",
        [records.waiting + records.delayed, records.kept + records.expired],
    )?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// How many records the file holds, expired ones included.
pub(super) async fn stored(backend: &SqliteBackend) -> Result<u64> {
    count(backend, "SELECT submitted + in_progress + success + error + cancelled FROM counts").await
}

/// How many of them have expired.
pub(super) async fn expired(backend: &SqliteBackend) -> Result<u64> {
    let now = Clock::system().now().as_micros();
    count(backend, &format!("SELECT count(*) FROM job WHERE expires_at <= {now}")).await
}

async fn count(backend: &SqliteBackend, sql: &str) -> Result<u64> {
    let table = backend.query(sql).await?;
    Ok(table.rows.first().and_then(|row| row.first()?.as_u64()).unwrap_or(0))
}
