//! The Lambda that sets the desired count at each of its looks.
//!
//! It looks, decides and calls ECS within a second. What it saw in earlier
//! minutes it reads from its own metrics, which can be read 5 s after they were
//! put; it looks every 10 s at most, so it knows all of them.

use super::{Setup, view::View};
use crate::{Direct, Estimate, History, JobSeconds, ScaleInWindow, Target};

/// Seconds between decisions, and what they rest on.
#[derive(Debug)]
pub(crate) struct Scaler {
    direct: Direct,
    target: Target,
    configured: Estimate,
    setup: Setup,
    every: u32,
    history: History,
}

impl Scaler {
    pub(crate) fn new(
        direct: Direct,
        target: Target,
        setup: &Setup,
        job_seconds: JobSeconds,
        every: u32,
    ) -> Self {
        let configured = Estimate::configured(job_seconds);
        Self { direct, target, configured, setup: *setup, every, history: History::default() }
    }

    pub(crate) fn least(&self) -> u32 {
        self.direct.range.min
    }

    /// The desired tasks after this second.
    pub(crate) fn tick(&mut self, now: u32, view: &View) -> u32 {
        let offset = self.setup.sample_offset;
        if now < offset || !(now - offset).is_multiple_of(self.every) {
            return view.service.desired;
        }
        let observation = view.observed(&self.setup, self.configured);
        let now = u64::from(now);
        self.history.forget_before(now.saturating_sub(2 * u64::from(ScaleInWindow::MOST.get())));
        self.history.record(now, observation.metrics(self.target).required_tasks.get());
        let next = self.direct.desired(&observation, self.target, &self.history);
        next.unwrap_or(view.service.desired)
    }
}
