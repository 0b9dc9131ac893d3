//! Deleting records: those that an operator names, and those whose time is over.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::{
    fault::Fault,
    tx::{Hot, Tx, code},
};
use crate::{Status, Timestamp, backend::PurgeQuery};

/// The next jobs after `from` that the query means.
pub(super) fn find(
    connection: &Connection,
    query: &PurgeQuery,
    now: Timestamp,
    from: i64,
    limit: i64,
) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT seq FROM job WHERE status = ?1 AND seq > ?2 AND coalesce(finished_at, submitted_at) <= ?3
         ORDER BY seq LIMIT ?4",
    )?;
    let before = now.before(query.older_than).as_micros();
    let seqs = statement.query_map(params![code(query.status), from, before, limit], |r| r.get(0))?;
    Ok(seqs.collect::<rusqlite::Result<_>>()?)
}

/// Deletes those of the jobs that still have the status; records that had
/// expired anyway are not counted.
pub(super) fn purge(tx: &mut Tx<'_>, status: Status, before: Timestamp, seqs: &[i64]) -> Result<u64, Fault> {
    let mut purged = 0;
    for seq in seqs {
        let job = tx.row(Hot::OLD, params![seq, before.as_micros()], Hot::read)?;
        if let Some(job) = job.filter(|job| job.status == status) {
            purged += u64::from(!job.is_expired(tx.now));
            tx.delete(&job)?;
        }
    }
    Ok(purged)
}

/// Deletes some of what has expired, and tells whether there may be more; cuts
/// leases that are too long.
pub(super) fn sweep(tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
    const AT_ONCE: i64 = 500;
    tx.cut_leases()?;
    let now = tx.now.as_micros();
    let expired = tx.rows(Hot::EXPIRED, params![now, AT_ONCE], Hot::read)?;
    // Large bodies take longer; others are waiting for the rest of this transaction.
    let began = Instant::now();
    for job in &expired {
        tx.delete(job)?;
        if began.elapsed() > Duration::from_millis(20) {
            return Ok(true);
        }
    }
    let keys = tx.execute(
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE until <= ?1 LIMIT ?2)",
        params![now, AT_ONCE],
    )?;
    Ok(i64::try_from(expired.len().max(keys)) == Ok(AT_ONCE))
}
