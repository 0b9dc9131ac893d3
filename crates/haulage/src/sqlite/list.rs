//! Listing records, newest first.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{fault::Fault, get, id};
use crate::{Error, Record, Status, Timestamp, backend::ListQuery};

/// How many of the newest rows are looked at first. Where too few of them are
/// meant, it depends on how many such records there are whether going on is
/// faster, or sorting those that the indexes have.
const NEAR: i64 = 100_000;

pub(super) fn list(connection: &Connection, query: &ListQuery, now: Timestamp) -> Result<Vec<Record>, Fault> {
    Ok(get::records(connection, &rows(connection, query, now, NEAR)?, now)?)
}

fn rows(connection: &Connection, query: &ListQuery, now: Timestamp, near: i64) -> Result<Vec<i64>, Fault> {
    let before = match &query.before {
        None => connection.query_row("SELECT coalesce(max(seq), 0) + 1 FROM job", [], |r| r.get(0))?,
        Some(id) => row_of(connection, id)?,
    };
    let limit = query.limit;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let newest = |sources: &[String]| {
        let mut rows = Vec::new();
        for source in sources {
            let sql =
                format!("SELECT seq FROM job {source} AND seq < {before} ORDER BY seq DESC LIMIT {most}");
            let mut statement = connection.prepare(&sql)?;
            rows.extend(
                statement.query_map([], |r| r.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?,
            );
        }
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.truncate(limit);
        Ok::<_, rusqlite::Error>(rows)
    };
    let Sources { meant, indexes } = sources(query, now);
    let Some(meant) = meant else { return Ok(newest(&indexes)?) };
    let first = before.saturating_sub(near);
    let rows = newest(&[format!("NOT INDEXED WHERE {meant} AND seq >= {first}")])?;
    if rows.len() >= limit || first <= 1 {
        return Ok(rows);
    }
    if let Some(status) = query.status
        && is_rare(connection, status)?
    {
        return Ok(newest(&indexes)?);
    }
    Ok(newest(&[format!("NOT INDEXED WHERE {meant}")])?)
}

/// Whether most records have another status.
fn is_rare(connection: &Connection, status: Status) -> rusqlite::Result<bool> {
    let column = if status == Status::Success { "success" } else { "submitted" };
    let sql =
        format!("SELECT 2 * {column} < submitted + in_progress + success + error + cancelled FROM counts");
    connection.query_row(&sql, [], |r| r.get(0))
}

fn row_of(connection: &Connection, id: &crate::JobId) -> Result<i64, Fault> {
    let found = match id::parse(id) {
        Some(id) => connection
            .prepare_cached("SELECT seq FROM job WHERE seq = ?1 AND id = ?2")?
            .query_row(params![id::seq(id), id.as_bytes()], |r| r.get(0))
            .optional()?,
        None => None,
    };
    found.ok_or_else(|| Error::NotFound(id.clone()).into())
}

/// Where what is meant is found.
struct Sources {
    /// What is true of such rows, where many are likely to be among the newest.
    meant: Option<String>,
    /// The indexes that together have all of them, in another order than that of submits.
    indexes: Vec<String>,
}

fn sources(query: &ListQuery, now: Timestamp) -> Sources {
    let now = now.as_micros();
    let abandoned =
        format!("due + lease <= {now} AND NOT cancel_requested AND attempt - uncounted < max_attempts");
    let waiting = [
        "INDEXED BY job_ready WHERE status = 0 AND due IS NOT NULL".to_owned(),
        "INDEXED BY job_group WHERE group_id IS NOT NULL AND status < 2 AND status = 0 AND due IS NULL"
            .to_owned(),
    ];
    let leased = "INDEXED BY job_leased WHERE status = 1".to_owned();
    let over = format!("INDEXED BY job_expiry WHERE expires_at > {now}");
    let failed =
        |status: &str| format!("INDEXED BY job_failed WHERE status > 2 AND {status} AND expires_at > {now}");
    let only = |index| Sources { meant: None, indexes: vec![index] };
    match (query.dead, query.status) {
        (true, None | Some(Status::Error)) => only(failed("status = 3 AND dead")),
        (true, Some(_)) => Sources { meant: None, indexes: Vec::new() },
        (false, Some(Status::Error)) => only(failed("status = 3")),
        (false, Some(Status::Cancelled)) => only(failed("status = 4")),
        (false, Some(Status::InProgress)) => only(format!("{leased} AND NOT ({abandoned})")),
        (false, Some(Status::Success)) => Sources {
            meant: Some(format!("status = 2 AND expires_at > {now}")),
            indexes: vec![format!("{over} AND status = 2")],
        },
        (false, Some(Status::Submitted)) => Sources {
            meant: Some(format!("(status = 0 OR (status = 1 AND {abandoned}))")),
            indexes: waiting.into_iter().chain([format!("{leased} AND {abandoned}")]).collect(),
        },
        (false, None) => Sources {
            meant: Some(format!("(expires_at IS NULL OR expires_at > {now})")),
            indexes: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Backend, Clock, NewJob,
        backend::{ClaimRequest, Outcome, Settlement},
        sqlite::SqliteBackend,
    };

    fn job() -> NewJob {
        NewJob::new("x").expect("JSON")
    }

    #[tokio::test]
    async fn a_list_is_the_same_wherever_its_records_are_among_the_rows() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("open");
        let claim = |lease, max| {
            backend.claim(ClaimRequest {
                max,
                lease: Duration::from_secs(lease),
                wait: Duration::ZERO,
                worker: "one".into(),
                stop: Default::default(),
            })
        };
        // So many that what waits, and what has succeeded, is rare.
        let ids = backend.submit(vec![job(); 100]).await.expect("submit");
        let ids = ids.into_iter().map(|job| job.expect("a job").id).collect();
        backend.cancel(ids).await.expect("cancel");
        for round in 0..3 {
            let short = || job().result_ttl(Duration::from_secs(60));
            let jobs = vec![
                short(),
                job(),
                job(),
                job().max_attempts(1),
                job(),
                job(),
                job().group("g"),
                job().group("g"),
            ];
            backend.submit(jobs).await.expect("submit");
            let claimed = claim(10_000, 4).await.expect("claim");
            let error = || crate::JobError::cancelled();
            let outcomes = [
                Outcome::Success(crate::Json::from_stored("1")),
                Outcome::Success(crate::Json::from_stored("2")),
                Outcome::Cancelled,
                Outcome::Fail(error()),
            ];
            let settlements = claimed
                .iter()
                .zip(outcomes)
                .map(|(claimed, outcome)| Settlement { key: claimed.key.clone(), outcome });
            backend.settle(settlements.collect()).await.expect("settle");
            claim(if round == 2 { 1 } else { 10_000 }, 1).await.expect("claim");
            let delayed = job().delay(Duration::from_secs(1_000));
            backend.submit(vec![delayed]).await.expect("submit");
            clock.advance(Duration::from_secs(30));
        }
        clock.advance(Duration::from_secs(20));
        let every = Status::ALL.into_iter().map(Some).chain([None]);
        for (status, limit) in every.flat_map(|status| [1, 4, usize::MAX].map(|limit| (status, limit))) {
            let query = ListQuery { status, limit, ..ListQuery::default() };
            let now = clock.now();
            let [far, close, all] = [0, 5, NEAR].map(|near| {
                let query = query.clone();
                backend.connections.scans.run(move |c| rows(c, &query, now, near))
            });
            let all = all.await.expect("rows");
            assert_eq!(far.await.expect("rows"), all, "{status:?}, {limit}: by the indexes");
            assert_eq!(close.await.expect("rows"), all, "{status:?}, {limit}: with some of the newest");
            assert!(!all.is_empty() && all.len() <= limit, "{status:?}: {all:?}");
        }
    }
}
