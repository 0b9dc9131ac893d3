//! The backend's own runtime.
//!
//! Calls come from the engine's thread, from the thread that waits for results, and from the
//! caller's runtime. Pooled connections belong to the runtime that made them; were that a
//! caller's, a handler that blocks it would block the heartbeats of all others.

use haulage::{Error, Result};
use tokio::runtime::Builder;

/// A runtime that can be dropped anywhere.
#[derive(Debug)]
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    pub(super) fn new() -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("haulage-http").enable_all();
        let runtime =
            builder.build().map_err(|e| Error::unavailable(format!("cannot start a thread: {e}"), e))?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }

    /// Runs a task there, and brings its answer back. It goes on if nobody waits for it
    /// any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match &self.0 {
            Some(runtime) => runtime
                .spawn(task)
                .await
                .unwrap_or_else(|e| Err(Error::unavailable(format!("a call to the server failed: {e}"), e))),
            None => Err(Error::Unavailable { message: "the backend is closed".into(), source: None }),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
