//! Runs handwritten digits through a real queue on this machine: `make demo`.
//!
//! ```text
//! cargo run --release -p haulage-digits --bin demo
//! ```
//!
//! Two workers start as processes, the 1,797 images are submitted, and each
//! result is read back by its id. The network was trained on one half of the
//! images; the accuracy is that on the other half. The database, the argument
//! or `haulage-demo.db`, is kept.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: results on stdout, errors on stderr"
)]

use std::{error::Error, io::Read as _, path::PathBuf, process::ExitCode, time::Duration};

use haulage::{Clock, JobHandle, NewJob, Producer, Record, backend::Detail, shutdown::Shutdown};
use haulage_digits::{Image, Prediction, Score, image};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// By which the program starts itself as a worker; the URL follows.
const WORKER: &str = "--worker";
const WORKERS: usize = 2;
/// Single jobs, submitted one at a time, for the pickup latency.
const SINGLES: usize = 100;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(120));

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = match (arguments.next(), arguments.next()) {
        (Some(first), Some(url)) if first == WORKER => work(&url.to_string_lossy()).await,
        (database, _) => demo(database.map_or_else(|| "haulage-demo.db".into(), PathBuf::from)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs jobs until whoever started this closes its stdin, or is gone.
async fn work(url: &str) -> Result {
    let consumer = haulage_digits::worker::consumer(haulage::connect(url).await?)?;
    let shutdown = Shutdown::on_signals()?;
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        stop.stop();
    });
    consumer.run(shutdown).await;
    Ok(())
}

async fn demo(database: PathBuf) -> Result {
    let images = image::images()?;
    let url = haulage::sqlite::url(&database);
    let producer = Producer::new(haulage::connect(&url).await?);
    let workers = (0..WORKERS).map(|_| Worker::start(&url)).collect::<Result<Vec<_>>>()?;
    println!("{WORKERS} workers run on {}", database.display());

    // The first job shows that the workers are up; it is not measured.
    let first = images.first().ok_or("there are no images")?;
    producer.submit(&first.input).await?.wait(PATIENCE).await?;

    let clock = Clock::system();
    let began = clock.now();
    let jobs = images.iter().map(new_job).collect::<Result<Vec<_>, _>>()?;
    let handles = producer.submit_many(jobs).await.map_err(|error| error.error)?;
    let records = results(&producer, &handles).await?;
    let took = clock.now().since(began).as_secs_f64();

    let mut singles = Vec::new();
    for image in images.iter().take(SINGLES) {
        singles.push(producer.submit(&image.input).await?.wait(PATIENCE).await?);
    }
    for worker in workers {
        worker.stop()?;
    }

    let score = score(&images, &records)?;
    let mut pickups: Vec<Duration> = singles.iter().filter_map(pickup).collect();
    pickups.sort();
    let millis = |part: usize| pickups.get(pickups.len() * part / 100).map_or(0.0, |d| d.as_secs_f64() * 1e3);
    println!(
        "images      {} classified, each result read back by its id\n\
         accuracy    {:.2} % ({} of {} images that the network was not trained on)\n\
         throughput  {:.0} jobs/s ({took:.2} s from the first submit to the last result)\n\
         pickup      p50 {:.2} ms, p99 {:.2} ms (accepted → claimed by an idle worker, {SINGLES} single jobs)\n\
         results     in {}; look at one:\n            haulage result {} --url {url}",
        images.len(),
        score.accuracy() * 100.0,
        score.correct,
        score.total,
        images.len() as f64 / took,
        millis(50),
        millis(99),
        database.display(),
        handles.first().map(|job| job.id().to_string()).unwrap_or_default(),
    );
    Ok(())
}

fn new_job(image: &Image) -> Result<NewJob, haulage::Error> {
    Ok(NewJob::new(&image.input)?.metadata("image", image.index.to_string()))
}

/// This program once more, as a worker; dropping it ends it.
struct Worker(std::process::Child);

impl Worker {
    fn start(url: &str) -> Result<Self> {
        let program = std::env::current_exe()?;
        // Its stdin ends with us, whatever ends us.
        let stdin = std::process::Stdio::piped();
        Ok(Self(std::process::Command::new(program).args([WORKER, url]).stdin(stdin).spawn()?))
    }

    /// Stops it by closing its stdin, and waits for it.
    fn stop(mut self) -> Result {
        drop(self.0.stdin.take());
        match self.0.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("a worker ended with {status}").into()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for all jobs; then reads each result by its id.
async fn results(producer: &Producer, handles: &[JobHandle]) -> Result<Vec<Record>> {
    let ids: Vec<_> = handles.iter().map(|job| job.id().clone()).collect();
    producer.wait_each(&ids, PATIENCE, |_, _| {}).await?;
    let mut records = Vec::with_capacity(ids.len());
    for id in &ids {
        records.push(producer.get(id, Detail::Result).await?);
    }
    Ok(records)
}

/// How many of the held-out images were read correctly.
fn score(images: &[Image], records: &[Record]) -> Result<Score> {
    let mut score = Score { correct: 0, total: 0 };
    for (image, record) in images.iter().zip(records) {
        let result = record
            .result
            .as_ref()
            .ok_or_else(|| format!("job {} is {}: {:?}", record.id, record.status, record.error))?;
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
