//! Whether what handlers need is there. While it is not, no jobs are claimed.
//!
//! What fails before a job was handed over says nothing about the job: a
//! server that is down, a program that is missing. Such a job is given back,
//! and the consumer waits, longer each time. Then it asks the probe, if it has
//! one, and tries one job; once that has got through, it takes jobs as before.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::{info, warn};

use super::deadlines::Deadlines;
use crate::{Clock, metrics::WorkerState, panic};

/// The wait after a first job that came back, and the longest. Half of it is
/// certain, the rest is random, so that workers do not come back together.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The same between questions to the probe, which costs no job.
const FIRST_PROBE_WAIT: Duration = Duration::from_millis(250);
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(5);
/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// A job that has run for so long has been handed over: connections are given
/// up earlier. A trial for which there has been no job for so long says nothing.
const TRIAL_LIMIT: Duration = Duration::from_secs(15);

/// An outage that begins so soon after another is not news to a log: a server
/// that takes fewer jobs at once than it is given turns some down all the time.
const APART: Duration = Duration::from_secs(60);

/// Asks whether handlers would find what they need; else, says why not.
pub(super) type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// All deadlines are by [`Clock::monotonic`].
pub(super) struct Readiness {
    probe: Option<Probe>,
    runtime: Handle,
    stage: Stage,
    /// Why it is, or was last, not ready.
    reason: Option<Arc<str>>,
    /// Jobs that came back in a row, but for those of one moment.
    failures: u32,
    outage: Option<Outage>,
    /// The end of the last one, and how many in a row began soon after another.
    last: Option<(Duration, u32)>,
    outages: u64,
}

/// A time in which it was not ready.
struct Outage {
    since: Duration,
    /// How many tries have failed.
    tries: u32,
    in_a_row: u32,
}

impl Outage {
    /// Whether the log is told of it: of the first, and then of fewer and fewer.
    const fn is_told(&self) -> bool {
        self.in_a_row.is_power_of_two()
    }
}

enum Stage {
    Ready,
    Waiting {
        until: Duration,
        probes: u32,
    },
    Probing {
        until: Duration,
        probes: u32,
        answer: JoinHandle<Result<(), String>>,
    },
    /// One job is to show whether others would get through. `since`: when it was
    /// claimed, or the trial began. `trusted`: the probe says so, or there has
    /// been no job for a while, and nothing that speaks against it.
    Trial {
        job: Option<u64>,
        since: Duration,
        trusted: bool,
    },
}

impl Readiness {
    /// With a probe, not ready before it says so.
    pub(super) fn new(probe: Option<Probe>, runtime: Handle) -> Self {
        let stage = match &probe {
            Some(_) => Stage::Waiting { until: Duration::ZERO, probes: 0 },
            None => Stage::Ready,
        };
        Self { probe, runtime, stage, reason: None, failures: 0, outage: None, last: None, outages: 0 }
    }

    /// How many jobs may be taken in, where there is room for so many.
    pub(super) fn limit(&self, room: usize) -> usize {
        match self.stage {
            Stage::Ready => room,
            Stage::Trial { job: None, .. } => room.min(1),
            Stage::Waiting { .. } | Stage::Probing { .. } | Stage::Trial { .. } => 0,
        }
    }

    /// What there is to say where it is not ready.
    pub(super) fn state(&self) -> Option<WorkerState> {
        match self.stage {
            Stage::Ready | Stage::Trial { trusted: true, .. } => None,
            _ if self.reason.is_none() => Some(WorkerState::Starting),
            _ => Some(WorkerState::NotReady),
        }
    }

    /// Why it is not ready.
    pub(super) fn reason(&self) -> Option<&Arc<str>> {
        self.reason.as_ref().filter(|_| self.state().is_some())
    }

    /// Since when it is not ready, or would not be but for a job that is to show it.
    pub(super) fn since(&self) -> Option<Duration> {
        self.outage.as_ref().map(|outage| outage.since)
    }

    /// How often it has not been, the present time included.
    pub(super) const fn outages(&self) -> u64 {
        self.outages
    }

    /// A job was claimed.
    pub(super) fn admitted(&mut self, ticket: u64, now: Duration) {
        if let Stage::Trial { job: job @ None, since, .. } = &mut self.stage {
            (*job, *since) = (Some(ticket), now);
        }
    }

    /// A job came back, as what it needs is not there. `true` where that is
    /// news: no more jobs are wanted from here on.
    pub(super) fn failed(&mut self, ticket: u64, reason: &str, now: Duration) -> bool {
        let news = match self.stage {
            Stage::Ready => true,
            Stage::Trial { job: Some(job), .. } => job == ticket,
            Stage::Waiting { .. } | Stage::Probing { .. } | Stage::Trial { .. } => false,
        };
        if news {
            self.failures = self.failures.saturating_add(1);
            let most = doubled(FIRST_WAIT, self.failures - 1, LONGEST_WAIT);
            self.wait(reason, now + jittered(most), 0, now);
        }
        news
    }

    /// A job has been handed over.
    pub(super) fn worked(&mut self, ticket: u64, now: Duration) {
        match &mut self.stage {
            Stage::Ready => self.failures = 0,
            Stage::Trial { job: Some(job), .. } if *job == ticket => {
                self.failures = 0;
                self.ready(now);
            }
            // It may have begun before; but that is a reason to look.
            Stage::Waiting { until, .. } => *until = now,
            Stage::Probing { .. } | Stage::Trial { .. } => {}
        }
    }

    /// A job has ended in a way that shows nothing.
    pub(super) fn ended(&mut self, ticket: u64) {
        if let Stage::Trial { job, .. } = &mut self.stage
            && *job == Some(ticket)
        {
            *job = None;
        }
    }

    /// Does what is due.
    pub(super) fn advance(&mut self, now: Duration) {
        match &self.stage {
            Stage::Waiting { until, probes } if *until <= now => {
                self.stage = match &self.probe {
                    Some(probe) => Stage::Probing {
                        until: now + PROBE_LIMIT,
                        probes: *probes,
                        answer: self.runtime.spawn(probe()),
                    },
                    None => Stage::Trial { job: None, since: now, trusted: false },
                };
            }
            Stage::Probing { until, answer, .. } if *until <= now => {
                answer.abort();
                self.answered(Err(format!("the readiness probe has taken longer than {PROBE_LIMIT:?}")), now);
            }
            Stage::Trial { job: Some(_), since, .. } if *since + TRIAL_LIMIT <= now => self.ready(now),
            Stage::Trial { job: None, since, trusted: false } if *since + TRIAL_LIMIT <= now => {
                self.stage = Stage::Trial { job: None, since: now, trusted: true };
            }
            _ => {}
        }
    }

    /// Waits for the probe that is under way. May be dropped and called again.
    pub(super) async fn answer(&mut self) -> Result<(), String> {
        let Stage::Probing { answer, .. } = &mut self.stage else { return std::future::pending().await };
        answer.await.unwrap_or_else(|error| {
            Err(match error.try_into_panic() {
                Ok(panic) => format!("the readiness probe panicked: {}", panic::message(&*panic)),
                Err(_) => "the readiness probe was dropped".to_owned(),
            })
        })
    }

    /// Takes the answer in.
    pub(super) fn answered(&mut self, answer: Result<(), String>, now: Duration) {
        let Stage::Probing { probes, .. } = self.stage else { return };
        match answer {
            Ok(()) if self.failures == 0 => self.ready(now),
            Ok(()) => self.stage = Stage::Trial { job: None, since: now, trusted: true },
            Err(reason) => {
                let most = doubled(FIRST_PROBE_WAIT, probes, LONGEST_PROBE_WAIT);
                self.wait(&reason, now + jittered(most), probes.saturating_add(1), now);
            }
        }
    }

    /// When there is something to do here.
    pub(super) fn deadlines(&self, clock: &Clock, deadlines: &mut Deadlines) {
        let due = match &self.stage {
            Stage::Ready => return,
            Stage::Waiting { until, .. } | Stage::Probing { until, .. } => *until,
            Stage::Trial { job: None, trusted: true, .. } => return,
            Stage::Trial { since, .. } => *since + TRIAL_LIMIT,
        };
        deadlines.monotonic(Some(due), clock);
    }

    fn wait(&mut self, reason: &str, until: Duration, probes: u32, now: Duration) {
        let reason = in_one_line(reason);
        let outage = self.outage.get_or_insert_with(|| {
            self.outages += 1;
            let before = self.last.filter(|(end, _)| now.saturating_sub(*end) < APART);
            Outage { since: now, tries: 0, in_a_row: before.map_or(1, |(_, count)| count.saturating_add(1)) }
        });
        outage.tries = outage.tries.saturating_add(1);
        match outage.tries {
            1 if outage.is_told() => {
                let in_a_row = (outage.in_a_row > 1).then_some(outage.in_a_row);
                warn!(%reason, in_a_row, "not ready: no jobs are claimed until it is");
            }
            2.. if outage.tries.is_power_of_two() => {
                warn!(%reason, tries = outage.tries, "still not ready");
            }
            _ => {}
        }
        self.reason = Some(reason.into());
        self.stage = Stage::Waiting { until, probes };
    }

    fn ready(&mut self, now: Duration) {
        self.stage = Stage::Ready;
        if let Some(outage) = self.outage.take() {
            self.last = Some((now, outage.in_a_row));
            if outage.is_told() {
                info!(after = ?now.saturating_sub(outage.since), tries = outage.tries, "ready again");
            }
        }
    }
}

/// The first line and the last, which are what a traceback has to say.
fn in_one_line(reason: &str) -> String {
    let mut lines = reason.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first} … {last}"),
        None => first.to_owned(),
    }
}

/// `first`, doubled so many times, at most `longest`.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

/// Between half of this and all of it.
fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + fastrand::f64() / 2.0)
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("failures", &self.failures).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
