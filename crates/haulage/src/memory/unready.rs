//! The workers that are not ready.

use std::collections::BTreeMap;

use crate::{Timestamp, backend::Unready};

/// By name, with the moment at which each told it last.
#[derive(Default)]
pub(super) struct UnreadyWorkers(BTreeMap<String, (Timestamp, Unready)>);

impl UnreadyWorkers {
    pub(super) fn set(&mut self, worker: String, unready: Option<Unready>, now: Timestamp) {
        self.0.retain(|_, (told_at, _)| Unready::is_kept(*told_at, now));
        self.0.remove(&worker);
        if let Some(unready) = unready.filter(|_| self.0.len() < Unready::MOST) {
            self.0.insert(worker, (now, unready));
        }
    }

    pub(super) fn known(&self, now: Timestamp) -> BTreeMap<String, Unready> {
        let kept = self.0.iter().filter(|(_, (told_at, _))| Unready::is_kept(*told_at, now));
        kept.map(|(worker, (_, unready))| (worker.clone(), unready.clone())).collect()
    }
}
