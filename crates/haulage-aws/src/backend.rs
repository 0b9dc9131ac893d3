//! The backend itself: every verb, run on a runtime of its own.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use aws_config::SdkConfig;
use haulage::{
    Backend, Clock, JobId, NewJob, QueueName, Record, Result, Status,
    backend::{
        Backlog, Cancellation, Capabilities, ClaimRequest, Claimed, ClaimedDeliveries, Deliveries, Delivery,
        DeliveryQuery, DeliveryRequest, DeliverySettlement, Detail, Finding, Heartbeat, HeartbeatStatus,
        ListQuery, Lookup, Purge, Redrive, RedriveDeliveries, Settlement, Signals, Stats, Submitted,
        WholeRead,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    check,
    config::Config,
    runtime::Runtime,
    services::meter::Usage,
    state::{Inner, Shared, Tuning},
    verbs::{backlog, cancel, claim, deliveries, get, heartbeat, list, lost, ping, redrive, settle, submit},
};

/// Jobs in SQS, records in DynamoDB, large bodies and results in S3.
///
/// See the [crate's documentation](crate) for what is kept where.
pub struct AwsBackend {
    inner: Shared,
    runtime: Arc<Runtime>,
}

impl AwsBackend {
    /// Opens the backend that an `sqs://` URL names.
    ///
    /// # Errors
    ///
    /// [`haulage::Error::Config`] where the URL is wrong or the queue does not
    /// exist; [`haulage::Error::Unavailable`] where AWS cannot be reached or
    /// refuses.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(Config::from_url(url)?, None, Tuning::default()).await
    }

    pub(crate) async fn open(config: Config, sdk: Option<SdkConfig>, tuning: Tuning) -> Result<Self> {
        let runtime = Runtime::new()?;
        let inner = runtime.run(Inner::open(config, sdk, tuning)).await?;
        Ok(Self { inner: Arc::new(inner), runtime })
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The URL of the queue, the default one where there are others.
    pub fn queue_url(&self) -> &str {
        &self.inner.queues.default().url
    }

    /// The client that it uses for SQS.
    pub fn sqs(&self) -> &aws_sdk_sqs::Client {
        &self.inner.clients.sqs
    }

    /// The client that it uses for DynamoDB.
    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.inner.clients.dynamodb
    }

    /// What it has asked of AWS so far.
    pub fn usage(&self) -> Usage {
        self.inner.meter.usage()
    }

    /// The region that it works in.
    pub fn region(&self) -> &str {
        &self.inner.clients.region
    }

    async fn run<T, F>(&self, verb: impl FnOnce(Shared) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.runtime.run(verb(self.inner.clone())).await
    }

    /// Whichever way a job is looked at: one that waits for a message that is gone gets
    /// another.
    async fn look(&self, ids: Vec<JobId>, detail: Detail, latest: bool) -> Result<Vec<Lookup>> {
        self.run(move |inner| async move {
            let lookups = get::get(&inner.store, ids, detail, latest).await?;
            lost::notice(&inner, &lookups);
            Ok(lookups)
        })
        .await
    }
}

/// How long the end of the backend waits for calls that are under way.
const END: std::time::Duration = std::time::Duration::from_secs(2);

impl fmt::Debug for AwsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsBackend").field("config", self.config()).field("region", &self.region()).finish()
    }
}

impl Drop for AwsBackend {
    fn drop(&mut self) {
        let inner = self.inner.clone();
        let (done, wait) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            inner.stop_claiming().await;
            // What is still under way.
            inner.tasks.close();
            inner.tasks.wait().await;
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(END);
        self.inner.queues.close();
    }
}

#[async_trait]
impl Backend for AwsBackend {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities
    }

    fn clock(&self) -> &Clock {
        &self.inner.store.clock
    }

    fn signals(&self) -> Signals {
        Signals {
            outcomes: None,
            cancels: Some(self.inner.cancels.changed.subscribe()),
            scanned: Some(self.inner.scanned.subscribe()),
        }
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        self.inner.queues.default().present()?;
        self.run(|inner| submit::submit(inner, jobs)).await
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.inner.queues.default().present()?;
        self.run(|inner| async move {
            let claimed = claim::claim(inner.clone(), request, stop).await?;
            if !claimed.is_empty() {
                cancel::listen(&inner);
            }
            Ok(claimed)
        })
        .await
    }

    async fn drain(&self) -> Result<()> {
        self.run(|inner| async move {
            inner.polls.drain().await;
            inner.stop_claiming().await;
            Ok(())
        })
        .await
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        self.run(|inner| heartbeat::heartbeat(inner, beats)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        self.run(|inner| settle::settle(inner, settlements)).await
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.look(ids, detail, true).await
    }

    async fn peek(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.look(ids, detail, false).await
    }

    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
        self.run(|inner| cancel::cancel(inner, ids)).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Record>> {
        self.run(|inner| list::list(inner, query)).await
    }

    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>> {
        self.inner.queues.default().present()?;
        self.run(|inner| redrive::redrive(inner, what)).await
    }

    async fn purge(&self, what: Purge) -> Result<u64> {
        self.run(|inner| list::purge(inner, what)).await
    }

    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool> {
        self.run(move |inner| async move { inner.pauses.set(&inner.store.table, &queue, paused).await }).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.run(list::stats).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.inner.queues.default().present()?;
        self.run(backlog::backlog).await
    }

    async fn whole_read(&self) -> Result<Option<WholeRead>> {
        self.run(backlog::whole_read).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.queues.default().present()?;
        self.run(ping::ping).await
    }

    fn deliveries(&self) -> Option<&dyn Deliveries> {
        Some(self)
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.run(check::check).await
    }
}

#[async_trait]
impl Deliveries for AwsBackend {
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<ClaimedDeliveries> {
        self.run(|inner| deliveries::claim(inner, request)).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        self.run(|inner| deliveries::settle(inner, settlements)).await
    }

    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        self.run(|inner| deliveries::list(inner, query)).await
    }

    async fn redrive_deliveries(&self, what: RedriveDeliveries) -> Result<Vec<String>> {
        self.run(|inner| deliveries::redrive(inner, what)).await
    }
}
