//! A store whose settles wait, or fail, where a test wants that.

use std::sync::Arc;

use async_trait::async_trait;
use haulage::{
    Backend, Clock, Error, JobId, NewJob, QueueName, Record, Result, Status,
    backend::{
        Backlog, Cancellation, Capabilities, ClaimRequest, Claimed, Detail, Finding, Heartbeat,
        HeartbeatStatus, ListQuery, Lookup, Purge, Redrive, Settlement, Signals, Stats, Submitted, WholeRead,
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Gate {
    inner: Arc<dyn Backend>,
    is_shut: watch::Sender<bool>,
    /// How many settles have come to it.
    came: watch::Sender<usize>,
    fails: watch::Sender<bool>,
}

impl Gate {
    pub(crate) fn before(inner: Arc<dyn Backend>) -> Arc<Self> {
        let (is_shut, fails) = (watch::Sender::new(false), watch::Sender::new(false));
        Arc::new(Self { inner, is_shut, came: watch::Sender::new(0), fails })
    }

    /// Settles wait, from now on or no more.
    pub(crate) fn shut(&self, is_shut: bool) {
        self.is_shut.send_replace(is_shut);
    }

    /// Each single settlement is refused as if the store were out of reach, from now on or no more.
    pub(crate) fn fail(&self, fails: bool) {
        self.fails.send_replace(fails);
    }

    /// Waits for the next settle to come to the gate.
    pub(crate) async fn next(&self, came: &mut watch::Receiver<usize>) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(60), came.changed()).await;
        next.expect("a settle").expect("the gate is there");
    }

    pub(crate) fn came(&self) -> watch::Receiver<usize> {
        self.came.subscribe()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Backend for Gate {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn clock(&self) -> &Clock {
        self.inner.clock()
    }

    fn signals(&self) -> Signals {
        self.inner.signals()
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        self.inner.submit(jobs).await
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.inner.claim(request, stop).await
    }

    async fn drain(&self) -> Result<()> {
        self.inner.drain().await
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        self.inner.heartbeat(beats).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        self.came.send_modify(|came| *came += 1);
        let opened = self.is_shut.subscribe().wait_for(|is_shut| !is_shut).await.is_ok();
        assert!(opened, "the gate is there");
        if *self.fails.borrow() {
            let refused = || Error::Unavailable { message: "the gate refuses".into(), source: None };
            return Ok(settlements.iter().map(|_| Err(refused())).collect());
        }
        self.inner.settle(settlements).await
    }

    async fn settle_and_claim(
        &self,
        settlements: Vec<Settlement>,
        request: ClaimRequest,
    ) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
        self.inner.settle_and_claim(settlements, request).await
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.inner.get(ids, detail).await
    }

    async fn peek(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.inner.peek(ids, detail).await
    }

    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
        self.inner.cancel(ids).await
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Record>> {
        self.inner.list(query).await
    }

    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>> {
        self.inner.redrive(what).await
    }

    async fn purge(&self, what: Purge) -> Result<u64> {
        self.inner.purge(what).await
    }

    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool> {
        self.inner.set_paused(queue, paused).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.inner.stats().await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.inner.backlog().await
    }

    async fn whole_read(&self) -> Result<Option<WholeRead>> {
        self.inner.whole_read().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
