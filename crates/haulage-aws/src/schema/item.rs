//! Records as items of the table.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Attempt, FailureKind, JobError, JobId, JobSpec, NewJob, QueueName, Record, Status, Timestamp, Webhook,
    WebhookEvent,
    lifecycle::{self, End, Terms, Transition},
};

use crate::{
    queue_name::of_sqs,
    schema::{
        body::DocumentPlace,
        envelope::{Ending, Envelope},
        name,
        update::{Item, Write, moment, number, text, whole_seconds},
    },
};

/// One item that is a record: of a job, or of a program's own.
#[derive(Clone, Debug)]
pub(crate) struct Row(pub(crate) Item);

impl Row {
    /// The record, if the item is one.
    pub(crate) fn of(item: Item) -> Option<Self> {
        matches!(item.get(name::STATUS), Some(AttributeValue::S(_))).then_some(Self(item))
    }

    /// The same without what is large and need not be at hand. What a webhook is told has the error of an
    /// earlier attempt in it.
    pub(crate) fn without_documents(mut self) -> Self {
        let error = (!self.has_webhook()).then_some(name::ERROR);
        for name in [name::BODY, name::CHECKPOINT].into_iter().chain(error).chain(name::PAST) {
            self.0.remove(name);
        }
        self
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_s().ok().map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_n().ok()?.parse().ok()
    }

    pub(crate) fn count(&self, name: &str) -> u32 {
        self.number(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }

    pub(crate) fn moment(&self, name: &str) -> Option<Timestamp> {
        self.number(name).map(Timestamp::from_micros)
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        self.number(name).and_then(|n| u64::try_from(n).ok()).map(Duration::from_micros)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(|value| value.as_bool().ok()).copied().unwrap_or(false)
    }

    pub(crate) fn id(&self) -> JobId {
        JobId::from(self.text(name::ID).unwrap_or_default())
    }

    /// The status as it is written; `None` for a purged job.
    pub(crate) fn status(&self) -> Option<Status> {
        self.text(name::STATUS)?.parse().ok()
    }

    /// What the store calls its job's queue.
    pub(crate) fn queue(&self) -> QueueName {
        self.text(name::QUEUE).map(|queue| of_sqs(queue).1).unwrap_or_default()
    }

    /// Whether it is a job's. A program may have noted one before a consumer saw its message.
    pub(crate) fn is_job(&self) -> bool {
        self.text(name::QUEUE).is_some()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.text(name::DEAD_OF).is_some()
    }

    /// Where it is in the order of submits.
    pub(crate) fn place(&self) -> (Timestamp, String) {
        (self.moment(name::SUBMITTED_AT).unwrap_or(Timestamp::from_micros(0)), self.id().to_string())
    }

    /// Whether nothing is left to do for the job.
    pub(crate) fn is_over(&self) -> bool {
        self.status().is_none_or(Status::is_terminal)
    }

    /// Whether it was no success: it may be put back to work.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.status(), Some(Status::Error | Status::Cancelled))
    }

    /// Where its body is, if that is not the record.
    pub(crate) fn body_place(&self) -> Option<DocumentPlace> {
        DocumentPlace::from_text(self.text(name::BODY_AT)?)
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.count(name::ATTEMPT)
    }

    /// How the job ended, if it did.
    pub(crate) fn ending(&self) -> Option<Ending> {
        Some(Ending { attempt: self.attempt(), at: self.moment(name::FINISHED_AT)? })
    }

    pub(crate) fn op(&self) -> &str {
        self.text(name::OP).unwrap_or_default()
    }

    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        self.moment(name::DUE_AT)
    }

    pub(crate) fn result_ttl(&self) -> Duration {
        self.duration(name::RESULT_TTL).unwrap_or(NewJob::DEFAULT_RESULT_TTL)
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|t| t <= now)
    }

    /// From when on it reads as expired. Programs from before Haulage say it in
    /// seconds only; a job's item has those as soon as it waits, and they are no end of it.
    fn expires_at(&self) -> Option<Timestamp> {
        self.moment(name::EXPIRES_AT).or_else(|| {
            let seconds = self.number(name::EXPIRATION).filter(|_| !self.is_job())?;
            Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
        })
    }

    /// Whether this claim holds the job: nobody has taken it since.
    pub(crate) fn is_held_by(&self, attempt: u32) -> bool {
        self.status() == Some(Status::InProgress) && self.attempt() == attempt
    }

    /// Whether a claim holds the job whose lease has not run out.
    pub(crate) fn is_leased(&self, now: Timestamp) -> bool {
        self.status() == Some(Status::InProgress) && self.due_at().is_some_and(|end| end > now)
    }

    /// What decides what becomes of the job when its attempt ends.
    pub(crate) fn terms(&self, now: Timestamp) -> Terms {
        let counted = self.counted();
        let late = self.must_start().filter(|(_, end)| *end <= now).map(|(limit, _)| limit);
        let max_attempts = counted.saturating_add(self.count(name::LEFT));
        Terms { counted, max_attempts, cancel_requested: self.flag(name::CANCEL), late }
    }

    /// What is to be told of the job, and to whom: of most, nothing.
    pub(crate) fn webhook(&self) -> Option<Webhook> {
        let spec = self.text(name::SPEC).filter(|spec| spec.contains("\"webhook\""))?;
        serde_json::from_str::<JobSpec>(spec).ok()?.webhook
    }

    pub(crate) fn has_webhook(&self) -> bool {
        self.webhook().is_some()
    }

    /// Whether its webhook is to be told of such.
    pub(crate) fn tells(&self, event: WebhookEvent) -> bool {
        self.webhook().is_some_and(|webhook| webhook.events.contains(&event))
    }

    /// The texts of a set.
    pub(crate) fn texts(&self, name: &str) -> &[String] {
        self.0.get(name).and_then(|value| value.as_ss().ok()).map_or(&[], Vec::as_slice)
    }

    /// How long it may take to start, and until when that is. `None` where it need
    /// not, or an attempt has begun, or an operator has redriven it.
    pub(crate) fn must_start(&self) -> Option<(Duration, Timestamp)> {
        if self.flag(name::BEGUN) || self.text(name::REDRIVEN_BY).is_some() {
            return None;
        }
        let limit = self.json::<JobSpec>(name::SPEC)?.start_within?;
        Some((limit, self.moment(name::SUBMITTED_AT)?.after(limit)))
    }

    /// The end of a job that waits and has not started in time.
    pub(crate) fn late(&self, now: Timestamp) -> Option<End> {
        let waits = self.is_job() && self.status() == Some(Status::Submitted);
        let (limit, _) = self.must_start().filter(|(_, moment)| waits && *moment <= now)?;
        Some(End::expired(limit))
    }

    /// The end of a job that was claimed when it should have been over. Its handler
    /// was not called.
    pub(crate) fn claimed_late(&self) -> Option<End> {
        let (limit, moment) = self.must_start()?;
        let late = self.moment(name::STARTED_AT).is_some_and(|at| at >= moment);
        (late && self.status() == Some(Status::InProgress)).then(|| End::expired(limit))
    }

    /// What a claim makes of the job, if the lease of its holder ran out.
    /// Records of a program's own have none.
    pub(crate) fn lapse(&self, now: Timestamp) -> Option<Transition> {
        self.silent_since(Duration::ZERO, now)
    }

    /// The same for whoever only looks, which is once the holder was silent for
    /// another lease: until then it may only have slept.
    pub(crate) fn abandoned(&self, now: Timestamp) -> Option<Transition> {
        self.silent_since(self.duration(name::LEASE).unwrap_or_default(), now)
    }

    fn silent_since(&self, end_of_lease: Duration, now: Timestamp) -> Option<Transition> {
        let over = self.is_job()
            && self.status() == Some(Status::InProgress)
            && self.due_at().is_none_or(|end| end.after(end_of_lease) <= now);
        over.then(|| match self.claimed_late() {
            Some(end) => Transition::End(end),
            None => lifecycle::lapse(&self.terms(now), self.text(name::WORKER), false),
        })
    }

    /// How many attempts so far count towards `max_attempts`.
    pub(crate) fn counted(&self) -> u32 {
        self.attempt().saturating_sub(self.count(name::UNCOUNTED))
    }

    /// The job's options, from their attributes and the document with the rest.
    pub(crate) fn spec(&self) -> JobSpec {
        let mut spec: JobSpec = self.json(name::SPEC).unwrap_or_default();
        spec.queue = self.queue();
        spec.request_id = self.text(name::REQUEST_ID).map(str::to_owned);
        spec.group = self.text(name::GROUP).map(str::to_owned);
        spec.max_attempts = self.count(name::MAX_ATTEMPTS);
        spec.result_ttl = self.result_ttl();
        if let Some(token) = self.text(name::TASK_TOKEN) {
            spec.metadata.insert(name::TASK_TOKEN.to_owned(), token.to_owned());
        }
        spec
    }

    /// The attempts before the latest.
    pub(crate) fn past(&self) -> Vec<Attempt> {
        name::PAST.iter().filter_map(|name| self.json(name)).collect()
    }

    /// The latest attempt, which is over.
    pub(crate) fn attempt_over(&self, now: Timestamp, error: Option<&JobError>) -> Option<Attempt> {
        let worker = self.text(name::WORKER).map(str::to_owned);
        let attempt = Attempt::over(self.attempt(), worker, self.moment(name::STARTED_AT)?, now, error);
        Some(attempt.in_slot(self.text(name::SLOT).map(str::to_owned)))
    }

    pub(crate) fn error(&self) -> Option<JobError> {
        let message = self.text(name::ERROR)?;
        let kind = FailureKind::from_name(self.text(name::ERROR_KIND).unwrap_or_default());
        Some(JobError::new(kind, message).of_type(self.text(name::ERROR_TYPE).map(str::to_owned)))
    }

    /// The record as it is at `now`, without body and result. A job that its
    /// holder has abandoned shows as that, written or not.
    pub(crate) fn record(&self, now: Timestamp) -> Option<Record> {
        let submitted_at = self.moment(name::SUBMITTED_AT).unwrap_or(Timestamp::from_micros(0));
        let mut record = Record::new(self.id(), self.spec(), submitted_at);
        record.status = self.status()?;
        record.attempt = self.attempt();
        record.uncounted = self.count(name::UNCOUNTED);
        record.started_at = self.moment(name::STARTED_AT);
        record.finished_at = self.moment(name::FINISHED_AT);
        record.due_at = self.due_at();
        record.expires_at = self.expires_at();
        record.worker = self.text(name::WORKER).map(str::to_owned);
        record.slot = self.text(name::SLOT).map(str::to_owned);
        record.progress = self.json(name::PROGRESS);
        record.cancel_requested = self.flag(name::CANCEL);
        record.dead = self.is_dead();
        record.error = self.error();
        if let Some(Transition::Wait(wait)) = self.abandoned(now) {
            record.status = Status::Submitted;
            record.error = wait.error;
        }
        Some(record)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.text(name)?).ok()
    }
}

/// In the order of their submits.
pub(crate) fn sort(rows: &mut [Row]) {
    rows.sort_by_key(Row::place);
}

/// A status as items have it, in small letters: so wrote programs from before Haulage,
/// and so they read.
pub(crate) fn spelled(status: Status) -> AttributeValue {
    text(status.as_str().to_ascii_lowercase())
}

/// The item of a job that was just submitted.
pub(crate) fn submitted(id: &JobId, envelope: &Envelope, queue: &str) -> Item {
    let max = envelope.spec.max_attempts;
    let mut item: Item = [
        (name::ID, text(id.as_str())),
        (name::STATUS, spelled(Status::Submitted)),
        (name::QUEUE, text(queue)),
        (name::ATTEMPT, number(0)),
        (name::UNCOUNTED, number(0)),
        (name::MAX_ATTEMPTS, number(max)),
        (name::LEFT, number(max)),
        (name::DUE_AT, moment(envelope.due_at())),
        (name::UPDATED_AT, whole_seconds(envelope.submitted_at)),
        (name::OP, text(&envelope.token)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    item.extend(described(envelope).map(|(name, value)| (name.to_owned(), value)));
    item
}

/// What the record keeps of the job's options and body, whatever its status.
pub(crate) fn described(envelope: &Envelope) -> impl Iterator<Item = (&'static str, AttributeValue)> {
    let spec = &envelope.spec;
    [
        Some((name::SUBMITTED_AT, moment(envelope.submitted_at))),
        Some((name::RESULT_TTL, number(spec.result_ttl.as_micros()))),
        spec.request_id.clone().map(|v| (name::REQUEST_ID, text(v))),
        spec.group.clone().map(|v| (name::GROUP, text(v))),
        document(spec).map(|v| (name::SPEC, text(v))),
        spec.metadata.get(name::TASK_TOKEN).map(|v| (name::TASK_TOKEN, text(v))),
        Some((name::PROOF, text(&envelope.proof))),
        envelope.body.in_record(),
    ]
    .into_iter()
    .flatten()
}

/// The options that have no attribute; nothing where all of them are the default.
pub(crate) fn document(spec: &JobSpec) -> Option<String> {
    let mut rest = spec.clone();
    (rest.queue, rest.request_id, rest.group) = (QueueName::default(), None, None);
    (rest.max_attempts, rest.result_ttl) = (NewJob::DEFAULT_MAX_ATTEMPTS, NewJob::DEFAULT_RESULT_TTL);
    rest.metadata.remove(name::TASK_TOKEN);
    if rest.is_default() { None } else { serde_json::to_string(&rest).ok() }
}

/// The write that says that a job is over. Without `deleted_after`, DynamoDB does not delete the item:
/// as the job ran, it has no `expiration`.
fn over(status: Status, now: Timestamp, kept: Duration, deleted_after: Option<Duration>) -> Write {
    let write = Write::at(now)
        .set(name::STATUS, spelled(status))
        .set(name::FINISHED_AT, moment(now))
        .set(name::EXPIRES_AT, moment(now.after(kept)))
        .remove(&[name::DUE_AT, name::RECEIPT, name::RECEIVED_AT]);
    match deleted_after {
        Some(after) => write.set(name::EXPIRATION, seconds(now.after(after))),
        None => write,
    }
}

/// The write of a success, which other programs may have to read
/// ([`Config::keep_successes`](crate::Config::keep_successes)). `retention` is that of the queue: as
/// long, a message of this job may still turn up, and must find that it is over.
pub(crate) fn succeeded(now: Timestamp, kept: Duration, retention: Duration, keep_successes: bool) -> Write {
    over(Status::Success, now, kept, (!keep_successes).then(|| kept.max(retention)))
}

/// The same of one of this queue of SQS that has failed, or was cancelled. It is written by
/// [`Store::change`](crate::services::store::Store::change), which tells its webhook.
pub(crate) fn ended(
    end: &End,
    queue: &str,
    now: Timestamp,
    result_ttl: Duration,
    retention: Duration,
) -> Write {
    let kept = end.kept(result_ttl);
    let mut write = over(end.status(), now, kept, Some(kept.max(retention)));
    if let Some(error) = end.error() {
        write = with_error(write, &error);
    }
    if end.is_dead() {
        write = write.set(name::DEAD_OF, text(of_sqs(queue).0));
    }
    write
}

/// An attempt has begun: the job need not start in time any more.
pub(crate) fn begun(write: Write, row: &Row) -> Write {
    if row.must_start().is_some() { write.set(name::BEGUN, AttributeValue::Bool(true)) } else { write }
}

/// The record remembers an attempt that is not the latest any more.
pub(crate) fn remember(write: Write, attempt: Option<&Attempt>) -> Write {
    let Some(attempt) = attempt else { return write };
    let place = attempt.number as usize % name::PAST.len();
    match serde_json::to_string(attempt) {
        Ok(json) => write.set(name::PAST[place], text(json)),
        Err(_) => write,
    }
}

pub(crate) fn with_error(write: Write, error: &JobError) -> Write {
    let write = write.set(name::ERROR, text(&error.message)).set(name::ERROR_KIND, text(error.kind.as_str()));
    match &error.type_name {
        Some(name) => write.set(name::ERROR_TYPE, text(name)),
        // That of an earlier error.
        None => write.remove(&[name::ERROR_TYPE]),
    }
}

/// A moment in the whole seconds of DynamoDB's TTL, not too early.
pub(crate) fn seconds(moment: Timestamp) -> AttributeValue {
    number(moment.as_micros().div_euclid(1_000_000) + 1)
}
