//! Where time comes from.

use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::watch;

/// A moment in wall-clock time: microseconds since the Unix epoch.
///
/// Shown and serialised as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment `duration` later; at the end of time it stands still.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How much later than `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn to_system(self) -> SystemTime {
        // RFC 3339 has four digits for the year; the formatter refuses more.
        const YEAR_9999: u64 = 253_402_300_799_999_999;
        UNIX_EPOCH + Duration::from_micros(u64::try_from(self.0).unwrap_or(0).min(YEAR_9999))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(0).after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(self.to_system()).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(Self::from(time))
    }
}

/// The one source of time, and of waiting for it.
///
/// Everything in this crate that depends on time asks a clock, so that a test
/// can hand in a [`Clock::manual`] one and move it. A clone shares the clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Corrected(Arc<AtomicI64>),
    Manual(Arc<watch::Sender<Manual>>),
}

/// The time of a manual clock.
#[derive(Clone, Copy, Debug)]
struct Manual {
    wall: Timestamp,
    /// How far it has been moved on; setting the clock does not change it.
    passed: Duration,
}

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The machine's wall clock with a correction, in microseconds, that its
    /// owner keeps up to date: for a backend that goes by the time of a server.
    pub fn corrected(by: Arc<AtomicI64>) -> Self {
        Self(Source::Corrected(by))
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        let time = Manual { wall: start, passed: Duration::ZERO };
        Self(Source::Manual(Arc::new(watch::Sender::new(time))))
    }

    /// Whether only [`Clock::advance`] and [`Clock::set`] move it.
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => SystemTime::now().into(),
            Source::Corrected(by) => {
                let Timestamp(now) = SystemTime::now().into();
                Timestamp(now.saturating_add(by.load(Ordering::Relaxed)))
            }
            Source::Manual(time) => time.borrow().wall,
        }
    }

    /// Time that only grows, from some moment on, for measuring how long
    /// something took: the wall clock may be set meanwhile. A manual clock
    /// moves this one, too. For backends, whose waits go by it.
    pub fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match &self.0 {
            Source::System | Source::Corrected(_) => START.elapsed(),
            Source::Manual(time) => time.borrow().passed,
        }
    }

    /// Moves a manual clock on, and wakes whoever waits for a moment that has
    /// come.
    ///
    /// # Panics
    ///
    /// On the system clock, which nobody can move.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System | Source::Corrected(_) => {
                panic!("the system clock cannot be advanced; make a Clock::manual")
            }
            Source::Manual(time) => time.send_modify(|time| {
                time.wall = time.wall.after(by);
                time.passed = time.passed.saturating_add(by);
            }),
        }
    }

    /// Sets a manual clock, forward or back, as somebody sets that of a
    /// machine: no time passes.
    ///
    /// # Panics
    ///
    /// On the system clock.
    pub fn set(&self, to: Timestamp) {
        match &self.0 {
            Source::System | Source::Corrected(_) => {
                panic!("the system clock cannot be set from here; make a Clock::manual")
            }
            Source::Manual(time) => time.send_modify(|time| time.wall = to),
        }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now().after(duration)).await;
    }

    /// Waits until `moment`; no longer than it is away now, should the clock be
    /// set back meanwhile.
    pub async fn sleep_until(&self, moment: Timestamp) {
        let away = moment.since(self.now());
        match &self.0 {
            Source::System | Source::Corrected(_) => {
                // The clock may be set forward, or the machine sleep, and a
                // monotonic timer does not see that: sleep in bounded steps.
                let end = Instant::now().checked_add(away);
                loop {
                    let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
                    let left = left.min(moment.since(self.now()));
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left.min(Duration::from_secs(60))).await;
                }
            }
            Source::Manual(time) => {
                let end = self.monotonic().saturating_add(away);
                // The sender lives in `self`, so this cannot fail.
                let _ = time.subscribe().wait_for(|t| t.wall >= moment || t.passed >= end).await;
            }
        }
    }

    /// Runs `future` until `moment` at the latest; `None` when time ran out.
    pub async fn until<F: Future>(&self, moment: Timestamp, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.sleep_until(moment) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn shows_rfc3339() {
        let t = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(t.to_string(), "2023-11-14T22:13:20.123456Z");
        let json = serde_json::to_string(&t).expect("serialise");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("parse"), t);
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
    }

    #[tokio::test]
    async fn manual_time_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let moment = clock.now().after(Duration::from_secs(5));
        assert!(clock.until(clock.now(), std::future::pending::<()>()).await.is_none());
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(moment).await;
                clock.now()
            }
        });
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(2));
        assert_eq!(sleeper.await.expect("join").since(moment), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_no_wait_longer() {
        let clock = Clock::manual(Timestamp::from_micros(0).after(Duration::from_secs(7200)));
        let began = clock.monotonic();
        let sleep = clock.sleep(Duration::from_secs(10));
        tokio::pin!(sleep);
        assert!((&mut sleep).now_or_never().is_none());
        clock.set(clock.now().before(Duration::from_secs(3600)));
        clock.advance(Duration::from_secs(9));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.monotonic() - began, Duration::from_secs(10));
    }
}
