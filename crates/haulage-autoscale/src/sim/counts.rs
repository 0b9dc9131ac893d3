//! What is known of queue and tasks, and how late.

use std::collections::VecDeque;

use super::{cloudwatch::PERIOD, ecs::Done};
use crate::{BUSY_OVER, BusySlots, MEASURED_OVER, QueueDepth};

/// The mean of the jobs that ended lately, and their number.
#[derive(Default)]
pub(crate) struct Measured {
    /// The first of them.
    first: usize,
    /// How many of `done` are in the sum.
    summed: usize,
    sum: f64,
}

impl Measured {
    pub(crate) fn look(&mut self, done: &[Done], now: f64) -> (f64, u64) {
        for job in &done[self.summed..] {
            self.sum += job.seconds;
        }
        self.summed = done.len();
        // They are in order of when they were noticed, which is close enough.
        while let Some(job) = done.get(self.first).filter(|job| job.at <= now - MEASURED_OVER) {
            self.sum -= job.seconds;
            self.first += 1;
        }
        let number = self.summed - self.first;
        (self.sum / number.max(1) as f64, number as u64)
    }
}

/// The busy slots of a task, minute by minute; tasks that do not run publish
/// none. A log line takes the better part of a minute to be a metric, so the
/// latest is not known yet.
#[derive(Default)]
pub(crate) struct Busy {
    minutes: VecDeque<Option<f64>>,
}

impl Busy {
    const MINUTES: usize = BUSY_OVER as usize / PERIOD as usize;

    pub(crate) fn publish(&mut self, busy: u64, running: u32) {
        self.minutes.push_back((running > 0).then(|| busy as f64 / f64::from(running.max(1))));
        if self.minutes.len() > Self::MINUTES + 1 {
            self.minutes.pop_front();
        }
    }

    pub(crate) fn look(&self) -> Option<BusySlots> {
        let known = self.minutes.iter().rev().skip(1).flatten().copied();
        known.reduce(f64::max).and_then(|busy| BusySlots::new(busy).ok())
    }
}

/// Counts as they were some seconds ago.
pub(crate) struct Lagging {
    past: VecDeque<QueueDepth>,
}

impl Lagging {
    pub(crate) fn new(lag: u32) -> Self {
        // Before the start the queue was empty.
        Self { past: vec![QueueDepth::default(); lag as usize].into() }
    }

    pub(crate) fn pass(&mut self, depth: QueueDepth) -> QueueDepth {
        self.past.push_back(depth);
        self.past.pop_front().unwrap_or(depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_of_the_ten_minutes_before_the_last() {
        let mut busy = Busy::default();
        let look = |busy: &Busy| busy.look().map(BusySlots::get);
        busy.publish(3, 2);
        assert_eq!(look(&busy), None, "it is not known yet");
        busy.publish(0, 2);
        assert_eq!(look(&busy), Some(1.5));
        for _ in 0..9 {
            busy.publish(0, 0);
        }
        assert_eq!(look(&busy), Some(1.5));
        busy.publish(0, 0);
        assert_eq!(look(&busy), Some(0.0));
        busy.publish(0, 0);
        assert_eq!(look(&busy), None);
    }
}
