//! Jobs that are in the queue, and whose records cannot be written for now.
//!
//! They will run: the consumer that receives the message makes the record. A
//! submit that failed for them would be made again, and the job would run twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haulage::{Error, JobId};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    inner::Shared,
    item::{Row, name},
    table::NotWritten,
    update::Item,
};

/// For how long a submit tries to write its records, before it goes on behind
/// the caller's back.
pub(crate) const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// The first and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Their records, as they will be, for whoever asks this process.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded(Mutex<HashMap<JobId, Item>>);

impl Unrecorded {
    fn items(&self) -> MutexGuard<'_, HashMap<JobId, Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &JobId) -> Option<Row> {
        self.items().get(id).cloned().and_then(Row::of)
    }
}

fn id(item: &Item) -> Option<JobId> {
    Some(JobId::from(item.get(name::ID)?.as_s().ok()?.as_str()))
}

impl crate::inner::Inner {
    /// Writes the records of jobs that have been sent, unless a consumer was
    /// faster. Comes back when all are written, or after a while; the rest is
    /// tried on for as long as their messages may wait.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where there is no such table.
    pub(crate) async fn record(self: &Shared, items: Vec<Item>) -> Result<(), Error> {
        let left = self.try_record(items, self.record_patience).await;
        let Some((_, NotWritten { error, .. })) = left.first() else { return Ok(()) };
        if matches!(error, Error::Config(_)) {
            return Err(error.clone());
        }
        warn!(
            %error, jobs = left.len(),
            "jobs are in the queue and will run, but their records cannot be written for now"
        );
        // Where trying on does not help, the consumer makes the record.
        let left: Vec<Item> =
            left.into_iter().filter(|(_, why)| !why.for_good).map(|(item, _)| item).collect();
        let ids: Vec<JobId> = left.iter().filter_map(id).collect();
        self.store.unrecorded.items().extend(ids.iter().cloned().zip(left.clone()));
        let inner = self.clone();
        // The end of the backend does not wait for it.
        tokio::spawn(async move {
            inner.try_record(left, inner.store.retentions.longest()).await;
            let mut items = inner.store.unrecorded.items();
            for id in ids {
                items.remove(&id);
            }
        });
        Ok(())
    }

    /// What could not be written in this time, and why.
    async fn try_record(&self, mut left: Vec<Item>, patience: Duration) -> Vec<(Item, NotWritten)> {
        let enough = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        let mut never = Vec::new();
        loop {
            let answers = self.store.table.insert(left.clone()).await;
            let failed =
                left.into_iter().zip(answers).filter_map(|(item, answer)| Some((item, answer.err()?)));
            let (for_good, again): (Vec<_>, Vec<_>) = failed.partition(|(_, why)| why.for_good);
            never.extend(for_good);
            if again.is_empty() || Instant::now() + pause > enough {
                never.extend(again);
                return never;
            }
            left = again.into_iter().map(|(item, _)| item).collect();
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
