//! How long jobs took.

use std::time::Duration;

/// How many times there were, and how long they were together, by length.
///
/// A time belongs to the first bucket that is not shorter; those that are
/// longer than every bound are in one more, the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [Bucket; Self::BOUNDS.len() + 1],
}

/// A part of a [`Histogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// How many times are in it.
    pub count: u64,
    /// How long they are together.
    pub sum: Duration,
}

impl Bucket {
    /// The mean of the times in it, in seconds; 0 where there is none.
    pub fn mean_seconds(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum.as_secs_f64() / self.count as f64 }
    }
}

impl Histogram {
    /// The longest time of each bucket but the last, in seconds: from a quick
    /// lookup to a job of half a day.
    pub const BOUNDS: [f64; 20] = [
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
        3600.0, 7200.0, 14400.0, 43200.0,
    ];

    /// Takes in a time.
    pub fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = &mut self.buckets[Self::BOUNDS.partition_point(|bound| *bound < seconds)];
        bucket.count += 1;
        bucket.sum = bucket.sum.saturating_add(time);
    }

    /// The buckets, shortest times first, one more than there are
    /// [`BOUNDS`](Self::BOUNDS).
    pub const fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// How many times there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// How long all of them are together.
    pub fn sum(&self) -> Duration {
        self.buckets.iter().fold(Duration::ZERO, |sum, bucket| sum.saturating_add(bucket.sum))
    }

    /// Takes in all that another has.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.count += more.count;
            bucket.sum = bucket.sum.saturating_add(more.sum);
        }
    }

    /// What was taken in since `earlier`, a state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        for (bucket, before) in difference.buckets.iter_mut().zip(&earlier.buckets) {
            bucket.count = bucket.count.saturating_sub(before.count);
            bucket.sum = bucket.sum.saturating_sub(before.sum);
        }
        difference
    }
}

impl std::iter::Sum for Histogram {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, histogram| {
            sum.merge(&histogram);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = Histogram::default();
        for millis in [0, 10, 11, 43_200_000, 43_200_001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let counts: Vec<_> = histogram.buckets().iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts[..3], [2, 1, 0]);
        assert_eq!(counts[19..], [1, 1]);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.sum(), Duration::from_millis(86_400_022));
    }

    #[test]
    fn the_difference_is_what_came_in_between() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_secs(3));
        let before = histogram;
        histogram.observe(Duration::from_secs(4));
        let since = histogram.since(&before);
        assert_eq!((since.count(), since.sum()), (1, Duration::from_secs(4)));
        assert_eq!(histogram.since(&histogram), Histogram::default());
    }
}
