//! Deleting records whose time is over, and giving space back, beside those who work.
//!
//! It goes in transactions of its own, of some milliseconds each. Where nobody
//! else writes, one follows the other; otherwise there is a pause after each,
//! which leaves the database to the others for most of the time. One process
//! does it, as each pauses anew when another one has swept.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{
    fault, shrink,
    tx::{Hot, Tx},
    wake::{Wake, Word},
};

use crate::Clock;

/// How long one transaction deletes. Others wait for that, and for its flush.
pub(super) const SLICE: Duration = Duration::from_millis(20);
/// The same, where nobody has written since the last one.
const LONG_SLICE: Duration = Duration::from_millis(80);
/// How many times as long as a transaction took the pause after it is, where
/// no more expires in that time than is deleted.
const PAUSE: u32 = 6;
/// What is deleted, of what expires meanwhile, where that is much.
const PROGRESS: f64 = 1.25;
/// Rows that are looked for together.
const ROWS: usize = 250;

/// When to sweep.
#[derive(Debug)]
pub(super) struct Pace {
    /// Whether there may be something to delete.
    pending: bool,
    /// Whether the last one failed, which the log was told of when the first did.
    failed: bool,
    /// When the pause is over.
    next: Instant,
    /// How often anybody had swept, and written, when it began.
    sweeps: u32,
    turns: u32,
}

/// What one transaction did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    pub(super) deleted: usize,
    /// There may be more.
    pub(super) more: bool,
    /// How many records expire in a second.
    pub(super) expiring: usize,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: there is nothing to delete.
    Rest,
    /// Leave the database to others, for so long.
    Pause(Duration),
    Sweep,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { pending: false, failed: false, next: Instant::now(), sweeps: 0, turns: 0 }
    }

    /// There is something to delete.
    pub(super) fn begin(&mut self, wake: &Wake) {
        if !self.pending {
            self.pending = true;
            self.sweeps = wake.read(Word::Sweeps);
        }
    }

    /// There may be more, but not now.
    pub(super) fn give_up(&mut self) {
        self.pending = false;
    }

    /// What fails is left for later.
    pub(super) fn failed(&mut self, path: &Path, error: &rusqlite::Error) {
        self.give_up();
        if !fault::is_busy(error) && !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(path = %path.display(), %error, "cannot delete expired records; trying on");
        }
    }

    pub(super) fn step(&mut self, wake: &Wake) -> Step {
        if !self.pending {
            return Step::Rest;
        }
        let now = Instant::now();
        if self.sweeps != wake.read(Word::Sweeps) {
            // Somebody else does it; whether they go on shows after a pause.
            self.pause(wake, now + SLICE.mul_f64(f64::from(PAUSE) * (1.5 + fastrand::f64())));
            return Step::Pause(self.next - now);
        }
        match self.next.checked_duration_since(now) {
            Some(left) if !self.is_quiet(wake) && !left.is_zero() => Step::Pause(left),
            _ => Step::Sweep,
        }
    }

    /// Whether nobody has written since this process swept.
    pub(super) fn is_quiet(&self, wake: &Wake) -> bool {
        self.turns == wake.read(Word::Turns)
    }

    /// This process has swept, for so long.
    pub(super) fn swept(&mut self, wake: &Wake, took: Duration, swept: Swept) {
        wake.count_sweep();
        self.failed = false;
        self.pending = swept.more;
        // Where much expires, less of the time is left to others, so that the file does not grow.
        let mut pause = took.mul_f64(f64::from(PAUSE));
        if swept.deleted > 0 {
            let enough =
                swept.deleted as f64 / (PROGRESS * swept.expiring.max(1) as f64) - took.as_secs_f64();
            pause = pause.min(Duration::from_secs_f64(enough.clamp(0.0, 3600.0)));
        }
        self.pause(wake, Instant::now() + pause);
    }

    fn pause(&mut self, wake: &Wake, until: Instant) {
        self.next = until;
        self.sweeps = wake.read(Word::Sweeps);
        self.turns = wake.read(Word::Turns);
    }
}

/// Whether there is something to delete, or to give back.
pub(super) fn is_due(tx: &Tx<'_>) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM job WHERE expires_at <= ?1)
                   OR EXISTS (SELECT 1 FROM idempotency WHERE sweep_at <= ?1)";
    let expired = tx.row(sql, [tx.now.as_micros()], |r| r.get(0))?.unwrap_or(false);
    Ok(expired || tx.has_old_deliveries()? || shrink::is_due(tx)?)
}

/// Deletes some of what is over, in one transaction.
pub(super) fn transact(
    connection: &Connection,
    clock: &Clock,
    wake: &Wake,
    pace: &Pace,
    short: bool,
) -> rusqlite::Result<Swept> {
    let quiet = pace.is_quiet(wake);
    let mut tx = Tx::begin(connection, clock)?;
    wake.begin_turn();
    let swept = sweep(&mut tx, quiet, short)?;
    tx.commit()?.send(wake);
    Ok(swept)
}

/// Where the disk is `short`, nothing is overwritten, which would need space.
fn sweep(tx: &mut Tx<'_>, quiet: bool, short: bool) -> rusqlite::Result<Swept> {
    tx.overwrite_deleted(!short)?;
    let until = Instant::now() + if quiet { LONG_SLICE } else { SLICE };
    let swept = sweep_all(tx, until);
    tx.overwrite_deleted(true)?;
    swept
}

fn sweep_all(tx: &mut Tx<'_>, until: Instant) -> rusqlite::Result<Swept> {
    let now = tx.now;
    let last_second = params![now.before(Duration::from_secs(1)).as_micros(), now.as_micros()];
    let sql = "SELECT count(*) FROM job INDEXED BY job_expiry WHERE expires_at > ?1 AND expires_at <= ?2";
    let expiring = tx.row(sql, last_second, |r| r.get::<_, i64>(0))?.unwrap_or(0);
    let mut swept = Swept { deleted: 0, more: false, expiring: usize::try_from(expiring).unwrap_or(0) };
    loop {
        let expired = tx.rows(Hot::EXPIRED, params![now.as_micros(), ROWS as i64], Hot::read)?;
        for job in &expired {
            tx.delete(job)?;
            swept.deleted += 1;
            // Large bodies take longer.
            if Instant::now() >= until {
                return Ok(Swept { more: true, ..swept });
            }
        }
        if expired.len() < ROWS {
            if sweep_keys(tx, until)? || sweep_deliveries(tx, until)? {
                return Ok(Swept { more: true, ..swept });
            }
            // In turns of its own: to give back may wait, where to delete may not.
            let more = shrink::is_due(tx)?;
            if more && swept.deleted == 0 {
                return Ok(Swept { more: shrink::give_back(tx, until)?, ..swept });
            }
            return Ok(Swept { more, ..swept });
        }
    }
}

fn sweep_keys(tx: &Tx<'_>, until: Instant) -> rusqlite::Result<bool> {
    let some = params![tx.now.as_micros(), ROWS as i64];
    loop {
        // Keys of jobs that are not over yet are looked at again in an hour.
        let postponed = tx.execute(
            "UPDATE idempotency SET sweep_at = ?1 + 3600000000
             WHERE key IN (SELECT key FROM idempotency WHERE sweep_at <= ?1 ORDER BY sweep_at LIMIT ?2)
             AND EXISTS (SELECT 1 FROM job WHERE job.seq = idempotency.seq AND job.id = idempotency.id AND status < 2)",
            some,
        )?;
        let deleted = tx.execute(
            "DELETE FROM idempotency
             WHERE key IN (SELECT key FROM idempotency WHERE sweep_at <= ?1 ORDER BY sweep_at LIMIT ?2)
             AND NOT EXISTS (SELECT 1 FROM job WHERE job.seq = idempotency.seq AND job.id = idempotency.id AND status < 2)",
            some,
        )?;
        if postponed + deleted < ROWS {
            return Ok(false);
        }
        if Instant::now() >= until {
            return Ok(true);
        }
    }
}

/// Deliveries that nobody has told in all their time.
fn sweep_deliveries(tx: &Tx<'_>, until: Instant) -> rusqlite::Result<bool> {
    while tx.has_old_deliveries()? {
        if tx.sweep_deliveries(ROWS as i64)? == 0 {
            return Ok(false);
        }
        if Instant::now() >= until {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, NewJob, sqlite::SqliteBackend};

    #[test]
    fn one_process_sweeps_and_leaves_most_of_the_time_to_those_who_write() {
        let folder = tempfile::tempdir().expect("tempdir");
        let wake = Wake::open(&folder.path().join("x.db")).expect("open");
        let [mut one, mut other] = [(); 2].map(|()| Pace::new());
        assert_eq!(one.step(&wake), Step::Rest);
        one.begin(&wake);
        other.begin(&wake);
        assert_eq!((one.step(&wake), other.step(&wake)), (Step::Sweep, Step::Sweep));
        let long = Duration::from_secs(100);
        let some = Swept { deleted: 1_000_000, more: true, expiring: 1 };
        one.swept(&wake, long, some);
        assert!(matches!(other.step(&wake), Step::Pause(_)), "both sweep");
        assert_eq!(one.step(&wake), Step::Sweep, "nobody writes");
        wake.begin_turn();
        let Step::Pause(left) = one.step(&wake) else { panic!("somebody writes") };
        assert!(left > 5 * long, "{left:?}");
        one.swept(&wake, long, Swept { expiring: 4_000, ..some });
        wake.begin_turn();
        let Step::Pause(left) = one.step(&wake) else { panic!("somebody writes") };
        assert!(left > long / 2 && left <= long, "less than expires meanwhile: {left:?}");
        one.swept(&wake, Duration::ZERO, some);
        wake.begin_turn();
        assert_eq!(one.step(&wake), Step::Sweep, "the pause is over");
        one.swept(&wake, long, Swept { more: false, ..some });
        assert_eq!(one.step(&wake), Step::Rest);
    }

    /// A database with so many records that are over, of bodies of so many bytes.
    async fn expired(jobs: usize, bytes: usize) -> (tempfile::TempDir, Connection, Clock) {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let clock = Clock::manual(crate::Timestamp::from_micros(0));
        let backend = SqliteBackend::options(&path).clock(clock.clone()).open().await.expect("open");
        let job = |_| NewJob::new(&"x".repeat(bytes)).expect("JSON").result_ttl(Duration::from_secs(1));
        let submitted = backend.submit((0..jobs).map(job).collect()).await.expect("submit");
        let ids = submitted.into_iter().map(|one| one.expect("accepted").id).collect();
        backend.cancel(ids).await.expect("cancel");
        backend.close().await.expect("close");
        clock.advance(Duration::from_secs(2));
        (folder, Connection::open(&path).expect("open"), clock)
    }

    fn sweep_until(connection: &Connection, clock: &Clock, until: Instant) -> Swept {
        let mut tx = Tx::begin(connection, clock).expect("begin");
        let swept = sweep_all(&mut tx, until).expect("sweep");
        tx.commit().expect("commit");
        swept
    }

    #[tokio::test]
    async fn what_does_not_fit_into_one_transaction_is_swept_in_the_next() {
        let (_folder, connection, clock) = expired(3, 10).await;
        let swept = sweep_until(&connection, &clock, Instant::now());
        assert_eq!((swept.deleted, swept.more), (1, true));
        let swept = sweep_until(&connection, &clock, Instant::now() + Duration::from_secs(60));
        assert_eq!((swept.deleted, swept.more), (2, false));
    }

    #[tokio::test]
    async fn keys_that_are_over_are_swept_in_turns_too() {
        let (_folder, connection, clock) = expired(1, 10).await;
        let many = 3 * ROWS;
        connection
            .execute_batch(&format!(
                "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {many})
                 INSERT INTO idempotency (key, seq, id, until, sweep_at)
                 SELECT CAST(i AS TEXT), 1, zeroblob(16), 0, 0 FROM n"
            ))
            .expect("keys");
        let keys = || connection.query_row("SELECT count(*) FROM idempotency", [], |r| r.get::<_, i64>(0));
        assert!(sweep_until(&connection, &clock, Instant::now()).more);
        assert!(sweep_until(&connection, &clock, Instant::now()).more);
        assert_eq!(keys().expect("count"), (many - ROWS) as i64);
        assert!(!sweep_until(&connection, &clock, Instant::now() + Duration::from_secs(60)).more);
        assert_eq!(keys().expect("count"), 0);
    }

    #[tokio::test]
    async fn space_is_given_back_in_turns_until_there_is_none() {
        let (_folder, connection, clock) = expired(40, 1 << 20).await;
        let long = || Instant::now() + Duration::from_secs(60);
        let swept = sweep_until(&connection, &clock, long());
        assert_eq!((swept.deleted, swept.more), (40, true), "in a turn of its own");
        assert!(sweep_until(&connection, &clock, Instant::now()).more);
        let mut turns = 0;
        while sweep_until(&connection, &clock, long()).more {
            turns += 1;
            assert!(turns < 100);
        }
    }
}
