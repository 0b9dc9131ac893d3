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

use super::tag::mark;

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
    watched: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    jobs: HashMap<JobId, Watched>,
    /// Whether there is a task that looks: one, however often watchers come and go.
    is_looking: bool,
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
    watched: Weak<Mutex<Table>>,
    changed: watch::Receiver<u64>,
}

fn lock(watched: &Mutex<Table>) -> MutexGuard<'_, Table> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, watched: Arc::default() }
    }

    /// Watches the job of which that is known.
    pub(super) fn watch(&self, known: &Record) -> Watch {
        let mut watched = lock(&self.watched);
        let new = || Watched { watchers: 0, mark: mark(known), changed: watch::Sender::new(0) };
        let entry = watched.jobs.entry(known.id.clone()).or_insert_with(new);
        entry.watchers += 1;
        let mut changed = entry.changed.subscribe();
        if entry.mark != mark(known) {
            // Others have seen it change already.
            changed.mark_changed();
        }
        let is_looking = std::mem::replace(&mut watched.is_looking, true);
        drop(watched);
        if !is_looking {
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
        if let Some(entry) = watched.jobs.get_mut(&self.id) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                watched.jobs.remove(&self.id);
            }
        }
    }
}

/// Looks as long as anybody watches.
async fn look(backend: Arc<dyn Backend>, watched: Weak<Mutex<Table>>) {
    let mut outcomes = backend.signals().outcomes;
    let often = if outcomes.is_some() { OFTEN } else { SELDOM };
    loop {
        let ids: Vec<JobId> = match watched.upgrade() {
            Some(watched) => lock(&watched).jobs.keys().cloned().collect(),
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
                if let Some(entry) = watched.jobs.get_mut(id).filter(|entry| entry.mark != mark) {
                    entry.mark = mark;
                    entry.changed.send_modify(|changes| *changes += 1);
                }
            }
        }
        let took = began.elapsed();
        tokio::time::sleep((took * PAUSE).clamp(LEAST_PAUSE, OFTEN)).await;
        let _ = tokio::time::timeout(often, signal(&mut outcomes)).await;
        let Some(watched) = watched.upgrade() else { return };
        let mut watched = lock(&watched);
        if watched.jobs.is_empty() {
            watched.is_looking = false;
            return;
        }
    }
}

/// Waits for a signal of the store; for ever where there will be none.
pub(super) async fn signal(signals: &mut Option<watch::Receiver<u64>>) {
    if let Some(signals) = signals
        && signals.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use haulage::{JobSpec, sqlite::SqliteBackend};

    use super::*;

    #[tokio::test]
    async fn one_task_looks_however_often_watchers_come_and_go() {
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
        let backend: Arc<dyn Backend> = Arc::new(backend);
        let record = Record::new("job".into(), JobSpec::default(), backend.clock().now());
        let watches = Watches::new(Arc::clone(&backend));
        let idle = Arc::strong_count(&backend);
        for _ in 0..9 {
            drop(watches.watch(&record));
        }
        assert_eq!(Arc::strong_count(&backend), idle + 1, "the one that looks has it");
        // It ends where nobody watches any more, and the next who watches is told all the same.
        while Arc::strong_count(&backend) > idle {
            tokio::time::sleep(LEAST_PAUSE).await;
        }
        let mut watch = watches.watch(&record);
        tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.expect("it is not there");
    }
}
