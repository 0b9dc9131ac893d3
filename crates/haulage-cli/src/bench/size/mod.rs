//! `haulage bench --size`: what millions of records and long readers cost
//! those who submit, and those who look.

mod bodies;
mod crowd;
mod fill;
mod report;
mod waits;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use haulage::{
    Backend, JobId, NewJob, Status,
    backend::{Detail, ListQuery},
    sqlite::SqliteBackend,
};
use rusqlite::Connection;
use tempfile::TempDir;

use self::report::{Beside, Looks, SizeReport};
pub(super) use self::{
    fill::{Records, fill},
    waits::document,
};
use super::{actor, blocking, failed, floor, pipeline, ratio, report::median};
use crate::{exit::Result, session::Session};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Expired records beside which jobs are submitted.
    expired: i64,
    /// Records that are looked at.
    records: i64,
    /// Jobs whose records expire while others run.
    jobs: u64,
    runs: usize,
    /// How long submits are watched.
    watch: Duration,
    /// Large results that are waited for, and large bodies that are moved.
    results: usize,
    bodies: usize,
}

pub(super) const FULL: Effort = Effort {
    expired: 1_000_000,
    records: 10_000_000,
    jobs: 400_000,
    runs: 3,
    watch: Duration::from_secs(4),
    results: 1_000,
    bodies: 500,
};

pub(super) const QUICK: Effort = Effort {
    expired: 200_000,
    records: 1_000_000,
    jobs: 150_000,
    runs: 1,
    watch: Duration::from_secs(2),
    results: 100,
    bodies: 64,
};

/// Tasks that submit beside a long reader.
const TASKS: u64 = 8;
/// For how long the records of jobs at full load are kept, in seconds.
const TTL: u64 = 1;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Submits beside expired records, and how fast those are swept
    Expired,
    /// Jobs at full load whose records expire soon
    Load,
    /// Submits beside a program that reads for long
    Reader,
    /// Idle workers while somebody submits
    Crowd,
    /// The memory of a wait for many large results
    Waits,
    /// Submits beside those who move large bodies
    Bodies,
    /// What looks at millions of records take
    Looks,
}

pub(super) async fn measure(
    folder: &TempDir,
    effort: Effort,
    parts: &[Part],
    session: &Session,
) -> Result<SizeReport> {
    let say = |what: &str| session.output.talk(format!("bench: {what} …"));
    let place = |name: &str| folder.path().join(name);
    let wanted = |part: Part| parts.is_empty() || parts.contains(&part);
    let mut report = SizeReport::new(effort);

    if wanted(Part::Expired) {
        say("submits beside expired records");
        beside_expired(&place("kept.db"), &place("expired.db"), effort, &mut report).await?;
    }
    if wanted(Part::Load) {
        say("the sweep at full load");
        expiring_jobs(&place("load.db"), effort, &mut report).await?;
    }
    if wanted(Part::Reader) {
        say("submits beside a long reader");
        let path = place("read.db");
        let (mut rounds, mut alone) = (Rounds::default(), Rounds::default());
        for _ in 0..effort.runs {
            alone.without.push(by_sqlite_alone(&path, effort.watch, true).await?);
            rounds.without.push(pipeline::single_submits_per_s(&path, TASKS, effort.watch).await?);
            let reader = long_reader(&path, effort).await?;
            rounds.with.push(pipeline::single_submits_per_s(&path, TASKS, effort.watch).await?);
            alone.with.push(by_sqlite_alone(&path, effort.watch, false).await?);
            drop(reader);
        }
        report.beside_reader = Some(rounds.medians());
        report.beside_reader_alone = Some(alone.medians());
        remove(&path)?;
    }
    if wanted(Part::Crowd) {
        say("submits beside idle workers");
        report.crowd = Some(crowd::measure(&place("crowd.db"), effort.watch).await?);
    }
    if wanted(Part::Waits) {
        say(&format!("a wait for {} results of 4 MiB", effort.results));
        let path = place("waits.db");
        report.waits = Some(waits::measure(&path, effort.results).await?);
        remove(&path)?;
    }
    if wanted(Part::Bodies) {
        say("submits beside bodies of 4 MiB");
        let path = place("bodies.db");
        report.bodies = Some(bodies::measure(&path, effort.bodies).await?);
        remove(&path)?;
    }
    if wanted(Part::Looks) {
        say(&format!("looks at {} records", effort.records));
        let (path, part) = (place("many.db"), effort.records / 10);
        let records =
            Records { expired: part, kept: 7 * part, delayed: part, waiting: part, with_bodies: false };
        fill(&path, records).await?;
        report.looks = Some(looks(&path, effort).await?);
    }
    Ok(report)
}

async fn beside_expired(kept: &Path, expired: &Path, effort: Effort, report: &mut SizeReport) -> Result {
    let records = Records { with_bodies: true, ..Records::default() };
    fill(kept, Records { kept: effort.expired, ..records }).await?;
    fill(expired, Records { expired: effort.expired, ..records }).await?;
    for (tasks, into) in
        [(1, &mut report.one_task_beside_expired), (pipeline::TASKS, &mut report.tasks_beside_expired)]
    {
        let mut rounds = Rounds::default();
        for _ in 0..effort.runs {
            rounds.without.push(pipeline::single_submits_per_s(kept, tasks, effort.watch).await?);
            rounds.with.push(pipeline::single_submits_per_s(expired, tasks, effort.watch).await?);
        }
        *into = Some(rounds.medians());
    }
    // The sweep, with nothing else to do.
    remove(expired)?;
    fill(expired, Records { expired: effort.expired, ..records }).await?;
    report.sweep_1m_s = Some(1e6 / sweep_per_s(expired).await?);
    remove(kept)?;
    remove(expired)
}

async fn expiring_jobs(path: &Path, effort: Effort, report: &mut SizeReport) -> Result {
    let (mut rounds, mut behind) = (Rounds::default(), Vec::new());
    for _ in 0..effort.runs {
        rounds.without.push(pipeline::jobs_per_s(path, 0, effort.jobs).await?);
        remove(path)?;
        let per_s = pipeline::expiring_jobs_per_s(path, effort.jobs, TTL).await?;
        let backend = SqliteBackend::open(path).await?;
        behind.push(fill::expired(&backend).await? as f64 / per_s);
        backend.close().await?;
        remove(path)?;
        rounds.with.push(per_s);
    }
    report.expiring_jobs = Some(rounds.medians());
    report.sweep_behind_s = Some(median(&mut behind));
    Ok(())
}

/// What each round measured.
#[derive(Debug, Default)]
struct Rounds {
    with: Vec<f64>,
    without: Vec<f64>,
}

impl Rounds {
    fn medians(&mut self) -> Beside {
        let ratio = ratio(&self.with, &self.without);
        Beside { per_s: median(&mut self.with), without_per_s: median(&mut self.without), ratio }
    }
}

fn remove(path: &Path) -> Result {
    std::fs::remove_file(path).map_err(|error| failed("deleting a database", error))
}

/// Expired records that are swept in a second, by a process that does nothing else.
async fn sweep_per_s(path: &Path) -> Result<f64> {
    let backend = SqliteBackend::open(path).await?;
    backend.submit(vec![actor::job()]).await?;
    let (began, before) = (Instant::now(), fill::expired(&backend).await?);
    let stored = fill::stored(&backend).await?;
    loop {
        let swept = stored.saturating_sub(fill::stored(&backend).await?);
        let over = swept >= before;
        if over || began.elapsed() > Duration::from_secs(30) {
            backend.close().await?;
            return Ok(swept as f64 / began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What SQLite alone writes in that time: a job of each task in a transaction. Beside a reader
/// it moves no page of the log, as it would sort all of it to find that it may not.
async fn by_sqlite_alone(path: &Path, watch: Duration, moves_log: bool) -> Result<f64> {
    let path = path.to_owned();
    SqliteBackend::open(&path).await?;
    blocking(move || floor::submits_per_s(&path, TASKS, watch, moves_log)).await
}

/// Somebody who reads all the time; the log has grown long since.
async fn long_reader(path: &Path, effort: Effort) -> Result<Connection> {
    let reader = path.to_owned();
    let reader = blocking(move || {
        let open = || {
            let reader = Connection::open(&reader)?;
            reader.execute_batch("BEGIN; SELECT count(*) FROM counts")?;
            Ok::<_, rusqlite::Error>(reader)
        };
        open().map_err(|error| failed("a long reader", error))
    })
    .await?;
    let backend = SqliteBackend::open(path).await?;
    let waiting = backend.stats().await?.visible;
    backend.close().await?;
    pipeline::fill(path, waiting + effort.jobs).await?;
    Ok(reader)
}

/// How long looks take that go over many records, and how long others wait meanwhile.
async fn looks(path: &Path, effort: Effort) -> Result<Looks> {
    let backend = SqliteBackend::open(path).await?;
    let job = NewJob::new("looked up").map_err(|error| failed("a job", error))?;
    let Some(Ok(submitted)) = backend.submit(vec![job]).await?.pop() else {
        return Err(failed("a submit", "no answer"));
    };
    let over = Arc::new(AtomicBool::new(false));
    let gets = tokio::spawn(longest_get(backend.clone(), submitted.id, Arc::clone(&over)));
    let (mut stats, mut doctor) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs {
        stats.push(millis(backend.stats()).await?);
        doctor.push(millis(backend.check()).await?);
    }
    let every =
        [None, Some(Status::Submitted), Some(Status::InProgress), Some(Status::Success), Some(Status::Error)];
    let mut list_ms = 0.0_f64;
    for status in every {
        let mut list = Vec::new();
        for _ in 0..effort.runs {
            let query = ListQuery::new().status(status);
            list.push(millis(backend.list(query)).await?);
        }
        list_ms = list_ms.max(median(&mut list));
    }
    over.store(true, Ordering::Relaxed);
    let longest_get_ms = gets.await.map_err(|error| failed("looking up a job", error))??;
    backend.close().await?;
    Ok(Looks { stats_ms: median(&mut stats), list_ms, doctor_ms: median(&mut doctor), longest_get_ms })
}

async fn longest_get(backend: SqliteBackend, id: JobId, over: Arc<AtomicBool>) -> Result<f64> {
    let mut longest = 0.0_f64;
    while !over.load(Ordering::Relaxed) {
        longest = longest.max(millis(backend.get(vec![id.clone()], Detail::Status)).await?);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(longest)
}

async fn millis<T>(call: impl Future<Output = haulage::Result<T>>) -> Result<f64> {
    let began = Instant::now();
    call.await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
