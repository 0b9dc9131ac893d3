//! The records of what was sent, once it is in the queue.
//!
//! Where they cannot be written, the jobs will run all the same: the consumer that receives
//! the message makes the record. A submit that failed for them would be made again, and the
//! job would run twice.

use std::time::Duration;

use haulage::{Error, JobId};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    schema::{name, update::Item},
    services::table::NotWritten,
    state::{Inner, Shared},
};

/// The first and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

fn id(item: &Item) -> Option<JobId> {
    Some(JobId::from(item.get(name::ID)?.as_s().ok()?.as_str()))
}

impl Inner {
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
        self.store.unrecorded.note(ids.iter().cloned().zip(left.clone()));
        let inner = self.clone();
        // The end of the backend does not wait for it.
        tokio::spawn(async move {
            inner.try_record(left, inner.store.retentions.longest()).await;
            inner.store.unrecorded.forget(&ids);
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
