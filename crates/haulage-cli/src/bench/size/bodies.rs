//! How long a submit waits beside those who move large bodies.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use haulage::{
    Backend, NewJob, Status,
    backend::{ClaimRequest, Claimed, Outcome, Purge, Settlement},
    sqlite::SqliteBackend,
};
use serde::Serialize;

use super::waits::{RESULT_BYTES as BYTES, document};
use crate::{
    bench::{actor, failed},
    exit::Result,
};

const LEASE: Duration = Duration::from_secs(3600);
/// How many jobs are submitted, claimed and settled by one call.
const AT_ONCE: usize = 64;

/// The longest that a single submit took, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Bodies {
    /// Beside somebody who submits.
    pub(super) submits_ms: f64,
    /// Beside a worker that claims and settles many at a time.
    pub(super) jobs_ms: f64,
    /// Beside a purge.
    pub(super) purge_ms: f64,
    /// What the disk takes for one such body by itself, at the longest.
    pub(super) disk_ms: f64,
}

pub(super) async fn measure(path: &Path, jobs: usize) -> Result<Bodies> {
    let disk_ms = disk_ms(&path.with_extension("disk"), jobs)?;
    let large = SqliteBackend::open(path).await?;
    let body = document(BYTES);
    let submits = async {
        for part in 0..jobs.div_ceil(AT_ONCE) {
            let count = AT_ONCE.min(jobs - part * AT_ONCE);
            for _ in 0..count {
                large.submit(vec![NewJob::from_json(body.clone())]).await?;
            }
        }
        Ok(())
    };
    let submits_ms = longest_submit(path, submits).await?;
    let runs = async {
        let mut left = jobs;
        while left > 0 {
            let request = ClaimRequest::new("bench", LEASE).max(AT_ONCE);
            let claimed = large.claim(request, Default::default()).await?;
            let ours: Vec<_> = claimed.into_iter().map(|Claimed { key, body, .. }| (key, body)).collect();
            left = left.saturating_sub(ours.iter().filter(|(_, body)| body.size() == BYTES).count());
            let settlements =
                ours.into_iter().map(|(key, body)| Settlement::new(key, Outcome::Success(body)));
            for settled in large.settle(settlements.collect()).await? {
                settled?;
            }
        }
        Ok(())
    };
    let jobs_ms = longest_submit(path, runs).await?;
    let purge = async {
        large
            .purge(Purge::Status { status: Status::Success, older_than: Duration::ZERO, queue: None })
            .await?;
        Ok(())
    };
    let purge_ms = longest_submit(path, purge).await?;
    large.close().await?;
    Ok(Bodies { submits_ms, jobs_ms, purge_ms, disk_ms })
}

/// The longest that a single submit of another process would take while this goes on.
async fn longest_submit(path: &Path, work: impl Future<Output = Result>) -> Result<f64> {
    let (backend, over) = (SqliteBackend::open(path).await?, Arc::new(AtomicBool::new(false)));
    let (submitter, stop) = (backend.clone(), Arc::clone(&over));
    let submits = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            submitter.submit(vec![actor::job()]).await?;
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, haulage::Error>(longest)
    });
    work.await?;
    over.store(true, Ordering::Relaxed);
    let longest = submits.await.map_err(|error| failed("a submit", error))??;
    backend.close().await?;
    Ok(longest.as_secs_f64() * 1e3)
}

/// The longest that the disk takes to keep one body.
fn disk_ms(path: &Path, bodies: usize) -> Result<f64> {
    let run = || {
        let (mut file, body) = (File::create(path)?, vec![1; BYTES]);
        let mut longest = Duration::ZERO;
        for _ in 0..bodies.min(AT_ONCE) {
            let began = Instant::now();
            file.write_all(&body)?;
            file.sync_data()?;
            longest = longest.max(began.elapsed());
        }
        std::fs::remove_file(path)?;
        Ok::<_, std::io::Error>(longest.as_secs_f64() * 1e3)
    };
    run().map_err(|error| failed("writing to the disk", error))
}
