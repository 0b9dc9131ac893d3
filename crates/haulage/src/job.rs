//! What a producer submits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Error, JobSpec, Json, QueueName, Webhook, seconds,
    spec::{check_duration, check_name},
};

/// A job to submit: a body, and options that all have defaults.
///
/// ```
/// # use std::time::Duration;
/// let job = haulage::NewJob::new(&serde_json::json!({"prompt": "a red bicycle"}))?
///     .idempotency_key("order-4711")
///     .max_attempts(5)
///     .timeout(Duration::from_secs(600));
/// # Ok::<(), haulage::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewJob {
    /// The body, which the handler gets.
    pub body: Json,
    /// What goes with the job wherever that goes.
    #[serde(default)]
    pub spec: JobSpec,
    /// See [`NewJob::delay`].
    #[serde(default, with = "seconds")]
    pub delay: Duration,
    /// See [`NewJob::idempotency_key`].
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// See [`NewJob::idempotency_window`].
    #[serde(with = "seconds")]
    pub idempotency_window: Duration,
}

impl NewJob {
    /// How many attempts a job has unless it says otherwise.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
    /// How long a record is kept after the job ended, unless it says otherwise: 7 days.
    pub const DEFAULT_RESULT_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
    /// For how long, from the first submit on, a second one with the same
    /// idempotency key finds the first job, unless it says otherwise: 24 hours.
    pub const DEFAULT_IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 3600);
    /// The longest task, key, group, request id, or metadata key, in bytes.
    pub const MAX_LABEL_BYTES: usize = 1024;
    /// The longest metadata value, in bytes: as long as a task token of AWS Step
    /// Functions may be (its API reference, "SendTaskSuccess").
    pub const MAX_METADATA_BYTES: usize = 2048;
    /// The longest delay, timeout, limit to start, result TTL and idempotency window: 366 days.
    pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

    /// A job with this body.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`] where the body has no JSON form.
    pub fn new<T: Serialize + ?Sized>(body: &T) -> Result<Self, Error> {
        Ok(Self::from_json(Json::encode(body)?))
    }

    /// A job whose body is a JSON document already.
    pub fn from_json(body: Json) -> Self {
        Self {
            body,
            spec: JobSpec::default(),
            delay: Duration::ZERO,
            idempotency_key: None,
            idempotency_window: Self::DEFAULT_IDEMPOTENCY_WINDOW,
        }
    }

    /// The same body with these options.
    #[must_use]
    pub fn spec(mut self, spec: JobSpec) -> Self {
        self.spec = spec;
        self
    }

    /// The queue in which the job waits. Default: the queue `default`.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.spec.queue = queue;
        self
    }

    /// What the job asks for, by name, where handlers do several things: whoever runs
    /// it looks at [`Context::task`](crate::Context::task). It has no say in which
    /// consumer gets the job; that is the queue's. Default: no name.
    #[must_use]
    pub fn task(mut self, name: impl Into<String>) -> Self {
        self.spec.task = Some(name.into());
        self
    }

    /// Your correlation id, kept with the job and its record and put into
    /// every log line about it. Default: the job's id.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.spec.request_id = Some(id.into());
        self
    }

    /// A second submit with the same key returns the id of the first job and
    /// creates nothing, as long as that is not over, and within its
    /// [`NewJob::idempotency_window`]. With another body it is refused, as
    /// [`Error::IdempotencyConflict`]; white space makes no difference, the order
    /// of keys does. Default: no key.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// How long the key counts from this submit on, also where the job ends
    /// sooner. Default: [`NewJob::DEFAULT_IDEMPOTENCY_WINDOW`].
    #[must_use]
    pub fn idempotency_window(mut self, window: Duration) -> Self {
        self.idempotency_window = window;
        self
    }

    /// Jobs of one group run one at a time, in the order of their submits. A group
    /// is one of its queue: the same name in another queue is another group.
    /// Default: no group; such jobs run side by side.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.spec.group = Some(group.into());
        self
    }

    /// How long to hold the job back. Default: not at all.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How many attempts the job has, crashes of the worker included; 1 means
    /// no retry. Default: [`NewJob::DEFAULT_MAX_ATTEMPTS`].
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.spec.max_attempts = attempts;
        self
    }

    /// How long one attempt may run before it is stopped and counts as failed.
    /// Default: no limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    /// How long after its submit a handler has to be given the job, at the latest.
    /// Otherwise it ends in `ERROR`, of the kind
    /// [`FailureKind::Expired`](crate::FailureKind::Expired), without being run, and
    /// is no dead letter. For work that nobody wants any more when it comes late.
    /// Longer than [`NewJob::delay`]. Default: no limit.
    #[must_use]
    pub fn start_within(mut self, limit: Duration) -> Self {
        self.spec.start_within = Some(limit);
        self
    }

    /// Deletes the body when the job succeeds, for what is large; its result stays.
    /// A later job with its idempotency key may have another body then, and is not
    /// told. Default: the body is kept as long as the record.
    #[must_use]
    pub fn drop_body(mut self) -> Self {
        self.spec.drop_body = true;
        self
    }

    /// How long the record, with its result, is kept after the job ended.
    /// Default: [`NewJob::DEFAULT_RESULT_TTL`]. What ended in `ERROR` is kept for
    /// [`crate::ERROR_TTL`] at least.
    #[must_use]
    pub fn result_ttl(mut self, ttl: Duration) -> Self {
        self.spec.result_ttl = ttl;
        self
    }

    /// Adds a label, which is kept with the record and shown to the handler: a key of
    /// [`NewJob::MAX_LABEL_BYTES`] at most, a value of [`NewJob::MAX_METADATA_BYTES`].
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.spec.metadata.insert(key.into(), value.into());
        self
    }

    /// A server (`haulage serve`) posts what becomes of the job to this URL; see [`Webhook`]. A store that
    /// does not support it ([`Capabilities::webhooks`](crate::backend::Capabilities::webhooks)) refuses the job.
    /// Default: none.
    #[must_use]
    pub fn webhook(mut self, webhook: Webhook) -> Self {
        self.spec.webhook = Some(webhook);
        self
    }

    /// Checks every option against its range.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] that names the option and its range.
    pub fn validate(&self) -> Result<(), Error> {
        self.spec.validate()?;
        check_duration("delay", self.delay)?;
        if self.spec.start_within.is_some_and(|limit| limit <= self.delay) {
            let message = "start_within is not longer than delay; such a job could never start";
            return Err(Error::Invalid(message.into()));
        }
        check_duration("idempotency_window", self.idempotency_window)?;
        check_name("idempotency_key", self.idempotency_key.as_deref())
    }
}
