//! The claims that this process holds, and the messages they came with.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use haulage::{JobId, Timestamp, backend::ClaimKey};
use tokio::sync::Notify;

use crate::{
    queue::Receipt,
    ticket::{Poison, Ticket, system},
};

/// A message in our hands, hidden from others for a while.
#[derive(Debug)]
pub(crate) struct Received {
    /// The job that it is for.
    pub(crate) id: JobId,
    pub(crate) receipt: Receipt,
    /// When we got it: its 12 hours count from here.
    pub(crate) received_at: Timestamp,
    /// Until when it is hidden.
    pub(crate) hidden_until: Timestamp,
    /// How often it has been received.
    pub(crate) receives: i64,
    /// When it was sent: its retention counts from here.
    pub(crate) sent_at: Timestamp,
    pub(crate) ticket: Result<Arc<Ticket>, Box<Poison>>,
}

impl Received {
    pub(crate) fn new(message: &Message, now: Timestamp, hidden: Duration) -> Self {
        let ticket = Ticket::read(message).map(Arc::new);
        let id = match &ticket {
            Ok(ticket) => ticket.id.clone(),
            Err(poison) => poison.ticket.id.clone(),
        };
        let sent = system(message, &MessageSystemAttributeName::SentTimestamp);
        Self {
            id: id.unwrap_or_else(|| JobId::from(message.message_id().unwrap_or_default())),
            receipt: message.receipt_handle().unwrap_or_default().to_owned(),
            received_at: now,
            hidden_until: now.after(hidden),
            receives: system(message, &MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1),
            sent_at: sent.map_or(now, |millis| Timestamp::from_micros(millis * 1000)),
            ticket,
        }
    }

    /// The group in whose order the message is.
    fn group(&self) -> Option<&str> {
        self.ticket.as_ref().ok()?.group.as_deref()
    }
}

/// Messages of one group, in order; or one message that has none. Only the
/// first may be worked on.
pub(crate) type Chain = VecDeque<Received>;

/// Sorts received messages into chains. SQS hands out several messages of one
/// group together, and means that one consumer does them one after the other.
pub(crate) fn chains(received: Vec<Received>, ordered: bool) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut of_group: HashMap<String, usize> = HashMap::new();
    for message in received {
        match message.group().filter(|_| ordered).map(str::to_owned) {
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

/// One claim that this process holds.
#[derive(Debug)]
pub(crate) struct Hold {
    /// The message's receipt; `None` from the moment the message was let go or
    /// replaced until somebody hands us the new one.
    pub(crate) receipt: Option<Receipt>,
    /// From when on the receipt's 12 hours count.
    pub(crate) received_at: Timestamp,
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) result_ttl: Duration,
    pub(crate) attempts_left: u32,
    /// What follows in its group, hidden as long as we hold this one.
    pub(crate) followers: Chain,
}

/// All claims of this process.
#[derive(Debug, Default)]
pub(crate) struct Held {
    holds: Mutex<HashMap<ClaimKey, Hold>>,
    /// Chains whose first message may be claimed now.
    ready: Mutex<VecDeque<Chain>>,
    /// Rings when `ready` is no longer empty.
    pub(crate) news: Notify,
}

impl Held {
    fn holds(&self) -> MutexGuard<'_, HashMap<ClaimKey, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Chain>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is in our hands.
    pub(crate) fn is_idle(&self) -> bool {
        self.holds().is_empty() && self.ready().is_empty()
    }

    pub(crate) fn insert(&self, key: ClaimKey, hold: Hold) {
        self.holds().insert(key, hold);
    }

    pub(crate) fn remove(&self, key: &ClaimKey) -> Option<Hold> {
        self.holds().remove(key)
    }

    pub(crate) fn with<T>(&self, key: &ClaimKey, look: impl FnOnce(&mut Hold) -> T) -> Option<T> {
        self.holds().get_mut(key).map(look)
    }

    /// Takes a newer receipt for a job that we hold, and says whether we do.
    pub(crate) fn adopt(&self, key: &ClaimKey, receipt: &str, received_at: Timestamp) -> bool {
        let adopt = |hold: &mut Hold| {
            hold.receipt = Some(receipt.to_owned());
            hold.received_at = received_at;
        };
        self.with(key, adopt).is_some()
    }

    /// The rest of a group can go on.
    pub(crate) fn go_on(&self, chain: Chain) {
        if !chain.is_empty() {
            self.ready().push_back(chain);
            self.news.notify_one();
        }
    }

    /// Chains that can be claimed from, and receipts of others that waited here
    /// for too long.
    pub(crate) fn take_ready(&self, max: usize, now: Timestamp) -> Vec<Chain> {
        let mut ready = self.ready();
        // A message that shows again belongs to whoever receives it.
        ready.retain(|chain| chain.front().is_some_and(|first| first.hidden_until > now));
        let count = max.min(ready.len());
        ready.drain(..count).collect()
    }

    /// What waits here, when the backend ends.
    pub(crate) fn drain_ready(&self) -> Vec<Chain> {
        self.ready().drain(..).collect()
    }
}
