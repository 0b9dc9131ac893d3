//! Who waits for a job, and who of them is called when there is one.
//!
//! A job needs one worker: if all that wait looked for it, each in a transaction
//! of its own, a crowd of them would cost more than the work. So as many are called
//! as jobs became ready, of this process first, then of others, where the one that
//! has waited for longest comes first. Who is called and takes nothing, as it has
//! been told to stop, calls the next; so does who takes jobs and leaves others.
//!
//! A call that gets lost with the process that was called costs no more than time: of
//! those of a process who wait for the same queues, one watches, which looks by itself each
//! few seconds. What it would find, so would the others; where it leaves, another one looks
//! and watches.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::Notify;

use super::sys::{SharedPage, Waited};
use crate::QueueName;

/// How long the thread sleeps at most; what is meant for it wakes it.
const LONG: Duration = Duration::from_secs(3600);
/// What the log is told where the system gives no thread to listen.
pub(super) const NO_LISTENER: &str = "no thread for wake-ups from other processes; they will take seconds";

/// For which queues a call is, or a wait. Each queue has one of 32 bits, which
/// the kernel knows those by who wait; the default queue has one for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask(u32);

impl Mask {
    pub(super) const ALL: Self = Self(u32::MAX);

    pub(super) const fn at(bit: usize) -> Self {
        Self(1 << bit)
    }

    pub(super) fn of(queue: &QueueName) -> Self {
        if queue.is_default() {
            return Self::at(0);
        }
        // FNV-1a, as all processes have to agree.
        let hash = queue.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::at(1 + (hash % 31) as usize)
    }

    pub(super) fn of_all<'a>(queues: impl IntoIterator<Item = &'a QueueName>) -> Self {
        Self(queues.into_iter().fold(0, |bits, queue| bits | Self::of(queue).0))
    }

    /// The one bit of a queue.
    pub(super) const fn bit(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    const NONE: Self = Self(0);

    /// The queues, or what stands for them, one by one.
    fn each(self) -> impl Iterator<Item = Self> {
        (0..32).map(Self::at).filter(move |one| one.meets(self))
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Those of this process who wait for jobs.
#[derive(Debug)]
pub(super) struct Roster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    page: Arc<SharedPage>,
    /// The word that grows when jobs become ready.
    word: usize,
    state: Mutex<RosterState>,
    /// Somebody waits, or it is all over.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RosterState {
    /// Who waits and has not been called.
    entries: VecDeque<Arc<Entry>>,
    /// The lists of queues for which somebody watches.
    watched: HashSet<Arc<[QueueName]>>,
    /// Whether there is a thread that listens to other processes.
    listening: bool,
    /// What the thread listens for: all that anybody here has waited for.
    bits: u32,
    over: bool,
    /// What the word said when a call was passed on that was of no use here.
    passed: Option<u32>,
    /// The same of one that may have been for queues for which nobody waits here.
    handed_on: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    queues: Mask,
    list: Arc<[QueueName]>,
    watches: bool,
    /// What the word said before it looked.
    seen: u32,
    called: AtomicBool,
    notify: Notify,
    /// Whether the thread has not begun to listen since it came.
    fresh: AtomicBool,
}

impl Roster {
    pub(super) fn new(page: Arc<SharedPage>, word: usize) -> Self {
        Self(Arc::new(Shared { page, word, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// So many jobs of these queues are ready.
    pub(super) fn call(&self, queues: Mask, jobs: u32) {
        self.0.page.word(self.0.word).fetch_add(1, Ordering::Release);
        self.0.call(queues, jobs);
    }

    /// All of this process look, and see that it is over.
    pub(super) fn call_all_here(&self) {
        let mut state = self.0.state();
        while state.call_one(Mask::ALL) {}
    }

    pub(super) fn place(&self, queues: Mask, list: Arc<[QueueName]>) -> RosterPlace {
        RosterPlace { shared: Arc::clone(&self.0), queues, list, watches: false, seen: 0, owes: false }
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.over = true;
        self.0.changed.notify_all();
        if state.listening {
            self.0.wake_listener();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, RosterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u32 {
        self.page.word(self.word).load(Ordering::Acquire)
    }

    fn call(&self, queues: Mask, mut count: u32) {
        let mut state = self.state();
        while count > 0 && state.call_one(queues) {
            count -= 1;
        }
        drop(state);
        if count > 0 {
            self.page.wake(self.word, queues.0, count);
        }
    }

    /// One job is ready in any of these queues: for each of them somebody is called,
    /// as who waits for one may not serve the others.
    fn call_for_each(&self, queues: Mask) {
        queues.each().for_each(|queue| self.call(queue, 1));
    }

    /// Another process has called for one of these queues, nobody knows for which.
    fn heard(&self, queues: Mask) {
        let mut state = self.state();
        let served = state.call_each();
        let others = queues.without(served);
        // Between processes that each serve a part, a call would go to and fro.
        let now = self.now();
        let known = served != Mask::NONE && state.handed_on == Some(now);
        if known || others == Mask::NONE {
            return;
        }
        state.handed_on = Some(now);
        drop(state);
        // Those who waited here do so no more: it may have been meant for others.
        others.each().for_each(|queue| self.page.wake(self.word, queue.0, 1));
    }

    /// Lets the thread of this process look at what has changed. It cannot be woken
    /// alone, so this is for what happens rarely.
    fn wake_listener(&self) {
        self.page.word(self.word).fetch_add(1, Ordering::Release);
        self.page.wake(self.word, u32::MAX, u32::MAX);
    }

    fn enlist(self: &Arc<Self>, place: &mut RosterPlace) -> Arc<Entry> {
        let mut state = self.state();
        // Whoever watches goes on.
        place.watches |= state.watched.insert(Arc::clone(&place.list));
        let entry = Arc::new(Entry {
            queues: place.queues,
            list: Arc::clone(&place.list),
            watches: place.watches,
            seen: place.seen,
            called: AtomicBool::new(false),
            notify: Notify::new(),
            fresh: AtomicBool::new(true),
        });
        state.entries.push_back(Arc::clone(&entry));
        let bits = state.bits | place.queues.0;
        let listens_for_less = std::mem::replace(&mut state.bits, bits) != bits;
        if state.listening && listens_for_less {
            self.wake_listener();
        }
        if !state.listening {
            let this = Arc::clone(self);
            match thread::Builder::new().name("haulage-ready".into()).spawn(move || this.listen()) {
                Ok(_) => state.listening = true,
                // It still looks every so often by itself.
                Err(error) => tracing::warn!(%error, "{NO_LISTENER}"),
            }
        }
        self.changed.notify_all();
        entry
    }

    /// What the thread does: calls somebody for each call from another process.
    fn listen(&self) {
        loop {
            let mut state = self.state();
            while state.entries.is_empty() && !state.over {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.over {
                return;
            }
            let now = self.now();
            // What came since they looked, while nobody listened, was called to nobody here.
            if state.entries.iter().any(|entry| entry.fresh.load(Ordering::Relaxed) && entry.seen != now) {
                state.call_each();
                continue;
            }
            for entry in &state.entries {
                entry.fresh.store(false, Ordering::Relaxed);
            }
            let bits = state.bits;
            drop(state);
            match self.page.wait(self.word, now, bits, LONG) {
                Waited::Woken => self.heard(Mask(bits)),
                Waited::Changed => drop(self.state().call_each()),
                Waited::Nothing => {}
            }
        }
    }
}

impl RosterState {
    /// Calls so many that each queue for which somebody waits has one of them, as nobody
    /// knows which queue it is; the queues of those.
    fn call_each(&mut self) -> Mask {
        let mut served = Mask::NONE;
        while let Some(entry) = self.call_first(|entry| entry.queues.without(served) != Mask::NONE) {
            served = served.and(entry.queues);
        }
        served
    }

    /// Calls the one that has waited for longest for any of these queues.
    fn call_one(&mut self, queues: Mask) -> bool {
        self.call_first(|entry| entry.queues.meets(queues)).is_some()
    }

    /// Who watches comes after all who wait for the same: another one would have to take over.
    fn call_first(&mut self, which: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        let is_like =
            |entry: &Entry, other: &Entry| !other.watches && other.list == entry.list && which(other);
        let comes_after =
            |entry: &Entry| entry.watches && self.entries.iter().any(|other| is_like(entry, other));
        let first = self.entries.iter().position(|entry| which(entry) && !comes_after(entry))?;
        let entry = self.entries.remove(first)?;
        entry.called.store(true, Ordering::Release);
        entry.notify.notify_one();
        Some(entry)
    }
}

/// The place of somebody who looks for jobs and waits where there are none.
#[derive(Debug)]
pub(super) struct RosterPlace {
    shared: Arc<Shared>,
    queues: Mask,
    /// All of them, of which several may have one bit.
    list: Arc<[QueueName]>,
    /// It looks by itself, for all who wait for the same.
    watches: bool,
    seen: u32,
    /// It was called, and has not looked since.
    owes: bool,
}

impl RosterPlace {
    /// To be called before each look.
    pub(super) fn begin_look(&mut self) {
        self.seen = self.shared.now();
    }

    /// It has looked, and left nothing that is ready, or what others have to look for.
    pub(super) fn looked(&mut self, left: Left) {
        let was_called = std::mem::take(&mut self.owes);
        match left {
            Left::Nothing => {}
            Left::More => self.shared.call_for_each(self.queues),
            Left::Suspects | Left::OfOthers => {
                // Once only, as nobody of those who wait may be fit for it.
                let now = self.shared.now();
                if self.shared.state().passed.replace(now) != Some(now) {
                    self.shared.call_for_each(self.queues);
                }
                // Those who are fit do not look by themselves where this one watches.
                if left == Left::Suspects && self.watches && !was_called {
                    let mut state = self.shared.state();
                    while state.call_first(|entry| entry.list == self.list).is_some() {}
                }
            }
        }
    }

    /// It waits from now on.
    pub(super) fn wait(&mut self) -> Waiting<'_> {
        let entry = Arc::clone(&self.shared).enlist(self);
        Waiting { place: self, entry }
    }
}

impl Drop for RosterPlace {
    fn drop(&mut self) {
        if self.owes {
            self.shared.call_for_each(self.queues);
        }
        let mut state = self.shared.state();
        if self.watches {
            state.watched.remove(&self.list);
        }
        // Also where it was the one to take over.
        if !state.watched.contains(&self.list) {
            let list = &self.list;
            state.call_first(|entry| entry.list == *list);
        }
    }
}

/// What a look has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Jobs that are ready.
    More,
    /// Jobs that are ready, of which whoever looked may take none for now.
    Suspects,
    /// Jobs that are ready, in queues for which whoever looked does not wait, and may have been called.
    OfOthers,
}

/// Waits to be called, until dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    place: &'a mut RosterPlace,
    entry: Arc<Entry>,
}

impl Waiting<'_> {
    /// Whether it has to look by itself now and then.
    pub(super) fn watches(&self) -> bool {
        self.entry.watches
    }

    /// Waits for something that came since the look began. May be dropped before that.
    pub(super) async fn called(&self) {
        if self.place.shared.now() == self.place.seen {
            self.entry.notify.notified().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.place.shared.state();
        state.entries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
        self.place.owes |= self.entry.called.load(Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests;
