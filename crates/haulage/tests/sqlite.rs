//! The embedded backend passes the suite.
#![cfg(feature = "sqlite")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use haulage::{
    Backend, Clock, Timestamp,
    conformance::{self, Subject},
    sqlite::SqliteBackend,
};
use tempfile::TempDir;

/// Each backend in a file of its own, on a clock that only the suite moves.
struct Sqlite {
    folder: TempDir,
    next: AtomicUsize,
}

#[async_trait::async_trait]
impl Subject for Sqlite {
    async fn fresh(&self) -> Arc<dyn Backend> {
        let path = self.folder.path().join(format!("{}.db", self.next.fetch_add(1, Ordering::Relaxed)));
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        Arc::new(SqliteBackend::options(path).clock(clock).open().await.expect("open"))
    }

    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn pass(&self, backend: &dyn Backend, by: Duration) {
        backend.clock().advance(by);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    let folder = tempfile::tempdir().expect("tempdir");
    conformance::run(&Sqlite { folder, next: AtomicUsize::new(0) }).await.assert_ok();
}

#[tokio::test]
async fn a_link_leads_to_the_same_queue() {
    let folder = tempfile::tempdir().expect("tempdir");
    let (real, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
    std::os::unix::fs::symlink("real.db", &link).expect("link");
    let through_link = SqliteBackend::open(&link).await.expect("create through the link");
    let direct = SqliteBackend::open(&real).await.expect("open");
    assert_eq!(through_link.path(), direct.path());
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).expect("list").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["link.db", "real.db", "real.db-shm", "real.db-wake", "real.db-wal"]);
}
