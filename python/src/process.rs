//! What there is once a process.

use std::{
    fmt,
    mem::ManuallyDrop,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicPtr, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::errors;

/// Set when the interpreter ends. From then on, a thread that waits without
/// the interpreter must not come back to it: Python ends such threads.
static CLOSING: AtomicBool = AtomicBool::new(false);

/// The thread that ends the interpreter.
static ENDING: OnceLock<thread::ThreadId> = OnceLock::new();

static RUNTIME: PerProcess<Runtime> = PerProcess::new();

/// Something that there is once a process. A forked child gets one of its
/// own: threads of its parent's are not there, and locks may be held for ever.
pub(crate) struct PerProcess<T>(AtomicPtr<(u32, T)>);

impl<T: Send + Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Where there is one.
    #[allow(unsafe_code)]
    pub(crate) fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or from `Box::into_raw` below, and never freed once it is here.
        let (pid, value) = unsafe { self.0.load(Ordering::Acquire).as_ref() }?;
        (*pid == std::process::id()).then_some(value)
    }

    /// The same, made where there is none. Of several that make one at the same time, one is kept.
    #[allow(unsafe_code)]
    pub(crate) fn get_or_try_init(&self, make: impl FnOnce() -> PyResult<T>) -> PyResult<&'static T> {
        let known = self.0.load(Ordering::Acquire);
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let made = Box::into_raw(Box::new((std::process::id(), make()?)));
        let kept = match self.0.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
            // The parent's stays where it is: to drop it would be to use it.
            Ok(_) => made,
            Err(other) => {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        };
        // SAFETY: as in `get`; another that came first is of this process, too.
        Ok(unsafe { &(*kept).1 })
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &'static T {
        self.get_or_try_init(|| Ok(make())).unwrap_or_else(|_| unreachable!("nothing fails here"))
    }
}

/// The runtime of everything that waits. Its threads never run Python code.
pub(crate) fn runtime() -> PyResult<&'static Runtime> {
    RUNTIME.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("haulage")
            .enable_all()
            .build()
            .map_err(|e| errors::unavailable(format!("cannot start a thread: {e}")))
    })
}

/// The same, if anything has waited yet.
pub(crate) fn started_runtime() -> Option<&'static Runtime> {
    RUNTIME.get()
}

/// Whether this is the process that made something.
fn check_fork(pid: u32) -> PyResult<()> {
    if pid == std::process::id() { Ok(()) } else { Err(errors::forked()) }
}

/// Something that only the process that made it can use: after a fork, its
/// threads are not there, and its database connections must not be touched.
pub(crate) struct Here<T> {
    pid: u32,
    value: ManuallyDrop<T>,
}

impl<T> Here<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { pid: std::process::id(), value: ManuallyDrop::new(value) }
    }

    pub(crate) fn get(&self) -> PyResult<&T> {
        check_fork(self.pid)?;
        Ok(&self.value)
    }
}

impl<T> Drop for Here<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            // SAFETY: nobody uses the value after this, the only drop.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<T> fmt::Debug for Here<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Before a thread goes back to the interpreter: where that is ending, it
/// stays here, until the process is gone. The thread that ends it passes.
pub(crate) fn before_attaching() {
    while CLOSING.load(Ordering::SeqCst) && ENDING.get() != Some(&thread::current().id()) {
        thread::park();
    }
}

/// Calls Python functions without arguments from the threads of the runtime,
/// which must not wait for the interpreter: one thread does it for all.
pub(crate) fn call_soon(callback: Py<PyAny>) {
    static CALLBACKS: PerProcess<Sender<Py<PyAny>>> = PerProcess::new();
    let callbacks = CALLBACKS.get_or_init(|| {
        let (sender, inbox) = channel::<Py<PyAny>>();
        // Without a thread, whoever waits looks again by themselves.
        let _ = thread::Builder::new().name("haulage-callbacks".into()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                if CLOSING.load(Ordering::SeqCst) {
                    std::mem::forget(first);
                    return;
                }
                let done = Python::try_attach(|py| {
                    for callback in std::iter::once(first).chain(inbox.try_iter()) {
                        // It fails where its event loop is closed: nobody waits any more.
                        let _ = callback.call0(py);
                    }
                });
                if done.is_none() {
                    return;
                }
            }
        });
        sender
    });
    let _ = callbacks.send(callback);
}

/// From now on, no thread but this one goes back to the interpreter.
pub(crate) fn end() {
    let _ = ENDING.set(thread::current().id());
    CLOSING.store(true, Ordering::SeqCst);
}
