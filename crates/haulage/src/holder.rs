//! Which workers hold jobs, or are not ready for any.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Record, Timestamp, backend::Unready};

/// What is known of one worker. Of one that is ready and has no job, nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its name; empty where the backend knows none.
    pub worker: String,
    /// How many jobs it holds.
    pub jobs: usize,
    /// When it claimed the oldest of them.
    pub oldest_started_at: Option<Timestamp>,
    /// When the first of their leases ends.
    pub lease_until: Option<Timestamp>,
    /// Why it takes no jobs, where it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready: Option<Unready>,
}

/// The workers that hold these jobs, which are in progress, and those that are not ready, by name.
pub fn holders(records: &[Record], unready: BTreeMap<String, Unready>) -> Vec<Holder> {
    let new =
        |worker, unready| Holder { worker, jobs: 0, oldest_started_at: None, lease_until: None, unready };
    let mut holders: BTreeMap<_, _> =
        unready.into_iter().map(|(worker, unready)| (worker.clone(), new(worker, Some(unready)))).collect();
    for record in records {
        let worker = record.worker.clone().unwrap_or_default();
        let holder = holders.entry(worker.clone()).or_insert_with(|| new(worker, None));
        holder.jobs += 1;
        holder.oldest_started_at = holder.oldest_started_at.into_iter().chain(record.started_at).min();
        holder.lease_until = holder.lease_until.into_iter().chain(record.due_at).min();
    }
    holders.into_values().collect()
}
