//! A write transaction, and the moves that a job can make in one.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::{
    NET,
    counts::Counts,
    id, spec,
    wake::{Changes, Signal},
};
use crate::{
    FailureKind, JobId, QueueName, Status, Timestamp, WebhookEvent,
    backend::Update,
    lease::Lease,
    lifecycle::{End, Terms, Wait},
    suspicion::Suspicion,
};

type Sql<T> = rusqlite::Result<T>;

/// A write transaction at one moment in time.
#[derive(Debug)]
pub(super) struct Tx<'a> {
    connection: &'a Connection,
    pub(super) now: Timestamp,
    /// Jobs that have not started in time may still be among those that wait: nobody
    /// claims before this moment.
    pub(super) no_claims_before: Option<Timestamp>,
    open: bool,
    changes: Changes,
    pub(super) counts: Counts,
}

/// Status as stored.
pub(super) const fn code(status: Status) -> i64 {
    match status {
        Status::Submitted => 0,
        Status::InProgress => 1,
        Status::Success => 2,
        Status::Error => 3,
        Status::Cancelled => 4,
    }
}

/// The status stored as `code`.
pub(super) fn status(code: i64) -> Sql<Status> {
    Status::ALL
        .get(usize::try_from(code).unwrap_or(usize::MAX))
        .copied()
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(0, code))
}

/// The lease of a job in progress.
pub(super) fn lease(row: &Row<'_>) -> Sql<Option<Lease>> {
    let time =
        |name: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(Timestamp::from_micros));
    let Some(until) = time("due")? else { return Ok(None) };
    let span = row.get::<_, Option<i64>>("lease")?.and_then(|micros| u64::try_from(micros).ok());
    let length = Duration::from_micros(span.unwrap_or(0));
    Ok(Some(Lease { until, length, check_at: time("check_at")?.unwrap_or(until) }))
}

/// What is stored of what is thought of a job, read back.
fn suspicion(stored: Option<i64>) -> Suspicion {
    match stored.map(|micros| u64::try_from(micros).unwrap_or(0)) {
        None => Suspicion::None,
        Some(0) => Suspicion::Spared,
        Some(micros) => Suspicion::Watched(Duration::from_micros(micros)),
    }
}

/// What is thought of a job, as it is stored.
pub(super) fn stored(suspicion: Suspicion) -> Option<i64> {
    match suspicion {
        Suspicion::None => None,
        Suspicion::Spared => Some(0),
        Suspicion::Watched(time) => Some(micros(time).max(1)),
    }
}

/// What the moves need to know of a job.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) seq: i64,
    pub(super) status: Status,
    pub(super) attempt: u32,
    pub(super) uncounted: u32,
    pub(super) max_attempts: u32,
    pub(super) submitted_at: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) start_by: Option<Timestamp>,
    pub(super) due: Option<Timestamp>,
    pub(super) lease: Option<Lease>,
    pub(super) cancel_requested: bool,
    pub(super) dead: bool,
    pub(super) queue: QueueName,
    pub(super) group: Option<String>,
    pub(super) result_ttl: i64,
    pub(super) drop_body: bool,
    /// Of what its webhook is to be told.
    pub(super) webhook: u32,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) worker: Option<String>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) suspicion: Suspicion,
}

macro_rules! hot {
    ($rest:literal) => {
        concat!(
            "SELECT seq, status, attempt, uncounted, max_attempts, submitted_at, not_before, start_by, due, ",
            "cancel_requested, dead, queue, group_id, result_ttl, drop_body, webhook, expires_at, worker, lease, check_at, ",
            "started_at, suspect FROM job ",
            $rest
        )
    };
}

impl Hot {
    pub(super) const BY_ID: &str = hot!("WHERE seq = ?1 AND id = ?2");
    pub(super) const BY_SEQ: &str = hot!("WHERE seq = ?1");
    pub(super) const OLD: &str = hot!("WHERE seq = ?1 AND coalesce(finished_at, submitted_at) <= ?2");
    pub(super) const EXPIRED: &str = hot!("WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2");
    pub(super) const UNCHECKED: &str = hot!("WHERE status = 1 AND check_at <= ?1 ORDER BY check_at LIMIT ?2");
    pub(super) const SUSPECTS: &str =
        hot!("INDEXED BY job_suspect WHERE status = 1 AND suspect IS NOT NULL AND worker = ?1");
    pub(super) const UNSUSPECTED: &str =
        hot!("INDEXED BY job_leased WHERE status = 1 AND suspect IS NULL AND worker = ?1");
    pub(super) const AHEAD: &str =
        hot!("INDEXED BY job_leased WHERE status = 1 AND max(due, check_at) > ?1 + lease");
    pub(super) const ABANDONED: &str = hot!(
        "WHERE status = 1 AND check_at <= ?1 AND due + lease <= ?1
         AND (cancel_requested OR attempt - uncounted >= max_attempts) ORDER BY check_at LIMIT ?2"
    );

    pub(super) fn read(row: &Row<'_>) -> Sql<Self> {
        let time = |name: &str| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(Timestamp::from_micros))
        };
        let status = status(row.get("status")?)?;
        Ok(Self {
            seq: row.get("seq")?,
            status,
            attempt: row.get("attempt")?,
            uncounted: row.get("uncounted")?,
            max_attempts: row.get("max_attempts")?,
            submitted_at: Timestamp::from_micros(row.get("submitted_at")?),
            not_before: time("not_before")?,
            start_by: time("start_by")?,
            due: time("due")?,
            lease: if status == Status::InProgress { lease(row)? } else { None },
            cancel_requested: row.get("cancel_requested")?,
            dead: row.get("dead")?,
            queue: row.get("queue")?,
            group: row.get("group_id")?,
            result_ttl: row.get("result_ttl")?,
            drop_body: row.get("drop_body")?,
            webhook: row.get("webhook")?,
            expires_at: time("expires_at")?,
            worker: row.get("worker")?,
            started_at: time("started_at")?,
            suspicion: suspicion(row.get("suspect")?),
        })
    }

    /// What decides what becomes of it.
    pub(super) fn terms(&self, now: Timestamp) -> Terms {
        Terms {
            late: self.late(now),
            counted: self.attempt.saturating_sub(self.uncounted),
            max_attempts: self.max_attempts,
            cancel_requested: self.cancel_requested,
        }
    }

    /// The time that it had to start, where that is over, and no attempt has begun.
    pub(super) fn late(&self, now: Timestamp) -> Option<Duration> {
        self.start_by.filter(|end| *end <= now).map(|end| end.since(self.submitted_at))
    }

    /// Whether its lease should have been extended by now.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| lease.is_overdue(now))
    }

    /// Whether its lease has run out.
    pub(super) fn is_lapsed(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| lease.until <= now)
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|t| t <= now)
    }
}

impl<'a> Tx<'a> {
    pub(super) fn begin(connection: &'a Connection, clock: &crate::Clock) -> Sql<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        // Only now: the lock may have been waited for.
        let (now, changes, counts) = (clock.now(), Changes::default(), Counts::default());
        Ok(Self { connection, now, no_claims_before: None, open: true, changes, counts })
    }

    /// Commits, and says what is to be signalled.
    pub(super) fn commit(mut self) -> Sql<Changes> {
        self.counts.store(self.connection)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.open = false;
        Ok(self.changes)
    }

    /// Does what may fail without the rest of the transaction. The outer error
    /// says that SQLite has given up all of it.
    pub(super) fn apart<T>(&mut self, work: impl FnOnce(&mut Self) -> Sql<T>) -> Sql<Sql<T>> {
        let (changes, counts) = (self.changes, self.counts.clone());
        self.execute("SAVEPOINT apart", [])?;
        let result = work(self);
        if result.is_err() {
            if self.connection.is_autocommit() {
                return result.map(Ok);
            }
            self.execute("ROLLBACK TO apart", [])?;
            (self.changes, self.counts) = (changes, counts);
        }
        self.execute("RELEASE apart", [])?;
        Ok(result)
    }

    /// For queries that are shared with those who only read.
    pub(super) const fn connection(&self) -> &'a Connection {
        self.connection
    }

    pub(super) fn roll_back(self) {
        drop(self);
    }

    /// Runs a statement, which is compiled once and kept.
    pub(super) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Sql<usize> {
        self.connection.prepare_cached(sql)?.execute(params)
    }

    /// The first row of a query, if there is one.
    pub(super) fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> Sql<T>,
    ) -> Sql<Option<T>> {
        self.connection.prepare_cached(sql)?.query_row(params, read).optional()
    }

    /// All rows of a query.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> Sql<T>,
    ) -> Sql<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map(params, read)?.collect()
    }

    /// The row of the next job, and the id of the last one.
    pub(super) fn next_seq(&self) -> Sql<(i64, Option<Uuid>)> {
        let last = self.row("SELECT seq, id FROM job ORDER BY seq DESC LIMIT 1", [], |r| {
            Ok((r.get::<_, i64>(0)?, Uuid::from_bytes(r.get(1)?)))
        })?;
        Ok(last.map_or((1, None), |(seq, id)| (seq + 1, Some(id))))
    }

    pub(super) fn notify(&mut self, signal: Signal) {
        self.changes.add(signal);
    }

    /// A job of this queue may be claimed, at once or from this moment.
    pub(super) fn notify_due(&mut self, queue: &QueueName, due: Option<Timestamp>) {
        match due.filter(|due| *due > self.now) {
            None => self.changes.add_ready(queue),
            // One of those who wait looks by itself before that, and waits for the moment then.
            Some(due) if due > self.now.after(NET) => {}
            // By then, who is called now may be busy.
            Some(_) => self.changes.add_all_ready(),
        }
    }

    /// Everybody who waits for a job has to look.
    pub(super) fn notify_all(&mut self) {
        self.changes.add_all_ready();
    }

    /// A statement, which is compiled once and kept.
    pub(super) fn prepare(&self, sql: &str) -> Sql<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    /// The job with this id.
    pub(super) fn job(&self, id: &JobId) -> Sql<Option<Hot>> {
        match id::parse(id) {
            Some(id) => self.row(Hot::BY_ID, params![id::seq(id), id.as_bytes()], Hot::read),
            None => Ok(None),
        }
    }

    /// Counts a job that came into being.
    pub(super) fn count_new(&mut self, queue: &QueueName, blocked: bool) {
        self.counts.add(queue, Status::Submitted, 1);
        self.counts.add_blocked(queue, i64::from(blocked));
    }

    /// Counts a change of status.
    pub(super) fn count_move(&mut self, queue: &QueueName, from: Status, to: Status) {
        self.counts.add(queue, from, -1);
        self.counts.add(queue, to, 1);
    }

    /// Ends a job, and lets the next of its group go.
    pub(super) fn finish(&mut self, job: &Hot, end: End) -> Sql<Status> {
        self.finish_at(job, end, self.now)
    }

    /// The same of one that was over at an earlier moment.
    pub(super) fn finish_at(&mut self, job: &Hot, end: End, at: Timestamp) -> Sql<Status> {
        let (status, error, dead) = (end.status(), end.error(), end.is_dead());
        let kept = end.kept(spec::duration(job.result_ttl));
        self.execute(
            "UPDATE job SET status = ?2, due = NULL, finished_at = ?3, expires_at = ?4, dead = ?5,
             error_kind = coalesce(?6, error_kind), error = coalesce(?7, error),
             error_type = iif(?6 IS NULL, error_type, ?8) WHERE seq = ?1",
            params![
                job.seq,
                code(status),
                at.as_micros(),
                self.now.after(kept).as_micros(),
                dead,
                error.as_ref().map(|e| e.kind.as_str()),
                error.as_ref().map(|e| e.message.as_str()),
                error.as_ref().and_then(|e| e.type_name.as_deref()),
            ],
        )?;
        if let End::Success(result) = &end {
            self.execute(
                "INSERT INTO result (seq, json) VALUES (?1, ?2)",
                params![job.seq, result.as_str()],
            )?;
            self.execute(FORGET_CHECKPOINT, [job.seq])?;
            if job.drop_body {
                self.execute("DELETE FROM body WHERE seq = ?1", [job.seq])?;
            }
        }
        self.count_move(&job.queue, job.status, status);
        self.counts.add_dead(&job.queue, i64::from(dead));
        if job.status == Status::Submitted && job.due.is_none() {
            self.counts.add_blocked(&job.queue, -1);
        }
        self.notify(Signal::Outcomes);
        if job.suspicion.is_watched() {
            // Its worker may take another.
            self.notify_all();
        }
        self.advance_group(job)?;
        self.tell_end(job, &end)?;
        Ok(status)
    }

    /// Puts a claimed job back into the queue.
    pub(super) fn put_back(&mut self, job: &Hot, wait: &Wait) -> Sql<Status> {
        let not_before = wait.delay.map(|delay| self.now.after(delay)).or(job.not_before);
        let due = not_before.unwrap_or(job.submitted_at);
        let suspicion = if wait.counts { Suspicion::None } else { job.suspicion.alive() };
        self.requeue(job, wait, Some(due), not_before, suspicion)
    }

    /// A claimed job waits for its next attempt, from `due` on.
    pub(super) fn requeue(
        &mut self,
        job: &Hot,
        wait: &Wait,
        due: Option<Timestamp>,
        not_before: Option<Timestamp>,
        suspicion: Suspicion,
    ) -> Sql<Status> {
        let error = wait.error.as_ref();
        self.remember(job, error)?;
        self.execute(
            "UPDATE job SET status = 0, due = ?2, not_before = ?3, suspect = ?4, uncounted = uncounted + NOT ?5,
             start_by = iif(?8, NULL, start_by), error_kind = coalesce(?6, error_kind),
             error = coalesce(?7, error), error_type = iif(?6 IS NULL, error_type, ?9) WHERE seq = ?1",
            params![
                job.seq,
                due.map(Timestamp::as_micros),
                not_before.map(Timestamp::as_micros),
                stored(suspicion),
                wait.counts,
                error.map(|e| e.kind.as_str()),
                error.map(|e| e.message.as_str()),
                wait.begun,
                error.and_then(|e| e.type_name.as_deref()),
            ],
        )?;
        self.count_move(&job.queue, job.status, Status::Submitted);
        self.notify_due(&job.queue, wait.delay.map(|delay| self.now.after(delay)));
        // An operator's redrive may have put an earlier job of the group back
        // while this one ran: then that one is the head now.
        self.advance_group(job)?;
        // What was given back has not failed.
        if error.is_some_and(|error| error.kind != FailureKind::Released) {
            self.tell_webhook(job, WebhookEvent::AttemptFailed, None)?;
        }
        Ok(Status::Submitted)
    }

    /// Deletes a job and what hangs on it.
    pub(super) fn delete(&mut self, job: &Hot) -> Sql<()> {
        for sql in [
            "DELETE FROM job WHERE seq = ?1",
            "DELETE FROM body WHERE seq = ?1",
            "DELETE FROM result WHERE seq = ?1",
            "DELETE FROM attempt WHERE seq = ?1",
            FORGET_CHECKPOINT,
        ] {
            self.execute(sql, [job.seq])?;
        }
        self.counts.add(&job.queue, job.status, -1);
        self.counts.add_dead(&job.queue, -i64::from(job.dead));
        if job.status == Status::Submitted && job.due.is_none() {
            self.counts.add_blocked(&job.queue, -1);
        }
        self.advance_group(job)
    }

    /// Counts a job that came back to life.
    pub(super) fn count_revived(&mut self, job: &Hot, blocked: bool) {
        self.count_move(&job.queue, job.status, Status::Submitted);
        self.counts.add_dead(&job.queue, -i64::from(job.dead));
        self.counts.add_blocked(&job.queue, i64::from(blocked));
    }

    /// Whether what this connection deletes is overwritten at once (the
    /// default), or by what takes its place later, where it fills whole pages.
    pub(super) fn overwrite_deleted(&self, at_once: bool) -> Sql<()> {
        self.connection.pragma_update(None, "secure_delete", if at_once { "ON" } else { "FAST" })
    }

    /// Stores what an attempt says.
    pub(super) fn tell(&self, job: &Hot, update: &Update) -> Sql<()> {
        let seq = job.seq;
        if let Some(progress) = &update.progress {
            self.execute(
                "UPDATE job SET progress = ?2, progress_message = ?3 WHERE seq = ?1",
                params![seq, progress.fraction, progress.message],
            )?;
        }
        if let Some(slot) = &update.slot {
            self.execute("UPDATE job SET slot = ?2 WHERE seq = ?1", params![seq, slot])?;
        }
        if let Some(checkpoint) = &update.checkpoint {
            self.execute(
                "INSERT OR REPLACE INTO checkpoint (seq, json) VALUES (?1, ?2)",
                params![seq, checkpoint.as_str()],
            )?;
        }
        if update.progress.is_some() { self.tell_progress(job) } else { Ok(()) }
    }
}

/// A job's checkpoint goes with its success, and with the job.
pub(super) const FORGET_CHECKPOINT: &str = "DELETE FROM checkpoint WHERE seq = ?1";

/// A span as it is stored.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        // After some errors SQLite has rolled back by itself already.
        if self.open
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "cannot roll back");
        }
    }
}
