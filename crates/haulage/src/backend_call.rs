//! A call to the backend that is under way.

use tokio::task::JoinHandle;

use crate::{Error, Result, panic};

/// Runs on its own, so that it gets on whatever else the engine waits for, and
/// a panic in the backend ends no more than the one call.
#[derive(Debug)]
pub(crate) struct BackendCall<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> BackendCall<T> {
    pub(crate) fn send(call: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(tokio::spawn(call))
    }

    /// Waits for the answer. May be dropped and called again before it came.
    pub(crate) async fn answer(&mut self) -> Result<T> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(e) => {
                let message = match e.try_into_panic() {
                    Ok(panic) => format!("the backend panicked: {}", panic::message(&*panic)),
                    Err(e) => format!("the backend's call was dropped: {e}"),
                };
                Err(Error::Unavailable { message, source: None })
            }
        }
    }
}
