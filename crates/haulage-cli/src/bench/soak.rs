//! `haulage bench --soak`: hours of all kinds of work at size, in which nothing may
//! get lost, hang, or grow.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use haulage::{
    Backend, NewJob, Producer, Status,
    backend::{ListQuery, Severity},
    sqlite::SqliteBackend,
};
use serde::Serialize;

use super::{
    actor::{self, Actor},
    failed,
    pipeline::url,
    report::{Machine, row},
    size::{self, Records},
    worker::{cpu_seconds, most_resident_mb},
};
use crate::{
    exit::{Code, Exit, Result},
    session::Session,
};

/// Worker processes, and how many jobs each runs at once.
const WORKERS: usize = 2;
const CONCURRENCY: &str = "64";
/// Jobs of one round, of each kind.
const PLAIN: usize = 1_000;
const RETRIED: usize = 100;
const GROUPED: usize = 100;
const LARGE: usize = 2;
/// The size of a large body, and of its result.
const LARGE_BYTES: usize = 4 << 20;
const GROUPS: usize = 10;
/// How long records are kept, in seconds: they expire while others come.
const TTL: Duration = Duration::from_secs(5);
/// The most that may wait before the next round.
const BACKLOG: u64 = 20_000;
/// How long the last jobs may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SoakReport {
    seconds: f64,
    records: i64,
    submitted: u64,
    /// Of jobs that were to succeed, those that have not.
    lost: u64,
    jobs_per_s: f64,
    longest_submit_ms: f64,
    longest_stats_ms: f64,
    /// At its fullest, and in the middle of the time.
    stored_mb: f64,
    stored_halfway_mb: f64,
    /// Of the worker that used most.
    resident_mb: Option<f64>,
    cpu_seconds: Option<f64>,
    problems: Vec<String>,
    settings: Machine,
}

pub(super) async fn measure(
    path: &Path,
    soak: Duration,
    records: i64,
    session: &Session,
) -> Result<SoakReport> {
    let say = |what: String| session.output.talk(format!("bench: {what} …"));
    say(format!("{records} records"));
    let part = records / 10;
    let filled = Records { expired: part, kept: 8 * part, delayed: part, ..Records::default() };
    size::fill(path, filled).await?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let mut worker = Actor::start(&url(path), &["soak", CONCURRENCY]).await?;
        worker.go().await?;
        workers.push(worker);
    }
    say(format!("all kinds of work for {}", humantime::format_duration(soak)));
    let backend = SqliteBackend::open(path).await?;
    let producer = Producer::new(std::sync::Arc::new(backend.clone()));
    let mut report = SoakReport {
        seconds: 0.0,
        records,
        submitted: 0,
        lost: 0,
        jobs_per_s: 0.0,
        longest_submit_ms: 0.0,
        longest_stats_ms: 0.0,
        stored_mb: 0.0,
        stored_halfway_mb: 0.0,
        resident_mb: None,
        cpu_seconds: None,
        problems: Vec::new(),
        settings: Machine::this(),
    };
    let began = Instant::now();
    while began.elapsed() < soak {
        for jobs in round() {
            report.submitted += jobs.len() as u64;
            let at = Instant::now();
            producer.submit_many(jobs).await.map_err(|e| failed("a submit", e.error))?;
            report.longest_submit_ms = report.longest_submit_ms.max(millis(at));
        }
        let mut waiting = look(&backend, &mut report).await?;
        if began.elapsed() < soak / 2 {
            report.stored_halfway_mb = report.stored_mb;
        }
        while waiting > BACKLOG {
            tokio::time::sleep(Duration::from_millis(100)).await;
            waiting = look(&backend, &mut report).await?;
        }
    }
    let over = Instant::now();
    while look(&backend, &mut report).await? > 0 {
        if over.elapsed() > PATIENCE {
            report.problems.push("jobs still wait or run".into());
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.jobs_per_s = report.submitted as f64 / report.seconds;
    report.resident_mb = workers.iter().filter_map(|worker| most_resident_mb(worker.pid())).reduce(f64::max);
    report.cpu_seconds = workers.iter().map(|worker| cpu_seconds(worker.pid())).sum();
    let mut succeeded = 0;
    for worker in workers {
        succeeded += worker.end::<actor::Seen>().await?.jobs;
    }
    report.lost = report.submitted.saturating_sub(succeeded);
    if report.lost > 0 {
        report.problems.push(format!("{} jobs have not succeeded", report.lost));
    }
    for failed in backend.list(ListQuery::new().status(Some(Status::Error)).limit(3)).await? {
        report.problems.push(format!("job {} failed: {:?}", failed.id, failed.error));
    }
    for finding in backend.check().await? {
        if finding.severity == Severity::Problem {
            report.problems.push(finding.message);
        }
    }
    backend.close().await?;
    Ok(report)
}

/// The jobs of a round, as they are submitted together.
fn round() -> [Vec<NewJob>; 4] {
    let plain = || actor::job().result_ttl(TTL);
    let large = || NewJob::from_json(size::document(LARGE_BYTES)).result_ttl(TTL);
    [
        vec![plain(); PLAIN],
        vec![plain().request_id(actor::FAILS_ONCE); RETRIED],
        (0..GROUPED).map(|n| plain().group(format!("group {}", n % GROUPS))).collect(),
        vec![large(); LARGE],
    ]
}

/// Looks at the numbers; tells how many jobs are not over, those of the beginning left out.
async fn look(backend: &SqliteBackend, report: &mut SoakReport) -> Result<u64> {
    let at = Instant::now();
    let stats = backend.stats().await?;
    report.longest_stats_ms = report.longest_stats_ms.max(millis(at));
    let stored = stats.stored_bytes.unwrap_or(0) as f64 / 1e6;
    report.stored_mb = report.stored_mb.max(stored);
    let filled = u64::try_from(report.records / 10).unwrap_or(0);
    Ok(stats.unfinished().saturating_sub(filled))
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl SoakReport {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| row(&mut text, what, &value, "", "");
        line("", "measured".into());
        line("jobs: plain, retried, grouped, with 4 MiB", self.submitted.to_string());
        line("  in so many seconds, jobs/s", format!("{:.0}, {:.0}", self.seconds, self.jobs_per_s));
        line("  that have not succeeded", self.lost.to_string());
        line(
            &format!("longest submit beside {} records", self.records),
            format!("{:.0} ms", self.longest_submit_ms),
        );
        line("longest stats", format!("{:.0} ms", self.longest_stats_ms));
        line(
            "the files at their largest, and halfway",
            format!("{:.0}, {:.0} MB", self.stored_mb, self.stored_halfway_mb),
        );
        let unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
        line("a worker, resident at most", unknown(self.resident_mb.map(|mb| format!("{mb:.0} MB"))));
        line("the workers, CPU", unknown(self.cpu_seconds.map(|s| format!("{s:.0} s"))));
        for problem in &self.problems {
            text.push_str(&format!("PROBLEM: {problem}\n"));
        }
        text.push_str(&self.settings.footer(&format!("{WORKERS} workers of {CONCURRENCY} slots")));
        text
    }

    /// An error where something went wrong.
    pub(super) fn verdict(&self) -> Result {
        match self.problems.first() {
            None => Ok(()),
            Some(problem) => Err(Exit::new(Code::Failure, format!("bench: {problem}"))),
        }
    }
}
