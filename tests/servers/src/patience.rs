//! A limit that a slow machine does not reach.

use std::time::{Duration, Instant};

/// So long may a test see nothing change. It limits the time without progress,
/// not the whole, since a machine under load takes ten times as long for that.
const LIMIT: Duration = Duration::from_secs(180);

/// Waits for something that gets on step by step.
#[derive(Debug)]
pub struct Patience<T> {
    seen: T,
    since: Instant,
}

impl<T: PartialEq> Patience<T> {
    /// Begins with what there is now.
    pub fn new(seen: T) -> Self {
        Self { seen, since: Instant::now() }
    }

    /// Whether what there is now has been so for too long.
    pub fn is_over(&mut self, now: T) -> bool {
        if self.seen != now {
            *self = Self::new(now);
        }
        self.since.elapsed() > LIMIT
    }
}
