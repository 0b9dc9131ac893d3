//! Deleting records that an operator names.

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::{
    fault::Fault,
    id,
    tx::{Hot, Tx, code},
};
use crate::{JobId, QueueName, Status, Timestamp, backend::Purge};

/// What is left to be deleted. It goes in parts, so that others get their
/// turns in between.
#[derive(Debug)]
pub(super) enum Search {
    Status { status: Status, queue: Option<QueueName>, before: Timestamp, after: i64 },
    Jobs(Vec<JobId>),
}

/// What is deleted at once.
#[derive(Debug)]
pub(super) struct Part {
    jobs: Vec<i64>,
    which: Which,
    /// Their bodies and results.
    pub(super) bytes: usize,
    /// Whether what is deleted is overwritten at once, which needs as much
    /// space in the log as it has.
    overwrite: bool,
}

#[derive(Debug)]
enum Which {
    Old(Status, Timestamp),
    Ids(Vec<Uuid>),
}

macro_rules! old {
    ($from:literal) => {
        concat!(
            "SELECT seq ",
            $from,
            " status = ?1 AND seq > ?2 AND coalesce(finished_at, submitted_at) <= ?3 ORDER BY seq LIMIT 1"
        )
    };
}

/// How many rows are deleted at once.
const ROWS: usize = 1_000;
/// The same, in bytes of bodies and results.
const BYTES: usize = 4 << 20;

impl Search {
    pub(super) fn new(what: Purge, now: Timestamp) -> Self {
        match what {
            Purge::Status { status, older_than, queue } => {
                Self::Status { status, queue, before: now.before(older_than), after: i64::MIN }
            }
            Purge::Jobs(ids) => Self::Jobs(ids),
        }
    }

    /// The next part; `None` where nothing is left. Deleting takes space in the
    /// log first: with little `free` on the disk, it is a small one.
    pub(super) fn next(&mut self, connection: &Connection, free: u64) -> Result<Option<Part>, Fault> {
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        let limit = BYTES.min(free / 4).max(1);
        let mut part = match self {
            Self::Status { status, before, .. } => Part::new(Which::Old(*status, *before)),
            Self::Jobs(_) => Part::new(Which::Ids(Vec::new())),
        };
        let mut size = connection.prepare_cached(
            "SELECT coalesce((SELECT octet_length(json) FROM body WHERE seq = ?1), 0)
                  + coalesce((SELECT octet_length(json) FROM result WHERE seq = ?1), 0)
                  + coalesce((SELECT octet_length(json) FROM checkpoint WHERE seq = ?1), 0)",
        )?;
        while part.jobs.len() < ROWS && part.bytes < limit {
            let Some((seq, id)) = self.next_job(connection)? else { break };
            let bytes = size.query_row([seq], |r| r.get::<_, i64>(0))?;
            part.bytes = part.bytes.saturating_add(usize::try_from(bytes).unwrap_or(0));
            part.jobs.push(seq);
            if let (Which::Ids(ids), Some(id)) = (&mut part.which, id) {
                ids.push(id);
            }
        }
        part.overwrite = part.bytes <= free / 2;
        Ok(Some(part).filter(|part| !part.jobs.is_empty()))
    }

    fn next_job(&mut self, connection: &Connection) -> rusqlite::Result<Option<(i64, Option<Uuid>)>> {
        match self {
            Self::Status { status, queue, before, after } => {
                let sql = match &queue {
                    None => old!("FROM job WHERE ?4 IS NULL AND"),
                    Some(queue) if queue.is_default() => old!("FROM job WHERE queue IS ?4 AND"),
                    Some(_) => old!("FROM job INDEXED BY job_queue WHERE queue = ?4 AND"),
                };
                let seq: Option<i64> = connection
                    .prepare_cached(sql)?
                    .query_row(params![code(*status), *after, before.as_micros(), *queue], |r| r.get(0))
                    .optional()?;
                *after = seq.unwrap_or(i64::MAX);
                Ok(seq.map(|seq| (seq, None)))
            }
            Self::Jobs(ids) => Ok(std::iter::from_fn(|| ids.pop())
                .find_map(|id| id::parse(&id))
                .map(|id| (id::seq(id), Some(id)))),
        }
    }
}

impl Part {
    fn new(which: Which) -> Self {
        Self { jobs: Vec::new(), which, bytes: 0, overwrite: true }
    }

    pub(super) fn rows(&self) -> usize {
        self.jobs.len()
    }

    /// Deletes those of the jobs that are still meant; records that had
    /// expired anyway are not counted.
    pub(super) fn delete(self, tx: &mut Tx<'_>) -> Result<u64, Fault> {
        let mut purged = 0;
        tx.overwrite_deleted(self.overwrite)?;
        for (n, seq) in self.jobs.iter().enumerate() {
            let job = match &self.which {
                Which::Old(status, before) => tx
                    .row(Hot::OLD, params![seq, before.as_micros()], Hot::read)?
                    .filter(|job| job.status == *status),
                Which::Ids(ids) => tx
                    .row(Hot::BY_ID, params![seq, ids[n].as_bytes()], Hot::read)?
                    .filter(|job| job.status != Status::InProgress),
            };
            if let Some(job) = job {
                purged += u64::from(!job.is_expired(tx.now));
                tx.forget_deliveries(&job)?;
                tx.delete(&job)?;
            }
        }
        tx.overwrite_deleted(true)?;
        Ok(purged)
    }
}
