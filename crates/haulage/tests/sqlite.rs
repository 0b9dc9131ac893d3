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
    Backend, Clock, NewJob, Timestamp,
    backend::{ClaimRequest, Outcome, Settlement, Update},
    conformance::{self, Subject},
    sqlite::SqliteBackend,
};
use tempfile::TempDir;

/// Each backend in a file of its own, on a clock that only the suite moves.
struct Sqlite {
    folder: TempDir,
    next: AtomicUsize,
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("tempdir"), next: AtomicUsize::new(0) }
    }
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
    conformance::run(&Sqlite::new()).await.assert_ok();
}

#[test]
fn agrees_with_the_model() {
    conformance::run_model(&Sqlite::new(), 32);
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

/// Opens a database that is not ours to open, and returns what is said; nothing
/// may have been changed or made by that.
async fn left_alone(folder: &TempDir, path: &std::path::Path) -> String {
    let state = || {
        let entries = std::fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").path());
        let mut files: Vec<_> = entries.map(|path| (std::fs::read(&path).expect("read"), path)).collect();
        files.sort();
        files
    };
    let before = state();
    let error = SqliteBackend::open(path).await.expect_err("refused");
    assert!(state() == before, "the folder has changed");
    assert!(matches!(error, haulage::Error::Config(_)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_database_of_a_newer_haulage_is_left_alone_and_says_so() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    drop(SqliteBackend::open(&path).await.expect("create"));
    let sql = rusqlite::Connection::open(&path).expect("open");
    let version: i64 = sql.query_row("PRAGMA user_version", [], |r| r.get(0)).expect("version");
    sql.pragma_update(None, "user_version", version + 1).expect("newer");
    alone(sql);
    let says = left_alone(&folder, &path).await;
    let expected = format!("has schema version {}, and this version of Haulage knows {version}", version + 1);
    assert!(says.contains(&expected), "{says}");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone_and_says_so() {
    for made in ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7; PRAGMA user_version = 1"] {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let sql = rusqlite::Connection::open(&path).expect("open");
        sql.execute_batch(made).expect("make it");
        alone(sql);
        let says = left_alone(&folder, &path).await;
        assert!(says.contains("is an SQLite database of another program"), "{made}: {says}");
    }
}

/// Waits until nobody else has the database open, and closes it: then it is one file.
fn alone(sql: rusqlite::Connection) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while sql.pragma_update(None, "journal_mode", "DELETE").is_err() {
        assert!(std::time::Instant::now() < end, "somebody has it open");
        std::thread::yield_now();
    }
    drop(sql);
}

#[tokio::test]
async fn a_check_tells_of_slots_that_give_jobs_back() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
    backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    let slots = async || {
        let findings = backend.check().await.expect("check");
        findings
            .into_iter()
            .filter(|finding| finding.check == "slots")
            .map(|finding| finding.message)
            .collect()
    };
    for reason in ["slot 3, GPU 1: CUDA error", "slot 3, GPU 1: CUDA error: an illegal address\nand more"] {
        let request = ClaimRequest::new("gpu-7", Duration::from_secs(60));
        let claimed = backend.claim(request, Default::default()).await.expect("claim").remove(0);
        let outcome = Outcome::Release { after: Duration::ZERO, reason: Some(reason.into()), begun: true };
        let update = Update::default().slot("slot 3, GPU 1".to_owned());
        let settlement = Settlement::new(claimed.key, outcome).update(update);
        backend.settle(vec![settlement]).await.expect("settle").remove(0).expect("it is held");
    }
    let said: Vec<String> = slots().await;
    assert_eq!(
        said,
        ["slot 3, GPU 1 of worker gpu-7 gave back 2 jobs within an hour: CUDA error: an illegal address"]
    );
}

#[tokio::test]
async fn a_check_finds_a_damaged_page() {
    use std::os::unix::fs::FileExt as _;

    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    drop(SqliteBackend::open(&path).await.expect("create"));
    let sql = rusqlite::Connection::open(&path).expect("open");
    let number = |query: &str| sql.query_row(query, [], |r| r.get::<_, u32>(0)).expect("number");
    let page = number("SELECT rootpage FROM sqlite_schema WHERE name = 'body'");
    let size = number("PRAGMA page_size");
    alone(sql);
    let file = std::fs::File::options().write(true).open(&path).expect("open");
    file.write_all_at(&[0xAA; 64], u64::from((page - 1) * size)).expect("damage");
    drop(file);
    let backend = SqliteBackend::open(&path).await.expect("open");
    let findings = backend.check().await.expect("check");
    let integrity = findings.iter().find(|finding| finding.check == "integrity").expect("it is checked");
    assert_eq!(integrity.severity, haulage::backend::Severity::Problem, "{integrity:?}");
}
