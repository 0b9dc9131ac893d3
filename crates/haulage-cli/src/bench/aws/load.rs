//! Jobs through the backend: as many as it takes, and as few as there are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use haulage::{
    Backend, Consumer, Context, Failure, Job, Json, NewJob, Producer, consumer::Event, shutdown::Shutdown,
};
use haulage_aws::{AwsBackend, Usage};
use tokio::sync::{Notify, mpsc};

use super::super::{failed, report::median};
use crate::{bench::actor, exit::Result};

/// Jobs that are worked on at once.
pub(super) const CONCURRENCY: usize = 200;

/// One run under load.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) jobs_per_s: f64,
    pub(super) usage: Usage,
}

/// How jobs are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submits {
    Bulk,
    /// One after the other, with an idempotency key each or without.
    Single {
        keyed: bool,
    },
}

/// Submits jobs like this one, and then works them off; each has its body as its result.
pub(super) async fn run(backend: AwsBackend, jobs: u64, job: NewJob, submits: Submits) -> Result<Load> {
    let backend = Arc::new(backend);
    let before = backend.usage();
    let producer = Producer::new(backend.clone() as Arc<dyn Backend>);
    let began = Instant::now();
    match submits {
        Submits::Bulk => drop(actor::produce(&producer, jobs, job).await?),
        Submits::Single { keyed } => {
            for _ in 0..jobs {
                let job = job.clone();
                let job = if keyed { job.idempotency_key(format!("{:x}", fastrand::u64(..))) } else { job };
                producer.submit_job(job).await?;
            }
        }
    }
    let (done, shutdown) = (Arc::new(AtomicU64::new(0)), Shutdown::new());
    let on_event = {
        let (done, shutdown) = (done.clone(), shutdown.clone());
        move |event: &Event| {
            if matches!(event, Event::Succeeded { .. }) && done.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                shutdown.stop();
            }
        }
    };
    let consumer = Consumer::builder(backend.clone() as Arc<dyn Backend>)
        .concurrency(CONCURRENCY)
        // Its last poll is not waited for: the queue goes.
        .shutdown_grace_period(Duration::from_millis(100))
        .on_event(on_event)
        .handler(|job: Job<Json>, _: Context| async move { Ok::<_, Failure>(job.body) })
        .build()?;
    consumer.run(shutdown).await;
    let seconds = began.elapsed().as_secs_f64();
    let counted = done.load(Ordering::Relaxed);
    if counted != jobs {
        return Err(failed("the run under load", format!("{counted} of {jobs} jobs were done")));
    }
    // The last deletes wait for company, and belong to it.
    let usage = settled(&backend).await;
    Ok(Load { jobs_per_s: jobs as f64 / seconds, usage: usage.since(&before) })
}

/// The usage, once it does not grow any more.
async fn settled(backend: &AwsBackend) -> Usage {
    let mut usage = backend.usage();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = backend.usage();
        if now == usage {
            return now;
        }
        usage = now;
    }
}

/// What a consumer with nothing to do asks for, for each 20 s.
pub(super) async fn idle(backend: AwsBackend, watch: Duration) -> Result<f64> {
    let backend = Arc::new(backend);
    let shutdown = Shutdown::new();
    let consumer = Consumer::builder(backend.clone() as Arc<dyn Backend>)
        .concurrency(10)
        .handler(|job: Job<Json>, _: Context| async move { Ok::<_, Failure>(job.body) })
        .build()?;
    let before = backend.usage();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    // Just before the poll that would begin the next period.
    tokio::time::sleep(watch - Duration::from_secs(1)).await;
    let usage = backend.usage().since(&before);
    shutdown.stop();
    running.await.map_err(|e| failed("a consumer", e))?;
    let requests: u64 =
        [&usage.sqs, &usage.dynamodb, &usage.s3].iter().flat_map(|calls| calls.values()).sum();
    Ok(requests as f64 / (watch.as_secs_f64() / 20.0))
}

/// What `jobs` long jobs in one process ask for, for each job and heartbeat
/// interval, after their start and before their end.
pub(super) async fn heartbeats(backend: AwsBackend, jobs: usize) -> Result<f64> {
    const INTERVAL: Duration = Duration::from_secs(1);
    const INTERVALS: u32 = 10;
    let backend = Arc::new(backend);
    let producer = Producer::new(backend.clone() as Arc<dyn Backend>);
    actor::produce(&producer, jobs as u64, actor::job()).await?;
    let (started, all, over) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()), Shutdown::new());
    let handler = {
        let (started, all, over) = (started.clone(), all.clone(), over.clone());
        move |_: Job<Json>, _: Context| {
            let (started, all, over) = (started.clone(), all.clone(), over.clone());
            async move {
                if started.fetch_add(1, Ordering::SeqCst) + 1 == jobs as u64 {
                    all.notify_one();
                }
                over.stopping().await;
                Ok::<_, Failure>(())
            }
        }
    };
    let consumer = Consumer::builder(backend.clone() as Arc<dyn Backend>)
        .concurrency(jobs)
        .lease(INTERVAL * 10)
        .heartbeat_interval(INTERVAL)
        .handler(handler)
        .build()?;
    let shutdown = Shutdown::new();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    all.notified().await;
    let before = backend.usage();
    tokio::time::sleep(INTERVAL * INTERVALS).await;
    let usage = backend.usage().since(&before);
    over.stop();
    shutdown.stop();
    running.await.map_err(|e| failed("a consumer", e))?;
    let requests: u64 = [&usage.sqs, &usage.dynamodb].iter().flat_map(|calls| calls.values()).sum();
    Ok(requests as f64 / f64::from(INTERVALS) / jobs as f64)
}

/// What is known of cancels of running jobs.
pub(super) struct Cancels {
    /// Until the handler hears that another process has cancelled its job: the median.
    pub(super) heard_s: f64,
    /// What a process asks for in 20 s while it runs one long job.
    pub(super) requests_per_20_s: f64,
}

/// Runs so many long jobs, one after the other, and cancels each by another process.
pub(super) async fn cancels(backend: AwsBackend, operator: AwsBackend, jobs: u64) -> Result<Cancels> {
    const WATCHED: Duration = Duration::from_secs(20);
    let backend = Arc::new(backend);
    let (producer, operator) =
        (Producer::new(backend.clone() as Arc<dyn Backend>), Producer::new(Arc::new(operator)));
    let (tell, mut told) = mpsc::unbounded_channel();
    let consumer = Consumer::builder(backend.clone() as Arc<dyn Backend>)
        .handler(move |job: Job<Json>, context: Context| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(job.id);
                context.cancelled().await;
                let _ = tell.send(context.job_id().clone());
                Ok::<_, Failure>(())
            }
        })
        .build()?;
    let shutdown = Shutdown::new();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    let (mut heard, mut requests) = (Vec::new(), 0);
    for n in 0..jobs {
        actor::produce(&producer, 1, actor::job()).await?;
        let Some(id) = told.recv().await else { break };
        if n == 0 {
            let before = backend.usage();
            tokio::time::sleep(WATCHED).await;
            let usage = backend.usage().since(&before);
            requests = [&usage.sqs, &usage.dynamodb].iter().flat_map(|calls| calls.values()).sum();
        }
        operator.cancel(&id).await?;
        let began = Instant::now();
        told.recv().await;
        heard.push(began.elapsed().as_secs_f64());
    }
    shutdown.stop();
    running.await.map_err(|e| failed("a consumer", e))?;
    Ok(Cancels { heard_s: median(&mut heard), requests_per_20_s: requests as f64 })
}

/// The most `BatchGetItem` calls that so many waits make in one poll. Counted
/// once the waits have been under way for a while: at their beginning, polls
/// follow one another too closely to be told apart.
pub(super) async fn waits(backend: AwsBackend, waits: usize) -> Result<u64> {
    const TOLD_APART: Duration = Duration::from_secs(5);
    const WATCHED: Duration = Duration::from_secs(30);
    let backend = Arc::new(backend);
    let producer = Producer::new(backend.clone() as Arc<dyn Backend>);
    let jobs = (0..waits).map(|_| actor::job().delay(Duration::from_secs(3600))).collect();
    let handles = producer.submit_many(jobs).await.map_err(|e| failed("a submit", e.error))?;
    let mut waiting = tokio::task::JoinSet::new();
    for handle in handles {
        waiting.spawn(async move { handle.wait(Some(WATCHED)).await.map(drop) });
    }
    tokio::time::sleep(TOLD_APART).await;
    let calls = || backend.usage().dynamodb.get("BatchGetItem").copied().unwrap_or(0);
    // Polls are apart by more than this; the calls of one come together.
    let quiet = Duration::from_millis(200);
    let (mut most, mut burst, mut seen, mut last_change) = (0, 0, calls(), Instant::now());
    while !waiting.is_empty() {
        tokio::select! {
            _ = waiting.join_next() => {}
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        let now = calls();
        if now > seen {
            burst = if last_change.elapsed() > quiet { 0 } else { burst } + now - seen;
            (seen, last_change) = (now, Instant::now());
            most = most.max(burst);
        }
    }
    Ok(most)
}
