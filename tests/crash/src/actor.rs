//! One process of a crash test: a producer, a consumer or a server that may be killed
//! at any instruction.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use haulage::{Backend, Consumer, Context, Failure, Job, NewJob, Producer, RetryPolicy, shutdown::Shutdown};
use haulage_http::{HttpBackend, server::Server};
use serde::{Deserialize, Serialize};

/// What a job of the test does when it is run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Plan {
    /// Nothing.
    Nothing,
    /// Takes some milliseconds.
    Work(u64),
    /// Fails at its first attempt.
    FailOnce,
    /// Kills its process each time, as a crash in native code does.
    Poison,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let arg = |i: usize| args.get(i).map(String::as_str).ok_or("too few arguments");
    let number = |i: usize| arg(i)?.parse::<u64>().map_err(|e| e.to_string());
    let (url, folder) = (arg(2)?, PathBuf::from(arg(3)?));
    match arg(1)? {
        "produce" => produce(url, &folder, number(4)?, number(5)?, arg(6) == Ok("plain")).await,
        "consume" => {
            let lease = if args.len() > 4 { number(4)? } else { 2 };
            consume(url, &folder, Duration::from_secs(lease)).await
        }
        "serve" => serve(url, arg(4)?).await,
        _ => Err("usage: actor produce URL FOLDER NAME COUNT [plain] | consume URL FOLDER [LEASE] | \
                  serve URL FOLDER ADDRESS"
            .into()),
    }
}

/// Submits `count` jobs, each under a key of its own, and notes which were
/// acknowledged. Started again after a kill, it goes on where its notes end:
/// what was submitted but not noted is submitted again, under the same key.
async fn produce(
    url: &str,
    folder: &Path,
    name: u64,
    count: u64,
    plain: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let notes = folder.join(format!("acknowledged-{name}"));
    // A kill can cut the last line short.
    let noted: HashSet<String> = fs::read_to_string(&notes)
        .unwrap_or_default()
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| line.trim_end().split_once(' '))
        .filter(|(_, id)| id.len() == 36)
        .map(|(key, _)| key.to_owned())
        .collect();
    let mut notes = File::options().create(true).append(true).open(notes)?;
    // Ends a line that was cut short; no key begins so.
    writeln!(notes, "-")?;
    let producer = Producer::new(open(url).await?);
    let mut index = 0;
    while index < count {
        let size = if fastrand::bool() { 1 } else { fastrand::u64(2..50) };
        let keys: Vec<String> = (index..(index + size).min(count))
            .map(|i| format!("{name}:{i}"))
            .filter(|key| !noted.contains(key))
            .collect();
        index += size;
        if keys.is_empty() {
            continue;
        }
        let jobs = keys.iter().map(|key| new_job(key, plain)).collect::<Result<Vec<_>, _>>()?;
        let handles = producer.submit_many(jobs).await?;
        let lines: String =
            keys.iter().zip(&handles).map(|(key, job)| format!("{key} {}\n", job.id())).collect();
        notes.write_all(lines.as_bytes())?;
    }
    Ok(())
}

fn new_job(key: &str, plain: bool) -> Result<NewJob, haulage::Error> {
    let index: u64 = key.split_once(':').and_then(|(_, i)| i.parse().ok()).unwrap_or(0);
    let plan = match index % 400 {
        _ if plain => Plan::Work(index % 20),
        7 => Plan::Poison,
        i if i % 20 == 3 => Plan::FailOnce,
        i if i % 10 == 5 => Plan::Work(i % 30),
        _ => Plan::Nothing,
    };
    // A poison job has two tries; no other may use its tries up by being killed.
    let attempts = if matches!(plan, Plan::Poison) { 2 } else { 1_000 };
    let mut job = NewJob::new(&plan)?.idempotency_key(key).max_attempts(attempts);
    if index % 50 == 11 {
        job = job.group(format!("group-{}", index % 3));
    }
    if index % 30 == 13 {
        job = job.delay(Duration::from_millis(200));
    }
    Ok(job)
}

async fn open(url: &str) -> Result<Arc<dyn Backend>, haulage::Error> {
    match url.starts_with("http:") {
        true => Ok(Arc::new(HttpBackend::connect(url).await?)),
        false => haulage::connect(url).await,
    }
}

/// Serves until it is killed.
async fn serve(url: &str, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let _server = Server::builder(open(url).await?).listen(address).start()?;
    std::future::pending().await
}

/// Runs jobs until SIGTERM, and notes each start, and its own.
async fn consume(url: &str, folder: &Path, lease: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let shutdown = Shutdown::on_signals()?;
    File::create(folder.join(format!("ready-{}", std::process::id())))?;
    let starts = Arc::new(File::options().create(true).append(true).open(folder.join("starts"))?);
    Consumer::builder(open(url).await?)
        .concurrency(16)
        .lease(lease)
        .retry_policy(RetryPolicy { base: Duration::from_millis(20), cap: Duration::from_millis(200) })
        .handler(move |job: Job<Plan>, ctx: Context| {
            let starts = Arc::clone(&starts);
            async move { run(&starts, job, ctx).await }
        })
        .build()?
        .run(shutdown)
        .await;
    Ok(())
}

async fn run(mut starts: &File, job: Job<Plan>, ctx: Context) -> Result<u32, Failure> {
    // One write of one line to a file opened for appending is not mixed with others.
    let line = format!("{} {}\n", job.id, ctx.attempt());
    starts.write_all(line.as_bytes())?;
    match job.body {
        Plan::Nothing => {}
        Plan::Work(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        Plan::FailOnce if ctx.attempt() == 1 => return Err(Failure::retry("as planned")),
        Plan::FailOnce => {}
        Plan::Poison => std::process::abort(),
    }
    Ok(ctx.attempt())
}
