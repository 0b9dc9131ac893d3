//! The queue in numbers.

use std::path::Path;

use rusqlite::{Connection, params};

use super::{fault::Fault, location, tx::code};
use crate::{Status, Timestamp, backend::Stats};

pub(super) fn stats(connection: &Connection, now: Timestamp, path: &Path) -> Result<Stats, Fault> {
    let now_micros = now.as_micros();
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut stats = Stats::default();
    let submitted: i64 = connection
        .prepare_cached(
            "SELECT submitted, in_progress, success, error, cancelled, dead, blocked FROM counts",
        )?
        .query_row([], |r| {
            stats.in_progress = count(r.get(1)?);
            stats.success = count(r.get(2)?);
            stats.error = count(r.get(3)?);
            stats.cancelled = count(r.get(4)?);
            stats.dead = count(r.get(5)?);
            stats.blocked = count(r.get(6)?);
            r.get(0)
        })?;
    stats.delayed = count(
        connection
            .prepare_cached(
                "SELECT count(*) FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) IN (0, 1)
                 AND (not_before IS NOT NULL) = 1 AND due > ?1",
            )?
            .query_row([now_micros], |r| r.get(0))?,
    );
    stats.visible = count(submitted).saturating_sub(stats.delayed + stats.blocked);
    // What its holder has abandoned may be claimed.
    let (abandoned, abandoned_since) = connection
        .prepare_cached(
            "SELECT count(*), min(due) FROM job INDEXED BY job_leased
             WHERE status = 1 AND due + lease <= ?1 AND attempt - uncounted < max_attempts AND NOT cancel_requested",
        )?
        .query_row([now_micros], |r| Ok((count(r.get(0)?), r.get::<_, Option<i64>>(1)?)))?;
    stats.in_progress = stats.in_progress.saturating_sub(abandoned);
    stats.visible += abandoned;
    // What has expired and is not swept yet is gone for everybody but the counts.
    let expired = connection
        .prepare_cached(
            "SELECT total(status = ?2), total(status = ?3), total(status = ?4), total(dead)
             FROM job INDEXED BY job_expiry WHERE expires_at <= ?1",
        )?
        .query_row(
            params![now_micros, code(Status::Success), code(Status::Error), code(Status::Cancelled)],
            |r| Ok([r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?].map(|n: f64| n as u64)),
        )?;
    for (field, expired) in
        [&mut stats.success, &mut stats.error, &mut stats.cancelled, &mut stats.dead].into_iter().zip(expired)
    {
        *field = field.saturating_sub(expired);
    }
    let mut oldest = connection.prepare_cached(
        "SELECT min(due) FROM job INDEXED BY job_ready
         WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) = ?1 AND (not_before IS NOT NULL) = ?2",
    )?;
    let mut oldest = |suspect, waits| oldest.query_row([suspect, waits], |r| r.get::<_, Option<i64>>(0));
    let at_once = [oldest(false, false)?, oldest(true, false)?];
    let waited = [oldest(false, true)?, oldest(true, true)?].map(|due| due.filter(|due| *due <= now_micros));
    let due = at_once.into_iter().chain([abandoned_since]).chain(waited);
    stats.oldest_visible_seconds =
        due.flatten().min().map(|due| now.since(Timestamp::from_micros(due)).as_secs_f64());
    let size = |suffix| std::fs::metadata(location::beside(path, suffix)).map_or(0, |m| m.len());
    stats.stored_bytes = Some(size("") + size("-wal"));
    Ok(stats)
}
