//! A limit to what waits: whoever submits more is told to come back later.

use std::{collections::BTreeMap, time::Duration};

use haulage::{Backend, NewJob, QueueName};
use tokio::{sync::Mutex, time::Instant};

use crate::Problem;

/// How old a count may be. What was let in since is added to it.
const FRESH: Duration = Duration::from_millis(500);
/// When to come back.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How many jobs may wait in each queue.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    limit: Option<u64>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    at: Option<Instant>,
    waiting: BTreeMap<QueueName, u64>,
}

impl Pressure {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, counted: Mutex::default() }
    }

    /// Lets jobs in, all of them or none.
    pub(super) async fn admit<'a>(
        &self,
        backend: &dyn Backend,
        jobs: impl Iterator<Item = &'a NewJob>,
    ) -> Result<(), Problem> {
        let Some(limit) = self.limit else { return Ok(()) };
        let mut more: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for job in jobs {
            *more.entry(&job.spec.queue).or_default() += 1;
        }
        let mut counted = self.counted.lock().await;
        if counted.at.is_none_or(|at| at.elapsed() >= FRESH) {
            let queues = backend.backlog().await?.queues;
            counted.waiting =
                queues.into_iter().map(|(queue, count)| (queue, count.visible + count.delayed)).collect();
            counted.at = Some(Instant::now());
        }
        for (queue, count) in &more {
            let waiting = counted.waiting.get(*queue).copied().unwrap_or(0);
            if waiting.saturating_add(*count) > limit {
                let detail = format!(
                    "{waiting} jobs are waiting in the queue {queue}; with {count} more they would pass the limit \
                     of {limit}"
                );
                return Err(Problem::new(429, "too_many_waiting", "Too many jobs wait", detail)
                    .field("queue")
                    .remedy("submit again later"));
            }
        }
        for (queue, count) in more {
            *counted.waiting.entry(queue.clone()).or_default() += count;
        }
        Ok(())
    }
}
