//! Slots that are out of service.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Takes slots of a consumer out of service and brings them back, while it runs. See
/// [`Consumer::slots`](super::Consumer::slots).
///
/// For whoever runs calls on devices that can break: a slot whose GPU fails each job at
/// once would otherwise take most of the jobs. While all slots are out of service, the
/// consumer is [not ready](crate::metrics::State::NotReady).
#[derive(Clone, Debug, Default)]
pub struct Slots(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    out: BTreeMap<usize, Arc<str>>,
    /// How often one was taken out of service.
    count: u64,
    stuck: usize,
}

/// What there is to tell of them.
pub(super) struct Seen {
    /// How many are out of service, how often that was so, and why the last of them is.
    pub(super) quarantined: usize,
    pub(super) quarantines: u64,
    pub(super) reason: Option<Arc<str>>,
    pub(super) stuck: usize,
}

impl Slots {
    /// Takes a slot out of service, for this reason: from now on, the consumer has one call
    /// less at once. What runs goes on, and the caller sees to it that no call gets to this
    /// slot. A slot that is out of service already stays so, for the new reason.
    pub fn quarantine(&self, slot: usize, reason: impl Into<String>) {
        let mut state = self.lock();
        if state.out.insert(slot, reason.into().into()).is_none() {
            state.count += 1;
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Brings a slot back. Nothing happens where it is in service.
    pub fn restore(&self, slot: usize) {
        self.lock().out.remove(&slot);
        self.0.changed.notify_one();
    }

    /// Tells how many calls go on though their jobs are over, in threads that nothing can end.
    /// Whoever runs them has ended these calls for the consumer, so that others take their
    /// slots: see [`Snapshot::stuck`](crate::metrics::Snapshot::stuck).
    pub fn set_stuck(&self, calls: usize) {
        self.lock().stuck = calls;
        self.0.changed.notify_one();
    }

    /// How many of so many slots are in service.
    pub(super) fn in_service(&self, slots: usize) -> usize {
        slots.saturating_sub(self.lock().out.len())
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.lock();
        Seen {
            quarantined: state.out.len(),
            quarantines: state.count,
            reason: state.out.values().next_back().cloned(),
            stuck: state.stuck,
        }
    }

    /// Waits for a change. May be dropped and called again.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
