//! The backend's own runtime.
//!
//! Calls come from the engine's thread, from the thread that waits for
//! results, and from the caller's runtime. Pooled connections belong to the
//! runtime that made them; were that a caller's, a handler that blocks it
//! would block the heartbeats of all others.

use std::{future::Future, sync::Arc};

use haulage::{Error, Result};
use tokio::{runtime::Builder, task::JoinHandle};

/// A runtime that can be dropped anywhere.
#[derive(Debug)]
pub(crate) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    pub(crate) fn new() -> Result<Arc<Self>> {
        // Two threads: one may be busy with signing and parsing while the other waits.
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("haulage-aws").enable_all();
        let runtime =
            builder.build().map_err(|e| Error::unavailable(format!("cannot start a thread: {e}"), e))?;
        Ok(Arc::new(Self(Some(runtime))))
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().expect("only drop takes it away").spawn(task)
    }

    /// Runs a task there, and brings its answer back. It goes on if nobody
    /// waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.spawn(task)
            .await
            .unwrap_or_else(|e| Err(Error::unavailable(format!("the AWS backend failed: {e}"), e)))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
