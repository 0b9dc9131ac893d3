//! What the embedded backend relies on: that its files stay, and that they are
//! its own. Some of these tests start this program again, as another process.
#![cfg(feature = "sqlite")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use haulage::{
    Backend, Error, Json, NewJob, Status,
    backend::{ClaimRequest, Detail, Lookup, Outcome, Purge, Settlement},
    sqlite::SqliteBackend,
};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    (folder, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

async fn submit(backend: &SqliteBackend, n: usize) -> Result<(), Error> {
    let job = || NewJob::new("x").expect("JSON");
    for answer in backend.submit((0..n).map(|_| job()).collect()).await? {
        answer?;
    }
    Ok(())
}

async fn stored(path: &Path) -> u64 {
    let backend = SqliteBackend::open(path).await.expect("open");
    backend.stats().await.expect("stats").unfinished()
}

/// The part of another process: opens the database, says so, and does what
/// `PART` says.
#[tokio::test]
#[ignore = "the other process of other tests"]
async fn other_process() {
    let Some(path) = std::env::var_os("DATABASE").map(PathBuf::from) else { return };
    let backend = SqliteBackend::open(&path).await.expect("open");
    submit(&backend, 5).await.expect("submit");
    match std::env::var("PART").expect("a part").as_str() {
        "read the files" => {
            // A backup, or another copy of SQLite: closing a file drops all
            // POSIX locks of this process on it.
            for suffix in ["", "-shm", "-wal"] {
                fs::read(beside(&path, suffix)).expect("read");
            }
            println!("read");
            wait_for_line();
            submit(&backend, 5).await.expect("submit");
            println!("acknowledged");
            wait_for_line();
        }
        part => panic!("{part}"),
    }
}

fn wait_for_line() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Other {
    process: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(path: &Path, part: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "other_process", "--ignored", "--nocapture"])
            .env("DATABASE", path)
            .env("PART", part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let says = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, says }
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        while !line.ends_with(&format!("{word}\n")) {
            line.clear();
            let n = self.says.read_line(&mut line).expect("read");
            assert!(n > 0, "the other process ended before it said {word}");
        }
    }

    fn tell(&mut self) {
        use std::io::Write as _;
        self.process.stdin.as_mut().expect("piped").write_all(b"\n").expect("write");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_that_reads_the_files_itself_loses_no_acknowledged_job() {
    let (_folder, path) = folder();
    let mut other = Other::start(&path, "read the files");
    other.hear("read");
    // For whoever finds no lock of the other process, this is the last one out.
    let backend = SqliteBackend::open(&path).await.expect("open");
    backend.close().await.expect("close");
    other.tell();
    other.hear("acknowledged");
    drop(other); // kill -9
    assert_eq!(stored(&path).await, 10);
}

#[tokio::test]
async fn opening_a_database_twice_keeps_its_log() {
    let (_folder, path) = folder();
    let first = SqliteBackend::open(&path).await.expect("open");
    submit(&first, 1).await.expect("submit");
    let log = fs::metadata(beside(&path, "-wal")).expect("log").ino();
    SqliteBackend::open(&path).await.expect("open again").close().await.expect("close");
    assert_eq!(fs::metadata(beside(&path, "-wal")).expect("log").ino(), log);
}

#[tokio::test]
async fn after_the_last_close_the_file_alone_is_a_copy() {
    let (folder, path) = folder();
    let (first, second) =
        (SqliteBackend::open(&path).await.expect("open"), SqliteBackend::open(&path).await.expect("open"));
    submit(&first, 3).await.expect("submit");
    first.close().await.expect("close");
    first.close().await.expect("a second close does nothing");
    assert!(
        submit(&first, 1).await.expect_err("closed").to_string().contains("was closed: nothing was stored")
    );
    submit(&second, 1).await.expect("another handle goes on");
    // The last handle closes as well as `close` does.
    drop(second.clone());
    drop(second);
    assert!(!beside(&path, "-wal").exists());
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).expect("copy");
    assert_eq!(stored(&copy).await, 4);
}

#[tokio::test]
async fn a_claim_that_waits_ends_with_the_close() {
    let (_folder, path) = folder();
    let backend = SqliteBackend::open(&path).await.expect("open");
    let request = ClaimRequest::new("w", Duration::from_secs(30)).wait(Duration::from_secs(3600));
    let waiting = tokio::spawn({
        let backend = backend.clone();
        async move { backend.claim(request, Default::default()).await }
    });
    backend.stats().await.expect("stats");
    backend.close().await.expect("close");
    let error = waiting.await.expect("no panic").expect_err("closed");
    assert!(error.to_string().contains("was closed"), "{error}");
}

fn is_gone(error: &Error, so: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(text.contains("was deleted, moved or replaced") && text.contains(so), "{text}");
}

#[tokio::test]
async fn nothing_is_acknowledged_into_files_that_are_gone() {
    let (folder, path) = folder();
    let backend = SqliteBackend::open(&path).await.expect("open");
    submit(&backend, 1).await.expect("submit");
    let old = folder.path().join("old");
    fs::create_dir(&old).expect("folder");
    for lost in ["x.db", "x.db-wal"] {
        fs::rename(folder.path().join(lost), old.join(lost)).expect("move");
        is_gone(&submit(&backend, 1).await.expect_err("gone"), "nothing was stored");
        is_gone(&backend.stats().await.expect_err("gone"), "out of date");
        // Something else of that name is not it, either.
        fs::write(folder.path().join(lost), "").expect("write");
        is_gone(&submit(&backend, 1).await.expect_err("gone"), "nothing was stored");
        // Once they are back, all is well.
        fs::rename(old.join(lost), folder.path().join(lost)).expect("move back");
        submit(&backend, 1).await.expect("submit");
    }
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 3);
}

#[tokio::test]
async fn a_new_database_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
    let (folder, path) = folder();
    let modes = || {
        let mut modes: Vec<_> = fs::read_dir(folder.path())
            .expect("list")
            .map(|entry| {
                let entry = entry.expect("entry");
                (entry.file_name(), entry.metadata().expect("metadata").mode() & 0o777)
            })
            .collect();
        modes.sort();
        modes
    };
    let backend = SqliteBackend::open(&path).await.expect("open");
    submit(&backend, 1).await.expect("submit");
    assert_eq!(modes().len(), 4, "{:?}", modes());
    assert!(modes().iter().all(|(_, mode)| *mode == 0o600), "{:?}", modes());
    backend.close().await.expect("close");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).expect("chmod");
    let backend = SqliteBackend::open(&path).await.expect("open");
    submit(&backend, 1).await.expect("submit");
    assert!(modes().iter().all(|(_, mode)| *mode == 0o660), "{:?}", modes());
}

#[tokio::test]
async fn a_database_with_a_second_name_is_refused() {
    let (folder, path) = folder();
    SqliteBackend::open(&path).await.expect("create").close().await.expect("close");
    let second = folder.path().join("second.db");
    fs::hard_link(&path, &second).expect("link");
    for name in [&path, &second] {
        let error = SqliteBackend::open(name).await.expect_err("refused");
        assert!(matches!(&error, Error::Config(m) if m.contains("a real copy of the file")), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_left_alone() {
    let error = SqliteBackend::open("/dev/null").await.expect_err("refused");
    assert!(matches!(&error, Error::Config(m) if m.contains("is a device")), "{error:?}");
    assert!(!Path::new("/dev/null-wake").exists());
}

#[tokio::test]
async fn what_is_purged_is_in_none_of_the_files() {
    let (folder, path) = folder();
    let backend = SqliteBackend::open(&path).await.expect("open");
    let (secret, kept) = ("078-05-1120 ".repeat(2_000), "kept ".repeat(2_000));
    let job = |text: &str| NewJob::new(text).expect("JSON");
    let ids: Vec<_> = backend
        .submit(vec![job(&secret), job(&kept), job("078-05-1120")])
        .await
        .expect("submit")
        .into_iter()
        .map(|answer| answer.expect("accepted").id)
        .collect();
    let holds = |text: &str| {
        fs::read_dir(folder.path()).expect("list").any(|entry| {
            let bytes = fs::read(entry.expect("entry").path()).expect("read");
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        })
    };
    assert!(holds("078-05-1120"));
    let purged = backend.purge(Purge::Jobs(vec![ids[0].clone(), ids[2].clone()])).await.expect("purge");
    assert_eq!(purged, 2);
    assert!(!holds("078-05-1120"));
    assert!(holds("kept kept"));
}

#[tokio::test]
async fn what_was_swept_and_what_is_deleted_after_a_sweep_is_in_none_of_the_files() {
    let (folder, path) = folder();
    let backend = SqliteBackend::open(&path).await.expect("open");
    let submit =
        async |job: NewJob| backend.submit(vec![job]).await.expect("submit").remove(0).expect("new").id;
    let job = |text: &str, times| NewJob::new(&text.repeat(times)).expect("JSON");
    let swept = submit(job("078-05-1120 ", 20_000).result_ttl(Duration::ZERO)).await;
    backend.cancel(vec![swept.clone()]).await.expect("cancel");
    let limit = Instant::now() + Duration::from_secs(120);
    // Whoever writes looks every 5 s for what has expired; nothing tells when it has been deleted.
    while backend.get(vec![swept.clone()], Detail::Status).await.expect("get") != [Lookup::Missing] {
        assert!(Instant::now() < limit, "nobody sweeps");
        let small = submit(NewJob::new(&1).expect("JSON")).await;
        backend.cancel(vec![small]).await.expect("cancel");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Smaller, so that it does not take the place of all that was swept.
    submit(job("219-09-9999 ", 2_000).drop_body()).await;
    let request = ClaimRequest::new("worker", Duration::from_secs(60));
    let claimed = backend.claim(request, Default::default()).await.expect("claim").remove(0);
    let success = Outcome::Success(Json::encode(&1).expect("JSON"));
    backend.settle(vec![Settlement::new(claimed.key, success)]).await.expect("settle");
    // In the log there are pages as they were; a purge empties it.
    backend.purge(Purge::status(Status::Cancelled, Duration::ZERO)).await.expect("purge");
    let holds = |secret: &str| {
        fs::read_dir(folder.path()).expect("list").any(|entry| {
            let bytes = fs::read(entry.expect("entry").path()).expect("read");
            bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
        })
    };
    assert_eq!((holds("078-05-1120"), holds("219-09-9999")), (false, false));
}

/// Keeps the warnings of this process, each with its fields.
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, what: &tracing::Metadata<'_>) -> bool {
        *what.level() == tracing::Level::WARN && what.is_event()
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!("{field}={value:?} "));
        });
        self.0.lock().expect("lock").push(line);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        unreachable!("no span is enabled")
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}

    fn enter(&self, _: &tracing::Id) {}

    fn exit(&self, _: &tracing::Id) {}
}

#[tokio::test]
async fn a_purge_warns_of_a_reader_who_keeps_what_was_deleted_in_the_log() {
    let (_folder, path) = folder();
    let warnings = Arc::<Mutex<Vec<String>>>::default();
    tracing::subscriber::set_global_default(Warnings(warnings.clone())).expect("the only one");
    let heard = || {
        let (warnings, path) = (warnings.lock().expect("lock"), path.display().to_string());
        warnings.iter().filter(|line| line.contains(&path)).cloned().collect::<Vec<_>>()
    };
    let backend = SqliteBackend::open(&path).await.expect("open");
    let all = || Purge::status(Status::Submitted, Duration::ZERO);
    submit(&backend, 1).await.expect("submit");
    assert_eq!(backend.purge(all()).await.expect("purge"), 1);
    assert!(heard().is_empty(), "nobody reads: {:?}", heard());
    submit(&backend, 1).await.expect("submit");
    let reader = rusqlite::Connection::open(&path).expect("open");
    reader.execute_batch("BEGIN; SELECT count(*) FROM counts").expect("read");
    assert_eq!(backend.purge(all()).await.expect("purge"), 1);
    assert!(
        matches!(heard().as_slice(), [line] if line.contains("a reader keeps the log from being emptied")),
        "{:?}",
        heard()
    );
}
