//! A health check of the database.

use std::path::Path;

use rusqlite::Connection;

use super::{fault::Fault, schema, stats, sys};
use crate::{
    Timestamp,
    backend::{Finding, Severity},
};

/// Files up to this size are checked page by page.
const MAX_FULL_CHECK: u64 = 2 << 30;
/// Less free disk than this is worth a warning.
const LOW_DISK: u64 = 1 << 30;
/// A log of this size means that something keeps it from being emptied.
const LARGE_LOG: u64 = 512 << 20;

pub(super) fn check(connection: &Connection, path: &Path, now: Timestamp) -> Result<Vec<Finding>, Fault> {
    let mut findings = vec![Finding::ok("database", format!("{} is open", path.display()))];
    let text = |sql: &str| connection.query_row(sql, [], |r| r.get::<_, String>(0));
    findings
        .push(Finding::ok("schema", format!("version {}, SQLite {}", schema::VERSION, rusqlite::version())));
    let stats = stats::stats(connection, now, path)?;
    if stats.stored_bytes.unwrap_or(0) <= MAX_FULL_CHECK {
        let verdict = text("PRAGMA quick_check(1)")?;
        findings.push(if verdict == "ok" {
            Finding::ok("integrity", "every page is sound")
        } else {
            Finding::bad(
                Severity::Problem,
                "integrity",
                format!("the file is damaged: {verdict}"),
                "stop all workers, then `sqlite3 OLD .recover | sqlite3 NEW`, and look at the disk's health",
            )
        });
    } else {
        findings.push(Finding::ok("integrity", "not checked: the file is larger than 2 GiB"));
    }
    findings.push(tally(connection)?);
    findings.extend(disk(path));
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = std::fs::metadata(log).map_or(0, |m| m.len());
    if log > LARGE_LOG {
        findings.push(Finding::bad(
            Severity::Warning,
            "log",
            format!("the write-ahead log has grown to {} MiB", log >> 20),
            "some program keeps a read transaction open on the database; close it, and the log shrinks",
        ));
    }
    findings.push(match stats.oldest_visible_seconds {
        Some(age) if stats.in_progress == 0 && age > 60.0 => Finding::bad(
            Severity::Warning,
            "workers",
            format!("{} jobs wait, the oldest for {age:.0} s, and none is in progress", stats.visible),
            "start a worker, or see why the running ones do not claim",
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
    let free = sys::free_bytes(path).ok()?;
    Some(if free < LOW_DISK {
        Finding::bad(
            Severity::Warning,
            "disk",
            format!("{} MiB are free", free >> 20),
            "free some space; `haulage purge` gives the space of old records to new ones, not back to the disk",
        )
    } else {
        Finding::ok("disk", format!("{:.1} GiB are free", free as f64 / f64::from(1 << 30)))
    })
}
