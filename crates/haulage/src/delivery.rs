//! What is to be told to webhooks: kept with the jobs, until it has been told.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

#[allow(unused_imports)] // for the documentation
use crate::backend::{Backend, Capabilities};
use crate::{JobId, QueueName, Record, Result, Timestamp, Webhook, WebhookEvent, seconds};

/// What a backend keeps of what is to be told to webhooks: an outbox, from which whoever can reach the
/// receivers takes it; see [`Backend::deliveries`].
///
/// A delivery is written in the transaction that makes true what it tells of, so there is one for each
/// [`WebhookEvent`] that a job wants, and none for what did not happen. It is told at least once: whoever
/// claims it may die after the receiver has it. It goes with its success, and [`Delivery::KEPT`] after it was
/// made in any case; it outlives the record of a job that expires, and goes with that of one that is purged.
///
/// Progress that nobody wants any more ([`DeliveryOutcome::Dead`]) is not kept, and none of that job is told
/// again.
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// Takes hold of deliveries that are due. One that is claimed is tried by nobody else until its lease
    /// is over, and then it is due again.
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<ClaimedDeliveries>;

    /// Says what came of tries; the answers, in order, tell whether the try was the latest of its delivery.
    /// One that was not changes nothing.
    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>>;

    /// Those that have not been told, the newest first; of dead ones, those that died last.
    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>>;

    /// Makes dead ones due, with their time anew, and tells which.
    async fn redrive_deliveries(&self, what: RedriveDeliveries) -> Result<Vec<String>>;
}

/// One thing that is to be told to one URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Its id, by which a receiver knows it again: the same with each try.
    pub id: String,
    /// The job of which it tells.
    pub job: JobId,
    /// The queue of that job.
    pub queue: QueueName,
    /// What it tells of.
    pub event: WebhookEvent,
    /// Where to. Where it is only looked at, without its query, in which there may be a token.
    pub url: String,
    /// When that was.
    pub created_at: Timestamp,
    /// How often it has been tried, or begun to be.
    pub tries: u32,
    /// When it is tried next: while it is being tried, if nothing comes of that. `None` once it is dead.
    pub due_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Option<Timestamp>,
    /// What came of the last try.
    pub error: Option<String>,
}

impl Delivery {
    /// How long it is kept at most, dead or not, from when it was made: 14 days.
    pub const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
    /// How long after a try the next one may be: a day. What is due later than that is from a time when the
    /// clock was ahead.
    pub const LATEST: Duration = Duration::from_secs(24 * 3600);

    /// The same where the clock has gone back by so much: by more than a little, and what waits for long may
    /// have been put off while it was ahead. To be told early does no harm.
    pub(crate) fn latest(back: Duration) -> Duration {
        if back > Duration::from_secs(60) { Duration::from_secs(3600) } else { Self::LATEST }
    }

    /// One that was made at this moment, and is due.
    pub fn new(
        id: impl Into<String>,
        job: JobId,
        queue: QueueName,
        event: WebhookEvent,
        url: impl Into<String>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            job,
            queue,
            event,
            url: url.into(),
            created_at,
            tries: 0,
            due_at: Some(created_at),
            dead_at: None,
            error: None,
        }
    }

    /// The same as it is shown: the query of the URL may be a secret.
    #[must_use]
    pub fn shown(mut self) -> Self {
        self.url = Webhook::new(self.url).shown().url;
        self
    }
}

/// What is asked for by a claim of deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRequest {
    /// Up to so many.
    pub max: usize,
    /// Up to so many of one host, [`in_flight`](Self::in_flight) included: one that is slow holds up no other.
    pub per_host: usize,
    /// How many each [host](Webhook::host) has under way already.
    pub in_flight: BTreeMap<String, usize>,
    /// How long they are the claimer's.
    #[serde(with = "seconds")]
    pub lease: Duration,
}

/// What a claim brings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedDeliveries {
    /// The deliveries.
    pub deliveries: Vec<ClaimedDelivery>,
    /// When another one will be due, as far as is known; hosts that have enough under way left out.
    pub next: Option<Timestamp>,
}

/// A delivery in somebody's hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedDelivery {
    /// What it is; its [`tries`](Delivery::tries) name this one.
    pub delivery: Delivery,
    /// From when on its time counts: its first try, or the first since it was redriven.
    pub since: Timestamp,
    /// What to send, a JSON document.
    pub body: String,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverySettlement {
    /// Of which delivery.
    pub id: String,
    /// Of which try.
    pub tries: u32,
    /// What.
    pub outcome: DeliveryOutcome,
}

/// What becomes of a delivery after a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The receiver has it.
    Done,
    /// It is tried again.
    Again {
        /// So much later.
        #[serde(with = "seconds")]
        after: Duration,
        /// Why.
        error: String,
    },
    /// It is given up.
    Dead {
        /// Why.
        error: String,
    },
}

/// Which deliveries to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeliveryQuery {
    /// Only dead ones.
    #[serde(default)]
    pub dead: bool,
    /// Only those of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Only those of jobs of this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Up to so many.
    pub limit: usize,
}

impl DeliveryQuery {
    /// Up to so many of all of them.
    pub const fn new(limit: usize) -> Self {
        Self { dead: false, job: None, queue: None, id: None, limit }
    }

    /// Only this one.
    pub fn one(id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..Self::new(1) }
    }

    /// Whether it is one of those.
    pub fn matches(&self, delivery: &Delivery) -> bool {
        (!self.dead || delivery.dead_at.is_some())
            && self.job.as_ref().is_none_or(|job| delivery.job == *job)
            && self.queue.as_ref().is_none_or(|queue| delivery.queue == *queue)
            && self.id.as_ref().is_none_or(|id| delivery.id == *id)
    }
}

/// Which dead deliveries to make due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedriveDeliveries {
    /// Up to so many, the oldest first, that had died by a moment: whoever redrives all of them in parts
    /// meets none twice that dies again meanwhile.
    Dead {
        /// Up to so many.
        limit: usize,
        /// Only those of jobs of this queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
        /// Only those that were dead then.
        by: Timestamp,
    },
    /// These, where they are dead.
    Deliveries(Vec<String>),
}

/// When something is told, and where it stands: for a backend that writes it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From when on.
    pub due: Timestamp,
    /// How often it has been tried.
    pub tries: u32,
    /// When it was tried first.
    pub since: Option<Timestamp>,
    /// What came of the last try, if it came to nothing.
    pub error: Option<String>,
}

impl Schedule {
    /// From this moment on; it has not been tried.
    pub const fn at(due: Timestamp) -> Self {
        Self { due, tries: 0, since: None, error: None }
    }

    /// Of progress, in place of what waits if something does: it may be a receiver that is away. `told_at` is
    /// when the one before was due or told, and is to be noted anew where [`tries`](Self::tries) is 0.
    pub fn of_progress(waiting: Option<Self>, told_at: Option<Timestamp>, now: Timestamp) -> Self {
        waiting.unwrap_or_else(|| {
            let next = told_at.map(|at| at.after(Webhook::PROGRESS_EVERY));
            // One far in the future is from a time when the clock was ahead.
            let next = next.filter(|next| *next <= now.after(2 * Webhook::PROGRESS_EVERY));
            Self::at(next.map_or(now, |next| next.max(now)))
        })
    }
}

/// What a backend is to write down, in the transaction that makes it true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is.
    pub delivery: Delivery,
    /// The [host](Webhook::host) that is to be told.
    pub host: String,
    /// What it is to be told, a JSON document.
    pub body: String,
}

impl Notice {
    /// What is to be told of a job, if its webhook is to be told of that: its record as it is now, with
    /// its result if it has one.
    pub fn of(event: WebhookEvent, mut record: Record, now: Timestamp) -> Option<Self> {
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            timestamp: Timestamp,
            data: &'a Record,
        }
        let webhook = record.spec.webhook.clone().filter(|webhook| webhook.events.contains(&event))?;
        (record.body, record.checkpoint) = (None, None);
        record.attempts.clear();
        record.result = record.result.filter(|result| result.size() <= Webhook::MAX_RESULT_BYTES);
        record.error = record.error.map(|error| error.cut(Webhook::MAX_ERROR_BYTES));
        let body = serde_json::to_string(&Body { kind: event.kind(), timestamp: now, data: &record });
        let (job, queue) = (record.id.clone(), record.spec.queue.clone());
        let delivery = Delivery::new(new_id(), job, queue, event, webhook.url.as_str(), now);
        // What a record has in it can be written as JSON.
        Some(Self { delivery, host: webhook.host(), body: body.ok()? })
    }
}

/// An id that no other delivery has, nor one that a copy of this process makes.
fn new_id() -> String {
    use std::fmt::Write as _;
    let mut bytes = [0; 12];
    // By anything less than the system's randomness, two events might be one for a receiver.
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    bytes.iter().fold("msg_".to_owned(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FailureKind, JobError, JobSpec, Json, Status};

    fn record(webhook: Webhook) -> Record {
        let spec = JobSpec { webhook: Some(webhook), ..JobSpec::default() };
        let mut record = Record::new("j-1".into(), spec, Timestamp::from_micros(0));
        record.status = Status::Error;
        record.body = Some(Json::from_stored("\"secret\""));
        record.checkpoint = Some(Json::from_stored("1"));
        record
    }

    #[test]
    fn what_is_sent_is_the_record_without_what_is_large_or_secret() {
        let mut record = record(Webhook::new("https://a.example/?token=secret"));
        record.result = Some(Json::from_stored(format!("\"{}\"", "x".repeat(Webhook::MAX_RESULT_BYTES))));
        record.error = Some(JobError::new(FailureKind::Handler, format!("{}the end", "x".repeat(50_000))));
        let now = Timestamp::from_micros(1_000_000);
        let notice = Notice::of(WebhookEvent::Ended, record.clone(), now).expect("a notice");
        let body: serde_json::Value = serde_json::from_str(&notice.body).expect("JSON");
        assert_eq!(
            (&body["type"], &body["timestamp"]),
            (&"job.ended".into(), &"1970-01-01T00:00:01.000000Z".into())
        );
        let data = &body["data"];
        assert_eq!((&data["id"], &data["status"]), (&"j-1".into(), &"ERROR".into()));
        for left_out in ["body", "checkpoint", "attempts", "result"] {
            assert!(data.get(left_out).is_none(), "{left_out}: {data}");
        }
        let error = data["error"]["message"].as_str().expect("an error");
        assert!(error.len() <= Webhook::MAX_ERROR_BYTES && error.ends_with("the end"), "{error}");
        assert!(!notice.body.contains("secret"), "{}", notice.body);
        assert_eq!(notice.delivery.url, "https://a.example/?token=secret", "where it goes to is all of it");
        record.result = Some(Json::from_stored("null"));
        let small = Notice::of(WebhookEvent::Ended, record, now).expect("a notice");
        assert!(small.body.contains(r#""result":null"#), "{}", small.body);
        assert_ne!(small.delivery.id, notice.delivery.id);
    }

    #[test]
    fn nothing_is_told_that_nobody_wants_to_know() {
        let now = Timestamp::from_micros(0);
        let one = record(Webhook::new("https://a.example").events([WebhookEvent::Progress]));
        assert_eq!(Notice::of(WebhookEvent::Ended, one.clone(), now), None);
        assert!(Notice::of(WebhookEvent::Progress, one, now).is_some());
        let none = Record::new("j".into(), JobSpec::default(), now);
        assert_eq!(Notice::of(WebhookEvent::Ended, none, now), None);
    }
}
