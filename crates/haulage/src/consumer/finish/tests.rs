//! When a consumer looks whether any job is left.

use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::*;
use crate::{NewJob, memory::MemoryBackend};

/// A consumer that is to end when no job is left.
struct Looking {
    backend: Arc<dyn Backend>,
    finish: Finish,
}

impl Looking {
    fn new(outcomes: Option<watch::Receiver<u64>>) -> Self {
        let finish = Finish {
            until_empty: true,
            queues: Queues::default(),
            max_jobs: None,
            ended: 0,
            outcomes,
            idle: false,
            look_at: None,
            look: None,
            told: false,
            outage: Outage::new("look whether any job is left"),
            empty: false,
        };
        Self { backend: Arc::new(MemoryBackend::new()), finish }
    }

    /// Looks, if it is time to; whether it does.
    fn advance(&mut self, idle: bool) -> bool {
        self.finish.advance(idle, &self.backend);
        self.finish.look.is_some()
    }

    /// It looks after the pause, and not before.
    async fn looks_soon(&mut self) {
        assert!(!self.advance(true));
        let mut deadlines = Deadlines::default();
        self.finish.deadlines(&mut deadlines);
        let before = Instant::now();
        deadlines.wait(self.backend.clock()).await;
        let waited = before.elapsed();
        // Timers count whole milliseconds.
        assert!((PAUSE..=PAUSE + Duration::from_millis(1)).contains(&waited), "{waited:?}");
        assert!(self.advance(true));
    }

    fn plans_a_look(&self) -> bool {
        self.finish.look_at.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn where_outcomes_are_signalled_it_looks_once_it_is_idle_and_after_each_of_them() {
    let (sender, outcomes) = watch::channel(0);
    let mut looking = Looking::new(Some(outcomes));
    looking.backend.submit(vec![NewJob::new(&()).expect("a body")]).await.expect("submit");
    assert!(!looking.advance(false));
    sender.send_replace(1);
    assert!(unconstrained(looking.finish.signal()).now_or_never().is_none(), "it has jobs");
    looking.finish.outcomes = Some(sender.subscribe());
    looking.looks_soon().await;
    looking.finish.signal().await;
    assert!(!looking.finish.is_reached(), "there is a job");
    for outcome in 2..=3 {
        assert!(!looking.advance(true) && !looking.plans_a_look(), "it has looked");
        sender.send_replace(outcome);
        looking.finish.signal().await;
        looking.looks_soon().await;
        assert!(looking.advance(true) && !looking.plans_a_look(), "one look at a time");
        looking.finish.signal().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_signalled_it_looks_when_a_claim_has_brought_nothing() {
    let mut looking = Looking::new(None);
    looking.finish.look_soon();
    assert!(!looking.plans_a_look(), "it has jobs");
    assert!(!looking.advance(true) && !looking.plans_a_look());
    looking.finish.look_soon();
    assert!(!looking.advance(false) && !looking.plans_a_look(), "a job came");
    assert!(!looking.advance(true));
    looking.finish.look_soon();
    looking.looks_soon().await;
    assert!(!looking.finish.is_reached());
    looking.finish.signal().await;
    assert!(looking.finish.is_reached());
}
