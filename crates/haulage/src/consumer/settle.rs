//! Outcomes on their way to the backend.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::time::Instant;

use super::{
    errand::Errand,
    moments::Moments,
    table::{Stage, Table},
};
use crate::{
    Backend, Error, FailureKind, JobError, Result, Status,
    backend::{Outcome, Settlement},
    retry::Outage,
};

/// Settles in batches, as many calls at a time as the backend likes: while
/// those are under way, what becomes known in the meantime piles up for the next.
#[derive(Debug)]
pub(super) struct Settles {
    queue: Vec<(u64, Outcome)>,
    batches: Vec<Batch>,
    at_once: usize,
    not_before: Instant,
    /// The longest wait after a failed call, where there is no time for more.
    patience: Option<Duration>,
    outage: Outage,
}

#[derive(Debug)]
struct Batch {
    outcomes: Vec<(u64, Outcome)>,
    errand: Errand<Vec<Result<Status>>>,
}

/// What one call was asked, and what came back.
#[derive(Debug)]
pub(super) struct Answer {
    outcomes: Vec<(u64, Outcome)>,
    answer: Result<Vec<Result<Status>>>,
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
            batches: Vec::new(),
            at_once,
            not_before: Instant::now(),
            patience: None,
            outage: Outage::new("settle"),
        }
    }

    pub(super) const fn outage(&self) -> &Outage {
        &self.outage
    }

    pub(super) fn push(&mut self, ticket: u64, outcome: Outcome) {
        self.queue.push((ticket, outcome));
    }

    /// From now on, never wait longer than this after a failed call.
    pub(super) fn hurry(&mut self, patience: Duration) {
        self.patience = Some(patience);
        self.not_before = self.not_before.min(Instant::now() + patience);
    }

    /// Settles all that is waiting to be, unless enough calls are under way.
    pub(super) fn start(&mut self, table: &mut Table, backend: &Arc<dyn Backend>) {
        if self.batches.len() >= self.at_once {
            return;
        }
        if self.queue.is_empty() {
            if self.batches.is_empty() {
                self.outage.forget();
            }
            return;
        }
        if Instant::now() < self.not_before {
            return;
        }
        let mut outcomes = std::mem::take(&mut self.queue);
        let mut settlements = Vec::with_capacity(outcomes.len());
        outcomes.retain(|(ticket, outcome)| {
            // A claim that was lost in the meantime is not there any more.
            let Some(held) = table.get_mut(*ticket) else { return false };
            if let Stage::Settling { sent, .. } = &mut held.stage {
                *sent = true;
            }
            settlements.push(Settlement { key: held.key.clone(), outcome: outcome.clone() });
            true
        });
        if outcomes.is_empty() {
            return;
        }
        let backend = backend.clone();
        let errand = Errand::send(async move { backend.settle(settlements).await });
        self.batches.push(Batch { outcomes, errand });
    }

    /// Waits for the first answer of the calls that are under way. May be
    /// dropped and called again before it came.
    pub(super) async fn answer(&mut self) -> Answer {
        poll_fn(|cx| {
            let ready = self.batches.iter_mut().enumerate().find_map(|(at, batch)| {
                match pin!(batch.errand.answer()).poll(cx) {
                    Poll::Ready(answer) => Some((at, answer)),
                    Poll::Pending => None,
                }
            });
            let Some((at, answer)) = ready else { return Poll::Pending };
            Poll::Ready(Answer { outcomes: self.batches.swap_remove(at).outcomes, answer })
        })
        .await
    }

    /// Takes the answer in; tells each ticket's fate. What failed for now
    /// stays here, and is tried again for as long as its claim lives.
    pub(super) fn answered(&mut self, answer: Answer, table: &mut Table) -> Vec<(u64, Settled)> {
        let Answer { outcomes, answer } = answer;
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
        for (ticket, outcome) in outcomes {
            let again = match answers.next() {
                Some(Ok(status)) => {
                    settled.push((ticket, Settled::Done(outcome, status)));
                    continue;
                }
                Some(Err(Error::LostClaim { .. } | Error::NotFound(_) | Error::Expired(_))) => {
                    settled.push((ticket, Settled::Lost));
                    continue;
                }
                Some(Err(
                    error @ (Error::TooLarge { .. } | Error::Invalid(_) | Error::InvalidJson { .. }),
                )) if matches!(outcome, Outcome::Success(_)) => {
                    Outcome::Fail(JobError::new(FailureKind::InvalidResult, error.to_string()))
                }
                Some(Err(error)) => {
                    failure = Some(error);
                    outcome
                }
                None => outcome,
            };
            if let Some(held) = table.get_mut(ticket)
                && let Stage::Settling { sent, .. } = &mut held.stage
            {
                *sent = false;
            }
            self.queue.push((ticket, again));
        }
        match failure {
            Some(error) => {
                self.not_before = self.outage.failed(&error);
                if let Some(patience) = self.patience {
                    self.hurry(patience);
                }
            }
            None => self.outage.over(),
        }
        settled
    }

    /// When there is something to do here.
    pub(super) fn moments(&self, moments: &mut Moments) {
        if self.batches.len() < self.at_once && !self.queue.is_empty() {
            moments.real(Some(self.not_before));
        }
    }
}
