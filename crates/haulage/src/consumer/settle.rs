//! Outcomes on their way to the backend.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::time::Instant;
use tracing::warn;

use super::{claim::Joined, deadlines::Deadlines, table::Table};
use crate::{
    Backend, Error, FailureKind, JobError, Result, Status,
    backend::{Outcome, Settlement, Update},
    backend_call::BackendCall,
    retry::{Outage, backoff},
    with_causes,
};

/// Settles in batches, as many calls at a time as the backend likes: while
/// those are under way, what becomes known in the meantime piles up for the next.
#[derive(Debug)]
pub(super) struct Settles {
    queue: Vec<Waiting>,
    /// Those that the backend turned down while it took others.
    later: Vec<(Instant, Waiting)>,
    batches: Vec<Batch>,
    at_once: usize,
    not_before: Instant,
    /// The longest wait after a failed call, where there is no time for more.
    patience: Duration,
    outage: Outage,
}

/// An outcome that is to be settled.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    outcome: Outcome,
    /// The last that the attempt says.
    update: Update,
    /// How many times the backend turned it down.
    refusals: u32,
}

#[derive(Debug)]
struct Batch {
    outcomes: Vec<Waiting>,
    call: BackendCall<Vec<Result<Status>>>,
    /// How many calls had failed in a row when this one was sent.
    failures: u32,
}

/// What one call was asked, and what came back.
#[derive(Debug)]
pub(super) struct Answer {
    outcomes: Vec<Waiting>,
    answer: Result<Vec<Result<Status>>>,
    failures: u32,
}

/// What became of a settlement.
#[derive(Debug)]
pub(super) enum Settled {
    Done(Outcome, Status),
    Lost,
}

impl Settles {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            queue: Vec::new(),
            later: Vec::new(),
            batches: Vec::new(),
            at_once: at_once.max(1),
            not_before: Instant::now(),
            patience: Duration::MAX,
            outage: Outage::new("settle"),
        }
    }

    pub(super) const fn outage(&self) -> &Outage {
        &self.outage
    }

    pub(super) fn push(&mut self, ticket: u64, outcome: Outcome, update: Update) {
        self.queue.push(Waiting { ticket, outcome, update, refusals: 0 });
    }

    /// From now on, never wait longer than this after a failed call.
    pub(super) fn hurry(&mut self, patience: Duration) {
        self.patience = patience;
        let Some(latest) = Instant::now().checked_add(patience) else { return };
        self.not_before = self.not_before.min(latest);
        for (at, _) in &mut self.later {
            *at = latest.min(*at);
        }
    }

    /// Settles all that is waiting to be, unless enough calls are under way.
    /// `join` may add a claim, which then goes along.
    pub(super) fn start(
        &mut self,
        table: &mut Table,
        backend: &Arc<dyn Backend>,
        join: impl FnOnce(&Table) -> Option<Joined>,
    ) {
        if self.batches.len() >= self.at_once {
            return;
        }
        let now = Instant::now();
        let due = self.later.extract_if(.., |(at, _)| *at <= now).map(|(_, waiting)| waiting);
        self.queue.extend(due);
        if self.queue.is_empty() {
            if self.batches.is_empty() {
                self.outage.forget();
            }
            return;
        }
        if now < self.not_before {
            return;
        }
        let mut outcomes = std::mem::take(&mut self.queue);
        let mut settlements = Vec::with_capacity(outcomes.len());
        outcomes.retain(|Waiting { ticket, outcome, update, .. }| {
            // A claim that was lost in the meantime is not there any more.
            let Some(held) = table.get_mut(*ticket) else { return false };
            // Of a success, nothing of that is kept.
            let succeeds = matches!(outcome, Outcome::Success(_));
            let update = if succeeds { update.of_success() } else { update.clone() };
            settlements.push(Settlement::new(held.key.clone(), outcome.clone()).update(update));
            table.set_sent(*ticket, true);
            true
        });
        if outcomes.is_empty() {
            return;
        }
        let backend = backend.clone();
        // After a failure they go alone: it may be the claim that fails, and that
        // is to keep no outcome from being recorded.
        let joined = if self.outage.is_on() { None } else { join(table) };
        let call = BackendCall::send(async move {
            let Some(Joined { request, claimed }) = joined else { return backend.settle(settlements).await };
            let (settled, jobs) = backend.settle_and_claim(settlements, request).await?;
            // The engine waits for it, to its end.
            let _ = claimed.send(jobs);
            Ok(settled)
        });
        self.batches.push(Batch { outcomes, call, failures: self.outage.failures() });
    }

    /// Waits for the first answer of the calls that are under way. May be
    /// dropped and called again before it came.
    pub(super) async fn answer(&mut self) -> Answer {
        poll_fn(|cx| {
            let ready = self.batches.iter_mut().enumerate().find_map(|(at, batch)| {
                match pin!(batch.call.answer()).poll(cx) {
                    Poll::Ready(answer) => Some((at, answer)),
                    Poll::Pending => None,
                }
            });
            let Some((at, answer)) = ready else { return Poll::Pending };
            let Batch { outcomes, failures, .. } = self.batches.swap_remove(at);
            Poll::Ready(Answer { outcomes, answer, failures })
        })
        .await
    }

    /// Takes the answer in; tells each ticket's fate. What was not settled
    /// stays here, and is tried again until the backend has an answer.
    pub(super) fn answered(&mut self, answer: Answer, table: &mut Table) -> Vec<(u64, Settled)> {
        let Answer { outcomes, answer, failures } = answer;
        let (answers, mut failure) = match answer {
            Ok(answers) if answers.len() == outcomes.len() => (answers, None),
            Ok(answers) => {
                let message =
                    format!("the backend gave {} answers to {} settlements", answers.len(), outcomes.len());
                (Vec::new(), Some(Error::Unavailable { message, source: None }))
            }
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut settled = Vec::with_capacity(answers.len());
        let mut answers = answers.into_iter();
        let mut worked = false;
        let mut refused = Vec::new();
        for waiting in outcomes {
            let ticket = waiting.ticket;
            match answers.next() {
                Some(Ok(status)) => {
                    worked = true;
                    settled.push((ticket, Settled::Done(waiting.outcome, status)));
                    continue;
                }
                Some(Err(Error::LostClaim { .. } | Error::NotFound(_) | Error::Expired(_))) => {
                    worked = true;
                    settled.push((ticket, Settled::Lost));
                    continue;
                }
                Some(Err(
                    error @ (Error::TooLarge { .. } | Error::Invalid(_) | Error::InvalidJson { .. }),
                )) if matches!(waiting.outcome, Outcome::Success(_)) => {
                    worked = true;
                    let error = JobError::new(FailureKind::InvalidResult, error.to_string());
                    self.push(ticket, Outcome::Fail(error), waiting.update);
                }
                Some(Err(error)) => refused.push((waiting, error)),
                None => self.queue.push(waiting),
            }
            table.set_sent(ticket, false);
        }
        worked |= refused.iter().any(|(_, error)| !matches!(error, Error::Unavailable { .. }));
        for (mut waiting, error) in refused {
            if worked {
                // It is this outcome that the backend does not take: the others
                // do not have to wait with it.
                waiting.refusals += 1;
                if waiting.refusals.is_power_of_two()
                    && let Some(held) = table.get_mut(waiting.ticket)
                {
                    let (job_id, attempts) = (&held.key.id, waiting.refusals);
                    warn!(%job_id, attempts, error = %with_causes(&error), "cannot settle a job; trying on");
                }
                let wait = backoff(waiting.refusals).min(self.patience);
                self.later.push((Instant::now() + wait, waiting));
            } else {
                failure = Some(error);
                self.queue.push(waiting);
            }
        }
        match failure {
            // Calls that were under way together and fail are one failure.
            Some(error) if self.outage.failures() == failures => {
                self.not_before = self.outage.failed(&error);
                self.hurry(self.patience);
            }
            Some(_) => {}
            None => self.outage.over(),
        }
        settled
    }

    /// When there is something to do here.
    pub(super) fn deadlines(&self, deadlines: &mut Deadlines) {
        if self.batches.len() >= self.at_once {
            return;
        }
        if !self.queue.is_empty() {
            deadlines.real(Some(self.not_before));
        }
        deadlines.real(self.later.iter().map(|(at, _)| *at).min());
    }
}

#[cfg(test)]
mod tests;
