//! The user's hook, which hears of every event.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tracing::error;

use crate::{event::Event, panic};

#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<dyn Fn(&Event) + Send + Sync>);

impl Hook {
    pub(super) fn tell(&self, event: &Event) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.0)(event))) {
            error!(panic = panic::message(&*panic), "the event hook panicked");
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}
