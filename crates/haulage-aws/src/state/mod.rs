//! What all verbs share.

pub(crate) mod failures;
pub(crate) mod in_flight;
pub(crate) mod polls;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::config::Credentials;
use futures_util::{StreamExt, TryStreamExt, stream};
use haulage::{
    Error, JobId, Json, QueueName, Result, Timestamp,
    backend::{Capabilities, Groups},
    lifecycle::End,
};
use tokio::sync::{RwLock, watch};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::{
    config::Config,
    protection::Protection,
    queue_name,
    schema::{
        body::{Body, DocumentPlace, MAX_DOCUMENT, Packed, unpack},
        envelope::{Envelope, MAX_OPTIONS},
        fence::unchanged,
        item::{self, Row, seconds},
        name,
        object_retention::keep_days,
        update::{Item, Write, text},
    },
    services::{
        bucket::Bucket,
        cancels::Cancels,
        clients::{Clients, load},
        clock::ServerClock,
        meter::Meter,
        pauses::Pauses,
        queue::Queue,
        queues::Queues,
        store::Store,
        table::{PARALLEL, Table},
        unrecorded::Unrecorded,
    },
    state::{failures::Failures, in_flight::InFlight, polls::Polls},
};

/// The largest body or result without a bucket, in bytes: an item of DynamoDB
/// takes 400 KB (Developer Guide, "Service, account, and table quotas"), and
/// the rest of the record needs its part.
pub(crate) const MAX_IN_TABLE: usize = 350_000;
/// For how long a submit tries to write its records, before it goes on behind
/// the caller's back.
const RECORD_PATIENCE: Duration = Duration::from_secs(60);
/// For how long a submit waits for others with the same idempotency keys: some of
/// their [reservations](crate::delivery::deduplication::reserve).
const KEY_PATIENCE: Duration = Duration::from_secs(300);
/// For how long a look into the dead-letter queue hides what it finds, at least.
const COPIES_HIDDEN: Duration = Duration::from_secs(60);

/// What is set beside the configuration, mostly for tests and measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tuning {
    /// Credentials in place of those that the SDK finds.
    pub(crate) credentials: Option<Credentials>,
    /// The same for the table alone.
    pub(crate) table_credentials: Option<Credentials>,
    /// How wrong this machine's clock is taken to be, in microseconds.
    pub(crate) clock_off_by: i64,
    /// Whether capacity units are asked for.
    pub(crate) metered: bool,
    /// Whether records can be read without the queue.
    pub(crate) queue_optional: bool,
    /// For how long a submit tries to write its record, where that is not the usual.
    pub(crate) record_patience: Option<Duration>,
    /// For how long a submit waits for others with its keys, where that is not the usual.
    pub(crate) key_patience: Option<Duration>,
    /// For how long a look into the dead-letter queue hides what it finds, where that is not the usual.
    pub(crate) copies_hidden: Option<Duration>,
}

/// The backend, without its runtime.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) clients: Clients,
    pub(crate) queues: Queues,
    pub(crate) pauses: Pauses,
    pub(crate) cancels: Cancels,
    pub(crate) store: Store,
    pub(crate) in_flight: InFlight,
    /// Jobs whose messages were found to be lost, and when they were sent again.
    pub(crate) lost_seen: Mutex<HashMap<JobId, Timestamp>>,
    /// How often in a row the jobs of messages could not be looked at.
    pub(crate) failures: Failures,
    pub(crate) polls: Polls,
    pub(crate) protection: Protection,
    pub(crate) capabilities: Capabilities,
    pub(crate) meter: Meter,
    /// For how long a submit tries to write the records of what it has sent.
    pub(crate) record_patience: Duration,
    /// For how long a submit waits for others with the same idempotency keys.
    pub(crate) key_patience: Duration,
    /// For how long a look into the dead-letter queue hides what it finds, at least.
    pub(crate) copies_hidden: Duration,
    /// How many receives at once brought full batches lately.
    pub(crate) fan_out: AtomicUsize,
    /// Whether the last look at several queues brought something.
    pub(crate) busy: AtomicBool,
    /// Which of several queues is polled next, where there are fewer free slots.
    pub(crate) next_poll: AtomicUsize,
    /// Held, shared, from the protection of the task until its jobs are held,
    /// so that it is not released in between.
    pub(crate) starting: RwLock<()>,
    /// Whether the task could not be protected when it last had to be.
    pub(crate) unprotected: AtomicBool,
    /// Whether the last claim was told to stop.
    pub(crate) stopped: AtomicBool,
    /// What goes on behind the callers' backs.
    pub(crate) tasks: TaskTracker,
    /// How many items the scan that is under way has read.
    pub(crate) scanned: watch::Sender<u64>,
    /// Where the next look at what is to be told to webhooks begins.
    deliveries_from: Mutex<Option<Item>>,
    /// The latest `submitted_at` that was given.
    latest: AtomicI64,
}

impl Inner {
    pub(crate) async fn open(config: Config, sdk: Option<SdkConfig>, tuning: Tuning) -> Result<Self> {
        config.validate()?;
        let sdk = match sdk {
            Some(sdk) => sdk,
            None => load(&config, tuning.credentials.clone()).await,
        };
        let server_clock = ServerClock::new(tuning.clock_off_by);
        let meter = Meter::new(tuning.metered);
        let clients = Clients::new(&sdk, &config, tuning.table_credentials, &server_clock, &meter)?;
        let queue = match Queue::open(clients.sqs.clone(), &config, &QueueName::default()).await {
            Err(error) if tuning.queue_optional => Queue::absent(clients.sqs.clone(), &config, error),
            opened => opened?,
        };
        let agent = std::env::var("ECS_AGENT_URI").ok();
        let protection = Protection::new(config.ecs_protection, agent, config.ecs_protection_expires)?;
        let mut capabilities = Capabilities::ALL;
        capabilities.groups = if config.is_fifo() { Groups::Ordered } else { Groups::Ignored };
        capabilities.atomic_submit = false;
        // They would read the whole table, and do.
        capabilities.finds_by_prefix = false;
        capabilities.keeps_bodies = config.keep_bodies;
        capabilities.cheap_looks = false;
        capabilities.max_submit = 1000;
        // The queue knows which message is delivered again, and not with which others it was lost.
        capabilities.suspects = false;
        capabilities.joins_claims = false;
        // It would be a write, three times a minute from each of them, and a scan for whoever looks.
        capabilities.keeps_unready = false;
        // A claim is a message in hand, which another process does not have.
        capabilities.claims_again = false;
        capabilities.max_payload = if config.bucket.is_some() { MAX_DOCUMENT } else { MAX_IN_TABLE };
        capabilities.max_lease = config.visibility_limit / 2;
        // One may upload a large result, for minutes.
        capabilities.settles_at_once = 4;
        let queues = Queues::new(clients.sqs.clone(), config.clone(), queue);
        Ok(Self {
            store: Store {
                clock: server_clock.clock(),
                table: Table::new(clients.dynamodb.clone(), config.table.clone(), meter.clone()),
                bucket: config
                    .bucket
                    .clone()
                    .map(|name| Bucket::new(clients.s3.clone(), name, config.bucket_owner.clone())),
                retentions: queues.retentions().clone(),
                unrecorded: Unrecorded::default(),
            },
            in_flight: InFlight::default(),
            lost_seen: Mutex::default(),
            failures: Failures::default(),
            polls: Polls::default(),
            pauses: Pauses::of(queues.store()),
            cancels: Cancels::of(queues.store()),
            queues,
            protection,
            capabilities,
            meter,
            record_patience: tuning.record_patience.unwrap_or(RECORD_PATIENCE),
            key_patience: tuning.key_patience.unwrap_or(KEY_PATIENCE),
            copies_hidden: tuning.copies_hidden.unwrap_or(COPIES_HIDDEN),
            fan_out: AtomicUsize::new(1),
            busy: AtomicBool::new(false),
            next_poll: AtomicUsize::new(0),
            starting: RwLock::default(),
            unprotected: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            scanned: watch::Sender::new(0),
            deliveries_from: Mutex::default(),
            latest: AtomicI64::new(0),
            clients,
            config,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// The largest message that is ever sent: a body that does not go to the
    /// bucket, in Base64, and its options.
    pub(crate) fn largest_message(&self) -> usize {
        let body = if self.store.bucket.is_some() { self.config.offload_above } else { MAX_IN_TABLE };
        body.div_ceil(3) * 4 + MAX_OPTIONS
    }

    /// The first of `count` moments that no other job of this process has: they
    /// keep submits in order.
    pub(crate) fn moments(&self, count: usize) -> Timestamp {
        let (now, count) = (self.now().as_micros(), i64::try_from(count).unwrap_or(i64::MAX));
        let after = |latest: i64| Some(now.max(latest + 1) + count);
        let before = self.latest.fetch_update(Ordering::SeqCst, Ordering::SeqCst, after).unwrap_or(now);
        Timestamp::from_micros(now.max(before + 1))
    }

    /// Ends the protection of the task, if nothing is left to do.
    pub(crate) async fn release_if_idle(&self) {
        if let Ok(_starting) = self.starting.try_write()
            && self.in_flight.is_idle(self.now())
        {
            self.protection.release().await;
        }
    }

    /// Nobody claims here for now: what followed a job of its group shows again, as it
    /// does after each job that ends from now on, and the task may be stopped.
    pub(crate) async fn stop_claiming(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        for chain in self.in_flight.drain_ready() {
            self.show_again(chain).await;
        }
        self.release_if_idle().await;
    }

    /// What a scan compares with for the records of this store, and of them those that it
    /// may say of other stores: see [`Inner::is_ours`].
    pub(crate) fn of_store(&self) -> [(String, AttributeValue); 2] {
        let store = self.queues.store();
        [(":store".into(), text(store)), (":named".into(), text(queue_name::prefix(store)))]
    }

    /// Whether a record is one of this store.
    pub(crate) fn is_ours(&self, row: &Row) -> bool {
        row.text(name::QUEUE).is_some_and(|queue| queue_name::of_sqs(queue).0 == self.queues.store())
    }

    /// For how long a queue of this store keeps messages.
    pub(crate) fn retention_of(&self, queue: &QueueName) -> Duration {
        let name = queue_name::in_sqs(self.queues.store(), queue).unwrap_or_default();
        self.store.retentions.of(&name)
    }

    pub(crate) fn lost_seen(&self) -> MutexGuard<'_, HashMap<JobId, Timestamp>> {
        self.lost_seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the next look at what is to be told to webhooks begins.
    pub(crate) fn deliveries_from(&self) -> MutexGuard<'_, Option<Item>> {
        self.deliveries_from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts anew what a scan has read.
    pub(crate) fn counting(&self) -> impl Fn(u64) + Send + Sync + use<> {
        let scanned = self.scanned.clone();
        scanned.send_replace(0);
        move |items| scanned.send_modify(|scanned| *scanned += items)
    }

    /// What a record of this queue, as SQS calls it, says of its job's end.
    pub(crate) fn ended(&self, end: &End, queue: &str, now: Timestamp, result_ttl: Duration) -> Write {
        item::ended(end, queue, now, result_ttl, self.store.retentions.of(queue))
    }

    // --- payloads ---

    /// Stores a body that does not go into the record, before anything names it.
    pub(crate) async fn store_bodies(&self, envelopes: &[&Envelope]) -> Result<()> {
        let (mut items, mut objects) = (Vec::new(), Vec::new());
        for envelope in envelopes {
            match (&envelope.body.place, &envelope.body.packed) {
                (DocumentPlace::Item(key), Some(packed)) => items.push(body_item(key, packed, envelope)),
                (DocumentPlace::Object(key), Some(packed)) => objects.push((key.clone(), packed.clone())),
                _ => {}
            }
        }
        stream::iter(objects)
            .map(|(key, packed)| async move { self.store.bucket()?.put(&key, &packed).await })
            .buffer_unordered(PARALLEL / 2)
            .try_collect::<()>()
            .await?;
        for answer in self.store.table.insert(items).await {
            answer.map_err(|not_written| not_written.error)?;
        }
        Ok(())
    }

    /// Stores the body of a job that ends without success, or has, where only its message has
    /// it: it may be looked at, and put back to work. Where the record says that it is to be; of
    /// what others have sent, each reader has a place of its own in mind.
    pub(crate) async fn keep_body(&self, row: &Row, envelope: &Envelope) -> Result<()> {
        let (Some(DocumentPlace::Message(key)), Some(packed)) = (row.body_place(), &envelope.body.packed)
        else {
            return Ok(());
        };
        for answer in self.store.table.insert(vec![body_item(&key, packed, envelope)]).await {
            match answer.map_err(|not_written| not_written.error) {
                Ok(_) => {}
                // Trying on would not help, and its end is to be recorded all the same.
                Err(error @ Error::Config(_)) => {
                    warn!(%error, job_id = %row.id(), "its body cannot be kept, and is gone with its message");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The body of a job, for its handler.
    pub(crate) async fn body(&self, body: &Body) -> Result<Option<Json>> {
        match &body.packed {
            Some(packed) => unpack(packed.clone()).map(Some),
            None => self.store.fetch(&body.place).await,
        }
    }

    // --- messages ---

    /// The same behind the caller's back, where others wait for an answer.
    pub(crate) fn copy_dead_soon(self: Arc<Self>, queue: Arc<Queue>, row: Row, envelope: Arc<Envelope>) {
        self.tasks.clone().spawn(async move { self.copy_dead(&queue, &row, &envelope).await });
    }

    /// Puts a copy of a dead letter into the dead-letter queue, so that alarms
    /// and other tools see it. Moved back from there, it is a redrive.
    pub(crate) async fn copy_dead(&self, queue: &Queue, row: &Row, envelope: &Envelope) {
        let Some(dead) = queue.dead.as_deref().filter(|_| !row.flag(name::COPIED)) else { return };
        let proof = row.text(name::PROOF).unwrap_or(&envelope.proof).to_owned();
        let copy = Envelope {
            redrive: row.ending(),
            came_from: Some(queue.name.clone()),
            not_before: None,
            ..envelope.speaking_for(row.id(), proof)
        };
        let now = self.now();
        match queue.send_to(dead, &[copy], now).await.pop() {
            Some(Ok(_)) => {
                let write = Write::at(now).set(name::COPIED, AttributeValue::Bool(true));
                if let Err(error) = self.store.table.write(row.id().as_str(), unchanged(write, row)).await {
                    warn!(%error, job_id = %row.id(), "the dead letter may be copied twice");
                }
            }
            Some(Err(error)) => warn!(%error, job_id = %row.id(), "the dead letter is in the table only"),
            None => {}
        }
    }
}

/// The item of a body that is too large for its record.
fn body_item(key: &str, packed: &Packed, envelope: &Envelope) -> Item {
    // When its job ends is not known yet.
    let days = keep_days(envelope.due_at().since(envelope.submitted_at), envelope.spec.result_ttl);
    let kept = Duration::from_secs(u64::from(days) * 24 * 3600);
    [
        (name::ID, text(key)),
        (name::BODY, packed.to_attribute()),
        (name::EXPIRATION, seconds(envelope.submitted_at.after(kept))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Shares the inner part with tasks.
pub(crate) type Shared = Arc<Inner>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use haulage::NewJob;

    use super::*;

    /// As with `terraform_lets_a_submit_write_what_it_writes`.
    #[test]
    fn terraform_lets_a_submit_keep_a_body_beside_the_record() {
        let mut config = Config::new("jobs.fifo");
        config.keep_bodies = true;
        let job = NewJob::new(&"x".repeat(1000)).expect("JSON");
        let envelope = Envelope::new(&job, &config, Timestamp::from_micros(7)).expect("an envelope");
        let packed = envelope.body.packed.as_ref().expect("a body");
        let item = body_item("body#t", packed, &envelope);
        let written: BTreeSet<String> = item.into_keys().collect();
        assert_eq!(written, name::in_terraform("body_attributes"));
    }
}
