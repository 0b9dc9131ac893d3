//! A job of the plain model, and what its record says.

use std::time::Duration;

use crate::{
    Attempt, ERROR_TTL, FailureKind, JobError, NewJob, QueueName, Record, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed, Detail, Update},
};

/// A group of a queue.
pub(crate) type Group = (QueueName, String);

pub(crate) struct Job {
    /// With body and result.
    pub(crate) record: Record,
    pub(crate) options: NewJob,
    /// Its turn among the jobs of its group.
    pub(crate) turn: u64,
    /// Where groups are [`Groups::Ordered`](crate::backend::Groups::Ordered): the turns that it had
    /// when it was cancelled. A message may be there still, and is as good as that of a redrive.
    pub(crate) left_behind: Vec<u64>,
    /// From when on it may be claimed, as long as nothing moves it.
    pub(crate) place: Timestamp,
    /// The length of its lease, and when a claim looks at that next.
    pub(crate) lease: Duration,
    pub(crate) check_at: Timestamp,
    /// An attempt was lost: for how long the next is watched.
    pub(crate) watched: Option<Duration>,
    /// A job that was to be watched was lost by the same worker, as this one may be.
    pub(crate) spared: bool,
    pub(crate) purged: bool,
    /// It ends then, as long as none of its attempts has begun.
    pub(crate) start_by: Option<Timestamp>,
    /// All of its attempts.
    pub(crate) attempts: Vec<Attempt>,
}

impl Job {
    pub(crate) fn is_gone(&self, now: Timestamp) -> bool {
        self.purged || self.has_expired(now)
    }

    pub(crate) fn is_in(&self, queue: Option<&QueueName>) -> bool {
        queue.is_none_or(|queue| self.record.spec.queue == *queue)
    }

    pub(crate) fn is_unfinished(&self) -> bool {
        !self.purged && !self.record.status.is_terminal()
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        !self.purged
            && self.record.status == Status::Submitted
            && self.record.due_at.is_some_and(|due| due <= now)
    }

    pub(crate) fn group(&self) -> Option<Group> {
        Some((self.record.spec.queue.clone(), self.record.spec.group.clone()?))
    }

    /// The group that has to wait for its time, even where it is over by then.
    pub(crate) fn holds_up(&self, now: Timestamp) -> Option<Group> {
        self.group().filter(|_| self.record.status == Status::Submitted && self.place > now)
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.record.expires_at.is_some_and(|t| t <= now)
    }

    /// Whether its holder has been silent for a second lease.
    pub(crate) fn is_abandoned(&self, now: Timestamp) -> bool {
        let lease_end = self.record.due_at.filter(|_| self.record.status == Status::InProgress);
        lease_end.is_some_and(|end| end.after(self.lease) <= now)
    }

    /// Whether it is in the hands of this worker, which should have given a sign of life.
    pub(crate) fn is_overdue(&self, worker: Option<&String>, now: Timestamp) -> bool {
        let lease_end = self.record.due_at.filter(|_| self.record.status == Status::InProgress);
        self.record.worker.as_ref() == worker
            && lease_end.is_some_and(|end| end.before(self.lease * 5 / 12) <= now)
    }

    /// Whether this worker has it, and is to have no other such job.
    pub(crate) fn is_watched(&self, worker: &str, now: Timestamp) -> bool {
        let until = self.watched.zip(self.record.started_at).map(|(watched, start)| start.after(watched));
        self.record.status == Status::InProgress
            && self.record.worker.as_deref() == Some(worker)
            && until.is_some_and(|until| until > now)
    }

    pub(crate) fn has_another_attempt(&self) -> bool {
        !self.record.cancel_requested
            && self.record.attempt - self.record.uncounted < self.record.spec.max_attempts
    }

    pub(crate) fn extend(&mut self, lease: Duration, now: Timestamp) {
        self.record.due_at = Some(now.after(lease));
        self.lease = lease;
        self.check_at = now.after(lease).before(lease * 5 / 12);
    }

    /// Whether it is its turn, by one of those that it may have.
    pub(crate) fn is_first(&self, others: &[Self]) -> bool {
        let Some(group) = self.group() else { return true };
        let mut turns = self.left_behind.iter().chain([&self.turn]);
        turns.any(|turn| {
            let waits_for = |other: &Self| {
                other.is_unfinished()
                    && (other.turn < *turn || other.record.status == Status::InProgress)
                    && other.group().as_ref() == Some(&group)
            };
            !others.iter().any(waits_for)
        })
    }

    /// Gives it to a worker.
    pub(crate) fn hand_out(&mut self, request: &ClaimRequest, now: Timestamp) -> Claimed {
        self.extend(request.lease, now);
        // Whichever it came by: no other job that goes on has one before that.
        self.turn = self.left_behind.iter().copied().fold(self.turn, u64::min);
        let record = &mut self.record;
        record.status = Status::InProgress;
        record.attempt += 1;
        record.started_at = Some(now);
        record.worker = Some(request.worker.clone());
        record.progress = None;
        self.start(&request.worker, now);
        let record = &self.record;
        let key = ClaimKey { id: record.id.clone(), attempt: record.attempt };
        let NewJob { body, spec, .. } = self.options.clone();
        let mut claimed = Claimed::new(key, body, spec, record.submitted_at, now.after(request.lease));
        claimed.counted = record.attempt - record.uncounted;
        claimed.checkpoint = record.checkpoint.clone();
        claimed.watched = self.watched;
        claimed
    }

    /// What its attempt says.
    pub(crate) fn tell(&mut self, update: &Update) {
        let Update { progress, checkpoint, .. } = update.clone();
        self.record.progress = progress.or(self.record.progress.take());
        self.record.checkpoint = checkpoint.or(self.record.checkpoint.take());
    }

    /// The record as everybody sees it.
    pub(crate) fn show(&self, detail: Detail, now: Timestamp) -> Record {
        let mut record = self.record.clone();
        if self.is_abandoned(now) && self.has_another_attempt() {
            record.status = Status::Submitted;
            record.error = Some(worker_lost(&record));
        }
        record.attempts = self.attempts.clone();
        if let Some(lost) = record.attempts.last_mut().filter(|_| record.status == Status::Submitted)
            && lost.ended_at.is_none()
        {
            lost.error.clone_from(&record.error);
        }
        record.attempts.drain(..record.attempts.len().saturating_sub(Attempt::KEPT));
        if detail < Detail::Full {
            record.body = None;
            record.checkpoint = None;
            record.attempts.clear();
        }
        if detail < Detail::Result {
            record.result = None;
        }
        record
    }

    pub(crate) fn start(&mut self, worker: &str, now: Timestamp) {
        let mut attempt = Attempt::over(self.record.attempt, Some(worker.to_owned()), now, now, None);
        attempt.ended_at = None;
        self.attempts.push(attempt);
    }

    /// The latest attempt is over, unless it has been already.
    pub(crate) fn stop(&mut self, error: Option<JobError>, now: Timestamp) {
        if let Some(latest) = self.attempts.last_mut().filter(|latest| latest.ended_at.is_none()) {
            latest.ended_at = Some(now);
            latest.error = error;
        }
    }

    /// Whether it has to end for not having started in time.
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        self.start_by.is_some_and(|start_by| start_by <= now)
    }

    pub(crate) fn expire(&mut self, given_back: Option<&str>, now: Timestamp) {
        let limit = self.options.spec.start_within.expect("it has a limit").as_secs();
        let mut message = format!("not started within {limit}s of its submit (start_within)");
        if let Some(reason) = given_back {
            message = format!("{message}; it was given back: {reason}");
        }
        self.record.error = Some(JobError::new(FailureKind::Expired, message));
        self.end(Status::Error, now);
    }

    pub(crate) fn end(&mut self, status: Status, now: Timestamp) {
        let error = self.record.error.clone().filter(|_| status != Status::Success);
        self.stop(error, now);
        if status == Status::Success && self.options.spec.drop_body {
            self.record.body = None;
        }
        let ttl = self.options.spec.result_ttl;
        let ttl = if status == Status::Error && ttl < ERROR_TTL { ERROR_TTL } else { ttl };
        self.record.status = status;
        self.record.due_at = None;
        self.record.finished_at = Some(now);
        self.record.expires_at = Some(now.after(ttl));
    }

    pub(crate) fn cancel(&mut self, now: Timestamp) {
        self.record.error = Some(JobError::new(FailureKind::Cancelled, "cancelled"));
        self.end(Status::Cancelled, now);
    }

    /// Its holder was silent for too long.
    pub(crate) fn lose(&mut self, now: Timestamp) {
        let spared = std::mem::take(&mut self.spared);
        let (lease_end, start) = self.record.due_at.zip(self.record.started_at).expect("it was in progress");
        if self.record.cancel_requested {
            return self.cancel(now);
        }
        let mut error = worker_lost(&self.record);
        if spared {
            let why = "; a job that had been lost before was lost with it, so this attempt does not count";
            error.message.push_str(why);
            self.record.uncounted += 1;
        }
        self.start_by = None;
        let ran = lease_end.before(self.lease * 2 / 3).since(start);
        self.watched = Some(ran.min(Duration::from_secs(300)));
        // It keeps its place in the queue.
        let place = self.place;
        self.fail_attempt(error, lease_end, now);
        self.place = place;
    }

    /// An attempt failed, and another may follow.
    pub(crate) fn fail_attempt(&mut self, error: JobError, due: Timestamp, now: Timestamp) {
        self.record.error = Some(error.clone());
        let record = &mut self.record;
        if record.attempt - record.uncounted >= record.spec.max_attempts {
            record.dead = true;
            self.end(Status::Error, now);
        } else {
            record.status = Status::Submitted;
            record.due_at = Some(due);
            self.place = due;
            self.stop(Some(error), now);
        }
    }
}

fn worker_lost(record: &Record) -> JobError {
    let message = format!(
        "attempt {} of {} was lost: worker {} stopped heartbeating and its lease ran out; \
         it crashed, was killed, or lost the database",
        record.attempt - record.uncounted,
        record.spec.max_attempts,
        record.worker.as_ref().expect("the worker that had it"),
    );
    JobError::new(FailureKind::WorkerLost, message)
}
