//! The time of AWS, which all machines go by.
//!
//! Leases and delays are moments that one machine writes and another judges.
//! Every answer of AWS carries the time there, so a machine whose clock is off
//! finds out, and corrects for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{
    config_bag::ConfigBag,
    date_time::{DateTime, Format},
};
use haulage::{Clock, Timestamp};
use tracing::warn;

/// A difference up to this is taken for none: the time in an answer is in whole
/// seconds and some milliseconds old.
const TOLERANCE: Duration = Duration::from_millis(1500);

/// A clock that follows the server's.
#[derive(Clone, Debug)]
pub(crate) struct ServerClock {
    /// Correction to the machine's clock, in microseconds.
    correction: Arc<AtomicI64>,
}

impl ServerClock {
    /// `correction` is the first guess, in microseconds: 0, unless a test wants
    /// to begin with a wrong clock.
    pub(crate) fn new(correction: i64) -> Self {
        Self { correction: Arc::new(AtomicI64::new(correction)) }
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::corrected(Arc::clone(&self.correction))
    }

    /// Takes note of the time at the server.
    fn saw(&self, server: Timestamp) {
        // The header is cut to whole seconds: on average it is half a second old.
        let server = server.after(Duration::from_millis(500)).as_micros();
        let here = Timestamp::from(SystemTime::now()).as_micros();
        let before = self.correction.load(Ordering::Relaxed);
        let off = server - here - before;
        if off.unsigned_abs() > TOLERANCE.as_micros() as u64 {
            let correction = server - here;
            let correction =
                if correction.unsigned_abs() > TOLERANCE.as_micros() as u64 { correction } else { 0 };
            if self.correction.swap(correction, Ordering::Relaxed) == before {
                let seconds = correction / 1_000_000;
                warn!(seconds, "this machine's clock differs from that of AWS; corrected for");
            }
        }
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "HaulageServerClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date")
            && let Ok(date) = DateTime::from_str(date, Format::HttpDate)
        {
            self.saw(Timestamp::from_micros(date.secs().saturating_mul(1_000_000)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Timestamp {
        let now = Timestamp::from(SystemTime::now()).as_micros();
        Timestamp::from_micros(now - now.rem_euclid(1_000_000))
    }

    #[test]
    fn follows_the_server_and_ignores_fractions() {
        let near = |clock: &ServerClock| {
            let off = clock.clock().now().as_micros() - Timestamp::from(SystemTime::now()).as_micros();
            off.unsigned_abs() < 1_600_000
        };
        let clock = ServerClock::new(0);
        clock.saw(server());
        assert_eq!(clock.correction.load(Ordering::Relaxed), 0, "in step");
        for wrong in [600_000_000, -600_000_000] {
            let clock = ServerClock::new(wrong);
            assert!(!near(&clock));
            clock.saw(server());
            assert!(near(&clock), "{wrong}");
        }
        let clock = ServerClock::new(0);
        clock.saw(server().before(Duration::from_secs(100)));
        let off = clock.correction.load(Ordering::Relaxed);
        assert!((-101_000_000..-98_000_000).contains(&off), "{off}");
    }
}
