//! Jobs that are in the queue, and whose records cannot be written for now.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use haulage::JobId;

use crate::schema::{item::Row, update::Item};

/// Their records, as they will be, for whoever asks this process.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded(Mutex<HashMap<JobId, Item>>);

impl Unrecorded {
    fn items(&self) -> MutexGuard<'_, HashMap<JobId, Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, items: impl IntoIterator<Item = (JobId, Item)>) {
        self.items().extend(items);
    }

    pub(crate) fn forget(&self, ids: &[JobId]) {
        let mut items = self.items();
        for id in ids {
            items.remove(id);
        }
    }

    pub(crate) fn get(&self, id: &JobId) -> Option<Row> {
        self.items().get(id).cloned().and_then(Row::of)
    }
}
