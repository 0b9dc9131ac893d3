//! Tells the backend that this worker is not ready, for whoever asks why jobs wait.

use std::{sync::Arc, time::Duration};

use tracing::debug;

use super::{builder::Settings, deadlines::Deadlines};
use crate::{Backend, Clock, Error, backend::Unready, backend_call::BackendCall};

/// What is over sooner is not told: a server that takes fewer jobs at once than it is given turns some down
/// all the time.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is told, so that two may get lost.
const EVERY: Duration = Duration::from_secs(20);
/// How long a call may take, since a consumer that stops waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// What the backend was told. That it cannot be told disturbs nobody. All deadlines are by
/// [`Clock::monotonic`].
#[derive(Debug, Default)]
pub(super) struct Notice {
    /// Since when it is not ready, and when that is to be told next.
    unready: Option<(Duration, Duration)>,
    /// The backend may know it as not ready.
    is_told: bool,
    call: Option<BackendCall<()>>,
}

impl Notice {
    /// Tells what is due. `reason`: why it is not ready; `since`: from when on, where that was not just now.
    pub(super) fn advance(
        &mut self,
        reason: Option<&Arc<str>>,
        since: Option<Duration>,
        settings: &Settings,
        backend: &Arc<dyn Backend>,
    ) {
        if !backend.capabilities().keeps_unready {
            return;
        }
        let now = backend.clock().monotonic();
        self.unready = reason.and(self.unready).or_else(|| {
            let since = reason.map(|_| since.unwrap_or(now))?;
            Some((since, since + PATIENCE))
        });
        if self.call.is_some() {
            return;
        }
        let notice = match (reason, &mut self.unready) {
            (Some(reason), Some((since, due))) if *due <= now => {
                *due = now + EVERY;
                let since = backend.clock().now().before(now.saturating_sub(*since));
                Some(Unready::new(settings.queues.names().cloned(), reason, since))
            }
            // Once: where that fails, it is forgotten before long.
            (None, _) if self.is_told => None,
            _ => return,
        };
        self.is_told = notice.is_some();
        let (backend, worker) = (Arc::clone(backend), settings.worker_name.clone());
        self.call = Some(BackendCall::send(async move {
            let told = tokio::time::timeout(LIMIT, backend.set_unready(worker, notice)).await;
            told.unwrap_or_else(|_| {
                Err(Error::Unavailable { message: format!("no answer in {LIMIT:?}"), source: None })
            })
        }));
    }

    /// Waits for the call that is under way. May be dropped and called again.
    pub(super) async fn answer(&mut self) {
        let Some(call) = &mut self.call else { return std::future::pending().await };
        if let Err(error) = call.answer().await {
            debug!(%error, "the store could not be told whether this worker is ready");
        }
        self.call = None;
    }

    /// When there is something to tell.
    pub(super) fn deadlines(&self, clock: &Clock, deadlines: &mut Deadlines) {
        let due = self.unready.filter(|_| self.call.is_none());
        deadlines.monotonic(due.map(|(_, due)| due), clock);
    }

    /// Whether nothing is left that would have to be taken back.
    pub(super) const fn is_over(&self) -> bool {
        !self.is_told && self.call.is_none()
    }
}
