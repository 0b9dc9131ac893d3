//! What a server costs: the same through `haulage serve` on the loopback as without it.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use haulage::backend::{Backend, ClaimRequest, Outcome, Settlement};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    Effort, actor,
    actor::Actor,
    failed, latency, pages,
    pipeline::{self, TASKS},
    ratio,
    report::{Machine, median, percentile, row},
    served::Served,
    worker::{cpu_seconds, most_resident_mb, resident_mb},
};
use crate::{exit::Result, session::Session};

/// Workers that have nothing to do, each with connections of its own.
const WORKERS: usize = 1_000;
/// Requests that wait for the end of one job at once, each on a connection of its own.
const WAITS: usize = 10_000;
/// For what comes with the start of either.
const SETTLING: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(600);

/// What was measured. Rates and ratios are medians of the runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HttpReport {
    http_jobs_per_s: f64,
    http_jobs_ratio: f64,
    http_submit_per_s: f64,
    http_submit_ratio: f64,
    /// What HTTP itself lets through: answers of that server which need no store, to clients that only send
    /// and receive.
    http_answers_per_s: f64,
    http_one_by_one_per_s: f64,
    http_one_by_one_ratio: f64,
    jobs_per_s: f64,
    single_submit_per_s: f64,
    one_by_one_per_s: f64,
    http_pickup_p50_ms: f64,
    http_pickup_p99_ms: f64,
    http_roundtrip_p50_ms: f64,
    /// Of one core; only known on Linux, as is memory.
    idle_workers_cpu_percent: Option<f64>,
    idle_workers_server_mb: Option<f64>,
    waits_server_mb: Option<f64>,
    waits_answered_p50_ms: f64,
    waits_answered_last_ms: f64,
    /// Beside a million jobs.
    pages_ms: BTreeMap<String, f64>,
    jobs_per_run: u64,
    runs: usize,
    settings: Machine,
}

#[derive(Default)]
struct Rounds {
    with: Vec<f64>,
    without: Vec<f64>,
}

impl Rounds {
    fn medians(&mut self) -> (f64, f64, f64) {
        let ratio = ratio(&self.with, &self.without);
        (median(&mut self.with), median(&mut self.without), ratio)
    }
}

pub(super) async fn measure(folder: &Path, effort: Effort, session: &Session) -> Result<HttpReport> {
    let say = |what: &str| session.output.talk(format!("bench: {what} …"));
    let (mut bulk, mut submits, mut singles) = (Rounds::default(), Rounds::default(), Rounds::default());
    let mut answers = Vec::new();
    for round in 0..effort.runs {
        let place = |name: &str| folder.join(format!("{name}-{round}.db"));
        say(&format!("round {} of {}: jobs in bulk", round + 1, effort.runs));
        let sides = async |url: &str| {
            pipeline::both_sides(url, effort.jobs, "produce", None, actor::CONCURRENCY).await
        };
        bulk.without.push(sides(&pipeline::url(&place("bulk"))).await?);
        let served = Served::start(&place("bulk-http")).await?;
        bulk.with.push(sides(&served.url).await?);
        served.server.stop().await?;
        say("single submits");
        submits
            .without
            .push(pipeline::submits_per_s(&pipeline::url(&place("one")), TASKS, effort.watch).await?);
        let served = Served::start(&place("one-http")).await?;
        submits.with.push(pipeline::submits_per_s(&served.url, TASKS, effort.watch).await?);
        answers.push(answers_per_s(&served.url, effort.watch).await?);
        served.server.stop().await?;
        say("one job after the other");
        let sides = async |url: &str| pipeline::both_sides(url, effort.singles, "one-by-one", None, 1).await;
        singles.without.push(sides(&pipeline::url(&place("turns"))).await?);
        let served = Served::start(&place("turns-http")).await?;
        singles.with.push(sides(&served.url).await?);
        served.server.stop().await?;
    }
    say("latency");
    let served = Served::start(&folder.join("latency.db")).await?;
    let (producer, _) = served.producer().await?;
    let latency = latency::measure(&producer, &served.url, effort.samples).await?;
    drop(producer);
    served.server.stop().await?;
    say(&format!("{WORKERS} idle workers"));
    let (idle_workers_cpu_percent, idle_workers_server_mb) =
        idle(&folder.join("idle.db"), effort.watch).await?;
    say(&format!("{WAITS} requests that wait"));
    let waits = waits(&folder.join("waits.db")).await?;
    say(&format!("pages beside {} jobs", pages::JOBS));
    let pages_ms = pages::measure(&folder.join("pages.db")).await?;
    let (http_jobs_per_s, jobs_per_s, http_jobs_ratio) = bulk.medians();
    let (http_submit_per_s, single_submit_per_s, http_submit_ratio) = submits.medians();
    let (http_one_by_one_per_s, one_by_one_per_s, http_one_by_one_ratio) = singles.medians();
    Ok(HttpReport {
        http_jobs_per_s,
        http_jobs_ratio,
        http_submit_per_s,
        http_submit_ratio,
        http_answers_per_s: median(&mut answers),
        http_one_by_one_per_s,
        http_one_by_one_ratio,
        jobs_per_s,
        single_submit_per_s,
        one_by_one_per_s,
        http_pickup_p50_ms: latency.pickup_p50_ms,
        http_pickup_p99_ms: latency.pickup_p99_ms,
        http_roundtrip_p50_ms: latency.roundtrip_p50_ms,
        idle_workers_cpu_percent,
        idle_workers_server_mb,
        waits_server_mb: waits.server_mb,
        waits_answered_p50_ms: waits.p50_ms,
        waits_answered_last_ms: waits.last_ms,
        pages_ms,
        jobs_per_run: effort.jobs,
        runs: effort.runs,
        settings: Machine::this(),
    })
}

/// Answers a second, from as many connections as there are tasks that submit.
async fn answers_per_s(url: &str, watch: Duration) -> Result<f64> {
    let address = url.trim_start_matches("http://").to_owned();
    let request = format!("GET /v1/backend HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let until = Instant::now() + watch;
    let mut clients = JoinSet::new();
    for _ in 0..TASKS {
        let (address, request) = (address.clone(), request.clone());
        clients.spawn(async move {
            let mut stream = BufReader::new(TcpStream::connect(&address).await?);
            let (mut answers, mut line, mut body) = (0_u32, String::new(), Vec::new());
            loop {
                stream.write_all(request.as_bytes()).await?;
                line.clear();
                stream.read_line(&mut line).await?;
                // How fast a server refuses says nothing of how fast it answers.
                if !line.starts_with("HTTP/1.1 200 ") {
                    let told = line.trim_end();
                    return Err(std::io::Error::other(format!(
                        "the answer began with {told:?}, and not with a 200"
                    )));
                }
                let mut length = 0;
                loop {
                    line.clear();
                    stream.read_line(&mut line).await?;
                    match line.trim_end().split_once(": ") {
                        Some(("content-length", bytes)) => length = bytes.parse().unwrap_or(0),
                        None if line == "\r\n" => break,
                        None if line.is_empty() => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        _ => {}
                    }
                }
                body.resize(length, 0);
                stream.read_exact(&mut body).await?;
                answers += 1;
                if Instant::now() >= until {
                    return Ok::<_, std::io::Error>(answers);
                }
            }
        });
    }
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        let client = client.map_err(|error| failed("a connection", error))?;
        answers += client.map_err(|error| failed("a connection", error))?;
    }
    Ok(f64::from(answers) / watch.as_secs_f64())
}

/// What a server uses of a core, and of memory, for workers that have nothing to do.
async fn idle(path: &Path, watch: Duration) -> Result<(Option<f64>, Option<f64>)> {
    let served = Served::start(path).await?;
    let mut crowd = Actor::start(&served.url, &["idle", &WORKERS.to_string()]).await?;
    crowd.go().await?;
    crowd.line().await?;
    tokio::time::sleep(SETTLING).await;
    let pid = served.server.pid();
    let before = cpu_seconds(pid);
    tokio::time::sleep(watch).await;
    let used = before.zip(cpu_seconds(pid)).map(|(a, b)| (b - a) / watch.as_secs_f64() * 100.0);
    let memory = resident_mb(pid);
    crowd.stop().await?;
    served.server.stop().await?;
    Ok((used, memory))
}

struct Waits {
    server_mb: Option<f64>,
    p50_ms: f64,
    last_ms: f64,
}

/// How long after the end of a job those are told who wait for it.
async fn waits(path: &Path) -> Result<Waits> {
    let served = Served::start(path).await?;
    let (producer, backend) = served.producer().await?;
    let job = producer.submit_job(actor::job()).await?;
    let address = served.url.trim_start_matches("http://").to_owned();
    let request = format!("GET /v1/jobs/{}?wait=60 HTTP/1.1\r\nHost: {address}\r\n\r\n", job.id());
    let mut waits = JoinSet::new();
    for n in 0..WAITS {
        let connected = TcpStream::connect(&address).await;
        let mut stream = connected.map_err(|error| failed(&format!("connection {n}"), error))?;
        stream.write_all(request.as_bytes()).await.map_err(|error| failed("a request", error))?;
        waits.spawn(async move {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            if answer.ends_with(b"200") {
                Ok(Instant::now())
            } else {
                Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
            }
        });
    }
    tokio::time::sleep(SETTLING).await;
    let claimed = backend.claim(ClaimRequest::new("bench", LEASE), Default::default()).await?;
    let settlements = claimed.into_iter().map(|job| Settlement::new(job.key, Outcome::Success(job.body)));
    let over = Instant::now();
    for settled in backend.settle(settlements.collect()).await? {
        settled?;
    }
    let mut times = Vec::with_capacity(WAITS);
    while let Some(wait) = waits.join_next().await {
        let told = wait.map_err(|error| failed("a wait", error))?.map_err(|error| failed("a wait", error))?;
        times.push(told.saturating_duration_since(over).as_secs_f64() * 1e3);
    }
    let server_mb = most_resident_mb(served.server.pid());
    served.server.stop().await?;
    Ok(Waits { server_mb, p50_ms: percentile(&mut times, 0.5), last_ms: percentile(&mut times, 1.0) })
}

impl HttpReport {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        row(&mut text, "", "through HTTP", "without", "ratio");
        let mut rate = |what: &str, with: f64, without: f64, ratio: f64| {
            let ratio = format!("{:.0} %", ratio * 100.0);
            row(&mut text, what, &format!("{with:.0}"), &format!("{without:.0}"), &ratio);
        };
        rate(
            "jobs/s, submit to result, in bulk",
            self.http_jobs_per_s,
            self.jobs_per_s,
            self.http_jobs_ratio,
        );
        let (with, without) = (self.http_submit_per_s, self.single_submit_per_s);
        rate(&format!("single submits/s from {TASKS} tasks"), with, without, self.http_submit_ratio);
        let (with, without) = (self.http_one_by_one_per_s, self.one_by_one_per_s);
        rate("jobs/s, one after the other", with, without, self.http_one_by_one_ratio);
        let mut line = |what: &str, value: String| row(&mut text, what, &value, "", "");
        line("answers/s that need no store", format!("{:.0}", self.http_answers_per_s));
        let millis = |ms: f64| format!("{ms:.2} ms");
        line("pickup by an idle worker, median", millis(self.http_pickup_p50_ms));
        line("  p99", millis(self.http_pickup_p99_ms));
        line("submit to result, median", millis(self.http_roundtrip_p50_ms));
        let unknown = || "unknown".to_owned();
        let percent = self.idle_workers_cpu_percent.map_or_else(unknown, |part| format!("{part:.1} %"));
        line(&format!("CPU of the server, {WORKERS} idle workers"), percent);
        let megabytes = |mb: Option<f64>| mb.map_or_else(unknown, |mb| format!("{mb:.0} MB"));
        line("  its memory", megabytes(self.idle_workers_server_mb));
        line(&format!("{WAITS} waits, the server's memory at most"), megabytes(self.waits_server_mb));
        line("  answered after the job's end, median", millis(self.waits_answered_p50_ms));
        line("  the last", millis(self.waits_answered_last_ms));
        for (page, ms) in &self.pages_ms {
            line(&format!("{page} beside {} jobs", pages::JOBS), millis(*ms));
        }
        text.push_str(&self.settings.footer(&format!("{} runs of {} jobs", self.runs, self.jobs_per_run)));
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use haulage::sqlite::SqliteBackend;
    use haulage_http::server::Server;
    use tokio::net::TcpListener;

    use super::*;

    const WATCH: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn answers_that_are_counted_are_those_that_were_asked_for() {
        let folder = tempfile::tempdir().expect("tempdir");
        let store = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
        let server = Server::builder(Arc::new(store)).listen("127.0.0.1:0").start().expect("a server");
        assert!(answers_per_s(&server.url(), WATCH).await.expect("answers") > 0.0);

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let refusing = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(async move {
                    let mut asked = [0; 1024];
                    while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                        let refusal = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                        if stream.write_all(refusal).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let refused = answers_per_s(&url, WATCH).await.expect_err("no answer is the right one");
        refusing.abort();
        assert!(format!("{refused:?}").contains("404"), "{refused:?}");
    }
}
