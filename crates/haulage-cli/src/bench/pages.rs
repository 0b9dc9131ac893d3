//! What the pages of a server take beside a million jobs.

use std::{collections::BTreeMap, path::Path, time::Instant};

use haulage::{Backend as _, NewJob, sqlite::SqliteBackend};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    failed,
    report::median,
    served::Served,
    size::{Records, fill},
};
use crate::exit::Result;

/// Of these a fifth waits, a tenth is delayed, and the rest are successes.
pub(super) const JOBS: i64 = 1_000_000;
/// How often each page is asked for.
const TIMES: usize = 9;

/// The milliseconds of each page, the median of some.
pub(super) async fn measure(path: &Path) -> Result<BTreeMap<String, f64>> {
    let (waiting, delayed) = (JOBS / 5, JOBS / 10);
    let kept = JOBS - waiting - delayed;
    fill(path, Records { kept, waiting, delayed, with_bodies: true, ..Records::default() }).await?;
    let backend = SqliteBackend::open(path).await?;
    let last = NewJob::new("the last").map_err(|error| failed("a job", error))?;
    let Some(Ok(last)) = backend.submit(vec![last]).await?.pop() else {
        return Err(failed("a submit", "no answer"));
    };
    backend.close().await?;
    let served = Served::start(path).await?;
    let address = served.url.trim_start_matches("http://").to_owned();
    let mut pages = BTreeMap::new();
    for page in [
        "/",
        "/jobs",
        "/jobs?status=SUCCESS",
        "/jobs?find=ID",
        "/jobs?find=a%3Db",
        "/jobs/ID",
        "/workers",
        "/dead",
    ] {
        let target = page.replace("ID", last.id.as_str());
        let mut times = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            times.push(get(&address, &target).await?);
        }
        pages.insert(page.to_owned(), median(&mut times));
    }
    served.server.stop().await?;
    Ok(pages)
}

async fn get(address: &str, target: &str) -> Result<f64> {
    let broken = |error| failed("a page", error);
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).await.map_err(broken)?;
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(broken)?;
    // A search that finds one job leads to its page.
    if ![&b"HTTP/1.1 200 "[..], b"HTTP/1.1 303 "].iter().any(|good| answer.starts_with(good)) {
        let head = String::from_utf8_lossy(&answer);
        return Err(failed("a page", format!("{target}: {}", head.lines().next().unwrap_or_default())));
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
