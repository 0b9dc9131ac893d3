//! The pauses between looks at a job, where the backend does not signal.
//!
//! A look is a remote call that is paid for, so pauses grow with the age of a wait:
//! somebody who has waited for an hour is told a minute late. All waits of a process
//! together have a budget as well, beyond which pauses grow further, though never
//! beyond a part of the age.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const GROWTH: f64 = 1.5;
/// From here on a pause is a part of the age, at most [`LONGEST`].
const STEADY: Duration = Duration::from_secs(5);
const PART_OF_AGE: u32 = 20;
const LONGEST: Duration = Duration::from_secs(60);
/// How many looks a second all waits share, which are older than some seconds.
const LOOKS_A_SECOND: u32 = 40;
/// The largest part of the age that a pause is for that reason.
const LARGEST_PART: u32 = 3;

/// The pause after one of this length (at first, of none), of a wait of this age among so many.
pub(super) fn next(pause: Duration, age: Duration, waits: usize) -> Duration {
    let grown = pause.mul_f64(GROWTH).max(FIRST);
    if grown < STEADY {
        return grown;
    }
    let by_age = (age / PART_OF_AGE).clamp(STEADY, LONGEST);
    let shared = Duration::from_secs(waits as u64) / LOOKS_A_SECOND;
    by_age.max(shared.min(age / LARGEST_PART))
}

/// The moment, or earlier, by less than a short pause and than a quarter of a longer one:
/// one of few moments, so that waits which began apart are looked at together.
pub(super) fn in_step(moment: Duration, pause: Duration) -> Duration {
    let parts = if pause < 2 * STEADY { 0 } else { 2 };
    let pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(1);
    // A power of two, so that the steps of longer pauses are among those of
    // shorter ones.
    let step = 1 << (pause.ilog2() - parts).min(40);
    let moment = u64::try_from(moment.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(moment / step * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    /// A look at a record of up to 4 KB that may be a moment old, on demand in us-east-1
    /// ("Amazon DynamoDB pricing for on-demand capacity", June 2026): half a unit.
    const DOLLARS_A_LOOK: f64 = 0.125e-6 / 2.0;

    /// The ages at which a wait of so long, one of so many, is looked at.
    fn looks(length: Duration, waits: usize) -> Vec<Duration> {
        let began = Duration::from_micros(987_654_321);
        let (mut now, mut pause, mut looks) = (began, Duration::ZERO, Vec::new());
        while now - began < length {
            looks.push(now - began);
            pause = next(pause, now - began, waits);
            now = in_step(now + pause, pause);
        }
        looks
    }

    #[test]
    fn ten_thousand_waits_for_jobs_of_an_hour_cost_less_than_20_dollars_a_month() {
        // One follows the other in each of ten thousand places, all month.
        let month = looks(HOUR, 10_000).len() as f64 * 10_000.0 * 730.0;
        let dollars = month * DOLLARS_A_LOOK;
        assert!((15.0..20.0).contains(&dollars), "{dollars:.2}");
    }

    #[test]
    fn a_wait_is_told_in_time_for_its_age() {
        for waits in [1, 200] {
            let looks = looks(HOUR, waits);
            let late = |age: Duration| looks.iter().find(|look| **look >= age).map(|look| *look - age);
            for (age, most) in [(1, 0.5), (10, 5.0), (60, 5.0), (600, 30.0), (1800, 60.0)] {
                let late = late(Duration::from_secs(age)).expect("a look");
                assert!(late.as_secs_f64() <= most, "{waits} waits, {age} s: {late:?}");
            }
        }
        // However many there are, by a third of its age at most.
        let looks = looks(HOUR, 1_000_000);
        let ages = looks.windows(2).filter(|pair| pair[0] > Duration::from_secs(20));
        for pair in ages {
            assert!(pair[1] - pair[0] <= pair[0] / 3 + Duration::from_millis(1), "{pair:?}");
        }
    }

    #[test]
    fn waits_that_began_apart_are_looked_at_together() {
        let pause = Duration::from_secs(60);
        let due: std::collections::BTreeSet<_> =
            (0..1000).map(|n| in_step(HOUR + Duration::from_millis(60 * n), pause)).collect();
        assert!(due.len() <= 9, "{due:?}");
    }
}
