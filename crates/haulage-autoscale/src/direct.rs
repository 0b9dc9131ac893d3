//! The desired count of a service that is set to what it requires, without
//! alarms and scaling policies in between.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    Invalid,
    observation::{Observation, Target},
};

/// The share of what the target leaves beside two jobs that a ripple may last.
const PATIENCE: f64 = 0.25;
/// But no longer than this, in seconds: ten minutes.
const LONGEST_PATIENCE: f64 = 600.0;
/// A backlog of more times the target than this is no ripple.
const RIPPLE: f64 = 1.5;

/// The fewest and the most tasks of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRange {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl TaskRange {
    /// Refuses a most of 0, and one below the fewest.
    pub fn new(min: u32, max: u32) -> Result<Self, Invalid> {
        let refused = |allowed| Err(Invalid { what: "the most tasks", allowed, value: f64::from(max) });
        match max {
            0 => refused("1 or more"),
            _ if min > max => refused("no fewer than the fewest"),
            _ => Ok(Self { min, max }),
        }
    }

    /// The fewest.
    pub const fn min(self) -> u32 {
        self.min
    }

    /// The most.
    pub const fn max(self) -> u32 {
        self.max
    }

    fn clamp(self, tasks: u64) -> u32 {
        u32::try_from(tasks).unwrap_or(u32::MAX).clamp(self.min, self.max)
    }
}

/// For how long tasks are kept that are not required: from half a minute to an
/// hour, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScaleInWindow(u32);

impl ScaleInWindow {
    /// Two minutes.
    pub const DEFAULT: Self = Self(120);
    /// The shortest.
    pub const LEAST: Self = Self(30);
    /// The longest.
    pub const MOST: Self = Self(3600);

    /// Refuses what is shorter or longer.
    pub fn new(seconds: u32) -> Result<Self, Invalid> {
        if (Self::LEAST.0..=Self::MOST.0).contains(&seconds) {
            return Ok(Self(seconds));
        }
        let (what, allowed) = ("the scale-in window in seconds", "from 30 to 3600");
        Err(Invalid { what, allowed, value: f64::from(seconds) })
    }

    /// The number of seconds.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// How many tasks were required, look by look. Moments are seconds of a clock
/// that does not go back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    looks: BTreeMap<u64, u64>,
}

impl History {
    /// Looks that are further apart than this say nothing of the time between
    /// them, in seconds: a look tells of a minute, as the counts of SQS may be
    /// that old.
    pub const LOOKS_APART: u64 = 90;

    /// Remembers a look. Of several at a moment the highest counts.
    pub fn record(&mut self, at: u64, required: u64) {
        let most = self.looks.entry(at).or_insert(required);
        *most = required.max(*most);
    }

    /// Forgets the looks before `at`.
    pub fn forget_before(&mut self, at: u64) {
        self.looks = self.looks.split_off(&at);
    }

    /// Whether it is known what was required from `from` to `until`: there was
    /// a look at the beginning or before it, and then one every minute and a
    /// half at least.
    pub fn covers(&self, from: u64, until: u64) -> bool {
        self.covering(from, until).is_some()
    }

    /// The most that was required from `from` to `until`, where that is known.
    fn most(&self, from: u64, until: u64) -> Option<u64> {
        let first = self.covering(from, until)?;
        self.looks.range(first..=until).map(|(_, required)| *required).max()
    }

    /// The fewest that were required from `from` to `until`, where that is known.
    fn fewest(&self, from: u64, until: u64) -> Option<u64> {
        self.covering(from, until)?;
        self.looks.range(from..=until).map(|(_, required)| *required).min()
    }

    /// Whether none of what is in flight at its last look, which is this observation, is
    /// work, where that [may be so](Observation::may_be_idle): as much was required for
    /// `window` seconds. A job that has just begun is not in what its task has published
    /// so far, but it was not in flight before, either.
    pub fn was_idle(&self, observation: &Observation, target: Target, window: u32) -> bool {
        let Some((now, _)) = self.looks.last_key_value() else { return false };
        let required = observation.metrics(target).required_tasks.get();
        let fewest = self.fewest(now.saturating_sub(window.into()), *now);
        fewest.is_some_and(|fewest| fewest >= required)
    }

    /// The look that tells of the beginning, unless a gap comes after it.
    fn covering(&self, from: u64, until: u64) -> Option<u64> {
        let (first, _) = self.looks.range(..=from).next_back()?;
        let looks = self.looks.range(first..=&until).map(|(at, _)| *at).chain([until]);
        looks.is_sorted_by(|before, after| after - before <= Self::LOOKS_APART).then_some(*first)
    }
}

/// How a service follows what it requires.
///
/// - **Out** at once, to what is required exactly. Only a ripple has to last a
///   while first: a backlog that the tasks which are there drain in one and a
///   half times the target. For how long, is a quarter of what the target
///   leaves beside two jobs, ten minutes at most. So nothing waits for a
///   target of two jobs or less, which leaves no time.
/// - **In** to the most that was required within the window, and not while a
///   deployment replaces tasks.
/// - Jobs that wait hidden hold tasks, as they may be in a slot or be due soon.
///   No longer once the slots have been without a job for ten minutes and for
///   the window, and as much was in flight all the time.
/// - Where looks are missing, nobody knows what was required in between: then
///   it goes out, and never in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The fewest and the most tasks.
    pub range: TaskRange,
    /// For how long tasks are kept that are not required.
    pub window: ScaleInWindow,
}

impl Direct {
    /// For how many seconds [`Self::desired`] has to know what was required;
    /// 0, where it changes nothing whatever was.
    pub fn looks_back(&self, observation: &Observation, target: Target) -> u64 {
        let (required, desired) = (self.required(observation, target), observation.service.desired);
        if required > desired {
            patience(observation, target)
        } else if required < desired && !observation.service.deploying {
            self.window.0.into()
        } else if observation.may_be_idle(self.range.min) {
            self.idle_window().into()
        } else {
            0
        }
    }

    /// The desired count to set at the moment of the last look of `history`,
    /// which is this observation. `None`, where it is to stay as it is.
    pub fn desired(&self, observation: &Observation, target: Target, history: &History) -> Option<u32> {
        let (now, _) = history.looks.last_key_value()?;
        let (required, desired) = (self.required(observation, target), observation.service.desired);
        let since = now.saturating_sub(self.looks_back(observation, target));
        let next = if required > desired {
            let lasting = history.fewest(since, *now).map_or(required, |fewest| self.range.clamp(fewest));
            lasting.max(desired)
        } else if required < desired && !observation.service.deploying {
            self.range.clamp(history.most(since, *now)?).min(desired)
        } else if observation.may_be_idle(self.range.min)
            && history.was_idle(observation, target, self.idle_window())
        {
            self.range.min
        } else {
            desired
        };
        (next != desired).then_some(next)
    }

    fn idle_window(&self) -> u32 {
        self.window.0.max(Observation::BUSY_KNOWN_AFTER)
    }

    fn required(&self, observation: &Observation, target: Target) -> u32 {
        let required = observation.metrics(target).required_tasks.get();
        // At zero, what is in flight are jobs that have just ended.
        let nothing_waits = observation.service.is_at_zero() && observation.queue.visible == 0;
        self.range.clamp(if nothing_waits { 0 } else { required })
    }
}

/// For how many seconds a ripple is to last before a task is started for it.
fn patience(observation: &Observation, target: Target) -> u64 {
    if observation.metrics(target).backlog_seconds.get() > RIPPLE * target.get() {
        return 0;
    }
    let left = target.get() - 2.0 * observation.job_time.get().get();
    (PATIENCE * left).clamp(0.0, LONGEST_PATIENCE) as u64
}
