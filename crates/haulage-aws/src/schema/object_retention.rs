//! For how long the bucket keeps a document, and how its key says so.
//!
//! An object cannot expire together with a record that DynamoDB deletes. So its
//! key begins with the number of days after which the bucket's lifecycle may
//! delete it.

use std::time::Duration;

use haulage::ERROR_TTL;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// For how many days, at least, objects are kept; each has its lifecycle rule.
pub(crate) const KEEP_DAYS: [u32; 10] = [2, 8, 16, 31, 45, 60, 90, 180, 400, 800];

/// The least of [`KEEP_DAYS`] that certainly covers the body of a job: its delay, the
/// longest time in the queue, a dead letter's time, and its record's.
pub(crate) fn keep_days(delay: Duration, result_ttl: Duration) -> u32 {
    let in_queue = 14 * DAY;
    let longest = delay + in_queue + result_ttl.max(ERROR_TTL) + 7 * DAY;
    at_least(longest)
}

/// The same of a result: its job is over, and nothing but the record needs it. The day more
/// is for clocks.
pub(crate) fn keep_result_days(result_ttl: Duration) -> u32 {
    at_least(result_ttl + DAY)
}

fn at_least(longest: Duration) -> u32 {
    let days = u32::try_from(longest.as_secs().div_ceil(DAY.as_secs())).unwrap_or(u32::MAX);
    let most = KEEP_DAYS[KEEP_DAYS.len() - 1];
    KEEP_DAYS.into_iter().find(|keep| *keep >= days).unwrap_or(most)
}

/// The beginning of the keys that are kept for so many days.
pub(crate) fn prefix(days: u32) -> String {
    format!("haulage/{days}d/")
}

/// The key of an object of a job, `job` by its id or, before it has one, its token.
pub(crate) fn object_key(days: u32, store: &str, job: &str, name: &str) -> String {
    format!("{}{store}/{job}/{name}", prefix(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_objects_long_enough() {
        assert_eq!(keep_days(Duration::ZERO, 7 * DAY), 45);
        assert_eq!(keep_days(Duration::ZERO, 30 * DAY), 60);
        assert_eq!(keep_days(366 * DAY, 366 * DAY), 800);
        let hours = |hours: u32| keep_result_days(hours * DAY / 24);
        assert_eq!([0, 1, 24, 25, 7 * 24, 30 * 24, 366 * 24].map(hours), [2, 2, 2, 8, 8, 31, 400]);
    }
}
