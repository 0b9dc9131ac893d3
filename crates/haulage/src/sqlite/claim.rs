//! Taking hold of jobs.

use std::time::Duration;

use rusqlite::params;
use uuid::Uuid;

use super::{
    fault::Fault,
    id,
    spec::{self, spec_columns},
    tx::{Tx, micros},
};
use crate::{
    Json, Status, Timestamp,
    backend::{ClaimKey, Claimed},
    lease::Lease,
};

/// What is due, in the order of claims. INDEXED BY keeps SQLite to the one index
/// whose parts are in that order.
const DUE: &str = concat!(
    "SELECT job.seq, id, attempt, uncounted, submitted_at, body.json, ready.due, suspect, checkpoint.json, ",
    spec_columns!(),
    " FROM (
         SELECT * FROM (
             SELECT due, seq FROM job INDEXED BY job_ready
             WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 0 AND (not_before IS NOT NULL) = 0
             ORDER BY due, seq LIMIT ?2)
         UNION ALL SELECT * FROM (
             SELECT due, seq FROM job INDEXED BY job_ready
             WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 0 AND (not_before IS NOT NULL) = 1
             AND due <= ?1 ORDER BY due, seq LIMIT ?2)
         UNION ALL SELECT * FROM (
             SELECT * FROM (
                 SELECT due, seq FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 0
                 ORDER BY due, seq LIMIT ?3)
             UNION ALL SELECT * FROM (
                 SELECT due, seq FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 1
                 AND due <= ?1 ORDER BY due, seq LIMIT ?3)
             ORDER BY due, seq LIMIT ?3)
         ORDER BY due, seq LIMIT ?2
     ) AS ready JOIN job ON job.seq = ready.seq JOIN body ON body.seq = job.seq
     LEFT JOIN checkpoint ON checkpoint.seq = job.seq"
);

/// What a try to claim brought.
#[derive(Debug)]
pub(super) enum Claim {
    Jobs(Vec<Claimed>),
    /// Nothing is due; something will be at this moment, as far as is known.
    Nothing(Option<Timestamp>),
}

pub(super) fn claim(tx: &mut Tx<'_>, max: usize, lease: Duration, worker: &str) -> Result<Claim, Fault> {
    tx.take_silent()?;
    let lease = Lease::new(tx.now, lease);
    let lease_until = lease.until;
    let watched_until = tx.watched_until(worker)?;
    let suspects = i64::from(watched_until.is_none());
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut due = tx.rows(DUE, params![tx.now.as_micros(), max, suspects], |r| {
        let id = id::show(Uuid::from_bytes(r.get(1)?));
        let attempt = r.get::<_, u32>(2)?.saturating_add(1);
        let submitted_at = Timestamp::from_micros(r.get(4)?);
        let body = Json::from_stored(r.get_ref(5)?.as_str()?);
        let key = ClaimKey { id, attempt };
        let mut claimed = Claimed::new(key, body, spec::read(r)?, submitted_at, lease_until);
        claimed.counted = attempt.saturating_sub(r.get(3)?);
        claimed.checkpoint = r.get_ref(8)?.as_str_or_null()?.map(Json::from_stored);
        claimed.watched = r.get::<_, Option<i64>>(7)?.map(spec::duration);
        Ok((r.get::<_, i64>(6)?, r.get::<_, i64>(0)?, claimed))
    })?;
    if due.is_empty() {
        return Ok(Claim::Nothing(next_due(tx, watched_until)?));
    }
    // The join keeps that order, though nobody says so.
    due.sort_by_key(|(due, seq, _)| (*due, *seq));
    let mut claims = Vec::with_capacity(due.len());
    let mut take = tx.prepare(
        "UPDATE job SET status = 1, attempt = ?2, due = ?3, started_at = ?4, worker = ?5, lease = ?6, check_at = ?7,
         progress = NULL, progress_message = NULL WHERE seq = ?1",
    )?;
    for (_, seq, claimed) in due {
        take.execute(params![
            seq,
            claimed.key.attempt,
            lease_until.as_micros(),
            tx.now.as_micros(),
            worker,
            micros(lease.length),
            lease.check_at.as_micros(),
        ])?;
        tx.count_move(Status::Submitted, Status::InProgress);
        claims.push(claimed);
    }
    Ok(Claim::Jobs(claims))
}

/// When something will be due, for a worker that holds a watched job until then.
fn next_due(tx: &Tx<'_>, watched_until: Option<Timestamp>) -> rusqlite::Result<Option<Timestamp>> {
    let next = tx.row(
        "SELECT min(at) FROM (
             SELECT min(due) AS at FROM job
             WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 0 AND (not_before IS NOT NULL) = 1
             UNION ALL SELECT * FROM (SELECT ?1 FROM job
             WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 0 LIMIT 1)
             UNION ALL SELECT max(?1, (SELECT min(due) FROM job
             WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 1))
             UNION ALL SELECT min(check_at) FROM job WHERE status = 1)",
        [watched_until.map_or(0, Timestamp::as_micros)],
        |r| r.get::<_, Option<i64>>(0),
    )?;
    Ok(next.flatten().map(Timestamp::from_micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_walks_the_index_of_the_queue_and_sorts_only_what_it_takes() {
        let connection = rusqlite::Connection::open_in_memory().expect("open");
        connection.execute_batch(include_str!("schema_1.sql")).expect("the schema");
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {DUE}")).expect("prepare");
        let rows = plan.query_map(params![0, 10, 1], |r| r.get::<_, String>(3)).expect("a plan");
        let plan = rows.collect::<rusqlite::Result<Vec<_>>>().expect("its steps").join("\n");
        assert_eq!(plan.matches("SEARCH job USING INDEX job_ready (<expr>=?").count(), 4, "{plan}");
        assert!(plan.contains("SEARCH job USING INTEGER PRIMARY KEY"), "{plan}");
        assert!(!plan.contains("SCAN job"), "{plan}");
    }
}
