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
    /// The same of each queue that has jobs or is paused.
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

/// What waits and what runs in a store, as far as that can be told at little cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Backlog {
    /// Jobs that a consumer may claim now; where the queue itself counts, those that wait
    /// for their group are among them.
    pub visible: u64,
    /// Jobs that wait for their delay or retry to pass, as far as they are known from others.
    pub delayed: u64,
    /// Jobs that consumers hold; where the queue itself counts, those that wait for a retry,
    /// and those of a group that wait in a worker, are among them.
    pub in_progress: u64,
    /// Dead letters; where the queue itself counts, all that is in its dead-letter queue.
    pub dead: u64,
    /// The same of each queue, but for the dead letters.
    #[serde(default)]
    pub queues: BTreeMap<QueueName, QueueBacklog>,
}

/// What waits and what runs in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueueBacklog {
    /// As [`Backlog::visible`].
    pub visible: u64,
    /// As [`Backlog::delayed`].
    pub delayed: u64,
    /// As [`Backlog::in_progress`].
    pub in_progress: u64,
    /// Whether it is paused: see [`Backend::set_paused`].
    pub is_paused: bool,
}

impl Backlog {
    /// Adds what there is of a queue. For backends.
    pub fn add(&mut self, queue: QueueName, backlog: QueueBacklog) {
        self.visible += backlog.visible;
        self.delayed += backlog.delayed;
        self.in_progress += backlog.in_progress;
        self.queues.insert(queue, backlog);
    }

    /// Jobs that are not over yet, as far as they are counted here.
    pub fn unfinished(&self) -> u64 {
        self.visible + self.delayed + self.in_progress
    }

    /// The same of these queues.
    pub fn unfinished_in(&self, queues: &Queues) -> u64 {
        let served = queues.names().filter_map(|name| self.queues.get(name));
        served.map(QueueBacklog::unfinished).sum()
    }

    /// The paused ones of these queues, where all jobs that are left wait in them.
    pub fn held_up_by<'a>(&'a self, queues: &'a Queues) -> Vec<&'a QueueName> {
        let left = || queues.names().filter_map(|name| self.queues.get_key_value(name));
        let left = || left().filter(|(_, backlog)| backlog.unfinished() > 0);
        let held_up = left().all(|(_, backlog)| backlog.is_paused && backlog.in_progress == 0);
        if held_up { left().map(|(name, _)| name).collect() } else { Vec::new() }
    }
}

impl QueueBacklog {
    /// Jobs that are not over yet, as far as they are counted here.
    pub fn unfinished(&self) -> u64 {
        self.visible + self.delayed + self.in_progress
    }
}

impl From<Stats> for Backlog {
    fn from(stats: Stats) -> Self {
        let of = |stats: QueueStats| QueueBacklog {
            visible: stats.due,
            delayed: stats.delayed + stats.blocked,
            in_progress: stats.in_progress,
            is_paused: stats.is_paused,
        };
        Self {
            visible: stats.visible,
            delayed: stats.delayed,
            in_progress: stats.in_progress,
            dead: stats.dead,
            queues: stats.queues.into_iter().map(|(name, stats)| (name, of(stats))).collect(),
        }
    }
}

/// What it takes to read everything that a backend keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WholeRead {
    /// Where it is read from: `table results`.
    pub from: String,
    /// About how many records and other items there are.
    pub items: u64,
    /// About how much that is, in bytes.
    pub bytes: u64,
    /// About what it costs, in US dollars, at a list price that is said with it.
    pub dollars: f64,
    /// Of which the price is: `on demand, in us-east-1`.
    pub price: String,
}

impl WholeRead {
    /// One of nothing yet, from there.
    pub const fn new(from: String) -> Self {
        Self { from, items: 0, bytes: 0, dollars: 0.0, price: String::new() }
    }
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

    /// The queues from which nobody takes jobs, as far as two looks can tell: some
    /// are due there, none is in progress, and none has ended since `before`. A worker
    /// that is between two jobs looks idle to one of them.
    pub fn unserved<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a QueueName, &'a QueueStats)> {
        let idle = |stats: &QueueStats| !stats.is_paused && stats.due > 0 && stats.in_progress == 0;
        let ended = |stats: &QueueStats| stats.success + stats.error + stats.cancelled;
        self.queues.iter().filter(move |(name, stats)| {
            let before = before.queues.get(name);
            idle(stats) && before.is_some_and(|before| idle(before) && ended(stats) <= ended(before))
        })
    }

    /// Jobs that are not over yet.
    pub fn unfinished(&self) -> u64 {
        self.visible + self.paused + self.delayed + self.blocked + self.in_progress
    }

    /// Jobs of these queues that are not over yet.
    pub fn unfinished_in(&self, queues: &Queues) -> u64 {
        let served = queues.names().filter_map(|name| self.queues.get(name));
        served.map(QueueStats::unfinished).sum()
    }

    /// The paused ones of these queues, where all jobs that are left wait in them.
    pub fn held_up_by<'a>(&'a self, queues: &'a Queues) -> Vec<&'a QueueName> {
        let left = || queues.names().filter_map(|name| self.queues.get_key_value(name));
        let left = || left().filter(|(_, stats)| stats.unfinished() > 0);
        let held_up = left().all(|(_, stats)| stats.is_paused && stats.in_progress == 0);
        if held_up { left().map(|(name, _)| name).collect() } else { Vec::new() }
    }
}

impl QueueStats {
    /// Jobs that are not over yet.
    pub fn unfinished(&self) -> u64 {
        self.due + self.delayed + self.blocked + self.in_progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(is_paused: bool, due: u64, in_progress: u64, success: u64) -> QueueStats {
        QueueStats { is_paused, due, in_progress, success, ..QueueStats::default() }
    }

    fn stats(queues: [(&str, QueueStats); 2]) -> Stats {
        let mut stats = Stats::default();
        for (name, queue) in queues {
            stats.add(QueueName::new(name).expect("a name"), queue);
        }
        stats
    }

    #[test]
    fn a_queue_is_unserved_whatever_goes_on_in_others() {
        let unserved = |before: [QueueStats; 2], now: [QueueStats; 2]| {
            let of = |[a, b]: [QueueStats; 2]| stats([("a", a), ("b", b)]);
            of(now).unserved(&of(before)).map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        let (busy, idle) = (queue(false, 5, 1, 0), queue(false, 3, 0, 2));
        assert_eq!(unserved([busy.clone(), idle.clone()], [busy.clone(), idle.clone()]), ["b"]);
        let paused = queue(true, 3, 0, 2);
        assert!(unserved([busy.clone(), paused.clone()], [busy.clone(), paused]).is_empty());
        let done = queue(false, 2, 0, 3);
        assert!(unserved([busy.clone(), idle], [busy.clone(), done]).is_empty(), "one has ended");
        assert!(unserved([busy.clone(), queue(false, 0, 0, 2)], [busy, queue(false, 3, 0, 2)]).is_empty());
    }

    #[test]
    fn what_is_left_is_held_up_where_all_of_it_is_in_paused_queues() {
        let both: Queues = "a,b".parse().expect("queues");
        let held_up = |a, b| {
            let stats = stats([("a", a), ("b", b)]);
            stats.held_up_by(&both).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(held_up(queue(false, 0, 0, 9), queue(true, 2, 0, 0)), ["b"]);
        assert!(held_up(queue(false, 1, 0, 0), queue(true, 2, 0, 0)).is_empty());
        assert!(held_up(queue(true, 2, 1, 0), queue(false, 0, 0, 0)).is_empty(), "one runs");
        assert!(held_up(queue(true, 0, 0, 1), queue(false, 0, 0, 0)).is_empty(), "nothing is left");
    }
}
