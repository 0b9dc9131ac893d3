//! Throughput: submit → run → result stored, through real processes.

use std::{path::Path, time::Duration};

use haulage::Producer;

use super::actor::{self, Actor, Seen};
use crate::exit::Result;

/// The size of each body and each result.
pub(super) const BODY_BYTES: usize = 200;
/// Tasks that submit single jobs at once.
pub(super) const TASKS: u64 = 64;

pub(super) fn url(path: &Path) -> String {
    haulage::sqlite::url(path)
}

/// Brings a database to so many waiting jobs.
pub(super) async fn fill(path: &Path, waiting: u64) -> Result {
    let producer = Producer::new(haulage::connect(&url(path)).await?);
    let missing = waiting.saturating_sub(producer.backend().stats().await?.visible);
    actor::produce(&producer, missing).await?;
    Ok(())
}

/// Jobs a second while one process submits and another one consumes, with a
/// number of jobs waiting at the start, which is that at the end too.
pub(super) async fn jobs_per_s(path: &Path, waiting: u64, jobs: u64) -> Result<f64> {
    fill(path, waiting).await?;
    let (url, count) = (url(path), jobs.to_string());
    let mut consumer = Actor::start(&url, &["consume", &count]).await?;
    let mut producer = Actor::start(&url, &["produce", &count]).await?;
    consumer.go().await?;
    producer.go().await?;
    let produced: Seen = producer.seen().await?;
    let consumed: Seen = consumer.seen().await?;
    let (began, ended) = (produced.began.min(consumed.began), produced.ended.max(consumed.ended));
    Ok(jobs as f64 / Duration::from_micros((ended - began).unsigned_abs()).as_secs_f64())
}

/// Single submits a second from 64 tasks, each acknowledged durable.
pub(super) async fn single_submits_per_s(path: &Path, watch: Duration) -> Result<f64> {
    let (tasks, millis) = (TASKS.to_string(), watch.as_millis().to_string());
    let mut producer = Actor::start(&url(path), &["single", &tasks, &millis]).await?;
    producer.go().await?;
    let seen: Seen = producer.seen().await?;
    Ok(seen.jobs as f64 / Duration::from_micros((seen.ended - seen.began).unsigned_abs()).as_secs_f64())
}
