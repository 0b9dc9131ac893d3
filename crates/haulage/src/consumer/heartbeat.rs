//! When to heartbeat, and for which claims.
//!
//! A claim is lost when the backend says so. One that is silent, or out of
//! reach, may still keep it: nobody else may have taken the job, and then the
//! next heartbeat that gets through revives the claim, however late it is.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    deadlines::Deadlines,
    table::{Held, Stage, Table},
};
use crate::{
    Backend, Clock, Error, Result, Timestamp,
    backend::{Heartbeat, HeartbeatStatus, Update},
    backend_call::BackendCall,
    handler::Signal,
    retry::Outage,
};

/// The rounds of heartbeats: one every interval for the claims that need it,
/// and early ones when there is something to tell or to ask.
#[derive(Debug)]
pub(super) struct Heartbeats {
    lease: Duration,
    interval: Duration,
    /// The next regular round. The moment counts by either clock: the wall
    /// clock can be set back, and the leases of a remote queue do not wait.
    next: (Timestamp, Instant),
    round: Option<Round>,
    outage: Outage,
    signal: Early,
    cancels: Early,
}

#[derive(Debug)]
struct Round {
    beats: Vec<(u64, Update)>,
    call: BackendCall<Vec<HeartbeatStatus>>,
}

/// A wish for an early round, granted not too often.
#[derive(Debug)]
struct Early {
    wanted: bool,
    not_before: Instant,
    gap: Duration,
}

impl Early {
    fn new(gap: Duration) -> Self {
        Self { wanted: false, not_before: Instant::now(), gap }
    }

    fn due(&self) -> bool {
        self.wanted && Instant::now() >= self.not_before
    }

    fn granted(&mut self) {
        *self = Self { wanted: false, not_before: Instant::now() + self.gap, gap: self.gap };
    }

    fn moment(&self) -> Option<Instant> {
        self.wanted.then_some(self.not_before)
    }
}

impl Heartbeats {
    pub(super) fn new(lease: Duration, interval: Duration, clock: &Clock) -> Self {
        Self {
            lease,
            interval,
            next: (clock.now(), Instant::now()),
            round: None,
            outage: Outage::new("heartbeat"),
            signal: Early::new(Duration::from_secs(1)),
            cancels: Early::new(Duration::from_millis(50)),
        }
    }

    pub(super) const fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Some handler has new progress.
    pub(super) fn want_update(&mut self) {
        self.signal.wanted = true;
    }

    /// Some running job may have been cancelled.
    pub(super) fn want_cancels(&mut self) {
        self.cancels.wanted = true;
    }

    /// A claim has come in. One that took long to arrive may not live until
    /// the next regular round.
    pub(super) fn admitted(&mut self, lease_until: Timestamp, now: Timestamp) {
        if lease_until <= self.next.0 {
            self.next.0 = now;
        }
    }

    /// Starts a round if it is time for one.
    pub(super) fn start(&mut self, table: &Table, backend: &Arc<dyn Backend>, signal: &Signal) {
        if self.round.is_some() {
            return;
        }
        if table.is_empty() {
            self.cancels.wanted = false;
            self.signal.wanted = false;
            self.outage.forget();
            signal.take();
            return;
        }
        let now = backend.clock().now();
        let regular = now >= self.next.0 || Instant::now() >= self.next.1;
        let all = self.cancels.due();
        if !(regular || all || self.signal.due()) {
            return;
        }
        signal.take();
        self.signal.granted();
        if all {
            self.cancels.granted();
        }
        if regular || all {
            self.next = (now.after(self.interval), Instant::now() + self.interval);
        }
        // What was claimed or extended just now is left to the next round, if it
        // lives that long.
        let extended_just_now = now.after(self.lease).before(self.interval / 2);
        let after_next_round = now.after(self.interval + self.interval / 4);
        let fresh = extended_just_now.max(after_next_round);
        // A lease from before the clock was set back: it, too, is to end in time.
        let longest = now.after(self.lease);
        let mut beats = Vec::new();
        let mut calls = Vec::new();
        for (ticket, held) in table.iter() {
            let update = match &held.stage {
                Stage::Running { context, .. } => context.take_update(),
                Stage::Waiting(_) | Stage::Settling { .. } => Update::default(),
            };
            let due = held.lease_until < fresh || held.lease_until > longest;
            if !update.is_empty() || all || (regular && due) {
                beats.push((ticket, update.clone()));
                calls.push(Heartbeat::new(held.key.clone(), self.lease).update(update));
            }
        }
        if beats.is_empty() {
            return;
        }
        // Then it is better to ask anew.
        let limit = self.lease.max(Duration::from_secs(1));
        let backend = backend.clone();
        let call = BackendCall::send(async move {
            tokio::time::timeout(limit, backend.heartbeat(calls)).await.unwrap_or_else(|_| {
                let message = format!("no answer within {}", humantime::format_duration(limit));
                Err(Error::Unavailable { message, source: None })
            })
        });
        self.round = Some(Round { beats, call });
    }

    /// Waits for the round that is under way.
    pub(super) async fn answer(&mut self) -> Result<Vec<HeartbeatStatus>> {
        match &mut self.round {
            Some(round) => round.call.answer().await,
            None => std::future::pending().await,
        }
    }

    /// Takes the answer in; tells each ticket's status.
    pub(super) fn answered(
        &mut self,
        answer: Result<Vec<HeartbeatStatus>>,
        table: &mut Table,
        clock: &Clock,
    ) -> Vec<(u64, HeartbeatStatus)> {
        let Some(round) = self.round.take() else { return Vec::new() };
        match answer {
            Ok(statuses) => {
                self.outage.over();
                round.beats.into_iter().map(|(ticket, _)| ticket).zip(statuses).collect()
            }
            Err(error) => {
                self.outage.failed(&error);
                // The leases are running out: sooner than the next regular round.
                let wait = (self.interval / 4).min(Duration::from_secs(1));
                self.next = (clock.now().after(wait), Instant::now() + wait);
                for (ticket, update) in round.beats {
                    if !update.is_empty()
                        && let Some(Held { stage: Stage::Running { context, .. }, .. }) =
                            table.get_mut(ticket)
                    {
                        context.return_update(update);
                    }
                }
                Vec::new()
            }
        }
    }

    /// When there is something to do here.
    pub(super) fn deadlines(&self, table: &Table, deadlines: &mut Deadlines) {
        if table.is_empty() {
            return;
        }
        if self.round.is_none() {
            deadlines.clock(Some(self.next.0));
            deadlines.real(Some(self.next.1));
            deadlines.real(self.signal.moment());
            deadlines.real(self.cancels.moment());
        }
    }
}

#[cfg(test)]
mod tests;
