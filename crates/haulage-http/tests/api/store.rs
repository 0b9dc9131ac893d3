//! A store that fails, or takes its time, where a test says so.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
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
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    Works,
    /// Whatever it is asked for fails.
    Fails,
    /// Whatever it is asked for waits until it does one of the others.
    Hangs,
}

#[derive(Debug)]
pub(crate) struct Store {
    inner: Arc<dyn Backend>,
    /// Whether it does what it is asked for.
    pub(crate) state: watch::Sender<State>,
    /// So many look-ups fail.
    pub(crate) failing: AtomicUsize,
    /// Lists and counts are paid for.
    pub(crate) is_paid: AtomicBool,
    /// How many of them there were, and looks at whole records.
    pub(crate) paid: AtomicUsize,
    /// Cancels that were made.
    pub(crate) cancelled: Semaphore,
    /// Those that may give their answer.
    pub(crate) answered: Semaphore,
    /// How many settles have come.
    pub(crate) settles: watch::Sender<usize>,
    /// Settles wait for as long as this is true.
    pub(crate) holds_settles: watch::Sender<bool>,
    /// Each single settlement is refused as if the store were out of reach.
    pub(crate) refuses_settles: AtomicBool,
}

impl Store {
    pub(crate) fn over(inner: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            state: watch::Sender::new(State::Works),
            failing: AtomicUsize::new(0),
            is_paid: AtomicBool::new(false),
            paid: AtomicUsize::new(0),
            cancelled: Semaphore::new(0),
            answered: Semaphore::new(0),
            settles: watch::Sender::new(0),
            holds_settles: watch::Sender::new(false),
            refuses_settles: AtomicBool::new(false),
        })
    }

    /// The store behind this one, if and when it can be reached.
    async fn reached(&self) -> Result<&dyn Backend> {
        let mut state = self.state.subscribe();
        let state = *state.wait_for(|state| *state != State::Hangs).await.expect("the store is there");
        if state == State::Fails { Err(out_of_order()) } else { Ok(&*self.inner) }
    }

    async fn deliveries_reached(&self) -> Result<&dyn Deliveries> {
        Ok(self.reached().await?.deliveries().expect("webhooks"))
    }

    /// Waits for the next settle, after those that were seen.
    pub(crate) async fn next_settle(seen: &mut watch::Receiver<usize>) {
        let next = tokio::time::timeout(Duration::from_secs(60), seen.changed()).await;
        next.expect("a settle").expect("the store is there");
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Backend for Store {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        if self.is_paid.load(Ordering::Relaxed) {
            (capabilities.cheap_looks, capabilities.finds_by_prefix) = (false, false);
        }
        capabilities
    }

    fn clock(&self) -> &Clock {
        self.inner.clock()
    }

    fn signals(&self) -> Signals {
        self.inner.signals()
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        self.reached().await?.submit(jobs).await
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.reached().await?.claim(request, stop).await
    }

    async fn drain(&self) -> Result<()> {
        self.inner.drain().await
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        self.reached().await?.heartbeat(beats).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        self.settles.send_modify(|count| *count += 1);
        let goes_on = self.holds_settles.subscribe().wait_for(|holds| !holds).await.is_ok();
        assert!(goes_on, "the store is there");
        if self.refuses_settles.load(Ordering::Relaxed) {
            return Ok(settlements.iter().map(|_| Err(out_of_order())).collect());
        }
        self.reached().await?.settle(settlements).await
    }

    async fn settle_and_claim(
        &self,
        settlements: Vec<Settlement>,
        request: ClaimRequest,
    ) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
        self.reached().await?.settle_and_claim(settlements, request).await
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        let fails = |left: usize| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(out_of_order());
        }
        if detail == Detail::Full {
            self.paid.fetch_add(1, Ordering::Relaxed);
        }
        self.reached().await?.get(ids, detail).await
    }

    async fn peek(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.reached().await?.peek(ids, detail).await
    }

    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
        let cancelled = self.reached().await?.cancel(ids).await;
        self.cancelled.add_permits(1);
        self.answered.acquire().await.expect("it stays open").forget();
        cancelled
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Record>> {
        self.paid.fetch_add(1, Ordering::Relaxed);
        self.reached().await?.list(query).await
    }

    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>> {
        self.reached().await?.redrive(what).await
    }

    async fn purge(&self, what: Purge) -> Result<u64> {
        self.reached().await?.purge(what).await
    }

    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool> {
        self.reached().await?.set_paused(queue, paused).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.paid.fetch_add(1, Ordering::Relaxed);
        self.reached().await?.stats().await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.reached().await?.backlog().await
    }

    async fn whole_read(&self) -> Result<Option<WholeRead>> {
        if !self.is_paid.load(Ordering::Relaxed) {
            return self.reached().await?.whole_read().await;
        }
        let mut read = WholeRead::new("table results".to_owned());
        (read.items, read.bytes, read.dollars) = (1_000_000, 500_000_000, 0.12);
        read.price = "on demand, in us-east-1".to_owned();
        Ok(Some(read))
    }

    async fn ping(&self) -> Result<()> {
        self.reached().await?.ping().await
    }

    fn deliveries(&self) -> Option<&dyn Deliveries> {
        self.inner.deliveries().map(|_| self as _)
    }

    async fn set_unready(&self, worker: String, unready: Option<Unready>) -> Result<()> {
        self.reached().await?.set_unready(worker, unready).await
    }

    async fn unready_workers(&self) -> Result<BTreeMap<String, Unready>> {
        self.reached().await?.unready_workers().await
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.reached().await?.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

fn out_of_order() -> Error {
    Error::Unavailable { message: "out of order".into(), source: None }
}

#[async_trait]
impl Deliveries for Store {
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<ClaimedDeliveries> {
        self.deliveries_reached().await?.claim_deliveries(request).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        self.deliveries_reached().await?.settle_deliveries(settlements).await
    }

    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        self.deliveries_reached().await?.list_deliveries(query).await
    }

    async fn redrive_deliveries(&self, what: RedriveDeliveries) -> Result<Vec<String>> {
        self.deliveries_reached().await?.redrive_deliveries(what).await
    }
}
