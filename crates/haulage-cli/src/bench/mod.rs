//! `haulage bench`: what this machine does, beside what it could do.
//!
//! Every number that the documentation claims is printed here, with its floor
//! (what the disk and the database do by themselves) measured in the same run.

mod actor;
#[cfg(feature = "aws")]
mod aws;
mod floor;
mod http;
mod latency;
mod pages;
mod pipeline;
mod report;
mod served;
mod size;
mod soak;
mod turns;
mod worker;

use std::{path::PathBuf, time::Duration};

use haulage::{Producer, sqlite::SqliteBackend};
use tempfile::TempDir;

pub(crate) use self::actor::Args as ActorArgs;
use self::report::{PipelineReport, Settings, median};
use crate::{
    exit::{Code, Exit, Result},
    options,
    session::Session,
};

/// Measure throughput and latency of the embedded backend on this machine
///
/// Works in a new folder, which is deleted afterwards, and starts processes
/// of its own; nothing of yours is touched. Takes about three minutes; about
/// half a minute with --quick.
///
/// With --size, in place of that: what a million expired records, ten million
/// records, large bodies, a program that reads for long, and a crowd of idle
/// workers cost; all of it, or the parts that are named. Takes some minutes, and
/// up to 9 GB of the disk.
///
/// With --soak: jobs of all kinds for hours, plain and retried, in groups, with bodies of
/// 4 MiB, whose records expire meanwhile, beside ten million records (ten thousand with
/// --quick). Fails where a job did not succeed. Takes up to 4 GB of the disk.
///
/// With --http, in place of that: what a server (`haulage serve`) on this machine
/// does, beside the same without one. Takes about two minutes.
///
/// With an sqs:// URL: measure throughput on AWS, and count requests and cost.
/// Works on queues and tables of its own, which it deletes afterwards. On AWS
/// itself that costs some cents.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  haulage bench --quick\n  haulage bench --dir /mnt/data"
)]
pub(crate) struct Args {
    /// Fewer and shorter runs: a first impression in under 40 seconds
    #[arg(long)]
    quick: bool,

    /// Measure what size costs: all of it, or these parts
    #[arg(long, value_name = "PART", value_enum, num_args = 0.., value_delimiter = ',')]
    size: Option<Vec<size::Part>>,

    /// Do all kinds of work for so long, beside ten million records, and look whether anything
    /// gets lost or grows
    #[arg(long, value_name = "DURATION", value_parser = options::duration, conflicts_with = "size")]
    soak: Option<Duration>,

    /// Measure a server on this machine, beside the same without one
    #[arg(long, conflicts_with_all = ["size", "soak"])]
    http: bool,

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
    /// Jobs of a run that does one after the other.
    singles: u64,
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
    singles: 2_000,
    samples: 1_000,
    watch: Duration::from_secs(5),
    burn: Some(Duration::from_secs(60)),
    starts: 9,
};

const QUICK: Effort = Effort {
    jobs: 60_000,
    runs: 1,
    singles: 1_000,
    samples: 200,
    watch: Duration::from_secs(2),
    burn: None,
    starts: 3,
};

/// Records beside which a soak works.
const SOAK_RECORDS: i64 = 10_000_000;
const SOAK_RECORDS_QUICK: i64 = 10_000;

/// Jobs that wait while throughput is measured: few, and many.
const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        if session.is_aws() {
            #[cfg(feature = "aws")]
            return aws::run(session, self.quick).await;
            #[cfg(not(feature = "aws"))]
            return Err(crate::session::without_aws());
        }
        let effort = if self.quick { QUICK } else { FULL };
        let folder =
            tempfile::Builder::new().prefix("haulage-bench-").tempdir_in(&self.dir).map_err(|error| {
                Exit::usage(format!(
                    "cannot make a folder in {}: {error}; name another with --dir",
                    self.dir.display()
                ))
            })?;
        if let Some(parts) = self.size {
            let effort = if self.quick { size::QUICK } else { size::FULL };
            let report = size::measure(&folder, effort, &parts, session).await?;
            return if session.output.json {
                session.output.json(&report)
            } else {
                session.output.text(&report.table())
            };
        }
        if self.http {
            let report = http::measure(folder.path(), effort, session).await?;
            return if session.output.json {
                session.output.json(&report)
            } else {
                session.output.text(&report.table())
            };
        }
        if let Some(time) = self.soak {
            let records = if self.quick { SOAK_RECORDS_QUICK } else { SOAK_RECORDS };
            let report = soak::measure(&folder.path().join("soak.db"), time, records, session).await?;
            if session.output.json {
                session.output.json(&report)?;
            } else {
                session.output.text(&report.table())?;
            }
            return report.verdict();
        }
        let report = measure(&folder, effort, session).await?;
        if session.output.json { session.output.json(&report) } else { session.output.text(&report.table()) }
    }
}

async fn measure(folder: &TempDir, effort: Effort, session: &Session) -> Result<PipelineReport> {
    let say = |what: &str| session.output.talk(format!("bench: {what} …"));
    let place = |name: &str| folder.path().join(name);
    let watch = effort.watch;

    say("a database with 1,000,000 jobs waiting");
    let full = place("many.db");
    pipeline::fill(&full, MANY).await?;
    // Whatever is compared is measured in turn, so that a machine that slows
    // down slows all of it; ratios are taken round by round.
    let mut rounds = Rounds::default();
    for round in 0..effort.runs {
        say(&format!("round {} of {}: throughput and its floor", round + 1, effort.runs));
        let path = place(&format!("floor-{round}.db"));
        SqliteBackend::open(&path).await?;
        rounds.floor_jobs.push(blocking(move || floor::jobs_per_s(&path, effort.jobs)).await?);
        let path = place(&format!("turns-{round}.db"));
        SqliteBackend::open(&path).await?;
        rounds.turns_jobs.push(blocking(move || turns::jobs_per_s(&path, effort.jobs)).await?);
        let few = place(&format!("few-{round}.db"));
        rounds.jobs.push(pipeline::jobs_per_s(&few, FEW, effort.jobs).await?);
        rounds.jobs_many.push(pipeline::jobs_per_s(&full, MANY, effort.jobs).await?);
        say("single submits and their floor");
        let path = place(&format!("submit-floor-{round}.db"));
        SqliteBackend::open(&path).await?;
        rounds
            .floor_submits
            .push(blocking(move || floor::submits_per_s(&path, pipeline::TASKS, watch, true)).await?);
        let path = place(&format!("submit-{round}.db"));
        rounds.submits.push(pipeline::single_submits_per_s(&path, pipeline::TASKS, watch).await?);
        say("one job after the other, and the disk");
        rounds.fdatasyncs.push(floor::fdatasync_per_s(&place("disk"))?);
        let path = place(&format!("turns-one-{round}.db"));
        SqliteBackend::open(&path).await?;
        rounds.turns_one_by_one.push(blocking(move || turns::one_by_one_per_s(&path, effort.singles)).await?);
        let path = place(&format!("turns-slot-{round}.db"));
        SqliteBackend::open(&path).await?;
        rounds.turns_one_slot.push(blocking(move || turns::one_slot_per_s(&path, effort.singles)).await?);
        rounds
            .one_by_one
            .push(pipeline::one_by_one_per_s(&place(&format!("one-{round}.db")), effort.singles).await?);
        rounds
            .one_slot
            .push(pipeline::one_slot_per_s(&place(&format!("slot-{round}.db")), effort.singles).await?);
    }
    say("latency");
    let link = pipeline::url(&place("latency.db"));
    let producer = Producer::new(haulage::connect(&link).await?);
    let latency = latency::measure(&producer, &link, effort.samples).await?;
    say("a worker that starts, and one that idles");
    let cold_start_ms = worker::cold_start_ms(&place("start.db"), effort.starts).await?;
    let idle = worker::idle(&place("idle.db"), watch).await?;
    let cpu_burn_lapses = match effort.burn {
        Some(burn) => {
            say("a handler that burns a CPU for a minute");
            Some(worker::burn(&place("burn.db"), burn).await?)
        }
        None => None,
    };
    Ok(PipelineReport {
        jobs_ratio: ratio(&rounds.jobs, &rounds.floor_jobs),
        backlog_ratio: ratio(&rounds.jobs_many, &rounds.jobs),
        submit_ratio: ratio(&rounds.submits, &rounds.floor_submits),
        turns_jobs_ratio: ratio(&rounds.jobs, &rounds.turns_jobs),
        turns_one_by_one_ratio: ratio(&rounds.one_by_one, &rounds.turns_one_by_one),
        turns_one_slot_ratio: ratio(&rounds.one_slot, &rounds.turns_one_slot),
        turns_jobs_per_s: median(&mut rounds.turns_jobs),
        turns_one_by_one_per_s: median(&mut rounds.turns_one_by_one),
        turns_one_slot_per_s: median(&mut rounds.turns_one_slot),
        one_by_one_ratio: ratio(&rounds.one_by_one, &rounds.fdatasyncs),
        one_slot_ratio: ratio(&rounds.one_slot, &rounds.fdatasyncs),
        one_by_one_per_s: median(&mut rounds.one_by_one),
        one_slot_per_s: median(&mut rounds.one_slot),
        jobs_per_s: median(&mut rounds.jobs),
        floor_jobs_per_s: median(&mut rounds.floor_jobs),
        single_submit_per_s: median(&mut rounds.submits),
        floor_submit_per_s: median(&mut rounds.floor_submits),
        pickup_p50_ms: latency.pickup_p50_ms,
        pickup_p99_ms: latency.pickup_p99_ms,
        roundtrip_p50_ms: latency.roundtrip_p50_ms,
        jobs_per_s_backlog_1m: median(&mut rounds.jobs_many),
        idle_cpu_percent: idle.cpu_percent,
        idle_rss_mb: idle.rss_mb,
        cold_start_ms,
        cpu_burn_seconds: effort.burn.map(|b| b.as_secs()),
        cpu_burn_lapses,
        fdatasync_per_s: median(&mut rounds.fdatasyncs),
        settings: Settings::of(effort),
    })
}

/// What each round measured.
#[derive(Debug, Default)]
struct Rounds {
    jobs: Vec<f64>,
    floor_jobs: Vec<f64>,
    turns_jobs: Vec<f64>,
    jobs_many: Vec<f64>,
    submits: Vec<f64>,
    floor_submits: Vec<f64>,
    one_by_one: Vec<f64>,
    one_slot: Vec<f64>,
    turns_one_by_one: Vec<f64>,
    turns_one_slot: Vec<f64>,
    fdatasyncs: Vec<f64>,
}

/// The median of what one measurement is of another, round by round.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(&mut of.iter().zip(to).map(|(a, b)| a / b).collect::<Vec<_>>())
}

/// Runs something that computes or waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed("a measurement", error))?
}

fn failed(what: &str, error: impl std::fmt::Display) -> Exit {
    Exit::new(Code::Failure, format!("bench: {what} failed: {error}"))
}
