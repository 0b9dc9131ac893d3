//! The backend itself: every verb, by a request to the server.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use haulage::{
    Backend, Clock, Error, JobId, NewJob, QueueName, Record, Result, Status,
    backend::{
        Backlog, Cancellation, Capabilities, ClaimRequest, Claimed, ClaimedDeliveries, Deliveries, Delivery,
        DeliveryQuery, DeliveryRequest, DeliverySettlement, Detail, Finding, Heartbeat, HeartbeatStatus,
        ListQuery, Lookup, Purge, Redrive, RedriveDeliveries, Settlement, Signals, Stats, Submitted, Unready,
        WholeRead,
    },
};
use hyper::{Method, body::Bytes};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::{
    HttpBackendBuilder, call::Manner, claim, connection::Connection, runtime::Runtime, settle,
    signals::Stream,
};
use crate::protocol::{self, Answer, Hello, Version};

/// How long the server may take to say what it can do.
const HELLO: Duration = Duration::from_secs(10);

/// The jobs of a server (`haulage serve`), wherever that is.
///
/// A call that does not reach it is repeated for [`HttpBackendBuilder::PATIENCE`]; a server that
/// is started anew meanwhile costs nobody anything.
pub struct HttpBackend {
    connection: Arc<Connection>,
    runtime: Runtime,
    clock: Clock,
    capabilities: Capabilities,
    name: &'static str,
    stream: Stream,
}

impl HttpBackend {
    /// Sets up a backend for the server at this URL: `https://jobs.example.com`, or
    /// `http://localhost:8080`.
    pub fn builder(url: impl Into<String>) -> HttpBackendBuilder {
        HttpBackendBuilder::new(url)
    }

    /// Opens the backend that a URL names, with the key that is in `HAULAGE_KEY`.
    ///
    /// # Errors
    ///
    /// As [`HttpBackendBuilder::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).open().await
    }

    pub(super) async fn open(connection: Arc<Connection>, clock: Option<Clock>) -> Result<Self> {
        let runtime = Runtime::new()?;
        let correction = Arc::new(AtomicI64::new(0));
        let hello = runtime.run(hello(Arc::clone(&connection), Arc::clone(&correction))).await?;
        connection.server_takes_gzip(hello.gzip);
        Ok(Self {
            connection,
            runtime,
            clock: clock.unwrap_or_else(|| Clock::corrected(correction)),
            capabilities: hello.capabilities,
            name: name(&hello.backend),
            stream: Stream::new(hello.signals),
        })
    }

    /// Makes a call on the runtime of the backend.
    async fn ask<T, R>(&self, verb: &'static str, asked: T, manner: Manner) -> Result<R>
    where
        T: Serialize + Send + Sync + 'static,
        R: DeserializeOwned + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        self.runtime.run(async move { connection.call(verb, &asked, manner).await }).await
    }

    async fn look(&self, ids: Vec<JobId>, detail: Detail, peek: bool) -> Result<Vec<Lookup>> {
        #[derive(Serialize)]
        struct Get {
            ids: Vec<JobId>,
            detail: Detail,
            peek: bool,
        }
        let count = ids.len();
        let found: Vec<Lookup> = self.ask("get", Get { ids, detail, peek }, Manner::LONG_LOOK).await?;
        self.expect(found, count)
    }

    fn within(&self, settlements: Vec<Settlement>) -> Vec<Settlement> {
        settlements.into_iter().map(|settlement| protocol::within(settlement, &self.capabilities)).collect()
    }

    /// An answer for each, or none.
    fn expect<T>(&self, answers: Vec<T>, count: usize) -> Result<Vec<T>> {
        if answers.len() == count {
            return Ok(answers);
        }
        let message = format!("{} gave {} answers for {count}", self.connection.base(), answers.len());
        Err(Error::Unavailable { message, source: None })
    }
}

/// Asks what the server can do, and what time it is there.
async fn hello(connection: Arc<Connection>, correction: Arc<AtomicI64>) -> Result<Hello> {
    let silent = |why: String| connection.unreachable(&why);
    let asked = Clock::system().now();
    let answer = tokio::time::timeout(HELLO, async {
        let response = connection.request(Method::GET, "/v1/backend", &[], Bytes::new()).await?;
        connection.read(response).await
    });
    let answer = answer.await.map_err(|_| silent(format!("no answer in {HELLO:?}")))?;
    let body = answer.map_err(|none| silent(none.why))??;
    let base = connection.base();
    let stranger =
        |error| Error::Config(format!("{base} does not answer as a server of Haulage does: {error}"));
    // What another protocol has beside this, only its own versions know.
    let theirs: Version = serde_json::from_slice(&body).map_err(stranger)?;
    if theirs.protocol != protocol::VERSION {
        return Err(Error::Config(format!(
            "{base} is Haulage {}, which speaks version {} of the protocol between servers and clients, and this \
             program speaks version {}, as Haulage {}; upgrade the older of the two",
            theirs.version,
            theirs.protocol,
            protocol::VERSION,
            env!("CARGO_PKG_VERSION")
        )));
    }
    let hello: Hello = serde_json::from_slice(&body).map_err(stranger)?;
    // It was that time there at some moment between the two.
    let answered = Clock::system().now();
    let middle = asked.after(answered.since(asked) / 2);
    let off = hello.now.as_micros().saturating_sub(middle.as_micros());
    // What may be no more than the time that the answer took is nothing to correct.
    let doubt = i64::try_from(answered.since(asked).as_micros()).unwrap_or(i64::MAX);
    correction.store(if off.abs() > doubt { off } else { 0 }, Ordering::Relaxed);
    Ok(hello)
}

/// The name of a backend that is reached by a server.
fn name(backend: &str) -> &'static str {
    match backend {
        "embedded" => "server (embedded)",
        "memory" => "server (memory)",
        "aws" => "server (aws)",
        _ => "server",
    }
}

impl fmt::Debug for HttpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBackend").field("url", self.connection.base()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for HttpBackend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn signals(&self) -> Signals {
        self.stream.signals(&self.connection, &self.runtime)
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        self.capabilities.check_submit(&jobs)?;
        let count = jobs.len();
        let answers: Vec<Answer<Submitted>> = self.ask("submit", jobs, Manner::CHANGE).await?;
        let answers = self.expect(answers, count)?;
        Ok(answers.into_iter().map(Into::into).collect())
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.capabilities.check_claim(&request)?;
        let (connection, clock) = (Arc::clone(&self.connection), self.clock.clone());
        self.runtime.run(claim::claim(connection, clock, request, stop)).await
    }

    async fn drain(&self) -> Result<()> {
        let connection = Arc::clone(&self.connection);
        self.runtime.run(claim::drain(connection)).await
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        beats.iter().try_for_each(|beat| self.capabilities.check_lease(beat.lease))?;
        let count = beats.len();
        let answers = self.ask("heartbeat", beats, Manner::LOOK).await?;
        self.expect(answers, count)
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        let count = settlements.len();
        let settlements = self.within(settlements);
        let connection = Arc::clone(&self.connection);
        let (settled, _) =
            self.runtime.run(async move { settle::settle(&connection, settlements, None).await }).await?;
        self.expect(settled, count)
    }

    async fn settle_and_claim(
        &self,
        settlements: Vec<Settlement>,
        request: ClaimRequest,
    ) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
        self.capabilities.check_claim(&request)?;
        let count = settlements.len();
        let settlements = self.within(settlements);
        let connection = Arc::clone(&self.connection);
        let request = request.wait(Duration::ZERO);
        let (settled, claimed) = self
            .runtime
            .run(async move { settle::settle(&connection, settlements, Some(request)).await })
            .await?;
        Ok((self.expect(settled, count)?, claimed))
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.look(ids, detail, false).await
    }

    async fn peek(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.look(ids, detail, true).await
    }

    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
        let count = ids.len();
        let answers = self.ask("cancel", ids, Manner::LONG_CHANGE).await?;
        self.expect(answers, count)
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Record>> {
        let (mut listed, mut query) = (Vec::new(), query);
        let limit = query.limit;
        loop {
            let page = protocol::MOST_LISTED.min(limit - listed.len());
            query.limit = page;
            let found: Vec<Record> = self.ask("list", query.clone(), Manner::LONG_LOOK).await?;
            let is_last = found.len() < page;
            listed.extend(found);
            if is_last || listed.len() >= limit {
                return Ok(listed);
            }
            query.before = listed.last().map(|last| last.id.clone());
        }
    }

    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>> {
        self.ask("redrive", what, Manner::LONG_CHANGE).await
    }

    async fn purge(&self, what: Purge) -> Result<u64> {
        what.check()?;
        self.ask("purge", what, Manner::LONG_CHANGE).await
    }

    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool> {
        self.ask("set_paused", (queue, paused), Manner::CHANGE).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.ask("stats", (), Manner::LONG_LOOK).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.ask("backlog", (), Manner::LOOK).await
    }

    async fn whole_read(&self) -> Result<Option<WholeRead>> {
        self.ask("whole_read", (), Manner::LOOK).await
    }

    async fn ping(&self) -> Result<()> {
        self.ask("ping", (), Manner::LOOK).await
    }

    fn deliveries(&self) -> Option<&dyn Deliveries> {
        self.capabilities.webhooks.then_some(self)
    }

    async fn set_unready(&self, worker: String, unready: Option<Unready>) -> Result<()> {
        self.capabilities.check_unready(&worker, unready.as_ref())?;
        match self.capabilities.keeps_unready {
            true => self.ask("set_unready", (worker, unready), Manner::LOOK).await,
            false => Ok(()),
        }
    }

    async fn unready_workers(&self) -> Result<BTreeMap<String, Unready>> {
        match self.capabilities.keeps_unready {
            true => self.ask("unready_workers", (), Manner::LOOK).await,
            false => Ok(BTreeMap::new()),
        }
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.ask("check", (), Manner::LONG_LOOK).await
    }
}

#[async_trait]
impl Deliveries for HttpBackend {
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<ClaimedDeliveries> {
        self.ask("claim_deliveries", request, Manner::CHANGE).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        let count = settlements.len();
        let answers = self.ask("settle_deliveries", settlements, Manner::CHANGE).await?;
        self.expect(answers, count)
    }

    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        self.ask("list_deliveries", query, Manner::LONG_LOOK).await
    }

    async fn redrive_deliveries(&self, what: RedriveDeliveries) -> Result<Vec<String>> {
        self.ask("redrive_deliveries", what, Manner::CHANGE).await
    }
}
