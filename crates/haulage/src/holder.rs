//! Which workers hold jobs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Record, Timestamp};

/// What one worker holds. Nothing is known of a worker without a job.
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
}

/// The workers that hold these jobs, which are in progress, by name.
pub fn holders(records: &[Record]) -> Vec<Holder> {
    let mut holders = BTreeMap::new();
    for record in records {
        let worker = record.worker.clone().unwrap_or_default();
        let new = Holder { worker: worker.clone(), jobs: 0, oldest_started_at: None, lease_until: None };
        let holder = holders.entry(worker).or_insert(new);
        holder.jobs += 1;
        holder.oldest_started_at = holder.oldest_started_at.into_iter().chain(record.started_at).min();
        holder.lease_until = holder.lease_until.into_iter().chain(record.due_at).min();
    }
    holders.into_values().collect()
}
