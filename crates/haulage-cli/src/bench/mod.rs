//! `haulage bench`: what this machine does, beside what it could do.
//!
//! Every number that the documentation claims is printed here, with its floor
//! (what the disk and the database do by themselves) measured in the same run.

mod actor;
mod floor;
mod latency;
mod pipeline;
mod report;
mod worker;

use std::{path::PathBuf, time::Duration};

use haulage::sqlite::SqliteBackend;
use tempfile::TempDir;

pub(crate) use self::actor::Args as ActorArgs;
use self::report::{Report, Settings, median};
use crate::{
    exit::{Code, Exit, Result},
    session::Session,
};

/// Measure throughput and latency of the embedded backend on this machine
///
/// Works in a new folder, which is deleted afterwards, and starts processes
/// of its own; nothing of yours is touched. Takes about four minutes; about
/// half a minute with --quick.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Fewer and shorter runs: a first impression in under 40 seconds
    #[arg(long)]
    quick: bool,

    /// The disk to measure: a folder on it
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Jobs of one throughput run, and how many runs.
    jobs: u64,
    runs: usize,
    /// Single jobs of the latency run.
    samples: usize,
    /// How long single submits and idleness are watched.
    watch: Duration,
    /// How long a handler burns the CPU.
    burn: Option<Duration>,
    /// Starts of a worker.
    starts: usize,
}

const FULL: Effort = Effort {
    jobs: 150_000,
    runs: 3,
    samples: 1_000,
    watch: Duration::from_secs(5),
    burn: Some(Duration::from_secs(60)),
    starts: 9,
};

const QUICK: Effort =
    Effort { jobs: 60_000, runs: 1, samples: 200, watch: Duration::from_secs(2), burn: None, starts: 3 };

/// Jobs that wait while throughput is measured: few, and many.
const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let effort = if self.quick { QUICK } else { FULL };
        let folder =
            tempfile::Builder::new().prefix("haulage-bench-").tempdir_in(&self.dir).map_err(|error| {
                Exit::usage(format!(
                    "cannot make a folder in {}: {error}; name another with --dir",
                    self.dir.display()
                ))
            })?;
        let report = measure(&folder, effort, session).await?;
        if session.output.json { session.output.json(&report) } else { session.output.text(&report.table()) }
    }
}

async fn measure(folder: &TempDir, effort: Effort, session: &Session) -> Result<Report> {
    let say = |what: &str| {
        if !session.output.json {
            session.output.talk(format!("bench: {what} …"));
        }
    };
    let place = |name: &str| folder.path().join(name);

    say("the disk");
    let fdatasync_per_s = floor::fdatasync_per_s(&place("disk"))?;
    let (mut floors, mut few) = (Vec::new(), Vec::new());
    for run in 0..effort.runs {
        // Floor and system in turn, so that a machine that slows down slows both.
        say("the floor: the same rows, written by one thread in large transactions");
        let path = place(&format!("floor-{run}.db"));
        SqliteBackend::open(&path).await?;
        floors.push(blocking(move || floor::jobs_per_s(&path, effort.jobs)).await?);
        say("submit, run, store: producer and consumer in processes of their own");
        few.push(pipeline::jobs_per_s(&place(&format!("few-{run}.db")), FEW, effort.jobs).await?);
    }
    say("single submits from 64 tasks");
    let path = place("submit-floor.db");
    SqliteBackend::open(&path).await?;
    let watch = effort.watch;
    let floor_submit_per_s = blocking(move || floor::submits_per_s(&path, watch)).await?;
    let single_submit_per_s = pipeline::single_submits_per_s(&place("submit.db"), watch).await?;
    say("latency");
    let latency = latency::measure(&place("latency.db"), effort.samples).await?;
    say("a worker that starts, and one that idles");
    let cold_start_ms = worker::cold_start_ms(&place("start.db"), effort.starts).await?;
    let idle = worker::idle(&place("idle.db"), watch).await?;
    say("the same with 1,000,000 jobs waiting");
    let path = place("many.db");
    pipeline::fill(&path, MANY).await?;
    let mut many = Vec::new();
    for _ in 0..effort.runs {
        many.push(pipeline::jobs_per_s(&path, MANY, effort.jobs).await?);
    }
    let burn = match effort.burn {
        Some(burn) => {
            say("a handler that burns a CPU for a minute");
            Some(worker::burn(&place("burn.db"), burn).await?)
        }
        None => None,
    };
    let jobs_per_s = median(&mut few);
    let floor_jobs_per_s = median(&mut floors);
    let jobs_per_s_backlog_1m = median(&mut many);
    Ok(Report {
        jobs_per_s,
        floor_jobs_per_s,
        jobs_ratio: jobs_per_s / floor_jobs_per_s,
        single_submit_per_s,
        floor_submit_per_s,
        submit_ratio: single_submit_per_s / floor_submit_per_s,
        pickup_p50_ms: latency.pickup_p50_ms,
        pickup_p99_ms: latency.pickup_p99_ms,
        roundtrip_p50_ms: latency.roundtrip_p50_ms,
        jobs_per_s_backlog_1m,
        backlog_ratio: jobs_per_s_backlog_1m / jobs_per_s,
        idle_cpu_percent: idle.cpu_percent,
        idle_rss_mb: idle.rss_mb,
        cold_start_ms,
        cpu_burn_seconds: effort.burn.map(|b| b.as_secs()),
        cpu_burn_lapses: burn,
        fdatasync_per_s,
        settings: Settings::of(effort),
    })
}

/// Runs something that computes or waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed("a measurement", error))?
}

fn failed(what: &str, error: impl std::fmt::Display) -> Exit {
    Exit::new(Code::Failure, format!("bench: {what} failed: {error}"))
}
