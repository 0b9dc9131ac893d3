//! Reading records.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{
    attempts,
    fault::Fault,
    id,
    spec::{self, spec_columns},
    tx::{lease, status},
};
use crate::{
    JobId, Json, Progress, Record, Status, Timestamp,
    backend::{Detail, Lookup},
};

macro_rules! select_record {
    ($rest:expr) => {
        concat!(
            "SELECT id, submitted_at, status, attempt, uncounted, started_at, finished_at, due, lease, check_at, ",
            "expires_at, worker, slot, progress, progress_message, cancel_requested, dead, error_kind, error, error_type, seq, ",
            spec_columns!(),
            " FROM job ",
            $rest
        )
    };
}

/// A row as it is at `now`: a job that its holder has abandoned waits for the
/// next claim, though nothing of that is written.
fn read(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<(i64, Record)> {
    let time =
        |name: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(Timestamp::from_micros));
    let id = id::show(Uuid::from_bytes(row.get("id")?));
    let mut record = Record::new(id, spec::shown(row)?, Timestamp::from_micros(row.get("submitted_at")?));
    record.status = status(row.get("status")?)?;
    record.attempt = row.get("attempt")?;
    record.uncounted = row.get("uncounted")?;
    record.started_at = time("started_at")?;
    record.finished_at = time("finished_at")?;
    record.due_at = time("due")?;
    record.expires_at = time("expires_at")?;
    record.worker = row.get("worker")?;
    record.slot = row.get("slot")?;
    if let Some(fraction) = row.get("progress")? {
        record.progress = Some(Progress { fraction, message: row.get("progress_message")? });
    }
    record.cancel_requested = row.get("cancel_requested")?;
    record.dead = row.get("dead")?;
    record.error = attempts::error(row)?;
    if record.status == Status::InProgress && lease(row)?.is_some_and(|lease| lease.is_abandoned(now)) {
        record.show_abandoned();
    }
    Ok((row.get("seq")?, record))
}

fn payload(connection: &Connection, sql: &str, seq: i64) -> rusqlite::Result<Option<Json>> {
    connection
        .prepare_cached(sql)?
        .query_row([seq], |r| Ok(Json::from_stored(r.get_ref(0)?.as_str()?)))
        .optional()
}

pub(super) fn get(
    connection: &Connection,
    ids: &[JobId],
    detail: Detail,
    now: Timestamp,
) -> Result<Vec<Lookup>, Fault> {
    let mut find = connection.prepare_cached(select_record!("WHERE seq = ?1 AND id = ?2"))?;
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        let found = match id::parse(id) {
            Some(id) => find.query_row(params![id::seq(id), id.as_bytes()], |r| read(r, now)).optional()?,
            None => None,
        };
        answers.push(match found {
            None => Lookup::Missing,
            Some((_, record)) if record.is_expired(now) => Lookup::Expired,
            Some((seq, mut record)) => {
                if detail >= Detail::Result && record.status == Status::Success {
                    record.result = payload(connection, "SELECT json FROM result WHERE seq = ?1", seq)?;
                }
                if detail == Detail::Full {
                    record.body = payload(connection, "SELECT json FROM body WHERE seq = ?1", seq)?;
                    record.remember(attempts::past(connection, seq)?);
                    record.checkpoint =
                        payload(connection, "SELECT json FROM checkpoint WHERE seq = ?1", seq)?;
                }
                Lookup::Found(record)
            }
        });
    }
    Ok(answers)
}

/// Whether this record may be one for which [`any_over`] looks.
pub(super) fn may_be_over(lookup: &Lookup, now: Timestamp) -> bool {
    let Lookup::Found(record) = lookup else { return false };
    match record.status {
        Status::InProgress => record.due_at.is_none_or(|t| t <= now),
        Status::Submitted => record.spec.start_within.is_some_and(|d| record.submitted_at.after(d) <= now),
        _ => false,
    }
}

/// Whether jobs are over, as nobody will ever claim them, of which that is not
/// written: [`Tx::end_abandoned`](super::tx::Tx::end_abandoned) does, and each
/// transaction for what has not started in time.
pub(super) fn any_over(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM job INDEXED BY job_leased
             WHERE status = 1 AND check_at <= ?1 AND due + lease <= ?1
             AND (cancel_requested OR attempt - uncounted >= max_attempts)
             UNION ALL SELECT 1 FROM job INDEXED BY job_start_by
             WHERE status = 0 AND start_by IS NOT NULL AND start_by <= ?1)",
        )?
        .query_row([now.as_micros()], |r| r.get(0))
}

/// The records of these rows, as they are at `now`.
pub(super) fn records(
    connection: &Connection,
    rows: &[i64],
    now: Timestamp,
) -> rusqlite::Result<Vec<Record>> {
    let mut find = connection.prepare_cached(select_record!("WHERE seq = ?1"))?;
    rows.iter().map(|seq| find.query_row([seq], |r| Ok(read(r, now)?.1))).collect()
}
