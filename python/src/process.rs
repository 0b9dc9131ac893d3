//! What there is once a process.

use std::{
    fmt,
    mem::ManuallyDrop,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::{client, consumer, errors, log};

/// Set when the interpreter ends. From then on, a thread that waits without
/// the interpreter must not come back to it: Python ends such threads.
static CLOSING: AtomicBool = AtomicBool::new(false);

/// The thread that ends the interpreter.
static ENDING: OnceLock<thread::ThreadId> = OnceLock::new();

static RUNTIME: OnceLock<(u32, Runtime)> = OnceLock::new();

/// The runtime of everything that waits. Its threads never run Python code.
pub(crate) fn runtime() -> PyResult<&'static Runtime> {
    if let Some((pid, runtime)) = RUNTIME.get() {
        check_fork(*pid)?;
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("haulage")
        .enable_all()
        .build()
        .map_err(|e| errors::unavailable(format!("cannot start a thread: {e}")))?;
    Ok(&RUNTIME.get_or_init(|| (std::process::id(), runtime)).1)
}

/// Whether this process may use what the package has begun.
pub(crate) fn check() -> PyResult<()> {
    RUNTIME.get().map_or(Ok(()), |(pid, _)| check_fork(*pid))
}

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
    static CALLBACKS: OnceLock<Sender<Py<PyAny>>> = OnceLock::new();
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

/// To be called when the interpreter ends: stops what still works, and gives
/// its jobs back.
#[pyfunction]
pub(crate) fn close(py: Python<'_>) {
    if let Some((pid, runtime)) = RUNTIME.get()
        && *pid == std::process::id()
    {
        py.detach(|| {
            consumer::stop_all(Duration::from_secs(3));
            // A database that somebody else keeps busy is left as it is.
            let closing = async { tokio::time::timeout(Duration::from_secs(3), client::close_all()).await };
            let _ = runtime.block_on(closing);
            log::close();
        });
    }
    let _ = ENDING.set(thread::current().id());
    CLOSING.store(true, Ordering::SeqCst);
}
