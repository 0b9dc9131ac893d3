//! What a consumer has in its hands: claims, and calls of the handler.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::Duration,
};

use futures_util::future::AbortHandle;

use super::report::Delivery;
use crate::{
    Clock, Context, JobSpec, Timestamp,
    backend::{ClaimKey, Claimed, Update},
    handler::Signal,
};

/// A claim, until it is settled or lost.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) key: ClaimKey,
    pub(super) spec: Arc<JobSpec>,
    pub(super) counted: u32,
    pub(super) lease_until: Timestamp,
    /// Somebody wants the job cancelled.
    pub(super) cancel_requested: bool,
    pub(super) stage: Stage,
    /// The alarms that are set for it, by [`Clock::monotonic`].
    timeout_at: Option<Duration>,
    cancel_at: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// For its batch to fill.
    Waiting(Box<Claimed>),
    /// In the handler, and its answer is wanted.
    Running { call: u64, context: Context },
    /// Its outcome is known. `sent`: a settle is under way. `ran`: how much of
    /// a slot's time it took. `slot`: in which its handler ran; see [`Context::set_slot`].
    Settling { call: Option<u64>, sent: bool, ran: Duration, slot: Option<Arc<str>> },
}

/// A call of the handler, which takes one of the consumer's `concurrency`
/// until it has ended and each of its jobs is settled or lost.
#[derive(Debug)]
struct HandlerCall {
    tickets: Vec<u64>,
    abort: Option<AbortHandle>,
    /// By [`Clock::monotonic`].
    started: Duration,
    size: u32,
    /// Jobs whose answer is still waited for.
    wanted: usize,
    /// Jobs that are still held.
    held: usize,
    /// Those of them whose settle is under way.
    sent: usize,
    ended: bool,
}

impl HandlerCall {
    /// Whether it is over once the settles that are under way are.
    const fn is_settling(&self) -> bool {
        self.ended && self.held > 0 && self.sent == self.held
    }

    /// Of the time since its start, the part of each of its jobs.
    fn share(&self, now: Duration) -> Duration {
        now.saturating_sub(self.started) / self.size
    }
}

/// A moment at which something is to be done about a job or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The attempt of this job has run for long enough.
    Timeout(u64),
    /// This job was to be cancelled, and its handler had time enough.
    CancelGrace(u64),
    /// A claim of this call was lost, and its handler had time enough.
    LostGrace(u64),
}

/// A map by numbers that count up from 1, which need no protection from
/// somebody who chooses them so that they collide.
type Numbered<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// Spreads a number over all bits by one multiplication (by 2^64 over the
/// golden ratio), in place of the many steps of the standard hasher.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Claims by ticket, calls by number; both numbers are never used twice.
#[derive(Debug, Default)]
pub(super) struct Table {
    jobs: Numbered<Held>,
    calls: Numbered<HandlerCall>,
    /// By [`Clock::monotonic`]: a wall clock that is set ends no attempt.
    alarms: BTreeSet<(Duration, Alarm)>,
    /// How many calls are over once the settles that are under way are.
    settling: usize,
    last: u64,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Those of the calls that are over once the settles that are under way are.
    pub(super) fn settling_calls(&self) -> usize {
        self.settling
    }

    pub(super) fn get_mut(&mut self, ticket: u64) -> Option<&mut Held> {
        self.jobs.get_mut(&ticket)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Held)> {
        self.jobs.iter().map(|(ticket, held)| (*ticket, held))
    }

    /// The tickets of the jobs for which this holds.
    pub(super) fn which(&self, holds: impl Fn(&Held) -> bool) -> Vec<u64> {
        self.iter().filter(|(_, held)| holds(held)).map(|(ticket, _)| ticket).collect()
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Takes in a claim.
    pub(super) fn admit(&mut self, claimed: Claimed) -> u64 {
        let ticket = self.number();
        let held = Held {
            key: claimed.key.clone(),
            spec: claimed.spec.clone(),
            counted: claimed.counted,
            lease_until: claimed.lease_until,
            cancel_requested: false,
            stage: Stage::Waiting(Box::new(claimed)),
            timeout_at: None,
            cancel_at: None,
        };
        self.jobs.insert(ticket, held);
        ticket
    }

    /// Makes one call of these jobs, which wait.
    pub(super) fn begin(
        &mut self,
        tickets: Vec<u64>,
        clock: &Clock,
        signal: &Arc<Signal>,
    ) -> (u64, Vec<Delivery>) {
        let (call, now) = (self.number(), clock.now());
        let mut deliveries = Vec::with_capacity(tickets.len());
        for &ticket in &tickets {
            let Some(held) = self.jobs.get_mut(&ticket) else { continue };
            let placeholder = Stage::Settling { call: None, sent: false, ran: Duration::ZERO, slot: None };
            let Stage::Waiting(claimed) = std::mem::replace(&mut held.stage, placeholder) else {
                unreachable!("only jobs that wait are put into a call");
            };
            let (context, body) = Context::new(*claimed, now, signal.clone());
            held.timeout_at = context.timeout().map(|timeout| clock.monotonic().saturating_add(timeout));
            if let Some(at) = held.timeout_at {
                self.alarms.insert((at, Alarm::Timeout(ticket)));
            }
            held.stage = Stage::Running { call, context: context.clone() };
            deliveries.push(Delivery { ticket, body, context });
        }
        let jobs = deliveries.len();
        let size = u32::try_from(jobs).unwrap_or(u32::MAX).max(1);
        let started = clock.monotonic();
        let begun = HandlerCall {
            tickets,
            abort: None,
            started,
            size,
            wanted: jobs,
            held: jobs,
            sent: 0,
            ended: false,
        };
        self.calls.insert(call, begun);
        (call, deliveries)
    }

    /// Notes what ends the call early.
    pub(super) fn set_abort(&mut self, call: u64, abort: Option<AbortHandle>) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.abort = abort;
        }
    }

    /// The outcome of a job is known: from now on it only waits to be settled,
    /// and no answer for it is wanted any more. Returns the last that the attempt
    /// says; nothing where the outcome was known before, or the claim is gone.
    pub(super) fn conclude(&mut self, ticket: u64, clock: &Clock) -> Option<Update> {
        let held = self.jobs.get_mut(&ticket)?;
        let (call, update, slot) = match &held.stage {
            Stage::Waiting(_) => (None, Update::default(), None),
            Stage::Running { call, context } => (Some(*call), context.last_update(), context.slot()),
            Stage::Settling { .. } => return None,
        };
        let ran = call.and_then(|call| self.calls.get(&call));
        let ran = ran.map_or(Duration::ZERO, |call| call.share(clock.monotonic()));
        held.stage = Stage::Settling { call, sent: false, ran, slot };
        self.silence(ticket);
        if let Some(call) = call {
            self.unwant(call);
        }
        Some(update)
    }

    /// A settle of the job is under way, or is not any more.
    pub(super) fn set_sent(&mut self, ticket: u64, now: bool) {
        if let Some(Held { stage: Stage::Settling { call, sent, .. }, .. }) = self.jobs.get_mut(&ticket)
            && std::mem::replace(sent, now) != now
            && let Some(call) = *call
        {
            self.update(call, |call| if now { call.sent += 1 } else { call.sent -= 1 });
        }
    }

    /// The claim is over. A job that is lost while it runs leaves its call
    /// wanting an answer; see [`Table::unwant`].
    pub(super) fn remove(&mut self, ticket: u64) -> Option<Held> {
        self.silence(ticket);
        self.set_sent(ticket, false);
        let held = self.jobs.remove(&ticket)?;
        if let Stage::Running { call, .. } | Stage::Settling { call: Some(call), .. } = held.stage {
            self.update(call, |call| call.held -= 1);
        }
        Some(held)
    }

    /// One answer less is wanted of the call; with the last one the call is
    /// dropped, where it can be.
    pub(super) fn unwant(&mut self, call: u64) {
        self.update(call, |call| {
            call.wanted -= 1;
            if call.wanted == 0
                && let Some(abort) = &call.abort
            {
                abort.abort();
            }
        });
    }

    /// The call has ended. Tells the jobs that are still waiting for an answer.
    pub(super) fn end(&mut self, number: u64) -> Vec<u64> {
        let mut unanswered = Vec::new();
        self.update(number, |call| {
            call.ended = true;
            unanswered = std::mem::take(&mut call.tickets);
        });
        unanswered.retain(|ticket| {
            self.jobs.get(ticket).is_some_and(|held| matches!(held.stage, Stage::Running { .. }))
        });
        unanswered
    }

    /// Drops every call that can be dropped.
    pub(super) fn abort_all(&self) {
        for abort in self.calls.values().filter_map(|call| call.abort.as_ref()) {
            abort.abort();
        }
    }

    fn update(&mut self, number: u64, change: impl FnOnce(&mut HandlerCall)) {
        if let Some(call) = self.calls.get_mut(&number) {
            let before = usize::from(call.is_settling());
            change(call);
            self.settling = self.settling + usize::from(call.is_settling()) - before;
            if call.ended && call.held == 0 {
                self.calls.remove(&number);
            }
        }
    }

    /// Sets the alarm for the end of a job's cancel grace period.
    pub(super) fn set_cancel_grace(&mut self, ticket: u64, at: Duration) {
        if let Some(held) = self.jobs.get_mut(&ticket) {
            held.cancel_at = Some(at);
            self.alarms.insert((at, Alarm::CancelGrace(ticket)));
        }
    }

    /// Sets the alarm for the end of the grace period of a call whose claim is lost.
    pub(super) fn set_lost_grace(&mut self, call: u64, at: Duration) {
        self.alarms.insert((at, Alarm::LostGrace(call)));
    }

    /// When the next alarm is due.
    pub(super) fn next_alarm(&self) -> Option<Duration> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// An alarm that is due.
    pub(super) fn take_alarm(&mut self, now: Duration) -> Option<Alarm> {
        let (at, alarm) = *self.alarms.first()?;
        if at > now {
            return None;
        }
        self.alarms.pop_first();
        Some(alarm)
    }

    fn silence(&mut self, ticket: u64) {
        let Some(held) = self.jobs.get_mut(&ticket) else { return };
        if let Some(at) = held.timeout_at.take() {
            self.alarms.remove(&(at, Alarm::Timeout(ticket)));
        }
        if let Some(at) = held.cancel_at.take() {
            self.alarms.remove(&(at, Alarm::CancelGrace(ticket)));
        }
    }
}

#[cfg(test)]
mod tests;
