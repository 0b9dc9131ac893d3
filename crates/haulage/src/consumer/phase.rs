//! How far a consumer is on its way to the end.

use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::WorkerState;

/// How long giving back what is left may take, retries included.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
/// The same where somebody wants an end at once.
const RELEASE_LIMIT_NOW: Duration = Duration::from_secs(1);
/// How long handlers that were dropped may take to be gone before their jobs
/// are given to others.
const DROP_LIMIT: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Running,
    /// No more claims; what runs may finish.
    Draining {
        /// By [`Clock::monotonic`](crate::Clock::monotonic).
        grace_ends: Duration,
    },
    /// Handlers are dropped, and what is left is given back.
    Ending {
        /// Until when to wait for dropped handlers; `None` when that is over.
        handlers_until: Option<Instant>,
        until: Instant,
    },
}

impl Phase {
    /// The end begins now.
    pub(super) fn ending(at_once: bool) -> Self {
        let handlers_until = Instant::now() + DROP_LIMIT;
        let limit = if at_once { RELEASE_LIMIT_NOW } else { RELEASE_LIMIT };
        Self::Ending { handlers_until: Some(handlers_until), until: handlers_until + limit }
    }

    /// The same, with an end that has begun brought to its own end at once.
    pub(super) fn hurried(self) -> Self {
        match self {
            Self::Ending { handlers_until, until } => {
                Self::Ending { handlers_until, until: until.min(Instant::now() + RELEASE_LIMIT_NOW) }
            }
            Self::Running | Self::Draining { .. } => self,
        }
    }

    /// What the meters are told. `answered`: the backend does as it is asked;
    /// `unready`: what there is to say where handlers lack what they need.
    pub(super) const fn state(self, answered: bool, unready: Option<WorkerState>) -> WorkerState {
        match (self, unready) {
            (Self::Running, Some(state)) => state,
            (Self::Running, None) if answered => WorkerState::Ready,
            (Self::Running, None) => WorkerState::Unreachable,
            (Self::Draining { .. } | Self::Ending { .. }, _) => WorkerState::Stopping,
        }
    }
}
