//! All waits of a producer, which share their polls.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt, mem,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep_until,
};

use super::{pauses, results::Results, watch::watch_over};
use crate::{
    Backend, Error, JobId, Record, Result,
    backend::{Detail, Lookup},
};

/// How many ids go into one look-up.
pub(super) const CHUNK: usize = 1000;
/// For how long a last look may take once the time of a wait is up.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Looks at the jobs that somebody waits for, and tells those who do.
///
/// A thread of its own does the looking, while there is something to look at.
/// So a wait gets on whatever the runtimes are busy with on which others wait,
/// and is not tied to the runtime of whoever came first.
pub(super) struct Hub {
    pub(super) backend: Arc<dyn Backend>,
    state: Mutex<WaiterState>,
    /// Wakes the thread. Not part of the hub for it, so that an idle thread
    /// keeps neither hub nor backend alive.
    pub(super) wake: Arc<Notify>,
}

#[derive(Default)]
pub(super) struct WaiterState {
    jobs: HashMap<JobId, Watched>,
    /// The ids of these jobs, in the order in which they came.
    pub(super) order: BTreeMap<u64, JobId>,
    /// Ids that have to be looked at without delay.
    pub(super) fresh: VecDeque<JobId>,
    /// Without a signal: which ids to look at when, by [`Clock::monotonic`](crate::Clock::monotonic),
    /// as the wall clock may be set back. An entry that does not
    /// agree with [`Watched::due`] is out of date.
    pub(super) due: BTreeMap<Duration, Vec<JobId>>,
    /// The last number that was given to a job or a wait.
    last: u64,
    /// How many waits are for several jobs. These look results up by themselves,
    /// a few at a time, and only want to know that jobs are over.
    many: usize,
    /// Whether there is a thread.
    pub(super) running: bool,
    /// Why the backend cannot be reached, while it cannot.
    pub(super) error: Option<Error>,
}

struct Watched {
    number: u64,
    waits: Vec<Waiting>,
    /// Since when its youngest wait is there.
    since: Duration,
    /// Without a signal: when to look next, and the pause before that.
    due: Option<Duration>,
    pause: Duration,
    /// Since when it has been without a record that may still come.
    unrecorded: Option<Duration>,
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

/// When the time of a wait is up.
#[derive(Clone, Copy)]
struct Deadline {
    /// How long it was to wait, for the error that says so.
    timeout: Duration,
    /// By [`Clock::monotonic`](crate::Clock::monotonic).
    at: Duration,
}

impl Hub {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, state: Mutex::default(), wake: Arc::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, WaiterState> {
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
        // The wall clock may be set meanwhile.
        let now = self.backend.clock().monotonic();
        let deadline = timeout.map(|timeout| Deadline { timeout, at: now.saturating_add(timeout) });
        let mut told = vec![false; ids.len()];
        let mut tell = |index: usize, record| {
            told[index] = true;
            done(index, record);
        };
        let waited = self.wait_until(ids, deadline, &mut tell).await;
        let Err(late @ Error::TimedOut(_)) = waited else { return waited };
        if self.backend.signals().outcomes.is_some() {
            return Err(late);
        }
        // The last look was some time ago, and may have been at what was a moment old; and
        // some may be over whose results were still on their way.
        let left: Vec<usize> = (0..ids.len()).filter(|index| !told[*index]).collect();
        let rest: Vec<JobId> = left.iter().map(|index| ids[*index].clone()).collect();
        let look = self.look_once(&rest, |index, record| done(left[index], record));
        match tokio::time::timeout(LAST_LOOK, look).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(late),
        }
    }

    /// The same, with no look at the end.
    async fn wait_until(
        self: &Arc<Self>,
        ids: &[JobId],
        deadline: Option<Deadline>,
        mut done: &mut (impl FnMut(usize, Record) + Send),
    ) -> Result<()> {
        // Of these the backend has told nothing so far.
        let mut left: HashSet<usize> = (0..ids.len()).collect();
        let mut results = Results::new(&*self.backend);
        // Jobs that are over, and whose results cannot be had for now.
        let mut aside = Vec::new();
        while !left.is_empty() || !aside.is_empty() {
            let mut registration = self.register(ids, &left)?;
            let shared = registration.shared.clone();
            // Until the thread dies of a panic in the backend: then, again.
            while !left.is_empty() || !aside.is_empty() {
                let next = async {
                    tokio::select! {
                        answer = registration.answers.recv() => answer.map(Some),
                        () = async { sleep_until(results.again()).await }, if !aside.is_empty() => Some(None),
                    }
                };
                let next = self.by(deadline, &shared, next).await;
                let Some(mut answer) = next.map_err(|late| results.failure().unwrap_or(late))? else { break };
                // What is found by one look is told while the hub's state is held; with all of
                // it, the results come in few look-ups, however the threads take turns.
                drop(self.state());
                // All that is there is told before an error ends the wait.
                let mut lost = None;
                let mut over = Vec::new();
                if answer.is_none() {
                    let rest = aside.split_off(aside.len().min(results.portion()));
                    over = mem::replace(&mut aside, rest);
                }
                while let Some((index, record)) = answer {
                    left.remove(&index);
                    match record {
                        Ok(record) if Results::is_without(&record) => over.push((index, record)),
                        Ok(record) => done(index, record),
                        Err(error) => lost = lost.or(Some(error)),
                    }
                    let more = over.len() < results.portion();
                    answer = more.then(|| registration.answers.try_recv().ok()).flatten();
                }
                let looked = self.by(deadline, &shared, results.look_up(over, &mut done)).await;
                aside.extend(looked.map_err(|late| results.failure().unwrap_or(late))??);
                if let Some(error) = lost {
                    return Err(error);
                }
                if aside.is_empty() {
                    results.all_told();
                }
            }
        }
        Ok(())
    }

    /// What this brings, unless the time of a wait is up before.
    async fn by<T>(
        &self,
        deadline: Option<Deadline>,
        wait: &Shared,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        let Some(Deadline { timeout, at }) = deadline else { return Ok(work.await) };
        let clock = self.backend.clock();
        let mut work = pin!(work);
        loop {
            let moment = clock.now().after(at.saturating_sub(clock.monotonic()));
            match clock.until(moment, work.as_mut()).await {
                Some(done) => return Ok(done),
                // The wall clock was set.
                None if clock.monotonic() < at => {}
                None => return Err(self.too_late(timeout, wait)),
            }
        }
    }

    /// The error for a wait whose time is up.
    fn too_late(&self, timeout: Duration, wait: &Shared) -> Error {
        let error = self.state().error.clone();
        error.filter(|_| !wait.heard.load(Relaxed)).unwrap_or(Error::TimedOut(timeout))
    }

    /// The wait of somebody who does not want to wait.
    async fn look_once(&self, ids: &[JobId], mut done: impl FnMut(usize, Record) + Send) -> Result<()> {
        let (mut late, mut lost) = (false, None);
        let mut results = Results::new(&*self.backend);
        let detail = if ids.len() > 1 { Detail::Status } else { Detail::Result };
        for (chunk, first) in ids.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            let lookups = self.backend.get(chunk.to_vec(), detail).await?;
            let mut over = Vec::new();
            for ((id, lookup), index) in chunk.iter().zip(lookups).zip(first..) {
                // Whoever waits goes on waiting for one of which there is no record yet.
                if matches!(lookup, Lookup::Unrecorded { .. }) {
                    late = true;
                    continue;
                }
                match lookup.into_record(id) {
                    Ok(record) if Results::is_without(&record) => over.push((index, record)),
                    Ok(record) if record.status.is_terminal() => done(index, record),
                    Ok(_) => late = true,
                    Err(error) => lost = lost.or(Some(error)),
                }
            }
            while !over.is_empty() {
                let rest = over.split_off(over.len().min(results.portion()));
                match results.look_up(mem::replace(&mut over, rest), &mut done).await {
                    Ok(aside) if aside.is_empty() => {}
                    Ok(_) => lost = lost.or(results.failure()),
                    Err(error) => lost = lost.or(Some(error)),
                }
            }
        }
        match lost {
            Some(error) => Err(error),
            None if late => Err(Error::TimedOut(Duration::ZERO)),
            None => Ok(()),
        }
    }

    fn register(self: &Arc<Self>, ids: &[JobId], which: &HashSet<usize>) -> Result<Registration<'_>> {
        let (sender, answers) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { answers: sender, heard: AtomicBool::new(false) });
        let since = self.backend.clock().monotonic();
        let mut state = self.state();
        if !state.running {
            self.start()?;
            state.running = true;
        }
        let wait = state.number();
        let mut registered = HashSet::with_capacity(which.len());
        for (index, id) in ids.iter().enumerate().filter(|(index, _)| which.contains(index)) {
            let number = state.number();
            let new = || Watched {
                number,
                waits: Vec::new(),
                since,
                due: None,
                pause: Duration::ZERO,
                unrecorded: None,
            };
            let watched = state.jobs.entry(id.clone()).or_insert_with(new);
            watched.waits.push(Waiting { wait, index, shared: shared.clone() });
            // The pause follows the age of the youngest wait.
            (watched.since, watched.pause) = (since, Duration::ZERO);
            let first = watched.number == number;
            if first {
                state.order.insert(number, id.clone());
            }
            if registered.insert(id.clone()) {
                state.fresh.push_back(id.clone());
            }
        }
        let many = ids.len() > 1;
        state.many += usize::from(many);
        drop(state);
        self.wake.notify_one();
        Ok(Registration { hub: self, wait, ids: registered, many, answers, shared })
    }

    fn start(self: &Arc<Self>) -> Result<()> {
        let (hub, wake) = (Arc::downgrade(self), self.wake.clone());
        let cannot = |e| Error::unavailable("the system does not let the waiting thread start", e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        std::thread::Builder::new()
            .name("haulage-waits".into())
            .spawn(move || {
                let _guard = HubGuard(hub.clone());
                runtime.block_on(watch_over(hub, wake));
                runtime.shutdown_background();
            })
            .map_err(cannot)?;
        Ok(())
    }

    /// Takes the answers to a look-up of these ids in; tells how many of them
    /// are over.
    pub(super) fn tell(&self, ids: Vec<JobId>, lookups: Vec<Lookup>, polls: bool) -> usize {
        let now = self.backend.clock().monotonic();
        let mut state = self.state();
        let state = &mut *state;
        state.error = None;
        let (mut over, waits) = (0, state.jobs.len());
        for (id, lookup) in ids.into_iter().zip(lookups) {
            let Some(watched) = state.jobs.get_mut(&id) else { continue };
            let look_again = match &lookup {
                Lookup::Found(record) => !record.status.is_terminal(),
                Lookup::Incomplete { for_good, .. } => !for_good,
                Lookup::Expired | Lookup::Missing => false,
                // As long as its message can still bring it.
                Lookup::Unrecorded { within } => {
                    now.saturating_sub(*watched.unrecorded.get_or_insert(now)) < *within
                }
            };
            if let Lookup::Incomplete { message, .. } = &lookup {
                state.error = Some(Error::Unavailable { message: message.clone(), source: None });
            } else {
                for waiting in &watched.waits {
                    waiting.shared.heard.store(true, Relaxed);
                }
            }
            if !look_again {
                over += 1;
                let answer = lookup.into_record(&id);
                state.answer(&id, &answer);
            } else if polls {
                watched.pause = pauses::next(watched.pause, now.saturating_sub(watched.since), waits);
                let due = pauses::in_step(now + watched.pause, watched.pause);
                watched.due = Some(due);
                state.due.entry(due).or_default().push(id);
            }
        }
        over
    }
}

impl WaiterState {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// What to look up of those that are waited for.
    pub(super) fn detail(&self) -> Detail {
        if self.many > 0 { Detail::Status } else { Detail::Result }
    }

    pub(super) fn is_watched(&self, id: &JobId) -> bool {
        self.jobs.contains_key(id)
    }

    /// Whether this is when the job is to be looked at.
    pub(super) fn is_due_at(&self, id: &JobId, moment: Duration) -> bool {
        self.jobs.get(id).is_some_and(|watched| watched.due == Some(moment))
    }

    fn forget(&mut self, id: &JobId) -> Option<Watched> {
        let watched = self.jobs.remove(id)?;
        self.order.remove(&watched.number);
        Some(watched)
    }

    /// Tells everybody who waits for this job, who then waits no more.
    pub(super) fn answer(&mut self, id: &JobId, answer: &Result<Record>) {
        for waiting in self.forget(id).into_iter().flat_map(|watched| watched.waits) {
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
    /// Whether it looks results up by itself.
    many: bool,
    answers: mpsc::UnboundedReceiver<(usize, Result<Record>)>,
    shared: Arc<Shared>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.many -= usize::from(self.many);
        for id in &self.ids {
            if let Some(watched) = state.jobs.get_mut(id) {
                watched.waits.retain(|waiting| waiting.wait != self.wait);
                if watched.waits.is_empty() {
                    state.forget(id);
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
struct HubGuard(Weak<Hub>);

impl Drop for HubGuard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(hub) = self.0.upgrade()
        {
            let mut state = hub.state();
            state.running = false;
            // Those who wait see their channel end, and start over.
            state.jobs.clear();
            state.order.clear();
        }
    }
}
