//! Where Python's threads take the calls that they carry out.
//!
//! Threads are started as they are needed, one ahead: there is always one
//! that waits for the next call, or is on its way, until there are as many as
//! there may be. So handlers that wait for something outside run side by side,
//! while those that only compute in Python, of which one runs at a time, are
//! run by the thread that has the interpreter, without switches in between.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use haulage::consumer::Call as CoreCall;
use pyo3::prelude::*;

use crate::{call::Call, convert, process};

#[derive(Default)]
struct CallQueueState {
    calls: VecDeque<CoreCall>,
    /// How many threads there are, and may be.
    threads: usize,
    max_threads: usize,
    /// How many of them wait here.
    idle: usize,
    /// How many are on their way here, and will look.
    coming: usize,
    /// How many that wait have been told to come.
    told: usize,
    /// Somebody takes calls without being told.
    polled: bool,
    closed: bool,
}

impl CallQueueState {
    /// Sees to it that some thread comes, if one waits here.
    fn wake(&mut self, ready: &Condvar) {
        if self.coming == 0 && self.idle > 0 {
            self.idle -= 1;
            self.coming += 1;
            self.told += 1;
            ready.notify_one();
        }
    }
}

pub(crate) struct Inner {
    state: Mutex<CallQueueState>,
    ready: Condvar,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, CallQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for the interpreter.
    pub(crate) fn push(&self, call: CoreCall) {
        let mut state = self.lock();
        // Dropped where it is closed, and so given back.
        if !state.closed {
            state.calls.push_back(call);
            state.wake(&self.ready);
            if state.polled {
                self.ready.notify_one();
            }
        }
    }

    /// Sends the threads home; calls that nobody has taken are given back.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        self.ready.notify_all();
        drop(calls);
    }
}

/// A queue of calls.
#[pyclass(frozen, module = "haulage._haulage")]
pub(crate) struct CallQueue {
    pub(crate) inner: Arc<Inner>,
    start_thread: Py<PyAny>,
}

#[pymethods]
impl CallQueue {
    /// For up to so many threads; the function starts one, which is to call
    /// `take(True)` first. One is started at once.
    #[new]
    fn new(max_threads: usize, start_thread: Py<PyAny>) -> Self {
        let state = CallQueueState { threads: 1, coming: 1, max_threads, ..CallQueueState::default() };
        let inner = Arc::new(Inner { state: Mutex::new(state), ready: Condvar::new() });
        Self { inner, start_thread }
    }

    /// For a thread that takes calls with `take_for` only, in place of `take(True)`.
    fn enter(&self) {
        let mut state = self.inner.lock();
        state.coming -= 1;
        state.polled = true;
    }

    /// The next call, if there is one within so many seconds.
    fn take_for(&self, py: Python<'_>, seconds: f64) -> PyResult<Option<Call>> {
        let until = Instant::now() + convert::duration_of("seconds", seconds)?;
        Ok(py.detach(|| {
            let mut state = self.inner.lock();
            loop {
                let left = until.saturating_duration_since(Instant::now());
                let call = state.calls.pop_front();
                if call.is_some() || state.closed || left.is_zero() {
                    drop(state);
                    process::before_attaching();
                    return call.map(Call::new);
                }
                state = self.inner.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }))
    }

    /// The next call, when there is one; `None` when there will be no more.
    fn take(&self, py: Python<'_>, fresh: bool) -> PyResult<Option<Call>> {
        let inner = &self.inner;
        let mut coming = fresh;
        loop {
            let mut state = inner.lock();
            if std::mem::take(&mut coming) {
                state.coming -= 1;
            }
            if state.closed {
                state.threads -= 1;
                return Ok(None);
            }
            if let Some(call) = state.calls.pop_front() {
                if !state.calls.is_empty() {
                    state.wake(&inner.ready);
                }
                let start = state.coming == 0 && state.idle == 0 && state.threads < state.max_threads;
                if start {
                    state.threads += 1;
                    state.coming += 1;
                }
                drop(state);
                if start && let Err(error) = self.start_thread.call0(py) {
                    // The threads that there are go on; the next call tries again.
                    let mut state = inner.lock();
                    state.threads -= 1;
                    state.coming -= 1;
                    drop(state);
                    error.write_unraisable(py, None);
                }
                return Ok(Some(Call::new(call)));
            }
            drop(state);
            py.detach(|| {
                let mut state = inner.lock();
                if state.calls.is_empty() && !state.closed {
                    state.idle += 1;
                    while state.told == 0 && !state.closed {
                        state = inner.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    if state.told > 0 {
                        state.told -= 1;
                        coming = true;
                    } else {
                        state.idle -= 1;
                    }
                }
                drop(state);
                process::before_attaching();
            });
        }
    }

    /// One of the threads will not come back for long: there may be another one, which is about to
    /// come, with `take(True)`.
    fn replace(&self) {
        let mut state = self.inner.lock();
        state.max_threads += 1;
        state.threads += 1;
        state.coming += 1;
    }

    /// The thread that was replaced goes home.
    fn leave(&self) {
        let mut state = self.inner.lock();
        state.max_threads -= 1;
        state.threads -= 1;
    }

    /// Sends the threads home.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}

impl fmt::Debug for CallQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallQueue").field("waiting", &self.inner.lock().calls.len()).finish_non_exhaustive()
    }
}
