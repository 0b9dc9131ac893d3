//! What a consumer writes down of itself.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Meter, QueueSnapshot, SlotSnapshot, Snapshot, WorkerState};
use crate::{
    QueueName,
    event::{Event, Summary},
};

/// The pen of a consumer; there is one. The numbers are its own, so that
/// counting locks nothing, and go to the meters together, once for each turn
/// of the engine. Dropped, it says that the consumer has ended.
#[derive(Debug)]
pub(crate) struct Recorder {
    current: Snapshot,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared(Mutex<Published>);

#[derive(Debug)]
struct Published {
    snapshot: Snapshot,
    at: Instant,
    /// When the program last said that it is alive, if it does that.
    alive_at: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Published> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was published last, and for how long nothing has been heard of the
    /// engine, or of the program.
    pub(super) fn read(&self) -> (Snapshot, Duration) {
        let published = self.lock();
        let oldest = published.alive_at.map_or(published.at, |alive_at| alive_at.min(published.at));
        (published.snapshot.clone(), oldest.elapsed())
    }

    pub(super) fn alive(&self) {
        self.lock().alive_at = Some(Instant::now());
    }
}

impl Recorder {
    pub(crate) fn new<'a>(slots: usize, queues: impl IntoIterator<Item = &'a QueueName>) -> Self {
        let current = Snapshot::starting(slots, queues);
        let published = Published { snapshot: current.clone(), at: Instant::now(), alive_at: None };
        Self { current, shared: Arc::new(Shared(Mutex::new(published))) }
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter(self.shared.clone())
    }

    pub(crate) fn summary(&self) -> Summary {
        self.current.ended()
    }

    /// `slot`: in which one the job's handler ran, by its name.
    pub(crate) fn count(&mut self, queue: &QueueName, slot: Option<&str>, event: &Event) {
        self.queue(queue).ended.count(event);
        if let Some(slot) = slot.and_then(|name| self.slot(name)) {
            slot.ended.count(event);
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut SlotSnapshot> {
        self.current.named_slots.iter_mut().find(|slot| &*slot.name == name)
    }

    /// A claim ended so, after its job had taken up a slot for this long.
    pub(crate) fn observe(&mut self, queue: &QueueName, event: &Event, time: Duration) {
        if matches!(event, Event::Succeeded { .. } | Event::Retried { .. } | Event::Failed { .. }) {
            self.queue(queue).job_seconds.observe(time);
        }
    }

    /// A backend that has one queue only gives its jobs whatever their record names.
    fn queue(&mut self, queue: &QueueName) -> &mut QueueSnapshot {
        let queues = &mut self.current.queues;
        let place = queues.iter().position(|one| one.queue == *queue).unwrap_or(0);
        &mut queues[place]
    }

    /// How often it was not ready, and why it is not now.
    pub(crate) fn set_readiness(&mut self, outages: u64, reason: Option<&Arc<str>>) {
        self.current.outages = outages;
        if self.current.reason.as_ref() != reason {
            self.current.reason = reason.cloned();
        }
    }

    /// How many slots are out of service, how often one was taken out of it, and how many calls
    /// go on that have lost theirs.
    pub(crate) const fn set_slots(&mut self, quarantined: usize, times: u64, stuck: usize) {
        (self.current.quarantined, self.current.quarantines) = (quarantined, times);
        self.current.stuck = stuck;
    }

    /// The slots that have names, and whether each is out of service.
    pub(crate) fn set_named_slots(&mut self, named: Vec<(Arc<str>, bool)>) {
        for (name, is_quarantined) in named {
            if let Some(slot) = self.slot(&name) {
                slot.is_quarantined = is_quarantined;
            } else {
                let ended = Summary::default();
                self.current.named_slots.push(SlotSnapshot { name, is_quarantined, ended });
            }
        }
    }

    /// Tells the meters all of it.
    pub(crate) fn publish(&mut self, state: WorkerState, busy: usize, held: usize) {
        (self.current.state, self.current.busy, self.current.held) = (state, busy, held);
        let mut published = self.shared.lock();
        published.snapshot = self.current.clone();
        published.at = Instant::now();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.current.reason = None;
        self.publish(WorkerState::Stopped, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::STUCK_AFTER;

    fn age(recorder: &Recorder, by: Duration) {
        let mut published = recorder.shared.lock();
        published.at = published.at.checked_sub(by).expect("the machine has run for a minute");
    }

    #[test]
    fn an_engine_that_does_not_come_round_is_stuck() {
        let mut recorder = Recorder::new(1, [&QueueName::default()]);
        let meter = recorder.meter();
        age(&recorder, STUCK_AFTER * 2);
        assert_eq!(meter.snapshot().state, WorkerState::Starting, "it has no engine yet");
        recorder.publish(WorkerState::Ready, 1, 1);
        assert_eq!(meter.snapshot().state, WorkerState::Ready);
        age(&recorder, STUCK_AFTER * 2);
        assert_eq!(meter.snapshot().state, WorkerState::Stuck);
        assert_eq!(meter.snapshot().busy, 1);
        drop(recorder);
        assert_eq!(meter.snapshot().state, WorkerState::Stopped);
        assert_eq!(meter.snapshot().busy, 0);
    }

    #[test]
    fn a_program_that_says_no_more_that_it_is_alive_is_stuck() {
        let mut recorder = Recorder::new(1, [&QueueName::default()]);
        let meter = recorder.meter();
        meter.alive();
        recorder.publish(WorkerState::Ready, 1, 1);
        assert_eq!(meter.snapshot().state, WorkerState::Ready);
        recorder.shared.lock().alive_at = Instant::now().checked_sub(STUCK_AFTER * 2);
        // The engine comes round all the same.
        recorder.publish(WorkerState::Ready, 1, 1);
        assert_eq!(meter.snapshot().state, WorkerState::Stuck);
        meter.alive();
        assert_eq!(meter.snapshot().state, WorkerState::Ready);
    }
}
