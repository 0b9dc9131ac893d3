//! What the backend does last, when its consumer is idle and stops.

use std::sync::Arc;

use tracing::warn;

use crate::{Backend, backend_call::BackendCall};

/// How far it is.
#[derive(Debug, Default)]
pub(super) enum Drain {
    #[default]
    Before,
    UnderWay(BackendCall<()>),
    Over,
}

impl Drain {
    pub(super) fn start(&mut self, backend: &Arc<dyn Backend>) {
        if matches!(self, Self::Before) {
            let backend = backend.clone();
            *self = Self::UnderWay(BackendCall::send(async move { backend.drain().await }));
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Waits for its end.
    pub(super) async fn end(&mut self) {
        let Self::UnderWay(call) = self else { return std::future::pending().await };
        if let Err(error) = call.answer().await {
            warn!(%error, "what came as the consumer stopped may be hidden from others for a lease");
        }
        *self = Self::Over;
    }
}
