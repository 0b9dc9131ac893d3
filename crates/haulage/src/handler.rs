//! What a handler gets, and how it says that it failed.

use std::{
    error::Error as StdError,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, JobId, JobSpec, Json, Metadata, NewJob, Progress, QueueName, Timestamp,
    backend::{ClaimKey, Claimed, Update},
    with_causes,
};

/// A job as a handler gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<T> {
    /// The job's id.
    pub id: JobId,
    /// The body, decoded. With `T =` [`Json`] it is the text as it was
    /// submitted.
    pub body: T,
}

/// What surrounds one attempt at a job: who and when it is, whether it has
/// been told to stop, and where it tells how far it is.
///
/// A clone is the same context.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    key: ClaimKey,
    counted: u32,
    spec: Arc<JobSpec>,
    submitted_at: Timestamp,
    deadline: Option<Timestamp>,
    cancel: CancellationToken,
    /// What it has said and no heartbeat has taken along yet.
    update: Mutex<Update>,
    checkpoint: Mutex<Checkpoint>,
    slot: Mutex<Option<Arc<str>>>,
    signal: Arc<Signal>,
}

/// The newest checkpoint, and whether it is of this attempt.
struct Checkpoint {
    last: Option<Json>,
    is_own: bool,
}

/// Tells the engine that some job has new progress.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    any: AtomicBool,
    wake: Notify,
}

impl Signal {
    fn notify(&self) {
        if !self.any.swap(true, SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Waits for the first signal since [`Signal::take`].
    pub(crate) async fn notified(&self) {
        self.wake.notified().await;
    }

    /// From here on, it notifies again. To be called before the cells are read.
    pub(crate) fn take(&self) {
        self.any.store(false, SeqCst);
    }
}

impl Context {
    /// For an attempt that starts now; and the body, which does not stay in
    /// memory for as long as the attempt runs.
    pub(crate) fn new(claimed: Claimed, now: Timestamp, signal: Arc<Signal>) -> (Self, Json) {
        let inner = Inner {
            key: claimed.key,
            counted: claimed.counted,
            submitted_at: claimed.submitted_at,
            deadline: claimed.spec.timeout.map(|timeout| now.after(timeout)),
            cancel: CancellationToken::new(),
            update: Mutex::default(),
            checkpoint: Mutex::new(Checkpoint { last: claimed.checkpoint, is_own: false }),
            slot: Mutex::default(),
            signal,
            spec: claimed.spec,
        };
        (Self(Arc::new(inner)), claimed.body)
    }

    /// The job's id.
    pub fn job_id(&self) -> &JobId {
        &self.0.key.id
    }

    /// The caller's correlation id; the job's id where the caller gave none.
    pub fn request_id(&self) -> &str {
        self.0.spec.request_id.as_deref().unwrap_or(self.job_id().as_str())
    }

    /// Which attempt this is: 1, 2, … It grows with each claim of the job, and
    /// so can be larger than [`Context::max_attempts`]: attempts that a
    /// consumer gave back, and those before a redrive, do not count.
    pub fn attempt(&self) -> u32 {
        self.0.key.attempt
    }

    /// How many attempts that count the job has.
    pub fn max_attempts(&self) -> u32 {
        self.0.spec.max_attempts
    }

    /// Whether a failure of this attempt is the end of the job.
    pub fn is_last_attempt(&self) -> bool {
        self.0.counted >= self.0.spec.max_attempts
    }

    /// The caller's labels.
    pub fn metadata(&self) -> &Metadata {
        &self.0.spec.metadata
    }

    /// The queue from which the job comes.
    pub fn queue(&self) -> &QueueName {
        &self.0.spec.queue
    }

    /// What the job asks for, by name, where its producer said so: see
    /// [`NewJob::task`].
    pub fn task(&self) -> Option<&str> {
        self.0.spec.task.as_deref()
    }

    /// The group in which the job runs in order.
    pub fn group(&self) -> Option<&str> {
        self.0.spec.group.as_deref()
    }

    /// When the job was submitted.
    pub fn submitted_at(&self) -> Timestamp {
        self.0.submitted_at
    }

    /// When this attempt will have run for as long as the job's `timeout`
    /// allows; `None` where the job has no timeout.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.0.deadline
    }

    /// Whether the handler is to stop; see [`Context::cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// Waits until the handler is to stop: somebody cancelled the job, its
    /// timeout passed, the consumer is shutting down and its grace period is
    /// over, or the claim is lost and another consumer may be running the job.
    ///
    /// Where somebody cancelled the job, or the claim is lost, the handler has
    /// the consumer's `cancel_grace_period` to tidy up. In the other cases an
    /// async handler is dropped at once. A blocking handler cannot be dropped;
    /// it is on its own to look at [`Context::is_cancelled`] now and then.
    pub async fn cancelled(&self) {
        self.0.cancel.cancelled().await;
    }

    /// The signal behind [`Context::cancelled`], to hand on to other code.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancel.clone()
    }

    /// Tells how far the job is: `fraction` from 0 to 1, and what is being
    /// done, in words.
    ///
    /// It never waits: the newest progress goes with the consumer's next
    /// heartbeat, and there is one within about a second. A fraction outside of
    /// 0 to 1 is taken as the nearer end, NaN as 0; a message is cut to
    /// [`Progress::MAX_MESSAGE_BYTES`].
    pub fn set_progress(&self, fraction: f64, message: impl Into<Option<String>>) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        self.update().progress = Some(Progress { fraction, message: message.into() }.cut());
        self.0.signal.notify();
    }

    /// Tells in which slot of its worker the attempt runs, where slots differ, by a name for people such
    /// as `slot 3, GPU 1`: the job's record has it ([`Record::slot`](crate::Record::slot)) from the next
    /// heartbeat on, and so has what the consumer logs and [measures](crate::consumer::Slots::set_names).
    pub fn set_slot(&self, name: impl Into<String>) {
        let name = name.into();
        self.0.slot.lock().unwrap_or_else(PoisonError::into_inner).replace(name.as_str().into());
        self.update().slot = Some(name);
    }

    pub(crate) fn slot(&self) -> Option<Arc<str>> {
        self.0.slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves a value for the next attempt, should there be one: how far the work
    /// has come, and where its parts are. It takes the place of the last one.
    ///
    /// It never waits: the newest checkpoint goes with the consumer's next
    /// heartbeat, within about a second, and with the end of the attempt in any
    /// case. It is kept while the job may be tried again, through a redrive too; a
    /// success ends it. As everything that an attempt says, it counts only as long
    /// as the claim does.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`] where the value has no JSON form, [`Error::TooLarge`]
    /// where that has more than [`Update::MAX_CHECKPOINT`] bytes, 64 KiB.
    pub fn checkpoint<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        self.set_checkpoint(Json::encode(value)?)
    }

    /// The same for what is a JSON document already.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn set_checkpoint(&self, checkpoint: Json) -> Result<(), Error> {
        let update = Update::default().checkpoint(checkpoint.clone())?;
        *self.checkpoints() = Checkpoint { last: Some(checkpoint), is_own: true };
        self.update().checkpoint = update.checkpoint;
        self.0.signal.notify();
        Ok(())
    }

    /// The newest checkpoint: of this attempt, or else of an earlier one.
    pub fn last_checkpoint(&self) -> Option<Json> {
        self.checkpoints().last.clone()
    }

    fn checkpoints(&self) -> MutexGuard<'_, Checkpoint> {
        self.0.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spec(&self) -> &JobSpec {
        &self.0.spec
    }

    pub(crate) fn key(&self) -> &ClaimKey {
        &self.0.key
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.0.spec.timeout
    }

    fn update(&self) -> MutexGuard<'_, Update> {
        self.0.update.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cancel(&self) {
        self.0.cancel.cancel();
    }

    /// What the attempt has said and no heartbeat has taken along yet.
    pub(crate) fn take_update(&self) -> Update {
        std::mem::take(&mut *self.update())
    }

    /// The progress that no heartbeat has taken along yet.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.update().progress.clone()
    }

    /// The newest checkpoint of this attempt.
    pub(crate) fn own_checkpoint(&self) -> Option<Json> {
        let checkpoint = self.checkpoints();
        checkpoint.last.clone().filter(|_| checkpoint.is_own)
    }

    /// What goes with the end of the attempt. A heartbeat that failed may have had
    /// the checkpoint with it, so that is said once more.
    pub(crate) fn last_update(&self) -> Update {
        Update { checkpoint: self.own_checkpoint(), ..self.take_update() }
    }

    /// Puts back what did not get through, unless there is newer.
    pub(crate) fn return_update(&self, update: Update) {
        let mut newer = self.update();
        newer.progress = newer.progress.take().or(update.progress);
        newer.checkpoint = newer.checkpoint.take().or(update.checkpoint);
        newer.slot = newer.slot.take().or(update.slot);
        drop(newer);
        self.0.signal.notify();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("job_id", self.job_id())
            .field("request_id", &self.request_id())
            .field("attempt", &self.attempt())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// How a handler says that its attempt failed.
///
/// Any error turns into one with `?`, and is then tried again, unless the
/// consumer was told that this kind of error is
/// [not worth it](crate::consumer::ConsumerBuilder::non_retryable). Its message
/// is kept with the job, with the causes that it came from.
///
/// ```
/// use std::time::Duration;
/// use haulage::{Context, Failure, Job};
///
/// async fn caption(job: Job<String>, _: Context) -> Result<usize, Failure> {
///     let image = std::fs::read(&job.body)?; // tried again
///     if image.is_empty() {
///         return Err(Failure::fatal("the image is empty")); // not tried again
///     }
///     if image.len() > 1_000_000 {
///         return Err(Failure::retry_after("out of memory", Duration::from_secs(60)));
///     }
///     if image == b"pending" {
///         return Err(Failure::snooze(Duration::from_secs(60))); // not counted as an attempt
///     }
///     Ok(image.len())
/// }
/// ```
//
// It is no `std::error::Error` itself: that is what lets every error turn into it.
pub struct Failure {
    pub(crate) kind: Kind,
    message: String,
    type_name: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With the delay that the handler asks for.
    Retry(Option<Duration>),
    Fatal,
    Cancelled,
    /// For so long.
    Snooze(Duration),
    NotReady,
    InvalidResult,
}

impl Failure {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), type_name: None, source: None }
    }

    /// The attempt failed; try again after the delay that the consumer's
    /// [`RetryPolicy`](crate::RetryPolicy) gives, if attempts are left.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Kind::Retry(None), message)
    }

    /// The attempt failed; try again after `delay`, if attempts are left. At
    /// most [`NewJob::MAX_DURATION`]; a longer delay is cut to that.
    pub fn retry_after(message: impl Into<String>, delay: Duration) -> Self {
        Self::new(Kind::Retry(Some(delay.min(NewJob::MAX_DURATION))), message)
    }

    /// The job failed, and trying again would not help.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(Kind::Fatal, message)
    }

    /// The handler stopped because it was told to; the job ends as
    /// `CANCELLED`.
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "cancelled")
    }

    /// The shortest time for which a job is put off.
    pub const MIN_SNOOZE: Duration = Duration::from_secs(1);

    /// Put the job off: it is given back, and may be claimed again after
    /// `after`, by any consumer. The attempt does not count, however often.
    ///
    /// For what is a matter of time, and of this job: a quota that is used up,
    /// an upload that has not come. At least [`Failure::MIN_SNOOZE`], so that a
    /// job that puts itself off for no time keeps nobody busy, and at most
    /// [`NewJob::MAX_DURATION`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use haulage::Failure;
    /// let put_off = Failure::snooze(Duration::from_secs(60)).because("the upload has not come yet");
    /// # assert_eq!(put_off.message(), "the upload has not come yet");
    /// ```
    pub fn snooze(after: Duration) -> Self {
        let after = after.clamp(Self::MIN_SNOOZE, NewJob::MAX_DURATION);
        Self::new(Kind::Snooze(after), format!("put off for {}", humantime::format_duration(after)))
    }

    /// What the handler needs is not there, and the job has not begun: a server
    /// that is down, a device that does not answer.
    ///
    /// The job is given back to its place in the queue at once, and the attempt
    /// does not count. The consumer claims no more until it is ready: it waits,
    /// from a second up to a minute, asks the
    /// [readiness probe](crate::consumer::ConsumerBuilder::readiness_probe) if
    /// it has one, and then tries one job; once that job has not come back
    /// like this, it takes as many as before. Jobs that run go on meanwhile.
    ///
    /// For what only some jobs need, use [`Failure::snooze`]: others can go on.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self::new(Kind::NotReady, reason)
    }

    /// The job is done, and its result has no JSON form, for this reason; trying again would not help.
    /// It ends in `ERROR`, as [`FailureKind::InvalidResult`](crate::FailureKind::InvalidResult).
    ///
    /// For handlers that make JSON themselves. Of any other result, the consumer finds out by itself.
    pub fn invalid_result(reason: impl fmt::Display) -> Self {
        Self::new(Kind::InvalidResult, format!("the handler's result has no JSON form: {reason}"))
    }

    /// The same with other words: what is kept in the job's record.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Self { message: reason.into(), ..self }
    }

    /// The same with a name for the type of error: what is kept in the job's record
    /// ([`JobError::type_name`](crate::JobError::type_name)). An error that became a failure by
    /// `?` has that of its type.
    #[must_use]
    pub fn of_type(self, name: impl Into<String>) -> Self {
        Self { type_name: Some(name.into()), ..self }
    }

    /// The name of the type of error, where it is known.
    pub fn type_name(&self) -> Option<&str> {
        self.type_name.as_deref()
    }

    /// Whether the job is to be tried again, by an attempt that counts.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Retry(_))
    }

    /// What happened, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether one of these predicates holds for the error that this was made
    /// of, or for one of its causes.
    pub(crate) fn is_any(&self, predicates: &[Predicate]) -> bool {
        let mut next = self.source.as_deref().map(|e| e as &(dyn StdError + 'static));
        while let Some(error) = next {
            if predicates.iter().any(|holds| holds(error)) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// Tells whether an error is one that trying again does not help.
pub(crate) type Predicate = Box<dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync>;

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            kind: Kind::Retry(None),
            message: with_causes(&error),
            type_name: Some(std::any::type_name::<E>().to_owned()),
            source: Some(Box::new(error)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?}: {})", self.kind, self.message)
    }
}
