//! The receives that are under way and that nobody waits for at present.
//!
//! Once sent, a long poll may bring messages until it ends, and nothing can
//! call it back. A claim that ends early leaves its poll to the next one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haulage::Result;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{services::queue::Queue, state::in_flight::Received};

pub(crate) type Answer = Result<Vec<Received>>;

/// One receive that is under way.
#[derive(Debug)]
pub(crate) struct Poll {
    pub(crate) queue: Arc<Queue>,
    pub(crate) max: usize,
    pub(crate) lease: Duration,
    state: Mutex<PollState>,
    /// Fires when it is over, and what it brought has found its way.
    over: CancellationToken,
}

#[derive(Debug)]
enum PollState {
    Watched(oneshot::Sender<Answer>),
    Unwatched,
    Over,
}

/// Those that nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct Polls(Mutex<Vec<Arc<Poll>>>);

impl Poll {
    /// One that begins, and what its answer comes by.
    pub(crate) fn new(queue: Arc<Queue>, max: usize, lease: Duration) -> (Self, oneshot::Receiver<Answer>) {
        let (tell, answer) = oneshot::channel();
        let (state, over) = (Mutex::new(PollState::Watched(tell)), CancellationToken::new());
        (Self { queue, max, lease, state, over }, answer)
    }

    fn state(&self) -> MutexGuard<'_, PollState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this one, unless it is over or somebody else does.
    fn watch(&self) -> Option<oneshot::Receiver<Answer>> {
        let mut state = self.state();
        matches!(*state, PollState::Unwatched).then(|| {
            let (tell, answer) = oneshot::channel();
            *state = PollState::Watched(tell);
            answer
        })
    }

    /// Nobody waits for it any more. Tells whether it goes on.
    pub(crate) fn unwatch(&self) -> bool {
        let mut state = self.state();
        let goes_on = matches!(*state, PollState::Watched(_));
        if goes_on {
            *state = PollState::Unwatched;
        }
        goes_on
    }

    /// It has brought this, which comes back where nobody waits for it.
    pub(crate) fn answer(&self, answer: Answer) -> Option<Answer> {
        match std::mem::replace(&mut *self.state(), PollState::Over) {
            PollState::Watched(tell) => tell.send(answer).err(),
            PollState::Unwatched | PollState::Over => Some(answer),
        }
    }
}

impl Polls {
    fn unwatched(&self) -> MutexGuard<'_, Vec<Arc<Poll>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves one to others.
    pub(crate) fn leave(&self, poll: Arc<Poll>) {
        self.unwatched().push(poll);
    }

    /// One from this queue that brings no more than `max`, to wait for.
    pub(crate) fn adopt(
        &self,
        queue: &Queue,
        max: usize,
        lease: Duration,
    ) -> Option<(Arc<Poll>, oneshot::Receiver<Answer>)> {
        let mut unwatched = self.unwatched();
        let fits =
            |poll: &Arc<Poll>| poll.queue.named == queue.named && poll.max <= max && poll.lease == lease;
        while let Some(at) = unwatched.iter().position(fits) {
            let poll = unwatched.swap_remove(at);
            if let Some(answer) = poll.watch() {
                return Some((poll, answer));
            }
        }
        None
    }

    /// What this one brought has found its way.
    pub(crate) fn over(&self, poll: &Arc<Poll>) {
        self.forget(poll);
        poll.over.cancel();
    }

    fn forget(&self, poll: &Arc<Poll>) {
        self.unwatched().retain(|other| !Arc::ptr_eq(other, poll));
    }

    /// Waits until no receive is under way that nobody waits for: SQS may hand
    /// messages to one as long as it is open, and on a connection that is closed
    /// they would be lost for a lease.
    pub(crate) async fn drain(&self) {
        loop {
            let Some(poll) = self.unwatched().first().cloned() else { return };
            poll.over.cancelled().await;
            self.forget(&poll);
        }
    }
}
