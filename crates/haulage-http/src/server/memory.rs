//! Room in memory for what clients send. A request is let in as a whole before it is read, so that those
//! that are being read come to their end, and the others wait.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::Problem;

/// How much of each request takes no room: most have no more.
pub(super) const FREE: usize = 64 << 10;
/// How much room there is, in bytes, unless the largest requests need more.
const ROOM: usize = 512 << 20;
/// Room is counted in so many bytes.
const UNIT: usize = 1 << 10;
/// How long a request waits for room.
const PATIENCE: Duration = Duration::from_secs(30);
/// How slowly a client may send what takes room: so long, and so many bytes a second.
const GRACE: Duration = Duration::from_secs(30);
const LEAST_RATE: u64 = 16 << 10;

/// Refuses a client that has sent no more than these bytes since then.
pub(super) fn check_rate(since: Instant, grace: Duration, bytes: usize) -> Result<(), Problem> {
    let limit = grace + Duration::from_secs(bytes as u64 / LEAST_RATE);
    if since.elapsed() <= limit {
        return Ok(());
    }
    let detail = format!("only {bytes} bytes of the body arrived in {} s", limit.as_secs());
    Err(Problem::new(408, "too_slow", "The request took too long", detail))
}

/// The room that there is.
#[derive(Debug)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    all: usize,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    taken: OwnedSemaphorePermit,
    since: Instant,
}

impl Memory {
    /// For requests that have so many bytes at most: room for two of them at least.
    pub(super) fn new(largest: usize) -> Self {
        let all = ROOM.max(largest.saturating_mul(2)).div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// Waits for room for so many bytes.
    pub(super) async fn take(&self, bytes: usize) -> Result<Room, Problem> {
        let units = u32::try_from(units(bytes).min(self.all)).unwrap_or(u32::MAX);
        let taking = Arc::clone(&self.free).acquire_many_owned(units);
        match tokio::time::timeout(PATIENCE, taking).await {
            Ok(Ok(taken)) => Ok(Room { taken, since: Instant::now() }),
            Ok(Err(_)) | Err(_) => {
                let detail = "the server has no room for more until what others send is in the store";
                Err(Problem::new(503, "busy", "Too much is sent at once", detail)
                    .remedy("send it again in a moment; nothing was lost"))
            }
        }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

impl Room {
    /// Whether there is room in it for so many bytes.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        self.taken.num_permits() >= units(bytes)
    }

    /// Gives back what is not needed for so many bytes.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let more = self.taken.num_permits().saturating_sub(units(bytes));
        drop(self.taken.split(more));
    }

    /// Begins to measure anew how fast a client sends.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Refuses a client that has sent no more than these bytes by now: others wait for the room.
    pub(super) fn check_rate(&self, bytes: usize) -> Result<(), Problem> {
        check_rate(self.since, GRACE, bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it_and_not_for_ever() {
        let memory = Memory::new(0);
        let first = memory.take(ROOM / 2).await.expect("room");
        let mut second = memory.take(ROOM / 2).await.expect("room");
        assert!(second.holds(ROOM / 2) && !second.holds(ROOM / 2 + 1));
        let third = memory.take(1).await.expect_err("none is left");
        assert_eq!((third.status, third.name()), (503, "busy"));
        second.shrink(ROOM / 4);
        let fourth = memory.take(ROOM / 4).await.expect("what was given back");
        let mut fifth = Box::pin(memory.take(usize::MAX));
        assert!((&mut fifth).now_or_never().is_none());
        drop((first, second, fourth));
        assert!(fifth.await.is_ok(), "what is larger than all of it takes all of it");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_room_and_sends_little_is_refused() {
        let room = Memory::new(0).take(ROOM).await.expect("room");
        tokio::time::advance(GRACE).await;
        assert!(room.check_rate(0).is_ok());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(room.check_rate(0).expect_err("too slow").status, 408);
        assert!(room.check_rate(10 * 16 * 1024).is_ok());
    }
}
