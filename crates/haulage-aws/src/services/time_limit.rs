//! For how long what is done for one job may take.

use std::time::Duration;

use haulage::{Error, Result};

/// A call for one job may take a part of its lease, but at least so long.
pub(crate) const LEAST: Duration = Duration::from_secs(1);
/// A lease that ends so soon is waited for, as SQS counts in whole seconds.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// Waits for a call for so long. `what` completes "… within 10s".
pub(crate) async fn within<T>(
    limit: Duration,
    what: impl FnOnce() -> String,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let message = format!("{} within {}", what(), humantime::format_duration(limit));
        Err(Error::Unavailable { message, source: None })
    })
}
