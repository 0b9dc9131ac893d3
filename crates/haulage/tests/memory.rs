//! The memory backend passes the suite.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Clock, Timestamp,
    conformance::{self, Subject},
    memory::MemoryBackend,
};

/// On a clock that only the suite moves, or on that of the machine.
struct Memory {
    max_payload: usize,
    is_manual: bool,
}

impl Memory {
    const UNLIMITED: Self = Self { max_payload: usize::MAX, is_manual: true };
}

#[async_trait::async_trait]
impl Subject for Memory {
    async fn fresh(&self) -> Arc<dyn Backend> {
        let start = Timestamp::from_micros(1_800_000_000_000_000);
        let clock = if self.is_manual { Clock::manual(start) } else { Clock::system() };
        Arc::new(MemoryBackend::with_clock(clock).max_payload(self.max_payload))
    }

    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn pass(&self, backend: &dyn Backend, by: Duration) {
        backend.clock().advance(by);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    conformance::run(&Memory::UNLIMITED).await.assert_ok();
}

#[test]
fn agrees_with_the_model() {
    conformance::run_model(&Memory::UNLIMITED, 256);
}

/// As the model is compared with a queue that is elsewhere.
#[test]
fn agrees_with_the_model_on_the_machines_clock() {
    conformance::run_model(&Memory { is_manual: false, ..Memory::UNLIMITED }, 64);
}

#[tokio::test]
async fn conforms_on_one_thread_and_with_a_payload_limit() {
    conformance::run(&Memory { max_payload: 1 << 20, ..Memory::UNLIMITED }).await.assert_ok();
}
