//! When a job that waits is likely to start.

use std::time::Duration;

use haulage::Timestamp;
use serde::Serialize;

use super::Ahead;

/// So many jobs have to have ended: of fewer, nobody knows how much they differ.
const LEAST_MEASURED: usize = 5;
/// Of a normal distribution, 90 % are within so many standard deviations.
const DEVIATIONS: f64 = 1.645;

/// Between when and when a job is likely to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::server) struct Start {
    pub(super) earliest: Timestamp,
    pub(super) latest: Timestamp,
}

/// When the job behind these others starts, in nine cases of ten, where as many jobs go on
/// running at once as now, and take as long as those that `took` so long lately.
///
/// `in_progress` slots that are all busy become free every `mean / in_progress`; it takes `ahead + 1`
/// such moments. What is uncertain is how long these jobs take, how long the mean is, of which there is only a
/// sample, and how far those that run have come.
pub(super) fn start(ahead: Ahead, in_progress: u64, took: &[Duration], now: Timestamp) -> Option<Start> {
    if in_progress == 0 || took.len() < LEAST_MEASURED {
        return None;
    }
    let (slots, sample) = (in_progress as f64, took.len() as f64);
    let mean = took.iter().map(Duration::as_secs_f64).sum::<f64>() / sample;
    let squares = took.iter().map(|took| (took.as_secs_f64() - mean).powi(2)).sum::<f64>();
    let variance = squares / (sample - 1.0);
    let between = |ahead: u64| {
        let moments = ahead as f64 + 1.0;
        let expected = moments * mean / slots;
        let of_jobs = moments * variance / slots.powi(2);
        let of_mean = (moments / slots).powi(2) * variance / sample;
        let of_phase = (mean / slots).powi(2) / 12.0;
        let spread = DEVIATIONS * (of_jobs + of_mean + of_phase).sqrt();
        (expected - spread, expected + spread)
    };
    let (earliest, latest) = match ahead {
        Ahead::Exactly(count) => between(count),
        // How many of them there are is not known; none at the least.
        Ahead::AtMost(count) => (0.0, between(count).1),
    };
    let after = |seconds: f64| Some(now.after(Duration::try_from_secs_f64(seconds.max(0.0)).ok()?));
    Some(Start { earliest: after(earliest)?, latest: after(latest)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    /// In seconds from now.
    fn seconds(ahead: Ahead, in_progress: u64, took: &[f64]) -> Option<(f64, f64)> {
        let took: Vec<_> = took.iter().copied().map(Duration::from_secs_f64).collect();
        let start = start(ahead, in_progress, &took, NOW)?;
        Some((start.earliest.since(NOW).as_secs_f64(), start.latest.since(NOW).as_secs_f64()))
    }

    #[test]
    fn jobs_that_all_take_the_same_time_leave_little_open() {
        let (earliest, latest) = seconds(Ahead::Exactly(39), 4, &[60.0; 50]).expect("an estimate");
        assert!(
            (590.0..600.0).contains(&earliest) && (600.0..610.0).contains(&latest),
            "{earliest} to {latest}"
        );
    }

    #[test]
    fn jobs_that_differ_leave_more_open_and_few_that_were_measured_more_still() {
        let differ =
            |count: usize| (0..count).map(|n| if n % 2 == 0 { 10.0 } else { 110.0 }).collect::<Vec<_>>();
        let width = |took: &[f64]| {
            let (earliest, latest) = seconds(Ahead::Exactly(39), 4, took).expect("an estimate");
            assert!(earliest < 600.0 && latest > 600.0, "{earliest} to {latest}");
            latest - earliest
        };
        let (same, many, few) = (width(&[60.0; 50]), width(&differ(50)), width(&differ(6)));
        assert!(same < many && many < few, "{same}, {many}, {few}");
    }

    #[test]
    fn nine_of_ten_start_within_it() {
        // Jobs of 1 to 9 s, in an order that says nothing, on three slots.
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1.0 + (state >> 33) as f64 / (1_u64 << 31) as f64 * 8.0
        };
        let within = (0..1000).filter(|_| {
            let took: Vec<_> = (0..50).map(|_| next()).collect();
            let (earliest, latest) = seconds(Ahead::Exactly(20), 3, &took).expect("an estimate");
            // Somewhere in their jobs, and then 21 times the first that is free.
            let mut free: Vec<_> = (0..3).map(|_| next() * (next() - 1.0) / 8.0).collect();
            let mut started = 0.0;
            for _ in 0..21 {
                free.sort_by(f64::total_cmp);
                started = free[0];
                free[0] += next();
            }
            (earliest..=latest).contains(&started)
        });
        let share = within.count();
        assert!((850..=990).contains(&share), "{share} of 1000");
    }

    #[test]
    fn where_only_the_most_is_known_it_may_be_next() {
        let (earliest, latest) = seconds(Ahead::AtMost(39), 4, &[60.0; 50]).expect("an estimate");
        assert!(earliest < 0.001 && latest > 600.0, "{earliest} to {latest}");
    }

    #[test]
    fn without_jobs_that_run_or_have_ended_there_is_no_estimate() {
        assert_eq!(seconds(Ahead::Exactly(1), 0, &[60.0; 50]), None);
        assert_eq!(seconds(Ahead::Exactly(1), 4, &[60.0; 4]), None);
    }
}
