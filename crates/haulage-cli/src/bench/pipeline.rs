//! Throughput: submit → run → result stored, through real processes.

use std::{path::Path, time::Duration};

use haulage::Producer;

use super::actor::{self, Actor, Seen};
use crate::exit::Result;

/// Tasks that submit single jobs at once.
pub(super) const TASKS: u64 = 64;

pub(super) fn url(path: &Path) -> String {
    haulage::sqlite::url(path)
}

/// Brings a database to so many waiting jobs.
pub(super) async fn fill(path: &Path, waiting: u64) -> Result {
    let producer = Producer::new(haulage::connect(&url(path)).await?);
    let missing = waiting.saturating_sub(producer.backend().stats().await?.visible);
    actor::produce(&producer, missing, actor::job()).await?;
    Ok(())
}

/// Jobs a second while one process submits and another one consumes, with a
/// number of jobs waiting at the start, which is that at the end too.
pub(super) async fn jobs_per_s(path: &Path, waiting: u64, jobs: u64) -> Result<f64> {
    fill(path, waiting).await?;
    both_sides(&url(path), jobs, "produce", None, actor::CONCURRENCY).await
}

/// Jobs a second while one process submits them one after the other, and
/// another one runs them one after the other.
pub(super) async fn one_by_one_per_s(path: &Path, jobs: u64) -> Result<f64> {
    both_sides(&url(path), jobs, "one-by-one", None, 1).await
}

/// Jobs a second of both sides, where records expire so many seconds after their jobs ended.
pub(super) async fn expiring_jobs_per_s(path: &Path, jobs: u64, ttl: u64) -> Result<f64> {
    both_sides(&url(path), jobs, "produce", Some(ttl), actor::CONCURRENCY).await
}

/// Jobs a second from the first submit to the last settle, by two processes.
pub(super) async fn both_sides(
    url: &str,
    jobs: u64,
    producer: &str,
    ttl: Option<u64>,
    concurrency: usize,
) -> Result<f64> {
    let count = jobs.to_string();
    let ttl = ttl.map(|ttl| ttl.to_string());
    let part: Vec<&str> = [producer, &count].into_iter().chain(ttl.as_deref()).collect();
    let mut consumer = Actor::start(url, &["consume", &count, &concurrency.to_string()]).await?;
    let mut producer = Actor::start(url, &part).await?;
    consumer.go().await?;
    producer.go().await?;
    let produced: Seen = producer.seen().await?;
    let consumed: Seen = consumer.seen().await?;
    Ok(per_s(jobs, produced.began.min(consumed.began), produced.ended.max(consumed.ended)))
}

/// Jobs a second of a worker with one slot, where all of them wait already.
pub(super) async fn one_slot_per_s(path: &Path, jobs: u64) -> Result<f64> {
    fill(path, jobs).await?;
    let mut consumer = Actor::start(&url(path), &["consume", &jobs.to_string(), "1"]).await?;
    consumer.go().await?;
    let seen: Seen = consumer.seen().await?;
    Ok(per_s(jobs, seen.began, seen.ended))
}

fn per_s(jobs: u64, began: i64, ended: i64) -> f64 {
    jobs as f64 / Duration::from_micros((ended - began).unsigned_abs()).as_secs_f64()
}

/// Single submits a second from so many tasks, each acknowledged durable.
pub(super) async fn single_submits_per_s(path: &Path, tasks: u64, watch: Duration) -> Result<f64> {
    submits_per_s(&url(path), tasks, watch).await
}

/// The same at any URL.
pub(super) async fn submits_per_s(url: &str, tasks: u64, watch: Duration) -> Result<f64> {
    let (tasks, millis) = (tasks.to_string(), watch.as_millis().to_string());
    let mut producer = Actor::start(url, &["single", &tasks, &millis]).await?;
    producer.go().await?;
    let seen: Seen = producer.seen().await?;
    Ok(per_s(seen.jobs, seen.began, seen.ended))
}
