//! Putting ended jobs back to work.

use rusqlite::params;
use uuid::Uuid;

use super::{fault::Fault, id, tx::Tx};
use crate::{Error, JobId, QueueName, Status};

/// Up to `limit` dead letters, of this queue where one is named, oldest first, and only those that
/// were submitted after this job.
pub(super) fn dead(
    tx: &Tx<'_>,
    limit: usize,
    queue: Option<&QueueName>,
    after: Option<&JobId>,
) -> Result<Vec<JobId>, Fault> {
    // Its record may be gone; its id still says where it was.
    let after = match after {
        Some(after) => id::seq(id::parse(after).ok_or_else(|| Error::NotFound(after.clone()))?),
        None => 0,
    };
    Ok(tx.rows(
        "SELECT id FROM job WHERE status = 3 AND status > 2 AND dead AND expires_at > ?1 AND (?3 OR queue IS ?4)
         AND seq > ?5 ORDER BY seq LIMIT ?2",
        params![
            tx.now.as_micros(),
            i64::try_from(limit).unwrap_or(i64::MAX),
            queue.is_none(),
            queue.cloned().unwrap_or_default(),
            after,
        ],
        |r| Ok(id::show(Uuid::from_bytes(r.get(0)?))),
    )?)
}

pub(super) fn redrive(tx: &mut Tx<'_>, ids: Vec<JobId>) -> Result<Vec<JobId>, Fault> {
    let mut revived = Vec::new();
    for id in ids {
        let Some(job) = tx.job(&id)?.filter(|job| !job.is_expired(tx.now)) else { continue };
        if !matches!(job.status, Status::Error | Status::Cancelled) {
            continue;
        }
        // A key that was free again stays free, swept or not.
        tx.execute(
            "DELETE FROM idempotency WHERE key = (SELECT idempotency_key FROM job WHERE seq = ?1)
             AND seq = ?1 AND until <= ?2",
            params![job.seq, tx.now.as_micros()],
        )?;
        tx.remember_end(&job)?;
        let due = job.group.is_none().then(|| tx.now.as_micros());
        // The attempts so far stop counting, but their numbers are not used
        // again: a claim from before must stay stale.
        tx.execute(
            "UPDATE job SET status = 0, due = ?2, uncounted = attempt, finished_at = NULL, expires_at = NULL,
             dead = 0, cancel_requested = 0, suspect = NULL, not_before = ?3, start_by = NULL WHERE seq = ?1",
            params![job.seq, due, tx.now.as_micros()],
        )?;
        tx.count_revived(&job, due.is_none());
        match &job.group {
            Some(group) => tx.settle_group(&job.queue, group)?,
            None => tx.notify_due(&job.queue, None),
        }
        revived.push(id);
    }
    Ok(revived)
}
