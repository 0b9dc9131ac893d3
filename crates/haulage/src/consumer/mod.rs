//! The side of the queue that works.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `builder` | the settings |
//! | `engine` | the loop: who waits for what, and what follows from it; `answers`, from what handlers say |
//! | `phase` | how far it is on its way to the end |
//! | `finish` | when it ends by itself |
//! | `readiness` | whether what handlers need is there |
//! | `notice` | tells the backend that it is not |
//! | `table` | the claims and calls in flight |
//! | `claim`, `heartbeat`, `settle` | when to make which call to the backend |
//! | `batch` | gathers jobs for a call of the handler |
//! | `call`, `function` | a call of the handler, on the caller's runtime |
//! | `report` | what goes into a call, and what it tells the engine |
//! | `dispatch` | the same, on threads that the caller brings |
//! | `hook` | the user's function that is told of all that, as [`Event`]s |
//! | `inline` | jobs without an engine, in the caller's task, for tests |
//! | `backend_call`, `deadlines` | a call under way, and what to wake up for |

mod batch;
mod builder;
mod call;
mod claim;
mod deadlines;
mod dispatch;
mod drain;
mod engine;
mod finish;
mod function;
mod heartbeat;
mod hook;
pub(crate) mod inline;
mod notice;
mod phase;
mod readiness;
mod report;
mod settle;
mod slots;
mod table;

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use self::{builder::ConsumerBuilder, dispatch::Call, slots::Slots};
use self::{builder::Settings, engine::Engine};
pub use crate::event::{Event, Summary};
use crate::{
    Backend,
    metrics::{Meter, Recorder},
    shutdown::Shutdown,
};

/// Claims jobs, runs your function on them, and records what comes of it.
///
/// ```
/// use std::sync::Arc;
/// use haulage::{Consumer, Context, Failure, Job, Producer, memory::MemoryBackend, shutdown::Shutdown};
///
/// async fn double(job: Job<u32>, _: Context) -> Result<u32, Failure> {
///     job.body.checked_mul(2).ok_or_else(|| Failure::fatal("too large"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = Arc::new(MemoryBackend::new());
/// let shutdown = Shutdown::new(); // or Shutdown::on_signals()?
/// let consumer = Consumer::builder(backend.clone()).concurrency(4).handler(double).build()?;
/// let running = tokio::spawn(consumer.run(shutdown.clone()));
///
/// let job = Producer::new(backend).submit(&21).await?;
/// assert_eq!(job.result::<u32>(None).await?, 42);
///
/// shutdown.stop();
/// assert_eq!(running.await?.succeeded, 1);
/// # Ok(())
/// # }
/// ```
///
/// # What a handler can rely on
///
/// A job is run at least once, and by one consumer at a time for as long as
/// this one keeps its lease. Heartbeats come from a thread of their own, so a
/// handler may block or compute for hours and keep its claim. A consumer that
/// loses a claim all the same, because it could not reach the backend for as
/// long as the lease, tells the handler through its [`Context`](crate::Context) and never
/// records what it returns.
///
/// | what happens | what becomes of the job |
/// | --- | --- |
/// | the handler returns `Ok` | `SUCCESS` |
/// | it returns an error, or panics | tried again while attempts are left, then `ERROR` |
/// | it returns [`Failure::fatal`](crate::Failure::fatal), or a non-retryable error | `ERROR` |
/// | it returns [`Failure::snooze`](crate::Failure::snooze) | claimable again when the time is up; the attempt does not count |
/// | it returns [`Failure::not_ready`](crate::Failure::not_ready) | given back at once; the attempt does not count, and the consumer waits until it is ready |
/// | the body does not fit, or the result has no JSON form or is too large | `ERROR` |
/// | the attempt runs longer than the job's `timeout` | dropped, and tried again while attempts are left |
/// | somebody cancels the job | what the handler returns: `SUCCESS` if `Ok`, else `CANCELLED`; `CANCELLED` also where it does not return in time |
/// | the consumer stops | finished within the grace period, else given back; the attempt does not count |
///
/// A result that cannot be recorded, because the backend is out of reach, is
/// kept, with its claim, and tried again for as long as the claim lives.
pub struct Consumer {
    backend: Arc<dyn Backend>,
    settings: Settings,
    recorder: Recorder,
}

impl Consumer {
    /// Sets up a consumer.
    pub fn builder(backend: Arc<dyn Backend>) -> ConsumerBuilder {
        ConsumerBuilder::new(backend)
    }

    /// What it measures of itself, to be read while it runs, and after.
    pub fn meter(&self) -> Meter {
        self.recorder.meter()
    }

    /// A handle by which slots can be taken out of service while it runs.
    pub fn slots(&self) -> Slots {
        self.settings.slots.clone()
    }

    /// Works until `shutdown` says stop, or the end comes that
    /// [`until_empty`](ConsumerBuilder::until_empty) or
    /// [`max_jobs`](ConsumerBuilder::max_jobs) set, and tells how the claims ended.
    ///
    /// Handlers run on the tokio runtime that this is called on. Dropping the
    /// future is like [`Shutdown::stop_now`], except that nobody waits for what
    /// it does.
    ///
    /// After the grace period it returns within about two seconds, whatever
    /// the backend does. A blocking handler that has not returned by then still
    /// runs, its job given to others; a tokio runtime waits for it when dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and where the system has no thread left.
    pub async fn run(self, shutdown: Shutdown) -> Summary {
        let abandoned = CancellationToken::new();
        let _abandon = abandoned.clone().drop_guard();
        let engine = Engine::new(
            self.settings,
            self.backend,
            shutdown,
            abandoned,
            self.recorder,
            tokio::runtime::Handle::current(),
            tracing::Span::current(),
        );
        let (done, finished) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("haulage-engine".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("the system gives the consumer an event loop");
                let summary = runtime.block_on(engine.run());
                runtime.shutdown_timeout(std::time::Duration::from_millis(100));
                // Nobody waits where the future of `run` was dropped.
                let _ = done.send(summary);
            })
            .expect("the system gives the consumer a thread");
        match finished.await {
            Ok(summary) => summary,
            // It ended without an answer, so it panicked: a bug of this crate.
            Err(_) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the engine answers before it ends"),
            },
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("backend", &self.backend)
            .field("handler", &self.settings.function)
            .field("concurrency", &self.settings.concurrency)
            .finish_non_exhaustive()
    }
}
