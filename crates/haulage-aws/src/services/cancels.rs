//! Which running jobs are to be cancelled: an item of the table names them for all of a store's.
//!
//! The record says it, too, and the holder reads that with its next heartbeat, which may be a third of a lease
//! away. So a process that holds jobs looks at the item as well. It is a hint: where it is lost, the heartbeat tells.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{JobId, Result, Timestamp};
use tokio::sync::watch;

use crate::{
    schema::{
        fence::unchanged,
        item::{Row, seconds},
        name,
        update::Write,
    },
    services::table::{Table, Written, pause},
};

/// How often a process that holds jobs looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a job is named there: for several looks of each process.
const NAMED: Duration = Duration::from_secs(30);
/// How long the item is kept after the last cancel.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// So many jobs are named at a time, and no more: with more of them, each holder looks at all that it has.
const MOST: usize = 100;
/// In place of so many.
const MANY: &str = "*";
/// How often it is tried to name a job, where others name theirs at the same time.
const TRIES: u32 = 8;

/// The cancels of one store.
#[derive(Debug)]
pub(crate) struct Cancels {
    key: String,
    /// What was there at the last look, and concerned this process.
    heard: Mutex<BTreeSet<String>>,
    /// Whether this process looks.
    pub(crate) is_watched: AtomicBool,
    /// Changes when a job may have been cancelled that this process holds.
    pub(crate) changed: watch::Sender<u64>,
}

impl Cancels {
    pub(crate) fn of(store: &str) -> Self {
        Self {
            key: format!("cancelled#{store}"),
            heard: Mutex::default(),
            is_watched: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        }
    }

    /// Names jobs that are to be cancelled, and whose records say so.
    pub(crate) async fn name(&self, table: &Table, ids: &[JobId], now: Timestamp) -> Result<()> {
        for round in 0..TRIES {
            if round > 0 {
                pause(round - 1).await;
            }
            let row = Row(table.get(&self.key).await?.unwrap_or_default());
            let write = Write::at(now)
                .set(
                    name::CANCELLED_JOBS,
                    AttributeValue::Ss(named(row.texts(name::CANCELLED_JOBS), ids, now)),
                )
                .set(name::EXPIRATION, seconds(now.after(KEPT)));
            let write = if row.0.is_empty() {
                write.when("attribute_not_exists(#message_id)")
            } else {
                unchanged(write, &row)
            };
            if let Written::Done(_) = table.write(&self.key, write).await? {
                return Ok(());
            }
        }
        Err(table.overloaded("write"))
    }

    /// Looks whether there is one of those that are held.
    pub(crate) async fn look(&self, table: &Table, is_held: impl Fn(&str) -> bool) -> Result<()> {
        let row = Row(table.hint(&self.key).await?.unwrap_or_default());
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if hear(&mut heard, row.texts(name::CANCELLED_JOBS), is_held) {
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}

/// Takes note of those that concern this process, and tells whether one is new. One that is not held is judged
/// anew at the next look: its claim may not be through yet.
fn hear(heard: &mut BTreeSet<String>, there: &[String], is_held: impl Fn(&str) -> bool) -> bool {
    let is_meant =
        |entry: &&String| entry.split_once(' ').is_some_and(|(_, job)| job == MANY || is_held(job));
    let meant: BTreeSet<String> = there.iter().filter(is_meant).cloned().collect();
    let is_new = !meant.is_subset(heard);
    *heard = meant;
    is_new
}

/// What the item names with these jobs: each with the moment of its cancel.
fn named(before: &[String], ids: &[JobId], now: Timestamp) -> Vec<String> {
    let entry = |job: &str| format!("{} {job}", now.as_micros());
    let is_recent = |entry: &&String| {
        let at = entry.split_once(' ').and_then(|(at, _)| at.parse().ok()).map(Timestamp::from_micros);
        at.is_some_and(|at| at.after(NAMED) > now && at <= now.after(NAMED))
    };
    let mut named: BTreeSet<String> = before.iter().filter(is_recent).cloned().collect();
    named.extend(ids.iter().map(|id| entry(id.as_str())));
    if named.len() > MOST {
        named = BTreeSet::from([entry(MANY)]);
    }
    named.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_is_held_is_heard_of_once_whenever_it_comes_to_be_held() {
        let entries = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let (none, a) = (|_: &str| false, |job: &str| job == "a");
        let mut heard = BTreeSet::new();
        let there = entries(&["1 a", "1 b"]);
        assert!(!hear(&mut heard, &there, none), "its claim is under way");
        assert!(hear(&mut heard, &there, a), "now it is held");
        assert!(!hear(&mut heard, &there, a));
        assert!(hear(&mut heard, &entries(&["1 a", "2 a"]), a), "it was cancelled again");
        assert!(hear(&mut heard, &entries(&["3 *"]), none), "too many to name");
        assert!(!hear(&mut heard, &entries(&["3 *"]), none));
    }

    #[test]
    fn what_is_named_is_recent_and_bounded() {
        let now = Timestamp::from_micros(100_000_000);
        let one = named(&[], &["a".into()], now);
        assert_eq!(one, ["100000000 a"]);
        let soon = now.after(Duration::from_secs(1));
        assert_eq!(named(&one, &["b".into()], soon), ["100000000 a", "101000000 b"]);
        assert_eq!(named(&one, &["b".into()], now.after(NAMED)), ["130000000 b"], "it has been seen");
        let many: Vec<JobId> = (0..MOST).map(|n| JobId::from(n.to_string())).collect();
        assert_eq!(named(&one, &many, soon), ["101000000 *"]);
        assert_eq!(named(&["broken".into(), " ".into()], &["a".into()], now), one);
    }
}
