//! What must hold through kill -9 of anybody at any moment, through processes
//! that are stopped for longer than a lease, and through restarts under load:
//! nothing lost, nothing recorded twice, nothing stuck.
//!
//! `HAULAGE_CRASH_SEED` chooses the moments of the kills, `HAULAGE_CRASH_JOBS`
//! how many jobs (20,000).
#![allow(clippy::print_stderr, missing_docs)]

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use haulage::{
    Backend, FailureKind, JobId, Json, NewJob, Producer, Record, Status,
    backend::{Detail, Lookup, Severity},
    sqlite::SqliteBackend,
};
use haulage_servers::{Patience, Process};
use tempfile::TempDir;

const PRODUCERS: u64 = 2;
const CONSUMERS: usize = 3;

/// Counts, inside the database, each time that a job becomes terminal.
const AUDIT: &str = "
    CREATE TABLE audit (seq INTEGER PRIMARY KEY, ends INTEGER NOT NULL);
    CREATE TRIGGER audit_ends AFTER UPDATE OF status ON job WHEN new.status > 1
    BEGIN
        INSERT INTO audit VALUES (new.seq, 1) ON CONFLICT DO UPDATE SET ends = ends + 1;
    END;";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime")
}

fn start(folder: &Path, args: &[&str]) -> Process {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_actor"));
    command
        .args([args[0], folder.to_str().expect("UTF-8")])
        .args(&args[1..])
        .stdin(Stdio::null())
        .stderr(log);
    Process::start(&mut command)
}

/// Waits until a consumer minds signals.
fn await_ready(folder: &Path, consumer: &Process) {
    let note = folder.join(format!("ready-{}", consumer.id()));
    let mut patience = Patience::new(());
    while !note.exists() {
        assert!(!patience.is_over(()), "a consumer does not start");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Makes the database and puts the audit into it.
fn prepare() -> (TempDir, SqliteBackend) {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("crash.db");
    let backend = runtime().block_on(SqliteBackend::open(&path)).expect("open");
    rusqlite::Connection::open(&path).expect("open").execute_batch(AUDIT).expect("audit");
    (folder, backend)
}

/// The ids that producers have noted as acknowledged, by key.
fn acknowledged(folder: &Path) -> HashMap<String, JobId> {
    let mut all = HashMap::new();
    for name in 0..PRODUCERS {
        let notes = fs::read_to_string(folder.join(format!("acknowledged-{name}"))).unwrap_or_default();
        for line in notes.split_inclusive('\n') {
            let Some((key, id)) = line.strip_suffix('\n').and_then(|l| l.split_once(' ')) else { continue };
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
fn noted(folder: &Path) -> u64 {
    let size = |name| fs::metadata(folder.join(format!("acknowledged-{name}"))).map_or(0, |file| file.len());
    (0..PRODUCERS).map(size).sum()
}

/// How often each attempt of each job was started.
fn starts(folder: &Path) -> HashMap<(String, u32), u32> {
    let mut starts = HashMap::new();
    for line in fs::read_to_string(folder.join("starts")).expect("starts").lines() {
        let (id, attempt) = line.split_once(' ').expect("a start is one whole line");
        *starts.entry((id.to_owned(), attempt.parse().expect("attempt"))).or_insert(0) += 1;
    }
    starts
}

/// Waits until no job is unfinished; fails with what is still there.
fn drain(backend: &SqliteBackend, folder: &Path) {
    let mut patience = Patience::new(0);
    runtime().block_on(async {
        let mut outcomes = backend.signals().outcomes.expect("the embedded backend signals");
        loop {
            outcomes.borrow_and_update();
            let stats = backend.stats().await.expect("stats");
            if stats.unfinished() == 0 {
                return;
            }
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(!patience.is_over(stats.unfinished()), "stuck: {stats:?}\n{}", log());
            let _ = tokio::time::timeout(Duration::from_secs(1), outcomes.changed()).await;
        }
    });
}

/// Everything that must be true in the end; returns the records.
fn verify(folder: &Path, backend: &SqliteBackend, jobs: u64) -> Vec<Record> {
    let acknowledged = acknowledged(folder);
    assert_eq!(acknowledged.len() as u64, jobs, "every job was acknowledged");
    let ids: Vec<JobId> = acknowledged.values().cloned().collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len() as u64, jobs, "each has an id of its own");

    let (lookups, findings) = runtime().block_on(async {
        (backend.get(ids, Detail::Result).await.expect("get"), backend.check().await.expect("check"))
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

    let database = rusqlite::Connection::open(backend.path()).expect("open");
    let count = |sql: &str| database.query_row(sql, [], |r| r.get::<_, i64>(0)).expect("count");
    assert_eq!(count("SELECT count(*) FROM job"), i64::try_from(jobs).expect("small"), "no job twice");
    assert_eq!(count("SELECT count(*) FROM audit WHERE ends <> 1"), 0, "each has one outcome");
    assert_eq!(count("SELECT count(*) FROM audit"), i64::try_from(jobs).expect("small"));

    for ((id, attempt), times) in starts(folder) {
        assert_eq!(times, 1, "attempt {attempt} of job {id} was started {times} times");
    }
    records
}

/// Keeps a process running: starts it again whenever it ends, until told to stop.
struct Kept<'a> {
    folder: &'a Path,
    args: Vec<String>,
    child: Process,
    done: bool,
}

impl<'a> Kept<'a> {
    fn new(folder: &'a Path, args: &[&str]) -> Self {
        Self {
            folder,
            args: args.iter().map(ToString::to_string).collect(),
            child: start(folder, args),
            done: false,
        }
    }

    /// Starts it again if it has died; a producer that ended well is done.
    fn tend(&mut self) {
        if self.done {
            return;
        }
        if let Some(status) = self.child.try_wait().expect("wait") {
            if status.success() && self.args[0] == "produce" {
                self.done = true;
                return;
            }
            let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
            self.child = start(self.folder, &args);
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn killed_at_random_moments() {
    let seed = number("HAULAGE_CRASH_SEED", u64::from(std::process::id()));
    let jobs = number("HAULAGE_CRASH_JOBS", 20_000);
    let each = jobs / PRODUCERS;
    eprintln!("HAULAGE_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (folder, backend) = prepare();
    let folder = folder.path();

    let mut producers: Vec<Kept<'_>> = (0..PRODUCERS)
        .map(|name| Kept::new(folder, &["produce", &name.to_string(), &each.to_string()]))
        .collect();
    let mut consumers: Vec<Kept<'_>> = (0..CONSUMERS).map(|_| Kept::new(folder, &["consume"])).collect();
    let (mut kills, began) = (0, Instant::now());
    let mut patience = Patience::new(0);
    // Kills go on until all is submitted, and for a while into the rest.
    while producers.iter().any(|p| !p.done) || began.elapsed() < Duration::from_secs(20) {
        assert!(!patience.is_over(noted(folder)), "the producers do not get on");
        thread::sleep(Duration::from_millis(random.u64(1..150)));
        for actor in producers.iter_mut().chain(&mut consumers) {
            actor.tend();
        }
        let victims: Vec<&mut Kept<'_>> =
            producers.iter_mut().chain(&mut consumers).filter(|a| !a.done).collect();
        let chosen = random.usize(..victims.len());
        if let Some(victim) = victims.into_iter().nth(chosen) {
            victim.kill();
            kills += 1;
        }
    }
    // From here on only the poison jobs kill.
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                consumers.iter_mut().for_each(Kept::tend);
                thread::sleep(Duration::from_millis(20));
            }
        });
        let drained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drain(&backend, folder)));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Err(panic) = drained {
            std::panic::resume_unwind(panic);
        }
    });

    let records = verify(folder, &backend, each * PRODUCERS);
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

/// What crashes its process, beside jobs that have no attempt to spare.
#[test]
fn a_job_that_crashes_its_worker_takes_no_other_with_it() {
    let (folder, backend) = prepare();
    let submit = |body: &str, attempts, count| {
        let job = NewJob::from_json(Json::parse(body).expect("JSON")).max_attempts(attempts);
        let answers = runtime().block_on(backend.submit(vec![job; count])).expect("submit");
        answers.into_iter().map(|answer| answer.expect("accepted").id).collect::<Vec<_>>()
    };
    let end_of_worker = || start(folder.path(), &["consume"]).wait().expect("wait");
    let mut innocent = submit(r#"{"work":500}"#, 2, 8);
    let poison = submit(r#""poison""#, 3, 1).remove(0);
    assert!(!end_of_worker().success(), "it crashes with all nine");
    // New ones, which meet it when it comes back.
    innocent.extend(submit(r#"{"work":500}"#, 1, 8));
    assert!(!end_of_worker().success(), "it crashes with it, and the new ones");
    let mut worker = Kept::new(folder.path(), &["consume"]);
    let mut patience = Patience::new(0);
    let record = |id: &JobId| {
        let found = runtime().block_on(backend.get(vec![id.clone()], Detail::Result)).expect("get").remove(0);
        found.into_record(id).expect("a record")
    };
    loop {
        worker.tend();
        let unfinished = runtime().block_on(backend.stats()).expect("stats").unfinished();
        if unfinished == 0 {
            break;
        }
        assert!(!patience.is_over(unfinished), "stuck with {unfinished} jobs");
        thread::sleep(Duration::from_millis(20));
    }
    let ends: Vec<_> = innocent.iter().map(|id| record(id).status).collect();
    assert_eq!(ends, [Status::Success; 16]);
    let poison = record(&poison);
    assert!(poison.dead && poison.attempt == 3, "{poison:?}");
}

/// As a suspended machine, a paused container or a debugger does it.
#[test]
fn stopped_for_longer_than_a_lease_at_random_moments() {
    const EACH: u64 = 2_000;
    let seed = number("HAULAGE_CRASH_SEED", u64::from(std::process::id()));
    eprintln!("HAULAGE_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (folder, backend) = prepare();
    let folder = folder.path();
    let mut actors: Vec<Kept<'_>> = (0..PRODUCERS)
        .map(|name| Kept::new(folder, &["produce", &name.to_string(), &EACH.to_string(), "plain"]))
        .chain((0..CONSUMERS).map(|_| Kept::new(folder, &["consume"])))
        .collect();
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(random.u64(50..300)));
        actors.iter_mut().for_each(Kept::tend);
        // The lease is 2 s.
        let stopped: Vec<_> = actors.iter().filter(|actor| !actor.done && random.bool()).collect();
        stopped.iter().for_each(|actor| actor.child.signal(libc::SIGSTOP));
        thread::sleep(Duration::from_millis(random.u64(100..3_500)));
        stopped.iter().for_each(|actor| actor.child.signal(libc::SIGCONT));
    }
    let mut patience = Patience::new(0);
    while actors.iter().any(|actor| actor.args[0] == "produce" && !actor.done) {
        assert!(!patience.is_over(noted(folder)), "the producers do not get on");
        thread::sleep(Duration::from_millis(50));
        actors.iter_mut().for_each(Kept::tend);
    }
    drain(&backend, folder);
    let records = verify(folder, &backend, EACH * PRODUCERS);
    assert!(records.iter().all(|r| r.status == Status::Success), "nobody's job failed");
}

/// What one process has submitted or ended, another hears of at once, and not
/// when it looks by itself.
#[test]
fn processes_wake_each_other() {
    let (folder, backend) = prepare();
    let _consumer = Kept::new(folder.path(), &["consume"]);
    let producer = Producer::new(Arc::new(backend));
    let runtime = runtime();
    let nine = || {
        let mut times = runtime.block_on(async {
            let mut times = Vec::new();
            for _ in 0..9 {
                let began = Instant::now();
                let job = producer.submit(&"nothing").await.expect("submit");
                job.wait_result::<u32>(Some(Duration::from_secs(300))).await.expect("result");
                times.push(began.elapsed());
            }
            times
        });
        times.sort();
        times
    };
    // By itself, each of the two looks every one to two seconds. A machine may be under load for some.
    let times: Vec<_> =
        (0..3).map(|_| nine()).take_while(|nine| nine[4] >= Duration::from_millis(400)).collect();
    assert!(times.len() < 3, "{times:?}");
}

#[test]
fn sigterm_under_load_runs_nothing_twice() {
    const EACH: u64 = 2_000;
    let (folder, backend) = prepare();
    let folder = folder.path();
    let mut producers: Vec<Process> = (0..PRODUCERS)
        .map(|name| start(folder, &["produce", &name.to_string(), &EACH.to_string(), "plain"]))
        .collect();
    // A lease so long that no machine under load outlasts it: nobody is killed here.
    let consume = || start(folder, &["consume", "300"]);
    let mut consumers: Vec<Process> = (0..CONSUMERS).map(|_| consume()).collect();
    for round in 0..10 {
        thread::sleep(Duration::from_millis(150));
        let consumer = &mut consumers[round % CONSUMERS];
        await_ready(folder, consumer);
        consumer.signal(libc::SIGTERM);
        assert!(consumer.wait().expect("wait").success(), "a graceful stop exits 0");
        *consumer = consume();
    }
    for producer in &mut producers {
        assert!(producer.wait().expect("wait").success());
    }
    drain(&backend, folder);
    for consumer in &mut consumers {
        await_ready(folder, consumer);
        consumer.signal(libc::SIGTERM);
        assert!(consumer.wait().expect("wait").success());
    }
    let records = verify(folder, &backend, EACH * PRODUCERS);
    assert!(records.iter().all(|r| r.status == Status::Success));
    // Every handler had time to finish within the grace period.
    let starts = starts(folder);
    assert_eq!(starts.len() as u64, EACH * PRODUCERS, "each job was started exactly once");
}
