//! What is known of calls: those under way, and for a while those that were made.
//!
//! An answer is kept until the client says that it has got it, or for [`KEPT`]. Where answers take
//! too much room, the oldest lose their bodies first: that the call was made, and which claims it
//! brought, is known as long as before.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use haulage::backend::ClaimKey;
use hyper::{StatusCode, body::Bytes};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::protocol::KEPT;

/// How many bytes all that is kept takes at most.
const MOST_BYTES: usize = 64 << 20;
/// What a call takes beside the body of its answer, and what a claim in it takes, about.
const CALL_BYTES: usize = 512;
const CLAIM_BYTES: usize = 96;

/// The id that the client has given, and the key with which it came: nobody is told
/// another's answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallId {
    pub(super) key: String,
    pub(super) id: String,
}

/// What a call asks for, by which one is known that has the id of another: of clients that
/// are copies of each other, the second would take the answer of the first for its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) verb: &'static str,
    /// The hash of its body. None where a repeat may say it in other words.
    pub(super) body: Option<[u8; 32]>,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
    /// The claims that are in it.
    pub(super) claims: Arc<[ClaimKey]>,
}

/// A call of which a request has become one that waits.
pub(super) struct Joined {
    pub(super) serial: u64,
    pub(super) answer: watch::Receiver<Option<Answered>>,
    pub(super) given_up: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct CallTable {
    calls: HashMap<CallId, KeptCall>,
    /// Those that are answered, in that order, and when they were.
    answered: BTreeMap<u64, (Instant, CallId)>,
    /// Those before this one have lost their bodies.
    bodies_from: u64,
    bytes: usize,
    next: u64,
    /// Until then, a call of which nothing is known may be one that was forgotten too early.
    doubts_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct KeptCall {
    /// Tells it apart from a later one under the same id.
    pub(super) serial: u64,
    pub(super) what: Fingerprint,
    pub(super) answer: watch::Receiver<Option<Answered>>,
    /// Where it stands in the order of answers.
    place: Option<u64>,
    /// It was made, and the body of its answer is no longer here.
    pub(super) is_lost: bool,
    /// How many requests wait for the answer.
    pub(super) waiting: usize,
    /// Some request has been given the answer.
    pub(super) told: bool,
    pub(super) stop: CancellationToken,
    /// Nobody is given the answer any more: what it brings goes back.
    pub(super) given_up: CancellationToken,
    /// That has been done.
    pub(super) gone: CancellationToken,
}

impl KeptCall {
    /// One more request waits.
    pub(super) fn join(&mut self) -> Joined {
        self.waiting += 1;
        let (answer, given_up) = (self.answer.clone(), self.given_up.clone());
        Joined { serial: self.serial, answer, given_up }
    }

    /// Nobody has heard of it, or waits to.
    pub(super) fn is_unheard(&self) -> bool {
        self.waiting == 0 && !self.told && !self.given_up.is_cancelled()
    }

    /// The claims that it has brought so far.
    pub(super) fn claims(&self) -> Arc<[ClaimKey]> {
        self.answer.borrow().as_ref().map_or_else(|| [].into(), |answer| Arc::clone(&answer.claims))
    }

    /// What it takes, without the body.
    fn bytes(&self) -> usize {
        CALL_BYTES + CLAIM_BYTES * self.claims().len()
    }

    fn body_bytes(&self) -> usize {
        self.answer.borrow().as_ref().map_or(0, |answer| answer.body.len())
    }

    /// Leaves these claims of the answer. Requests that wait for it have it still.
    fn lose(&mut self, claims: impl Into<Arc<[ClaimKey]>>) {
        let answered = self.answer.borrow().clone();
        if let Some(answered) = answered {
            let left = Answered { body: Bytes::new(), claims: claims.into(), ..answered };
            (self.answer, self.is_lost) = (watch::channel(Some(left)).1, true);
        }
    }
}

impl CallTable {
    pub(super) fn get(&mut self, id: &CallId) -> Option<&mut KeptCall> {
        self.calls.get_mut(id)
    }

    /// The call under this id, if it is this one.
    pub(super) fn current(&mut self, id: &CallId, serial: u64) -> Option<&mut KeptCall> {
        self.calls.get_mut(id).filter(|call| call.serial == serial)
    }

    /// Whether a call of which nothing is known may have been made here all the same.
    pub(super) fn has_forgotten(&self) -> bool {
        self.doubts_until.is_some_and(|until| Instant::now() < until)
    }

    /// A call that begins, for which one request waits.
    pub(super) fn insert(
        &mut self,
        id: &CallId,
        what: Fingerprint,
        answer: watch::Receiver<Option<Answered>>,
        stop: CancellationToken,
    ) -> Joined {
        self.next += 1;
        let mut call = KeptCall {
            serial: self.next,
            what,
            answer,
            place: None,
            is_lost: false,
            waiting: 0,
            told: false,
            stop,
            given_up: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let joined = call.join();
        self.calls.insert(id.clone(), call);
        joined
    }

    /// Gives a call its answer. True where there are jobs in it of which nobody hears.
    pub(super) fn publish(
        &mut self,
        id: &CallId,
        serial: u64,
        sender: &watch::Sender<Option<Answered>>,
        answered: Answered,
        is_doubtful: bool,
    ) -> bool {
        let (is_failure, has_jobs) = (answered.status.is_server_error(), !answered.claims.is_empty());
        sender.send_replace(Some(answered));
        let place = self.next + 1;
        let Some(call) = self.current(id, serial) else { return false };
        if is_failure && !is_doubtful {
            // Who tries again means it.
            self.remove(id);
            return false;
        }
        if is_failure {
            // The doubt stays.
            call.lose([]);
        }
        let is_unheard = has_jobs && call.is_unheard();
        call.place = Some(place);
        let bytes = call.bytes() + call.body_bytes();
        self.next = place;
        self.bytes += bytes;
        self.answered.insert(place, (Instant::now(), id.clone()));
        self.tidy();
        is_unheard
    }

    /// The client has this answer. A call that is under way is not forgotten: it would be made twice.
    pub(super) fn received(&mut self, id: &CallId) {
        if self.calls.get(id).is_some_and(|call| call.place.is_some() && !call.given_up.is_cancelled()) {
            self.remove(id);
        }
    }

    /// What a call has brought has gone back, but for these claims.
    pub(super) fn given_back(&mut self, id: &CallId, serial: u64, left: Vec<ClaimKey>) {
        let Some(call) = self.current(id, serial) else { return };
        if left.is_empty() {
            self.remove(id);
            return;
        }
        let before = call.bytes() + call.body_bytes();
        call.lose(left);
        call.gone.cancel();
        (call.given_up, call.gone) = (CancellationToken::new(), CancellationToken::new());
        let saved = before - call.bytes();
        self.bytes = self.bytes.saturating_sub(saved);
    }

    pub(super) fn remove_if(&mut self, id: &CallId, serial: u64) {
        if self.current(id, serial).is_some() {
            self.remove(id);
        }
    }

    pub(super) fn remove(&mut self, id: &CallId) {
        let Some(call) = self.calls.remove(id) else { return };
        if let Some(place) = call.place {
            self.answered.remove(&place);
            self.bytes = self.bytes.saturating_sub(call.bytes() + call.body_bytes());
        }
        call.gone.cancel();
    }

    /// Forgets what has been kept for long, and the bodies of what takes too much room.
    fn tidy(&mut self) {
        let now = Instant::now();
        let is_old = |at: Instant| now.saturating_duration_since(at) >= KEPT;
        while let Some((_, (at, id))) = self.answered.first_key_value()
            && is_old(*at)
        {
            let id = id.clone();
            self.remove(&id);
        }
        while self.bytes > MOST_BYTES {
            if let Some((place, (_, id))) = self.answered.range(self.bodies_from..).next() {
                self.bodies_from = place + 1;
                if let Some(call) = self.calls.get_mut(id) {
                    self.bytes = self.bytes.saturating_sub(call.body_bytes());
                    call.lose(call.claims());
                }
            } else if let Some((_, (_, id))) = self.answered.first_key_value() {
                let id = id.clone();
                self.remove(&id);
                // Whoever repeats it comes sooner than that, or says how long it has been.
                self.doubts_until = Some(now + KEPT);
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> CallId {
        CallId { key: String::new(), id: n.to_string() }
    }

    /// A call that is answered with so many bytes.
    fn make(table: &mut CallTable, n: usize, bytes: usize) {
        let (sender, answer) = watch::channel(None);
        let what = Fingerprint { verb: "submit", body: None };
        let joined = table.insert(&id(n), what, answer, CancellationToken::new());
        let body = vec![0; bytes].into();
        let answered = Answered { status: StatusCode::OK, kind: "", body, claims: [].into() };
        table.publish(&id(n), joined.serial, &sender, answered, false);
        assert_eq!(joined.answer.borrow().as_ref().map(|answer| answer.body.len()), Some(bytes));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_much_room_loses_its_body_and_is_known_all_the_same() {
        let mut table = CallTable::default();
        for n in 0..20 {
            make(&mut table, n, MOST_BYTES / 8);
        }
        assert!(table.bytes <= MOST_BYTES, "{}", table.bytes);
        let lost: Vec<_> = (0..20).map(|n| table.get(&id(n)).map(|call| call.is_lost)).collect();
        assert_eq!(lost.iter().filter(|lost| **lost == Some(false)).count(), 7, "{lost:?}");
        assert_eq!((lost[0], lost[19]), (Some(true), Some(false)), "the oldest");
        assert!(!table.has_forgotten());
        // One that is larger than all there may be, too.
        make(&mut table, 20, MOST_BYTES + 1);
        assert!(table.bytes <= MOST_BYTES, "{}", table.bytes);
        for n in 0..21 {
            table.received(&id(n));
        }
        assert_eq!((table.bytes, table.calls.len(), table.answered.len()), (0, 0, 0), "nothing is left");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_for_want_of_room_is_doubted_for_as_long_as_it_would_have_been_known() {
        let mut table = CallTable::default();
        for n in 0..=MOST_BYTES / CALL_BYTES {
            make(&mut table, n, 0);
        }
        assert!(table.get(&id(0)).is_none() && table.get(&id(1)).is_some());
        assert!(table.bytes <= MOST_BYTES && table.has_forgotten());
        tokio::time::advance(KEPT).await;
        assert!(!table.has_forgotten());
        make(&mut table, 0, 0);
        assert_eq!((table.calls.len(), table.bytes), (1, CALL_BYTES), "all others are old");
    }
}
