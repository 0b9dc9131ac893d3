//! When heartbeats go out, and for which claims.

use super::*;
use crate::{
    JobId, Json,
    backend::{ClaimKey, Claimed},
    memory::MemoryBackend,
};

const LEASE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(10);

/// Claims, and what keeps them.
struct Keeping {
    clock: Clock,
    backend: Arc<dyn Backend>,
    table: Table,
    signal: Arc<Signal>,
    heartbeats: Heartbeats,
}

impl Keeping {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
        let heartbeats = Heartbeats::new(LEASE, INTERVAL, &clock);
        Self { clock, backend, table: Table::default(), signal: Arc::default(), heartbeats }
    }

    fn admit(&mut self, lease_left: Duration) -> u64 {
        let now = self.clock.now();
        let key = ClaimKey { id: JobId::new("job"), attempt: 1 };
        let claimed = Claimed::new(
            key,
            Json::from_stored("null"),
            crate::JobSpec::default(),
            now,
            now.after(lease_left),
        );
        self.heartbeats.admitted(claimed.lease_until, now);
        self.table.admit(claimed)
    }

    /// The claims of the round for which it is time, answered at once.
    fn round(&mut self) -> Vec<u64> {
        self.heartbeats.start(&self.table, &self.backend, &self.signal);
        let Some(round) = &self.heartbeats.round else { return Vec::new() };
        let mut beats: Vec<_> = round.beats.iter().map(|(ticket, _)| *ticket).collect();
        beats.sort_unstable();
        let until = self.clock.now().after(LEASE);
        let answer = Ok(beats.iter().map(|_| HeartbeatStatus::Held(until)).collect());
        for (ticket, _) in self.heartbeats.answered(answer, &mut self.table, &self.clock) {
            self.table.get_mut(ticket).expect("it is held").lease_until = until;
        }
        beats
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    /// If nothing else happens, there is something to do after this time.
    async fn wakes_after(&self, time: Duration) {
        let mut deadlines = Deadlines::default();
        self.heartbeats.deadlines(&self.table, &mut deadlines);
        let before = Instant::now();
        deadlines.wait(&self.clock).await;
        let passed = before.elapsed();
        // Timers count whole milliseconds.
        assert!((time..=time + Duration::from_millis(1)).contains(&passed), "{passed:?}, not {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn claims_are_extended_every_interval_and_not_more_often() {
    let mut keeping = Keeping::new();
    let ticket = keeping.admit(LEASE);
    assert!(keeping.round().is_empty(), "it was claimed just now");
    for _ in 0..3 {
        keeping.pass(INTERVAL - Duration::from_millis(1)).await;
        assert!(keeping.round().is_empty());
        keeping.pass(Duration::from_millis(1)).await;
        assert_eq!(keeping.round(), [ticket]);
        assert!(keeping.round().is_empty());
    }
    keeping.wakes_after(INTERVAL).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_would_end_soon_after_the_next_round_is_extended_in_this_one() {
    let mut keeping = Keeping::new();
    // Of a lease that is not much longer than the interval, every claim is.
    keeping.heartbeats = Heartbeats::new(INTERVAL + Duration::from_secs(1), INTERVAL, &keeping.clock);
    let soon = keeping.admit(INTERVAL + Duration::from_secs(1));
    assert_eq!(keeping.round(), [soon]);
    let mut keeping = Keeping::new();
    let (_, soon) = (keeping.admit(LEASE), keeping.admit(LEASE - INTERVAL));
    assert_eq!(keeping.round(), [soon]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_long_on_its_way_does_not_wait_for_the_next_round() {
    let mut keeping = Keeping::new();
    let first = keeping.admit(LEASE);
    assert!(keeping.round().is_empty());
    keeping.admit(INTERVAL + Duration::from_secs(1));
    assert!(keeping.round().is_empty(), "the next round is in time");
    for left in [INTERVAL, Duration::from_secs(1)] {
        let late = keeping.admit(left);
        let beats = keeping.round();
        assert!(beats.contains(&late) && !beats.contains(&first), "{beats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn updates_and_cancels_are_not_left_to_the_next_round() {
    type Want = fn(&mut Heartbeats);
    let wants: [(Want, _); 3] = [
        (|_| (), INTERVAL),
        (Heartbeats::want_update, Duration::from_secs(1)),
        (Heartbeats::want_cancels, Duration::from_millis(50)),
    ];
    for (want, gap) in wants {
        let mut keeping = Keeping::new();
        keeping.admit(LEASE);
        assert!(keeping.round().is_empty());
        keeping.heartbeats.signal.granted();
        keeping.heartbeats.cancels.granted();
        want(&mut keeping.heartbeats);
        keeping.wakes_after(gap).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_from_before_the_clock_was_set_back_is_made_shorter() {
    let mut keeping = Keeping::new();
    let (_, longer) = (keeping.admit(LEASE - Duration::from_secs(1)), keeping.admit(2 * LEASE));
    assert_eq!(keeping.round(), [longer]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_failed_is_made_again_long_before_the_next_round() {
    for (interval, wait) in [(INTERVAL, Duration::from_secs(1)), (INTERVAL / 10, INTERVAL / 40)] {
        let mut keeping = Keeping::new();
        keeping.heartbeats = Heartbeats::new(LEASE, interval, &keeping.clock);
        keeping.admit(Duration::from_secs(1));
        keeping.heartbeats.start(&keeping.table, &keeping.backend, &keeping.signal);
        assert!(keeping.heartbeats.round.is_some());
        let error = Error::Unavailable { message: "down".into(), source: None };
        assert!(keeping.heartbeats.answered(Err(error), &mut keeping.table, &keeping.clock).is_empty());
        keeping.wakes_after(wait).await;
    }
}
