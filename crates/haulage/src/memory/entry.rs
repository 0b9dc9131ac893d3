//! One job, and how each verb changes it.

use crate::{
    Attempt, FailureKind, JobId, NewJob, Record, Status, Timestamp, WebhookEvent,
    backend::{ClaimKey, ClaimRequest, Claimed, Detail, Update},
    delivery::Notice,
    lease::Lease,
    lifecycle::{End, Terms, Transition, Wait},
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
    /// It ends then, as long as no attempt of it has begun.
    start_by: Option<Timestamp>,
    /// While it is in progress.
    lease: Option<Lease>,
    suspicion: Suspicion,
    /// The attempts before the latest.
    past: Vec<Attempt>,
    /// The id of the request that has it, or had it last.
    claim: Option<String>,
    /// When its progress was to be told last.
    pub(super) told_at: Option<Timestamp>,
    /// Its webhook wants no progress any more.
    pub(super) unwanted_progress: bool,
    /// What its webhook is to be told, until the state has it.
    notices: Vec<Notice>,
}

impl Entry {
    pub(super) fn new(id: JobId, job: NewJob, now: Timestamp) -> Self {
        let mut record = Record::new(id, job.spec, now);
        let (place, at_once) = (now.after(job.delay), job.delay.is_zero());
        record.due_at = Some(place);
        record.body = Some(job.body);
        let start_by = record.spec.start_within.map(|limit| now.after(limit));
        let suspicion = Suspicion::None;
        Self {
            record,
            place,
            at_once,
            start_by,
            lease: None,
            suspicion,
            past: Vec::new(),
            claim: None,
            told_at: None,
            unwanted_progress: false,
            notices: Vec::new(),
        }
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
        if detail >= Detail::Full {
            record.remember(self.past.clone());
        }
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

    /// When it ends unless an attempt begins before.
    pub(super) fn start_by(&self) -> Option<Timestamp> {
        self.start_by.filter(|_| self.is_waiting())
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
        let record = &mut self.record;
        record.status = Status::InProgress;
        record.attempt += 1;
        record.started_at = Some(now);
        record.worker = Some(request.worker.clone());
        record.slot = None;
        record.progress = None;
        self.claim.clone_from(&request.id);
        self.claimed(request, now)
    }

    /// Whether the request of this id has it.
    pub(super) fn is_of_claim(&self, id: &str) -> bool {
        self.is_running() && self.claim.as_deref() == Some(id)
    }

    /// The claim, with its lease anew.
    pub(super) fn claimed(&mut self, request: &ClaimRequest, now: Timestamp) -> Claimed {
        let lease = Lease::new(now, request.lease);
        let lease_until = lease.until;
        self.set_lease(lease);
        let record = &self.record;
        let key = ClaimKey { id: record.id.clone(), attempt: record.attempt };
        let body = record.body.clone().expect("a job keeps its body as long as its record");
        let mut claimed = Claimed::new(key, body, record.spec.clone(), record.submitted_at, lease_until);
        claimed.counted = record.counted();
        claimed.checkpoint.clone_from(&record.checkpoint);
        claimed.watched = self.suspicion.watched_until(now).map(|until| until.since(now));
        claimed
    }

    /// Takes in what the attempt says.
    pub(super) fn tell(&mut self, update: Update, now: Timestamp) {
        let (record, progresses) = (&mut self.record, update.progress.is_some());
        record.slot = update.slot.or(record.slot.take());
        record.progress = update.progress.or(record.progress.take());
        record.checkpoint = update.checkpoint.or(record.checkpoint.take());
        if progresses && !self.unwanted_progress {
            self.notify(WebhookEvent::Progress, now);
        }
    }

    fn notify(&mut self, event: WebhookEvent, now: Timestamp) {
        if self.record.spec.webhook.is_some() {
            self.notices.extend(Notice::of(event, self.record.clone(), now));
        }
    }

    /// What has come to be told of it.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What decides what becomes of the job.
    pub(super) fn terms(&self, now: Timestamp) -> Terms {
        Terms {
            late: self.record.spec.start_within.filter(|_| self.start_by.is_some_and(|end| end <= now)),
            counted: self.record.counted(),
            max_attempts: self.record.spec.max_attempts,
            cancel_requested: self.record.cancel_requested,
        }
    }

    /// Ends a claim, and tells the status after it.
    pub(super) fn settle(&mut self, transition: Transition, now: Timestamp) -> Status {
        match transition {
            Transition::End(end) => self.finish(end, now),
            Transition::Wait(wait) => {
                self.suspicion = if wait.counts { Suspicion::None } else { self.suspicion.alive() };
                // Back in its place, it waits for a moment only if it did before.
                if let Some(delay) = wait.delay {
                    (self.place, self.at_once) = (now.after(delay), false);
                }
                let place = self.place;
                self.wait(wait, place, now);
            }
        }
        self.record.status
    }

    /// Takes the job from a holder that has been silent for too long.
    pub(super) fn lapse(&mut self, transition: Transition, now: Timestamp) {
        match transition {
            Transition::End(end) => self.finish(end, now),
            Transition::Wait(wait) => {
                if let (Some(lease), Some(started_at)) = (self.lease, self.record.started_at) {
                    self.suspicion = Suspicion::of_lost(started_at, lease);
                }
                // It is due since the end of its lease, and waits for no moment that it
                // did not wait for before: the clock may be set back.
                let due = self.record.due_at.unwrap_or(now);
                self.wait(wait, due, now);
            }
        }
    }

    pub(super) fn redrive(&mut self, now: Timestamp) {
        let record = &mut self.record;
        // The end of its last attempt would be forgotten.
        let mut attempts = record.clone();
        attempts.remember(std::mem::take(&mut self.past));
        self.past = attempts.attempts;
        record.uncounted = record.attempt;
        record.cancel_requested = false;
        record.dead = false;
        record.finished_at = None;
        record.expires_at = None;
        record.status = Status::Submitted;
        record.due_at = Some(now);
        self.suspicion = Suspicion::None;
        // Whoever redrives a job wants it done now, and however late.
        (self.place, self.at_once, self.start_by) = (now, false, None);
    }

    /// An attempt is over, and the job waits for the next.
    fn wait(&mut self, Wait { counts, begun, error, .. }: Wait, due: Timestamp, now: Timestamp) {
        let record = &mut self.record;
        if let Some(started_at) = record.started_at {
            let worker = record.worker.clone();
            let attempt = Attempt::over(record.attempt, worker, started_at, now, error.as_ref());
            self.past.push(attempt.in_slot(record.slot.clone()));
            self.past.drain(..self.past.len().saturating_sub(Attempt::KEPT));
        }
        record.uncounted += u32::from(!counts);
        if begun {
            self.start_by = None;
        }
        // What was given back has not failed.
        let failed = error.as_ref().is_some_and(|error| error.kind != FailureKind::Released);
        record.error = error.or(record.error.take());
        record.status = Status::Submitted;
        record.due_at = Some(due);
        self.lease = None;
        if failed {
            self.notify(WebhookEvent::AttemptFailed, now);
        }
    }

    /// It has not started in time. That was so before anybody looked.
    pub(super) fn expire(&mut self, start_by: Timestamp, now: Timestamp) {
        self.finish_at(End::expired(self.record.spec.start_within.unwrap_or_default()), start_by, now);
    }

    pub(super) fn finish(&mut self, end: End, now: Timestamp) {
        self.finish_at(end, now, now);
    }

    fn finish_at(&mut self, end: End, at: Timestamp, now: Timestamp) {
        let record = &mut self.record;
        let kept = end.kept(record.spec.result_ttl);
        self.lease = None;
        record.status = end.status();
        record.dead = end.is_dead();
        record.due_at = None;
        record.finished_at = Some(at);
        record.expires_at = Some(now.after(kept));
        if let Some(error) = end.error() {
            record.error = Some(error.into_owned());
        }
        // A job that succeeds at last keeps the error of the attempt before.
        if let End::Success(result) = end {
            record.result = Some(result);
            record.checkpoint = None;
            record.body = record.body.take().filter(|_| !record.spec.drop_body);
        }
        self.notify(WebhookEvent::Ended, now);
    }
}
