//! `haulage demo`

use std::{path::PathBuf, process::Stdio, time::Duration};

use haulage::{Clock, JobHandle, NewJob, Producer, Record, shutdown::Shutdown};
use haulage_digits::{Image, Prediction, Score, image};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};

use crate::{
    exit::{Code, Exit, Result},
    output::Output,
    progress,
    session::Session,
};

/// Run handwritten digits through a real queue on this machine
///
/// Starts two workers as processes, submits the 1,797 images of the UCI
/// handwritten digits test set, and reads each result back by its id. The
/// network was trained on one half of the images; the accuracy is that on the
/// other half.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haulage demo --database digits.db")]
pub(crate) struct Args {
    /// The database to use, kept afterwards; not that of --url, whose jobs
    /// are none of the demo's business
    #[arg(long, value_name = "FILE", default_value = "haulage-demo.db")]
    database: PathBuf,
}

/// How the workers of the demo are started: this program, under a hidden command.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {}

const WORKERS: usize = 2;
/// Single jobs, submitted one at a time, for the pickup latency.
const SINGLES: usize = 100;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(120));

impl WorkerArgs {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let failed =
            |error: &dyn std::fmt::Display| Exit::new(Code::Failure, format!("demo worker: {error}"));
        let consumer = haulage_digits::worker::consumer(session.backend().await?).map_err(|e| failed(&e))?;
        let shutdown = Shutdown::on_signals().map_err(|e| failed(&e))?;
        let consumer = tokio::spawn(consumer.run(shutdown.clone()));
        // Until whoever started us closes our stdin, or is gone.
        let (mut stdin, mut byte) = (tokio::io::stdin(), [0]);
        tokio::select! {
            _ = stdin.read(&mut byte) => shutdown.stop(),
            () = shutdown.stopping() => {}
        }
        consumer.await.map(drop).map_err(|e| failed(&e))
    }
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let images = image::images().map_err(|error| Exit::new(Code::Failure, error.to_string()))?;
        let url = haulage::sqlite::url(&self.database);
        let producer = Producer::new(haulage::connect(&url).await?);
        let workers = (0..WORKERS).map(|_| start_worker(&url)).collect::<Result<Vec<_>>>()?;
        output.talk(format!("{WORKERS} workers run on {}", self.database.display()));

        // The first job shows that the workers are up; it is not measured.
        let first = images.first().ok_or_else(|| Exit::new(Code::Failure, "there are no images"))?;
        producer.submit(&first.input).await?.wait(PATIENCE).await?;

        let clock = Clock::system();
        let began = clock.now();
        let jobs = images.iter().map(new_job).collect::<Result<Vec<_>, _>>()?;
        let handles = producer.submit_many(jobs).await.map_err(|error| Exit::from(error.error))?;
        let records = wait(&producer, &handles).await?;
        let took = clock.now().since(began);

        let mut singles = Vec::new();
        for image in images.iter().take(SINGLES) {
            singles.push(producer.submit(&image.input).await?.wait(PATIENCE).await?);
        }
        for worker in workers {
            stop(worker).await?;
        }

        let score = score(&images, &records)?;
        let mut pickups: Vec<Duration> = singles.iter().filter_map(pickup).collect();
        pickups.sort();
        let millis =
            |part: usize| pickups.get(pickups.len() * part / 100).map_or(0.0, |d| d.as_secs_f64() * 1e3);
        let report = Report {
            images: images.len(),
            correct: score.correct,
            held_out: score.total,
            accuracy: score.accuracy(),
            seconds: took.as_secs_f64(),
            jobs_per_s: images.len() as f64 / took.as_secs_f64(),
            pickup_p50_ms: millis(50),
            pickup_p99_ms: millis(99),
            example: format!(
                "{} result {} --url {url}",
                std::env::current_exe().map_or_else(|_| "haulage".into(), |path| path.display().to_string()),
                handles.first().map(|job| job.id().to_string()).unwrap_or_default(),
            ),
            url,
        };
        report.show(output)
    }
}

#[derive(Debug, serde::Serialize)]
struct Report {
    images: usize,
    correct: usize,
    held_out: usize,
    accuracy: f64,
    seconds: f64,
    jobs_per_s: f64,
    pickup_p50_ms: f64,
    pickup_p99_ms: f64,
    url: String,
    example: String,
}

impl Report {
    fn show(&self, output: Output) -> Result {
        if output.json {
            return output.json(self);
        }
        output.text(&format!(
            "images      {} classified, each result read back by its id\n\
             accuracy    {:.2} % ({} of {} images that the network was not trained on)\n\
             throughput  {:.0} jobs/s ({:.2} s from the first submit to the last result)\n\
             pickup      p50 {:.2} ms, p99 {:.2} ms (accepted → claimed by an idle worker, {SINGLES} single jobs)\n\
             results     in {}; look at one:\n            {}\n",
            self.images,
            self.accuracy * 100.0,
            self.correct,
            self.held_out,
            self.jobs_per_s,
            self.seconds,
            self.pickup_p50_ms,
            self.pickup_p99_ms,
            self.url.trim_start_matches("sqlite://"),
            self.example,
        ))
    }
}

fn new_job(image: &Image) -> Result<NewJob, haulage::Error> {
    Ok(NewJob::new(&image.input)?.metadata("image", image.index.to_string()))
}

fn start_worker(url: &str) -> Result<Child> {
    let failed = |error| Exit::new(Code::Failure, format!("cannot start a worker: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    Command::new(program)
        .args(["--url", url, "demo-worker"])
        // Ends with us, whatever ends us.
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}

/// Stops a worker by closing its stdin, and waits for it.
async fn stop(mut worker: Child) -> Result {
    drop(worker.stdin.take());
    let failed = |error| Exit::new(Code::Failure, format!("cannot stop a worker: {error}"));
    worker.wait().await.map(drop).map_err(failed)
}

/// Waits for all jobs, with a progress bar; then reads each result by its id.
async fn wait(producer: &Producer, handles: &[JobHandle]) -> Result<Vec<Record>> {
    let ids: Vec<_> = handles.iter().map(|job| job.id().clone()).collect();
    let bar = progress::bar("classifying", ids.len() as u64);
    producer.wait_each(&ids, PATIENCE, |_, _| bar.inc(1)).await?;
    bar.finish_and_clear();
    let mut records = Vec::with_capacity(ids.len());
    for id in &ids {
        records.push(producer.get(id, haulage::backend::Detail::Result).await?);
    }
    Ok(records)
}

/// How many of the held-out images were read correctly.
fn score(images: &[Image], records: &[Record]) -> Result<Score> {
    let mut score = Score { correct: 0, total: 0 };
    for (image, record) in images.iter().zip(records) {
        let result = record.result.as_ref().ok_or_else(|| {
            Exit::new(Code::JobFailed, format!("job {} is {}: {:?}", record.id, record.status, record.error))
        })?;
        if image.is_held_out() {
            let prediction: Prediction = result.decode()?;
            score.total += 1;
            score.correct += usize::from(prediction.digit == image.label);
        }
    }
    Ok(score)
}

/// From the acceptance of a job to its claim.
fn pickup(record: &Record) -> Option<Duration> {
    Some(record.started_at?.since(record.submitted_at))
}
