//! What follows from the answers of the backend.

use std::time::Duration;

use tracing::info;

use super::Engine;
use crate::{
    Result,
    backend::{ClaimKey, Claimed, HeartbeatStatus, Outcome},
    consumer::{
        phase::Phase,
        settle::{self, Settled},
        table::Stage,
    },
    event::Event,
};

impl Engine {
    pub(super) fn take_claimed(&mut self, answer: Result<Vec<Claimed>>) {
        let jobs = self.claims.answered(answer);
        if jobs.is_empty() {
            self.finish.look_soon();
        }
        let clock = self.backend.clock();
        let (now, monotonic) = (clock.now(), clock.monotonic());
        if std::mem::take(&mut self.cancels_during_claim) && !jobs.is_empty() {
            self.heartbeats.want_cancels();
        }
        for claimed in jobs {
            self.heartbeats.admitted(claimed.lease_until, now);
            let ClaimKey { id, attempt } = claimed.key.clone();
            if let Some(time) = claimed.watched {
                info!(
                    job_id = %id,
                    attempt,
                    for_at_most = ?time,
                    "a job that was lost with its worker: no other such job is taken beside it"
                );
            }
            self.tell(Event::Claimed { id, attempt }, &claimed.spec, None);
            let ticket = self.table.admit(claimed);
            // It may have been asked for in better times.
            if matches!(self.phase, Phase::Running) && self.readiness.limit(1) > 0 {
                self.readiness.admitted(ticket, monotonic);
                self.collector.push(ticket, monotonic);
            } else {
                self.conclude(ticket, self.not_wanted());
            }
        }
        // Before a handler can ask.
        self.publish();
    }

    /// Gives a job back that is not to begin any more.
    pub(super) fn not_wanted(&self) -> Outcome {
        let reason = self.readiness.reason().map(ToString::to_string);
        Outcome::Release { after: Duration::ZERO, reason, begun: false }
    }

    pub(super) fn take_heartbeat_statuses(&mut self, answer: Result<Vec<HeartbeatStatus>>) {
        let clock = self.backend.clock().clone();
        for (ticket, status) in self.heartbeats.answered(answer, &mut self.table, &clock) {
            let Some(held) = self.table.get_mut(ticket) else { continue };
            match status {
                HeartbeatStatus::Held(until) => held.lease_until = until,
                HeartbeatStatus::CancelRequested(until) => {
                    held.lease_until = until;
                    if !std::mem::replace(&mut held.cancel_requested, true) {
                        self.cancel(ticket);
                    }
                }
                // Perhaps because it is settled by now; the settle's own
                // answer tells.
                HeartbeatStatus::Lost if self.is_sent(ticket) => {}
                HeartbeatStatus::Lost => self.lose(ticket),
            }
        }
    }

    /// Somebody wants the job cancelled.
    fn cancel(&mut self, ticket: u64) {
        let grace_ends = self.backend.clock().monotonic().saturating_add(self.settings.cancel_grace_period);
        let Some(held) = self.table.get_mut(ticket) else { return };
        match &held.stage {
            Stage::Waiting(_) => {
                self.collector.remove(ticket);
                self.conclude(ticket, Outcome::Cancelled);
            }
            Stage::Running { context, .. } => {
                context.cancel();
                self.table.set_cancel_grace(ticket, grace_ends);
            }
            // The outcome is on its way; a retry is turned down by the backend.
            Stage::Settling { .. } => {}
        }
    }

    /// The claim is gone. It is never settled, and its handler is to stop.
    pub(super) fn lose(&mut self, ticket: u64) {
        let Some(held) = self.table.remove(ticket) else { return };
        self.readiness.ended(ticket);
        let slot = match held.stage {
            Stage::Waiting(_) => {
                self.collector.remove(ticket);
                None
            }
            Stage::Running { call, context } => {
                context.cancel();
                let grace_ends =
                    self.backend.clock().monotonic().saturating_add(self.settings.cancel_grace_period);
                self.table.set_lost_grace(call, grace_ends);
                context.slot()
            }
            Stage::Settling { slot, .. } => slot,
        };
        let ClaimKey { id, attempt } = held.key;
        self.tell(Event::Lost { id, attempt }, &held.spec, slot.as_deref());
    }

    fn is_sent(&mut self, ticket: u64) -> bool {
        self.table
            .get_mut(ticket)
            .is_some_and(|held| matches!(held.stage, Stage::Settling { sent: true, .. }))
    }

    pub(super) fn take_settled(&mut self, answer: settle::Answer) {
        for (ticket, settled) in self.settles.answered(answer, &mut self.table) {
            let (outcome, status) = match settled {
                Settled::Done(outcome, status) => (outcome, status),
                Settled::Lost => {
                    self.lose(ticket);
                    continue;
                }
            };
            let Some(held) = self.table.remove(ticket) else { continue };
            let (took, slot) = match held.stage {
                Stage::Settling { ran, slot, .. } => (Some(ran), slot),
                Stage::Waiting(_) | Stage::Running { .. } => (None, None),
            };
            let limits = self.backend.capabilities();
            let event = Event::settled(held.key, outcome, status, took.unwrap_or_default(), limits);
            if let Some(took) = took {
                self.recorder.observe(&held.spec.queue, &event, took);
            }
            self.tell(event, &held.spec, slot.as_deref());
        }
    }
}
