//! The worker process itself: how soon it works, what it costs while it has
//! nothing to do, and whether a handler can starve its heartbeats.

use std::{path::Path, process::Stdio, time::Duration};

use haulage::{Clock, Producer, Timestamp};
use tokio::process::{Child, Command};

use super::{actor::Actor, failed, pipeline::url, report::median};
use crate::exit::Result;

const WAIT: Duration = Duration::from_secs(30);

/// `haulage worker` as a user starts it, with a handler that does nothing.
fn worker(path: &Path) -> Result<Child> {
    let program = std::env::current_exe().map_err(|e| failed("finding this program", e))?;
    Command::new(program)
        .args(["--url", &url(path), "worker", "--exec", "cat"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed("starting a worker", e))
}

async fn end(mut worker: Child) -> Result {
    worker.kill().await.map_err(|e| failed("stopping a worker", e))
}

/// From the start of the process to its first claim: the median.
pub(super) async fn cold_start_ms(path: &Path, starts: usize) -> Result<f64> {
    let producer = Producer::new(haulage::connect(&url(path)).await?);
    let mut times = Vec::new();
    for _ in 0..starts {
        let job = producer.submit("first").await?;
        let began = Clock::system().now();
        let worker = worker(path)?;
        let record = job.wait(Some(WAIT)).await?;
        let claimed: Timestamp = record.started_at.ok_or_else(|| failed("a worker", "it claimed nothing"))?;
        times.push(claimed.since(began).as_secs_f64() * 1e3);
        end(worker).await?;
    }
    Ok(median(&mut times))
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) cpu_percent: Option<f64>,
    pub(super) rss_mb: Option<f64>,
}

/// What a worker uses while it waits, after it has run a job. Only known on
/// Linux.
pub(super) async fn idle(path: &Path, watch: Duration) -> Result<Idle> {
    let producer = Producer::new(haulage::connect(&url(path)).await?);
    let job = producer.submit("warm").await?;
    let worker = worker(path)?;
    job.wait(Some(WAIT)).await?;
    let pid = worker.id().unwrap_or(0);
    let before = cpu_seconds(pid);
    tokio::time::sleep(watch).await;
    let cpu_percent = before.zip(cpu_seconds(pid)).map(|(a, b)| (b - a) / watch.as_secs_f64() * 100.0);
    let rss_mb = resident_mb(pid);
    end(worker).await?;
    Ok(Idle { cpu_percent, rss_mb })
}

/// What the process has run for, from the scheduler's own count of nanoseconds.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = tasks.flatten().map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    Some(nanos.sum::<Option<f64>>()? / 1e9)
}

pub(super) fn resident_mb(pid: u32) -> Option<f64> {
    memory_mb(pid, "VmRSS:")
}

/// The most memory that a process has had at once.
pub(super) fn most_resident_mb(pid: u32) -> Option<f64> {
    memory_mb(pid, "VmHWM:")
}

fn memory_mb(pid: u32, what: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

/// How often the lease of a job lapsed while its handler burned the CPU.
pub(super) async fn burn(path: &Path, time: Duration) -> Result<u32> {
    let producer = Producer::new(haulage::connect(&url(path)).await?);
    let mut actor = Actor::start(&url(path), &["burn", &time.as_secs().to_string()]).await?;
    actor.go().await?;
    let job = producer.submit("burn").await?;
    let attempt: u32 = job.result(Some(time * 3)).await?;
    actor.stop().await?;
    Ok(attempt - 1)
}
