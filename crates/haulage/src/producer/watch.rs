//! When to look at which job that somebody waits for.
//!
//! With a backend that signals, a look at everything for each signal would cost
//! more than it brings. Jobs end more or less in the order in which they came,
//! so a signal sets off a pass from the front, which ends where nothing is
//! over any more; a pass over everything, which finds the rest, comes less
//! often. Both leave pauses that follow from the time they took.
//!
//! With one that does not, each job has a pause that grows with the age of its
//! waits, and looks that are due at about the same time are one.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::waiter::{CHUNK, Hub, WaiterState};
use crate::{Error, JobId, backend_call::BackendCall, retry::Outage};

/// How long the thread stays when nobody waits.
const LINGER: Duration = Duration::from_secs(5);
/// How many ids at a time a pass from the front looks at.
const FRONT_CHUNK: usize = 200;
/// The least pause after a pass, for each id in it.
const PAUSE_PER_ID: Duration = Duration::from_micros(20);
/// The pause after a pass from the front, or a look at new ids, as a multiple of
/// its time: a fifth of one core at most is spent on each.
const FRONT_PAUSE: u32 = 4;
/// The same for passes over everything: a tenth of one core.
const FULL_PAUSE: u32 = 9;
/// The longest pause after any pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A pass over everything comes that often even without a signal: a lease that
/// runs out signals nothing by itself.
const UNASKED: Duration = Duration::from_secs(2);
/// The same, for each id, where there are very many.
const UNASKED_PER_ID: Duration = Duration::from_micros(100);
/// Without a signal, where a look is most likely a remote call: the pause after
/// a look at new ids.
const FRESH_PAUSE_POLLING: Duration = Duration::from_millis(20);

/// The work of the hub's thread.
pub(super) async fn watch_over(hub: Weak<Hub>, wake: Arc<Notify>) {
    let mut watcher = match hub.upgrade() {
        Some(hub) => Watcher::new(hub.backend.signals().outcomes),
        None => return,
    };
    loop {
        let Some(strong) = hub.upgrade() else { return };
        if !strong.state().is_idle() {
            watcher.step(&strong).await;
            continue;
        }
        watcher.forget(&strong);
        drop(strong);
        if tokio::time::timeout(LINGER, wake.notified()).await.is_err() {
            let Some(hub) = hub.upgrade() else { return };
            let mut state = hub.state();
            if state.is_idle() {
                state.running = false;
                return;
            }
        }
    }
}

struct Watcher {
    outcomes: Option<watch::Receiver<u64>>,
    passes: Passes,
    /// Without a signal: what is due.
    due: VecDeque<JobId>,
    /// When new ids may be looked at.
    fresh_not_before: Instant,
    outage: Outage,
    /// After a failed look-up: when to try again.
    retry: Option<Instant>,
}

/// Why some ids are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Fresh,
    Pass,
    Due,
}

impl Watcher {
    fn new(outcomes: Option<watch::Receiver<u64>>) -> Self {
        Self {
            outcomes,
            passes: Passes::new(),
            due: VecDeque::new(),
            fresh_not_before: Instant::now(),
            outage: Outage::new("look for results"),
            retry: None,
        }
    }

    /// Nobody waits any more, so nothing is left to look at.
    fn forget(&mut self, hub: &Hub) {
        let mut state = hub.state();
        if state.is_idle() {
            state.fresh.clear();
            state.due.clear();
            self.due.clear();
            self.passes.current = None;
            self.passes.unasked = None;
        }
    }

    /// One look-up, or a wait for a reason to make one.
    async fn step(&mut self, hub: &Hub) {
        if let Some(outcomes) = &mut self.outcomes {
            match outcomes.has_changed() {
                // Taken note of before the look-up: what comes later shows again.
                Ok(true) => {
                    outcomes.mark_unchanged();
                    self.passes.want();
                }
                Ok(false) => {}
                // No more signals: from here on, poll.
                Err(_) => {
                    self.outcomes = None;
                    let mut state = hub.state();
                    state.fresh = state.order.values().cloned().collect();
                }
            }
        }
        let pausing = self.retry.is_some_and(|moment| moment > Instant::now());
        let (ids, reason) = if pausing { (Vec::new(), Reason::Fresh) } else { self.choose(hub) };
        if ids.is_empty() {
            self.rest(hub).await;
        } else {
            self.look(hub, ids, reason).await;
        }
    }

    fn choose(&mut self, hub: &Hub) -> (Vec<JobId>, Reason) {
        let now = hub.backend.clock().monotonic();
        // Counted from before the first sample.
        self.passes.unasked.get_or_insert(now + UNASKED);
        let mut state = hub.state();
        if Instant::now() >= self.fresh_not_before && !state.fresh.is_empty() {
            let mut fresh = std::mem::take(&mut state.fresh);
            let ids = watched(&mut fresh, &state);
            state.fresh = fresh;
            if !ids.is_empty() {
                return (ids, Reason::Fresh);
            }
        }
        if self.outcomes.is_some() {
            return (self.passes.next(&mut state, now), Reason::Pass);
        }
        while let Some(bucket) = state.due.first_entry()
            && *bucket.key() <= now
        {
            let (moment, ids) = bucket.remove_entry();
            self.due.extend(ids.into_iter().filter(|id| state.is_due_at(id, moment)));
        }
        (watched(&mut self.due, &state), Reason::Due)
    }

    async fn look(&mut self, hub: &Hub, ids: Vec<JobId>, reason: Reason) {
        let began = Instant::now();
        let (backend, asked, detail) = (hub.backend.clone(), ids.clone(), hub.state().detail());
        let polls = self.outcomes.is_none();
        let mut call = BackendCall::send(async move {
            if polls { backend.peek(asked, detail).await } else { backend.get(asked, detail).await }
        });
        let answer = call.answer().await;
        let over = match answer {
            Ok(lookups) => {
                self.outage.over();
                self.retry = None;
                hub.tell(ids, lookups, polls)
            }
            Err(error @ Error::Unavailable { .. }) => {
                self.retry = Some(self.outage.failed(&error));
                let mut state = hub.state();
                state.fresh.extend(ids);
                state.error = Some(error);
                0
            }
            // Asking again would not help.
            Err(error) => {
                let mut state = hub.state();
                for id in &ids {
                    state.answer(id, &Err(error.clone()));
                }
                ids.len()
            }
        };
        match reason {
            Reason::Pass => self.passes.looked(over),
            Reason::Fresh if self.outcomes.is_some() => {
                self.fresh_not_before = Instant::now() + began.elapsed() * FRONT_PAUSE;
            }
            Reason::Fresh => self.fresh_not_before = began + FRESH_PAUSE_POLLING,
            Reason::Due => {}
        }
    }

    /// Waits until there may be something to look at.
    async fn rest(&mut self, hub: &Hub) {
        let clock = hub.backend.clock();
        let (fresh, due) = {
            let state = hub.state();
            (!state.fresh.is_empty(), state.due.keys().next().copied())
        };
        if let Some(moment) = self.retry.filter(|moment| *moment > Instant::now()) {
            tokio::select! {
                () = hub.wake.notified() => {}
                () = tokio::time::sleep_until(moment) => {}
            }
        } else if let Some(outcomes) = &mut self.outcomes {
            let unasked = self.passes.unasked.unwrap_or_default().saturating_sub(clock.monotonic());
            let asked = self.passes.asked();
            tokio::select! {
                () = hub.wake.notified(), if !fresh => {}
                () = tokio::time::sleep_until(self.fresh_not_before), if fresh => {}
                // Also where the signal is gone for good; the next step sees that.
                _ = outcomes.changed() => self.passes.want(),
                () = sleep_until(asked) => {}
                () = clock.sleep(unasked) => {}
            }
        } else {
            let due = due.unwrap_or(Duration::MAX).saturating_sub(clock.monotonic());
            tokio::select! {
                () = hub.wake.notified(), if !fresh => {}
                () = tokio::time::sleep_until(self.fresh_not_before), if fresh => {}
                () = clock.sleep(due) => {}
            }
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The next ids of a queue, less those that nobody waits for any more.
fn watched(queue: &mut VecDeque<JobId>, state: &WaiterState) -> Vec<JobId> {
    let mut ids = Vec::new();
    while ids.len() < CHUNK
        && let Some(id) = queue.pop_front()
    {
        if state.is_watched(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Whether passes of one kind are asked for.
#[derive(Clone, Copy)]
struct Asked {
    /// A signal came since such a pass last began.
    wanted: bool,
    /// When the next one may begin.
    not_before: Instant,
}

impl Asked {
    fn is_due(self, now: Instant) -> bool {
        self.wanted && now >= self.not_before
    }
}

/// With a signal: the passes over what is waited for.
struct Passes {
    front: Asked,
    full: Asked,
    /// When a pass over everything comes without a signal, by
    /// [`Clock::monotonic`](crate::Clock::monotonic).
    unasked: Option<Duration>,
    current: Option<Pass>,
}

struct Pass {
    full: bool,
    began: Instant,
    /// The number of the next job to look at, and how many it has looked at.
    next: u64,
    count: u32,
    /// Nothing comes after what it looks at now.
    last: bool,
}

impl Passes {
    fn new() -> Self {
        let never = Asked { wanted: false, not_before: Instant::now() };
        Self { front: never, full: never, unasked: None, current: None }
    }

    fn want(&mut self) {
        self.front.wanted = true;
        self.full.wanted = true;
    }

    /// When the next pass that a signal asked for may begin.
    fn asked(&self) -> Option<Instant> {
        [self.front, self.full].into_iter().filter(|asked| asked.wanted).map(|asked| asked.not_before).min()
    }

    /// The next ids to look at, of a pass that has begun or begins now.
    fn next(&mut self, state: &mut WaiterState, now: Duration) -> Vec<JobId> {
        if self.current.is_none() {
            self.begin(state, now);
        }
        let Some(pass) = &mut self.current else { return Vec::new() };
        let size = if pass.full { CHUNK } else { FRONT_CHUNK };
        let mut ids = Vec::new();
        for (number, id) in state.order.range(pass.next..).take(size) {
            pass.next = number + 1;
            ids.push(id.clone());
        }
        pass.count = pass.count.saturating_add(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        pass.last = ids.len() < size;
        if ids.is_empty() {
            self.end();
        }
        ids
    }

    fn begin(&mut self, state: &mut WaiterState, now: Duration) {
        let real = Instant::now();
        let full = self.full.is_due(real) || self.unasked.is_none_or(|moment| now >= moment);
        if !full && !self.front.is_due(real) {
            return;
        }
        self.front.wanted = false;
        if full {
            self.full.wanted = false;
            let count = u32::try_from(state.order.len()).unwrap_or(u32::MAX);
            self.unasked = Some(now + UNASKED.max(UNASKED_PER_ID.saturating_mul(count)));
        }
        self.current = Some(Pass { full, began: real, next: 0, count: 0, last: false });
    }

    /// The current pass has had a look, and found so many jobs to be over.
    fn looked(&mut self, over: usize) {
        if self.current.as_ref().is_some_and(|pass| pass.last || (!pass.full && over == 0)) {
            self.end();
        }
    }

    fn end(&mut self) {
        let Some(pass) = self.current.take() else { return };
        let took = pass.began.elapsed();
        let least = PAUSE_PER_ID.saturating_mul(pass.count);
        let after = |factor| Instant::now() + (took * factor).max(least).min(LONGEST_PAUSE);
        self.front.not_before = after(FRONT_PAUSE);
        if pass.full {
            self.full.not_before = after(FULL_PAUSE);
        }
    }
}
