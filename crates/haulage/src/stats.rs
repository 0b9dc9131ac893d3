//! The state of a store in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[allow(unused_imports)] // for the documentation
use crate::backend::Backend;
use crate::{QueueName, Queues};

/// The state of a store in numbers: of all its queues, and of each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that a consumer may claim now.
    pub visible: u64,
    /// Jobs that a consumer could claim, were their queue not paused.
    #[serde(default)]
    pub paused: u64,
    /// Jobs that wait for their delay or retry to pass.
    pub delayed: u64,
    /// Jobs that wait for an earlier job of their group.
    pub blocked: u64,
    /// Jobs that consumers hold.
    pub in_progress: u64,
    /// Jobs that succeeded, as far as their records are still kept.
    pub success: u64,
    /// Jobs that failed for good, dead letters included.
    pub error: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the oldest visible job has been due, in seconds.
    pub oldest_visible_seconds: Option<f64>,
    /// What the backend takes on disk, in bytes, where it knows.
    pub stored_bytes: Option<u64>,
    /// The same of each queue that has jobs or is paused, where the backend has
    /// [named queues](crate::backend::Capabilities::queues).
    #[serde(default)]
    pub queues: BTreeMap<QueueName, QueueStats>,
}

/// The state of one queue in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// Whether it is paused: see [`Backend::set_paused`].
    pub is_paused: bool,
    /// Jobs that are due: that a consumer may claim now, unless the queue is paused.
    pub due: u64,
    /// Jobs that wait for their delay or retry to pass.
    pub delayed: u64,
    /// Jobs that wait for an earlier job of their group.
    pub blocked: u64,
    /// Jobs that consumers hold.
    pub in_progress: u64,
    /// Jobs that succeeded, as far as their records are still kept.
    pub success: u64,
    /// Jobs that failed for good, dead letters included.
    pub error: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the oldest job that is due has been so, in seconds.
    pub oldest_due_seconds: Option<f64>,
}

impl Stats {
    /// Adds what there is of a queue. For backends.
    pub fn add(&mut self, queue: QueueName, stats: QueueStats) {
        *(if stats.is_paused { &mut self.paused } else { &mut self.visible }) += stats.due;
        self.delayed += stats.delayed;
        self.blocked += stats.blocked;
        self.in_progress += stats.in_progress;
        self.success += stats.success;
        self.error += stats.error;
        self.cancelled += stats.cancelled;
        self.dead += stats.dead;
        let oldest = stats.oldest_due_seconds.filter(|_| !stats.is_paused);
        self.oldest_visible_seconds =
            [self.oldest_visible_seconds, oldest].into_iter().flatten().reduce(f64::max);
        if stats != QueueStats::default() {
            self.queues.insert(queue, stats);
        }
    }

    /// Whether nobody takes jobs, as far as two looks can tell: some wait, none is
    /// in progress, and none has ended since `before`. A worker that is between
    /// two jobs looks idle to one of them.
    pub fn is_unserved(&self, before: &Self) -> bool {
        let idle = |stats: &Self| stats.visible > 0 && stats.in_progress == 0;
        let ended = |stats: &Self| stats.success + stats.error + stats.cancelled;
        idle(before) && idle(self) && ended(self) <= ended(before)
    }

    /// Jobs that are not over yet.
    pub fn unfinished(&self) -> u64 {
        self.visible + self.paused + self.delayed + self.blocked + self.in_progress
    }

    /// Jobs of these queues that are not over yet, where the backend has named ones.
    pub fn unfinished_in(&self, queues: &Queues) -> u64 {
        let served = queues.names().filter_map(|name| self.queues.get(name));
        served.map(QueueStats::unfinished).sum()
    }
}

impl QueueStats {
    /// Jobs that are not over yet.
    pub fn unfinished(&self) -> u64 {
        self.due + self.delayed + self.blocked + self.in_progress
    }
}
