//! A backend that keeps everything in this process's memory.
//!
//! For tests, and for work that may be forgotten when the process ends.
//! Everything else is as with a durable backend: it passes the same suite.

mod entry;
mod fading;
mod outbox;
mod state;
mod unready;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt, mem,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::state::MemoryState;
use crate::{
    Clock, Error, JobId, NewJob, QueueName, Record, Result, Status, Timestamp,
    backend::{
        Backend, Cancellation, Capabilities, ClaimRequest, Claimed, ClaimedDeliveries, Deliveries, Delivery,
        DeliveryQuery, DeliveryRequest, DeliverySettlement, Detail, Finding, Heartbeat, HeartbeatStatus,
        ListQuery, Lookup, Outcome, Purge, QueueStats, Redrive, RedriveDeliveries, Settlement, Severity,
        Signals, Stats, Submitted, Unready,
    },
    lease::Lease,
    lifecycle::{self, End},
};

/// Keeps jobs in memory: nothing outlives the process, and no other process
/// sees them.
///
/// With a [`Clock::manual`], a test moves time and need not wait for leases,
/// delays and expiry.
pub struct MemoryBackend {
    clock: Clock,
    capabilities: Capabilities,
    state: Mutex<MemoryState>,
    /// Changes when there may be something to claim sooner than was to be
    /// expected.
    work: watch::Sender<u64>,
    outcomes: watch::Sender<u64>,
    cancels: watch::Sender<u64>,
}

impl MemoryBackend {
    /// An empty backend on the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// An empty backend on this clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            // There is nothing to share a write of.
            capabilities: Capabilities { joins_claims: false, ..Capabilities::ALL },
            state: Mutex::default(),
            work: watch::Sender::new(0),
            outcomes: watch::Sender::new(0),
            cancels: watch::Sender::new(0),
        }
    }

    /// The largest body or result in bytes, to test against the limit of
    /// another backend. Default: no limit.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.capabilities.max_payload = bytes;
        self
    }

    /// Runs a verb on the state as it is now, and tells of what it changed.
    fn with<T>(&self, verb: impl FnOnce(&mut MemoryState, Timestamp) -> T) -> T {
        let mut state = self.lock();
        let now = self.clock.now();
        let expected = state.next_events();
        state.tidy(now);
        let answer = verb(&mut state, now);
        let next = state.next_events();
        let sooner = next.iter().any(|(line, next)| expected.get(line).is_none_or(|e| next < e));
        let signals = mem::take(&mut state.signals);
        drop(state);
        for (signal, notified) in [
            (&self.work, sooner || signals.claimable),
            (&self.outcomes, signals.outcomes),
            (&self.cancels, signals.cancels),
        ] {
            if notified {
                signal.send_modify(|n| *n = n.wrapping_add(1));
            }
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().expect("an earlier verb of this memory backend panicked")
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn signals(&self) -> Signals {
        Signals {
            outcomes: Some(self.outcomes.subscribe()),
            cancels: Some(self.cancels.subscribe()),
            scanned: None,
        }
    }

    async fn submit(&self, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
        self.capabilities.check_submit(&jobs)?;
        Ok(self.with(|state, now| jobs.into_iter().map(|job| state.submit(job, now)).collect()))
    }

    async fn claim(&self, request: ClaimRequest, stop: CancellationToken) -> Result<Vec<Claimed>> {
        self.capabilities.check_claim(&request)?;
        // Not by the wall clock, which may be set back.
        let deadline = self.clock.monotonic().saturating_add(request.wait);
        let mut work = self.work.subscribe();
        while !stop.is_cancelled() {
            let (claimed, now, next) = self.with(|state, now| {
                // Marked as seen under the lock, so that no change is missed.
                work.borrow_and_update();
                state.take_silent(now);
                (claim_due(state, &request, now), now, state.next_event_for(&request, now))
            });
            let left = deadline.saturating_sub(self.clock.monotonic());
            if !claimed.is_empty() || left.is_zero() {
                return Ok(claimed);
            }
            let wake_at = next.unwrap_or(now.after(left)).min(now.after(left));
            tokio::select! {
                () = stop.cancelled() => {}
                _ = work.changed() => {}
                () = self.clock.sleep_until(wake_at) => {}
            }
        }
        Ok(Vec::new())
    }

    async fn heartbeat(&self, beats: Vec<Heartbeat>) -> Result<Vec<HeartbeatStatus>> {
        self.capabilities.check_heartbeats(&beats)?;
        Ok(self.with(|state, now| beats.into_iter().map(|beat| status(state, beat, now)).collect()))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
        self.capabilities.check_settlements(&settlements)?;
        let settle = |state: &mut MemoryState, Settlement { key, outcome, update }, now| {
            let Some(seq) = state.held(&key) else {
                return Err(Error::LostClaim { id: key.id, attempt: key.attempt });
            };
            Ok(state.update(seq, now, |entry| {
                let succeeds = matches!(outcome, Outcome::Success(_));
                entry.tell(if succeeds { update.of_success() } else { update }, now);
                entry.settle(lifecycle::settle(&entry.terms(now), outcome, &self.capabilities), now)
            }))
        };
        Ok(self.with(|state, now| settlements.into_iter().map(|s| settle(state, s, now)).collect()))
    }

    async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        let look_up = |state: &MemoryState, id: JobId, now| match state.find(&id) {
            Some(seq) => Lookup::Found(state.entry(seq).show(detail, now)),
            None if state.is_expired(&id) => Lookup::Expired,
            None => Lookup::Missing,
        };
        Ok(self.with(|state, now| {
            state.end_abandoned(now);
            ids.into_iter().map(|id| look_up(state, id, now)).collect()
        }))
    }

    async fn cancel(&self, ids: Vec<JobId>) -> Result<Vec<Cancellation>> {
        Ok(self.with(|state, now| ids.into_iter().map(|id| cancel(state, &id, now)).collect()))
    }

    async fn list(&self, query: ListQuery) -> Result<Vec<Record>> {
        self.with(|state, now| {
            state.end_abandoned(now);
            let before = match &query.before {
                Some(id) => state.order(id).ok_or_else(|| Error::NotFound(id.clone()))?,
                None => u64::MAX,
            };
            let newest_first = state.entries().rev().skip_while(|(seq, _)| *seq >= before);
            let shown = newest_first.map(|(_, entry)| entry.show(Detail::Status, now));
            Ok(shown.filter(|record| query.matches(record, now)).take(query.limit).collect())
        })
    }

    async fn redrive(&self, what: Redrive) -> Result<Vec<JobId>> {
        self.with(|state, now| {
            let candidates: Vec<_> = match what {
                Redrive::Dead { limit, queue, after } => {
                    let after = match &after {
                        Some(id) => Some(state.order(id).ok_or_else(|| Error::NotFound(id.clone()))?),
                        None => None,
                    };
                    let entries = state.entries().filter(|(seq, _)| after.is_none_or(|after| *seq > after));
                    let dead = entries.map(|(_, entry)| &entry.record);
                    let dead = dead.filter(|r| r.dead && is_in(r, queue.as_ref()));
                    dead.take(limit).map(|r| r.id.clone()).collect()
                }
                Redrive::Jobs(ids) => ids,
                Redrive::Lost { .. } => Vec::new(),
            };
            Ok(candidates.into_iter().filter(|id| redrive(state, id, now)).collect())
        })
    }

    async fn purge(&self, what: Purge) -> Result<u64> {
        what.check()?;
        Ok(self.with(|state, now| {
            state.end_abandoned(now);
            let wanted = |r: &Record| match &what {
                Purge::Status { status, older_than, queue } => {
                    let since = r.finished_at.unwrap_or(r.submitted_at);
                    r.status == *status && is_in(r, queue.as_ref()) && since <= now.before(*older_than)
                }
                Purge::Jobs(ids) => r.status != Status::InProgress && ids.contains(&r.id),
            };
            let gone: Vec<_> =
                state.entries().filter(|(_, e)| wanted(&e.record)).map(|(seq, _)| seq).collect();
            for seq in &gone {
                state.outbox.forget(&state.entry(*seq).record.id.clone());
                state.remove(*seq, now);
            }
            gone.len() as u64
        }))
    }

    async fn stats(&self) -> Result<Stats> {
        Ok(self.with(|state, now| {
            state.end_abandoned(now);
            let mut queues: BTreeMap<QueueName, QueueStats> = BTreeMap::new();
            for queue in state.paused() {
                queues.entry(queue.clone()).or_default().is_paused = true;
            }
            for (_, entry) in state.entries() {
                let record = entry.show(Detail::Status, now);
                let stats = queues.entry(record.spec.queue.clone()).or_default();
                let count = match (record.status, record.due_at) {
                    (Status::Submitted, None) => &mut stats.blocked,
                    (Status::Submitted, Some(due)) if due > now && !entry.is_at_once() => &mut stats.delayed,
                    (Status::Submitted, Some(due)) => {
                        let age = now.since(due).as_secs_f64();
                        stats.oldest_due_seconds =
                            Some(stats.oldest_due_seconds.map_or(age, |oldest| oldest.max(age)));
                        &mut stats.due
                    }
                    (Status::InProgress, _) => &mut stats.in_progress,
                    (Status::Success, _) => &mut stats.success,
                    (Status::Error, _) => &mut stats.error,
                    (Status::Cancelled, _) => &mut stats.cancelled,
                };
                *count += 1;
                stats.dead += u64::from(record.dead);
            }
            let mut stats = Stats::default();
            for (queue, of_it) in queues {
                stats.add(queue, of_it);
            }
            stats
        }))
    }

    async fn set_paused(&self, queue: QueueName, paused: bool) -> Result<bool> {
        Ok(self.with(|state, _| state.set_paused(queue, paused)))
    }

    fn deliveries(&self) -> Option<&dyn Deliveries> {
        Some(self)
    }

    async fn set_unready(&self, worker: String, unready: Option<Unready>) -> Result<()> {
        self.capabilities.check_unready(&worker, unready.as_ref())?;
        self.with(|state, now| state.unready.set(worker, unready, now));
        Ok(())
    }

    async fn unready_workers(&self) -> Result<BTreeMap<String, Unready>> {
        Ok(self.with(|state, now| state.unready.known(now)))
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let mut findings = vec![Finding::bad(
            Severity::Warning,
            "durability",
            "jobs are kept in the memory of this process, and are gone when it ends",
            "use a sqlite:// URL for jobs that must not be lost",
        )];
        findings.extend(Finding::unready(&self.unready_workers().await?, self.clock.now()));
        Ok(findings)
    }
}

#[async_trait]
impl Deliveries for MemoryBackend {
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<ClaimedDeliveries> {
        Ok(self.with(|state, now| state.outbox.claim(&request, now)))
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        Ok(self
            .with(|state, now| settlements.into_iter().map(|one| state.settle_delivery(one, now)).collect()))
    }

    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        Ok(self.with(|state, _| state.outbox.list(&query)))
    }

    async fn redrive_deliveries(&self, what: RedriveDeliveries) -> Result<Vec<String>> {
        Ok(self.with(|state, now| state.outbox.redrive(what, now)))
    }
}

fn is_in(record: &Record, queue: Option<&QueueName>) -> bool {
    queue.is_none_or(|queue| record.spec.queue == *queue)
}

fn claim_due(state: &mut MemoryState, request: &ClaimRequest, now: Timestamp) -> Vec<Claimed> {
    if let Some(id) = request.id.as_deref().filter(|_| request.again) {
        let brought: Vec<_> =
            state.entries().filter(|(_, entry)| entry.is_of_claim(id)).map(|(seq, _)| seq).collect();
        if !brought.is_empty() {
            let claimed = |seq| state.update(seq, now, |entry| entry.claimed(request, now));
            return brought.into_iter().map(claimed).collect();
        }
    }
    let next = |queue: &QueueName| {
        let due = state.first_due(queue, &request.worker, now);
        Ok(due.map(|seq| state.update(seq, now, |entry| entry.claim(request, now))))
    };
    let claimed: Result<_, Infallible> = request.queues.draw(request.turn, request.max, next);
    claimed.unwrap_or_default()
}

fn status(state: &mut MemoryState, beat: Heartbeat, now: Timestamp) -> HeartbeatStatus {
    let Some(seq) = state.held(&beat.key) else { return HeartbeatStatus::Lost };
    let lease = Lease::new(now, beat.lease);
    let until = lease.until;
    state.update(seq, now, |entry| {
        entry.beat(lease);
        entry.tell(beat.update, now);
        if entry.record.cancel_requested {
            HeartbeatStatus::CancelRequested(until)
        } else {
            HeartbeatStatus::Held(until)
        }
    })
}

fn cancel(state: &mut MemoryState, id: &JobId, now: Timestamp) -> Cancellation {
    let Some(seq) = state.find(id) else { return Cancellation::Missing };
    let entry = state.entry(seq);
    match entry.record.status {
        // Nobody can be asked. Should its holder come back, it is told that it has lost the job.
        Status::InProgress if entry.is_lapsed(now) => {
            state.update(seq, now, |entry| entry.finish(End::Cancelled, now));
            Cancellation::Done
        }
        Status::Submitted => {
            state.update(seq, now, |entry| entry.finish(End::Cancelled, now));
            Cancellation::Done
        }
        Status::InProgress => {
            state.update(seq, now, |entry| entry.record.cancel_requested = true);
            state.signals.cancels = true;
            Cancellation::Requested
        }
        over => Cancellation::TooLate(over),
    }
}

fn redrive(state: &mut MemoryState, id: &JobId, now: Timestamp) -> bool {
    let Some(seq) = state.find(id) else { return false };
    let redrivable = matches!(state.entry(seq).record.status, Status::Error | Status::Cancelled);
    if redrivable {
        // A key that was free again stays free.
        state.sweep_keys(now);
        state.update(seq, now, |entry| entry.redrive(now));
    }
    redrivable
}
