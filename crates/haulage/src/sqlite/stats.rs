//! The state of the store in numbers.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, params};

use super::{fault::Fault, location, tx::status};
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
    // There may be millions, nearly all of them successes in the default queue: those are what
    // is left of all, which are counted fastest, and only the others are told apart.
    let now = now.as_micros();
    let mut plain: u64 = connection
        .prepare_cached("SELECT count(*) FROM job INDEXED BY job_expiry WHERE expires_at <= ?1")?
        .query_row([now], |r| Ok(count(r.get(0)?)))?;
    let others = queues.iter().any(|(name, queue)| !name.is_default() || queue.error + queue.cancelled > 0);
    if plain > 0 && others {
        let mut expired = connection.prepare_cached(
            "SELECT queue, status, dead, count(*) FROM job INDEXED BY job_expiry
             WHERE expires_at <= ?1 AND (status <> 2 OR queue IS NOT NULL) GROUP BY queue, status, dead",
        )?;
        let mut rows = expired.query([now])?;
        while let Some(row) = rows.next()? {
            let (queue, jobs) = (queues.entry(row.get(0)?).or_default(), count(row.get(3)?));
            let field = match status(row.get(1)?)? {
                Status::Error => &mut queue.error,
                Status::Cancelled => &mut queue.cancelled,
                _ => &mut queue.success,
            };
            *field = field.saturating_sub(jobs);
            if row.get(2)? {
                queue.dead = queue.dead.saturating_sub(jobs);
            }
            plain = plain.saturating_sub(jobs);
        }
    }
    if let Some(queue) = queues.get_mut(&QueueName::default()) {
        queue.success = queue.success.saturating_sub(plain);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        Backend, Clock, FailureKind, JobError, Json, NewJob, QueueName, Timestamp,
        backend::{ClaimRequest, Outcome, QueueStats, Settlement},
        sqlite::SqliteBackend,
    };

    #[tokio::test]
    async fn what_has_expired_is_counted_nowhere_whatever_its_end_and_queue() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("open");
        let error = || JobError::new(FailureKind::Handler, "no");
        let success = || Outcome::Success(Json::from_stored("1"));
        let dead = || Outcome::Retry { error: error(), delay: Duration::ZERO };
        let end = async |queue: &str, days: u64, outcomes: Vec<Outcome>| {
            let queue = QueueName::new(queue).expect("a name");
            let job = NewJob::new("x").expect("JSON").max_attempts(1).queue(queue.clone());
            let job = job.result_ttl(Duration::from_secs(days * 24 * 3600));
            backend.submit(vec![job; outcomes.len()]).await.expect("submit");
            let request = ClaimRequest::new("one", Duration::from_secs(60)).max(outcomes.len());
            let request = request.queues(queue, 0);
            let claimed = backend.claim(request, Default::default()).await.expect("claim");
            let settle = claimed.iter().zip(outcomes).map(|(job, end)| Settlement::new(job.key.clone(), end));
            backend.settle(settle.collect()).await.expect("settle");
        };
        for queue in ["default", "night"] {
            end(queue, 1, vec![success(), success(), Outcome::Fail(error()), Outcome::Cancelled, dead()])
                .await;
            end(queue, 200, vec![success(), Outcome::Fail(error())]).await;
        }
        clock.advance(Duration::from_secs(100 * 24 * 3600));
        let stats = backend.stats().await.expect("stats");
        let ended = |q: &QueueStats| [q.success, q.error, q.cancelled, q.dead];
        let all: Vec<_> = stats.queues.iter().map(|(name, queue)| (name.as_str(), ended(queue))).collect();
        assert_eq!(all, [("default", [1, 1, 0, 0]), ("night", [1, 1, 0, 0])]);
    }
}
