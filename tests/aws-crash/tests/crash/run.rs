//! A server, a proxy that fails, a queue, and workers that may be killed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use haulage::{
    Backend, JobId, Json, NewJob, Status,
    backend::{Detail, Lookup},
};
use haulage_aws::{
    AwsBackend, Config,
    setup::{self, QueueSettings},
};
use haulage_servers::{Patience, Process, Server, Stub, ministack};

pub(crate) const WORKERS: usize = 2;
/// The part of all calls that fails.
pub(crate) const FAILURES: f64 = 0.05;

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

async fn sdk() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .load()
        .await
}

/// One run: a server, a proxy that fails, a queue.
pub(crate) struct Run {
    server: Server,
    pub(crate) stub: Stub,
    queue: String,
    /// Where large bodies and results go, if anywhere.
    bucket: Option<&'static str>,
    folder: tempfile::TempDir,
    pub(crate) random: fastrand::Rng,
}

impl Run {
    pub(crate) async fn start(queue: &str, bucket: Option<&'static str>) -> Self {
        let seed = number("HAULAGE_CRASH_SEED", fastrand::u64(..100_000));
        eprintln!("HAULAGE_CRASH_SEED={seed}");
        let server = ministack();
        let stub = Stub::start(server.url(), seed);
        let run = Self {
            stub,
            queue: queue.to_owned(),
            bucket,
            folder: tempfile::tempdir().expect("a folder"),
            random: fastrand::Rng::with_seed(seed),
            server,
        };
        let config = Config::from_url(&run.url(run.server.url())).expect("a URL");
        setup::create(&config, &QueueSettings::default(), Some(sdk().await)).await.expect("a queue");
        run
    }

    fn url(&self, endpoint: &str) -> String {
        // Numbers from 1,000 on, as bodies and as results, are large enough.
        let bucket =
            self.bucket.map(|bucket| format!("&bucket={bucket}&offload_above=3")).unwrap_or_default();
        format!("sqs://{}?region=us-east-1&endpoint={endpoint}{bucket}", self.queue)
    }

    /// A backend that nothing happens to.
    pub(crate) async fn calm(&self) -> AwsBackend {
        self.open(self.server.url()).await.expect("a backend")
    }

    async fn open(&self, endpoint: &str) -> haulage::Result<AwsBackend> {
        AwsBackend::with_config(Config::from_url(&self.url(endpoint))?).sdk_config(sdk().await).open().await
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn worker(&self) -> Process {
        let log = File::options().create(true).append(true).open(self.file("log")).expect("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_aws-actor"));
        command
            .arg(self.url(self.stub.url()))
            .arg(self.file("starts"))
            .envs([("AWS_ACCESS_KEY_ID", "local"), ("AWS_SECRET_ACCESS_KEY", "local")])
            .stdin(Stdio::null())
            .stderr(log);
        Process::start(&mut command)
    }

    /// Submits these jobs through the proxy; the ids of those that were acknowledged.
    pub(crate) async fn submit(&self, jobs: Range<u64>) -> Vec<JobId> {
        let backend = loop {
            // The proxy fails calls of ours as well.
            match self.open(self.stub.url()).await {
                Ok(backend) => break Arc::new(backend),
                // Nor does it do others any good in an outage.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let mut acknowledged: BTreeMap<u64, JobId> = BTreeMap::new();
        while (acknowledged.len() as u64) < jobs.end - jobs.start {
            let missing = jobs.clone().filter(|n| !acknowledged.contains_key(n)).take(100);
            let missing: Vec<u64> = missing.collect();
            // Each has a key, so that it can be submitted again where no answer came.
            let batch = missing.iter().map(|n| {
                NewJob::from_json(Json::from_stored(n.to_string()))
                    .idempotency_key(n.to_string())
                    .max_attempts(1_000)
            });
            if let Ok(answers) = backend.submit(batch.collect()).await {
                for (n, answer) in missing.into_iter().zip(answers) {
                    if let Ok(job) = answer {
                        acknowledged.insert(n, job.id);
                    }
                }
            }
        }
        acknowledged.into_values().collect()
    }

    pub(crate) fn said(&self) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// A worker, and when it is to be killed.
pub(crate) struct Actor {
    process: Process,
    end: Instant,
}

impl Actor {
    /// A new one, with so long to live.
    pub(crate) fn start(run: &Run, life: Duration) -> Self {
        Self { process: run.worker(), end: Instant::now() + life }
    }

    /// Whether it is gone: killed, as its time is over, or by itself. A call
    /// that failed while it started ends a worker; whoever runs workers starts
    /// another, and so does this test.
    pub(crate) fn gone(&mut self) -> bool {
        if self.end < Instant::now() {
            self.process.kill().expect("kill");
            self.process.wait().expect("wait");
            return true;
        }
        self.process.try_wait().expect("wait").is_some()
    }
}

/// Those workers that are left, and new ones in place of the others, delete
/// what is in the queue. Copies that are still hidden show again within a lease.
pub(crate) async fn clear(run: &Run, workers: Vec<Actor>) {
    let mut workers: Vec<Process> = workers.into_iter().map(|worker| worker.process).collect();
    while workers.len() < WORKERS {
        workers.push(run.worker());
    }
    let mut patience = Patience::new(Vec::new());
    let config = Config::from_url(&run.url(run.server.url())).expect("a URL");
    let sdk = sdk().await;
    loop {
        let shown = setup::describe(&config, Some(sdk.clone())).await.expect("describe");
        let empty = "about 0 messages visible, 0 in flight, 0 delayed";
        if shown.iter().filter(|step| step.notes.iter().any(|note| note == empty)).count() == 2 {
            break;
        }
        let notes = shown.iter().flat_map(|step| step.notes.clone()).collect();
        assert!(!patience.is_over(notes), "messages are left: {shown:#?}\n{}", run.said());
        let gone = workers.iter_mut().any(|worker| worker.try_wait().expect("wait").is_some());
        assert!(!gone, "a worker ended, and nothing failed:\n{}", run.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) async fn verify(run: &Run, backend: &AwsBackend, acknowledged: &[JobId], jobs: u64) {
    assert_eq!(acknowledged.len() as u64, jobs, "every job was acknowledged");
    let distinct: HashSet<_> = acknowledged.iter().collect();
    assert_eq!(distinct.len() as u64, jobs, "each has an id of its own");
    let lookups = backend.get(acknowledged.to_vec(), Detail::Full).await.expect("get");
    for lookup in lookups {
        let Lookup::Found(record) = lookup else { panic!("an acknowledged job is lost: {lookup:?}") };
        assert_eq!(record.status, Status::Success, "{record:?}");
        assert_eq!(record.body, record.result, "{record:?}");
        // Nothing ran again but what was lost, given back, or had failed.
        let again = record.attempts.split_last().map(|(_, before)| before).unwrap_or_default();
        assert!(again.iter().all(|attempt| attempt.error.is_some()), "{record:?}");
    }
    let ends = run.stub.ends();
    assert_eq!(ends.len() as u64, jobs, "no job but those");
    let twice: Vec<_> = ends.iter().filter(|(_, ends)| **ends != 1).collect();
    assert!(twice.is_empty(), "ended more than once: {twice:?}");
    let stats = backend.stats().await.expect("stats");
    assert_eq!((stats.success, stats.unfinished(), stats.dead), (jobs, 0, 0), "{stats:?}");
    no_attempt_twice(&run.file("starts"));
}

/// No attempt of a job was started by two consumers, or twice by one.
fn no_attempt_twice(starts: &Path) {
    let mut count: HashMap<String, u32> = HashMap::new();
    for line in fs::read_to_string(starts).expect("starts").lines() {
        *count.entry(line.to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = count.iter().filter(|(_, starts)| **starts > 1).collect();
    assert!(twice.is_empty(), "started twice: {twice:?}");
}
