//! What many idle workers on one database cost, while somebody submits.

use std::{path::Path, time::Duration};

use haulage::Producer;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::{
    bench::{
        actor::{self, Actor},
        pipeline::url,
        worker::cpu_seconds,
    },
    exit::Result,
};

/// How many workers are idle, each a process with one slot.
pub(super) const WORKERS: usize = 64;
/// How many jobs are submitted in a second.
pub(super) const PER_SECOND: u32 = 100;
/// A delay that no measurement waits for.
const LATER: Duration = Duration::from_secs(24 * 3600);
/// For the first look of each worker, and all that comes with its start.
const SETTLING: Duration = Duration::from_secs(3);

/// What workers use of one core together, in percent; only known on Linux.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Crowd {
    /// While jobs come that are to start a day later.
    pub(super) not_due_percent: Option<f64>,
    /// While jobs come, do nothing, and end.
    pub(super) percent: Option<f64>,
    /// The same jobs with one worker.
    pub(super) alone_percent: Option<f64>,
}

pub(super) async fn measure(path: &Path, watch: Duration) -> Result<Crowd> {
    let producer = Producer::new(haulage::connect(&url(path)).await?);
    let mut workers = Vec::new();
    add(&mut workers, path, 1).await?;
    let alone_percent = used(&workers, submit(&producer, Duration::ZERO, watch)).await?;
    add(&mut workers, path, WORKERS).await?;
    let percent = used(&workers, submit(&producer, Duration::ZERO, watch)).await?;
    let not_due_percent = used(&workers, submit(&producer, LATER, watch)).await?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(Crowd { not_due_percent, percent, alone_percent })
}

async fn add(workers: &mut Vec<Actor>, path: &Path, count: usize) -> Result {
    while workers.len() < count {
        let mut worker = Actor::start(&url(path), &["echo"]).await?;
        worker.go().await?;
        workers.push(worker);
    }
    tokio::time::sleep(SETTLING).await;
    Ok(())
}

/// Submits at a steady pace.
async fn submit(producer: &Producer, delay: Duration, watch: Duration) -> Result<Duration> {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    // A machine that is busy for a moment still gets as many.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = tokio::time::Instant::now();
    while began.elapsed() < watch {
        pace.tick().await;
        producer.submit_job(actor::job().delay(delay)).await?;
    }
    Ok(began.elapsed())
}

/// What the workers use of a core while this goes on, in percent.
async fn used(workers: &[Actor], load: impl Future<Output = Result<Duration>>) -> Result<Option<f64>> {
    let seconds = || workers.iter().map(|worker| cpu_seconds(worker.pid())).sum::<Option<f64>>();
    let before = seconds();
    let took = load.await?;
    Ok(before.zip(seconds()).map(|(before, after)| (after - before) / took.as_secs_f64() * 100.0))
}
