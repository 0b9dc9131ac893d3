//! A call of the core that runs on the runtime, for Python to wait for: in a
//! thread, or in an event loop.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use haulage::{Error, Record as CoreRecord, producer::SubmitManyError};
use pyo3::{IntoPyObjectExt as _, prelude::*};
use serde::Serialize;
use tokio::task::AbortHandle;

use crate::{
    convert, errors,
    process::{self, Here},
    record::Record,
};

/// How often a waiting thread looks whether a signal came in. Python runs the
/// handlers of signals in the main thread only, when that comes back to it.
const SIGNALS: Duration = Duration::from_millis(50);

/// What an operation brings: a Python value, made by whoever takes it.
type Output = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Brings what the JSON form of a value is in Python.
pub(crate) struct AsJson<T>(pub(crate) T);

impl<'py, T: Serialize> IntoPyObject<'py> for AsJson<T> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = serde_json::to_string(&self.0).map_err(|e| errors::unavailable(e.to_string()))?;
        convert::loads(py, "the answer", &json)
    }
}

/// How it may fail.
pub(crate) enum Failed {
    Core(Error),
    SubmitMany(Box<SubmitManyError>, usize),
    Bug(&'static str),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl Failed {
    fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Core(error) => errors::raise(py, &error),
            Self::SubmitMany(error, of) => errors::raise_submit_many(py, &error, of),
            Self::Bug(why) => errors::unavailable(format!("the call has no outcome: {why}")),
        }
    }
}

#[derive(Default)]
struct OperationState {
    /// Records that came in on the way, with their places.
    items: Vec<(usize, CoreRecord)>,
    end: Option<Result<Output, Failed>>,
    ended: bool,
    callback: Option<Py<PyAny>>,
}

/// Where the task tells what it has.
pub(crate) struct Shared {
    state: Mutex<OperationState>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, OperationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut OperationState)) {
        let mut state = self.lock();
        change(&mut state);
        let callback = state.callback.take();
        drop(state);
        self.changed.notify_all();
        if let Some(callback) = callback {
            process::call_soon(callback);
        }
    }

    /// A record that is there before the others.
    pub(crate) fn item(&self, index: usize, record: CoreRecord) {
        self.tell(|state| state.items.push((index, record)));
    }

    fn end(&self, end: Result<Output, Failed>) {
        self.tell(|state| {
            if !state.ended {
                state.ended = true;
                state.end = Some(end);
            }
        });
    }
}

/// Tells of the end also where the task was aborted, or panicked.
struct OperationGuard(Arc<Shared>);

impl Drop for OperationGuard {
    fn drop(&mut self) {
        self.0.end(Err(Failed::Bug("it was given up before it ended")));
    }
}

/// A call under way.
#[pyclass(frozen, module = "haulage._haulage")]
pub(crate) struct Operation {
    shared: Arc<Shared>,
    task: Here<AbortHandle>,
}

impl Operation {
    /// Starts a task.
    pub(crate) fn start<F, T>(task: F) -> PyResult<Self>
    where
        F: Future<Output = Result<T, Failed>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Self::start_with(|_| task)
    }

    /// Starts a task that brings records on the way.
    pub(crate) fn start_with<F, T>(task: impl FnOnce(Arc<Shared>) -> F) -> PyResult<Self>
    where
        F: Future<Output = Result<T, Failed>> + Send + 'static,
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let runtime = process::runtime()?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let guard = OperationGuard(shared.clone());
        let task = task(shared.clone());
        let task = runtime.spawn(async move {
            let end = task.await;
            guard.0.end(end.map(|value| Box::new(|py: Python<'_>| value.into_py_any(py)) as Output));
        });
        Ok(Self { shared, task: Here::new(task.abort_handle()) })
    }

    /// Waits until this holds, or a signal raises an exception.
    fn wait_until(&self, py: Python<'_>, ready: impl Fn(&OperationState) -> bool + Sync) -> PyResult<()> {
        self.task.get()?;
        loop {
            let done = py.detach(|| {
                let mut state = self.shared.lock();
                if !ready(&state) {
                    let waited = self.shared.changed.wait_timeout(state, SIGNALS);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                let done = ready(&state);
                drop(state);
                process::before_attaching();
                done
            });
            if done {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// The same; a signal's exception aborts the task, as nobody takes its outcome then.
    fn wait_or_abort(&self, py: Python<'_>, ready: impl Fn(&OperationState) -> bool + Sync) -> PyResult<()> {
        self.wait_until(py, ready).inspect_err(|_| self.give_up())
    }

    fn give_up(&self) {
        // In a forked child there is no such task.
        if let Ok(task) = self.task.get() {
            task.abort();
        }
    }
}

#[pymethods]
impl Operation {
    /// Waits for the end, and takes what it brought. The interpreter is free
    /// meanwhile.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.wait_or_abort(py, |state| state.ended)?;
        let end = self.shared.lock().end.take();
        end.unwrap_or(Err(Failed::Bug("its outcome was taken already"))).map_err(|failed| failed.raise(py))?(
            py,
        )
    }

    /// Waits for the end for so many seconds at most; tells whether it has come.
    /// A signal ends the wait alone: whoever waits like this decides what becomes
    /// of the rest.
    fn wait_for(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let until = Instant::now() + convert::duration_of("timeout", seconds)?;
        self.wait_until(py, |state| state.ended || Instant::now() >= until)?;
        Ok(self.shared.lock().ended)
    }

    /// Waits for records, and takes those that are there, with their places;
    /// `None` when there will be no more.
    fn wait_items(&self, py: Python<'_>) -> PyResult<Option<Vec<(usize, Record)>>> {
        self.wait_or_abort(py, |state| state.ended || !state.items.is_empty())?;
        let items = std::mem::take(&mut self.shared.lock().items);
        if items.is_empty() {
            self.wait(py)?;
            return Ok(None);
        }
        Ok(Some(items.into_iter().map(|(index, record)| (index, Record(record))).collect()))
    }

    /// Has a function called when there is news; `False` where there is some
    /// already, and the function is not called.
    fn notify(&self, callback: Py<PyAny>) -> PyResult<bool> {
        self.task.get()?;
        let mut state = self.shared.lock();
        let ready = state.ended || !state.items.is_empty();
        if !ready {
            state.callback = Some(callback);
        }
        Ok(!ready)
    }

    /// Gives it up. What it has done so far stays done.
    fn abort(&self) {
        if let Ok(task) = self.task.get() {
            self.shared.lock().callback = None;
            task.abort();
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("ended", &self.shared.lock().ended).finish_non_exhaustive()
    }
}
