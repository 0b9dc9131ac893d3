//! `haulage bench` on AWS, or on servers that stand in for it.

mod costs;
mod floor;
mod load;
mod prices;
mod report;

use std::time::Duration;

use haulage_aws::{
    AwsBackend, Config, Usage,
    setup::{self, QueueSettings},
};

use self::{
    load::{Load, Submits},
    report::{AwsReport, Requests},
};
use super::{actor, ratio, report::median};
use crate::{exit::Result, session::Session};

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Jobs of one run under load, and how many runs.
    jobs: u64,
    runs: usize,
    /// How long a consumer idles; whole polls of 20 s.
    idle: Duration,
}

const FULL: Effort = Effort { jobs: 4_000, runs: 3, idle: Duration::from_secs(60) };
const QUICK: Effort = Effort { jobs: 1_000, runs: 1, idle: Duration::from_secs(20) };

/// How many waits, and how many long jobs, there are at once.
const WAITS: usize = 1_000;
const LONG_JOBS: usize = 100;
/// How many running jobs are cancelled.
const CANCELS: u64 = 9;

/// A queue and a table that were made for a measurement.
#[derive(Clone, Debug)]
struct Place {
    config: Config,
    fifo: bool,
    queue_url: String,
    table: String,
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

impl Place {
    /// With a bucket beside the table, of the same name, or without.
    async fn new(config: &Config, fifo: bool, with_bucket: bool) -> Result<Self> {
        let name = format!("haulage-bench-{:08x}", fastrand::u32(..));
        let mut config = config.clone();
        config.bucket = with_bucket.then(|| name.clone());
        config.table.clone_from(&name);
        config.queue = if fifo { format!("{name}.fifo") } else { name };
        setup::create(&config, &QueueSettings::default(), None).await?;
        let backend = AwsBackend::with_config(config.clone()).open().await?;
        Ok(Self {
            fifo,
            queue_url: backend.queue_url().to_owned(),
            table: config.table.clone(),
            sqs: backend.sqs().clone(),
            dynamodb: backend.dynamodb().clone(),
            config,
        })
    }

    async fn open(&self) -> Result<AwsBackend> {
        Ok(AwsBackend::with_config(self.config.clone()).metered().open().await?)
    }

    async fn delete(self) -> Result {
        setup::delete_with_bucket(&self.config, None).await?;
        Ok(())
    }
}

async fn run_load(place: &Place, jobs: u64) -> Result<Load> {
    load::run(place.open().await?, jobs, actor::job(), Submits::Bulk).await
}

/// Measures on a place of its own.
async fn on<T>(config: &Config, fifo: bool, measure: impl AsyncFnOnce(&Place) -> Result<T>) -> Result<T> {
    on_place(Place::new(config, fifo, false).await?, measure).await
}

async fn on_place<T>(place: Place, measure: impl AsyncFnOnce(&Place) -> Result<T>) -> Result<T> {
    let measured = measure(&place).await;
    place.delete().await?;
    measured
}

pub(super) async fn run(session: &Session, quick: bool) -> Result {
    let effort = if quick { QUICK } else { FULL };
    let config = Config::from_url(&session.url)?;
    let report = measure(session, &config, effort).await?;
    if session.output.json { session.output.json(&report) } else { session.output.text(&report.table()) }
}

async fn measure(session: &Session, config: &Config, effort: Effort) -> Result<AwsReport> {
    let say = |what: &str| session.output.report(format_args!("bench: {what} …"));
    let jobs = effort.jobs;
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    let mut usage = [Usage::default(), Usage::default()];
    for round in 0..effort.runs {
        say(&format!("round {} of {}: throughput and its floor", round + 1, effort.runs));
        floors.push(on(config, true, async |place| floor::jobs_per_s(place, jobs).await).await?);
        let load = on(config, true, async |place| run_load(place, jobs).await).await?;
        rates.push(load.jobs_per_s);
        usage[0] = load.usage;
    }
    say("a standard queue");
    usage[1] = on(config, false, async |place| run_load(place, jobs).await).await?.usage;
    say("1,000 waits");
    let waits = on(config, true, async |place| load::waits(place.open().await?, WAITS).await).await?;
    say("long jobs");
    let beats =
        on(config, true, async |place| load::heartbeats(place.open().await?, LONG_JOBS).await).await?;
    say("cancels of running jobs");
    let cancels = on(config, true, async |place| {
        load::cancels(place.open().await?, place.open().await?, CANCELS).await
    })
    .await?;
    say("a consumer that idles");
    let idle = on(config, true, async |place| load::idle(place.open().await?, effort.idle).await).await?;
    say("what bodies and results cost by their size");
    let costs = costs::measure(config).await?;
    let [fifo, standard] = usage;
    let per_job =
        |calls: &std::collections::BTreeMap<String, u64>| calls.values().sum::<u64>() as f64 / jobs as f64;
    Ok(AwsReport {
        jobs_ratio: ratio(&rates, &floors),
        jobs_per_s: median(&mut rates),
        floor_jobs_per_s: median(&mut floors),
        sqs_requests_per_job: per_job(&fifo.sqs),
        dynamodb_requests_per_job: per_job(&fifo.dynamodb),
        write_units_per_job: fifo.write_units / jobs as f64,
        usd_per_million_jobs: prices::dollars(&fifo, true) / jobs as f64 * 1e6,
        usd_per_million_jobs_standard: prices::dollars(&standard, false) / jobs as f64 * 1e6,
        batch_gets_per_1000_waits: waits,
        idle_requests_per_20_s: idle,
        requests_per_heartbeat_interval: beats,
        requests_of_one_long_job_per_20_s: cancels.requests_per_20_s,
        cancel_heard_s: cancels.heard_s,
        costs,
        by_operation: Requests::new(&fifo, jobs),
        prices_region: prices::REGION,
        prices_as_of: prices::AS_OF,
        concurrency: load::CONCURRENCY,
        jobs_per_run: jobs,
        runs: effort.runs,
    })
}
