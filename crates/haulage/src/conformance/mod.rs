//! The suite that every backend passes: one file a verb, over [`Backend`].
//!
//! Describe your backend as a [`Subject`] and let the suite [`run`]:
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! use haulage::{Backend, Clock, Timestamp, conformance, memory::MemoryBackend};
//!
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl conformance::Subject for Memory {
//!     async fn fresh(&self) -> Arc<dyn Backend> {
//!         Arc::new(MemoryBackend::with_clock(Clock::manual(Timestamp::from_micros(0))))
//!     }
//!
//!     fn tick(&self) -> Duration {
//!         Duration::from_secs(1)
//!     }
//!
//!     async fn pass(&self, backend: &dyn Backend, by: Duration) {
//!         backend.clock().advance(by);
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! conformance::run(&Memory).await.assert_ok();
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What a backend declares that it cannot do is skipped, counted and printed.
//! Then hold the backend against the plain model of one: [`run_model`].

mod attempts;
mod cancel;
mod checkpoint;
mod claim;
mod fencing;
mod get;
mod groups;
mod heartbeat;
mod idempotency;
mod list;
mod model;
mod payloads;
mod purge;
mod queues;
mod races;
mod redrive;
mod report;
mod settle;
mod start_within;
mod stats;
mod submit;
mod suspects;
mod terminal;
mod trial;
mod unready;
mod waiting;
mod webhook_progress;
mod webhooks;

use std::{fmt, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, stream};

use self::trial::Trial;
pub use self::{model::run_model, queues::NAMES as QUEUES, report::Report};
use crate::Backend;

/// A backend on trial.
#[async_trait]
pub trait Subject: Send + Sync {
    /// An empty backend, which nobody else uses.
    async fn fresh(&self) -> Arc<dyn Backend>;

    /// The time in which the suite thinks: leases and delays are a few ticks
    /// long. 1 s on a manual clock; on a real one, well over the time that a
    /// call takes.
    fn tick(&self) -> Duration;

    /// Lets time pass, by the backend's own clock.
    async fn pass(&self, backend: &dyn Backend, by: Duration);

    /// The longest time that [`Subject::pass`] can let pass; cases that need
    /// more are skipped. Default: any. A backend on a real clock says minutes.
    fn longest_pass(&self) -> Duration {
        Duration::MAX
    }

    /// How many cases run side by side, each on a backend of its own. Default:
    /// 1. On a real clock most of their time is waiting.
    fn at_once(&self) -> usize {
        1
    }

    /// How long, in real time, an answer may take before the suite takes it
    /// that there is none. Default: a minute, since machines are slow at times.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

type Run = for<'a> fn(&'a Trial<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is tested: the file, and the rule.
    pub name: &'static str,
    /// The promises that it is about, by number, as in [`PROMISES`].
    pub promises: &'static [u8],
    needs: fn(&dyn Backend) -> Option<&'static str>,
    lasts: Duration,
    run: Run,
}

/// What every backend promises, as far as it can be seen through [`Backend`].
/// The number is the place, from 1.
pub const PROMISES: [&str; 11] = [
    "an acknowledged submit is never lost",
    "a job has exactly one outcome, and a terminal record never changes",
    "only the holder of the current attempt settles",
    "status only moves along the arrows",
    "a job with a live lease is not claimed again; its holder keeps it until another has it, and is told then",
    "attempts are bounded, and a crash counts as one",
    "retries wait",
    "groups run in order, one job at a time",
    "an idempotency key finds the first job until its window and its job are over; another body is told",
    "every JSON value round-trips exactly",
    "expired records read as expired at once",
];

impl Case {
    const fn new(name: &'static str, promises: &'static [u8], run: Run) -> Self {
        Self { name, promises, needs: |_| None, lasts: Duration::ZERO, run }
    }

    /// The case is skipped where `needs` gives a reason.
    const fn needs(self, needs: fn(&dyn Backend) -> Option<&'static str>) -> Self {
        Self { needs, ..self }
    }

    /// The case lets so much time pass, whatever the tick.
    const fn lasts(self, lasts: Duration) -> Self {
        Self { lasts, ..self }
    }

    /// Why the case cannot be run on this backend.
    fn reason_to_skip(&self, subject: &dyn Subject, backend: &dyn Backend) -> Option<&'static str> {
        if self.lasts > subject.longest_pass() {
            return Some("takes longer than this clock can let pass");
        }
        (self.needs)(backend)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("promises", &self.promises).finish()
    }
}

/// Every case of the suite.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        submit::CASES,
        claim::CASES,
        suspects::CASES,
        waiting::CASES,
        heartbeat::CASES,
        checkpoint::CASES,
        start_within::CASES,
        attempts::CASES,
        settle::CASES,
        fencing::CASES,
        terminal::CASES,
        get::CASES,
        cancel::CASES,
        list::CASES,
        redrive::CASES,
        purge::CASES,
        stats::CASES,
        groups::CASES,
        queues::CASES,
        idempotency::CASES,
        payloads::CASES,
        unready::CASES,
        webhook_progress::CASES,
        webhooks::CASES,
        races::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Runs every case, each on a fresh backend, and prints those that fail.
///
/// On a runtime with several threads, the cases about races race for real.
pub async fn run(subject: &dyn Subject) -> Report {
    let mut report = Report::default();
    // A panic ends the case, not the suite.
    let run = |case: &'static Case| async move {
        (case, AssertUnwindSafe(run_case(case, subject)).catch_unwind().await)
    };
    let mut outcomes = stream::iter(cases()).map(run).buffer_unordered(subject.at_once().max(1));
    while let Some((case, outcome)) = outcomes.next().await {
        match outcome {
            Ok(None) => report.passed.push(case.name),
            Ok(Some(reason)) => report.skipped.push((case.name, reason)),
            Err(panic) => report.fail(case.name, crate::panic::message(&*panic)),
        }
    }
    report
}

/// Runs one case, or tells why it is skipped.
///
/// # Panics
///
/// If it fails.
pub async fn run_case(case: &Case, subject: &dyn Subject) -> Option<&'static str> {
    let backend = subject.fresh().await;
    let reason = case.reason_to_skip(subject, &*backend);
    if reason.is_none() {
        let trial = Trial::new(subject, backend);
        let limit = subject.patience().saturating_mul(12);
        assert!(tokio::time::timeout(limit, (case.run)(&trial)).await.is_ok(), "no end after {limit:?}");
    }
    reason
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_promise_has_a_case() {
        for number in 1..=PROMISES.len() {
            let of_it = cases().filter(|case| case.promises.iter().any(|p| usize::from(*p) == number));
            assert_ne!(of_it.count(), 0, "no case for promise {number}");
        }
    }

    #[test]
    fn every_case_has_a_name_and_a_promise_of_its_own() {
        let mut names = HashSet::new();
        for case in cases() {
            assert!(names.insert(case.name), "{} twice", case.name);
            assert!(!case.promises.is_empty(), "{}", case.name);
            let known = 1..=PROMISES.len();
            assert!(case.promises.iter().all(|p| known.contains(&usize::from(*p))), "{}", case.name);
        }
    }
}
