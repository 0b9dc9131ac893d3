//! All jobs, and the orders in which the verbs look for them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::{entry::Entry, fading::Fading, outbox::Outbox, unready::UnreadyWorkers};
use crate::{
    Error, JobId, NewJob, QueueName, Record, Result, Timestamp,
    backend::{ClaimKey, ClaimRequest, DeliverySettlement, Submitted},
    lease::{Check, Lease},
    lifecycle,
    suspicion::Suspicion,
};

/// The place of a job in the order of submits.
pub(super) type Seq = u64;

/// For how long an expired record still reads as expired, and not as missing.
const REMEMBER_EXPIRED: Duration = Duration::from_secs(24 * 3600);

/// How often keys that are free again are forgotten.
const SWEEP_KEYS: Duration = Duration::from_secs(3600);

/// Everything that the backend keeps. Its methods leave it consistent; each
/// verb calls [`MemoryState::tidy`] first, and then sees no record that has expired.
#[derive(Default)]
pub(super) struct MemoryState {
    jobs: BTreeMap<Seq, Entry>,
    next: Seq,
    /// When it was last looked at.
    latest: Option<Timestamp>,
    ids: HashMap<JobId, Seq>,
    /// Waiting jobs that are not blocked.
    lines: BTreeMap<QueueName, Line>,
    /// Queues of which nothing is claimed.
    paused: BTreeSet<QueueName>,
    /// Running jobs, by the moment at which their leases are looked at next.
    leases: BTreeSet<(Timestamp, Seq)>,
    /// Waiting jobs that have to start, by the moment at which they end otherwise.
    late: BTreeSet<(Timestamp, Seq)>,
    /// Jobs that are over, by the moment their records expire.
    expiries: BTreeSet<(Timestamp, Seq)>,
    groups: HashMap<(QueueName, String), Group>,
    expired: Fading<JobId, Seq>,
    keys: HashMap<String, Key>,
    /// When keys that are free again were last forgotten.
    keys_swept_at: Option<Timestamp>,
    /// What is to be told to webhooks.
    pub(super) outbox: Outbox,
    pub(super) unready: UnreadyWorkers,
    /// What is to be told once the state is unlocked.
    pub(super) signals: Rings,
}

/// The waiting jobs of a queue that are not blocked.
#[derive(Default)]
struct Line {
    /// Those that have to wait for no moment, by the moment since which they are
    /// due.
    ready: BTreeSet<(Timestamp, Seq)>,
    /// The same of those that wait for a moment.
    waiting: BTreeSet<(Timestamp, Seq)>,
    /// The same of those that are to be watched.
    suspects: BTreeSet<(Timestamp, Seq)>,
}

/// An idempotency key that was taken.
struct Key {
    id: JobId,
    until: Timestamp,
}

/// What has changed since it was last told.
#[derive(Default)]
pub(super) struct Rings {
    pub(super) outcomes: bool,
    pub(super) cancels: bool,
    /// Something may be claimed, perhaps only by some of the workers: a suspect, or
    /// what is in a queue that goes on.
    pub(super) claimable: bool,
}

/// The jobs of one group that are not over.
#[derive(Default)]
struct Group {
    members: BTreeSet<Seq>,
    /// The one that runs or may be claimed.
    head: Option<Seq>,
}

impl MemoryState {
    pub(super) fn submit(&mut self, job: NewJob, now: Timestamp) -> Result<Submitted> {
        if let Some(first) = self.first_with_key(&job, now) {
            return first.map(|id| Submitted { id, duplicate: true });
        }
        let seq = self.next;
        self.next += 1;
        let id = JobId::from(format!("m-{:06}", seq + 1));
        if let Some(key) = job.idempotency_key.clone() {
            self.keys.insert(key, Key { id: id.clone(), until: now.after(job.idempotency_window) });
        }
        self.ids.insert(id.clone(), seq);
        self.jobs.insert(seq, Entry::new(id.clone(), job, now));
        self.shelve(seq);
        self.regroup(seq, now);
        Ok(Submitted { id, duplicate: false })
    }

    /// The job that has taken this job's idempotency key already, or that it has
    /// another body.
    fn first_with_key(&self, job: &NewJob, now: Timestamp) -> Option<Result<JobId>> {
        let name = job.idempotency_key.as_ref()?;
        let key = self.keys.get(name).filter(|key| self.is_taken(key, now))?;
        let first = self.find(&key.id).and_then(|seq| self.entry(seq).record.body.as_ref());
        let id = key.id.clone();
        Some(match first {
            // Of a job whose record is gone, nobody knows the body.
            Some(body) if body.compact() != job.body.compact() => {
                Err(Error::IdempotencyConflict { key: name.clone(), id })
            }
            _ => Ok(id),
        })
    }

    /// A key counts until its time is over and its job is, too.
    fn is_taken(&self, key: &Key, now: Timestamp) -> bool {
        let unfinished = |seq| !self.entry(seq).record.status.is_terminal();
        key.until > now || self.find(&key.id).is_some_and(unfinished)
    }

    /// Forgets the keys that are free again.
    pub(super) fn sweep_keys(&mut self, now: Timestamp) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.retain(|_, key| self.is_taken(key, now));
        self.keys = keys;
        self.keys_swept_at = Some(now);
    }

    pub(super) fn find(&self, id: &JobId) -> Option<Seq> {
        self.ids.get(id).copied()
    }

    pub(super) fn entry(&self, seq: Seq) -> &Entry {
        &self.jobs[&seq]
    }

    /// All jobs, oldest first.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = (Seq, &Entry)> {
        self.jobs.iter().map(|(seq, entry)| (*seq, entry))
    }

    /// The job that this claim holds.
    pub(super) fn held(&self, key: &ClaimKey) -> Option<Seq> {
        self.find(&key.id).filter(|seq| self.entry(*seq).is_held_by(key))
    }

    pub(super) fn is_expired(&self, id: &JobId) -> bool {
        self.expired.get(id).is_some()
    }

    /// Where the job is, or was, in the order of submits.
    pub(super) fn order(&self, id: &JobId) -> Option<Seq> {
        self.find(id).or_else(|| self.expired.get(id).copied())
    }

    /// The job that this worker is to claim next of this queue.
    pub(super) fn first_due(&self, queue: &QueueName, worker: &str, now: Timestamp) -> Option<Seq> {
        let line = self.line(queue)?;
        let waited = line.waiting.first().filter(|(due, _)| *due <= now);
        let suspect = line.suspects.iter().find(|(due, seq)| *due <= now || self.entry(*seq).is_at_once());
        let suspect = suspect.filter(|_| self.watched_until(worker, now).is_none());
        [line.ready.first(), waited, suspect].into_iter().flatten().min().map(|(_, seq)| *seq)
    }

    /// Until when this worker is to have no other watched job than it has, if it has one.
    fn watched_until(&self, worker: &str, now: Timestamp) -> Option<Timestamp> {
        let held = self.leases.iter().map(|(_, seq)| self.entry(*seq));
        let held = held.filter(|entry| entry.record.worker.as_deref() == Some(worker));
        held.filter_map(|entry| entry.watched_until(now)).max()
    }

    /// The jobs of a queue, unless it is paused.
    fn line(&self, queue: &QueueName) -> Option<&Line> {
        self.lines.get(queue).filter(|_| !self.paused.contains(queue))
    }

    pub(super) fn paused(&self) -> impl Iterator<Item = &QueueName> {
        self.paused.iter()
    }

    /// Whether that changed anything.
    pub(super) fn set_paused(&mut self, queue: QueueName, paused: bool) -> bool {
        if paused {
            return self.paused.insert(queue);
        }
        self.signals.claimable = true;
        self.paused.remove(&queue)
    }

    /// When there may be something to claim next for this request, as things are.
    pub(super) fn next_event_for(&self, request: &ClaimRequest, now: Timestamp) -> Option<Timestamp> {
        let moment = |(due, seq): &(Timestamp, Seq)| if self.entry(*seq).is_at_once() { now } else { *due };
        let watched_until = self.watched_until(&request.worker, now);
        let lines = request.queues.names().filter_map(|queue| self.line(queue));
        let events = lines.flat_map(|line| {
            let suspect = line.suspects.iter().map(moment).min();
            let suspect = suspect.map(|due| watched_until.unwrap_or(due).max(due));
            line.next_event().into_iter().chain(suspect)
        });
        // The end of a late job lets the next of its group go.
        let others = [self.leases.first(), self.late.first()].into_iter().flatten();
        events.chain(others.map(|(moment, _)| *moment)).min()
    }

    /// When there may be something to claim next that any worker may have: in each
    /// queue, and among the leases.
    pub(super) fn next_events(&self) -> HashMap<Option<QueueName>, Timestamp> {
        let lines =
            self.lines.iter().filter_map(|(queue, line)| Some((Some(queue.clone()), line.next_event()?)));
        lines.chain(self.leases.first().map(|(moment, _)| (None, *moment))).collect()
    }

    /// Changes a job, and whatever hangs on it. Afterwards it may be gone.
    pub(super) fn update<T>(&mut self, seq: Seq, now: Timestamp, change: impl FnOnce(&mut Entry) -> T) -> T {
        self.unshelve(seq);
        let entry = self.jobs.get_mut(&seq).expect("the job was just looked up");
        self.signals.claimable |= entry.suspicion().is_watched();
        let answer = change(entry);
        self.signals.claimable |= entry.suspicion().is_watched();
        for notice in entry.take_notices() {
            entry.told_at = self.outbox.add(notice, entry.told_at).or(entry.told_at);
        }
        self.shelve(seq);
        self.regroup(seq, now);
        self.signals.outcomes |= self.jobs[&seq].record.status.is_terminal();
        // A record that is not kept at all is gone for the next of a batch.
        self.expire(now);
        answer
    }

    pub(super) fn remove(&mut self, seq: Seq, now: Timestamp) {
        self.unshelve(seq);
        if let Some(entry) = self.jobs.remove(&seq) {
            self.ids.remove(&entry.record.id);
            if let Some(group) = group_of(&entry.record) {
                self.leave(&group, seq, now);
            }
        }
        // Whoever waits for the job should learn that it is gone.
        self.signals.outcomes = true;
    }

    /// Whether this try was the latest of its delivery.
    pub(super) fn settle_delivery(&mut self, settlement: DeliverySettlement, now: Timestamp) -> bool {
        let Some(settled) = self.outbox.settle(settlement, now) else { return false };
        let found = |job: Option<JobId>| self.find(&job?);
        let (told, unwanted) = (found(settled.told_progress_of), found(settled.unwanted_progress_of));
        if let Some(entry) = told.and_then(|seq| self.jobs.get_mut(&seq)) {
            entry.told_at = Some(now);
        }
        if let Some(entry) = unwanted.and_then(|seq| self.jobs.get_mut(&seq)) {
            entry.unwanted_progress = true;
        }
        true
    }

    /// Ends what is kept for a time that is over, what has not started in time, and
    /// leases from a time when the clock was ahead.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        if let Some(latest) = self.latest.replace(now).filter(|latest| now < *latest) {
            self.outbox.cut(latest.since(now), now);
            let ahead = |seq: &Seq| self.jobs[seq].lease().is_some_and(|l| l.is_ahead(now));
            let ahead: Vec<_> = self.leases.iter().map(|(_, seq)| *seq).filter(ahead).collect();
            for seq in ahead {
                self.update(seq, now, |entry| {
                    if let Some(lease) = entry.lease() {
                        entry.set_lease(Lease::new(now, lease.length));
                    }
                });
            }
        }
        self.end_late(now);
        self.expire(now);
        self.expired.fade(now);
        if self.keys_swept_at.is_none_or(|at| at.after(SWEEP_KEYS) <= now) {
            self.sweep_keys(now);
            self.outbox.sweep(now);
        }
    }

    /// Looks after the leases that are due for it, for a claim: gives notice to
    /// holders that are overdue, and takes their jobs from those that had it.
    pub(super) fn take_silent(&mut self, now: Timestamp) {
        self.check_leases(now, |_| true);
    }

    /// Ends jobs that nobody will ever claim, and whose holders have long been silent.
    pub(super) fn end_abandoned(&mut self, now: Timestamp) {
        self.check_leases(now, |entry| entry.is_over_when_abandoned(now));
    }

    /// Ends jobs that have not started in time.
    fn end_late(&mut self, now: Timestamp) {
        while let Some(&(start_by, seq)) = self.late.first()
            && start_by <= now
        {
            self.update(seq, now, |entry| entry.expire(start_by, now));
        }
    }

    fn check_leases(&mut self, now: Timestamp, which: impl Fn(&Entry) -> bool) {
        let due = self.leases.iter().take_while(|(check_at, _)| *check_at <= now).map(|(_, seq)| *seq);
        let due: Vec<_> = due.filter(|seq| which(&self.jobs[seq])).collect();
        for seq in due {
            match self.jobs.get(&seq).and_then(Entry::lease).map(|lease| lease.check(now)) {
                Some(Check::Notice(lease)) => self.update(seq, now, |entry| entry.set_lease(lease)),
                Some(Check::Over) => self.lapse(seq, now),
                Some(Check::None) | None => {}
            }
        }
    }

    /// Takes a job from its holder. Where that holds a watched job, too, those
    /// that were never lost before are spared.
    fn lapse(&mut self, seq: Seq, now: Timestamp) {
        let entry = &self.jobs[&seq];
        let (suspicion, worker) = (entry.suspicion(), entry.record.worker.clone());
        let with_it = |(_, other): &(Timestamp, Seq)| self.jobs[other].is_overdue(worker.as_deref(), now);
        let with_it: Vec<_> = self.leases.iter().filter(|held| with_it(held)).map(|(_, seq)| *seq).collect();
        if suspicion.is_watched() {
            for other in &with_it {
                if self.jobs[other].suspicion() == Suspicion::None {
                    self.update(*other, now, Entry::spare);
                }
            }
        }
        let spared = match suspicion {
            Suspicion::None => with_it.iter().any(|other| self.jobs[other].suspicion().is_watched()),
            Suspicion::Spared => true,
            Suspicion::Watched(_) => false,
        };
        self.update(seq, now, |entry| {
            entry.lapse(lifecycle::lapse(&entry.terms(now), worker.as_deref(), spared), now);
        });
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(&(end, seq)) = self.expiries.first()
            && end <= now
        {
            let id = self.entry(seq).record.id.clone();
            self.expired.insert(id, seq, now.after(REMEMBER_EXPIRED));
            self.remove(seq, now);
        }
    }

    /// Puts a job into the order that its status has, where it has one.
    fn shelve(&mut self, seq: Seq) {
        if let Some(start_by) = self.jobs.get(&seq).and_then(Entry::start_by) {
            self.late.insert((start_by, seq));
        }
        if let Some((shelf, moment)) = self.shelf(seq) {
            shelf.insert((moment, seq));
        }
    }

    fn unshelve(&mut self, seq: Seq) {
        if let Some(start_by) = self.jobs.get(&seq).and_then(Entry::start_by) {
            self.late.remove(&(start_by, seq));
        }
        if let Some((shelf, moment)) = self.shelf(seq) {
            shelf.remove(&(moment, seq));
        }
        if let Some(entry) = self.jobs.get(&seq)
            && self.lines.get(&entry.record.spec.queue).is_some_and(Line::is_empty)
        {
            self.lines.remove(&entry.record.spec.queue);
        }
    }

    fn shelf(&mut self, seq: Seq) -> Option<(&mut BTreeSet<(Timestamp, Seq)>, Timestamp)> {
        let entry = self.jobs.get(&seq)?;
        let record = &entry.record;
        if entry.is_waiting() {
            let due = record.due_at?;
            let line = self.lines.entry(record.spec.queue.clone()).or_default();
            let shelf = if entry.suspicion().is_watched() {
                &mut line.suspects
            } else if entry.is_at_once() {
                &mut line.ready
            } else {
                &mut line.waiting
            };
            Some((shelf, due))
        } else if entry.is_running() {
            Some((&mut self.leases, entry.lease()?.check_at))
        } else {
            Some((&mut self.expiries, record.expires_at?))
        }
    }

    /// Keeps the group of a changed job in order.
    fn regroup(&mut self, seq: Seq, now: Timestamp) {
        let record = &self.jobs[&seq].record;
        let Some(name) = group_of(record) else { return };
        if record.status.is_terminal() {
            self.leave(&name, seq, now);
        } else {
            self.groups.entry(name.clone()).or_default().members.insert(seq);
            self.choose_head(&name, seq, now);
        }
    }

    fn leave(&mut self, name: &(QueueName, String), seq: Seq, now: Timestamp) {
        if let Some(group) = self.groups.get_mut(name) {
            group.members.remove(&seq);
            if group.members.is_empty() {
                self.groups.remove(name);
            } else {
                self.choose_head(name, seq, now);
            }
        }
    }

    /// Lets the oldest job of a group go, once none of them runs, and no other.
    fn choose_head(&mut self, name: &(QueueName, String), changed: Seq, now: Timestamp) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let before = group.head.filter(|seq| group.members.contains(seq));
        let runs = before.filter(|seq| self.jobs[seq].is_running());
        let head = runs.or(group.members.first().copied());
        group.head = head;

        for other in [before, Some(changed)].into_iter().flatten().filter(|seq| Some(*seq) != head) {
            if self.jobs.get(&other).is_some_and(Entry::is_waiting) {
                self.change_due(other, Entry::block);
            }
        }
        let promoted =
            head.filter(|seq| self.jobs[seq].is_waiting() && self.jobs[seq].record.due_at.is_none());
        if let Some(seq) = promoted {
            self.change_due(seq, |entry| entry.unblock(now));
        }
    }

    fn change_due(&mut self, seq: Seq, change: impl FnOnce(&mut Entry)) {
        self.unshelve(seq);
        if let Some(entry) = self.jobs.get_mut(&seq) {
            change(entry);
        }
        self.shelve(seq);
    }
}

impl Line {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty() && self.suspects.is_empty()
    }

    /// When there may be something to claim next that any worker may have.
    fn next_event(&self) -> Option<Timestamp> {
        [self.ready.first(), self.waiting.first()].into_iter().flatten().map(|(moment, _)| *moment).min()
    }
}

/// A group is one of its queue.
fn group_of(record: &Record) -> Option<(QueueName, String)> {
    Some((record.spec.queue.clone(), record.spec.group.clone()?))
}
