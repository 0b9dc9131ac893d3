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
/// consumer is [not ready](crate::metrics::WorkerState::NotReady).
#[derive(Clone, Debug, Default)]
pub struct Slots(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<SlotState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct SlotState {
    out: BTreeMap<usize, Arc<str>>,
    /// How often one was taken out of service.
    count: u64,
    stuck: usize,
    names: Vec<Arc<str>>,
}

/// What there is to tell of them.
pub(super) struct Seen {
    /// How many are out of service, how often that was so, and why the last of them is.
    pub(super) quarantined: usize,
    pub(super) quarantines: u64,
    pub(super) reason: Option<Arc<str>>,
    pub(super) stuck: usize,
    /// Each that has a name, and whether it is out of service.
    pub(super) named: Vec<(Arc<str>, bool)>,
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

    /// What slots are called, from the first one on, for metrics that tell them apart
    /// ([`Snapshot::named_slots`](crate::metrics::Snapshot::named_slots)). What became of a job counts
    /// for the slot whose name its call gave to [`Context::set_slot`](crate::Context::set_slot).
    pub fn set_names(&self, names: impl IntoIterator<Item = String>) {
        self.lock().names = names.into_iter().map(Into::into).collect();
        self.0.changed.notify_one();
    }

    /// Tells how many calls go on though their jobs are over, as nothing can end their handlers.
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
            named: (state.names.iter().enumerate())
                .map(|(slot, name)| (name.clone(), state.out.contains_key(&slot)))
                .collect(),
        }
    }

    /// Waits for a change. May be dropped and called again.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
