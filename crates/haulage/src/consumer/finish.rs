//! When a consumer ends by itself.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tracing::info;

use super::{builder::Settings, deadlines::Deadlines};
use crate::{Backend, Queues, Result, backend::Signals, backend_call::BackendCall, retry::Outage};

/// How long to wait between having nothing to do and asking whether that is all:
/// the next job is mostly there sooner.
const PAUSE: Duration = Duration::from_millis(100);

/// Counts jobs towards the most that there may be, and looks whether any is left.
#[derive(Debug)]
pub(super) struct Finish {
    until_empty: bool,
    queues: Queues,
    max_jobs: Option<u64>,
    /// Jobs that have ended here, those that were given back not among them.
    ended: u64,
    /// Signals of jobs that ended elsewhere, perhaps the last.
    outcomes: Option<watch::Receiver<u64>>,
    /// Whether the consumer holds no job.
    idle: bool,
    look_at: Option<Instant>,
    /// Brings what is left.
    look: Option<BackendCall<Left>>,
    /// Whether it was said that paused queues hold up the end.
    told: bool,
    outage: Outage,
    empty: bool,
}

/// What is left of the queues that are served.
#[derive(Debug)]
struct Left {
    /// How many jobs wait or run.
    jobs: u64,
    /// Where all of them are in paused queues: those.
    held_up_by: Vec<String>,
}

impl Finish {
    pub(super) fn new(settings: &Settings, signals: Signals) -> Self {
        Self {
            until_empty: settings.until_empty,
            queues: settings.queues.clone(),
            max_jobs: settings.max_jobs,
            ended: 0,
            outcomes: signals.outcomes.filter(|_| settings.until_empty),
            idle: false,
            look_at: None,
            look: None,
            told: false,
            outage: Outage::new("look whether any job is left"),
            empty: false,
        }
    }

    /// A job has ended, and was not given back.
    pub(super) const fn ended(&mut self) {
        self.ended += 1;
    }

    /// The room that is left where `held` jobs are here already.
    pub(super) fn limit(&self, room: usize, held: usize) -> usize {
        let Some(max) = self.max_jobs else { return room };
        let left = max.saturating_sub(self.ended).saturating_sub(held as u64);
        usize::try_from(left).map_or(room, |left| room.min(left))
    }

    /// Whether the end has come.
    pub(super) fn is_reached(&self) -> bool {
        self.empty || self.max_jobs.is_some_and(|max| self.ended >= max)
    }

    /// Says why it ends.
    pub(super) fn log(&self) {
        if self.empty {
            info!("no job waits or runs any more: the worker ends");
        } else {
            info!(jobs = self.ended, "the worker has run as many jobs as it was to: it ends");
        }
    }

    /// Looks whether any job is left, where it is time to.
    pub(super) fn advance(&mut self, idle: bool, backend: &Arc<dyn Backend>) {
        if !self.until_empty {
            return;
        }
        let was_idle = std::mem::replace(&mut self.idle, idle);
        if !idle {
            self.look_at = None;
            return;
        }
        // A backend that signals answers such questions at no cost; from another,
        // a claim has to come back empty first.
        if !was_idle && self.outcomes.is_some() {
            self.look_soon();
        }
        if self.look.is_none() && self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_at = None;
            self.outage.begin();
            let (backend, queues) = (backend.clone(), self.queues.clone());
            self.look = Some(BackendCall::send(async move {
                if !backend.capabilities().cheap_looks {
                    // Every record is read only once the queue says that there is nothing.
                    let backlog = backend.backlog().await?;
                    let jobs = backlog.unfinished_in(&queues);
                    if jobs > 0 {
                        let held_up_by = backlog.held_up_by(&queues);
                        let held_up_by = held_up_by.into_iter().map(ToString::to_string).collect();
                        return Ok(Left { jobs, held_up_by });
                    }
                }
                let stats = backend.stats().await?;
                let jobs = stats.unfinished_in(&queues);
                let held_up_by = stats.held_up_by(&queues).into_iter().map(ToString::to_string).collect();
                Ok(Left { jobs, held_up_by })
            }));
        }
    }

    /// There may be no job left: a claim has brought nothing, or a job has ended.
    pub(super) fn look_soon(&mut self) {
        if self.until_empty && self.idle {
            self.look_at.get_or_insert_with(|| Instant::now() + PAUSE);
        }
    }

    /// Waits for something to happen, and takes it in. May be dropped and called
    /// again.
    pub(super) async fn signal(&mut self) {
        let look = async {
            match &mut self.look {
                Some(look) => look.answer().await,
                None => std::future::pending().await,
            }
        };
        let outcome = async {
            match &mut self.outcomes {
                Some(outcomes) if self.idle => outcomes.changed().await.is_ok(),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = look => self.answered(answer),
            changed = outcome => {
                if changed {
                    self.look_soon();
                } else {
                    // The backend is being dropped, or it signals no more.
                    self.outcomes = None;
                }
            }
        }
    }

    fn answered(&mut self, answer: Result<Left>) {
        self.look = None;
        match answer {
            Ok(Left { jobs, held_up_by }) => {
                self.outage.over();
                self.empty = self.idle && jobs == 0;
                if self.idle && !held_up_by.is_empty() && !std::mem::replace(&mut self.told, true) {
                    let queues = held_up_by.join(", ");
                    info!(jobs, %queues, "all that is left waits in paused queues: the worker waits for them");
                }
            }
            Err(error) => self.look_at = Some(self.outage.failed(&error)),
        }
    }

    /// When there is something to do here.
    pub(super) fn deadlines(&self, deadlines: &mut Deadlines) {
        if self.look.is_none() {
            deadlines.real(self.look_at);
        }
    }
}

#[cfg(test)]
mod tests;
