//! The embedded backend: jobs in one SQLite file, for one machine.
//!
//! Many processes may use the file at once. What is acknowledged is on the
//! disk (write-ahead log, `synchronous=FULL`) and survives a loss of power.
//! Speed comes from group commit: one thread of each process writes, and puts
//! all that has been asked of it meanwhile into its next transaction.
//!
//! Beside `NAME` live `NAME-wal` and `NAME-shm`, SQLite's own, and
//! `NAME-wake`, through which processes wake each other. They belong together:
//! move or copy them only while nobody has the database open. The file must be
//! on a local disk, and everybody who opens it on the same machine. When the
//! last process has closed it, `NAME` alone is all of it.
//!
//! Nothing else in a process that has it open should open the file by itself,
//! such as a second copy of SQLite. On Linux that does no harm; elsewhere it
//! takes this one's locks away.

mod attempts;
mod backup;
mod cancel;
mod check;
mod claim;
mod counts;
mod deliveries;
mod fault;
mod get;
mod group;
mod heartbeat;
mod holder;
mod id;
mod list;
mod location;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod locks;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
#[path = "locks_elsewhere.rs"]
mod locks;
mod log;
mod lost;
mod options;
mod purge;
mod query;
mod queue;
mod reader;
mod redrive;
mod roster;
mod schema;
mod settle;
mod shrink;
mod space;
mod spec;
mod stats;
mod submit;
mod sweep;
mod sys;
mod tell;
mod thread;
mod trim;
mod turn;
mod tx;
mod unready;
mod wake;
mod writer;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::{
    claim::Found,
    reader::Reader,
    roster::Mask,
    wake::Wake,
    writer::{Weight, Writer},
};
pub use self::{options::Options, query::Table, space::CHECKPOINT_PAGES};
use crate::{
    Backend, Clock, Error, JobId, NewJob, QueueName, Record, Result, Status,
    backend::{
        Cancellation, Capabilities, ClaimRequest, Claimed, Deliveries, Detail, Finding, Heartbeat,
        HeartbeatStatus, ListQuery, Lookup, Purge, QueueStats, Redrive, Settlement, Severity, Signals, Stats,
        Submitted, Unready,
    },
    url::{self, Scheme},
};

/// The largest body or result: 256 MiB. SQLite could hold more, but a
/// document passes through memory several times on its way.
const MAX_PAYLOAD: usize = 256 << 20;

/// How often one of the waiting claims looks by itself. Wake-ups do the work; this is a
/// net under them, should the wake file be deleted under running processes.
const NET: Duration = Duration::from_secs(2);

/// How long a close waits for each connection to finish what it does.
const CLOSING: Duration = Duration::from_secs(30);
/// How long a worker that lives may leave due jobs where they are.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a read waits for its turn to write down that a job was abandoned.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// Jobs in one SQLite file. Cloning is cheap and shares the connections.
///
/// The last handle to go closes the database, as does [`Backend::close`]; where
/// no other process has it open, the log is merged into the file then.
#[derive(Clone)]
pub struct SqliteBackend {
    path: Arc<Path>,
    clock: Clock,
    wake: Arc<Wake>,
    connections: Arc<Connections>,
    /// When deliveries were claimed last, in microseconds.
    deliveries_at: Arc<AtomicI64>,
}

/// In the order in which they are closed: the last one merges the log, and
/// nobody may be reading it then.
struct Connections {
    /// Looks records up by their ids.
    reader: Reader,
    /// Goes over many of them, which nobody who looks one up waits for.
    scans: Reader,
    writer: Writer,
}

impl SqliteBackend {
    /// Names the database file, to be opened with [`Options::open`].
    pub fn options(path: impl Into<PathBuf>) -> Options {
        Options::new(path.into())
    }

    /// Opens the database file at `path` with the default options.
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::options(path).open().await
    }

    /// Opens the database that a URL names, as [`connect`](crate::connect()) does.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the URL is not one of `sqlite://`; as [`Options::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::options_of(url)?.open().await
    }

    fn options_of(url: &str) -> Result<Options> {
        match url::split(url)? {
            (Scheme::Sqlite, rest) => Options::of_url(rest),
            _ => {
                Err(Error::Config(format!("`{url}` is not the URL of a database; write sqlite://haulage.db")))
            }
        }
    }

    /// The file that a URL names, which need not be there.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the URL is not one of `sqlite://`.
    pub fn path_of(url: &str) -> Result<PathBuf> {
        Self::options_of(url).map(Options::into_path)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends what has been abandoned, so that what is read next is true, and tells
    /// whether that was done. Who only reads gets an answer also where nothing
    /// can be written: then the jobs are still as they were.
    async fn end_abandoned(&self) -> bool {
        let ended = self.connections.writer.run(Weight::default(), |tx| Ok(tx.end_abandoned()?));
        matches!(tokio::time::timeout(READ_PATIENCE, ended).await, Ok(Ok(())))
    }

    /// The queues from which nobody takes jobs that wait.
    async fn unserved(&self) -> Result<Vec<(QueueName, QueueStats)>> {
        let before = self.stats().await?;
        if before.unserved(&before).next().is_none() {
            return Ok(Vec::new());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let stats = self.stats().await?;
        Ok(stats.unserved(&before).map(|(name, queue)| (name.clone(), queue.clone())).collect())
    }

    /// The same as [`SqliteBackend::end_abandoned`], where a look shows that there is something.
    async fn end_any_abandoned(&self) -> Result<()> {
        let now = self.clock.now();
        if self.connections.scans.run(move |c| Ok(get::any_over(c, now)?)).await? {
            self.end_abandoned().await;
        }
        Ok(())
    }
}

/// Whether this process was forked while its parent had a database open: it
/// can open none, as SQLite would go on from the parent's state, without its
/// locks. Databases that were closed before the fork do no harm.
#[must_use]
pub fn was_forked_while_open() -> bool {
    locks::was_forked()
}

/// The URL under which [`connect`](crate::connect) opens the database at `path`.
pub fn url(path: &Path) -> String {
    // What means something in a URL is written as its code.
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}")
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { max_submit: 10_000, max_payload: MAX_PAYLOAD, ..Capabilities::ALL }
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn signals(&self) -> Signals {
        Signals { outcomes: Some(self.wake.outcomes()), cancels: Some(self.wake.cancels()), scanned: None }
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        self.capabilities().check_submit(&jobs)?;
        let bytes = jobs.iter().map(|job| job.body.size()).sum();
        let weight = Weight { rows: jobs.len(), bytes, adds: true };
        self.connections.writer.run(weight, move |tx| submit::submit(tx, &jobs)).await
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.capabilities().check_claim(&request)?;
        // Not by the wall clock, which may be set back.
        let deadline = self.clock.monotonic().saturating_add(request.wait);
        let request = Arc::new(request);
        let list: Arc<[QueueName]> = request.queues.names().cloned().collect();
        let mut place = self.wake.place(Mask::of_all(&*list), list);
        loop {
            if stop.is_cancelled() {
                return Ok(Vec::new());
            }
            place.begin_look();
            let wanted = Arc::clone(&request);
            let weight = Weight { rows: wanted.max, ..Weight::default() };
            let claimed = self.connections.writer.run(weight, move |tx| claim::claim(tx, &wanted)).await?;
            place.looked(claimed.left);
            let next_due = match claimed.found {
                Found::Jobs(jobs) => return Ok(jobs),
                Found::Nothing(next_due) => next_due,
            };
            let left = deadline.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let waiting = place.wait();
            let by_itself = if waiting.watches() { left.min(NET) } else { left };
            let latest = self.clock.now().after(by_itself);
            let wake_at = next_due.map_or(latest, |due| due.min(latest));
            tokio::select! {
                () = waiting.called() => {}
                () = self.clock.sleep_until(wake_at) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        self.capabilities().check_heartbeats(&beats)?;
        let weight = Weight { rows: beats.len(), ..Weight::default() };
        self.connections.writer.run(weight, move |tx| heartbeat::heartbeat(tx, &beats)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        self.capabilities().check_settlements(&settlements)?;
        settle::in_parts(&self.connections.writer, settlements, self.capabilities()).await
    }

    async fn settle_and_claim(
        &self,
        settlements: Vec<Settlement>,
        request: ClaimRequest,
    ) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
        let limits = self.capabilities();
        limits.check_settlements(&settlements)?;
        limits.check_claim(&request)?;
        let mut parts = settle::parts(settlements);
        if parts.len() > 1 {
            // It takes several transactions: the claim comes after them.
            return Ok((self.settle(parts.into_iter().flatten().collect()).await?, Vec::new()));
        }
        let settlements = parts.pop().unwrap_or_default();
        let mut weight = settle::weight(&settlements);
        weight.rows = weight.rows.saturating_add(request.max);
        let both = move |tx: &mut tx::Tx<'_>| {
            let settled = settle::settle(tx, settlements, &limits)?;
            let claimed = match claim::claim(tx, &request)?.found {
                Found::Jobs(jobs) => jobs,
                Found::Nothing(_) => Vec::new(),
            };
            Ok((settled, claimed))
        };
        self.connections.writer.run(weight, both).await
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        let ids: Arc<[JobId]> = ids.into();
        let read = |now| {
            let wanted = Arc::clone(&ids);
            self.connections.reader.run(move |c| {
                let found = get::get(c, &wanted, detail, now)?;
                let unsure = found.iter().any(|lookup| get::may_be_over(lookup, now));
                Ok((found, unsure && get::any_over(c, now)?))
            })
        };
        let (found, abandoned) = read(self.clock.now()).await?;
        if abandoned && self.end_abandoned().await {
            return Ok(read(self.clock.now()).await?.0);
        }
        Ok(found)
    }

    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
        let weight = Weight { rows: ids.len(), ..Weight::default() };
        self.connections.writer.run(weight, move |tx| cancel::cancel(tx, &ids)).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Record>> {
        self.end_any_abandoned().await?;
        let now = self.clock.now();
        self.connections.scans.run(move |c| list::list(c, &query, now)).await
    }

    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>> {
        let rows = match &what {
            Redrive::Dead { limit, .. } => *limit,
            Redrive::Jobs(ids) => ids.len(),
            // What waits and the record are one row.
            Redrive::Lost { .. } => return Ok(Vec::new()),
        };
        self.connections
            .writer
            .run(Weight { rows, ..Weight::default() }, move |tx| {
                let ids = match what {
                    Redrive::Dead { limit, queue, after } => {
                        redrive::dead(tx, limit, queue.as_ref(), after.as_ref())?
                    }
                    Redrive::Jobs(ids) => ids,
                    Redrive::Lost { .. } => Vec::new(),
                };
                redrive::redrive(tx, ids)
            })
            .await
    }

    async fn purge(&self, what: Purge) -> Result<u64> {
        what.check()?;
        self.end_any_abandoned().await?;
        let Connections { scans, writer, .. } = &*self.connections;
        let (mut purged, mut search) = (0, purge::Search::new(what, self.clock.now()));
        loop {
            let free = sys::disk(&self.path).map_or(u64::MAX, |disk| disk.free);
            let found = scans.run(move |c| Ok((search.next(c, free)?, search)));
            let (part, rest) = found.await?;
            search = rest;
            let Some(part) = part else { break };
            let weight = Weight { rows: part.rows(), bytes: part.bytes, ..Weight::default() };
            purged += writer.run(weight, move |tx| part.delete(tx)).await?;
        }
        if purged > 0 {
            writer.erase_log().await;
        }
        Ok(purged)
    }

    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool> {
        let weight = Weight { rows: 1, ..Weight::default() };
        self.connections.writer.run(weight, move |tx| queue::set_paused(tx, &queue, paused)).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.end_any_abandoned().await?;
        let (now, path) = (self.clock.now(), Arc::clone(&self.path));
        self.connections.scans.run(move |c| stats::stats(c, now, &path)).await
    }

    fn deliveries(&self) -> Option<&dyn Deliveries> {
        Some(self)
    }

    async fn set_unready(&self, worker: String, unready: Option<Unready>) -> Result<()> {
        self.capabilities().check_unready(&worker, unready.as_ref())?;
        let weight = Weight { rows: 1, ..Weight::default() };
        self.connections.writer.run(weight, move |tx| unready::set(tx, &worker, unready.as_ref())).await
    }

    async fn unready_workers(&self) -> Result<BTreeMap<String, Unready>> {
        let now = self.clock.now();
        self.connections.scans.run(move |c| unready::known(c, now)).await
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let (now, path) = (self.clock.now(), Arc::clone(&self.path));
        let scans = &self.connections.scans;
        let mut findings = scans.run(move |c| Ok(check::files(c, &path))).await?;
        let path = Arc::clone(&self.path);
        let jobs = match self.unserved().await {
            Ok(unserved) => scans.run(move |c| check::jobs(c, &path, now, &unserved)).await,
            Err(error) => Err(error),
        };
        match jobs {
            Ok(jobs) => findings.extend(jobs),
            Err(error) => {
                let remedy = "fix what else is wrong first";
                findings.push(Finding::bad(Severity::Problem, "jobs", error.to_string(), remedy));
            }
        }
        Ok(findings)
    }

    async fn close(&self) -> Result<()> {
        let connections = Arc::clone(&self.connections);
        let closed = tokio::task::spawn_blocking(move || {
            let Connections { reader, scans, writer } = &*connections;
            reader.close(CLOSING) && scans.close(CLOSING) && writer.close(CLOSING)
        });
        let closed = closed.await;
        // Claims that wait for a signal see now that it is over.
        self.wake.call_all_here();
        match closed {
            Ok(true) => Ok(()),
            _ => Err(Error::Unavailable {
                message: format!(
                    "{} is still busy after {}, and was not closed; nothing is lost",
                    self.path.display(),
                    humantime::format_duration(CLOSING)
                ),
                source: None,
            }),
        }
    }
}
