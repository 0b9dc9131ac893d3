//! What becomes of jobs whose holders are silent.

use std::time::Duration;

use rusqlite::params;

use super::tx::{Hot, Tx, micros, stored};
use crate::{
    Status, Timestamp,
    lease::{Check, Lease},
    lifecycle::{self, End, Transition},
    suspicion::Suspicion,
};

type Sql<T> = rusqlite::Result<T>;

/// How many jobs are looked at in one query.
const AT_ONCE: i64 = 200;

impl Tx<'_> {
    /// Looks after the leases that are due for it, for a claim: gives notice to
    /// holders that are overdue, and takes their jobs from those that had it.
    pub(super) fn take_silent(&mut self) -> Sql<()> {
        self.check_leases(Hot::UNCHECKED)
    }

    /// Ends jobs that nobody will ever claim, as they have no attempts left or
    /// were to be cancelled, and whose holders have long been silent.
    pub(super) fn end_abandoned(&mut self) -> Sql<()> {
        self.check_leases(Hot::ABANDONED)
    }

    /// Ends jobs that have not started in time, up to a number of them, since others
    /// wait for this transaction. Each begins with it, and goes on where it fails: what
    /// makes room on a full disk must not wait for what needs some.
    pub(super) fn end_late(&mut self) -> Sql<()> {
        const LATE: &str = "SELECT seq FROM job INDEXED BY job_start_by
            WHERE status = 0 AND start_by IS NOT NULL AND start_by <= ?1 ORDER BY start_by LIMIT ?2";
        let late = self.rows(LATE, params![self.now.as_micros(), AT_ONCE], |r| r.get::<_, i64>(0))?;
        if late.is_empty() {
            return Ok(());
        }
        self.no_claims_before = (i64::try_from(late.len()) == Ok(AT_ONCE)).then_some(self.now);
        if let Err(error) = self.apart(|tx| late.iter().try_for_each(|seq| tx.expire(*seq)))? {
            tracing::debug!(%error, "jobs that were not started in time cannot be ended yet");
            self.no_claims_before = Some(self.now.after(Duration::from_secs(1)));
        }
        Ok(())
    }

    fn expire(&mut self, seq: i64) -> Sql<()> {
        // As it is now: an end before this one may have let it go in its group.
        let Some(job) = self.row(Hot::BY_SEQ, [seq], Hot::read)? else { return Ok(()) };
        let (Some(limit), Some(start_by)) = (job.late(self.now), job.start_by) else { return Ok(()) };
        // That was so before anybody looked.
        self.finish_at(&job, End::expired(limit), start_by)?;
        Ok(())
    }

    fn check_leases(&mut self, which: &str) -> Sql<()> {
        loop {
            // Each one is found no more after its turn.
            let mut found = self.rows(which, params![self.now.as_micros(), AT_ONCE], Hot::read)?;
            // What is told to their neighbours would not be in `found`.
            found.sort_by_key(|job| job.suspicion.is_watched());
            for job in &found {
                match job.lease.map(|lease| lease.check(self.now)) {
                    Some(Check::Notice(lease)) => self.set_lease(job.seq, lease)?,
                    Some(Check::Over) => drop(self.reap(job)?),
                    Some(Check::None) | None => {}
                }
            }
            if i64::try_from(found.len()) != Ok(AT_ONCE) {
                return Ok(());
            }
        }
    }

    /// Ends each lease, and looks at it, at the latest when one that begins now would: later ones
    /// are from a time when the clock was ahead.
    pub(super) fn cut_leases(&mut self) -> Sql<()> {
        let now = self.now;
        let ahead = self.rows(Hot::AHEAD, [now.as_micros()], Hot::read)?;
        for job in ahead {
            if let Some(lease) = job.lease {
                self.set_lease(job.seq, Lease::new(now, lease.length))?;
            }
        }
        Ok(())
    }

    /// Sets the lease of a job that is in progress.
    pub(super) fn set_lease(&self, seq: i64, lease: Lease) -> Sql<()> {
        self.execute(
            "UPDATE job SET due = ?2, lease = ?3, check_at = ?4 WHERE seq = ?1",
            params![seq, lease.until.as_micros(), micros(lease.length), lease.check_at.as_micros()],
        )?;
        Ok(())
    }

    /// Takes a job from its holder, which has crashed, was killed, or has lost
    /// the disk. The attempt counts, unless another job of its is to blame.
    fn reap(&mut self, job: &Hot) -> Sql<Status> {
        if job.suspicion.is_watched() {
            self.spare_neighbours(job)?;
        }
        let spared = job.suspicion == Suspicion::Spared || self.has_lost_suspect(job)?;
        let wait = match lifecycle::lapse(&job.terms(self.now), job.worker.as_deref(), spared) {
            Transition::End(end) => return self.finish(job, end),
            Transition::Wait(wait) => wait,
        };
        let suspicion = match (job.lease, job.started_at) {
            (Some(lease), Some(started_at)) => Suspicion::of_lost(started_at, lease),
            _ => Suspicion::None,
        };
        // It is due since the end of its lease, and waits for no moment that it
        // did not wait for before: the clock may be set back.
        self.requeue(job, &wait, job.due, job.not_before, suspicion)
    }

    /// Until when this worker is to have no other watched job than it has, if it has one.
    pub(super) fn watched_until(&self, worker: &str) -> Sql<Option<Timestamp>> {
        let suspects = self.rows(Hot::SUSPECTS, [worker], Hot::read)?;
        let until = suspects.iter().filter_map(|job| {
            // A start in the future is from a time when the clock was ahead.
            let started_at = job.started_at.filter(|at| *at <= self.now)?;
            job.suspicion.watched_until(started_at).filter(|until| *until > self.now)
        });
        Ok(until.max())
    }

    /// Whether a watched job is being lost with this one, which is not.
    fn has_lost_suspect(&self, job: &Hot) -> Sql<bool> {
        if job.suspicion != Suspicion::None {
            return Ok(false);
        }
        let suspects = self.rows(Hot::SUSPECTS, [&job.worker], Hot::read)?;
        Ok(suspects.iter().any(|suspect| suspect.suspicion.is_watched() && suspect.is_overdue(self.now)))
    }

    /// A watched job is lost: those that are being lost with it are spared.
    fn spare_neighbours(&self, suspect: &Hot) -> Sql<()> {
        for job in self.rows(Hot::UNSUSPECTED, [&suspect.worker], Hot::read)? {
            if job.is_overdue(self.now) {
                self.suspect(job.seq, Suspicion::Spared)?;
            }
        }
        Ok(())
    }

    pub(super) fn suspect(&self, seq: i64, suspicion: Suspicion) -> Sql<()> {
        self.execute("UPDATE job SET suspect = ?2 WHERE seq = ?1", params![seq, stored(suspicion)])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Clock, NewJob, Timestamp, backend::ClaimRequest, sqlite::SqliteBackend};

    #[tokio::test]
    async fn no_job_is_claimed_too_late_however_many_others_are_late_with_it() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(0));
        let options = SqliteBackend::options(folder.path().join("x.db"));
        let backend = options.clock(clock.clone()).open().await.expect("open");
        let late = |_| NewJob::new(&1).expect("JSON").start_within(Duration::from_secs(1));
        let some = usize::try_from(AT_ONCE).expect("a number");
        backend.submit((0..some + 1).map(late).collect()).await.expect("submit");
        let in_time = NewJob::new(&2).expect("JSON");
        let id = backend.submit(vec![in_time]).await.expect("submit").remove(0).expect("accepted").id;
        clock.advance(Duration::from_secs(2));
        let mut claimed = Vec::new();
        while claimed.is_empty() {
            let request = ClaimRequest::new("w", Duration::from_secs(60)).max(1);
            claimed = backend.claim(request, Default::default()).await.expect("claim");
        }
        assert_eq!(claimed[0].key.id, id);
        let stats = backend.stats().await.expect("stats");
        assert_eq!(stats.error, some as u64 + 1);
    }
}
