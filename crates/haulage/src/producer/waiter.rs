//! All waits of a producer, which share their polls.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};

use crate::{
    Backend, Error, JobId, Record, Result, Timestamp,
    backend::{Detail, Lookup},
    consumer::errand::Errand,
    retry::Outage,
};

/// How many ids go into one look-up.
const CHUNK: usize = 1000;
/// How long the thread stays when nobody waits.
const LINGER: Duration = Duration::from_secs(5);
/// With a signal: the least time between two looks at all ids, for each id, and
/// as a multiple of the time that a look takes. They bound what a backend that
/// signals all the time can cost.
const PAUSE_PER_ID: Duration = Duration::from_micros(20);
const PAUSE_FACTOR: u32 = 10;
const LONGEST_PAUSE_BETWEEN_SWEEPS: Duration = Duration::from_secs(1);
/// With a signal: look at all ids that often even without one. A lease that
/// runs out signals nothing by itself.
const UNASKED: Duration = Duration::from_secs(2);
/// The same, for each id, where there are very many.
const UNASKED_PER_ID: Duration = Duration::from_micros(100);
/// New ids are looked at without delay, but not more often than that: a burst of
/// new waits is a few looks.
const FRESH_GAP: Duration = Duration::from_millis(1);
/// The same without a signal, where a look is most likely a remote call.
const FRESH_GAP_POLLING: Duration = Duration::from_millis(20);
/// Without a signal: the first and the longest pause between two looks at an id.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Looks at the jobs that somebody waits for, and tells those who do.
///
/// A thread of its own does the looking, while there is something to look at.
/// So a wait gets on whatever the runtimes are busy with on which others wait,
/// and is not tied to the runtime of whoever came first.
pub(super) struct Hub {
    backend: Arc<dyn Backend>,
    state: Mutex<State>,
    /// Wakes the thread. Not part of the hub for it, so that an idle thread
    /// keeps neither hub nor backend alive.
    wake: Arc<Notify>,
}

#[derive(Default)]
struct State {
    jobs: HashMap<JobId, Watched>,
    /// Ids that have to be looked at without delay.
    fresh: VecDeque<JobId>,
    /// Without a signal: which ids to look at when. An entry that does not
    /// agree with [`Watched::due`] is out of date.
    due: BTreeMap<Timestamp, Vec<JobId>>,
    last_wait: u64,
    /// Whether there is a thread.
    running: bool,
    /// Why the backend cannot be reached, while it cannot.
    error: Option<Error>,
}

struct Watched {
    waits: Vec<Waiting>,
    /// Without a signal: when to look next, and the pause after that.
    due: Option<Timestamp>,
    pause: Duration,
}

struct Waiting {
    wait: u64,
    index: usize,
    shared: Arc<Shared>,
}

/// One call of [`Hub::wait`], however many ids it is for.
struct Shared {
    answers: mpsc::UnboundedSender<(usize, Result<Record>)>,
    /// Whether the backend has told anything about any of the ids.
    heard: AtomicBool,
}

impl Hub {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, state: Mutex::default(), wake: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all these jobs to be over; see
    /// [`Producer::wait_each`](super::Producer::wait_each).
    pub(super) async fn wait(
        self: &Arc<Self>,
        ids: &[JobId],
        timeout: Option<Duration>,
        mut done: impl FnMut(usize, Record) + Send,
    ) -> Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return self.look_once(ids, done).await;
        }
        let clock = self.backend.clock();
        let deadline = timeout.map(|timeout| (timeout, clock.now().after(timeout)));
        let mut left: HashSet<usize> = (0..ids.len()).collect();
        while !left.is_empty() {
            let mut registration = self.register(ids, &left)?;
            loop {
                let answer = match deadline {
                    None => registration.answers.recv().await,
                    Some((timeout, moment)) => {
                        let answer = clock.until(moment, registration.answers.recv()).await;
                        answer.ok_or_else(|| self.too_late(timeout, &registration.shared))?
                    }
                };
                match answer {
                    Some((index, record)) => {
                        left.remove(&index);
                        done(index, record?);
                        if left.is_empty() {
                            break;
                        }
                    }
                    // The thread died of a panic in the backend. Again.
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// The error for a wait whose time is up.
    fn too_late(&self, timeout: Duration, wait: &Shared) -> Error {
        let error = self.state().error.clone();
        error.filter(|_| !wait.heard.load(Relaxed)).unwrap_or(Error::TimedOut(timeout))
    }

    /// The wait of somebody who does not want to wait.
    async fn look_once(&self, ids: &[JobId], mut done: impl FnMut(usize, Record) + Send) -> Result<()> {
        let mut late = false;
        for (chunk, first) in ids.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            let lookups = self.backend.get(chunk.to_vec(), Detail::Result).await?;
            for ((id, lookup), index) in chunk.iter().zip(lookups).zip(first..) {
                let record = lookup.into_record(id)?;
                if record.status.is_terminal() {
                    done(index, record);
                } else {
                    late = true;
                }
            }
        }
        if late { Err(Error::TimedOut(Duration::ZERO)) } else { Ok(()) }
    }

    fn register(self: &Arc<Self>, ids: &[JobId], which: &HashSet<usize>) -> Result<Registration<'_>> {
        let (sender, answers) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { answers: sender, heard: AtomicBool::new(false) });
        let mut state = self.state();
        if !state.running {
            self.start()?;
            state.running = true;
        }
        state.last_wait += 1;
        let wait = state.last_wait;
        let mut registered = HashSet::with_capacity(which.len());
        for &index in which {
            let id = &ids[index];
            let new = || Watched { waits: Vec::new(), due: None, pause: FIRST_PAUSE };
            let watched = state.jobs.entry(id.clone()).or_insert_with(new);
            watched.waits.push(Waiting { wait, index, shared: shared.clone() });
            // The pause follows the age of the youngest wait.
            watched.pause = FIRST_PAUSE;
            if registered.insert(id.clone()) {
                state.fresh.push_back(id.clone());
            }
        }
        drop(state);
        self.wake.notify_one();
        Ok(Registration { hub: self, wait, ids: registered, answers, shared })
    }

    fn start(self: &Arc<Self>) -> Result<()> {
        let (hub, wake) = (Arc::downgrade(self), self.wake.clone());
        let cannot = |e| Error::unavailable("the system does not let the waiting thread start", e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        std::thread::Builder::new()
            .name("haulage-waits".into())
            .spawn(move || {
                let _ending = Ending(hub.clone());
                runtime.block_on(watch_over(hub, wake));
                runtime.shutdown_background();
            })
            .map_err(cannot)?;
        Ok(())
    }

    /// Takes the answers to a look-up of these ids in.
    fn tell(&self, ids: Vec<JobId>, lookups: Vec<Lookup>, polls: bool) {
        let now = self.backend.clock().now();
        let mut state = self.state();
        let state = &mut *state;
        state.error = None;
        for (id, lookup) in ids.into_iter().zip(lookups) {
            let Some(watched) = state.jobs.get_mut(&id) else { continue };
            for waiting in &watched.waits {
                waiting.shared.heard.store(true, Relaxed);
            }
            if !matches!(&lookup, Lookup::Found(record) if !record.status.is_terminal()) {
                let answer = lookup.into_record(&id);
                state.answer(&id, &answer);
            } else if polls {
                let due = in_step(now.after(watched.pause), watched.pause);
                watched.due = Some(due);
                watched.pause = watched.pause.mul_f64(1.5).min(LONGEST_PAUSE);
                state.due.entry(due).or_default().push(id);
            }
        }
    }
}

/// The moment, or up to a pause earlier: one of few moments, so that waits which
/// began apart are looked at together.
fn in_step(moment: Timestamp, pause: Duration) -> Timestamp {
    let pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX).max(1);
    // A power of two, so that the steps of longer pauses are among those of
    // shorter ones.
    let step = 1_i64 << pause.ilog2().min(40);
    Timestamp::from_micros(moment.as_micros().div_euclid(step) * step)
}

impl State {
    /// Tells everybody who waits for this job, who then waits no more.
    fn answer(&mut self, id: &JobId, answer: &Result<Record>) {
        for waiting in self.jobs.remove(id).into_iter().flat_map(|watched| watched.waits) {
            // Whoever does not listen any more is about to leave.
            let _ = waiting.shared.answers.send((waiting.index, answer.clone()));
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("jobs", &self.state().jobs.len()).finish_non_exhaustive()
    }
}

/// A wait that is known to the hub until it is dropped.
struct Registration<'a> {
    hub: &'a Hub,
    wait: u64,
    ids: HashSet<JobId>,
    answers: mpsc::UnboundedReceiver<(usize, Result<Record>)>,
    shared: Arc<Shared>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        for id in &self.ids {
            if let Some(watched) = state.jobs.get_mut(id) {
                watched.waits.retain(|waiting| waiting.wait != self.wait);
                if watched.waits.is_empty() {
                    state.jobs.remove(id);
                }
            }
        }
        if state.jobs.is_empty() {
            // The thread need not hold on to the backend any more.
            self.hub.wake.notify_one();
        }
    }
}

/// Marks the end of the thread, of whatever it ends.
struct Ending(Weak<Hub>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(hub) = self.0.upgrade()
        {
            let mut state = hub.state();
            state.running = false;
            // Those who wait see their channel end, and start over.
            state.jobs.clear();
        }
    }
}

/// The thread's work.
async fn watch_over(hub: Weak<Hub>, wake: Arc<Notify>) {
    let mut watcher = match hub.upgrade() {
        Some(hub) => Watcher::new(hub.backend.signals().outcomes),
        None => return,
    };
    loop {
        let Some(strong) = hub.upgrade() else { return };
        if !strong.state().jobs.is_empty() {
            watcher.step(&strong).await;
            continue;
        }
        // With nobody left to tell, what was left to look at is, too.
        watcher.sweep.clear();
        {
            let mut state = strong.state();
            if state.jobs.is_empty() {
                state.fresh.clear();
                state.due.clear();
            }
        }
        drop(strong);
        if tokio::time::timeout(LINGER, wake.notified()).await.is_err() {
            let Some(hub) = hub.upgrade() else { return };
            let mut state = hub.state();
            if state.jobs.is_empty() {
                state.running = false;
                return;
            }
        }
    }
}

/// When to look at which job.
struct Watcher {
    outcomes: Option<watch::Receiver<u64>>,
    /// With a signal: it came since the last look at all ids.
    dirty: bool,
    /// With a signal: when all ids may be, and when they must be, looked at.
    not_before: Instant,
    unasked: Option<Timestamp>,
    /// What is left of a look at many ids, when that began, and their number.
    sweep: VecDeque<JobId>,
    sweep_began: Option<(Instant, u32)>,
    /// When new ids may be looked at.
    fresh_not_before: Instant,
    outage: Outage,
    /// After a failed look-up: when to try again.
    retry: Option<Instant>,
}

impl Watcher {
    fn new(outcomes: Option<watch::Receiver<u64>>) -> Self {
        Self {
            outcomes,
            dirty: false,
            not_before: Instant::now(),
            unasked: None,
            sweep: VecDeque::new(),
            sweep_began: None,
            fresh_not_before: Instant::now(),
            outage: Outage::new("look for results"),
            retry: None,
        }
    }

    /// One look-up, or a wait for a reason to make one.
    async fn step(&mut self, hub: &Hub) {
        if let Some(outcomes) = &mut self.outcomes {
            match outcomes.has_changed() {
                // Taken note of before the look-up: what comes later shows again.
                Ok(true) => {
                    outcomes.mark_unchanged();
                    self.dirty = true;
                }
                Ok(false) => {}
                // No more signals: from here on, poll.
                Err(_) => {
                    self.outcomes = None;
                    let mut state = hub.state();
                    state.fresh = state.jobs.keys().cloned().collect();
                }
            }
        }
        let ids = if self.retry.is_some_and(|moment| moment > Instant::now()) {
            Vec::new()
        } else {
            self.choose(hub)
        };
        if ids.is_empty() {
            self.rest(hub).await;
        } else {
            self.look(hub, ids).await;
        }
    }

    /// The ids to look at now: new ones first, then those of a sweep.
    fn choose(&mut self, hub: &Hub) -> Vec<JobId> {
        let now = hub.backend.clock().now();
        let mut state = hub.state();
        if self.sweep.is_empty() {
            self.begin_sweep(&mut state, now);
        }
        let take_fresh = Instant::now() >= self.fresh_not_before && !state.fresh.is_empty();
        let mut ids = Vec::new();
        while ids.len() < CHUNK
            && let Some(id) = match take_fresh {
                true => state.fresh.pop_front().or_else(|| self.sweep.pop_front()),
                false => self.sweep.pop_front(),
            }
        {
            // What nobody waits for any more is not worth a look.
            if state.jobs.contains_key(&id) {
                ids.push(id);
            }
        }
        if take_fresh {
            let gap = if self.outcomes.is_some() { FRESH_GAP } else { FRESH_GAP_POLLING };
            self.fresh_not_before = Instant::now() + gap;
        }
        ids
    }

    fn begin_sweep(&mut self, state: &mut State, now: Timestamp) {
        if self.outcomes.is_some() {
            let unasked = *self.unasked.get_or_insert(now.after(UNASKED));
            let asked = self.dirty && Instant::now() >= self.not_before;
            if asked || now >= unasked {
                self.dirty = false;
                state.fresh.clear(); // they are among the jobs
                self.sweep = state.jobs.keys().cloned().collect();
                let count = u32::try_from(self.sweep.len()).unwrap_or(u32::MAX);
                self.sweep_began = Some((Instant::now(), count));
                self.unasked = Some(now.after(UNASKED.max(UNASKED_PER_ID.saturating_mul(count))));
            }
        } else {
            while let Some(bucket) = state.due.first_entry()
                && *bucket.key() <= now
            {
                let (due, ids) = bucket.remove_entry();
                let current = |id: &JobId| state.jobs.get(id).is_some_and(|job| job.due == Some(due));
                self.sweep.extend(ids.into_iter().filter(current));
            }
        }
    }

    async fn look(&mut self, hub: &Hub, ids: Vec<JobId>) {
        let (backend, asked) = (hub.backend.clone(), ids.clone());
        let answer = Errand::send(async move { backend.get(asked, Detail::Result).await }).answer().await;
        match answer {
            Ok(lookups) => {
                self.outage.over();
                self.retry = None;
                hub.tell(ids, lookups, self.outcomes.is_none());
            }
            Err(error @ Error::Unavailable { .. }) => {
                self.retry = Some(self.outage.failed(&error));
                let mut state = hub.state();
                state.fresh.extend(ids);
                state.error = Some(error);
            }
            // Asking again would not help.
            Err(error) => {
                let mut state = hub.state();
                for id in ids {
                    state.answer(&id, &Err(error.clone()));
                }
            }
        }
        if self.sweep.is_empty()
            && let Some((began, count)) = self.sweep_began.take()
        {
            let pause = PAUSE_PER_ID.saturating_mul(count).max(began.elapsed() * PAUSE_FACTOR);
            self.not_before = Instant::now() + pause.min(LONGEST_PAUSE_BETWEEN_SWEEPS);
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
            let unasked = self.unasked.unwrap_or_else(|| clock.now());
            tokio::select! {
                () = hub.wake.notified(), if !fresh => {}
                () = tokio::time::sleep_until(self.fresh_not_before), if fresh => {}
                // Also where the signal is gone for good; the next step sees that.
                _ = outcomes.changed(), if !self.dirty => self.dirty = true,
                () = tokio::time::sleep_until(self.not_before), if self.dirty => {}
                () = clock.sleep_until(unasked) => {}
            }
        } else {
            let due = due.unwrap_or(Timestamp::from_micros(i64::MAX));
            tokio::select! {
                () = hub.wake.notified(), if !fresh => {}
                () = tokio::time::sleep_until(self.fresh_not_before), if fresh => {}
                () = clock.sleep_until(due) => {}
            }
        }
    }
}
