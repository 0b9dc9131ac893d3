//! What goes away by itself.

use std::collections::{HashMap, VecDeque};

use crate::Timestamp;

/// A map whose entries go away by themselves, each at its moment.
pub(super) struct Fading<K, V> {
    entries: HashMap<K, (V, Timestamp)>,
    /// In the order in which they were put in, which is that of their moments
    /// unless the clock was set back.
    order: VecDeque<(Timestamp, K)>,
}

impl<K, V> Default for Fading<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Fading<K, V> {
    pub(super) fn get<Q: Eq + std::hash::Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V, until: Timestamp) {
        self.order.push_back((until, key.clone()));
        self.entries.insert(key, (value, until));
    }

    pub(super) fn fade(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(until, _)| *until <= now)
            && let Some((until, key)) = self.order.pop_front()
        {
            if self.entries.get(&key).is_some_and(|(_, t)| *t == until) {
                self.entries.remove(&key);
            }
        }
    }
}
