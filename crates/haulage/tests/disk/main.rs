//! The embedded backend on a disk that a test can look into, and break.
#![cfg(feature = "sqlite")]

mod disk;
mod flushes;
mod power;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
mod upkeep;
mod vfs;

use std::{path::PathBuf, sync::Arc, time::Duration};

use haulage::{
    Backend, Clock, JobId, Json, NewJob, Record, Result, Status,
    backend::{ClaimRequest, Claimed, Detail, Lookup, Outcome, Settlement},
    sqlite::SqliteBackend,
};
use tempfile::TempDir;

use self::{disk::Disk, support::manual_clock};

/// A database on a disk of its own.
struct Store {
    backend: Arc<SqliteBackend>,
    disk: Arc<Disk>,
    clock: Clock,
    folder: TempDir,
}

impl Store {
    async fn new() -> Self {
        Self::with_busy_timeout(Duration::from_secs(30)).await
    }

    async fn with_busy_timeout(timeout: Duration) -> Self {
        let (folder, clock) = (tempfile::tempdir().expect("tempdir"), manual_clock());
        let disk = vfs::mount(folder.path());
        let options = SqliteBackend::options(folder.path().join("x.db"));
        let backend = options.clock(clock.clone()).busy_timeout(timeout).open().await.expect("open");
        Self { backend: Arc::new(backend), disk, clock, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.db")
    }

    /// A connection of somebody else, for what no verb shows.
    fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).expect("open")
    }

    fn count(&self, what: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {what}");
        self.sql().query_row(&sql, [], |row| row.get(0)).expect("count")
    }
}

fn job(body: &str) -> NewJob {
    NewJob::new(body).expect("JSON")
}

/// A document of about this size.
fn large(bytes: usize) -> Json {
    Json::parse(&format!("\"{}\"", "x".repeat(bytes))).expect("JSON")
}

async fn submit(backend: &dyn Backend, job: NewJob) -> Result<JobId> {
    let submitted = backend.submit(vec![job]).await?.remove(0)?;
    Ok(submitted.id)
}

/// Up to `max` jobs that are due now.
async fn claim(backend: &dyn Backend, max: usize) -> Result<Vec<Claimed>> {
    wait_for(backend, max, Duration::ZERO).await
}

/// Up to `max` jobs, after a wait for the first.
async fn wait_for(backend: &dyn Backend, max: usize, wait: Duration) -> Result<Vec<Claimed>> {
    let request = ClaimRequest::new("w", Duration::from_secs(30)).max(max).wait(wait);
    backend.claim(request, Default::default()).await
}

async fn settle(backend: &dyn Backend, claimed: &Claimed, outcome: Outcome) -> Result<Status> {
    backend.settle(vec![Settlement::new(claimed.key.clone(), outcome)]).await?.remove(0)
}

async fn look(backend: &dyn Backend, id: &JobId) -> Lookup {
    backend.get(vec![id.clone()], Detail::Result).await.expect("get").remove(0)
}

async fn record(backend: &dyn Backend, id: &JobId) -> Record {
    look(backend, id).await.into_record(id).expect("the record")
}
