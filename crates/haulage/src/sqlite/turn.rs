//! Whose turn it is to write.
//!
//! SQLite's own lock keeps the writers of several processes apart, by polling:
//! who comes straight back finds it free, and others starve. So they queue at
//! a lock on the wake file first, which the kernel hands on. Who waits for it
//! holds a turnstile, so that a writer who comes straight back cannot overtake.
//!
//! This is for fairness and speed alone. Where the line does not move, because
//! a process in it is stopped, or somebody else has locked the file, a writer
//! leaves it, and takes its chances with SQLite's lock.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    sys::{self, Lock},
    wake::{Wake, Word},
};

const TURNSTILE: i64 = 0;
const TURN: i64 = 1;

/// How long a writer stays in a line in which nobody gets a turn. A turn takes
/// milliseconds, and one of those that wait for a slow disk a tenth of a second.
const PATIENCE: Duration = Duration::from_millis(250);

/// The place of one writer in the line.
#[derive(Debug)]
pub(super) struct Turns {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    wake: Arc<Wake>,
    state: Mutex<TurnState>,
    changed: Condvar,
}

/// What the thread is doing that waits where the writer must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnState {
    /// There is no such thread.
    None,
    /// It has nothing to do.
    Idle,
    /// It waits for the turn; with the turnstile in hand already, or not.
    Waiting { at_turnstile: bool },
    /// It waits, and nobody wants the turn any more.
    Abandoned,
    /// It has the turn for the writer.
    Granted,
    /// The writer is gone.
    Over,
}

impl Turns {
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self { line: Arc::new(Line { wake, state: Mutex::new(TurnState::None), changed: Condvar::new() }) }
    }

    /// Waits for this writer's turn. `None` where the line does not move.
    pub(super) fn take(&self) -> Option<Turn<'_>> {
        let line = &*self.line;
        // Still in the line from an earlier time, which means that it stands.
        if *line.state() == TurnState::Abandoned {
            return None;
        }
        let file = line.wake.file();
        let at_turnstile = sys::lock_byte(file, TURNSTILE, Lock::Try).is_ok();
        if at_turnstile && sys::lock_byte(file, TURN, Lock::Try).is_ok() {
            let _ = sys::lock_byte(file, TURNSTILE, Lock::Free);
            return Some(Turn(line));
        }
        self.wait(at_turnstile).then_some(Turn(line))
    }

    /// Lets the other thread wait for the turn, as long as others get theirs.
    fn wait(&self, at_turnstile: bool) -> bool {
        let line = &*self.line;
        let mut state = line.state();
        if *state == TurnState::None && !self.start() {
            if at_turnstile {
                let _ = sys::lock_byte(line.wake.file(), TURNSTILE, Lock::Free);
            }
            return false;
        }
        *state = TurnState::Waiting { at_turnstile };
        line.changed.notify_all();
        let mut turns = line.wake.read(Word::Turns);
        loop {
            let waited = line.changed.wait_timeout_while(state, PATIENCE, |s| *s != TurnState::Granted);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if !timeout.timed_out() {
                *state = TurnState::Idle;
                return true;
            }
            let now = line.wake.read(Word::Turns);
            if now == turns {
                *state = TurnState::Abandoned;
                return false;
            }
            turns = now;
        }
    }

    fn start(&self) -> bool {
        let line = Arc::clone(&self.line);
        thread::Builder::new().name("haulage-turn".into()).spawn(move || line.serve()).is_ok()
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // A thread that waits in a line that stands does so until it moves, or
        // the process ends.
        *self.line.state() = TurnState::Over;
        self.line.changed.notify_all();
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does: waits when it is asked to, and hands the turn
    /// over, or gives it up where nobody wants it any more.
    fn serve(&self) {
        let mut state = self.state();
        loop {
            match *state {
                TurnState::Over => return,
                TurnState::Waiting { at_turnstile } => {
                    drop(state);
                    let taken = self.queue(at_turnstile);
                    state = self.state();
                    if taken && matches!(*state, TurnState::Waiting { .. }) {
                        *state = TurnState::Granted;
                        self.changed.notify_all();
                        continue;
                    }
                    if taken {
                        let _ = sys::lock_byte(self.wake.file(), TURN, Lock::Free);
                    }
                    match *state {
                        TurnState::Abandoned => *state = TurnState::Idle,
                        // There are no such locks here: nobody waits for them again.
                        TurnState::Waiting { .. } => *state = TurnState::Abandoned,
                        _ => {}
                    }
                }
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn queue(&self, at_turnstile: bool) -> bool {
        let file = self.wake.file();
        if !at_turnstile && sys::lock_byte(file, TURNSTILE, Lock::Wait).is_err() {
            return false;
        }
        let taken = sys::lock_byte(file, TURN, Lock::Wait);
        let _ = sys::lock_byte(file, TURNSTILE, Lock::Free);
        taken.is_ok()
    }
}

/// The writer's turn, until dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Line);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Unlocking an open file cannot fail in a way that we could mend; the
        // kernel frees the lock at the latest when the file is closed.
        let _ = sys::lock_byte(self.0.wake.file(), TURN, Lock::Free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(path: &std::path::Path) -> Turns {
        Turns::new(Arc::new(Wake::open(path).expect("open")))
    }

    /// How many of 100 turns of three writers went to the one that had the turn before.
    fn repeats() -> usize {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let (log, all_are_there) = (Mutex::new(Vec::new()), std::sync::Barrier::new(3));
        thread::scope(|scope| {
            for name in 0..3 {
                let (path, log, all_are_there) = (&path, &log, &all_are_there);
                scope.spawn(move || {
                    let turns = turns(path);
                    all_are_there.wait();
                    let mut taken = 0;
                    while taken < 50 {
                        // Where the machine stands still, so does the line.
                        let Some(turn) = turns.take() else { continue };
                        turns.line.wake.begin_turn();
                        log.lock().expect("lock").push(name);
                        taken += 1;
                        thread::sleep(Duration::from_micros(200));
                        drop(turn);
                    }
                });
            }
        });
        let log = log.into_inner().expect("lock");
        log.windows(2).take(100).filter(|w| w[0] == w[1]).count()
    }

    #[test]
    fn writers_take_turns() {
        // Without the turnstile one thread takes nearly all its turns in a row. So it does where
        // a machine under load does not let the others run.
        let mut seen = Vec::new();
        while seen.len() < 10 {
            match repeats() {
                0..50 => return,
                many => seen.push(many),
            }
        }
        panic!("so many of 100 turns went to the same writer again, in ten tries: {seen:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_stands_is_left_alone_until_it_moves() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let (stopped, goes_on) = (turns(&path), turns(&path));
        let turn = stopped.take().expect("free");
        let began = std::time::Instant::now();
        assert!(goes_on.take().is_none());
        assert!(began.elapsed() < Duration::from_secs(60), "it waited for long");
        let comes_back_at_once = || {
            let began = std::time::Instant::now();
            assert!(goes_on.take().is_none());
            began.elapsed() < PATIENCE
        };
        // A machine under load may hold this thread up for so long.
        assert!((0..20).any(|_| comes_back_at_once()), "it waited once more");
        drop(turn);
        let state = || *goes_on.line.state();
        while state() != TurnState::Idle {
            thread::yield_now();
        }
        drop(goes_on.take().expect("the line moves again"));
        drop(stopped.take().expect("and nobody kept the turn"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_thread_of_a_writer_that_is_gone_ends() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let (other, gone) = (turns(&path), turns(&path));
        let turn = other.take().expect("free");
        assert!(gone.take().is_none());
        drop(turn);
        let line = Arc::downgrade(&gone.line);
        drop(gone);
        while line.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_moves_is_waited_in_for_longer_than_one_that_stands() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let (others, waits) = (turns(&path), turns(&path));
        let try_once = || {
            let Some(turn) = others.take() else { return false };
            thread::scope(|scope| {
                let waiting = scope.spawn(|| waits.take().is_some());
                while !waiting.is_finished() && !matches!(*waits.line.state(), TurnState::Waiting { .. }) {
                    thread::yield_now();
                }
                let began = std::time::Instant::now();
                while began.elapsed() < PATIENCE * 2 {
                    others.line.wake.begin_turn();
                    thread::yield_now();
                }
                drop(turn);
                waiting.join().expect("no panic")
            })
        };
        // A machine under load may keep this thread from moving the line.
        assert!((0..20).any(|_| try_once()), "it was left though it moved");
    }
}
