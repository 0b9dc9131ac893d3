//! The time of AWS, which all machines go by.
//!
//! Leases and delays are moments that one machine writes and another judges.
//! Every answer of AWS carries the time there, so a machine whose clock is off
//! finds out, and corrects for it once two answers in a row agree.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{
    config_bag::{ConfigBag, Storable, StoreReplace},
    date_time::{DateTime, Format},
};
use haulage::{Clock, Timestamp};
use tracing::warn;

/// A difference up to this is taken for none, in microseconds.
const TOLERANCE: i64 = 1_000_000;
/// The time in an answer is cut to whole seconds.
const SECOND: i64 = 1_000_000;

/// A clock that follows the server's.
#[derive(Clone, Debug)]
pub(crate) struct ServerClock {
    /// Correction to the machine's clock, in microseconds.
    correction: Arc<AtomicI64>,
    /// Between what bounds the latest answer puts the correction, if it does not
    /// agree with it. One alone may be of somebody in between.
    doubt: Arc<Mutex<Option<(i64, i64)>>>,
}

/// When a call was sent, by this machine's clock.
#[derive(Debug)]
struct SentAt(Timestamp);

impl Storable for SentAt {
    type Storer = StoreReplace<Self>;
}

fn here() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

impl ServerClock {
    /// `correction` is the first guess, in microseconds: 0, unless a test wants
    /// to begin with a wrong clock.
    pub(crate) fn new(correction: i64) -> Self {
        Self { correction: Arc::new(AtomicI64::new(correction)), doubt: Arc::default() }
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::corrected(Arc::clone(&self.correction))
    }

    /// Takes note of the time at the server, which it was at some moment between
    /// these two of this machine's.
    fn saw(&self, server: Timestamp, sent: Timestamp, received: Timestamp) {
        let (server, sent, received) = (server.as_micros(), sent.as_micros(), received.as_micros());
        // Somebody has set this machine's clock in between.
        if received < sent {
            return;
        }
        let (least, most) = (server - received - TOLERANCE, server + SECOND - sent + TOLERANCE);
        let agrees = |correction: i64| (least..=most).contains(&correction);
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        if agrees(self.correction.load(Ordering::Relaxed)) {
            *doubt = None;
            return;
        }
        match doubt.replace((least, most)) {
            Some((low, high)) if low <= most && least <= high => *doubt = None,
            _ => return,
        }
        let correction = if agrees(0) { 0 } else { i64::midpoint(least, most) };
        self.correction.store(correction, Ordering::Relaxed);
        let seconds = correction / SECOND;
        warn!(seconds, "this machine's clock differs from that of AWS; corrected for");
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "HaulageServerClock"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SentAt(here()));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(SentAt(sent)) = config.load::<SentAt>()
            && let Some(date) = context.response().headers().get("date")
            && let Ok(date) = DateTime::from_str(date, Format::HttpDate)
        {
            self.saw(Timestamp::from_micros(date.secs().saturating_mul(SECOND)), *sent, here());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that took so long, from a server whose clock is off by so much.
    fn answer(clock: &ServerClock, off_by: i64, took: i64) {
        let received = here().as_micros();
        let server = received + off_by;
        let moment = Timestamp::from_micros;
        clock.saw(
            moment(server - server.rem_euclid(SECOND)),
            moment(received - took * SECOND),
            moment(received),
        );
    }

    fn correction(clock: &ServerClock) -> i64 {
        clock.correction.load(Ordering::Relaxed)
    }

    #[test]
    fn follows_the_server() {
        for wrong in [600 * SECOND, -600 * SECOND] {
            let clock = ServerClock::new(0);
            answer(&clock, wrong, 0);
            assert_eq!(correction(&clock), 0, "one answer alone proves nothing");
            answer(&clock, wrong, 0);
            assert!((correction(&clock) - wrong).abs() <= SECOND, "{}", correction(&clock));
            answer(&clock, wrong + 100 * SECOND, 0);
            answer(&clock, wrong - 100 * SECOND, 0);
            assert!((correction(&clock) - wrong).abs() <= SECOND, "they do not agree");
            // Somebody has set this machine's clock.
            answer(&clock, 0, 0);
            answer(&clock, 0, 0);
            assert_eq!(correction(&clock), 0);
        }
    }

    #[test]
    fn ignores_fractions_and_what_is_slow() {
        let clock = ServerClock::new(0);
        for (off_by, took) in
            [(0, 0), (SECOND / 2, 0), (-SECOND / 2, 0), (-20 * SECOND, 20), (-5 * SECOND, 6)]
        {
            for _ in 0..3 {
                answer(&clock, off_by, took);
                assert_eq!(correction(&clock), 0, "off by {off_by}, took {took}");
            }
        }
    }
}
