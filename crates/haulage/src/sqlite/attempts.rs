//! What is remembered of the attempts of a job.

use rusqlite::{Connection, Row, params};

use super::tx::{Hot, Tx};
use crate::{Attempt, FailureKind, JobError, Timestamp};

type Sql<T> = rusqlite::Result<T>;

impl Tx<'_> {
    /// An attempt is over, and the job's row will tell of the next.
    pub(super) fn remember(&self, job: &Hot, error: Option<&JobError>) -> Sql<()> {
        let Some(started_at) = job.started_at else { return Ok(()) };
        let worker = job.worker.clone();
        self.add(job.seq, &Attempt::over(job.attempt, worker, started_at, self.now, error))
    }

    /// The same of the last attempt of a job that has ended, and comes back to life.
    pub(super) fn remember_end(&self, job: &Hot) -> Sql<()> {
        let known = self.row("SELECT max(number) FROM attempt WHERE seq = ?1", [job.seq], |r| r.get(0))?;
        let known: Option<u32> = known.flatten();
        // One that was over before the job was is remembered already.
        let Some(started_at) = job.started_at.filter(|_| known < Some(job.attempt)) else { return Ok(()) };
        let end = self.row(
            "SELECT finished_at, error_kind, error, error_type FROM job WHERE seq = ?1",
            [job.seq],
            |r| Ok((Timestamp::from_micros(r.get("finished_at")?), error(r)?)),
        )?;
        let Some((ended_at, error)) = end else { return Ok(()) };
        let worker = job.worker.clone();
        self.add(job.seq, &Attempt::over(job.attempt, worker, started_at, ended_at, error.as_ref()))
    }

    fn add(&self, seq: i64, attempt: &Attempt) -> Sql<()> {
        self.execute(
            "INSERT OR REPLACE INTO attempt (seq, number, worker, started_at, ended_at, error_kind, error,
             error_type, slot) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, (SELECT slot FROM job WHERE seq = ?1))",
            params![
                seq,
                attempt.number,
                attempt.worker,
                attempt.started_at.as_micros(),
                attempt.ended_at.map(Timestamp::as_micros),
                attempt.error.as_ref().map(|error| error.kind.as_str()),
                attempt.error.as_ref().map(|error| &error.message),
                attempt.error.as_ref().and_then(|error| error.type_name.as_ref()),
            ],
        )?;
        let kept = u32::try_from(Attempt::KEPT).unwrap_or(u32::MAX);
        let forgotten = attempt.number.saturating_sub(kept);
        self.execute("DELETE FROM attempt WHERE seq = ?1 AND number <= ?2", params![seq, forgotten])?;
        Ok(())
    }
}

/// The attempts before the one of which the job's row tells.
pub(super) fn past(connection: &Connection, seq: i64) -> Sql<Vec<Attempt>> {
    connection
        .prepare_cached(
            "SELECT number, worker, started_at, ended_at, error_kind, error, error_type, slot FROM attempt
             WHERE seq = ?1",
        )?
        .query_map([seq], |r| {
            let moment = |column| r.get(column).map(Timestamp::from_micros);
            let (started_at, ended_at) = (moment("started_at")?, moment("ended_at")?);
            let attempt =
                Attempt::over(r.get("number")?, r.get("worker")?, started_at, ended_at, error(r)?.as_ref());
            Ok(attempt.in_slot(r.get("slot")?))
        })?
        .collect()
}

/// The error in a row of a job or of an attempt.
pub(super) fn error(row: &Row<'_>) -> Sql<Option<JobError>> {
    let Some(kind) = row.get::<_, Option<String>>("error_kind")? else { return Ok(None) };
    let kind = FailureKind::from_name(&kind);
    let message = row.get::<_, Option<String>>("error")?.unwrap_or_default();
    Ok(Some(JobError { kind, message, type_name: row.get("error_type")? }))
}
