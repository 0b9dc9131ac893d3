//! Gathers claimed jobs for the next call of the handler.

use std::{collections::VecDeque, time::Duration};

/// The jobs that are claimed and wait for their batch to fill. Without
/// batches, a batch is one job.
#[derive(Debug)]
pub(super) struct Collector {
    max_size: usize,
    timeout: Duration,
    /// With the moment of their arrival, by [`Clock::monotonic`](crate::Clock::monotonic).
    waiting: VecDeque<(u64, Duration)>,
}

impl Collector {
    pub(super) fn new(max_size: usize, timeout: Duration) -> Self {
        Self { max_size, timeout, waiting: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, ticket: u64, now: Duration) {
        self.waiting.push_back((ticket, now));
    }

    pub(super) fn remove(&mut self, ticket: u64) {
        self.waiting.retain(|(t, _)| *t != ticket);
    }

    /// Everything that waits, for a consumer that stops.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        self.waiting.drain(..).map(|(ticket, _)| ticket).collect()
    }

    /// What waits behind the first so many.
    pub(super) fn beyond(&mut self, count: usize) -> Vec<u64> {
        self.waiting.drain(count.min(self.waiting.len())..).map(|(ticket, _)| ticket).collect()
    }

    /// A batch that is full, or whose first job has waited for long enough.
    pub(super) fn take(&mut self, now: Duration) -> Option<Vec<u64>> {
        if self.waiting.len() < self.max_size && self.due()? > now {
            return None;
        }
        let size = self.waiting.len().min(self.max_size);
        (size > 0).then(|| self.waiting.drain(..size).map(|(ticket, _)| ticket).collect())
    }

    /// When the batch that is being gathered is called, full or not.
    pub(super) fn due(&self) -> Option<Duration> {
        self.waiting.front().map(|(_, since)| since.saturating_add(self.timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_batch_goes_at_once_and_the_rest_waits_from_its_own_arrival() {
        let mut collector = Collector::new(3, Duration::from_secs(10));
        assert_eq!(collector.take(at(100)), None);
        for (ticket, now) in [(1, 0), (2, 0), (3, 5), (4, 5)] {
            collector.push(ticket, at(now));
        }
        assert_eq!(collector.take(at(5)), Some(vec![1, 2, 3]));
        assert_eq!(collector.due(), Some(at(15)));
        assert_eq!(collector.take(at(14)), None);
        assert_eq!(collector.take(at(15)), Some(vec![4]));
        assert_eq!((collector.len(), collector.due()), (0, None));
    }

    #[test]
    fn without_a_timeout_a_batch_is_what_is_there() {
        let mut collector = Collector::new(3, Duration::ZERO);
        collector.push(1, at(0));
        collector.push(2, at(0));
        collector.remove(1);
        assert_eq!(collector.take(at(0)), Some(vec![2]));
    }
}
