//! What bounds the calls of a sample, so that one that hangs hides no other.

use std::pin::pin;

use tokio::{
    sync::Semaphore,
    time::{Duration, Instant, timeout, timeout_at},
};

use crate::failure::Failure;

/// Calls that begin at once: each may open a connection, and its TLS handshake
/// takes its time on the sliver of a CPU that a small Lambda has.
const AT_ONCE: usize = 16;

/// For how long a call may keep others from beginning. One that takes longer
/// waits for AWS, and no longer for the CPU.
const BEGINNING: Duration = Duration::from_millis(500);

/// The limit of calls that are made together.
#[derive(Debug)]
pub(crate) struct Limit {
    until: Instant,
    beginning: Semaphore,
}

impl Limit {
    pub(crate) fn until(until: Instant) -> Self {
        Self { until, beginning: Semaphore::new(AT_ONCE) }
    }

    /// The answer of a call, or that it did not come in time.
    pub(crate) async fn within<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = async {
            let place = self.beginning.acquire().await;
            let mut call = pin!(call);
            match timeout(BEGINNING, &mut call).await {
                Ok(answer) => answer,
                Err(_) => {
                    drop(place);
                    call.await
                }
            }
        };
        timeout_at(self.until, answer).await.unwrap_or_else(|_| Err(Failure::late(operation)))
    }
}
