//! A health check of the database.

use std::{
    convert::Infallible,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rusqlite::Connection;

use super::{
    fault::Fault,
    location, schema, space, stats,
    sys::{self, Disk},
    tx::micros,
    unready,
};
use crate::{
    QueueName, Timestamp,
    backend::{Finding, QueueStats, Severity},
};

/// How long pages are checked. That is enough for some hundred MiB.
const CHECKING: Duration = Duration::from_secs(1);
/// Up to so many records of successes are counted.
const MAX_COUNTED: i64 = 2_000_000;
/// Less free disk than this is worth a warning.
const LOW_DISK: u64 = 1 << 30;
/// Times that are ahead of the clock by less may come from a small correction.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// How far back `slots` looks.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(3600);
/// A log of this size means that something keeps it from being emptied.
const LARGE_LOG: u64 = 512 << 20;

/// Looks at the files, without trust in what they say.
pub(super) fn files(connection: &Connection, path: &Path) -> Vec<Finding> {
    let mut findings = vec![
        Finding::ok("database", format!("{} is open", path.display())),
        Finding::ok("schema", format!("version {}, SQLite {}", schema::VERSION, rusqlite::version())),
    ];
    findings.push(integrity(connection, path));
    findings.extend(disk(path));
    let log = std::fs::metadata(location::beside(path, "-wal")).map_or(0, |m| m.len());
    if log > LARGE_LOG {
        findings.push(Finding::bad(
            Severity::Warning,
            "log",
            format!("the write-ahead log has grown to {} MiB", log >> 20),
            "some program keeps a read transaction open on the database; close it, and the log shrinks",
        ));
    }
    findings
}

/// Looks at the jobs.
///
/// `unserved`: the queues from which nobody was seen to take jobs.
pub(super) fn jobs(
    connection: &Connection,
    path: &Path,
    now: Timestamp,
    unserved: &[(QueueName, QueueStats)],
) -> Result<Vec<Finding>, Fault> {
    let stats = stats::stats(connection, now, path)?;
    let mut findings = vec![counts(connection)?, clock(connection, now)?];
    for (name, queue) in unserved {
        let (place, serve) = match name.is_default() {
            true => (String::new(), "start a worker".to_owned()),
            false => (format!(" in the queue {name}"), format!("start a worker with --queue {name}")),
        };
        let wait = counted(queue.due, "waits", "wait");
        let age = queue.oldest_due_seconds.unwrap_or_default();
        let busy =
            if stats.in_progress > 0 { ", unless they are busy with jobs of other queues" } else { "" };
        findings.push(Finding::bad(
            Severity::Warning,
            "workers",
            format!("{wait}{place}, the oldest for {age:.0} s, and none is in progress"),
            format!("{serve}, or see in the logs of those that run why they take no jobs{busy}"),
        ));
    }
    if unserved.is_empty() {
        findings.push(Finding::ok(
            "workers",
            format!(
                "{}, {} {} in progress",
                counted(stats.visible, "waits", "wait"),
                stats.in_progress,
                if stats.in_progress == 1 { "is" } else { "are" }
            ),
        ));
    }
    findings.extend(Finding::unready(&unready::known(connection, now)?, now));
    for (name, queue) in stats.queues.iter().filter(|(_, queue)| queue.is_paused && queue.due > 0) {
        findings.push(Finding::bad(
            Severity::Warning,
            "queues",
            format!("the queue {name} is paused, and {} in it", counted(queue.due, "waits", "wait")),
            format!("`haulage queue resume {name}` lets it go on"),
        ));
    }
    findings.extend(slots(connection, now)?);
    if stats.dead > 0 {
        findings.push(Finding::bad(
            Severity::Warning,
            "dead letters",
            counted(stats.dead, "has used up its attempts", "have used up their attempts"),
            "see `haulage dead list`; fix the cause, then `haulage dead redrive --all`",
        ));
    }
    findings.extend(webhooks(connection, now)?);
    Ok(findings)
}

/// `1 job waits`, `2 jobs wait`.
fn counted(jobs: u64, one: &str, several: &str) -> String {
    if jobs == 1 { format!("1 job {one}") } else { format!("{jobs} jobs {several}") }
}

/// Whether what is to be told to webhooks is told.
fn webhooks(connection: &Connection, now: Timestamp) -> Result<Vec<Finding>, Fault> {
    let late = now.before(Finding::UNTOLD).as_micros();
    let (untold, dead): (u32, u32) = connection.query_row(
        "SELECT (SELECT count(*) FROM delivery INDEXED BY delivery_due WHERE due IS NOT NULL AND due <= ?1),
                (SELECT count(*) FROM delivery INDEXED BY delivery_dead WHERE dead_at IS NOT NULL)",
        [late],
        |r| Ok((r.get(0)?, r.get(1)?)),
    )?;
    Ok(Finding::webhooks(untold.into(), dead.into(), None))
}

/// The slots that have given jobs back of late, as what they need did not work.
fn slots(connection: &Connection, now: Timestamp) -> Result<Vec<Finding>, Fault> {
    let since = now.as_micros() - micros(GIVEN_BACK_WITHIN);
    // The reason is that of the row with the maximum.
    let mut select = connection.prepare(
        "SELECT coalesce(worker, 'unknown') AS worker, slot, count(*) AS count, coalesce(error, '') AS reason,
                max(ended_at)
         FROM attempt WHERE slot IS NOT NULL AND error_kind = 'released' AND ended_at > ?1
         GROUP BY worker, slot ORDER BY max(ended_at) DESC LIMIT 10",
    )?;
    let findings = select.query_map([since], |r| {
        let (worker, slot): (String, String) = (r.get("worker")?, r.get("slot")?);
        let (count, reason): (u32, String) = (r.get("count")?, r.get("reason")?);
        let count = if count == 1 { "a job".to_owned() } else { format!("{count} jobs") };
        let reason = reason.lines().next().unwrap_or_default();
        let reason = reason.strip_prefix(&format!("{slot}: ")).unwrap_or(reason);
        Ok(Finding::bad(
            Severity::Warning,
            "slots",
            format!("{slot} of worker {worker} gave back {count} within an hour: {reason}"),
            "see the log of that worker, which tells whether the slot is out of service, and look after its GPU",
        ))
    })?;
    Ok(findings.collect::<rusqlite::Result<_>>()?)
}

/// Whether stored times lie ahead of the clock: those of all jobs that are not
/// over, and of the newest ones that are.
fn clock(connection: &Connection, now: Timestamp) -> Result<Finding, Fault> {
    let (ahead, latest): (i64, Option<i64>) = connection.query_row(
        "SELECT count(*), max(at) FROM (
             SELECT seq, max(at) AS at FROM (
                 SELECT seq, due AS at FROM counts CROSS JOIN job INDEXED BY job_ready
                 ON job.queue IS nullif(counts.queue, 'default')
                 WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) IN (0, 1)
                 AND (not_before IS NOT NULL) = 0 AND due > ?1
                 UNION ALL SELECT seq, max(due - lease, started_at) FROM job INDEXED BY job_leased WHERE status = 1
                 UNION ALL SELECT seq, at FROM (
                     SELECT seq, max(submitted_at, coalesce(finished_at, 0)) AS at
                     FROM job ORDER BY seq DESC LIMIT 1000))
             WHERE at > ?1 GROUP BY seq)",
        [now.after(CLOCK_TOLERANCE).as_micros()],
        |r| Ok((r.get(0)?, r.get(1)?)),
    )?;
    let Some(latest) = latest else {
        return Ok(Finding::ok("clock", "no time of a job lies ahead of the clock"));
    };
    let by = Duration::from_secs(Timestamp::from_micros(latest).since(now).as_secs());
    Ok(Finding::bad(
        Severity::Warning,
        "clock",
        format!(
            "{} up to {} ahead of this machine's clock",
            counted(ahead.unsigned_abs(), "has times that are", "have times that are"),
            humantime::format_duration(by)
        ),
        "if the clock is wrong, set it right; if it was wrong when they were written, they run all the same, \
         but their records show those times, and delays and retries counted from them last longer",
    ))
}

/// Whether every page is sound. What seems damaged is read once more, without
/// what this connection remembers: a disk may fail to read a page once.
fn integrity(connection: &Connection, path: &Path) -> Finding {
    let verdict = |connection: &Connection| {
        connection
            .query_row("PRAGMA quick_check(1)", [], |r| r.get::<_, String>(0))
            .map_err(|e| e.to_string())
    };
    let (first, in_time) = within(CHECKING, connection, verdict);
    if first.as_deref() == Ok("ok") {
        return Finding::ok("integrity", "every page is sound");
    }
    if !in_time {
        return Finding::ok(
            "integrity",
            "no damage was found within a second, which is too short for all pages: \
             `haulage sql 'PRAGMA quick_check'` looks at every one",
        );
    }
    let again = schema::open_reader(path, Duration::from_secs(5)).map_err(|e| e.to_string());
    match again.and_then(|fresh| verdict(&fresh)) {
        Ok(verdict) if verdict == "ok" => Finding::bad(
            Severity::Warning,
            "integrity",
            "every page is sound, but was read at the second try only",
            "the disk fails to read now and then: see the system's log",
        ),
        Ok(verdict) | Err(verdict) => Finding::bad(
            Severity::Problem,
            "integrity",
            format!("the file is damaged: {verdict}"),
            "stop all workers, then `sqlite3 OLD .recover | sqlite3 NEW`, and look at the disk's health",
        ),
    }
}

/// Runs a query, and breaks it off where it takes too long. Tells whether it did not.
fn within<T>(limit: Duration, connection: &Connection, query: impl FnOnce(&Connection) -> T) -> (T, bool) {
    let (running, over) = mpsc::channel::<Infallible>();
    let interrupt = connection.get_interrupt_handle();
    thread::scope(|scope| {
        let timer = scope.spawn(move || {
            let late = over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                interrupt.interrupt();
            }
            !late
        });
        let answer = query(connection);
        drop(running);
        (answer, timer.join().unwrap_or(true))
    })
}

/// Whether the kept counts are those of the rows, which the indexes tell.
fn counts(connection: &Connection) -> Result<Finding, Fault> {
    let (mut differences, success): (i64, i64) = connection.query_row(
        "WITH counts AS (
             SELECT total(submitted) AS submitted, total(in_progress) AS in_progress, total(success) AS success,
                    total(error) AS error, total(cancelled) AS cancelled, total(dead) AS dead,
                    total(blocked) AS blocked FROM main.counts),
         waiting AS (
             SELECT (SELECT count(*) FROM job INDEXED BY job_ready WHERE status = 0 AND due IS NOT NULL) AS ready,
                    (SELECT count(*) FROM job INDEXED BY job_group WHERE group_id IS NOT NULL AND status < 2)
                  - (SELECT count(*) FROM job INDEXED BY job_group_active
                     WHERE group_id IS NOT NULL AND due IS NOT NULL) AS blocked),
         failed AS (
             SELECT total(status = 3) AS error, total(status = 4) AS cancelled, total(dead) AS dead
             FROM job INDEXED BY job_failed WHERE status > 2)
         SELECT abs(submitted - waiting.ready - waiting.blocked)
              + abs(in_progress - (SELECT count(*) FROM job INDEXED BY job_leased WHERE status = 1))
              + abs(counts.error - failed.error) + abs(counts.cancelled - failed.cancelled)
              + abs(counts.dead - failed.dead) + abs(counts.blocked - waiting.blocked), success
         FROM counts, waiting, failed",
        [],
        |r| Ok((r.get::<_, f64>(0)? as i64, r.get::<_, f64>(1)? as i64)),
    )?;
    if success <= MAX_COUNTED {
        let counted: i64 = connection.query_row(
            "SELECT count(*) FROM job INDEXED BY job_expiry WHERE expires_at IS NOT NULL AND status = 2",
            [],
            |r| r.get(0),
        )?;
        differences += (success - counted).abs();
    } else if differences == 0 {
        let text = format!("the counts match the records; those of {success} successes were not counted");
        return Ok(Finding::ok("counts", text));
    }
    Ok(if differences == 0 {
        Finding::ok("counts", "the counts match the records")
    } else {
        Finding::bad(
            Severity::Problem,
            "counts",
            format!("the counts are off by {differences}"),
            "if nobody wrote to the file by hand, please report this; jobs are safe, only `stats` is wrong",
        )
    })
}

fn disk(path: &Path) -> Option<Finding> {
    let Disk { total, free } = sys::disk(path).ok()?;
    Some(if free < LOW_DISK {
        let reserve = space::reserve(total);
        Finding::bad(
            if free < reserve { Severity::Problem } else { Severity::Warning },
            "disk",
            format!(
                "{} are free; new jobs are refused where less than {} would be left",
                space::in_mib(free),
                space::in_mib(reserve)
            ),
            "free some space; `haulage purge` gives the space of old records to new ones, not back to the disk",
        )
    } else {
        Finding::ok("disk", format!("{:.1} GiB are free", free as f64 / f64::from(1 << 30)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        Backend, Clock, NewJob, Webhook,
        backend::{DeliveryOutcome, DeliveryRequest, DeliverySettlement},
        sqlite::SqliteBackend,
    };

    #[test]
    fn a_query_that_takes_too_long_is_broken_off_and_the_next_is_not() {
        let connection = Connection::open_in_memory().expect("open");
        let count = |sql: &str| {
            let sql = format!("WITH RECURSIVE n(i) AS ({sql}) SELECT count(*) FROM n");
            within(Duration::from_millis(50), &connection, |c| c.query_row(&sql, [], |r| r.get::<_, i64>(0)))
        };
        let (endless, in_time) = count("SELECT 1 UNION ALL SELECT i + 1 FROM n");
        assert!(endless.is_err() && !in_time, "{endless:?}");
        let answer = connection.query_row("SELECT 7", [], |r| r.get::<_, i64>(0));
        assert_eq!(answer.expect("a query afterwards"), 7);
    }

    #[tokio::test]
    async fn webhooks_that_nobody_tells_and_those_that_were_given_up_are_worth_a_word() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(0));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("open");
        let job = || NewJob::new(&1).expect("JSON").webhook(Webhook::new("https://a.example"));
        let submitted = backend.submit(vec![job(), job()]).await.expect("submit");
        backend
            .cancel(submitted.into_iter().map(|job| job.expect("a job").id).collect())
            .await
            .expect("cancel");
        let said = async || {
            let findings = backend.check().await.expect("check").into_iter();
            let findings = findings.filter(|finding| finding.check == "webhooks");
            findings.map(|finding| finding.message).collect::<Vec<_>>()
        };
        assert_eq!(said().await, Vec::<String>::new(), "there was no time yet");
        clock.advance(Finding::UNTOLD + Duration::from_secs(1));
        assert_eq!(said().await, ["2 webhook deliveries have been overdue for more than 10m"]);
        let request =
            DeliveryRequest { max: 1, per_host: 1, in_flight: BTreeMap::new(), lease: Finding::UNTOLD };
        let deliveries = backend.deliveries().expect("webhooks");
        let one = deliveries.claim_deliveries(request).await.expect("claim").deliveries.remove(0).delivery;
        let outcome = DeliveryOutcome::Dead { error: "no".into() };
        let dead = DeliverySettlement { id: one.id, tries: one.tries, outcome };
        assert_eq!(deliveries.settle_deliveries(vec![dead]).await.expect("settle"), [true]);
        let expected =
            ["1 webhook delivery has been overdue for more than 10m", "1 webhook delivery is dead"];
        assert_eq!(said().await, expected);
    }
}
