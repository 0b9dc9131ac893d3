//! What is to be told to webhooks, as items of the table: one for each delivery, beside the records.
//!
//! They have no status, so nobody takes them for records. While one is to be told, it is in the index of these
//! under the name of its store, in the order in which they are due; once it is dead, under another name.

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    FailureKind, JobId, QueueName, Record, Status, Timestamp, WebhookEvent,
    backend::{ClaimedDelivery, Delivery, DeliveryOutcome, DeliverySettlement, Notice, Schedule},
};

use crate::{
    queue_name::of_sqs,
    random::mark,
    schema::{
        envelope::hash,
        item::{Row, seconds},
        name,
        update::{Item, Write, moment, number, text},
    },
};

/// The name under which it is in the index, with [`name::DUE_AT`]: while it is to be told, when it is due; once it
/// is dead, when it died.
pub(crate) const WEBHOOK_OF: &str = "webhook_of";
/// Its whole id: that of progress is longer than what is in its key.
pub(crate) const DELIVERY: &str = "delivery";
/// The host that is to be told.
pub(crate) const HOST: &str = "host";
/// Of which job it tells; the [queue](name::QUEUE) is that job's.
pub(crate) const JOB: &str = "job";
/// When it was made.
pub(crate) const CREATED_AT: &str = "created_at";
pub(crate) const TRIES: &str = "tries";
/// When it was tried first.
pub(crate) const SINCE: &str = "since_at";
/// Somebody tries it, and has until it is [due](name::DUE_AT).
pub(crate) const TRYING: &str = "trying";
/// Of progress: what somebody tries to tell, while newer waits.
const OVERTAKEN: &str = "overtaken";
/// Of progress: nobody wants to be told of any.
const UNWANTED: &str = "unwanted";
const EVENT: &str = "event";
const URL: &str = "url";

/// What the index has besides its keys: enough to choose by.
pub(crate) const PROJECTED: [&str; 4] = [HOST, JOB, name::QUEUE, CREATED_AT];

/// With what the keys of these items begin. A policy goes by it.
const PREFIX: &str = "webhook#";
/// With what ids of deliveries begin, and how long they are: so much of one is in its key. There is one item for
/// all progress of a job, with a key that follows from the job, and its ids have more to them, so that each
/// is another one for its receiver.
const ID_PREFIX: &str = "msg_";
const ID_LENGTH: usize = ID_PREFIX.len() + 24;

/// Where dead ones of a store are in the index. No queue of SQS has such a name.
pub(crate) fn dead_of(store: &str) -> String {
    format!("{store}#dead")
}

/// The key of a delivery; `None` where no delivery has such an id.
pub(crate) fn key(id: &str) -> Option<String> {
    let is_id = id.starts_with(ID_PREFIX) && id.len() <= 2 * ID_LENGTH && id.is_ascii() && !id.contains('#');
    is_id.then(|| format!("{PREFIX}{}", &id[..ID_LENGTH.min(id.len())]))
}

/// The key of the item that has the progress of a job.
pub(crate) fn progress_key(job: &JobId) -> String {
    format!("{PREFIX}{}", of_progress(job))
}

fn of_progress(job: &JobId) -> String {
    format!("{ID_PREFIX}{}", &hash(job.as_str())[..ID_LENGTH - ID_PREFIX.len()])
}

/// The item of what is to be told of a job of this queue of SQS.
pub(crate) fn item(notice: Notice, schedule: &Schedule, queue: &str) -> Item {
    let Notice { delivery, host, body } = notice;
    let key = key(&delivery.id).unwrap_or_default();
    let mut item: Item = [
        (name::ID, text(key)),
        (name::OP, text(mark())),
        (WEBHOOK_OF, text(of_sqs(queue).0)),
        (name::DUE_AT, moment(schedule.due)),
        (DELIVERY, text(delivery.id)),
        (JOB, text(delivery.job.as_str())),
        (name::QUEUE, text(queue)),
        (EVENT, text(delivery.event.as_str())),
        (URL, text(delivery.url)),
        (HOST, text(host)),
        (name::BODY, text(body)),
        (CREATED_AT, moment(delivery.created_at)),
        (TRIES, number(schedule.tries)),
        (name::EXPIRATION, seconds(delivery.created_at.after(Delivery::KEPT))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let rest = [(SINCE, schedule.since.map(moment)), (name::ERROR, schedule.error.as_ref().map(text))];
    item.extend(rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    item
}

/// The same of progress.
pub(crate) fn progress(
    mut notice: Notice,
    schedule: &Schedule,
    overtaken: Option<&Try>,
    queue: &str,
) -> Item {
    let random = notice.delivery.id.split_off(ID_PREFIX.len());
    notice.delivery.id = of_progress(&notice.delivery.job) + &random;
    let mut item = item(notice, schedule, queue);
    item.extend(overtaken.map(|overtaken| (OVERTAKEN.to_owned(), overtaken.attribute())));
    item
}

/// Whether that is the id of progress.
pub(crate) fn is_progress(id: &str) -> bool {
    id.len() > ID_LENGTH
}

/// In place of the progress of a job, of which nothing is told any more. (Who ends jobs need not be
/// allowed to delete.)
pub(crate) fn no_progress(job: &JobId, now: Timestamp) -> Item {
    [(name::ID, text(progress_key(job))), (name::OP, text(mark())), (name::EXPIRATION, seconds(now))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

impl Row {
    /// The deliveries that an item is: of progress, what is tried while newer waits is another one.
    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        let newest = self.delivery();
        let overtaken = newest.clone().zip(self.overtaken()).map(|(mut delivery, overtaken)| {
            let Try { id, created_at, schedule: Schedule { due, tries, error, .. } } = overtaken;
            (delivery.id, delivery.created_at, delivery.due_at) = (id, created_at, Some(due));
            (delivery.tries, delivery.error) = (tries, error);
            delivery
        });
        newest.into_iter().chain(overtaken).collect()
    }

    fn delivery(&self) -> Option<Delivery> {
        let event: WebhookEvent = self.text(EVENT)?.parse().ok()?;
        let (job, at) = (JobId::from(self.text(JOB)?), self.moment(CREATED_AT)?);
        let mut delivery = Delivery::new(self.text(DELIVERY)?, job, self.queue(), event, self.text(URL)?, at);
        let is_dead = self.text(WEBHOOK_OF)?.contains('#');
        (delivery.due_at, delivery.dead_at) =
            if is_dead { (None, self.due_at()) } else { (self.due_at(), None) };
        delivery.tries = self.count(TRIES);
        delivery.error = self.text(name::ERROR).map(str::to_owned);
        Some(delivery)
    }

    /// The same in somebody's hands, with what is to be sent.
    pub(crate) fn claimed_delivery(&self) -> Option<ClaimedDelivery> {
        let body = self.text(name::BODY)?.to_owned();
        Some(ClaimedDelivery { delivery: self.delivery()?, since: self.moment(SINCE)?, body })
    }

    /// What newer progress takes over from this: the place in time of what waits, and what somebody just tells.
    pub(crate) fn taken_over(&self, now: Timestamp) -> (Option<Schedule>, Option<Try>) {
        let newest = self.delivery().and_then(|delivery| {
            let Delivery { id, created_at, due_at: Some(due), tries, error, .. } = delivery else {
                return None;
            };
            let schedule = Schedule { due, tries, since: self.moment(SINCE), error };
            Some((Try { id, created_at, schedule }, self.is_tried()))
        });
        let all = [newest, self.overtaken().map(|overtaken| (overtaken, true))].into_iter().flatten();
        let (told, taken): (Vec<_>, Vec<_>) =
            all.partition(|(known, is_tried)| *is_tried && known.schedule.due > now);
        // Whoever told one of two may have died.
        let taken = taken.into_iter().map(|(known, _)| known.schedule).max_by_key(|taken| taken.tries);
        (taken, told.into_iter().next().map(|(told, _)| told))
    }

    fn overtaken(&self) -> Option<Try> {
        self.0.get(OVERTAKEN).and_then(Try::from_attribute)
    }

    fn is_tried(&self) -> bool {
        self.0.contains_key(TRYING)
    }

    /// Whether no more progress of this job is to be told.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.0.contains_key(UNWANTED)
    }

    /// What a try of progress makes of its item; `None` where it is not the latest try of that.
    pub(crate) fn settled(&self, settlement: DeliverySettlement, now: Timestamp) -> Option<Write> {
        let DeliverySettlement { id, tries, outcome } = settlement;
        let newest = self.delivery()?;
        let is_newest = newest.id == id && newest.tries == tries;
        let overtaken = self.overtaken().filter(|old| old.id == id && old.schedule.tries == tries);
        if !is_newest && overtaken.is_none() {
            return None;
        }
        let write = Write::at(now);
        let nothing_left = |write: Write| {
            let until = seconds(now.after(Delivery::KEPT));
            write.set(name::EXPIRATION, until).remove(&OF_DELIVERY)
        };
        let (after, error) = match outcome {
            // What is older is not told after it.
            DeliveryOutcome::Done if is_newest => {
                return Some(nothing_left(write).set(name::TOLD_AT, moment(now)));
            }
            DeliveryOutcome::Done => return Some(write.set(name::TOLD_AT, moment(now)).remove(&[OVERTAKEN])),
            DeliveryOutcome::Dead { .. } => {
                return Some(nothing_left(write).set(UNWANTED, AttributeValue::Bool(true)));
            }
            DeliveryOutcome::Again { after, error } => (now.after(after), error),
        };
        let Some(Try { schedule, .. }) = overtaken.filter(|_| !is_newest) else {
            return Some(
                write.set(name::DUE_AT, moment(after)).set(name::ERROR, text(error)).remove(&[TRYING]),
            );
        };
        let write = write.remove(&[OVERTAKEN]);
        if self.is_tried() {
            return Some(write);
        }
        // The newer takes over its place in time: the receiver may be away. What is known of that by tries of
        // the newer itself stays.
        let due = newest.due_at.filter(|_| newest.tries > 0).map_or(after, |due| due.max(after));
        let write = write
            .set(name::DUE_AT, moment(due))
            .set(TRIES, number(newest.tries.max(tries)))
            .set(name::ERROR, text(newest.error.unwrap_or(error)));
        let since = [self.moment(SINCE), schedule.since].into_iter().flatten().min();
        Some(since.map_or(write.clone(), |since| write.set(SINCE, moment(since))))
    }
}

/// What a delivery has of its own, and progress that is told has no more.
const OF_DELIVERY: [&str; 11] =
    [WEBHOOK_OF, name::DUE_AT, DELIVERY, EVENT, URL, HOST, name::BODY, TRIES, SINCE, TRYING, OVERTAKEN];

/// Progress that somebody tries to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    id: String,
    created_at: Timestamp,
    schedule: Schedule,
}

impl Try {
    fn attribute(&self) -> AttributeValue {
        let Self { id, created_at, schedule: Schedule { due, tries, since, error } } = self;
        let mut map: Item = [
            (DELIVERY, text(id)),
            (CREATED_AT, moment(*created_at)),
            (name::DUE_AT, moment(*due)),
            (TRIES, number(tries)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let rest = [(SINCE, since.map(moment)), (name::ERROR, error.as_ref().map(text))];
        map.extend(rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        AttributeValue::M(map)
    }

    fn from_attribute(attribute: &AttributeValue) -> Option<Self> {
        let row = Row(attribute.as_m().ok()?.clone());
        let schedule = Schedule {
            due: row.due_at()?,
            tries: row.count(TRIES),
            since: row.moment(SINCE),
            error: row.text(name::ERROR).map(str::to_owned),
        };
        Some(Self { id: row.text(DELIVERY)?.to_owned(), created_at: row.moment(CREATED_AT)?, schedule })
    }
}

/// One delivery, as far as the index knows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) due: Timestamp,
    pub(crate) host: String,
    pub(crate) job: JobId,
    pub(crate) queue: QueueName,
    pub(crate) created_at: Timestamp,
}

impl Entry {
    pub(crate) fn of(item: Item) -> Option<Self> {
        let row = Row(item);
        Some(Self {
            key: row.text(name::ID)?.to_owned(),
            due: row.due_at()?,
            host: row.text(HOST)?.to_owned(),
            job: JobId::from(row.text(JOB)?),
            queue: row.queue(),
            created_at: row.moment(CREATED_AT)?,
        })
    }

    /// Whether it is kept no longer, and DynamoDB has not come to delete it.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.created_at.after(Delivery::KEPT) <= now
    }
}

/// What a write makes of a job that its webhook may want to know: that it has ended, or that an attempt has
/// failed and another one follows. With the record as it is then.
pub(crate) fn event(before: &Row, write: &Write, after: &Row) -> Option<(WebhookEvent, Record)> {
    let (was, is) = (before.status(), after.status().filter(|_| after.is_job())?);
    if is.is_terminal() {
        if was.is_some_and(Status::is_terminal) {
            return None;
        }
        return Some((WebhookEvent::Ended, after.record(write.at)?));
    }
    let taken = after.attempt() > before.attempt();
    if was != Some(Status::InProgress) || !(is == Status::Submitted || taken) {
        return None;
    }
    // What was given back has not failed.
    let error =
        after.error().filter(|error| write.sets(name::ERROR) && error.kind != FailureKind::Released)?;
    // Whoever takes a job from a holder that is gone begins the next attempt in the same step.
    let mut record = if taken { before } else { after }.record(write.at)?;
    (record.status, record.error) = (Status::Submitted, Some(error));
    Some((WebhookEvent::AttemptFailed, record))
}

/// On the condition that this try of a delivery of the store is its latest, and it is not dead.
pub(crate) fn is_try(write: Write, store: &str, id: &str, tries: u32) -> Write {
    write
        .when("#webhook_of = :store AND #delivery = :id AND #tries = :try")
        .bind("store", text(store))
        .bind("id", text(id))
        .bind("try", number(tries))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haulage::{JobError, JobSpec, NewJob, Webhook, lifecycle::End};

    use super::*;
    use crate::{
        config::Config,
        schema::{
            envelope::Envelope,
            item::{ended, spelled, submitted, with_error},
        },
    };

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn waiting(webhook: Webhook) -> Row {
        let job = NewJob::new(&1).expect("JSON").webhook(webhook).request_id("r-1");
        let envelope = Envelope::new(&job, &Config::new("jobs.fifo"), NOW).expect("an envelope");
        Row(submitted(&"j-1".into(), &envelope, "jobs--bulk.fifo"))
    }

    fn running(attempt: u32) -> Row {
        let write = Write::at(NOW)
            .set(name::STATUS, spelled(Status::InProgress))
            .set(name::ATTEMPT, number(attempt))
            .set(name::WORKER, text("w"));
        Row(write.applied_to(&waiting(Webhook::new("https://a.example/x?token=secret")).0))
    }

    fn made(before: &Row, write: &Write) -> Option<(WebhookEvent, Record)> {
        event(before, write, &Row(write.applied_to(&before.0)))
    }

    fn failed(kind: FailureKind) -> Write {
        with_error(Write::at(NOW), &JobError::new(kind, "no")).set(name::STATUS, spelled(Status::Submitted))
    }

    #[test]
    fn what_a_write_makes_of_a_job_is_an_event() {
        let end = |end| ended(&end, "jobs--bulk.fifo", NOW, Duration::from_secs(60), Duration::ZERO);
        let dead = end(End::dead(JobError::new(FailureKind::Handler, "no")));
        for before in [running(1), waiting(Webhook::new("https://a.example"))] {
            let (event, record) = made(&before, &dead).expect("an event");
            assert_eq!((event, record.status, record.dead), (WebhookEvent::Ended, Status::Error, true));
            assert_eq!((record.finished_at, record.request_id()), (Some(NOW), "r-1"));
            // Whatever is written after the end is no end.
            let over = Row(dead.applied_to(&before.0));
            assert_eq!(made(&over, &Write::at(NOW).set(name::COPIED, AttributeValue::Bool(true))), None);
        }
        assert_eq!(made(&running(1), &end(End::Cancelled)).expect("an event").1.status, Status::Cancelled);

        let (event, record) = made(&running(1), &failed(FailureKind::Handler)).expect("an event");
        assert_eq!((event, record.status), (WebhookEvent::AttemptFailed, Status::Submitted));
        // The next claim begins in the step that says that the last one is lost.
        let taken = with_error(Write::at(NOW), &JobError::new(FailureKind::WorkerLost, "gone"))
            .set(name::STATUS, spelled(Status::InProgress))
            .set(name::ATTEMPT, number(2))
            .set(name::WORKER, text("other"));
        let (event, record) = made(&running(1), &taken).expect("an event");
        assert_eq!(
            (event, record.status, record.attempt),
            (WebhookEvent::AttemptFailed, Status::Submitted, 1)
        );
        assert_eq!(record.worker.as_deref(), Some("w"));
        assert_eq!(record.error.expect("an error").kind, FailureKind::WorkerLost);

        let back = Write::at(NOW).set(name::STATUS, spelled(Status::Submitted));
        let beat = Write::at(NOW).set(name::DUE_AT, moment(NOW));
        let claim = Write::at(NOW).set(name::STATUS, spelled(Status::InProgress)).add(name::ATTEMPT, 0, 1);
        let purge = Write::at(NOW).set(name::STATUS, text(name::PURGED));
        let again = Row(failed(FailureKind::Handler).applied_to(&running(1).0));
        assert_eq!(made(&running(1), &failed(FailureKind::Released)), None);
        for (before, write) in
            [(running(1), back), (running(1), beat), (again.clone(), claim), (again, purge)]
        {
            assert_eq!(made(&before, &write), None, "{write:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let record = running(3).record(NOW).expect("a record");
        let notice = Notice::of(WebhookEvent::Ended, record.clone(), NOW).expect("a notice");
        let row = Row(item(notice.clone(), &Schedule::at(NOW), "jobs--bulk.fifo"));
        assert_eq!(row.delivery().as_ref(), Some(&notice.delivery));
        assert_eq!(row.text(WEBHOOK_OF), Some("jobs.fifo"));
        assert_eq!(row.status(), None, "it is no record");
        let entry = Entry::of(row.0.clone()).expect("an entry");
        assert_eq!((entry.host.as_str(), entry.queue.as_str()), ("a.example", "bulk"));
        assert_eq!(Some(entry.key), key(&notice.delivery.id));
        assert!(entry.created_at == NOW && row.claimed_delivery().is_none(), "nobody has tried it");

        let webhook = Webhook::new("https://a.example").events([WebhookEvent::Progress]);
        let mut of_progress = record;
        of_progress.spec = JobSpec::default();
        of_progress.spec.webhook = Some(webhook);
        let mut ids = Vec::new();
        let schedule = Schedule { tries: 2, since: Some(NOW), error: Some("no".into()), ..Schedule::at(NOW) };
        for _ in 0..2 {
            let notice = Notice::of(WebhookEvent::Progress, of_progress.clone(), NOW).expect("a notice");
            let row = Row(progress(notice, &schedule, None, "jobs.fifo"));
            assert_eq!(row.taken_over(NOW), (Some(schedule.clone()), None));
            assert_eq!(row.text(name::ID), Some(progress_key(&"j-1".into()).as_str()), "one item for all");
            let id = row.delivery().expect("a delivery").id;
            assert_eq!(key(&id), Some(progress_key(&"j-1".into())));
            ids.push(id);
        }
        assert_ne!(ids[0], ids[1], "each is another one for its receiver");
        let none = Row(no_progress(&"j-1".into(), NOW));
        assert_eq!((none.taken_over(NOW), none.text(WEBHOOK_OF)), ((None, None), None));
    }

    #[test]
    fn only_deliveries_have_keys() {
        let id = format!("msg_{}", "0".repeat(24));
        assert_eq!(key(&id), Some(format!("webhook#{id}")));
        assert_eq!(key("msg_none"), Some("webhook#msg_none".into()));
        for other in ["", "j-1", "msg_#", "msg_ü", &"msg_0".repeat(100)] {
            assert_eq!(key(other), None, "{other}");
        }
    }
}
