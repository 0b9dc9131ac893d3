//! The processes that `haulage bench` starts: this program again, under a
//! hidden command. They say "ready", wait for a line, do their part, and
//! write what they saw as one line of JSON.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use haulage::{
    Clock, Consumer, Context, Failure, Job, Json, NewJob, Producer,
    consumer::{ConsumerBuilder, Event},
    shutdown::Shutdown,
};
use haulage_http::server::Server;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::failed;
use crate::{exit::Result, session::Session};

/// The size of each body and each result.
pub(super) const BODY_BYTES: usize = 200;
/// Jobs of one bulk submit.
pub(super) const BATCH: u64 = 4_000;
/// Jobs that the consumer of the throughput run works on at once.
pub(super) const CONCURRENCY: usize = 4_096;
/// The lease of the job that burns a CPU.
pub(super) const BURN_LEASE: Duration = Duration::from_secs(5);

/// One part of a measurement
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum Part {
    /// Submit jobs in bulk, with a `result_ttl` in seconds
    Produce { jobs: u64, ttl: Option<u64> },
    /// Submit jobs one after the other
    OneByOne { jobs: u64 },
    /// Run jobs that do nothing
    Consume { jobs: u64, concurrency: usize },
    /// Submit single jobs from many tasks at once
    Single { tasks: u64, millis: u64 },
    /// Answer each job with the time at which its handler starts
    Echo,
    /// Run jobs of all kinds with so many slots, until told to end
    Soak { concurrency: usize },
    /// Serve the jobs on the loopback, and say under which URL
    Serve,
    /// Be so many workers, each with a connection of its own, until told to end
    Idle { workers: usize },
    /// Answer each job after burning the CPU for so many seconds
    Burn { seconds: u64 },
}

/// What an actor saw. Times are microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) began: i64,
    pub(super) ended: i64,
    pub(super) jobs: u64,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let backend = session.backend().await?;
        let producer = Producer::new(Arc::clone(&backend));
        session.output.line("ready")?;
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        if input.next_line().await.ok().flatten().is_none() {
            return Ok(());
        }
        let began = now();
        let jobs = match self.part {
            Part::Produce { jobs, ttl } => {
                let job = ttl.map_or_else(job, |ttl| job().result_ttl(Duration::from_secs(ttl)));
                produce(&producer, jobs, job).await?
            }
            Part::Single { tasks, millis } => single(producer, tasks, Duration::from_millis(millis)).await?,
            Part::OneByOne { jobs } => one_by_one(&producer, jobs).await?,
            Part::Consume { jobs, concurrency } => {
                let builder = Consumer::builder(backend).concurrency(concurrency);
                let seen = consume(builder, jobs).await?;
                return session.output.json(&Seen { began, ..seen });
            }
            Part::Echo => {
                serve(Consumer::builder(backend).handler(echo), &mut input).await?;
                return Ok(());
            }
            Part::Serve => {
                let server = Server::builder(backend).listen("127.0.0.1:0").start()?;
                session.output.line(server.url())?;
                while let Ok(Some(_)) = input.next_line().await {}
                server.stop(Duration::from_secs(5)).await;
                return Ok(());
            }
            Part::Idle { workers } => {
                let mut crowd = tokio::task::JoinSet::new();
                let shutdown = Shutdown::new();
                for _ in 0..workers {
                    let consumer = Consumer::builder(session.backend().await?).handler(echo).build()?;
                    crowd.spawn(consumer.run(shutdown.clone()));
                }
                session.output.line("idle")?;
                while let Ok(Some(_)) = input.next_line().await {}
                shutdown.stop();
                crowd.join_all().await;
                return Ok(());
            }
            Part::Soak { concurrency } => {
                let jobs = soak(Consumer::builder(backend).concurrency(concurrency), &mut input).await?;
                return session.output.json(&Seen { began, ended: now(), jobs });
            }
            Part::Burn { seconds } => {
                let burn = move |_: Job<Json>, ctx: Context| {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_secs(seconds) {
                        std::hint::spin_loop();
                    }
                    Ok::<_, Failure>(ctx.attempt())
                };
                serve(Consumer::builder(backend).lease(BURN_LEASE).blocking_handler(burn), &mut input)
                    .await?;
                return Ok(());
            }
        };
        session.output.json(&Seen { began, ended: now(), jobs })
    }
}

fn now() -> i64 {
    Clock::system().now().as_micros()
}

/// A job whose body has the size that the numbers are stated for.
pub(super) fn job() -> NewJob {
    NewJob::from_json(Json::from_stored(format!("{:?}", "x".repeat(BODY_BYTES - 2))))
}

/// Submits in bulk, the next part while the last is on its way.
pub(super) async fn produce(producer: &Producer, jobs: u64, job: NewJob) -> Result<u64> {
    let mut parts = tokio::task::JoinSet::new();
    let mut left = jobs;
    while left > 0 || !parts.is_empty() {
        while left > 0 && parts.len() < 2 {
            let part = left.min(BATCH);
            left -= part;
            let (producer, job) = (producer.clone(), job.clone());
            parts.spawn(async move {
                let jobs = (0..part).map(|_| job.clone()).collect();
                producer.submit_many(jobs).await.map(drop)
            });
        }
        if let Some(part) = parts.join_next().await {
            part.map_err(|e| failed("a submit", e))?.map_err(|e| failed("a submit", e.error))?;
        }
    }
    Ok(jobs)
}

async fn single(producer: Producer, tasks: u64, watch: Duration) -> Result<u64> {
    let began = Instant::now();
    let mut submits = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let producer = producer.clone();
        submits.spawn(async move {
            let mut done = 0;
            while began.elapsed() < watch {
                producer.submit_job(job()).await?;
                done += 1;
            }
            Ok::<u64, haulage::Error>(done)
        });
    }
    let mut done = 0;
    while let Some(submit) = submits.join_next().await {
        done += submit.map_err(|e| failed("a submit", e))??;
    }
    Ok(done)
}

async fn one_by_one(producer: &Producer, jobs: u64) -> Result<u64> {
    for _ in 0..jobs {
        producer.submit_job(job()).await?;
    }
    Ok(jobs)
}

async fn consume(builder: ConsumerBuilder, jobs: u64) -> Result<Seen> {
    let (done, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let shutdown = Shutdown::new();
    let on_event = {
        let (done, ended, shutdown) = (Arc::clone(&done), Arc::clone(&ended), shutdown.clone());
        move |event: &Event| {
            if matches!(event, Event::Succeeded { .. }) && done.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                ended.store(now().unsigned_abs(), Ordering::Relaxed);
                shutdown.stop();
            }
        }
    };
    let consumer = builder
        .on_event(on_event)
        .handler(|job: Job<Json>, _: Context| async move { Ok::<_, Failure>(job.body) })
        .build()?;
    consumer.run(shutdown).await;
    let ended = i64::try_from(ended.load(Ordering::Relaxed)).unwrap_or(0);
    Ok(Seen { began: 0, ended, jobs: done.load(Ordering::Relaxed) })
}

async fn echo(_: Job<Json>, _: Context) -> Result<i64, Failure> {
    Ok(now())
}

/// The request id of jobs whose first attempt fails.
pub(super) const FAILS_ONCE: &str = "fails once";

/// Answers each job with its body; tells how many have succeeded.
async fn soak(builder: ConsumerBuilder, input: &mut Lines<BufReader<tokio::io::Stdin>>) -> Result<u64> {
    let done = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&done);
    let builder = builder.on_event(move |event: &Event| {
        count.fetch_add(u64::from(matches!(event, Event::Succeeded { .. })), Ordering::Relaxed);
    });
    let handler = async |job: Job<Json>, context: Context| {
        if context.request_id() == FAILS_ONCE && context.attempt() == 1 {
            return Err(Failure::retry_after("as it is to be", Duration::from_millis(100)));
        }
        Ok(job.body)
    };
    serve(builder.handler(handler), input).await?;
    Ok(done.load(Ordering::Relaxed))
}

/// Works until the parent closes our stdin.
async fn serve(builder: ConsumerBuilder, input: &mut Lines<BufReader<tokio::io::Stdin>>) -> Result {
    let shutdown = Shutdown::new();
    let consumer = tokio::spawn(builder.build()?.run(shutdown.clone()));
    while let Ok(Some(_)) = input.next_line().await {}
    shutdown.stop();
    consumer.await.map_err(|e| failed("a consumer", e))?;
    Ok(())
}

/// An actor, seen from the process that started it.
#[derive(Debug)]
pub(super) struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Starts an actor on a database and waits until it is ready.
    pub(super) async fn start(url: &str, part: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| failed("finding this program", e))?;
        let mut child = Command::new(program)
            .args(["--url", url, "bench-actor"])
            .args(part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed("starting a process", e))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("starting a process", "no pipes"));
        };
        let mut this = Self { child, stdin: Some(stdin), stdout: BufReader::new(stdout).lines() };
        match this.line().await?.as_str() {
            "ready" => Ok(this),
            other => Err(failed("starting a process", other)),
        }
    }

    /// The next line that it says.
    pub(super) async fn line(&mut self) -> Result<String> {
        let line = self.stdout.next_line().await.map_err(|e| failed("a process", e))?;
        line.ok_or_else(|| failed("a process", "it ended early"))
    }

    /// The process, 0 where it has ended.
    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Lets it begin.
    pub(super) async fn go(&mut self) -> Result {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(b"go\n").await.map_err(|e| failed("a process", e)),
            None => Ok(()),
        }
    }

    /// What it saw, when it is done.
    pub(super) async fn seen<T: DeserializeOwned>(mut self) -> Result<T> {
        let line = self.line().await?;
        self.stop().await?;
        serde_json::from_str(&line).map_err(|e| failed("a process", e))
    }

    /// Lets it end, and tells what it saw.
    pub(super) async fn end<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.stdin.take());
        self.seen().await
    }

    /// Lets it end.
    pub(super) async fn stop(mut self) -> Result {
        drop(self.stdin.take());
        self.child.wait().await.map(drop).map_err(|e| failed("a process", e))
    }
}
