//! Which job it was that took its worker with it.
//!
//! When a worker dies, all its jobs are lost, and any of them may have been
//! the cause: one that crashes the process, or takes its memory. So each of
//! them is watched when it comes back, for as long as it had run: a worker has
//! one watched job at a time, beside others that were never lost. If that
//! worker dies as well, the watched job is the one to blame, and the attempts
//! of its neighbours do not count. They are watched in their turn, so that no
//! two jobs of which one may be the cause meet again. A job that ran for longer
//! than it is watched is charged all the same: it may need longer to crash.

use std::time::Duration;

use crate::{Timestamp, lease::Lease};

/// A job that has run for so long is no worse than others, even if it had run
/// for longer when it was lost. A worker that had many such jobs should not
/// need a day to take them up again.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// What is thought of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// Nothing: no attempt of it was lost, or one has come to an end since.
    #[default]
    None,
    /// A watched job of the same worker was lost. If this one is lost, too,
    /// that was not its fault.
    Spared,
    /// An attempt was lost, and the next is watched for so long.
    Watched(Duration),
}

impl Suspicion {
    /// Of a job that was lost in an attempt that began at `started_at`.
    pub(crate) fn of_lost(started_at: Timestamp, lease: Lease) -> Self {
        // It ran until its last heartbeat for certain, and not until the next.
        let ended_before = lease.until.before(lease.length / 3 * 2);
        Self::Watched(ended_before.since(started_at).min(LONGEST))
    }

    /// Until when an attempt that began at `started_at` is watched, if at all.
    pub(crate) fn watched_until(self, started_at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Watched(time) => Some(started_at.after(time)),
            Self::None | Self::Spared => None,
        }
    }

    pub(crate) const fn is_watched(self) -> bool {
        matches!(self, Self::Watched(_))
    }

    /// After a sign of life: whoever sends it is not lost.
    pub(crate) fn alive(self) -> Self {
        if self == Self::Spared { Self::None } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_job_is_watched_until_the_heartbeat_that_did_not_come() {
        let lease = Lease::new(at(110), Duration::from_secs(12));
        assert_eq!(Suspicion::of_lost(at(100), lease), Suspicion::Watched(Duration::from_secs(14)));
        assert_eq!(Suspicion::of_lost(at(-9000), lease), Suspicion::Watched(LONGEST));
    }
}
