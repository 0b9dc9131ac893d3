//! The plain model: a list of jobs, searched from end to end by every verb.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use crate::{
    FailureKind, JobError, JobId, NewJob, QueueName, Record, Status, Timestamp,
    backend::{
        Cancellation, ClaimKey, ClaimRequest, Claimed, Detail, Groups, Heartbeat, HeartbeatStatus, ListQuery,
        Lookup, Outcome, QueueStats, Settlement, Stats, Submitted,
    },
};

use super::job::{Group, Job};

pub(crate) struct Model {
    pub(crate) now: Timestamp,
    /// In the order of their submits; none ever leaves the list.
    pub(crate) jobs: Vec<Job>,
    /// Each key, the job that has it, and until when.
    keys: Vec<(String, JobId, Timestamp)>,
    pub(crate) paused: BTreeSet<QueueName>,
    pub(crate) groups: Groups,
    /// Where groups are [`Groups::Ordered`]: those that may wait for a job that was over before its
    /// time came.
    pub(crate) held_up: BTreeSet<Group>,
    /// How many places in the queue were given so far.
    places: u64,
}

impl Model {
    pub(crate) fn new(now: Timestamp, groups: Groups) -> Self {
        let (paused, held_up) = (BTreeSet::new(), BTreeSet::new());
        Self { now, jobs: Vec::new(), keys: Vec::new(), paused, groups, held_up, places: 0 }
    }

    /// Time passes. By itself it changes nothing: whoever looks does.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// A look at every lease whose time for that has come, and which is `wanted`.
    fn check_leases(&mut self, wanted: impl Fn(&Job, Timestamp) -> bool) {
        let now = self.now;
        let mut over = Vec::new();
        for (place, job) in self.jobs.iter_mut().enumerate() {
            let Some(lease_end) = job.record.due_at.filter(|_| job.record.status == Status::InProgress)
            else {
                continue;
            };
            if now < job.check_at || !wanted(job, now) {
                continue;
            }
            if job.check_at < lease_end {
                // The holder has notice.
                job.check_at = lease_end.max(now.after(job.lease * 5 / 12));
                continue;
            }
            over.push(place);
        }
        for &place in &over {
            let worker = self.jobs[place].record.worker.clone();
            let together = |job: &Job| job.is_overdue(worker.as_ref(), now);
            if self.jobs[place].watched.is_some() {
                let spared = self.jobs.iter_mut().filter(|job| together(job) && job.watched.is_none());
                spared.for_each(|job| job.spared = true);
            } else {
                self.jobs[place].spared |= self.jobs.iter().any(|job| together(job) && job.watched.is_some());
            }
        }
        for place in over {
            self.jobs[place].lose(now);
        }
        self.keep_groups();
    }

    /// What everybody does who only looks: ends what nobody will claim any more.
    pub(crate) fn end_abandoned(&mut self) {
        self.end_late();
        self.check_leases(|job, now| job.is_abandoned(now) && !job.has_another_attempt());
    }

    /// Ends what has not started in time.
    fn end_late(&mut self) {
        let now = self.now;
        let waiting =
            self.jobs.iter_mut().filter(|job| job.record.status == Status::Submitted && !job.purged);
        for job in waiting.filter(|job| job.is_late(now)) {
            let start_by = job.start_by.take().expect("it is late");
            job.expire(None, now);
            job.record.finished_at = Some(start_by);
        }
        self.keep_groups();
    }

    /// Sees to it that of each group of a queue the oldest job is due, and no other, or
    /// none while one runs.
    fn keep_groups(&mut self) {
        if self.groups != Groups::Tracked {
            return;
        }
        let unfinished = |job: &&mut Job| job.is_unfinished();
        let mut names: Vec<_> = self.jobs.iter().filter_map(Job::group).collect();
        names.sort();
        names.dedup();
        for name in names {
            let of_group = self.jobs.iter_mut().filter(|job| job.group().as_ref() == Some(&name));
            let mut members: Vec<_> = of_group.filter(unfinished).collect();
            let running = members.iter().any(|job| job.record.status == Status::InProgress);
            for (place, job) in members.iter_mut().enumerate() {
                let place_in_queue = job.place;
                let record = &mut job.record;
                if record.status == Status::InProgress {
                    continue;
                }
                if place > 0 || running {
                    record.due_at = None;
                } else if record.due_at.is_none() {
                    record.due_at = Some(self.now.max(place_in_queue));
                }
            }
        }
    }

    /// Forgets the keys whose time is over, and whose jobs are.
    fn free_keys(&mut self) {
        let (now, jobs) = (self.now, &self.jobs);
        let unfinished = |id: &JobId| {
            let job = jobs.iter().find(|job| job.record.id == *id);
            job.is_some_and(Job::is_unfinished)
        };
        self.keys.retain(|(_, id, until)| *until > now || unfinished(id));
    }

    /// The ids are those that the backend gave. A job whose key is that of a job
    /// with another body is answered with the two.
    pub(crate) fn submit(
        &mut self,
        jobs: Vec<NewJob>,
        ids: Vec<JobId>,
    ) -> Vec<Result<Submitted, (String, JobId)>> {
        let now = self.now;
        let mut answers = Vec::new();
        for (job, id) in jobs.into_iter().zip(ids) {
            self.free_keys();
            if let Some((key, first, _)) =
                self.keys.iter().find(|(key, ..)| Some(key) == job.idempotency_key.as_ref())
            {
                let first = self.jobs.iter().find(|job| job.record.id == *first).expect("it has a job");
                let another = first.record.body.as_ref().is_some_and(|body| *body != job.body);
                let conflict = another && !first.is_gone(now);
                let id = first.record.id.clone();
                answers.push(if conflict {
                    Err((key.clone(), id))
                } else {
                    Ok(Submitted { id, duplicate: true })
                });
                continue;
            }
            assert!(self.find(&id).is_none(), "{id} was given before");
            if let Some(key) = &job.idempotency_key {
                self.keys.push((key.clone(), id.clone(), now.after(job.idempotency_window)));
            }
            let mut record = Record::new(id.clone(), job.spec.clone(), now);
            let is_seen = job.spec.group.is_none() || self.groups != Groups::Tracked;
            record.due_at = is_seen.then_some(now.after(job.delay));
            record.body = Some(job.body.clone());
            let place = now.after(job.delay);
            let start_by = job.spec.start_within.map(|limit| now.after(limit));
            self.places += 1;
            self.jobs.push(Job {
                record,
                turn: self.places,
                left_behind: Vec::new(),
                options: job,
                place,
                lease: Duration::ZERO,
                check_at: now,
                watched: None,
                spared: false,
                purged: false,
                start_by,
                attempts: Vec::new(),
            });
            answers.push(Ok(Submitted { id, duplicate: false }));
            self.keep_groups();
        }
        answers
    }

    pub(crate) fn claim(&mut self, request: &ClaimRequest) -> Vec<Claimed> {
        self.check_leases(|_, _| true);
        let (worker, paused) = (&request.worker, &self.paused);
        let now = self.now;
        let can_go = |job: &&mut Job| job.is_due(now) && !paused.contains(&job.record.spec.queue);
        let mut may_watch = !self.jobs.iter().any(|job| job.is_watched(worker, now));
        let mut due: Vec<_> = self.jobs.iter_mut().filter(can_go).collect();
        due.sort_by_key(|job| job.record.due_at); // a stable sort: then by the order of submits
        let next = |queue: &QueueName| {
            let is_next =
                |job: &&mut Job| job.record.spec.queue == *queue && (may_watch || job.watched.is_none());
            let job = due.iter().position(is_next).map(|place| due.remove(place));
            may_watch &= job.as_ref().is_none_or(|job| job.watched.is_none());
            Ok(job)
        };
        let due: Result<Vec<_>, Infallible> = request.queues.draw(request.turn, request.max, next);

        due.unwrap_or_default().into_iter().map(|job| job.hand_out(request, now)).collect()
    }

    pub(crate) fn heartbeat(&mut self, beat: &Heartbeat) -> HeartbeatStatus {
        let until = self.now.after(beat.lease);
        let now = self.now;
        let Some(job) = self.find_held(&beat.key) else { return HeartbeatStatus::Lost };
        job.extend(beat.lease, now);
        job.spared = false;
        job.tell(&beat.update);
        if job.record.cancel_requested {
            HeartbeatStatus::CancelRequested(until)
        } else {
            HeartbeatStatus::Held(until)
        }
    }

    /// The job's new status; `None` where the claim is lost.
    pub(crate) fn settle(&mut self, settlement: &Settlement) -> Option<Status> {
        let now = self.now;
        let job = self.find_held(&settlement.key)?;
        let cancel = job.record.cancel_requested;
        if !matches!(settlement.outcome, Outcome::Success(_)) {
            job.tell(&settlement.update);
        }
        match settlement.outcome.clone() {
            Outcome::Success(result) => {
                job.record.result = Some(result);
                job.record.checkpoint = None;
                job.end(Status::Success, now);
            }
            Outcome::Fail(error) => {
                job.record.error = Some(error);
                job.end(Status::Error, now);
            }
            Outcome::Cancelled => job.cancel(now),
            Outcome::Retry { .. } if cancel => job.cancel(now),
            Outcome::Release { .. } if cancel => job.cancel(now),
            Outcome::Retry { error, delay } => {
                (job.watched, job.spared, job.start_by) = (None, false, None);
                job.fail_attempt(error, now.after(delay), now);
            }
            Outcome::Release { reason, begun: false, .. } if job.is_late(now) => {
                job.expire(reason.as_deref(), now);
            }
            Outcome::Release { after, reason, begun } => {
                job.spared = false;
                if begun {
                    job.start_by = None;
                }
                job.stop(reason.clone().map(|reason| JobError::new(FailureKind::Released, reason)), now);
                job.record.uncounted += 1;
                job.record.status = Status::Submitted;
                if let Some(reason) = reason {
                    job.record.error = Some(JobError::new(FailureKind::Released, reason));
                }
                if after > Duration::ZERO {
                    job.place = now.after(after);
                }
                job.record.due_at = Some(job.place);
            }
        }
        let status = job.record.status;
        self.keep_groups();
        Some(status)
    }

    pub(crate) fn cancel(&mut self, id: &JobId) -> Cancellation {
        let now = self.now;
        let Some(job) = self.find(id).filter(|job| !job.is_gone(now)) else { return Cancellation::Missing };
        let held_up = job.holds_up(now);
        let answer = match job.record.status {
            Status::Submitted => {
                job.left_behind.push(job.turn);
                job.cancel(now);
                Cancellation::Done
            }
            Status::InProgress if job.record.due_at.is_some_and(|end| end <= now) => {
                job.cancel(now);
                Cancellation::Done
            }
            Status::InProgress => {
                job.record.cancel_requested = true;
                Cancellation::Requested
            }
            status => Cancellation::TooLate(status),
        };
        self.held_up.extend(held_up);
        self.keep_groups();
        answer
    }

    /// The oldest dead letters.
    pub(crate) fn dead(&self, limit: usize, queue: Option<&QueueName>) -> Vec<JobId> {
        let dead =
            self.jobs.iter().filter(|job| job.record.dead && !job.is_gone(self.now) && job.is_in(queue));
        dead.take(limit).map(|job| job.record.id.clone()).collect()
    }

    pub(crate) fn redrive(&mut self, ids: &[JobId]) -> Vec<JobId> {
        let now = self.now;
        self.free_keys();
        let (groups, mut places) = (self.groups, self.places + 1);
        self.places += ids.len() as u64;
        let mut redriven = Vec::new();
        for id in ids {
            let Some(job) = self.find(id).filter(|job| !job.is_gone(now)) else { continue };
            if job.record.status != Status::Error && job.record.status != Status::Cancelled {
                continue;
            }
            job.place = now;
            job.start_by = None;
            if groups == Groups::Ordered {
                job.turn = places;
                places += 1;
            }
            (job.watched, job.spared) = (None, false);
            let record = &mut job.record;
            record.status = Status::Submitted;
            record.uncounted = record.attempt;
            record.due_at = Some(now);
            record.finished_at = None;
            record.expires_at = None;
            record.cancel_requested = false;
            record.dead = false;
            redriven.push(id.clone());
            self.keep_groups();
        }
        redriven
    }

    /// Whether that changed anything.
    pub(crate) fn set_paused(&mut self, queue: &QueueName, paused: bool) -> bool {
        if paused { self.paused.insert(queue.clone()) } else { self.paused.remove(queue) }
    }

    pub(crate) fn purge(&mut self, status: Status, older_than: Duration, queue: Option<&QueueName>) -> u64 {
        self.end_abandoned();
        let now = self.now;
        let mut purged = 0;
        for job in &mut self.jobs {
            let held_up = job.holds_up(now);
            let since = job.record.finished_at.unwrap_or(job.record.submitted_at);
            if job.record.status == status
                && job.is_in(queue)
                && !job.is_gone(now)
                && since.after(older_than) <= now
            {
                job.purged = true;
                purged += 1;
                self.held_up.extend(held_up);
            }
        }
        self.keep_groups();
        purged
    }

    pub(crate) fn get(&self, id: &JobId, detail: Detail) -> Lookup {
        match self.jobs.iter().find(|job| job.record.id == *id) {
            None => Lookup::Missing,
            Some(job) if job.purged => Lookup::Missing,
            Some(job) if job.has_expired(self.now) => Lookup::Expired,
            Some(job) => Lookup::Found(job.show(detail, self.now)),
        }
    }

    /// `None` where the job to list before is not known.
    pub(crate) fn list(&self, query: &ListQuery) -> Option<Vec<Record>> {
        let end = match &query.before {
            Some(id) => self.jobs.iter().position(|job| job.record.id == *id && !job.purged)?,
            None => self.jobs.len(),
        };
        let kept = self.jobs[..end].iter().rev().filter(|job| !job.is_gone(self.now));
        let shown = kept.map(|job| job.show(Detail::Status, self.now));
        Some(shown.filter(|record| query.matches(record, self.now)).take(query.limit).collect())
    }

    pub(crate) fn stats(&self) -> Stats {
        let kept = self.jobs.iter().filter(|job| !job.is_gone(self.now));
        let kept: Vec<_> = kept.map(|job| job.show(Detail::Status, self.now)).collect();
        let mut names: BTreeSet<_> = kept.iter().map(|record| record.spec.queue.clone()).collect();
        names.extend(self.paused.iter().cloned());
        let mut stats = Stats::default();
        for name in names {
            let of_queue: Vec<_> = kept.iter().filter(|record| record.spec.queue == name).collect();
            let queue = self.queue_stats(&of_queue, self.paused.contains(&name));
            stats.add(name, queue);
        }
        stats
    }

    fn queue_stats(&self, records: &[&Record], is_paused: bool) -> QueueStats {
        let count = |wanted: &dyn Fn(&Record) -> bool| records.iter().filter(|r| wanted(r)).count() as u64;
        let waiting = |r: &Record| r.status == Status::Submitted;
        let is_due = |r: &Record| waiting(r) && r.due_at.is_some_and(|t| t <= self.now);

        let oldest = records.iter().filter(|r| is_due(r)).filter_map(|r| r.due_at).min();
        QueueStats {
            is_paused,
            due: count(&is_due),
            delayed: count(&|r| waiting(r) && r.due_at.is_some_and(|t| t > self.now)),
            blocked: count(&|r| waiting(r) && r.due_at.is_none()),
            in_progress: count(&|r| r.status == Status::InProgress),
            success: count(&|r| r.status == Status::Success),
            error: count(&|r| r.status == Status::Error),
            cancelled: count(&|r| r.status == Status::Cancelled),
            dead: count(&|r| r.dead),
            oldest_due_seconds: oldest.map(|due| self.now.since(due).as_secs_f64()),
        }
    }

    /// The claims that are held.
    pub(crate) fn held(&self) -> Vec<ClaimKey> {
        let running = self.jobs.iter().map(|job| &job.record).filter(|r| r.status == Status::InProgress);
        running.map(|r| ClaimKey { id: r.id.clone(), attempt: r.attempt }).collect()
    }

    /// The ids of all jobs there ever were.
    pub(crate) fn ids(&self) -> Vec<JobId> {
        self.jobs.iter().map(|job| job.record.id.clone()).collect()
    }

    /// Whether the job is gone, or its body alone.
    pub(crate) fn is_without_body(&self, id: &JobId) -> bool {
        let is_so = |job: &Job| job.record.body.is_none() || job.is_gone(self.now);
        self.jobs.iter().any(|job| job.record.id == *id && is_so(job))
    }

    pub(crate) fn has_expired(&self, id: &JobId) -> bool {
        self.jobs.iter().any(|job| job.record.id == *id && job.has_expired(self.now))
    }

    fn find(&mut self, id: &JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.record.id == *id)
    }

    fn find_held(&mut self, key: &ClaimKey) -> Option<&mut Job> {
        let job = self.find(&key.id)?;
        let held = job.record.status == Status::InProgress && job.record.attempt == key.attempt;
        held.then_some(job)
    }
}
