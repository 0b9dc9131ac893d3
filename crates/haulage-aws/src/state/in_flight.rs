//! The claims that this process holds, and the messages they came with.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as System};
use haulage::{
    JobId, QueueName, Timestamp,
    backend::{ClaimKey, Update},
};
use tokio::sync::Notify;

use crate::{
    config::Config,
    schema::{
        body::DocumentPlace,
        envelope::{Envelope, Poison, system, system_text},
        item::Row,
        name,
    },
    services::queue::{Queue, Receipt},
};

/// How long after the end of its lease a claim is forgotten that nobody has
/// settled, or has tried to extend since.
const FORGET: Duration = Duration::from_secs(60);
/// After how many claims those are looked for.
const SWEEP: usize = 256;

/// A message in our hands, hidden from others for a while.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The job that it is for.
    pub(crate) id: JobId,
    /// The queue that it is in.
    pub(crate) queue: Arc<Queue>,
    pub(crate) receipt: Receipt,
    /// When we got it: its 12 hours count from here.
    pub(crate) received_at: Timestamp,
    /// Until when it is hidden.
    pub(crate) hidden_until: Timestamp,
    /// How often it has been received.
    pub(crate) receives: i64,
    /// When it was sent: its retention counts from here.
    pub(crate) sent_at: Timestamp,
    /// The group in which SQS keeps it in order.
    pub(crate) group: Option<String>,
    /// In a dead-letter queue: the queue that SQS itself has moved it from.
    pub(crate) moved_from: Option<String>,
    /// There is another message for its job, sent by us.
    pub(crate) replaced: bool,
    /// It is the second message of one submit, for the job that the first is.
    pub(crate) second: bool,
    pub(crate) envelope: Result<Arc<Envelope>, Arc<Poison>>,
}

impl Received {
    /// A message of this queue of a store, or of its dead-letter queue.
    pub(crate) fn new(
        message: &Message,
        config: &Config,
        queue: &Arc<Queue>,
        now: Timestamp,
        hidden: Duration,
    ) -> Self {
        let envelope = Envelope::read(message, config, &queue.named);
        let envelope = envelope.map(Arc::new).map_err(|poison| Arc::new(*poison));
        let id = match &envelope {
            Ok(envelope) => envelope.id.clone(),
            Err(poison) => poison.envelope.id.clone(),
        };
        let group = envelope.as_ref().ok().map(|envelope| envelope.sqs_group());
        let sent = system(message, &System::SentTimestamp);
        let arn = system_text(message, &System::DeadLetterQueueSourceArn);
        Self {
            id: id.unwrap_or_else(|| JobId::from(message.message_id().unwrap_or_default())),
            queue: queue.clone(),
            receipt: message.receipt_handle().unwrap_or_default().to_owned(),
            received_at: now,
            hidden_until: now.after(hidden),
            receives: system(message, &System::ApproximateReceiveCount).unwrap_or(1),
            sent_at: sent.map_or(now, |millis| Timestamp::from_micros(millis.saturating_mul(1000))),
            group: system_text(message, &System::MessageGroupId).map(str::to_owned).or(group),
            moved_from: arn.and_then(|arn| arn.rsplit(':').next()).map(str::to_owned),
            replaced: false,
            second: false,
            envelope,
        }
    }

    /// What it says, whether it is a job or not.
    pub(crate) fn says(&self) -> &Envelope {
        match &self.envelope {
            Ok(envelope) => envelope,
            Err(poison) => &poison.envelope,
        }
    }

    /// The same as a message that is no job.
    pub(crate) fn as_poison(&self, why: &str) -> Poison {
        let envelope = self.says().clone();
        let (body, options, plain) = match &self.envelope {
            Ok(envelope) => (envelope.message_body(), Some(envelope.options()), HashMap::new()),
            Err(poison) => (poison.body.clone(), poison.options.clone(), poison.plain.clone()),
        };
        let reason = why.to_owned();
        Poison { reason, is_newer: false, is_nothing: false, envelope, body, options, plain }
    }

    /// Whether it speaks for a job that it did not make itself. SQS gives a message
    /// its id, so a job with the message's own is its own.
    pub(crate) fn needs_proof(&self) -> bool {
        self.second || self.says().id.is_some()
    }

    /// Whether some other program has sent it.
    pub(crate) fn is_foreign(&self) -> bool {
        self.says().token == self.id.as_str()
    }

    /// Whether it may speak for the job of this record.
    pub(crate) fn is_proved_by(&self, row: &Row) -> bool {
        !self.needs_proof() || row.text(name::PROOF) == Some(&self.says().proof)
    }

    /// Whether others may come after it in its group.
    pub(crate) fn is_grouped(&self) -> bool {
        self.envelope.as_ref().map_or(true, |envelope| envelope.spec.group.is_some())
    }
}

/// Messages of one group, in order; or one message that has none. Only the
/// first may be worked on.
pub(crate) type Chain = VecDeque<Received>;

/// Sorts received messages into chains. SQS hands out several messages of one
/// group together, and means that one consumer does them one after the other.
pub(crate) fn chains(received: Vec<Received>) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut of_group: HashMap<(QueueName, String), usize> = HashMap::new();
    for message in received {
        let group = message.group.clone().filter(|_| message.queue.fifo);
        match group.map(|group| (message.queue.named.clone(), group)) {
            Some(group) => match of_group.get(&group) {
                Some(at) => chains[*at].push_back(message),
                None => {
                    of_group.insert(group, chains.len());
                    chains.push(Chain::from([message]));
                }
            },
            None => chains.push(Chain::from([message])),
        }
    }
    chains
}

/// How much longer than the first of a chain the others are hidden.
const BEHIND: Duration = Duration::from_secs(1);

/// A message that is to show after a while, and what follows it.
pub(crate) fn with_followers(
    message: Received,
    time: Duration,
    followers: Chain,
) -> Vec<(Received, Duration)> {
    std::iter::once((message, time)).chain(hidden_behind(followers, time)).collect()
}

/// What follows a message that shows after this time. It must not show before:
/// whether a group is blocked while its first message is hidden and a later one
/// is not, is nowhere written.
pub(crate) fn hidden_behind(followers: Chain, time: Duration) -> Vec<(Received, Duration)> {
    let time = if time.is_zero() { time } else { time + BEHIND };
    followers.into_iter().map(|message| (message, time)).collect()
}

/// One claim that this process holds.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Its message; `None` from the moment it was replaced until somebody hands
    /// us the receipt of the new one.
    pub(crate) message: Option<Received>,
    /// The queue of the job.
    pub(crate) queue: Arc<Queue>,
    pub(crate) envelope: Arc<Envelope>,
    /// The record as it was claimed, without what is large.
    pub(crate) row: Row,
    /// As far as we know, the claim is held until then.
    pub(crate) lease_until: Timestamp,
    /// When a heartbeat for it was last asked for, whether it got through or not.
    pub(crate) wanted_at: Timestamp,
    /// No heartbeat was asked for since its message was found with a lease that
    /// had run out.
    pub(crate) noticed: bool,
    /// The marks of the writes that were to settle it and had no answer: they may
    /// have been made.
    pub(crate) in_doubt: Vec<String>,
    /// It is being settled at this moment.
    pub(crate) settling: bool,
    /// What its handler said and no heartbeat has got through yet; and its slot, which stays.
    pub(crate) update: Update,
    /// Where its checkpoint is, if that is not the record.
    pub(crate) checkpoint_at: Option<DocumentPlace>,
    /// What follows in its group, hidden as long as we hold this one.
    pub(crate) followers: Chain,
}

/// All claims of this process.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    holds: Mutex<HashMap<ClaimKey, Hold>>,
    /// Chains whose first message may be claimed now.
    ready: Mutex<VecDeque<Chain>>,
    inserts: AtomicUsize,
    /// Notified when `ready` is no longer empty.
    pub(crate) signal: Notify,
}

impl InFlight {
    fn holds(&self) -> MutexGuard<'_, HashMap<ClaimKey, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Chain>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is in our hands. A claim whose lease is long over is not: whoever
    /// was to settle it could not, or did not.
    pub(crate) fn is_idle(&self, now: Timestamp) -> bool {
        self.sweep(now);
        self.holds().is_empty() && self.ready().is_empty()
    }

    /// Whether there are jobs that a handler may have.
    pub(crate) fn has_jobs(&self, now: Timestamp) -> bool {
        self.sweep(now);
        !self.holds().is_empty()
    }

    /// Whether this is one of them.
    pub(crate) fn holds_job(&self, id: &str) -> bool {
        self.holds().keys().any(|key| key.id.as_str() == id)
    }

    fn sweep(&self, now: Timestamp) {
        self.holds().retain(|_, hold| hold.lease_until.max(hold.wanted_at).after(FORGET) > now);
    }

    pub(crate) fn insert(&self, key: ClaimKey, hold: Hold, now: Timestamp) {
        // A queue that is never empty never lets us be idle.
        if self.inserts.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.sweep(now);
        }
        self.holds().insert(key, hold);
    }

    pub(crate) fn remove(&self, key: &ClaimKey) -> Option<Hold> {
        self.holds().remove(key)
    }

    pub(crate) fn with<T>(&self, key: &ClaimKey, look: impl FnOnce(&mut Hold) -> T) -> Option<T> {
        self.holds().get_mut(key).map(look)
    }

    /// Whether we hold the job, and have not been told of a lapse before.
    pub(crate) fn give_notice(&self, key: &ClaimKey) -> bool {
        self.with(key, |hold| !std::mem::replace(&mut hold.noticed, true)).unwrap_or(false)
    }

    /// Takes a newer receipt for a job that we hold, and says whether we do.
    pub(crate) fn adopt(&self, key: &ClaimKey, receipt: &str, received_at: Timestamp) -> bool {
        let adopt = |hold: &mut Hold| match &mut hold.message {
            // Messages that came together may be looked at in any order, and one
            // is left in the record until the next claim.
            Some(message) if message.received_at >= received_at => {}
            Some(message) => {
                message.receipt = receipt.to_owned();
                message.received_at = received_at;
                if std::mem::take(&mut message.replaced) {
                    // Most likely it is the one that we have sent.
                    message.receives = 1;
                    message.sent_at = received_at;
                } else {
                    message.receives += 1;
                }
            }
            // It has taken our message's place a moment ago.
            None => {
                hold.message = Some(Received {
                    id: key.id.clone(),
                    queue: hold.queue.clone(),
                    receipt: receipt.to_owned(),
                    received_at,
                    hidden_until: received_at,
                    receives: 1,
                    sent_at: received_at,
                    group: Some(hold.envelope.sqs_group()),
                    moved_from: None,
                    replaced: false,
                    second: false,
                    envelope: Ok(hold.envelope.clone()),
                });
            }
        };
        self.with(key, adopt).is_some()
    }

    /// The rest of a group can go on.
    pub(crate) fn go_on(&self, chain: Chain) {
        if !chain.is_empty() {
            self.ready().push_back(chain);
            self.signal.notify_one();
        }
    }

    /// Chains of these queues that can be claimed from.
    pub(crate) fn take_ready(&self, queues: &[Arc<Queue>], max: usize, now: Timestamp) -> Vec<Chain> {
        let mut ready = self.ready();
        // A message that shows again belongs to whoever receives it.
        ready.retain(|chain| chain.front().is_some_and(|first| first.hidden_until > now));
        let mut taken = Vec::new();
        let is_served = |chain: &Chain| {
            chain.front().is_some_and(|first| queues.iter().any(|queue| queue.named == first.queue.named))
        };
        while taken.len() < max {
            let Some(at) = ready.iter().position(is_served) else { break };
            taken.extend(ready.remove(at));
        }
        taken
    }

    /// What waits here, when nobody claims any more.
    pub(crate) fn drain_ready(&self) -> Vec<Chain> {
        self.ready().drain(..).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use haulage::NewJob;

    use super::*;

    /// A queue that is never asked for anything.
    pub(crate) fn queue(name: &str) -> Queue {
        let client = aws_sdk_sqs::Config::builder().behavior_version_latest().build();
        let absent = haulage::Error::Config("it is a test's".into());
        Queue::absent(aws_sdk_sqs::Client::from_conf(client), &Config::new(name), absent)
    }

    /// A message of a group, sent and received at these moments.
    pub(crate) fn received(group: &str, sent_at: Timestamp, received_at: Timestamp) -> Received {
        let job = NewJob::from_json(haulage::Json::from_stored("1"));
        let envelope = Envelope::new(&job, &Config::new("jobs.fifo"), sent_at).expect("an envelope");
        Received {
            id: JobId::from("id"),
            queue: Arc::new(queue("jobs.fifo")),
            receipt: "receipt".into(),
            received_at,
            hidden_until: received_at,
            receives: 1,
            sent_at,
            group: Some(group.to_owned()),
            moved_from: None,
            replaced: false,
            second: false,
            envelope: Ok(Arc::new(envelope)),
        }
    }

    #[test]
    fn a_chain_is_what_sqs_keeps_in_order() {
        let now = Timestamp::from_micros(0);
        let all = |name: &str| {
            let queue = Arc::new(queue(name));
            let of = |group| Received { queue: queue.clone(), ..received(group, now, now) };
            ["a", "b", "a", "c", "a"].map(of)
        };
        let lengths = |chains: Vec<Chain>| chains.iter().map(VecDeque::len).collect::<Vec<_>>();
        assert_eq!(lengths(chains(all("jobs.fifo").into())), [3, 1, 1]);
        assert_eq!(lengths(chains(all("jobs").into())), [1; 5]);
        let mut two: Vec<_> = all("jobs.fifo").into();
        let mut bulk = queue("jobs.fifo");
        bulk.named = QueueName::new("bulk").expect("a name");
        two[2].queue = Arc::new(bulk);
        assert_eq!(lengths(chains(two)), [2, 1, 1, 1], "a group is one of its queue");
    }

    #[test]
    fn what_follows_in_a_group_shows_after_what_it_follows() {
        let now = Timestamp::from_micros(0);
        let chain = || Chain::from([received("a", now, now), received("a", now, now)]);
        let times = |time: u64| -> Vec<u64> {
            let all = with_followers(received("a", now, now), Duration::from_secs(time), chain());
            all.into_iter().map(|(_, time)| time.as_secs()).collect()
        };
        assert_eq!(times(0), [0, 0, 0], "all at once");
        assert_eq!(times(40), [40, 41, 41]);
    }

    #[test]
    fn a_claim_that_nobody_settles_is_forgotten() {
        let held = InFlight::default();
        let now = Timestamp::from_micros(0).after(FORGET * 10);
        let message = received("a", now, now);
        let Ok(envelope) = message.envelope.clone() else { panic!("a job") };
        let hold = Hold {
            queue: message.queue.clone(),
            message: Some(message),
            envelope,
            row: Row(crate::schema::update::Item::new()),
            lease_until: now,
            wanted_at: now,
            noticed: false,
            in_doubt: Vec::new(),
            settling: false,
            update: Update::default(),
            checkpoint_at: None,
            followers: Chain::new(),
        };
        held.insert(ClaimKey { id: JobId::from("id"), attempt: 1 }, hold, now);
        assert!(!held.is_idle(now.after(FORGET / 2)));
        assert!(held.is_idle(now.after(FORGET * 2)));
    }
}
