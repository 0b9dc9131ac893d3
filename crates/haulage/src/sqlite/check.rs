//! A health check of the database.

use std::{path::Path, time::Duration};

use rusqlite::Connection;

use super::{
    fault::Fault,
    location, schema, space, stats,
    sys::{self, Disk},
};
use crate::{
    Timestamp,
    backend::{Finding, Severity},
};

/// Files up to this size are checked page by page.
const MAX_FULL_CHECK: u64 = 2 << 30;
/// Less free disk than this is worth a warning.
const LOW_DISK: u64 = 1 << 30;
/// Times that are ahead of the clock by less may come from a small correction.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// A log of this size means that something keeps it from being emptied.
const LARGE_LOG: u64 = 512 << 20;

/// Looks at the files, without trust in what they say.
pub(super) fn files(connection: &Connection, path: &Path) -> Vec<Finding> {
    let mut findings = vec![
        Finding::ok("database", format!("{} is open", path.display())),
        Finding::ok("schema", format!("version {}, SQLite {}", schema::VERSION, rusqlite::version())),
    ];
    findings.push(if std::fs::metadata(path).is_ok_and(|meta| meta.len() > MAX_FULL_CHECK) {
        Finding::ok("integrity", "not checked: the file is larger than 2 GiB")
    } else {
        integrity(connection, path)
    });
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
/// `served`: jobs that wait were seen to be taken, or there are none.
pub(super) fn jobs(
    connection: &Connection,
    path: &Path,
    now: Timestamp,
    served: bool,
) -> Result<Vec<Finding>, Fault> {
    let stats = stats::stats(connection, now, path)?;
    let mut findings = vec![tally(connection)?, clock(connection, now)?];
    findings.push(match stats.oldest_visible_seconds {
        Some(age) if stats.in_progress == 0 && !served => Finding::bad(
            Severity::Warning,
            "workers",
            format!("{} jobs wait, the oldest for {age:.0} s, and none is in progress", stats.visible),
            "start a worker, or see in the logs of those that run why they take no jobs",
        ),
        _ => Finding::ok(
            "workers",
            format!("{} jobs wait, {} are in progress", stats.visible, stats.in_progress),
        ),
    });
    if stats.dead > 0 {
        findings.push(Finding::bad(
            Severity::Warning,
            "dead letters",
            format!("{} jobs have used up their attempts", stats.dead),
            "see `haulage dead list`; mend the cause, then `haulage dead redrive --all`",
        ));
    }
    Ok(findings)
}

/// Whether stored times lie ahead of the clock: those of all jobs that are not
/// over, and of the newest ones that are.
fn clock(connection: &Connection, now: Timestamp) -> Result<Finding, Fault> {
    let (ahead, latest): (i64, Option<i64>) = connection.query_row(
        "SELECT count(*), max(at) FROM (
             SELECT seq, max(at) AS at FROM (
                 SELECT seq, due AS at FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND (suspect IS NOT NULL) IN (0, 1)
                 AND (not_before IS NOT NULL) = 0
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
            "{ahead} jobs have times that are up to {} ahead of this machine's clock",
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
    if verdict(connection).as_deref() == Ok("ok") {
        return Finding::ok("integrity", "every page is sound");
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

/// Whether the kept counts are those of the rows.
fn tally(connection: &Connection) -> Result<Finding, Fault> {
    let differences: i64 = connection.query_row(
        "SELECT abs(submitted - (SELECT count(*) FROM job WHERE +status = 0))
              + abs(in_progress - (SELECT count(*) FROM job WHERE +status = 1))
              + abs(success - (SELECT count(*) FROM job WHERE +status = 2))
              + abs(error - (SELECT count(*) FROM job WHERE +status = 3))
              + abs(cancelled - (SELECT count(*) FROM job WHERE +status = 4))
              + abs(dead - (SELECT count(*) FROM job WHERE status = 3 AND dead))
              + abs(blocked - (SELECT count(*) FROM job WHERE +status = 0 AND due IS NULL)) FROM tally",
        [],
        |r| r.get(0),
    )?;
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
