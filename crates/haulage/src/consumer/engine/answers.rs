//! What follows from the answers of handlers.

use super::Engine;
use crate::{
    Context, FailureKind, JobError,
    backend::Outcome,
    consumer::{
        phase::Phase,
        report::{CallEnd, CallReport, Verdict},
        table::{Alarm, Stage},
    },
};

impl Engine {
    pub(super) fn take_reports(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for CallReport { call, verdicts, end } in inbox.drain(..) {
            for (ticket, verdict) in verdicts {
                self.judge(ticket, verdict);
            }
            let Some(end) = end else { continue };
            // Those that are still running got no answer, and never will.
            for ticket in self.table.end(call) {
                match &end {
                    CallEnd::Panicked(message) => {
                        let message = format!("the handler panicked: {message}");
                        let error = JobError::new(FailureKind::Panic, message);
                        self.judge(ticket, Verdict::Retry(error, None));
                    }
                    // Nothing was done about it, and would be if it were tried again at once.
                    CallEnd::Returned | CallEnd::Dropped => {
                        let reason = "the call was dropped before it had an answer".to_owned();
                        self.judge(ticket, Verdict::NotReady(reason));
                    }
                }
            }
        }
        self.inbox = inbox;
    }

    /// Makes an outcome of what the handler said. It is too late for that where
    /// the job has been concluded without it, or is lost.
    fn judge(&mut self, ticket: u64, verdict: Verdict) {
        self.learn(ticket, &verdict);
        let Some(held) = self.table.get_mut(ticket) else { return };
        let ending = matches!(self.phase, Phase::Ending { .. });
        let outcome = match verdict {
            Verdict::Success(result) => Outcome::Success(result),
            // Whatever went wrong after it was told to stop.
            _ if held.cancel_requested => Outcome::Cancelled,
            Verdict::NotReady(_) if ending => Outcome::release(),
            _ if ending => Outcome::interrupted(),
            verdict => verdict.outcome(&self.settings.retry_policy, held.counted),
        };
        self.conclude(ticket, outcome);
    }

    /// What the outcome of one job says for others.
    fn learn(&mut self, ticket: u64, verdict: &Verdict) {
        let now = self.backend.clock().monotonic();
        if verdict.is_of_a_run() {
            self.readiness.worked(ticket, now);
        } else if let Verdict::NotReady(reason) = verdict
            && !self.shutdown.is_stopping()
            && self.readiness.failed(ticket, reason, now)
        {
            for waiting in self.collector.drain() {
                self.conclude(waiting, self.not_wanted());
            }
        }
    }

    pub(super) fn conclude(&mut self, ticket: u64, outcome: Outcome) {
        self.readiness.ended(ticket);
        if let Some(update) = self.table.conclude(ticket, self.backend.clock()) {
            self.settles.push(ticket, outcome, update);
        }
    }

    /// Ends the claim of a job that runs, or did, and has no answer.
    pub(super) fn give_back(&mut self, ticket: u64) {
        let cancelled = self.table.get_mut(ticket).is_some_and(|held| held.cancel_requested);
        self.conclude(ticket, if cancelled { Outcome::Cancelled } else { Outcome::interrupted() });
    }

    pub(super) fn on_alarm(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Timeout(ticket) => {
                let Some(held) = self.table.get_mut(ticket) else { return };
                let Stage::Running { context, .. } = &held.stage else { return };
                context.cancel();
                let error = JobError::new(FailureKind::Timeout, timeout_message(context));
                self.judge(ticket, Verdict::Retry(error, None));
            }
            Alarm::CancelGrace(ticket) => self.conclude(ticket, Outcome::Cancelled),
            Alarm::LostGrace(call) => self.table.unwant(call),
        }
    }
}

fn timeout_message(context: &Context) -> String {
    let timeout = context.timeout().unwrap_or_default();
    let attempt = context.attempt();
    format!("attempt {attempt} ran longer than its timeout of {}", humantime::format_duration(timeout))
}
