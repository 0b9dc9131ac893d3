//! For how long a message is left alone whose job could not be looked at.
//!
//! By the failures in a row that this process has seen, and not by how often SQS
//! has handed the message out: retries and releases are receives as well, and a
//! job in its tenth attempt would pay for a short outage with an hour.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use haulage::JobId;

/// The first time; twice as long with each failure after it.
const FIRST: Duration = Duration::from_secs(2);
/// The longest: SQS moves a message away after so many receives, and each costs.
const LONGEST: Duration = Duration::from_secs(300);
/// The same where others of its group wait behind it.
const LONGEST_OF_GROUP: Duration = Duration::from_secs(20);
/// How many jobs are remembered; their failures are counted anew then.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<JobId, u32>>);

impl Failures {
    /// Takes note of a failure, and tells how long to leave the message alone.
    pub(crate) fn failed(&self, id: &JobId, of_group: bool) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.clear();
        }
        let before = failures.entry(id.clone()).or_default();
        let time = FIRST.saturating_mul(1 << (*before).min(16));
        *before = before.saturating_add(1);
        // Not all at the same moment again.
        time.min(if of_group { LONGEST_OF_GROUP } else { LONGEST }).mul_f64(0.75 + fastrand::f64() / 4.0)
    }

    /// The job could be looked at.
    pub(crate) fn forget(&self, id: &JobId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_in_a_row_to_minutes_and_in_a_group_to_seconds() {
        let (failures, id) = (Failures::default(), JobId::from("a-job"));
        for (of_group, longest) in [(false, LONGEST), (true, LONGEST_OF_GROUP)] {
            assert!(failures.failed(&id, of_group) <= FIRST);
            for _ in 0..40 {
                failures.failed(&id, of_group);
            }
            let time = failures.failed(&id, of_group);
            assert!(time <= longest && time >= longest / 2, "{time:?}");
            failures.forget(&id);
        }
    }
}
