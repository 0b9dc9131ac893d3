//! The loop behind a consumer.
//!
//! It runs on a thread of its own, and so do all calls to the backend: neither
//! a handler that computes for minutes without an await, nor one that blocks
//! every thread of the async runtime, can keep a heartbeat from going out. It
//! owns all state but that of slots that are out of service; handlers, which run
//! on the caller's runtime, and calls to the backend report to it.

mod answers;
mod backend;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

use super::{
    batch::Collector,
    builder::Settings,
    call::Caller,
    claim::Claims,
    deadlines::Deadlines,
    drain::Drain,
    finish::Finish,
    heartbeat::Heartbeats,
    notice::Notice,
    phase::Phase,
    readiness::Readiness,
    report::CallReport,
    settle::{self, Settles},
    slots::Seen,
    table::{Stage, Table},
};
use crate::{
    Backend, JobSpec, Result,
    backend::{ClaimKey, Claimed, HeartbeatStatus, Outcome},
    event::{Event, Summary},
    handler::Signal,
    metrics::{Recorder, WorkerState},
    shutdown::Shutdown,
};

/// How much later than it should an answer of the backend may come.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often the engine comes round at least, to show that it is not stuck.
const TURN: Duration = Duration::from_secs(5);

pub(super) struct Engine {
    settings: Settings,
    backend: Arc<dyn Backend>,
    shutdown: Shutdown,
    /// Fires when nobody waits for the consumer's end any more.
    abandoned: CancellationToken,
    phase: Phase,
    finish: Finish,
    readiness: Readiness,
    table: Table,
    collector: Collector,
    claims: Claims,
    heartbeats: Heartbeats,
    settles: Settles,
    notice: Notice,
    /// The backend's draining, once the consumer is idle and stops.
    drain: Drain,
    caller: Caller,
    reports: UnboundedReceiver<CallReport>,
    inbox: Vec<CallReport>,
    signal: Arc<Signal>,
    cancels: Option<watch::Receiver<u64>>,
    /// Some job was cancelled while a claim was under way, perhaps one of its.
    cancels_during_claim: bool,
    recorder: Recorder,
}

/// What the engine wakes up for.
enum Wake {
    Heartbeat(Result<Vec<HeartbeatStatus>>),
    Settle(settle::Answer),
    Claim(Result<Vec<Claimed>>),
    Probe(Result<(), String>),
    Noticed,
    Drained,
    Reports,
    Cancels(bool),
    Signal,
    Finish,
    /// Time has passed, or the consumer is to stop.
    Look,
}

/// How many more jobs can be taken in beside so many calls, of so many at most.
fn room(calls: usize, most: usize, settings: &Settings, collector: &Collector) -> usize {
    let free_calls = most.saturating_sub(calls);
    free_calls.saturating_mul(settings.max_batch_size).saturating_sub(collector.len())
}

impl Engine {
    pub(super) fn new(
        settings: Settings,
        backend: Arc<dyn Backend>,
        shutdown: Shutdown,
        abandoned: CancellationToken,
        recorder: Recorder,
        runtime: tokio::runtime::Handle,
        parent: Span,
    ) -> Self {
        let (sender, reports) = unbounded_channel();
        let (function, non_retryable) = (settings.function.clone(), settings.non_retryable.clone());
        let readiness = Readiness::new(settings.readiness_probe.clone(), runtime.clone());
        let caller = Caller::new(runtime, function, non_retryable, sender, parent);
        Self {
            phase: Phase::Running,
            finish: Finish::new(&settings, backend.signals()),
            readiness,
            table: Table::default(),
            collector: Collector::new(settings.max_batch_size, settings.batch_timeout),
            claims: Claims::new(
                settings.lease,
                settings.claim_wait,
                settings.worker_name.clone(),
                settings.queues.clone(),
            ),
            heartbeats: Heartbeats::new(settings.lease, settings.heartbeat_interval, backend.clock()),
            settles: Settles::new(backend.capabilities().settles_at_once),
            notice: Notice::default(),
            drain: Drain::default(),
            cancels: backend.signals().cancels,
            cancels_during_claim: false,
            inbox: Vec::new(),
            signal: Arc::default(),
            recorder,
            settings,
            backend,
            shutdown,
            abandoned,
            caller,
            reports,
        }
    }

    /// Runs until it was told to stop, and has.
    pub(super) async fn run(mut self) -> Summary {
        loop {
            self.advance();
            self.publish();
            if self.is_over() {
                break;
            }
            match self.wait().await {
                Wake::Heartbeat(answer) => self.take_heartbeat_statuses(answer),
                Wake::Settle(answer) => self.take_settled(answer),
                Wake::Claim(answer) => self.take_claimed(answer),
                Wake::Probe(answer) => self.readiness.answered(answer, self.backend.clock().monotonic()),
                Wake::Noticed | Wake::Drained => {}
                Wake::Reports => self.take_reports(),
                Wake::Cancels(true) => {
                    self.heartbeats.want_cancels();
                    self.cancels_during_claim |= self.claims.is_pending();
                }
                // The backend is being dropped, or it signals no more.
                Wake::Cancels(false) => self.cancels = None,
                Wake::Signal => self.heartbeats.want_update(),
                Wake::Finish | Wake::Look => {}
            }
        }
        for ticket in self.table.which(|_| true) {
            warn!("the backend cannot be reached; the lease of a claim is left to run out");
            self.lose(ticket);
        }
        self.recorder.summary()
    }

    async fn wait(&mut self) -> Wake {
        let mut deadlines = Deadlines::default();
        deadlines.real(Some(Instant::now() + TURN));
        self.deadlines(&mut deadlines);
        let (running, ending) =
            (matches!(self.phase, Phase::Running), matches!(self.phase, Phase::Ending { .. }));
        // Answers before reports: what they bring sets off the next call.
        tokio::select! {
            biased;
            answer = self.heartbeats.answer() => Wake::Heartbeat(answer),
            answer = self.settles.answer() => Wake::Settle(answer),
            answer = self.claims.answer() => Wake::Claim(answer),
            answer = self.readiness.answer(), if running => Wake::Probe(answer),
            () = self.notice.answer() => Wake::Noticed,
            () = self.drain.end(), if !running => Wake::Drained,
            _ = self.reports.recv_many(&mut self.inbox, 1024) => Wake::Reports,
            changed = changed(&mut self.cancels) => Wake::Cancels(changed),
            () = self.signal.notified() => Wake::Signal,
            () = self.settings.slots.changed() => Wake::Look,
            () = self.finish.signal(), if running => Wake::Finish,
            () = self.shutdown.stopping(), if running => Wake::Look,
            () = self.shutdown.stopping_now(), if !ending => Wake::Look,
            () = self.abandoned.cancelled(), if !ending => Wake::Look,
            () = deadlines.wait(self.backend.clock()) => Wake::Look,
        }
    }

    /// The next moment for [`Engine::advance`]. Each moment here belongs to
    /// something that it does once the moment has come.
    fn deadlines(&self, deadlines: &mut Deadlines) {
        deadlines.monotonic(self.table.next_alarm(), self.backend.clock());
        self.heartbeats.deadlines(&self.table, deadlines);
        self.notice.deadlines(self.backend.clock(), deadlines);
        match self.phase {
            Phase::Running => {
                if self.has_free_call() {
                    deadlines.monotonic(self.collector.due(), self.backend.clock());
                }
                self.readiness.deadlines(self.backend.clock(), deadlines);
                self.claims.deadlines(self.room(), deadlines);
                self.settles.deadlines(deadlines);
                self.finish.deadlines(deadlines);
            }
            Phase::Draining { grace_ends } => {
                deadlines.monotonic(Some(grace_ends), self.backend.clock());
                self.settles.deadlines(deadlines);
            }
            Phase::Ending { handlers_until, until } => {
                deadlines.real(handlers_until);
                deadlines.real(Some(until));
                if handlers_until.is_none() {
                    self.settles.deadlines(deadlines);
                }
            }
        }
    }

    /// Does everything that can be done without waiting.
    fn advance(&mut self) {
        let now = self.backend.clock().monotonic();
        self.change_phase(now);
        while let Some(alarm) = self.table.take_alarm(now) {
            self.on_alarm(alarm);
        }
        // Before a claim asks for more: after a time in which nothing could be
        // done here, it might find jobs of ours whose holder seems to be silent.
        self.heartbeats.start(&self.table, &self.backend, &self.signal);
        match self.phase {
            Phase::Running => {
                self.give_back_excess();
                while self.has_free_call()
                    && let Some(batch) = self.collector.take(now)
                {
                    self.call(batch);
                }
                self.caller.launch();
                self.readiness.advance(now);
                self.settle();
                self.claims.start(self.room(), &self.backend);
                self.finish.advance(self.table.is_empty(), &self.backend);
            }
            Phase::Draining { .. } => {
                if self.is_idle() {
                    self.drain.start(&self.backend);
                }
            }
            Phase::Ending { handlers_until, until } => {
                let running = self.table.which(|held| matches!(held.stage, Stage::Running { .. }));
                if running.is_empty() || handlers_until.is_none_or(|at| at <= Instant::now()) {
                    for ticket in running {
                        self.give_back(ticket);
                    }
                    self.phase = Phase::Ending { handlers_until: None, until };
                }
            }
        }
        if !matches!(self.phase, Phase::Running | Phase::Ending { handlers_until: Some(_), .. }) {
            self.settles.start(&mut self.table, &self.backend, |_| None);
        }
    }

    fn change_phase(&mut self, now: Duration) {
        let at_once = self.shutdown.is_stopping_now() || self.abandoned.is_cancelled();
        let told = at_once || self.shutdown.is_stopping();
        if matches!(self.phase, Phase::Running) && (told || self.finish.is_reached()) {
            if !told {
                self.finish.log();
            }
            self.claims.stop();
            for ticket in self.collector.drain() {
                self.conclude(ticket, Outcome::release());
            }
            let grace_ends = now.saturating_add(self.settings.shutdown_grace_period);
            self.phase = Phase::Draining { grace_ends };
        }
        match self.phase {
            Phase::Draining { grace_ends } if at_once || now >= grace_ends => {
                for (_, held) in self.table.iter() {
                    if let Stage::Running { context, .. } = &held.stage {
                        context.cancel();
                    }
                }
                self.table.abort_all();
                self.settles.hurry(Duration::from_millis(250));
                self.phase = Phase::ending(at_once);
            }
            Phase::Ending { .. } if at_once => self.phase = self.phase.hurried(),
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Running => false,
            Phase::Draining { .. } => self.is_idle() && self.drain.is_over() && self.notice.is_over(),
            Phase::Ending { until, .. } => {
                (self.is_idle() && self.notice.is_over()) || Instant::now() >= until
            }
        }
    }

    /// Nothing is in its hands, and nothing comes any more.
    fn is_idle(&self) -> bool {
        self.table.is_empty() && !self.claims.is_pending()
    }

    fn has_free_call(&self) -> bool {
        self.table.calls() < self.most_calls()
    }

    /// How many calls may run at once now.
    fn most_calls(&self) -> usize {
        self.settings.slots.in_service(self.settings.concurrency)
    }

    /// How many more jobs can be taken in. A slot is free again only when the
    /// settle is through, so that claims do not run ahead of a backend that
    /// takes no settles.
    fn room(&self) -> usize {
        let room = room(self.table.calls(), self.most_calls(), &self.settings, &self.collector);
        self.readiness.limit(self.finish.limit(room, self.table.jobs()))
    }

    /// Settles what is to be; where that costs no more, with a claim for the
    /// slots that it frees.
    fn settle(&mut self) {
        let most = self.most_calls();
        let Self { settles, claims, table, settings, readiness, collector, finish, backend, .. } = self;
        settles.start(table, backend, |table| {
            if !backend.capabilities().joins_claims {
                return None;
            }
            let calls = table.calls() - table.settling_calls();
            let room = finish.limit(room(calls, most, settings, collector), table.jobs());
            claims.join(readiness.limit(room))
        });
    }

    /// What was claimed for slots that are out of service by now goes to others.
    fn give_back_excess(&mut self) {
        let most = self.most_calls();
        if most < self.settings.concurrency {
            let calls = self.table.calls() - self.table.settling_calls();
            let wanted = most.saturating_sub(calls).saturating_mul(self.settings.max_batch_size);
            for ticket in self.collector.beyond(wanted) {
                self.conclude(ticket, self.not_wanted());
            }
        }
    }

    fn call(&mut self, tickets: Vec<u64>) {
        let (call, deliveries) = self.table.begin(tickets, self.backend.clock(), &self.signal);
        for delivery in &deliveries {
            let ClaimKey { id, attempt } = delivery.context.key().clone();
            self.tell(Event::Started { id, attempt }, delivery.context.spec(), None);
        }
        let abort = self.caller.prepare(call, deliveries);
        self.table.set_abort(call, abort);
    }

    fn tell(&mut self, event: Event, spec: &JobSpec, slot: Option<&str>) {
        event.log(spec.request_id.as_deref(), slot);
        self.recorder.count(&spec.queue, slot, &event);
        if event.is_end() {
            self.finish.ended();
        }
        if let Some(hook) = &self.settings.hook {
            hook.tell(&event);
        }
    }

    /// Brings the meters up to date, and what the backend knows of the worker.
    fn publish(&mut self) {
        let Seen { quarantined, quarantines, reason, stuck, named } = self.settings.slots.seen();
        let none = (quarantined >= self.settings.concurrency).then_some(WorkerState::NotReady);
        let state = self.phase.state(self.is_answered(), self.readiness.state().or(none));
        let reason = self.readiness.reason().or(reason.as_ref().filter(|_| none.is_some()));
        let unready = reason.filter(|_| state == WorkerState::NotReady);
        self.notice.advance(unready, self.readiness.since(), &self.settings, &self.backend);
        self.recorder.set_readiness(self.readiness.outages(), reason);
        self.recorder.set_slots(quarantined, quarantines, stuck);
        self.recorder.set_named_slots(named);
        self.recorder.publish(state, self.table.calls(), self.table.jobs());
    }

    /// Whether the backend does what it is asked, and has answered in time: a
    /// claim waits at most `claim_wait`, and with jobs at hand there is a
    /// heartbeat every other interval.
    fn is_answered(&self) -> bool {
        let calls = [self.claims.outage(), self.heartbeats.outage(), self.settles.outage()];
        let longest = self.settings.claim_wait.max(2 * self.settings.heartbeat_interval);
        let limit = longest.saturating_add(ANSWER_LIMIT);
        calls.iter().all(|call| !call.is_on()) && calls.iter().any(|call| call.answered().elapsed() < limit)
    }
}

async fn changed(signal: &mut Option<watch::Receiver<u64>>) -> bool {
    match signal {
        Some(signal) => signal.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
