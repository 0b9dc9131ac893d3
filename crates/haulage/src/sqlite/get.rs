//! Reading records.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{
    fault::Fault,
    id,
    tx::{lease, status},
};
use crate::{
    FailureKind, JobError, JobId, Json, Progress, Record, Status, Timestamp,
    backend::{Detail, Lookup},
};

macro_rules! select_record {
    ($rest:expr) => {
        concat!(
            "SELECT id, submitted_at, max_attempts, status, attempt, uncounted, request_id, group_id, metadata, ",
            "started_at, finished_at, due, expires_at, worker, progress, progress_message, cancel_requested, ",
            "dead, error_kind, error, seq, lease, check_at FROM job ",
            $rest
        )
    };
}

/// A row as it is at `now`: a job that its holder has abandoned waits for the
/// next claim, though nothing of that is written.
fn read(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<(i64, Record)> {
    let time = |i| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(i)?.map(Timestamp::from_micros));
    let id = id::show(Uuid::from_bytes(row.get(0)?));
    let mut record = Record::new(id, Timestamp::from_micros(row.get(1)?), row.get(2)?);
    record.status = status(row.get(3)?)?;
    record.attempt = row.get(4)?;
    record.uncounted = row.get(5)?;
    if let Some(request_id) = row.get(6)? {
        record.request_id = request_id;
    }
    record.group = row.get(7)?;
    if let Some(metadata) = row.get::<_, Option<String>>(8)? {
        record.metadata = serde_json::from_str(&metadata).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(8, rusqlite::types::Type::Text, Box::new(e))
        })?;
    }
    record.started_at = time(9)?;
    record.finished_at = time(10)?;
    record.due_at = time(11)?;
    record.expires_at = time(12)?;
    record.worker = row.get(13)?;
    if let Some(fraction) = row.get(14)? {
        record.progress = Some(Progress { fraction, message: row.get(15)? });
    }
    record.cancel_requested = row.get(16)?;
    record.dead = row.get(17)?;
    if let Some(kind) = row.get::<_, Option<String>>(18)? {
        let message = row.get::<_, Option<String>>(19)?.unwrap_or_default();
        record.error = Some(JobError { kind: FailureKind::from_name(&kind), message });
    }
    if record.status == Status::InProgress && lease(row, 11, 21)?.is_some_and(|lease| lease.is_abandoned(now))
    {
        record.show_abandoned();
    }
    Ok((row.get(20)?, record))
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
                }
                Lookup::Found(record)
            }
        });
    }
    Ok(answers)
}

/// Whether this record says that a consumer holds the job, though its lease
/// has run out.
pub(super) fn is_lapsed(lookup: &Lookup, now: Timestamp) -> bool {
    matches!(lookup, Lookup::Found(r) if r.status == Status::InProgress && r.due_at.is_none_or(|t| t <= now))
}

/// Whether [`Tx::end_abandoned`](super::tx::Tx::end_abandoned) has something to do.
pub(super) fn any_abandoned(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM job INDEXED BY job_leased
             WHERE status = 1 AND check_at <= ?1 AND due + lease <= ?1
             AND (cancel_requested OR attempt - uncounted >= max_attempts))",
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
