//! A thread with a connection of its own, which works off what it is given.

use std::{
    convert::Infallible,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{Error, Result};

/// A thread, and the way to it. It ends when it is told to or dropped.
pub(super) struct Worker<T> {
    queue: Mutex<Option<mpsc::Sender<T>>>,
    /// Breaks when the thread is over and has dropped all that it had.
    alive: Mutex<mpsc::Receiver<Infallible>>,
    process: u32,
}

/// How long the drop of the last handle waits for the connection to close.
const PATIENCE: Duration = Duration::from_secs(5);

impl<T: Send + 'static> Worker<T> {
    pub(super) fn start(name: &str, run: impl FnOnce(mpsc::Receiver<T>) + Send + 'static) -> Result<Self> {
        let (queue, work) = mpsc::channel();
        let (alive, over) = mpsc::channel();
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                run(work);
                drop(alive);
            })
            .map_err(|e| Error::unavailable(format!("cannot start the thread {name}: {e}"), e))?;
        Ok(Self { queue: Mutex::new(Some(queue)), alive: Mutex::new(over), process: std::process::id() })
    }

    pub(super) fn send(&self, work: T) -> Result<()> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.as_ref().map(|queue| queue.send(work)) {
            Some(Ok(())) => Ok(()),
            _ => Err(Error::Unavailable {
                message: "the database was closed: nothing was stored".into(),
                source: None,
            }),
        }
    }
}

impl<T> Worker<T> {
    /// Ends the thread after what it has been given, and waits for that.
    /// Tells whether it is over.
    pub(super) fn end(&self, patience: Duration) -> bool {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        alive.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        // A forked child has this, and not the thread.
        if self.process == std::process::id() {
            self.end(PATIENCE);
        }
    }
}
