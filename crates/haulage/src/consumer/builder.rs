//! The settings of a consumer.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{Call, Consumer, Slots, function::Function, hook::Hook, readiness::Probe};
use crate::{
    Backend, Context, Error, Failure, Job, NewJob, Queues, Result, RetryPolicy, event::Event,
    handler::Predicate, metrics::Recorder,
};

/// Sets up a [`Consumer`]. Everything but the handler has a default.
pub struct ConsumerBuilder {
    backend: Arc<dyn Backend>,
    function: Option<Function>,
    concurrency: usize,
    max_batch_size: usize,
    batch_timeout: Duration,
    lease: Duration,
    heartbeat_interval: Option<Duration>,
    claim_wait: Duration,
    shutdown_grace_period: Duration,
    cancel_grace_period: Duration,
    retry_policy: RetryPolicy,
    non_retryable: Vec<Predicate>,
    worker_name: Option<String>,
    queues: Queues,
    readiness_probe: Option<Probe>,
    until_empty: bool,
    max_jobs: Option<u64>,
    hook: Option<Hook>,
}

/// What a consumer goes by: the builder's settings, checked and complete.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) function: Function,
    pub(super) concurrency: usize,
    pub(super) max_batch_size: usize,
    pub(super) batch_timeout: Duration,
    pub(super) lease: Duration,
    pub(super) heartbeat_interval: Duration,
    pub(super) claim_wait: Duration,
    pub(super) shutdown_grace_period: Duration,
    pub(super) cancel_grace_period: Duration,
    pub(super) retry_policy: RetryPolicy,
    pub(super) non_retryable: Arc<[Predicate]>,
    pub(super) worker_name: String,
    pub(super) queues: Queues,
    pub(super) readiness_probe: Option<Probe>,
    pub(super) until_empty: bool,
    pub(super) max_jobs: Option<u64>,
    pub(super) hook: Option<Hook>,
    pub(super) slots: Slots,
}

impl ConsumerBuilder {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            function: None,
            concurrency: 1,
            max_batch_size: 1,
            batch_timeout: Duration::ZERO,
            lease: Duration::from_secs(30),
            heartbeat_interval: None,
            claim_wait: Duration::from_secs(20),
            shutdown_grace_period: Duration::from_secs(30),
            cancel_grace_period: Duration::from_secs(5),
            retry_policy: RetryPolicy::default(),
            non_retryable: Vec::new(),
            worker_name: None,
            queues: Queues::default(),
            readiness_probe: None,
            until_empty: false,
            max_jobs: None,
            hook: None,
        }
    }

    /// How many calls of the handler may run at once. Default: 1.
    ///
    /// The consumer never holds more jobs than it can start. A blocking handler
    /// takes one of the runtime's blocking threads for each call, of which
    /// tokio has 512 unless it was told otherwise
    /// (`tokio::runtime::Builder::max_blocking_threads`).
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// How long a claim lives without a heartbeat: when this process dies, that
    /// is how long its jobs wait for another. Default: 30 s. At most what the
    /// backend allows, see
    /// [`Capabilities::max_lease`](crate::backend::Capabilities::max_lease).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How often to heartbeat; shorter than the lease. Default: a third of the
    /// lease, so that two heartbeats may fail before a claim is lost.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// How long one request for jobs waits for the first. Default: 20 s, the
    /// longest that Amazon SQS allows ("Amazon SQS short and long polling").
    #[must_use]
    pub fn claim_wait(mut self, wait: Duration) -> Self {
        self.claim_wait = wait;
        self
    }

    /// How long running jobs may go on after [`Shutdown::stop`]. Default: 30 s.
    ///
    /// [`Shutdown::stop`]: crate::shutdown::Shutdown::stop
    #[must_use]
    pub fn shutdown_grace_period(mut self, grace: Duration) -> Self {
        self.shutdown_grace_period = grace;
        self
    }

    /// How long a handler has between being told to stop, because its job was
    /// cancelled or its claim lost, and being dropped. Default: 5 s.
    #[must_use]
    pub fn cancel_grace_period(mut self, grace: Duration) -> Self {
        self.cancel_grace_period = grace;
        self
    }

    /// How long failed jobs wait for their next attempt. Default: see
    /// [`RetryPolicy`].
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.retry_policy = policy;
        self
    }

    /// An error of this type, or one caused by such an error, fails the job for
    /// good. May be called more than once. Default: every error is tried again.
    #[must_use]
    pub fn non_retryable<E: StdError + 'static>(self) -> Self {
        self.non_retryable_if(|error| error.is::<E>())
    }

    /// An error for which this holds fails the job for good. It is asked about
    /// the handler's error and then about each of its
    /// [sources](std::error::Error::source). May be called more than once.
    #[must_use]
    pub fn non_retryable_if(
        mut self,
        holds: impl Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.non_retryable.push(Box::new(holds));
        self
    }

    /// What to call this consumer in the records of its jobs. Default: the
    /// host's name and the process id, as in `gpu-7:4711`.
    #[must_use]
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.worker_name = Some(name.into());
        self
    }

    /// The queues that this consumer serves, in an order or by weights. Default: the
    /// queue `default` alone.
    ///
    /// ```
    /// # use haulage::{Consumer, Context, Failure, Job, Queues, memory::MemoryBackend};
    /// # let backend = std::sync::Arc::new(MemoryBackend::new());
    /// # let handler = async |job: Job<u32>, _: Context| Ok::<_, Failure>(job.body + 1);
    /// let queues: Queues = "interactive,bulk".parse()?;
    /// let consumer = Consumer::builder(backend).queues(queues).handler(handler).build()?;
    /// # Ok::<(), haulage::Error>(())
    /// ```
    #[must_use]
    pub fn queues(mut self, queues: impl Into<Queues>) -> Self {
        self.queues = queues.into();
        self
    }

    /// An async function that tells whether what the handler needs is there: a
    /// model server, a device. No job is claimed before it has said so, nor
    /// after the handler has said [`Failure::not_ready`], until it says so
    /// again. Default: none; one job finds out then.
    ///
    /// It is run on the runtime of [`Consumer::run`], and asked again after a
    /// quarter of a second, up to 5 s. What has not ended after 30 s is dropped.
    #[must_use]
    pub fn readiness_probe<E, F, Fut>(mut self, probe: F) -> Self
    where
        E: Into<Failure>,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.readiness_probe = Some(Arc::new(move || {
            let asked = probe();
            Box::pin(async move { asked.await.map_err(|error| error.into().message().to_owned()) })
        }));
        self
    }

    /// Ends by itself when its queues have no job left that waits or runs, here or
    /// elsewhere. Default: it works until it is told to stop.
    ///
    /// Jobs with a delay, and those that wait for a retry, count as waiting: the
    /// consumer stays until they are due, and runs them. It asks for
    /// [`Backend::stats`](crate::Backend::stats) when it has nothing to do; where
    /// the backend signals no outcomes, such as on AWS, after each claim that
    /// brought nothing.
    #[must_use]
    pub fn until_empty(mut self, until_empty: bool) -> Self {
        self.until_empty = until_empty;
        self
    }

    /// Ends by itself when this many jobs have ended here: succeeded, failed, are
    /// to be tried again, were cancelled or lost. Those that were given back do
    /// not count. It never holds more than are left to it. Default: no limit.
    #[must_use]
    pub fn max_jobs(mut self, jobs: u64) -> Self {
        self.max_jobs = Some(jobs);
        self
    }

    /// A function to tell of each step; see [`Event`]. It is called on the
    /// thread that sends the heartbeats, and so must not block. A panic in it
    /// is logged.
    #[must_use]
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook(Arc::new(hook)));
        self
    }

    fn function(mut self, function: Function, max_batch_size: usize, batch_timeout: Duration) -> Self {
        self.function = Some(function);
        self.max_batch_size = max_batch_size;
        self.batch_timeout = batch_timeout;
        self
    }

    /// The function that does the work, async. It is run on the runtime of
    /// [`Consumer::run`].
    ///
    /// Heartbeats go out whatever it does. Still, work that computes for long
    /// without an await belongs into [`blocking_handler`](Self::blocking_handler):
    /// it keeps other handlers from getting on, and can be stopped only at an
    /// await.
    #[must_use]
    pub fn handler<T, R, E, F, Fut>(self, handler: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Job<T>, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.function(Function::single(handler), 1, Duration::ZERO)
    }

    /// The function that does the work, one that blocks or computes. It is run
    /// on the blocking threads of the runtime of [`Consumer::run`].
    ///
    /// Nothing can end it from outside. Where its time is up, its job is
    /// settled without it, but it goes on to take one of the `concurrency` until
    /// it returns: let it look at [`Context::is_cancelled`] now and then.
    #[must_use]
    pub fn blocking_handler<T, R, E, F>(self, handler: F) -> Self
    where
        T: DeserializeOwned,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Job<T>, Context) -> Result<R, E> + Send + Sync + 'static,
    {
        self.function(Function::blocking(handler), 1, Duration::ZERO)
    }

    /// An async function that works on several jobs at once. It gets 1 to
    /// `max_batch_size` of them, and answers each, in the same order.
    ///
    /// It is called when the batch is full, or `batch_timeout` after the
    /// batch's first job came in; with a timeout of zero, with the jobs that
    /// came in together. `concurrency` counts calls, so a consumer holds up to
    /// `concurrency × max_batch_size` jobs.
    ///
    /// Each job has its own outcome: one that fails does not touch the others.
    /// A job whose body does not fit `T` is failed, and the handler does not
    /// see it. If the number of answers is wrong, every job of the call has
    /// failed and is tried again. When one of the jobs is cancelled or runs
    /// into its timeout, only its own [`Context`] says so; the call goes on for
    /// the others, and is dropped when there are none.
    #[must_use]
    pub fn batch_handler<T, R, E, F, Fut>(
        self,
        max_batch_size: usize,
        batch_timeout: Duration,
        handler: F,
    ) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Vec<(Job<T>, Context)>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<Result<R, E>>> + Send + 'static,
    {
        self.function(Function::batch(handler), max_batch_size, batch_timeout)
    }

    /// Like [`batch_handler`](Self::batch_handler), for a function that blocks
    /// or computes; see [`blocking_handler`](Self::blocking_handler).
    #[must_use]
    pub fn blocking_batch_handler<T, R, E, F>(
        self,
        max_batch_size: usize,
        batch_timeout: Duration,
        handler: F,
    ) -> Self
    where
        T: DeserializeOwned,
        R: Serialize + 'static,
        E: Into<Failure>,
        F: Fn(Vec<(Job<T>, Context)>) -> Vec<Result<R, E>> + Send + Sync + 'static,
    {
        self.function(Function::blocking_batch(handler), max_batch_size, batch_timeout)
    }

    /// A function that starts each call of up to `max_batch_size` jobs on
    /// threads of its own, and returns at once: for programs whose threads are
    /// not tokio's, such as those of an embedded interpreter.
    ///
    /// It is called on the thread that sends the heartbeats, and so must not
    /// block. Whoever has carried the call out ends it with
    /// [`Call::finish`](super::Call::finish). As with a
    /// [`blocking_handler`](Self::blocking_handler), nothing ends it from
    /// outside; batches are gathered as for a
    /// [`batch_handler`](Self::batch_handler).
    #[must_use]
    pub fn dispatcher(
        self,
        max_batch_size: usize,
        batch_timeout: Duration,
        dispatch: impl Fn(Call) + Send + Sync + 'static,
    ) -> Self {
        self.function(Function::Dispatched(Arc::new(dispatch)), max_batch_size, batch_timeout)
    }

    /// Checks the settings and makes the consumer.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where there is no handler, or a setting is out of its
    /// range.
    pub fn build(self) -> Result<Consumer> {
        let invalid = |message: String| Err(Error::Invalid(message));
        let Some(function) = self.function else {
            return invalid("the consumer has no handler; give it one with .handler(…)".into());
        };
        for (name, count) in [("concurrency", self.concurrency), ("max_batch_size", self.max_batch_size)] {
            if count == 0 {
                return invalid(format!("{name} is 0; it is 1 at least"));
            }
        }
        if self.max_jobs == Some(0) {
            return invalid("max_jobs is 0; it is 1 at least".into());
        }
        let heartbeat_interval = self.heartbeat_interval.unwrap_or(self.lease / 3);
        for (name, duration) in [
            ("lease", self.lease),
            ("heartbeat_interval", heartbeat_interval),
            ("claim_wait", self.claim_wait),
        ] {
            if duration < Duration::from_millis(1) {
                return invalid(format!("{name} is {duration:?}; it is 1 ms at least"));
            }
        }
        for (name, duration) in [
            ("batch_timeout", self.batch_timeout),
            ("claim_wait", self.claim_wait),
            ("shutdown_grace_period", self.shutdown_grace_period),
            ("cancel_grace_period", self.cancel_grace_period),
            ("the cap of retry_policy", self.retry_policy.cap),
        ] {
            if duration > NewJob::MAX_DURATION {
                return invalid(format!("{name} is longer than 366 days"));
            }
        }
        let max_lease = self.backend.capabilities().max_lease.min(NewJob::MAX_DURATION);
        if self.lease > max_lease {
            let backend = self.backend.name();
            return invalid(format!("lease is {:?}; the {backend} backend allows {max_lease:?}", self.lease));
        }
        if heartbeat_interval >= self.lease {
            return invalid(format!(
                "heartbeat_interval is {heartbeat_interval:?}; it must be shorter than the lease, {:?}",
                self.lease
            ));
        }
        let worker_name = self.worker_name.unwrap_or_else(default_worker_name);
        if worker_name.is_empty() || worker_name.len() > NewJob::MAX_LABEL_BYTES {
            return invalid(format!("worker_name must have 1 to {} bytes", NewJob::MAX_LABEL_BYTES));
        }
        self.queues.validate()?;
        let settings = Settings {
            function,
            concurrency: self.concurrency,
            max_batch_size: self.max_batch_size,
            batch_timeout: self.batch_timeout,
            lease: self.lease,
            heartbeat_interval,
            claim_wait: self.claim_wait,
            shutdown_grace_period: self.shutdown_grace_period,
            cancel_grace_period: self.cancel_grace_period,
            retry_policy: self.retry_policy,
            non_retryable: self.non_retryable.into(),
            worker_name,
            queues: self.queues,
            readiness_probe: self.readiness_probe,
            until_empty: self.until_empty,
            max_jobs: self.max_jobs,
            hook: self.hook,
            slots: Slots::default(),
        };
        let recorder = Recorder::new(settings.concurrency, settings.queues.names());
        Ok(Consumer { backend: self.backend, settings, recorder })
    }
}

/// `host:pid`. The standard library does not know the host's name; the kernel
/// and the shell do.
fn default_worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok()))
        .map(|host| host.trim().to_owned())
        .filter(|host| !host.is_empty() && host.len() <= 255)
        .unwrap_or_else(|| "localhost".to_owned());
    format!("{host}:{}", std::process::id())
}

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("backend", &self.backend)
            .field("handler", &self.function)
            .field("concurrency", &self.concurrency)
            .field("max_batch_size", &self.max_batch_size)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
