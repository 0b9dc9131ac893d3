//! The state of the store in numbers.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, params};

use super::{fault::Fault, location, tx::code};
use crate::{
    QueueName, Status, Timestamp,
    backend::{QueueStats, Stats},
};

pub(super) fn stats(connection: &Connection, now: Timestamp, path: &Path) -> Result<Stats, Fault> {
    let mut queues = counted(connection)?;
    for (name, queue) in &mut queues {
        waiting(connection, name, queue, now)?;
    }
    abandoned(connection, &mut queues, now)?;
    leave_out_expired(connection, &mut queues, now)?;
    let mut stats = Stats::default();
    for (name, queue) in queues {
        stats.add(name, queue);
    }
    let size = |suffix| std::fs::metadata(location::beside(path, suffix)).map_or(0, |m| m.len());
    stats.stored_bytes = Some(size("") + size("-wal"));
    Ok(stats)
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// What the counts say of each queue: what is due has in it, so far, what is delayed.
fn counted(connection: &Connection) -> Result<BTreeMap<QueueName, QueueStats>, Fault> {
    let mut counts = connection.prepare_cached(
        "SELECT nullif(queue, 'default'), paused.queue IS NOT NULL, coalesce(submitted, 0) - coalesce(blocked, 0),
         coalesce(in_progress, 0), coalesce(success, 0), coalesce(error, 0), coalesce(cancelled, 0),
         coalesce(dead, 0), coalesce(blocked, 0) FROM counts FULL JOIN paused USING (queue)",
    )?;
    let rows = counts.query_map([], |r| {
        let queue = QueueStats {
            is_paused: r.get(1)?,
            due: count(r.get(2)?),
            in_progress: count(r.get(3)?),
            success: count(r.get(4)?),
            error: count(r.get(5)?),
            cancelled: count(r.get(6)?),
            dead: count(r.get(7)?),
            blocked: count(r.get(8)?),
            ..QueueStats::default()
        };
        Ok((r.get(0)?, queue))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Tells apart what is delayed, and since when the rest is due.
fn waiting(
    connection: &Connection,
    name: &QueueName,
    queue: &mut QueueStats,
    now: Timestamp,
) -> Result<(), Fault> {
    let now_micros = now.as_micros();
    queue.delayed = count(
        connection
            .prepare_cached(
                "SELECT count(*) FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND queue IS ?2 AND (suspect IS NOT NULL) IN (0, 1)
                 AND (not_before IS NOT NULL) = 1 AND due > ?1",
            )?
            .query_row(params![now_micros, name], |r| r.get(0))?,
    );
    queue.due = queue.due.saturating_sub(queue.delayed);
    let mut oldest = connection.prepare_cached(
        "SELECT min(due) FROM job INDEXED BY job_ready
         WHERE status = 0 AND due IS NOT NULL AND queue IS ?3
         AND (suspect IS NOT NULL) = ?1 AND (not_before IS NOT NULL) = ?2",
    )?;
    let mut oldest =
        |suspect, waits| oldest.query_row(params![suspect, waits, name], |r| r.get::<_, Option<i64>>(0));
    let at_once = [oldest(false, false)?, oldest(true, false)?];
    let waited = [oldest(false, true)?, oldest(true, true)?].map(|due| due.filter(|due| *due <= now_micros));
    queue.oldest_due_seconds = at_once.into_iter().chain(waited).flatten().min().map(|due| age(due, now));
    Ok(())
}

fn age(due: i64, now: Timestamp) -> f64 {
    now.since(Timestamp::from_micros(due)).as_secs_f64()
}

/// What its holder has abandoned may be claimed.
fn abandoned(
    connection: &Connection,
    queues: &mut BTreeMap<QueueName, QueueStats>,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut abandoned = connection.prepare_cached(
        "SELECT queue, count(*), min(due) FROM job INDEXED BY job_leased
         WHERE status = 1 AND due + lease <= ?1 AND attempt - uncounted < max_attempts AND NOT cancel_requested
         GROUP BY queue",
    )?;
    let mut rows = abandoned.query([now.as_micros()])?;
    while let Some(row) = rows.next()? {
        let queue = queues.entry(row.get(0)?).or_default();
        let (jobs, since) = (count(row.get(1)?), age(row.get(2)?, now));
        queue.in_progress = queue.in_progress.saturating_sub(jobs);
        queue.due += jobs;
        queue.oldest_due_seconds = queue.oldest_due_seconds.into_iter().chain([since]).reduce(f64::max);
    }
    Ok(())
}

/// What has expired and is not swept yet is gone for everybody but the counts.
fn leave_out_expired(
    connection: &Connection,
    queues: &mut BTreeMap<QueueName, QueueStats>,
    now: Timestamp,
) -> Result<(), Fault> {
    macro_rules! expired {
        ($grouped:literal) => {
            concat!(
                "SELECT queue, total(status = ?2), total(status = ?3), total(status = ?4), total(dead) ",
                "FROM job INDEXED BY job_expiry WHERE expires_at <= ?1",
                $grouped
            )
        };
    }
    // To group is to sort, and there may be millions.
    let sql = if queues.len() > 1 { expired!(" GROUP BY queue") } else { expired!("") };
    let mut expired = connection.prepare_cached(sql)?;
    let statuses = [Status::Success, Status::Error, Status::Cancelled].map(code);
    let mut rows = expired.query(params![now.as_micros(), statuses[0], statuses[1], statuses[2]])?;
    while let Some(row) = rows.next()? {
        let queue = queues.entry(row.get(0)?).or_default();
        let fields = [&mut queue.success, &mut queue.error, &mut queue.cancelled, &mut queue.dead];
        for (n, field) in fields.into_iter().enumerate() {
            *field = field.saturating_sub(row.get::<_, f64>(n + 1)? as u64);
        }
    }
    Ok(())
}
