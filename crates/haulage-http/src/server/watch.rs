//! Who watches a job is told of each change. One task looks, for all who watch, at all
//! their jobs together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use haulage::{
    Backend, JobId, Record,
    backend::{Detail, Lookup},
};
use tokio::{sync::watch, time::Instant};

use super::jobs::mark;

/// How often to look, where a signal tells of ends: for progress.
const OFTEN: Duration = Duration::from_secs(1);
/// The same where there is no signal, and a look is most likely paid for.
const SELDOM: Duration = Duration::from_secs(5);
/// The least pause between two looks, as a multiple of what the last one took.
const PAUSE: u32 = 4;
/// The same, at least.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// How many ids go into one look-up.
const CHUNK: usize = 1000;

/// All that is watched.
#[derive(Debug)]
pub(super) struct Watches {
    backend: Arc<dyn Backend>,
    watched: Arc<Mutex<HashMap<JobId, Watched>>>,
}

#[derive(Debug)]
struct Watched {
    watchers: usize,
    /// The mark of what it was last; see [`mark`].
    mark: String,
    changed: watch::Sender<u64>,
}

/// Somebody who watches a job.
#[derive(Debug)]
pub(super) struct Watch {
    id: JobId,
    watched: Weak<Mutex<HashMap<JobId, Watched>>>,
    changed: watch::Receiver<u64>,
}

type Map = Mutex<HashMap<JobId, Watched>>;

fn lock(watched: &Map) -> MutexGuard<'_, HashMap<JobId, Watched>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, watched: Arc::default() }
    }

    /// Watches the job of which that is known.
    pub(super) fn watch(&self, known: &Record) -> Watch {
        let mut watched = lock(&self.watched);
        let is_first = watched.is_empty();
        let new = || Watched { watchers: 0, mark: mark(known), changed: watch::Sender::new(0) };
        let entry = watched.entry(known.id.clone()).or_insert_with(new);
        entry.watchers += 1;
        let mut changed = entry.changed.subscribe();
        if entry.mark != mark(known) {
            // Others have seen it change already.
            changed.mark_changed();
        }
        drop(watched);
        if is_first {
            tokio::spawn(look(Arc::clone(&self.backend), Arc::downgrade(&self.watched)));
        }
        Watch { id: known.id.clone(), watched: Arc::downgrade(&self.watched), changed }
    }
}

impl Watch {
    /// Waits until the job is not what it was.
    pub(super) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(watched) = self.watched.upgrade() else { return };
        let mut watched = lock(&watched);
        if let Some(entry) = watched.get_mut(&self.id) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                watched.remove(&self.id);
            }
        }
    }
}

/// Looks as long as anybody watches.
async fn look(backend: Arc<dyn Backend>, watched: Weak<Map>) {
    let mut outcomes = backend.signals().outcomes;
    let often = if outcomes.is_some() { OFTEN } else { SELDOM };
    loop {
        let ids: Vec<JobId> = match watched.upgrade() {
            Some(watched) => lock(&watched).keys().cloned().collect(),
            None => return,
        };
        let began = Instant::now();
        for ids in ids.chunks(CHUNK) {
            // Where the store is out of reach, nothing is known to have changed.
            let Ok(found) = backend.peek(ids.to_vec(), Detail::Status).await else { break };
            let Some(watched) = watched.upgrade() else { return };
            let mut watched = lock(&watched);
            for (id, found) in ids.iter().zip(found) {
                let mark = match &found {
                    Lookup::Found(record) => mark(record),
                    Lookup::Expired | Lookup::Missing => "gone".to_owned(),
                    Lookup::Unrecorded { .. } | Lookup::Incomplete { .. } => continue,
                };
                if let Some(entry) = watched.get_mut(id).filter(|entry| entry.mark != mark) {
                    entry.mark = mark;
                    entry.changed.send_modify(|changes| *changes += 1);
                }
            }
        }
        let took = began.elapsed();
        tokio::time::sleep((took * PAUSE).clamp(LEAST_PAUSE, OFTEN)).await;
        let signal = async {
            if let Some(outcomes) = &mut outcomes
                && outcomes.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        let _ = tokio::time::timeout(often, signal).await;
        let Some(watched) = watched.upgrade() else { return };
        if lock(&watched).is_empty() {
            return;
        }
    }
}
