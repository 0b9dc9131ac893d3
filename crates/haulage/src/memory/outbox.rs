//! What is to be told to webhooks.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    JobId, Timestamp, WebhookEvent,
    backend::{
        ClaimedDeliveries, ClaimedDelivery, Delivery, DeliveryOutcome, DeliveryQuery, DeliveryRequest,
        DeliverySettlement, RedriveDeliveries,
    },
    delivery::{Notice, Schedule},
};

/// Deliveries, in the order in which they were made.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

struct Waiting {
    notice: Notice,
    since: Option<Timestamp>,
    /// Somebody tries it, and has until it is due.
    trying: bool,
}

impl Waiting {
    fn is_progress_of(&self, job: &JobId) -> bool {
        let delivery = &self.notice.delivery;
        delivery.event == WebhookEvent::Progress && delivery.job == *job
    }
}

/// What came of saying how a try went.
#[derive(Default)]
pub(super) struct Settled {
    /// The job of which progress was told.
    pub(super) told_progress_of: Option<JobId>,
    /// The job of which no more progress is wanted.
    pub(super) unwanted_progress_of: Option<JobId>,
}

impl Outbox {
    /// Adds what is to be told; of progress, `told_at` is when the one before was due. Brings when that one is.
    pub(super) fn add(&mut self, mut notice: Notice, told_at: Option<Timestamp>) -> Option<Timestamp> {
        let Delivery { job, event, created_at: now, .. } = &notice.delivery;
        let schedule = match event {
            WebhookEvent::Progress => Schedule::of_progress(self.take_progress(job, *now), told_at, *now),
            WebhookEvent::Ended => {
                // The end is newer than all progress.
                self.waiting.retain(|_, waiting| !waiting.is_progress_of(job));
                Schedule::at(*now)
            }
            WebhookEvent::AttemptFailed => Schedule::at(*now),
        };
        let is_progress = *event == WebhookEvent::Progress;
        notice.delivery.due_at = Some(schedule.due);
        notice.delivery.tries = schedule.tries;
        notice.delivery.error = schedule.error;
        self.waiting.insert(self.next, Waiting { notice, since: schedule.since, trying: false });
        self.next += 1;
        (is_progress && schedule.tries == 0).then_some(schedule.due)
    }

    /// Takes back the progress of a job that is still to be told, unless somebody just tells it.
    fn take_progress(&mut self, job: &JobId, now: Timestamp) -> Option<Schedule> {
        let taken = self.waiting.extract_if(.., |_, waiting| {
            let is_told = waiting.trying && waiting.notice.delivery.due_at.is_some_and(|due| due > now);
            waiting.is_progress_of(job) && !is_told
        });
        let taken = taken.filter_map(|(_, Waiting { notice, since, .. })| {
            let Delivery { due_at, tries, error, .. } = notice.delivery;
            Some(Schedule { due: due_at?, tries, since, error })
        });
        // Whoever told one of two may have died.
        taken.max_by_key(|taken| taken.tries)
    }

    /// What was made or tried while the clock was ahead is due by now.
    pub(super) fn cut(&mut self, back: Duration, now: Timestamp) {
        let latest = now.after(Delivery::latest(back));
        for Waiting { notice: Notice { delivery, .. }, since, .. } in self.waiting.values_mut() {
            let is_ahead = |at: Option<Timestamp>| at.is_some_and(|at| at > now);
            let is_due_late = delivery.due_at.is_some_and(|due| due > latest);
            if delivery.created_at > now || is_ahead(*since) || is_ahead(delivery.dead_at) || is_due_late {
                delivery.created_at = delivery.created_at.min(now);
                for time in [since, &mut delivery.due_at, &mut delivery.dead_at] {
                    *time = time.map(|time| time.min(now));
                }
            }
        }
    }

    /// Nothing is told any more of a job that is purged.
    pub(super) fn forget(&mut self, job: &JobId) {
        self.waiting.retain(|_, waiting| waiting.notice.delivery.job != *job);
    }

    /// Lets go of what nobody has told in all its time.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let old = now.before(Delivery::KEPT);
        self.waiting.retain(|_, waiting| waiting.notice.delivery.created_at > old);
    }

    pub(super) fn claim(&mut self, request: &DeliveryRequest, now: Timestamp) -> ClaimedDeliveries {
        let mut in_flight = request.in_flight.clone();
        let under_way = |waiting: &Waiting| in_flight.get(&waiting.notice.host).copied().unwrap_or(0);
        // What is due, at hosts with the least under way first, and then what will be.
        let place = |(n, waiting): (&u64, &Waiting)| {
            let at = waiting.notice.delivery.due_at?;
            Some((at > now, if at > now { 0 } else { under_way(waiting) }, at, *n))
        };
        let mut due: Vec<_> = self.waiting.iter().filter_map(place).collect();
        due.sort_unstable();
        let mut claimed = ClaimedDeliveries::default();
        // One of each host, and then the rest: of many that are slow, none takes the room of others.
        let mut seen = BTreeSet::new();
        let (first, rest): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(.., n)| seen.insert(self.waiting[n].notice.host.clone()));
        for (_, _, at, n) in first.into_iter().chain(rest) {
            let Some(Waiting { notice, since, trying }) = self.waiting.get_mut(&n) else { continue };
            let busy = in_flight.entry(notice.host.clone()).or_default();
            if *busy >= request.per_host {
                continue;
            }
            if at > now {
                claimed.next = Some(claimed.next.map_or(at, |next: Timestamp| next.min(at)));
                continue;
            }
            if claimed.deliveries.len() == request.max {
                break;
            }
            *busy += 1;
            *trying = true;
            notice.delivery.tries += 1;
            notice.delivery.due_at = Some(now.after(request.lease));
            let since = *since.get_or_insert(now);
            let (delivery, body) = (notice.delivery.clone(), notice.body.clone());
            claimed.deliveries.push(ClaimedDelivery { delivery, since, body });
        }
        claimed
    }

    pub(super) fn settle(&mut self, settlement: DeliverySettlement, now: Timestamp) -> Option<Settled> {
        let DeliverySettlement { id, tries, outcome } = settlement;
        let (n, waiting) = self.waiting.iter_mut().find(|(_, waiting)| {
            let delivery = &waiting.notice.delivery;
            delivery.id == id && delivery.tries == tries && delivery.due_at.is_some()
        })?;
        let n = *n;
        waiting.trying = false;
        let delivery = &mut waiting.notice.delivery;
        let (job, is_progress) = (delivery.job.clone(), delivery.event == WebhookEvent::Progress);
        match outcome {
            // What is older is not told after it.
            DeliveryOutcome::Done if is_progress => {
                self.waiting.retain(|m, waiting| *m > n || !waiting.is_progress_of(&job));
                return Some(Settled { told_progress_of: Some(job), ..Settled::default() });
            }
            DeliveryOutcome::Done => {
                self.waiting.remove(&n);
            }
            DeliveryOutcome::Again { after, error } => {
                (delivery.due_at, delivery.error) = (Some(now.after(after)), Some(error));
                if is_progress {
                    self.give_way(n, &job);
                }
            }
            // Nobody wants any.
            DeliveryOutcome::Dead { .. } if is_progress => {
                self.waiting.retain(|_, waiting| !waiting.is_progress_of(&job));
                return Some(Settled { unwanted_progress_of: Some(job), ..Settled::default() });
            }
            DeliveryOutcome::Dead { error } => {
                (delivery.due_at, delivery.dead_at, delivery.error) = (None, Some(now), Some(error));
            }
        }
        Some(Settled::default())
    }

    /// Progress that has not been told is not told any more where there is newer, which takes over its place in
    /// time: the receiver may be away. What is known of that by tries of the newer itself stays.
    fn give_way(&mut self, n: u64, job: &JobId) {
        let mut newer =
            self.waiting.range(n + 1..).filter(|(_, waiting)| waiting.is_progress_of(job)).peekable();
        if newer.peek().is_none() {
            return;
        }
        let waits = newer.find(|(_, newer)| !newer.trying).map(|(n, _)| *n);
        let old = self.waiting.remove(&n);
        let Some((old, newer)) = old.zip(waits.and_then(|n| self.waiting.get_mut(&n))) else { return };
        let Delivery { due_at, tries, error, .. } = old.notice.delivery;
        let delivery = &mut newer.notice.delivery;
        delivery.due_at = if delivery.tries > 0 { delivery.due_at.max(due_at) } else { due_at };
        delivery.tries = delivery.tries.max(tries);
        delivery.error = delivery.error.take().or(error);
        newer.since = [newer.since, old.since].into_iter().flatten().min();
    }

    pub(super) fn list(&self, query: &DeliveryQuery) -> Vec<Delivery> {
        let newest_first = self.waiting.values().rev().map(|waiting| &waiting.notice.delivery);
        let mut wanted: Vec<_> = newest_first.filter(|delivery| query.matches(delivery)).collect();
        if query.dead {
            wanted.sort_by_key(|delivery| Reverse(delivery.dead_at));
        }
        wanted.into_iter().take(query.limit).map(|delivery| delivery.clone().shown()).collect()
    }

    pub(super) fn redrive(&mut self, what: RedriveDeliveries, now: Timestamp) -> Vec<String> {
        let is_meant = |delivery: &Delivery| match &what {
            RedriveDeliveries::Dead { queue, by, .. } => {
                delivery.dead_at.is_some_and(|at| at <= *by)
                    && queue.as_ref().is_none_or(|queue| delivery.queue == *queue)
            }
            RedriveDeliveries::Deliveries(ids) => delivery.dead_at.is_some() && ids.contains(&delivery.id),
        };
        let mut meant: Vec<_> =
            self.waiting.values_mut().filter(|waiting| is_meant(&waiting.notice.delivery)).collect();
        meant.sort_by_key(|waiting| waiting.notice.delivery.dead_at);
        if let RedriveDeliveries::Dead { limit, .. } = &what {
            meant.truncate(*limit);
        }
        let redriven = meant.into_iter().map(|waiting| {
            waiting.since = None;
            let delivery = &mut waiting.notice.delivery;
            (delivery.due_at, delivery.dead_at) = (Some(now), None);
            delivery.id.clone()
        });
        redriven.collect()
    }
}
