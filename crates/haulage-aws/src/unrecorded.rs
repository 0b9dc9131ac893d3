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
    update::Item,
};

/// For how long a submit tries to write its records, before it goes on behind
/// the caller's back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
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

/// Whether trying on does not help: there is no table, or a policy is in the way.
fn is_for_good(error: &Error) -> bool {
    let said = error.to_string();
    matches!(error, Error::Config(_)) || said.contains("access denied") || said.contains("AccessDenied")
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
        let (left, error) = match self.try_record(items, self.record_patience).await {
            Ok(()) => return Ok(()),
            Err((_, error @ Error::Config(_))) => return Err(error),
            Err(left) => left,
        };
        warn!(
            %error, jobs = left.len(),
            "jobs are in the queue and will run, but their records cannot be written for now"
        );
        let ids: Vec<JobId> = left.iter().filter_map(id).collect();
        self.store.unrecorded.items().extend(ids.iter().cloned().zip(left.clone()));
        let inner = self.clone();
        // The end of the backend does not wait for it.
        tokio::spawn(async move {
            let _ = inner.try_record(left, inner.queue.retention).await;
            let mut items = inner.store.unrecorded.items();
            for id in ids {
                items.remove(&id);
            }
        });
        Ok(())
    }

    /// What could not be written in this time, and why.
    async fn try_record(&self, mut left: Vec<Item>, patience: Duration) -> Result<(), (Vec<Item>, Error)> {
        let enough = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let answers = self.store.table.insert(left.clone()).await;
            let mut why = None;
            left = left
                .into_iter()
                .zip(answers)
                .filter_map(|(item, answer)| {
                    why = Some(answer.err()?);
                    Some(item)
                })
                .collect();
            let Some(error) = why else { return Ok(()) };
            if is_for_good(&error) || Instant::now() + pause > enough {
                return Err((left, error));
            }
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
