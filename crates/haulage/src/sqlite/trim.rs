//! When to empty a log that has become long.
//!
//! Readers that overlap for ever keep SQLite from starting the log over, and
//! it grows. Once it is long, the writer waits for them, briefly and not often,
//! since all calls wait with it.

use std::time::{Duration, Instant};

use super::space::CHECKPOINT_PAGES;

/// How many bytes a log may have before its readers are waited for: four times
/// as many as where SQLite begins to empty it.
const LONG: u64 = 4 * 4096 * CHECKPOINT_PAGES as u64;
/// How often the length of the log is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is tried to empty a log that is too long, where its readers do
/// not let it; sooner where it has doubled.
const TRY_EVERY: Duration = Duration::from_secs(30);
/// How long its readers are waited for.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Trim {
    next_look: Instant,
    /// When to try again after a try, and how long a log does not wait for that.
    tried: Option<(Instant, u64)>,
}

impl Trim {
    pub(super) fn new(now: Instant) -> Self {
        Self { next_look: now, tried: None }
    }

    /// Whether to try to empty the log now; `length` looks how long it is.
    pub(super) fn is_due(&mut self, now: Instant, length: impl FnOnce() -> u64) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOOK_EVERY;
        let length = length();
        let waits = self.tried.is_some_and(|(again, doubled)| now < again && length < doubled);
        if length < LONG || waits {
            return false;
        }
        self.tried = Some((now + TRY_EVERY, 2 * length));
        true
    }

    /// It is empty: the next one that is long is tried at once.
    pub(super) fn emptied(&mut self) {
        self.tried = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The moments, in seconds, at which it is tried to empty a log that is so
    /// many MiB long at each moment, and whose readers do not let it.
    fn tries(lengths: impl IntoIterator<Item = (u64, u64)>) -> Vec<u64> {
        let start = Instant::now();
        let mut trim = Trim::new(start);
        let is_due =
            |(second, mib): &(u64, u64)| trim.is_due(start + Duration::from_secs(*second), || mib << 20);
        lengths.into_iter().filter(is_due).map(|(second, _)| second).collect()
    }

    #[test]
    fn only_a_log_that_is_long_has_its_readers_waited_for() {
        assert!(tries((0..90).map(|second| (second, 120))).is_empty());
        assert_eq!(tries([(0, 130)]), [0]);
    }

    #[test]
    fn readers_that_stay_are_waited_for_each_half_minute_or_when_the_log_has_doubled() {
        assert_eq!(tries((0..90).map(|second| (second, 200))), [0, 30, 60]);
        assert_eq!(tries([(0, 200), (1, 399), (2, 400), (3, 799), (32, 500)]), [0, 2, 32]);
    }

    #[test]
    fn a_log_that_was_emptied_and_is_long_again_is_emptied_again() {
        let start = Instant::now();
        let mut trim = Trim::new(start);
        assert!(trim.is_due(start, || LONG));
        trim.emptied();
        assert!(trim.is_due(start + LOOK_EVERY, || LONG));
    }

    #[test]
    fn a_busy_writer_does_not_look_at_the_log_with_each_transaction() {
        let start = Instant::now();
        let mut trim = Trim::new(start);
        assert!(!trim.is_due(start, || 0));
        // It has just been looked at.
        assert!(!trim.is_due(start + LOOK_EVERY / 2, || LONG));
        assert!(trim.is_due(start + LOOK_EVERY, || LONG));
    }
}
