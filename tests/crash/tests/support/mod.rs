//! A database, the processes that work on it, and what must be true when they are done.

#![allow(dead_code, clippy::print_stderr)] // each test binary uses its part

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use haulage::{
    Backend, FailureKind, JobId, Record, Status,
    backend::{Detail, Lookup, Severity},
    sqlite::SqliteBackend,
};
use haulage_servers::{Flaky, Patience, Process};
use tempfile::TempDir;

pub(crate) const PRODUCERS: u64 = 2;
pub(crate) const CONSUMERS: usize = 3;

/// Counts, inside the database, each time that a job becomes terminal.
const AUDIT: &str = "
    CREATE TABLE audit (seq INTEGER PRIMARY KEY, ends INTEGER NOT NULL);
    CREATE TRIGGER audit_ends AFTER UPDATE OF status ON job WHEN new.status > 1
    BEGIN
        INSERT INTO audit VALUES (new.seq, 1) ON CONFLICT DO UPDATE SET ends = ends + 1;
    END;";

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Which chooses the moments of all that happens by chance.
pub(crate) fn seed() -> fastrand::Rng {
    let seed = number("HAULAGE_CRASH_SEED", u64::from(std::process::id()));
    eprintln!("HAULAGE_CRASH_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime")
}

/// A database with the audit in it.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) backend: Arc<SqliteBackend>,
    /// Where there is one, producers and consumers know of nothing else, and reach it by this way.
    server: Option<(SocketAddr, Flaky)>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("crash.db");
        let backend = runtime().block_on(SqliteBackend::open(&path)).expect("open");
        rusqlite::Connection::open(&path).expect("open").execute_batch(AUDIT).expect("audit");
        Self { folder, backend: Arc::new(backend), server: None }
    }

    /// With the address of a server, which is to be kept running: `serve`.
    pub(crate) fn with_server() -> Self {
        // Ports from 32768 on are given to whoever asks for any (`ip_local_port_range`), and this one is to be
        // free again after each kill.
        let address = loop {
            let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(10_000..32_000)));
            if TcpListener::bind(address).is_ok() {
                break address;
            }
        };
        Self { server: Some((address, Flaky::start(address, seed().u64(..)))), ..Self::new() }
    }

    /// From now on, this part of what is sent to the server, or of its answers, is lost, cut short or late.
    pub(crate) fn fail_at_random(&self, rate: f64) {
        self.flaky().fail_at_random(rate);
    }

    /// How much has gone wrong on the way to the server.
    pub(crate) fn faults(&self) -> u64 {
        self.flaky().faults()
    }

    fn flaky(&self) -> &Flaky {
        &self.server.as_ref().expect("a place with a server").1
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn start(&self, args: &[&str]) -> Process {
        let log = File::options().create(true).append(true).open(self.folder().join("log")).expect("log");
        let url = match &self.server {
            Some((_, flaky)) if args[0] != "serve" => flaky.url(),
            _ => format!("sqlite://{}", self.backend.path().display()),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_actor"));
        command
            .args([args[0], &url, self.folder().to_str().expect("UTF-8")])
            .args(&args[1..])
            .stdin(Stdio::null())
            .stderr(log);
        Process::start(&mut command)
    }

    pub(crate) fn keep(&self, args: &[&str]) -> Kept<'_> {
        let args: Vec<_> = args.iter().map(ToString::to_string).collect();
        let child = self.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        Kept { place: self, args, child, done: false }
    }

    /// Keeps the server running.
    pub(crate) fn serve(&self) -> Kept<'_> {
        let address = self.server.as_ref().expect("a place with a server").0.to_string();
        self.keep(&["serve", &address])
    }

    /// Waits until a consumer minds signals.
    pub(crate) fn await_ready(&self, consumer: &Process) {
        let note = self.folder().join(format!("ready-{}", consumer.id()));
        let mut patience = Patience::new(());
        while !note.exists() {
            assert!(!patience.is_over(()), "a consumer does not start");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The ids that producers have noted as acknowledged, by key.
    fn acknowledged(&self) -> HashMap<String, JobId> {
        let mut all = HashMap::new();
        for name in 0..PRODUCERS {
            let notes =
                fs::read_to_string(self.folder().join(format!("acknowledged-{name}"))).unwrap_or_default();
            for line in notes.split_inclusive('\n') {
                let Some((key, id)) = line.strip_suffix('\n').and_then(|l| l.split_once(' ')) else {
                    continue;
                };
                // A cut line ends in "-", which was meant for the next one.
                if id.len() != 36 {
                    continue;
                }
                let before = all.insert(key.to_owned(), JobId::from(id));
                assert!(before.is_none_or(|before| before.as_str() == id), "key {key} has two jobs");
            }
        }
        all
    }

    /// How much producers have noted, in bytes.
    pub(crate) fn noted(&self) -> u64 {
        let note = |name| self.folder().join(format!("acknowledged-{name}"));
        (0..PRODUCERS).map(|name| fs::metadata(note(name)).map_or(0, |file| file.len())).sum()
    }

    /// How often each attempt of each job was started.
    pub(crate) fn starts(&self) -> HashMap<(String, u32), u32> {
        let mut starts = HashMap::new();
        for line in fs::read_to_string(self.folder().join("starts")).expect("starts").lines() {
            let (id, attempt) = line.split_once(' ').expect("a start is one whole line");
            *starts.entry((id.to_owned(), attempt.parse().expect("attempt"))).or_insert(0) += 1;
        }
        starts
    }

    /// Waits until no job is unfinished; fails with what is still there.
    pub(crate) fn drain(&self) {
        let mut patience = Patience::new(0);
        runtime().block_on(async {
            let mut outcomes = self.backend.signals().outcomes.expect("the embedded backend signals");
            loop {
                outcomes.borrow_and_update();
                let stats = self.backend.stats().await.expect("stats");
                if stats.unfinished() == 0 {
                    return;
                }
                let log = || fs::read_to_string(self.folder().join("log")).unwrap_or_default();
                assert!(!patience.is_over(stats.unfinished()), "stuck: {stats:?}\n{}", log());
                let _ = tokio::time::timeout(Duration::from_secs(1), outcomes.changed()).await;
            }
        });
    }

    /// The same, while those who work are started again when they end.
    pub(crate) fn drain_with(&self, workers: &mut [Kept<'_>]) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    workers.iter_mut().for_each(Kept::tend);
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let drained = catch_unwind(AssertUnwindSafe(|| self.drain()));
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = drained {
                resume_unwind(panic);
            }
        });
    }

    /// Everything that must be true in the end; returns the records.
    pub(crate) fn verify(&self, jobs: u64) -> Vec<Record> {
        let acknowledged = self.acknowledged();
        assert_eq!(acknowledged.len() as u64, jobs, "every job was acknowledged");
        let ids: Vec<JobId> = acknowledged.values().cloned().collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len() as u64, jobs, "each has an id of its own");

        let (lookups, findings) = runtime().block_on(async {
            let lookups = self.backend.get(ids, Detail::Result).await;
            (lookups.expect("get"), self.backend.check().await.expect("check"))
        });
        let records: Vec<Record> = lookups
            .into_iter()
            .map(|lookup| match lookup {
                Lookup::Found(record) => record,
                lost => panic!("an acknowledged job is lost: {lost:?}"),
            })
            .collect();
        for record in &records {
            assert!(record.status.is_terminal(), "stuck: {record:?}");
            assert_eq!(record.status == Status::Success, record.result.is_some(), "{record:?}");
        }
        for finding in findings {
            assert_ne!(finding.severity, Severity::Problem, "{finding:?}");
        }

        let database = rusqlite::Connection::open(self.backend.path()).expect("open");
        let count = |sql: &str| database.query_row(sql, [], |r| r.get::<_, i64>(0)).expect("count");
        assert_eq!(count("SELECT count(*) FROM job"), i64::try_from(jobs).expect("small"), "no job twice");
        assert_eq!(count("SELECT count(*) FROM audit WHERE ends <> 1"), 0, "each has one outcome");
        assert_eq!(count("SELECT count(*) FROM audit"), i64::try_from(jobs).expect("small"));

        for ((id, attempt), times) in self.starts() {
            assert_eq!(times, 1, "attempt {attempt} of job {id} was started {times} times");
        }
        records
    }
}

/// Keeps a process running: starts it again whenever it ends, until told to stop.
pub(crate) struct Kept<'a> {
    place: &'a Place,
    pub(crate) args: Vec<String>,
    pub(crate) child: Process,
    pub(crate) done: bool,
}

impl Kept<'_> {
    /// Starts it again if it has died; a producer that ended well is done.
    pub(crate) fn tend(&mut self) {
        if self.done {
            return;
        }
        if let Some(status) = self.child.try_wait().expect("wait") {
            if status.success() && self.args[0] == "produce" {
                self.done = true;
                return;
            }
            let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
            self.child = self.place.start(&args);
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills whoever it is at random moments, while jobs are submitted and for so long at least, and sees that
/// each job comes to its end all the same.
pub(crate) fn survives_kills(place: &Place, jobs: u64, at_least: Duration) {
    let each = jobs / PRODUCERS;
    let mut random = seed();
    let mut producers: Vec<Kept<'_>> =
        (0..PRODUCERS).map(|name| place.keep(&["produce", &name.to_string(), &each.to_string()])).collect();
    let mut others: Vec<Kept<'_>> = (0..CONSUMERS).map(|_| place.keep(&["consume"])).collect();
    others.extend(place.server.is_some().then(|| place.serve()));
    let (mut kills, began) = (0, Instant::now());
    let mut patience = Patience::new(0);
    // Kills go on until all is submitted, and for a while into the rest.
    while producers.iter().any(|p| !p.done) || began.elapsed() < at_least {
        assert!(!patience.is_over(place.noted()), "the producers do not get on");
        // Longer after many, where there is a server to start again as well.
        let longer = if place.server.is_some() { 1 + kills / 200 } else { 1 };
        thread::sleep(Duration::from_millis(random.u64(1..150)) * longer);
        for actor in producers.iter_mut().chain(&mut others) {
            actor.tend();
        }
        let victims: Vec<&mut Kept<'_>> =
            producers.iter_mut().chain(&mut others).filter(|a| !a.done).collect();
        let chosen = random.usize(..victims.len());
        if let Some(victim) = victims.into_iter().nth(chosen) {
            victim.kill();
            kills += 1;
        }
    }
    // From here on only the poison jobs kill.
    place.drain_with(&mut others);

    let records = place.verify(each * PRODUCERS);
    let poisoned = (0..each).filter(|i| i % 400 == 7).count() as u64 * PRODUCERS;
    let dead: Vec<&Record> = records.iter().filter(|r| r.status == Status::Error).collect();
    assert_eq!(dead.len() as u64, poisoned, "exactly the poison jobs fail");
    for record in dead {
        let error = record.error.as_ref().expect("an error");
        assert!(record.dead && error.kind == FailureKind::WorkerLost, "{record:?}");
        assert!(error.message.contains("attempt 2 of 2 was lost"), "{error}");
    }
    eprintln!("{} jobs, {kills} kills, {} dead letters, {:?}", records.len(), poisoned, began.elapsed());
}
