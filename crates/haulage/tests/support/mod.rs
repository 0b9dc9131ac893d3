//! What the tests of producer and consumer share.

#![allow(dead_code)] // each test binary uses its part

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use haulage::{
    Backend, Clock, Consumer, Error, JobId, NewJob, QueueName, Record, Result, Status, Timestamp,
    backend::{
        Backlog, Cancellation, Capabilities, ClaimRequest, Claimed, Deliveries, Detail, Finding, Heartbeat,
        HeartbeatStatus, ListQuery, Lookup, Outcome, Purge, Redrive, Settlement, Signals, Stats, Submitted,
        Unready, WholeRead,
    },
    consumer::{ConsumerBuilder, Event, Slots, Summary},
    memory::MemoryBackend,
    metrics::Meter,
    shutdown::Shutdown,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Seconds.
pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What has to happen before long; the limit is there so that a test fails
/// rather than hangs, and a machine may be slow.
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let answer = tokio::time::timeout(s(300), future).await;
        answer.unwrap_or_else(|_| panic!("at {place}: nothing happened for 300 s"))
    }
}

/// A clock that only the test moves.
pub(crate) fn manual_clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_700_000_000_000_000))
}

/// The verbs that [`Faulty`] meddles with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Submit,
    Claim,
    Heartbeat,
    Settle,
    Get,
    Stats,
    Backlog,
    Drain,
    SetUnready,
}

/// How a verb behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it should.
    Works,
    /// Answers that the backend cannot be reached, and does nothing.
    Fails,
    /// Panics.
    Panics,
    /// Does its work, and holds the answer back.
    Hangs,
    /// Does nothing, and says that only when it does something else.
    Stalls,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) at: Timestamp,
    pub(crate) items: usize,
}

struct Control {
    mode: watch::Sender<Mode>,
    started: watch::Sender<Vec<Call>>,
    finished: watch::Sender<usize>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            mode: watch::Sender::new(Mode::Works),
            started: watch::Sender::new(Vec::new()),
            finished: watch::Sender::new(0),
        }
    }
}

/// A memory backend that fails when it is told to, and counts its calls.
#[derive(Default)]
pub(crate) struct Faulty {
    pub(crate) inner: MemoryBackend,
    controls: [Control; 9],
    no_signals: bool,
    capabilities: Option<Capabilities>,
    refused: Mutex<Option<&'static str>>,
    takes_no_failures: AtomicBool,
    joined: AtomicUsize,
    most_result_bytes: AtomicUsize,
    unreadable: Mutex<Option<JobId>>,
    records_late: Mutex<Option<Duration>>,
    failures: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new(inner: MemoryBackend) -> Arc<Self> {
        Arc::new(Self { inner, ..Self::default() })
    }

    pub(crate) fn without_signals(inner: MemoryBackend) -> Arc<Self> {
        Arc::new(Self { inner, no_signals: true, ..Self::default() })
    }

    /// One that can do other things than the memory backend.
    pub(crate) fn with(inner: MemoryBackend, change: impl FnOnce(&mut Capabilities)) -> Arc<Self> {
        let mut capabilities = inner.capabilities();
        change(&mut capabilities);
        Arc::new(Self { inner, capabilities: Some(capabilities), ..Self::default() })
    }

    pub(crate) fn set(&self, verb: Verb, mode: Mode) {
        self.controls[verb as usize].mode.send_replace(mode);
    }

    /// Refuses to accept jobs with this body, one by one.
    pub(crate) fn refuse(&self, body: &'static str) {
        *self.refused.lock().expect("no test panics with it") = Some(body);
    }

    /// Refuses to record that a job failed, one by one, and for good.
    pub(crate) fn take_no_failures(&self) {
        self.takes_no_failures.store(true, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self, verb: Verb) -> Vec<Call> {
        self.controls[verb as usize].started.borrow().clone()
    }

    pub(crate) fn count(&self, verb: Verb) -> usize {
        self.controls[verb as usize].started.borrow().len()
    }

    /// Keeps the result of this job out of reach, or of none any more.
    pub(crate) fn keep_back(&self, result_of: Option<JobId>) {
        *self.unreadable.lock().expect("no test panics with it") = result_of;
    }

    /// A job without a record may get one, so long after its submit.
    pub(crate) fn records_come_late(&self, within: Duration) {
        *self.records_late.lock().expect("no test panics with it") = Some(within);
    }

    /// How many calls have failed because they were told to.
    pub(crate) fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed)
    }

    /// The most bytes of results that one call has handed out.
    pub(crate) fn most_result_bytes(&self) -> usize {
        self.most_result_bytes.load(Ordering::Relaxed)
    }

    /// How many settles have taken a claim along.
    pub(crate) fn joined(&self) -> usize {
        self.joined.load(Ordering::Relaxed)
    }

    /// How many calls of the verb have given their answer.
    pub(crate) fn answers(&self, verb: Verb) -> usize {
        *self.controls[verb as usize].finished.borrow()
    }

    /// Waits until the verb has been called at least so many times.
    pub(crate) async fn called(&self, verb: Verb, count: usize) {
        let mut calls = self.controls[verb as usize].started.subscribe();
        let reached = soon(calls.wait_for(|calls| calls.len() >= count)).await;
        assert!(reached.is_ok(), "the sender is here");
    }

    /// Waits until so many calls of the verb have given their answer.
    pub(crate) async fn answered(&self, verb: Verb, count: usize) {
        let mut finished = self.controls[verb as usize].finished.subscribe();
        let reached = soon(finished.wait_for(|finished| *finished >= count)).await;
        assert!(reached.is_ok(), "the sender is here");
    }

    async fn through<T>(&self, verb: Verb, items: usize, call: impl Future<Output = Result<T>>) -> Result<T> {
        let control = &self.controls[verb as usize];
        let mode = *control.mode.borrow();
        let at = self.inner.clock().now();
        control.started.send_modify(|calls| calls.push(Call { at, items }));
        let broken = || Error::Unavailable { message: format!("{verb:?} is out of order"), source: None };
        let answer = match mode {
            Mode::Works => call.await,
            Mode::Fails => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(broken())
            }
            Mode::Panics => panic!("{verb:?} panics"),
            held @ (Mode::Hangs | Mode::Stalls) => {
                let answer = if held == Mode::Hangs { call.await } else { Err(broken()) };
                let mut mode = control.mode.subscribe();
                let changed = mode.wait_for(|mode| *mode != held).await;
                assert!(changed.is_ok(), "the sender is here");
                answer
            }
        };
        control.finished.send_modify(|n| *n += 1);
        answer
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.unwrap_or_else(|| self.inner.capabilities())
    }

    fn clock(&self) -> &Clock {
        self.inner.clock()
    }

    fn signals(&self) -> Signals {
        if self.no_signals { Signals::default() } else { self.inner.signals() }
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        let refused = *self.refused.lock().expect("no test panics with it");
        let (mut fates, mut kept) = (Vec::new(), Vec::new());
        for job in jobs {
            fates.push(Some(job.body.as_str()) == refused);
            if fates.last() == Some(&false) {
                kept.push(job);
            }
        }
        let answers = self.through(Verb::Submit, fates.len(), self.inner.submit(kept)).await?;
        let mut answers = answers.into_iter();
        let answer = |refused| match refused {
            true => Err(Error::Unavailable { message: "refused".into(), source: None }),
            false => answers.next().expect("an answer for each"),
        };
        Ok(fates.into_iter().map(answer).collect())
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.through(Verb::Claim, request.max, self.inner.claim(request, stop)).await
    }

    async fn drain(&self) -> Result<()> {
        self.through(Verb::Drain, 0, self.inner.drain()).await
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        self.through(Verb::Heartbeat, beats.len(), self.inner.heartbeat(beats)).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        let refuses = self.takes_no_failures.load(Ordering::Relaxed);
        let (refused, taken): (Vec<_>, Vec<_>) = settlements
            .into_iter()
            .enumerate()
            .partition(|(_, one)| refuses && matches!(one.outcome, Outcome::Fail(_)));
        let count = refused.len() + taken.len();
        let taken = taken.into_iter().map(|(_, one)| one).collect();
        let mut answers = self.through(Verb::Settle, count, self.inner.settle(taken)).await?;
        for (at, _) in refused {
            answers.insert(at, Err(Error::Invalid("no failures here".into())));
        }
        Ok(answers)
    }

    async fn settle_and_claim(
        &self,
        settlements: Vec<Settlement>,
        request: ClaimRequest,
    ) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
        self.joined.fetch_add(1, Ordering::Relaxed);
        // As of one transaction: where the claim fails, nothing is settled.
        let mode = *self.controls[Verb::Claim as usize].mode.borrow();
        if matches!(mode, Mode::Fails | Mode::Panics) {
            self.claim(request.clone(), Default::default()).await?;
        }
        let settled = self.settle(settlements).await?;
        Ok((settled, self.claim(request.wait(Duration::ZERO), Default::default()).await?))
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        let mut found = self.through(Verb::Get, ids.len(), self.inner.get(ids, detail)).await?;
        let kept_back = self.unreadable.lock().expect("no test panics with it").clone();
        let unreadable = |lookup: &Lookup| matches!(lookup, Lookup::Found(r) if Some(&r.id) == kept_back.as_ref() && r.result.is_some());
        for lookup in found.iter_mut().filter(|lookup| unreadable(lookup)) {
            *lookup = Lookup::Incomplete { for_good: false, message: "the bucket is away".into() };
        }
        if let Some(within) = *self.records_late.lock().expect("no test panics with it") {
            for lookup in found.iter_mut().filter(|lookup| **lookup == Lookup::Missing) {
                *lookup = Lookup::Unrecorded { within };
            }
        }
        let bytes = |lookup: &Lookup| match lookup {
            Lookup::Found(record) => record.result.as_ref().map_or(0, |result| result.size()),
            _ => 0,
        };
        self.most_result_bytes.fetch_max(found.iter().map(bytes).sum(), Ordering::Relaxed);
        Ok(found)
    }

    async fn peek(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        self.get(ids, detail).await
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
        self.through(Verb::Stats, 1, self.inner.stats()).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.through(Verb::Backlog, 1, self.inner.backlog()).await
    }

    async fn whole_read(&self) -> Result<Option<WholeRead>> {
        self.inner.whole_read().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    fn deliveries(&self) -> Option<&dyn Deliveries> {
        self.inner.deliveries()
    }

    async fn set_unready(&self, worker: String, unready: Option<Unready>) -> Result<()> {
        let items = usize::from(unready.is_some());
        self.through(Verb::SetUnready, items, self.inner.set_unready(worker, unready)).await
    }

    async fn unready_workers(&self) -> Result<BTreeMap<String, Unready>> {
        self.inner.unready_workers().await
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// A consumer that runs, and what it tells.
pub(crate) struct Running {
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<Summary>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) slots: Slots,
    pub(crate) meter: Meter,
}

impl Running {
    /// Finishes the set-up, and starts.
    pub(crate) fn start(builder: ConsumerBuilder) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let hook = move |event: &Event| drop(sender.send(event.clone()));
        let consumer: Consumer = builder.on_event(hook).build().expect("the settings are in range");
        let (slots, meter, shutdown) = (consumer.slots(), consumer.meter(), Shutdown::new());
        let task = tokio::spawn(consumer.run(shutdown.clone()));
        Self { shutdown, task, events, slots, meter }
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> impl Future<Output = Event> {
        let next = soon(self.events.recv());
        async { next.await.expect("the consumer runs") }
    }

    /// The next event that says how a claim ended.
    pub(crate) async fn ending(&mut self) -> Event {
        loop {
            let event = self.next().await;
            if !matches!(event, Event::Claimed { .. } | Event::Started { .. }) {
                return event;
            }
        }
    }

    /// Waits for the start of so many handlers.
    pub(crate) async fn started(&mut self, count: usize) {
        for _ in 0..count {
            while !matches!(self.next().await, Event::Started { .. }) {}
        }
    }

    pub(crate) async fn finish(self) -> Summary {
        soon(self.task).await.expect("the consumer does not panic")
    }

    pub(crate) async fn stop(self) -> Summary {
        self.shutdown.stop();
        self.finish().await
    }
}

/// Sends when it is dropped: that is how a test sees a handler's end.
pub(crate) struct OnDrop(pub(crate) mpsc::UnboundedSender<&'static str>, pub(crate) &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}
