//! What a consumer measures of itself, and how to publish it.
//!
//! A [`Meter`] comes from [`Consumer::meter`](crate::Consumer::meter), and a
//! [`Snapshot`] from the meter, at any time and from any thread.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `recorder` | the consumer's side: what it writes down |
//! | `histogram` | how long jobs took |
//! | `labels` | what the metrics of workers are told apart by |
//! | `prometheus` | a snapshot as Prometheus reads it |
//! | `emf` | two snapshots as CloudWatch reads them, once a minute |
//! | `http` | pages with all that, with the feature of that name |

mod emf;
mod histogram;
#[cfg(feature = "http")]
mod http;
mod labels;
mod prometheus;
mod recorder;

use std::{sync::Arc, time::Duration};

#[cfg(feature = "http")]
pub use self::http::{Listener, Serving};
pub(crate) use self::recorder::Recorder;
use self::recorder::Shared;
pub use self::{
    emf::{Emf, EmfWriter},
    histogram::{Bucket, Histogram},
    labels::Labels,
};
use crate::{QueueName, event::Summary};

/// After how long a consumer counts as stuck whose engine has not come round.
/// It does so every 5 s at least, whatever handlers and backend do.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Reads what a consumer measures of itself. A clone reads the same consumer.
///
/// Reading waits for nothing but a copy of some 500 bytes for each queue.
///
/// ```
/// # use std::sync::Arc;
/// # use haulage::{Consumer, Context, Failure, Job, Producer, memory::MemoryBackend, metrics::Labels, shutdown::Shutdown};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let backend = Arc::new(MemoryBackend::new());
/// let handler = async |job: Job<u32>, _: Context| Ok::<_, Failure>(job.body + 1);
/// let consumer = Consumer::builder(backend.clone()).concurrency(4).handler(handler).build()?;
/// let meter = consumer.meter();
/// # let shutdown = Shutdown::new();
/// let running = tokio::spawn(consumer.run(shutdown.clone()));
/// # Producer::new(backend).submit(&1).await?.wait(None).await?;
/// # shutdown.stop();
/// running.await?;
/// let snapshot = meter.snapshot();
/// assert_eq!((snapshot.slots, snapshot.ended().succeeded), (4, 1));
/// let page = snapshot.prometheus(&Labels::of("memory://"));
/// assert!(page.contains(r#"haulage_jobs_total{store="memory",queue="default",outcome="success"} 1"#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Meter(Arc<Shared>);

impl Meter {
    /// How things stand. All numbers are of the same moment.
    pub fn snapshot(&self) -> Snapshot {
        let (mut snapshot, age) = self.0.read();
        if snapshot.state.has_engine() && age > STUCK_AFTER {
            snapshot.state = WorkerState::Stuck;
        }
        snapshot
    }

    /// Says that the program around the consumer is alive, for one whose
    /// handlers never block its async runtime: from the first call on, it is to
    /// come every few seconds from a task of that runtime, and a consumer that
    /// has not heard it for 30 s is [stuck](WorkerState::Stuck).
    pub fn alive(&self) {
        self.0.alive();
    }
}

/// What a consumer had done by some moment, and what it was about.
///
/// Counts and times begin with the consumer, and only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whether it works.
    pub state: WorkerState,
    /// Why it is [not ready](WorkerState::NotReady), in the handler's or the probe's words.
    pub reason: Option<Arc<str>>,
    /// How often it has begun to be not ready.
    pub outages: u64,
    /// How many calls of the handler it can have at once: its `concurrency`.
    pub slots: usize,
    /// How many of them are out of service; see [`Slots`](crate::consumer::Slots).
    pub quarantined: usize,
    /// How often a slot was taken out of service.
    pub quarantines: u64,
    /// How many calls of the handler go on though their jobs are over, as nothing can end them;
    /// others have taken their slots. See [`Slots::set_stuck`](crate::consumer::Slots::set_stuck).
    pub stuck: usize,
    /// How many of the slots are taken: by handlers that run, and by outcomes
    /// that the backend has not recorded yet.
    pub busy: usize,
    /// How many jobs it holds. In the slots, or waiting for their batch to
    /// fill.
    pub held: usize,
    /// What became of the jobs of each queue that it serves.
    pub queues: Vec<QueueSnapshot>,
    /// Its slots, where they have [names](crate::consumer::Slots::set_names).
    pub named_slots: Vec<SlotSnapshot>,
}

/// One slot of a consumer, in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotSnapshot {
    /// Its name, such as `slot 3, GPU 1`.
    pub name: Arc<str>,
    /// Whether it is out of service.
    pub is_quarantined: bool,
    /// How claims ended whose handlers ran there.
    pub ended: Summary,
}

/// What became of the jobs of one queue, in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSnapshot {
    /// The queue.
    pub queue: QueueName,
    /// How claims ended.
    pub ended: Summary,
    /// How long jobs took up a slot, of each attempt that succeeded, failed or
    /// is to be tried again: from the call of the handler to its answer, or to
    /// the job's timeout. Each job of a batch counts with its share, the time
    /// of the call until its answer over the number of its jobs, so that the
    /// sum is what slots were busy with.
    ///
    /// Attempts that were cut short tell nothing of how long jobs take, and
    /// are left out: those that were cancelled, given back or lost.
    pub job_seconds: Histogram,
}

impl Snapshot {
    /// Of a consumer that has not begun.
    fn starting<'a>(slots: usize, queues: impl IntoIterator<Item = &'a QueueName>) -> Self {
        let begins = |queue: &QueueName| QueueSnapshot {
            queue: queue.clone(),
            ended: Summary::default(),
            job_seconds: Histogram::default(),
        };
        Self {
            state: WorkerState::Starting,
            reason: None,
            outages: 0,
            slots,
            quarantined: 0,
            quarantines: 0,
            stuck: 0,
            busy: 0,
            held: 0,
            queues: queues.into_iter().map(begins).collect(),
            named_slots: Vec::new(),
        }
    }

    /// How claims ended, of all queues.
    pub fn ended(&self) -> Summary {
        self.queues.iter().map(|queue| queue.ended).sum()
    }

    /// How long jobs took up a slot, of all queues; see [`QueueSnapshot::job_seconds`].
    pub fn job_seconds(&self) -> Histogram {
        self.queues.iter().map(|queue| queue.job_seconds).sum()
    }
}

/// Whether a consumer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It has not begun; see [`Consumer::run`](crate::Consumer::run).
    Starting,
    /// It works, and the backend answers.
    Ready,
    /// The backend does not: the last call of some kind failed, or there has
    /// been no answer for 30 s longer than one may take. It tries on.
    Unreachable,
    /// What its handler needs is not there: its readiness probe says so, or a
    /// job that came back with [`Failure::not_ready`](crate::Failure::not_ready).
    /// It claims no jobs, and looks again by itself.
    NotReady,
    /// It claims no more, and finishes what runs.
    Stopping,
    /// Its engine has not come round for 30 s: something blocks it, such as a
    /// function given to `on_event`; nothing is claimed, and leases run out. Or
    /// the program has not said for as long that it is [alive](Meter::alive).
    Stuck,
    /// It has ended.
    Stopped,
}

impl WorkerState {
    /// Whether it can still do its work, perhaps later.
    pub const fn is_alive(self) -> bool {
        !matches!(self, Self::Stuck | Self::Stopped)
    }

    /// Whether it takes jobs.
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Ready)
    }

    const fn has_engine(self) -> bool {
        !matches!(self, Self::Starting | Self::Stopped)
    }

    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ok",
            Self::Unreachable => "the store does not answer",
            Self::NotReady => "not ready",
            Self::Stopping => "stopping",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
        }
    }
}
