//! For tests of your handlers, and of what submits jobs to them.
//!
//! **One call of a handler:** [`TestContext`] is a job and a [`Context`] of your own. Say which attempt
//! it is and what the last one left, call the handler as any other function, and look at what it left.
//!
//! ```
//! use haulage::{Context, Failure, Job, NewJob, testing::TestContext};
//!
//! async fn count(job: Job<u32>, ctx: Context) -> Result<u32, Failure> {
//!     let first: u32 = match ctx.last_checkpoint() {
//!         Some(checkpoint) => checkpoint.decode()?,
//!         None => 0,
//!     };
//!     for n in first..job.body {
//!         if ctx.is_cancelled() {
//!             return Err(Failure::cancelled());
//!         }
//!         ctx.set_progress(f64::from(n) / f64::from(job.body), None);
//!         ctx.checkpoint(&n)?;
//!     }
//!     Ok(job.body)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let test = TestContext::builder(NewJob::new(&10)?).attempt(2).last_checkpoint(&8)?.build();
//! assert_eq!(count(test.job()?, test.context()).await.expect("it counts"), 10);
//! assert_eq!(test.progress().expect("some progress").fraction, 0.9);
//! assert_eq!(test.checkpoint().expect("a checkpoint").as_str(), "9");
//!
//! let test = TestContext::builder(NewJob::new(&10)?).build();
//! test.cancel();
//! assert!(count(test.job()?, test.context()).await.is_err());
//! assert_eq!(test.checkpoint(), None);
//! # Ok(())
//! # }
//! ```
//!
//! **Jobs from their submit to their end:** [`run_until_empty`] works off a [`MemoryBackend`] in the
//! task of the test, without a consumer, its thread and its waits. On a manual clock nothing takes
//! time, not even the delay before a retry.
//!
//! ```
//! use haulage::{Clock, Context, Failure, Job, Producer, Status, Timestamp};
//! use haulage::testing::{MemoryBackend, run_until_empty};
//! use std::sync::Arc;
//!
//! async fn flaky(job: Job<u32>, ctx: Context) -> Result<u32, Failure> {
//!     if ctx.attempt() < 3 {
//!         return Err(Failure::retry("not yet"));
//!     }
//!     Ok(job.body * 2)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = Arc::new(MemoryBackend::with_clock(Clock::manual(Timestamp::from_micros(0))));
//! let job = Producer::new(backend.clone()).submit(&21).await?;
//!
//! let records = run_until_empty(&backend, flaky).await?;
//! assert_eq!(records.len(), 1);
//! assert_eq!((records[0].status, records[0].attempt), (Status::Success, 3));
//! assert_eq!(job.try_result::<u32>().await?, 42);
//! # Ok(())
//! # }
//! ```
//!
//! **A consumer as in production,** with its concurrency, timeouts and shutdown: give a
//! [`Consumer`](crate::Consumer) the [`MemoryBackend`], and end it by
//! [`until_empty`](crate::consumer::ConsumerBuilder::until_empty).
//!
//! **A backend of your own:** the feature `conformance` has the suite for it.

// docs/rust.md shows the middle of both examples.

use serde::{Serialize, de::DeserializeOwned};

pub use crate::memory::MemoryBackend;
use crate::{
    Backend, Clock, Context, Failure, Job, JobId, Json, NewJob, Progress, Record, Result,
    backend::{ClaimKey, Claimed, Update},
    consumer::inline,
};

/// A job as a handler gets it, and the [`Context`] of one attempt at it, for a test; see
/// the [module](self).
///
/// Nothing but the test ends the attempt: the job's `timeout` sets [`Context::deadline`], and
/// [`TestContext::cancel`] is what a consumer does when that is over.
#[derive(Debug)]
pub struct TestContext {
    context: Context,
    body: Json,
}

/// Sets up a [`TestContext`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TestContextBuilder {
    job: NewJob,
    id: JobId,
    attempt: u32,
    checkpoint: Option<Json>,
}

impl TestContext {
    /// For the first attempt at this job, with all of its options, unless more is said.
    pub fn builder(job: NewJob) -> TestContextBuilder {
        TestContextBuilder { job, id: JobId::new("test"), attempt: 1, checkpoint: None }
    }

    /// The job, its body decoded as a consumer does it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`](crate::Error::InvalidJson) where the body does not fit the handler.
    pub fn job<T: DeserializeOwned>(&self) -> Result<Job<T>> {
        Ok(Job { id: self.context.job_id().clone(), body: self.body.decode()? })
    }

    /// The context: always the same one.
    pub fn context(&self) -> Context {
        self.context.clone()
    }

    /// Tells the handler to stop; see [`Context::cancelled`].
    pub fn cancel(&self) {
        self.context.cancel();
    }

    /// The newest progress that the handler has told.
    pub fn progress(&self) -> Option<Progress> {
        self.context.progress()
    }

    /// The newest checkpoint that the handler has left; that of the attempt before is none.
    pub fn checkpoint(&self) -> Option<Json> {
        self.context.own_checkpoint()
    }
}

impl TestContextBuilder {
    /// The job's id. Default: `test`.
    pub fn job_id(mut self, id: impl Into<JobId>) -> Self {
        self.id = id.into();
        self
    }

    /// Which attempt it is, where all before it count. Default: 1.
    ///
    /// # Panics
    ///
    /// If it is 0: the first attempt is 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        assert!(attempt > 0, "the first attempt is 1");
        self.attempt = attempt;
        self
    }

    /// The checkpoint that an attempt before has left.
    ///
    /// # Errors
    ///
    /// As [`Context::checkpoint`].
    pub fn last_checkpoint<T: Serialize + ?Sized>(mut self, checkpoint: &T) -> Result<Self> {
        self.checkpoint = Update::default().checkpoint(Json::encode(checkpoint)?)?.checkpoint;
        Ok(self)
    }

    /// The context, for an attempt that starts now.
    pub fn build(self) -> TestContext {
        let now = Clock::system().now();
        let key = ClaimKey { id: self.id, attempt: self.attempt };
        let mut claimed = Claimed::new(key, self.job.body, self.job.spec, now, now);
        claimed.checkpoint = self.checkpoint;
        let (context, body) = Context::new(claimed, now, Default::default());
        TestContext { context, body }
    }
}

/// Runs the handler on the jobs of this backend, one at a time and in the caller's task, until none
/// waits any more; what the handler submits meanwhile is run as well. The records are of the jobs that
/// ended, in the order of their ends, with body and result.
///
/// A retry or a delay is not waited for where the backend has a [`Clock::manual`]: the clock is moved
/// on. On the machine's clock it is. Jobs of a paused queue stay, and so do those that somebody else
/// holds.
///
/// What the handler does to the test it does directly: a panic in it, such as a failed assertion, is a
/// panic of the test, and not a failed attempt. Nothing ends it at its job's `timeout`.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) where a job never ends, since the handler puts it off each
/// time.
pub async fn run_until_empty<T, R, E, Fut>(
    backend: &MemoryBackend,
    handler: impl Fn(Job<T>, Context) -> Fut,
) -> Result<Vec<Record>>
where
    T: DeserializeOwned,
    R: Serialize + 'static,
    E: Into<Failure>,
    Fut: Future<Output = std::result::Result<R, E>>,
{
    let backend: &dyn Backend = backend;
    inline::run_until_empty(backend, handler).await
}
