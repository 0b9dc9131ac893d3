//! How long a claim lives, and when its job may be taken from its holder.
//!
//! Nobody can tell a holder that has died from one that could not speak: the
//! machine slept, the disk was full, another program had the database locked,
//! the clock was set. All of these end for everybody at the same moment, and
//! whoever has come through them heartbeats at once. So a lease that nobody has
//! seen to run down is given notice first, and its job is taken only from a
//! holder that stays silent for that long while others can be heard.

use std::time::Duration;

use crate::Timestamp;

/// The lease of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// When it ends, unless a heartbeat extends it.
    pub(crate) until: Timestamp,
    /// What its holder has asked for.
    pub(crate) length: Duration,
    /// When a claim looks at it next. Before `until`: the holder is overdue
    /// then, and is given notice.
    pub(crate) check_at: Timestamp,
}

/// What a look at a lease comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// There is nothing to do.
    None,
    /// The holder is overdue: from now on it has notice.
    Notice(Lease),
    /// It had notice, and was silent: its job may be taken.
    Over,
}

impl Lease {
    /// A lease that begins now.
    pub(crate) fn new(now: Timestamp, length: Duration) -> Self {
        let until = now.after(length);
        Self { until, length, check_at: until.before(notice(length)) }
    }

    /// What a claim does about it.
    pub(crate) fn check(self, now: Timestamp) -> Check {
        if now < self.check_at {
            Check::None
        } else if self.check_at < self.until {
            Check::Notice(Self { check_at: self.until.max(now.after(notice(self.length))), ..self })
        } else {
            Check::Over
        }
    }

    /// Whether it should have been extended by now.
    pub(crate) fn is_overdue(self, now: Timestamp) -> bool {
        self.until.before(notice(self.length)) <= now
    }

    /// Whether it ends, or is looked at, later than one that begins now would:
    /// it is from a time when the clock was ahead.
    pub(crate) fn is_ahead(self, now: Timestamp) -> bool {
        self.until.max(self.check_at) > now.after(self.length)
    }

    /// Whether its holder has been silent for a second lease beyond its end.
    /// Whoever only looks may say then that the job is lost.
    pub(crate) fn is_abandoned(self, now: Timestamp) -> bool {
        self.until.after(self.length) <= now
    }
}

/// How long a holder has to speak up: somewhat more than the time between two
/// heartbeats, of which there are three to a lease.
fn notice(length: Duration) -> Duration {
    length / 12 * 5
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(12);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn noticed(lease: Lease, now: i64) -> Lease {
        match lease.check(at(now)) {
            Check::Notice(lease) => lease,
            other => panic!("{other:?} at {now}"),
        }
    }

    #[test]
    fn a_lease_that_is_watched_ends_at_its_end() {
        let lease = Lease::new(at(0), LENGTH);
        assert_eq!(lease.check(at(6)), Check::None);
        let lease = noticed(lease, 7);
        assert_eq!(lease.check(at(11)), Check::None);
        assert_eq!(lease.check(at(12)), Check::Over);
    }

    #[test]
    fn a_lease_that_ran_down_unseen_has_notice_first() {
        let lease = noticed(Lease::new(at(0), LENGTH), 1000);
        assert_eq!(lease.until, at(12));
        assert_eq!(lease.check(at(1004)), Check::None);
        assert_eq!(lease.check(at(1005)), Check::Over);
    }

    #[test]
    fn a_holder_that_is_silent_for_two_leases_has_abandoned_its_job() {
        let lease = Lease::new(at(0), LENGTH);
        assert!(!lease.is_abandoned(at(23)));
        assert!(lease.is_abandoned(at(24)));
    }
}
