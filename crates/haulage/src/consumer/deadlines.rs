//! The next moment at which the engine has something to do.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Clock, Timestamp};

/// The earliest of many deadlines, of which some are read off the backend's
/// clock and some off the monotonic one.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    clock: Option<Timestamp>,
    real: Option<Instant>,
}

impl Deadlines {
    pub(super) fn clock(&mut self, moment: Option<Timestamp>) {
        self.clock = [self.clock, moment].into_iter().flatten().min();
    }

    /// A moment by [`Clock::monotonic`].
    pub(super) fn monotonic(&mut self, moment: Option<Duration>, clock: &Clock) {
        self.clock(moment.map(|moment| clock.now().after(moment.saturating_sub(clock.monotonic()))));
    }

    pub(super) fn real(&mut self, moment: Option<Instant>) {
        self.real = [self.real, moment].into_iter().flatten().min();
    }

    /// Waits for the first of them.
    pub(super) async fn wait(&self, clock: &Clock) {
        let by_clock = async {
            match self.clock {
                Some(moment) => clock.sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        let by_real = async {
            match self.real {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = by_clock => {}
            () = by_real => {}
        }
    }
}
