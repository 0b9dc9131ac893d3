//! When a consumer asks for work, and when it does not.

use tokio::time::timeout;

use super::*;
use crate::{Error, memory::MemoryBackend};

const MILLISECOND: Duration = Duration::from_millis(1);

struct Asking {
    backend: Arc<dyn Backend>,
    claims: Claims,
}

impl Asking {
    fn new(wait: Duration) -> Self {
        let claims = Claims::new(Duration::from_secs(30), wait, "w-1".into(), Queues::default());
        Self { backend: Arc::new(MemoryBackend::new()), claims }
    }

    /// Asks, if it is time to; whether a claim is under way.
    fn start(&mut self, room: usize) -> bool {
        self.claims.start(room, &self.backend);
        self.claims.is_pending()
    }

    fn is_stopped(&self) -> bool {
        self.claims.pending.as_ref().expect("a claim is under way").stop.is_cancelled()
    }

    /// The next claim goes out after this time, and not before.
    async fn waits_for(&mut self, wait: Duration) {
        let mut deadlines = Deadlines::default();
        self.claims.deadlines(1, &mut deadlines);
        let before = Instant::now();
        if !wait.is_zero() {
            assert!(!self.start(1), "not before {wait:?}");
            deadlines.wait(self.backend.clock()).await;
        }
        let waited = before.elapsed();
        // Timers count whole milliseconds.
        assert!((wait..=wait + MILLISECOND).contains(&waited), "{waited:?}, not {wait:?}");
        assert!(self.start(1), "after {wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_is_asked_less_and_less() {
    let mut asking = Asking::new(Duration::from_secs(20));
    assert!(asking.start(1));
    for millis in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        let error = Error::Unavailable { message: "down".into(), source: None };
        assert!(asking.claims.answered(Err(error)).is_empty());
        assert!(asking.claims.join(1).is_none(), "no settle is to wait for it");
        asking.waits_for(Duration::from_millis(millis)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_wait_is_not_asked_in_a_tight_loop() {
    for (wait, pause) in [(20_000, 20), (5, 5)] {
        let mut asking = Asking::new(Duration::from_millis(wait));
        assert!(asking.start(1));
        for _ in 0..3 {
            assert!(asking.claims.answered(Ok(Vec::new())).is_empty());
            asking.waits_for(Duration::from_millis(pause)).await;
        }
        // One that has waited is asked again at once.
        tokio::time::advance(Duration::from_millis(wait)).await;
        assert!(asking.claims.answered(Ok(Vec::new())).is_empty());
        asking.waits_for(Duration::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_broken_off_only_for_less_room_and_made_again_at_once() {
    let mut asking = Asking::new(Duration::from_secs(20));
    for room in [3, 4, 3] {
        assert!(asking.start(room));
        assert!(!asking.is_stopped());
    }
    asking.start(2);
    assert!(asking.is_stopped());
    assert!(asking.claims.answered(Ok(Vec::new())).is_empty());
    assert!(asking.start(2));
    assert_eq!(asking.claims.pending.expect("a claim is under way").max, 2);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_went_along_with_a_settle_holds_up_no_other() {
    let mut asking = Asking::new(Duration::from_secs(20));
    assert!(asking.claims.join(0).is_none());
    let Joined { request, claimed } = asking.claims.join(2).expect("nothing speaks against it");
    assert_eq!((request.max, request.worker.as_str()), (2, "w-1"));
    assert!(asking.claims.join(2).is_none(), "one at a time");
    claimed.send(Vec::new()).expect("it is waited for");
    let answer = asking.claims.answer().await;
    assert!(asking.claims.answered(answer).is_empty());
    asking.waits_for(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn without_room_there_is_nothing_to_wake_up_for() {
    let mut asking = Asking::new(Duration::from_secs(20));
    assert!(!asking.start(0));
    let mut deadlines = Deadlines::default();
    asking.claims.deadlines(0, &mut deadlines);
    let woken = timeout(Duration::from_secs(3_600), deadlines.wait(asking.backend.clock())).await;
    assert!(woken.is_err());
}
