//! How long to wait before trying again.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::{Error, with_causes};

/// How long a failed job waits for its next attempt: exponential backoff with
/// full jitter, capped.
///
/// The n-th failure waits a random time between nothing and
/// `base × 2^(n-1)`, at most `cap`. Jitter over the full range is what keeps
/// jobs that failed together from coming back together (AWS Architecture Blog,
/// "Exponential Backoff And Jitter").
///
/// A handler that knows better names its own delay, with
/// [`Failure::retry_after`](crate::Failure::retry_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest wait after the first failure. Default: 1 s.
    pub base: Duration,
    /// The longest wait after any. Default: 5 min.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(300) }
    }
}

impl RetryPolicy {
    /// Try again at once, always.
    pub const fn immediate() -> Self {
        Self { base: Duration::ZERO, cap: Duration::ZERO }
    }

    /// A random delay before the attempt that follows this many failures (1, 2, …).
    pub fn delay(&self, failures: u32) -> Duration {
        let most = self.base.saturating_mul(2_u32.saturating_pow(failures.max(1) - 1)).min(self.cap);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(fastrand::u64(0..=micros))
    }
}

/// How long to wait after a call to the backend has failed so many times in a row.
pub(crate) fn backoff(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);
    FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST)
}

/// Keeps track of calls to the backend that fail in a row: how long to wait
/// before the next, and a log line for the first and for the end.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    failures: u32,
    since: Option<Instant>,
    answered: Instant,
}

impl Outage {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, failures: 0, since: None, answered: Instant::now() }
    }

    /// Whether the last call failed.
    pub(crate) const fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// How many calls have failed since one last worked.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// From when on an answer may be expected: the last one, or the last call.
    pub(crate) const fn answered(&self) -> Instant {
        self.answered
    }

    /// A call is made: an answer may be expected from now on.
    pub(crate) fn begin(&mut self) {
        self.answered = Instant::now();
    }

    /// Nothing is left to call for, so nobody will know when it is over.
    pub(crate) const fn forget(&mut self) {
        self.since = None;
        self.failures = 0;
    }

    /// Notes a failed call; the answer is the moment for the next.
    pub(crate) fn failed(&mut self, error: &Error) -> Instant {
        let now = Instant::now();
        if self.since.is_none() {
            self.since = Some(now);
            warn!(error = %with_causes(error), "cannot {}; trying on", self.what);
        }
        self.failures = self.failures.saturating_add(1);
        now + backoff(self.failures)
    }

    /// Notes a call that worked.
    pub(crate) fn over(&mut self) {
        self.answered = Instant::now();
        if let Some(since) = self.since.take() {
            info!(after = ?since.elapsed(), attempts = self.failures, "can {} again", self.what);
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_cap() {
        let policy = RetryPolicy { base: Duration::from_secs(1), cap: Duration::from_secs(10) };
        for failures in 0..100 {
            let most = Duration::from_secs(10.min(1 << failures.clamp(1, 20) >> 1));
            let longest = (0..200).map(|_| policy.delay(failures)).max().expect("200 of them");
            assert!(longest <= most, "{failures}: {longest:?}");
            assert!(longest > most / 2, "full jitter reaches up: {failures}: {longest:?}");
        }
        assert_eq!(RetryPolicy::immediate().delay(7), Duration::ZERO);
        let forever = RetryPolicy { base: Duration::MAX, cap: Duration::MAX };
        let _ = forever.delay(u32::MAX);
    }

    #[test]
    fn jobs_that_failed_together_come_back_spread_over_the_whole_delay() {
        let policy = RetryPolicy { base: Duration::from_secs(8), cap: Duration::from_secs(8) };
        let mut quarters = [0; 4];
        for _ in 0..1_000 {
            let quarter = policy.delay(1).as_millis() / 2_000;
            quarters[usize::try_from(quarter.min(3)).expect("small")] += 1;
        }
        // 250 each are expected; fewer than 150 are seven standard deviations away.
        assert!(quarters.iter().all(|count| *count > 150), "{quarters:?}");
    }

    #[test]
    fn calls_that_fail_wait_longer_each_time_until_one_works() {
        let error = Error::unavailable("cannot write", std::io::Error::other("disk full"));
        let mut outage = Outage::new("write");
        let end: [fn(&mut Outage); 2] = [Outage::over, Outage::forget];
        for end in end {
            assert!(!outage.is_on());
            for (failures, millis) in (1..).zip([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]) {
                let (wait, before) = (Duration::from_millis(millis), Instant::now());
                let next = outage.failed(&error);
                assert!(before + wait <= next && next <= Instant::now() + wait, "{failures}");
                assert_eq!((outage.is_on(), outage.failures()), (true, failures));
            }
            end(&mut outage);
            assert_eq!((outage.is_on(), outage.failures()), (false, 0));
        }
    }

    #[test]
    fn an_answer_is_expected_from_the_last_one_or_the_last_call_on() {
        let mut outage = Outage::new("write");
        let what: [fn(&mut Outage); 2] = [Outage::begin, Outage::over];
        for what in what {
            let before = outage.answered();
            while Instant::now() == before {}
            what(&mut outage);
            assert!(outage.answered() > before);
        }
    }
}
