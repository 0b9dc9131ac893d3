//! One job, and how each verb changes it.

use crate::{
    DEAD_LETTER_TTL, JobError, JobId, NewJob, Record, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed, Detail, Outcome, Update},
    lease::Lease,
    suspicion::Suspicion,
};

/// A job: its record, body and result included, and what no record shows.
pub(super) struct Entry {
    pub(super) record: Record,
    /// The job's place in the queue: from when on it may be claimed. Set by its
    /// submit, a retry, a redrive, or a release with a delay; one without takes
    /// it back there.
    place: Timestamp,
    /// It waits for no moment: it may be claimed at once, wherever the clock may be.
    at_once: bool,
    /// While it is in progress.
    lease: Option<Lease>,
    suspicion: Suspicion,
}

impl Entry {
    pub(super) fn new(id: JobId, job: NewJob, now: Timestamp) -> Self {
        let mut record = Record::new(id, job.spec, now);
        let (place, at_once) = (now.after(job.delay), job.delay.is_zero());
        record.due_at = Some(place);
        record.body = Some(job.body);
        Self { record, place, at_once, lease: None, suspicion: Suspicion::None }
    }

    /// The record as it is at `now`, with as much of it as was asked for.
    pub(super) fn show(&self, detail: Detail, now: Timestamp) -> Record {
        let mut record = self.record.clone();
        if self.lease.is_some_and(|lease| lease.is_abandoned(now)) {
            record.show_abandoned();
        }
        record.result = record.result.filter(|_| detail >= Detail::Result);
        record.body = record.body.filter(|_| detail >= Detail::Full);
        record.checkpoint = record.checkpoint.filter(|_| detail >= Detail::Full);
        record
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.record.status == Status::Submitted
    }

    pub(super) fn is_running(&self) -> bool {
        self.record.status == Status::InProgress
    }

    pub(super) fn is_at_once(&self) -> bool {
        self.at_once
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Gives the holder another lease.
    pub(super) fn set_lease(&mut self, lease: Lease) {
        self.record.due_at = Some(lease.until);
        self.lease = Some(lease);
    }

    /// A sign of life of its holder.
    pub(super) fn beat(&mut self, lease: Lease) {
        self.set_lease(lease);
        self.suspicion = self.suspicion.alive();
    }

    pub(super) const fn suspicion(&self) -> Suspicion {
        self.suspicion
    }

    /// Until when its holder is to have no other watched job, if it is one.
    pub(super) fn watched_until(&self, now: Timestamp) -> Option<Timestamp> {
        // A start in the future is from a time when the clock was ahead.
        let started_at = self.record.started_at.filter(|at| self.is_running() && *at <= now)?;
        self.suspicion.watched_until(started_at).filter(|until| *until > now)
    }

    /// Whether it is in the hands of this worker, which should have given a sign of life by now.
    pub(super) fn is_overdue(&self, worker: Option<&str>, now: Timestamp) -> bool {
        self.record.worker.as_deref() == worker && self.lease.is_some_and(|lease| lease.is_overdue(now))
    }

    /// A watched job of its worker is lost.
    pub(super) fn spare(&mut self) {
        self.suspicion = Suspicion::Spared;
    }

    /// Whether the lease of its holder has run out.
    pub(super) fn is_lapsed(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| lease.until <= now)
    }

    /// Whether nobody will ever claim it, and its holder has long been silent.
    pub(super) fn is_over_when_abandoned(&self, now: Timestamp) -> bool {
        let ends = self.record.cancel_requested || self.record.is_exhausted();
        ends && self.lease.is_some_and(|lease| lease.is_abandoned(now))
    }

    /// Whether the claim is the one that holds the job.
    pub(super) fn is_held_by(&self, key: &ClaimKey) -> bool {
        self.is_running() && self.record.attempt == key.attempt
    }

    /// Makes the job wait behind its group.
    pub(super) fn block(&mut self) {
        self.record.due_at = None;
    }

    /// Ends that wait.
    pub(super) fn unblock(&mut self, now: Timestamp) {
        self.record.due_at = Some(now.max(self.place));
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest, now: Timestamp) -> Claimed {
        let lease = Lease::new(now, request.lease);
        let lease_until = lease.until;
        self.set_lease(lease);
        let record = &mut self.record;
        record.status = Status::InProgress;
        record.attempt += 1;
        record.started_at = Some(now);
        record.worker = Some(request.worker.clone());
        record.progress = None;

        let key = ClaimKey { id: record.id.clone(), attempt: record.attempt };
        let body = record.body.clone().expect("a job keeps its body as long as its record");
        let mut claimed = Claimed::new(key, body, record.spec.clone(), record.submitted_at, lease_until);
        claimed.counted = record.counted();
        claimed.checkpoint.clone_from(&record.checkpoint);
        claimed.watched = self.suspicion.watched_until(now).map(|until| until.since(now));
        claimed
    }

    /// Takes in what the attempt says.
    pub(super) fn tell(&mut self, update: Update) {
        let record = &mut self.record;
        record.progress = update.progress.or(record.progress.take());
        record.checkpoint = update.checkpoint.or(record.checkpoint.take());
    }

    /// Ends a claim, and tells the status after it.
    pub(super) fn settle(&mut self, outcome: Outcome, now: Timestamp) -> Status {
        let cancel = self.record.cancel_requested;
        match outcome {
            Outcome::Success(result) => {
                self.record.result = Some(result);
                self.record.checkpoint = None;
                self.finish(Status::Success, None, now);
            }
            Outcome::Fail(error) => self.finish(Status::Error, Some(error), now),
            Outcome::Cancelled => self.cancel(now),
            Outcome::Retry { .. } | Outcome::Release { .. } if cancel => self.cancel(now),
            Outcome::Retry { error, delay } => {
                self.suspicion = Suspicion::None;
                self.retry(error, now.after(delay), now);
            }
            Outcome::Release { after, reason } => {
                self.record.uncounted += 1;
                self.suspicion = self.suspicion.alive();
                self.record.error = reason.map(JobError::released).or(self.record.error.take());
                // Back in its place, it waits for a moment only if it did before.
                let (place, at_once) = match after {
                    none if none.is_zero() => (self.place, self.at_once),
                    after => (now.after(after), false),
                };
                self.wait(place);
                self.at_once = at_once;
            }
        }
        self.record.status
    }

    /// Takes the job from a holder that has been silent for too long. `spared`:
    /// another of its jobs is to blame.
    pub(super) fn lapse(&mut self, spared: bool, now: Timestamp) {
        if self.record.cancel_requested {
            return self.cancel(now);
        }
        if let (Some(lease), Some(started_at)) = (self.lease, self.record.started_at) {
            self.suspicion = Suspicion::of_lost(started_at, lease);
        }
        let mut error = self.record.worker_lost();
        if spared {
            error = error.spared();
            self.record.uncounted += 1;
        }
        if self.record.is_exhausted() {
            return self.die(error, now);
        }
        // It is due since the end of its lease, and waits for no moment that it
        // did not wait for before: the clock may be set back.
        self.record.error = Some(error);
        self.record.status = Status::Submitted;
        self.lease = None;
    }

    pub(super) fn cancel(&mut self, now: Timestamp) {
        self.finish(Status::Cancelled, Some(JobError::cancelled()), now);
    }

    pub(super) fn redrive(&mut self, now: Timestamp) {
        let record = &mut self.record;
        record.uncounted = record.attempt;
        record.cancel_requested = false;
        record.dead = false;
        self.suspicion = Suspicion::None;
        record.finished_at = None;
        record.expires_at = None;
        // Whoever redrives a job wants it done now.
        self.wait(now);
    }

    /// Its attempts are used up.
    fn die(&mut self, error: JobError, now: Timestamp) {
        self.record.dead = true;
        self.finish(Status::Error, Some(error), now);
    }

    fn retry(&mut self, error: JobError, due: Timestamp, now: Timestamp) {
        if self.record.is_exhausted() {
            self.die(error, now);
        } else {
            self.record.error = Some(error);
            self.wait(due);
        }
    }

    fn wait(&mut self, place: Timestamp) {
        self.place = place;
        self.at_once = false;
        self.lease = None;
        self.record.status = Status::Submitted;
        self.record.due_at = Some(place);
    }

    fn finish(&mut self, status: Status, error: Option<JobError>, now: Timestamp) {
        let record = &mut self.record;
        let kept = record.spec.result_ttl;
        let ttl = if record.dead { kept.max(DEAD_LETTER_TTL) } else { kept };
        self.lease = None;
        record.status = status;
        record.due_at = None;
        record.finished_at = Some(now);
        record.expires_at = Some(now.after(ttl));
        // A job that succeeds at last keeps the error of the attempt before.
        record.error = error.or(record.error.take());
    }
}
