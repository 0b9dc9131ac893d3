//! What `haulage wait` keeps in memory of many large results.

use std::{path::Path, process::Stdio, time::Duration};

use haulage::{
    Backend, Json, NewJob,
    backend::{ClaimRequest, Outcome, Settlement},
    sqlite::SqliteBackend,
};
use serde::Serialize;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    bench::{failed, pipeline::url, worker::most_resident_mb},
    exit::Result,
};

/// The size of each result.
pub(super) const RESULT_BYTES: usize = 4 << 20;
const LEASE: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Waits {
    pub(super) results: usize,
    /// Only known on Linux.
    pub(super) resident_mb: Option<f64>,
}

/// A document of so many bytes.
pub(in crate::bench) fn document(bytes: usize) -> Json {
    Json::from_stored(format!("{:?}", "x".repeat(bytes - 2)))
}

pub(super) async fn measure(path: &Path, results: usize) -> Result<Waits> {
    let backend = SqliteBackend::open(path).await?;
    let result = document(RESULT_BYTES);
    let mut ids = String::new();
    for _ in 0..results {
        let job = NewJob::new("small").map_err(|error| failed("a job", error))?;
        backend.submit(vec![job]).await?;
        for claimed in backend.claim(ClaimRequest::new("bench", LEASE), Default::default()).await? {
            ids.push_str(claimed.key.id.as_str());
            ids.push('\n');
            let settlement = Settlement::new(claimed.key, Outcome::Success(result.clone()));
            backend.settle(vec![settlement]).await?;
        }
    }
    backend.close().await?;
    let program = std::env::current_exe().map_err(|error| failed("finding this program", error))?;
    let mut wait = Command::new(program)
        .args(["--url", &url(path), "--json", "wait", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("starting a process", error))?;
    let pid = wait.id().unwrap_or(0);
    if let Some(mut stdin) = wait.stdin.take() {
        stdin.write_all(ids.as_bytes()).await.map_err(|error| failed("a process", error))?;
    }
    let mut resident_mb = None;
    loop {
        tokio::select! {
            ended = wait.wait() => {
                let ended = ended.map_err(|error| failed("a process", error))?;
                if !ended.success() {
                    return Err(failed("haulage wait", ended));
                }
                return Ok(Waits { results, resident_mb });
            }
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                resident_mb = most_resident_mb(pid).or(resident_mb);
            }
        }
    }
}
