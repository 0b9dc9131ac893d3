//! What is to be told to webhooks.

use std::collections::BTreeMap;

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
}

impl Outbox {
    /// Adds what is to be told; of progress, `told_at` is when the one before was due. Brings when that one is.
    pub(super) fn add(&mut self, mut notice: Notice, told_at: Option<Timestamp>) -> Option<Timestamp> {
        let Delivery { job, event, created_at: now, .. } = &notice.delivery;
        let schedule = match event {
            WebhookEvent::Progress => Schedule::of_progress(self.take_progress(job), told_at, *now),
            WebhookEvent::Ended => {
                // The end is newer than all progress.
                self.take_progress(job);
                Schedule::at(*now)
            }
            WebhookEvent::AttemptFailed => Schedule::at(*now),
        };
        let is_progress = *event == WebhookEvent::Progress;
        notice.delivery.due_at = Some(schedule.due);
        notice.delivery.tries = schedule.tries;
        notice.delivery.error = schedule.error;
        self.waiting.insert(self.next, Waiting { notice, since: schedule.since });
        self.next += 1;
        (is_progress && schedule.tries == 0).then_some(schedule.due)
    }

    /// Takes back the progress of a job that is still to be told.
    fn take_progress(&mut self, job: &JobId) -> Option<Schedule> {
        let found = self.waiting.iter().find_map(|(n, Waiting { notice, since })| {
            let Delivery { job: of, event, due_at, tries, error, .. } = &notice.delivery;
            let due = due_at.filter(|_| of == job && *event == WebhookEvent::Progress)?;
            Some((*n, Schedule { due, tries: *tries, since: *since, error: error.clone() }))
        });
        let (n, schedule) = found?;
        self.waiting.remove(&n);
        Some(schedule)
    }

    /// What was made while the clock was ahead is due by now.
    pub(super) fn cut(&mut self, now: Timestamp) {
        for Waiting { notice: Notice { delivery, .. }, since } in self.waiting.values_mut() {
            if delivery.created_at > now {
                delivery.created_at = now;
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
        for (_, _, at, n) in due {
            let Some(Waiting { notice, since }) = self.waiting.get_mut(&n) else { continue };
            let busy = in_flight.entry(notice.host.clone()).or_default();
            if *busy >= request.per_host {
                continue;
            }
            if at > now {
                claimed.next = Some(at);
                break;
            }
            if claimed.deliveries.len() == request.max {
                break;
            }
            *busy += 1;
            notice.delivery.tries += 1;
            notice.delivery.due_at = Some(now.after(request.lease));
            let since = *since.get_or_insert(now);
            let (delivery, body) = (notice.delivery.clone(), notice.body.clone());
            claimed.deliveries.push(ClaimedDelivery { delivery, since, body });
        }
        claimed
    }

    pub(super) fn settle(&mut self, settlement: DeliverySettlement, now: Timestamp) -> bool {
        let DeliverySettlement { id, tries, outcome } = settlement;
        let found = self.waiting.iter_mut().find(|(_, waiting)| {
            let delivery = &waiting.notice.delivery;
            delivery.id == id && delivery.tries == tries && delivery.due_at.is_some()
        });
        let Some((n, waiting)) = found else { return false };
        let delivery = &mut waiting.notice.delivery;
        match outcome {
            DeliveryOutcome::Done => {
                let n = *n;
                self.waiting.remove(&n);
            }
            DeliveryOutcome::Again { after, error } => {
                (delivery.due_at, delivery.error) = (Some(now.after(after)), Some(error));
            }
            DeliveryOutcome::Dead { error } => {
                (delivery.due_at, delivery.dead_at, delivery.error) = (None, Some(now), Some(error));
            }
        }
        true
    }

    pub(super) fn list(&self, query: &DeliveryQuery) -> Vec<Delivery> {
        let newest_first = self.waiting.values().rev().map(|waiting| &waiting.notice.delivery);
        let wanted = newest_first.filter(|delivery| query.matches(delivery));
        wanted.take(query.limit).map(|delivery| delivery.clone().shown()).collect()
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
