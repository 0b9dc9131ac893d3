//! One job, and how each verb changes it.

use std::time::Duration;

use crate::{
    DEAD_LETTER_TTL, JobError, JobId, NewJob, Record, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed, Detail, Outcome},
};

/// A job: its record, body and result included, and what no record shows.
pub(super) struct Entry {
    pub(super) record: Record,
    /// The job's place in the queue: from when on it may be claimed. Set by its
    /// submit, a retry, a redrive, or a release with a delay; one without takes
    /// it back there.
    place: Timestamp,
    timeout: Option<Duration>,
    result_ttl: Duration,
}

impl Entry {
    pub(super) fn new(id: JobId, job: NewJob, now: Timestamp) -> Self {
        let mut record = Record::new(id, now, job.max_attempts);
        let place = now.after(job.delay);
        record.due_at = Some(place);
        record.request_id = job.request_id.unwrap_or(record.request_id);
        record.group = job.group;
        record.metadata = job.metadata;
        record.body = Some(job.body);
        Self { record, place, timeout: job.timeout, result_ttl: job.result_ttl }
    }

    /// The record, with as much of it as was asked for.
    pub(super) fn show(&self, detail: Detail) -> Record {
        let mut record = self.record.clone();
        record.result = record.result.filter(|_| detail >= Detail::Result);
        record.body = record.body.filter(|_| detail >= Detail::Full);
        record
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.record.status == Status::Submitted
    }

    pub(super) fn is_running(&self) -> bool {
        self.record.status == Status::InProgress
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
        let lease_until = now.after(request.lease);
        let record = &mut self.record;
        record.status = Status::InProgress;
        record.attempt += 1;
        record.started_at = Some(now);
        record.due_at = Some(lease_until);
        record.worker = Some(request.worker.clone());
        record.progress = None;

        let key = ClaimKey { id: record.id.clone(), attempt: record.attempt };
        let body = record.body.clone().expect("a job keeps its body as long as its record");
        let mut claimed = Claimed::new(key, body, record.submitted_at, lease_until);
        claimed.counted = record.counted();
        claimed.max_attempts = record.max_attempts;
        claimed.request_id.clone_from(&record.request_id);
        claimed.group.clone_from(&record.group);
        claimed.metadata.clone_from(&record.metadata);
        claimed.timeout = self.timeout;
        claimed
    }

    /// Ends a claim, and tells the status after it.
    pub(super) fn settle(&mut self, outcome: Outcome, now: Timestamp) -> Status {
        let cancel = self.record.cancel_requested;
        match outcome {
            Outcome::Success(result) => {
                self.record.result = Some(result);
                self.finish(Status::Success, None, now);
            }
            Outcome::Fail(error) => self.finish(Status::Error, Some(error), now),
            Outcome::Cancelled => self.cancel(now),
            Outcome::Retry { .. } | Outcome::Release { .. } if cancel => self.cancel(now),
            Outcome::Retry { error, delay } => self.retry(error, now.after(delay), now),
            Outcome::Release { after, reason } => {
                self.record.uncounted += 1;
                self.record.error = reason.map(JobError::released).or(self.record.error.take());
                self.wait(if after.is_zero() { self.place } else { now.after(after) });
            }
        }
        self.record.status
    }

    /// Ends a claim whose lease ran out.
    pub(super) fn lapse(&mut self, now: Timestamp) {
        if self.record.cancel_requested {
            self.cancel(now);
        } else {
            let lease_end = self.record.due_at.unwrap_or(now);
            let record = &self.record;
            let error =
                JobError::worker_lost(record.counted(), record.max_attempts, record.worker.as_deref());
            self.retry(error, lease_end, now);
        }
    }

    pub(super) fn cancel(&mut self, now: Timestamp) {
        self.finish(Status::Cancelled, Some(JobError::cancelled()), now);
    }

    pub(super) fn redrive(&mut self, now: Timestamp) {
        let record = &mut self.record;
        record.uncounted = record.attempt;
        record.cancel_requested = false;
        record.dead = false;
        record.finished_at = None;
        record.expires_at = None;
        // Whoever redrives a job wants it done now.
        self.wait(now);
    }

    fn retry(&mut self, error: JobError, due: Timestamp, now: Timestamp) {
        if self.record.is_exhausted() {
            self.record.dead = true;
            self.finish(Status::Error, Some(error), now);
        } else {
            self.record.error = Some(error);
            self.wait(due);
        }
    }

    fn wait(&mut self, place: Timestamp) {
        self.place = place;
        self.record.status = Status::Submitted;
        self.record.due_at = Some(place);
    }

    fn finish(&mut self, status: Status, error: Option<JobError>, now: Timestamp) {
        let ttl = if self.record.dead { self.result_ttl.max(DEAD_LETTER_TTL) } else { self.result_ttl };
        let record = &mut self.record;
        record.status = status;
        record.due_at = None;
        record.finished_at = Some(now);
        record.expires_at = Some(now.after(ttl));
        // A job that succeeds at last keeps the error of the attempt before.
        record.error = error.or(record.error.take());
    }
}
