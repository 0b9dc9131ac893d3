//! A limit to what waits: whoever submits more is told to come back later.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::PoisonError,
    time::Duration,
};

use haulage::{Backend, NewJob, QueueName, Result, backend::Submitted};
use ring::digest::{SHA256, digest};
use tokio::{sync::Mutex, time::Instant};

use crate::Problem;

/// How old a count may be. What was let in since is added to it.
const FRESH: Duration = Duration::from_millis(500);
/// When to come back.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The kind of problem of whoever is.
pub(super) const TOO_MANY: &str = "too_many_waiting";
/// How many idempotency keys are remembered, the last ones: some 5 MB of them.
const KEYS: usize = 65_536;

/// How many jobs may wait in each queue.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    limit: Option<u64>,
    counted: Mutex<Counted>,
    keys: std::sync::Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Counted {
    at: Option<Instant>,
    waiting: BTreeMap<QueueName, u64>,
}

/// What is kept of an idempotency key.
type Hash = [u8; 16];

/// The idempotency keys of jobs that were accepted here. Whoever submits one again adds no job, and is to hear
/// of the first one, however many wait by now.
#[derive(Debug, Default)]
struct Keys {
    /// Until when each counts.
    until: HashMap<Hash, Instant>,
    /// In the order in which they came.
    order: VecDeque<Hash>,
}

/// What was let in of a submit: the first of its jobs, as many as there was room for. So the order stays what it
/// was, also where the others are submitted again later.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) count: usize,
    /// Why the others were not.
    pub(super) refusal: Option<Problem>,
    /// Of each, its idempotency key and how long that counts.
    keys: Vec<Option<(Hash, Duration)>>,
}

impl Pressure {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Whether some may be refused.
    pub(super) const fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Lets jobs in, as many as there is room for.
    pub(super) async fn admit(&self, backend: &dyn Backend, jobs: &[NewJob]) -> Result<Admitted, Problem> {
        let mut admitted = Admitted { count: jobs.len(), refusal: None, keys: Vec::new() };
        let Some(limit) = self.limit else { return Ok(admitted) };
        let mut counted = self.counted.lock().await;
        if counted.at.is_none_or(|at| at.elapsed() >= FRESH) {
            let queues = backend.backlog().await?.queues;
            counted.waiting =
                queues.into_iter().map(|(queue, count)| (queue, count.visible + count.delayed)).collect();
            counted.at = Some(Instant::now());
        }
        for job in jobs {
            let key = key(job);
            if key.is_none_or(|(key, _)| !self.knows(&key)) {
                let queue = &job.spec.queue;
                let waiting = counted.waiting.entry(queue.clone()).or_default();
                if *waiting >= limit {
                    let jobs = if *waiting == 1 { "job is" } else { "jobs are" };
                    let detail = format!(
                        "{waiting} {jobs} waiting in the queue {queue}, and no more than {limit} may"
                    );
                    let refusal = Problem::new(429, TOO_MANY, "Too many jobs wait", detail);
                    admitted.refusal = Some(refusal.field("queue").remedy("submit again later"));
                    break;
                }
                *waiting += 1;
            }
            admitted.keys.push(key);
        }
        admitted.count = admitted.keys.len();
        Ok(admitted)
    }

    /// Takes note of the jobs that the store has taken of those that were let in.
    pub(super) fn accepted(&self, admitted: &Admitted, answers: &[Result<Submitted>]) {
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (key, answer) in admitted.keys.iter().zip(answers) {
            if let (Some((key, window)), Ok(_)) = (key, answer)
                && known.until.insert(*key, now + *window).is_none()
            {
                known.order.push_back(*key);
            }
        }
        while known.order.len() > KEYS {
            let oldest = known.order.pop_front();
            oldest.map(|oldest| known.until.remove(&oldest));
        }
    }

    fn knows(&self, key: &Hash) -> bool {
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        known.until.get(key).is_some_and(|until| Instant::now() < *until)
    }
}

fn key(job: &NewJob) -> Option<(Hash, Duration)> {
    let key = digest(&SHA256, job.idempotency_key.as_ref()?.as_bytes());
    Some((*key.as_ref().first_chunk()?, job.idempotency_window))
}
