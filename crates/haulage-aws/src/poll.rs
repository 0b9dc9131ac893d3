//! Receives that outlive those who wait for them.
//!
//! Once sent, a long poll may bring messages until it ends, and nothing can
//! call it back. A claim that ends early leaves its poll to the next one; what
//! a poll brings that nobody waits for is shown to others again at once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haulage::{Error, Result};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    in_flight::Received,
    inner::{Inner, Shared},
    queue::{MAX_BATCH, Queue},
};

type Answer = Result<Vec<Received>>;

/// One receive that is under way.
#[derive(Debug)]
struct Poll {
    queue: Arc<Queue>,
    max: usize,
    lease: Duration,
    state: Mutex<State>,
    /// Fires when it is over, and what it brought has found its way.
    over: CancellationToken,
}

#[derive(Debug)]
enum State {
    Watched(oneshot::Sender<Answer>),
    Unwatched,
    Over,
}

/// The receives that nobody waits for at present.
#[derive(Debug, Default)]
pub(crate) struct Polls(Mutex<Vec<Arc<Poll>>>);

/// A claim's wait for a receive. Dropped, it leaves the receive to others.
#[derive(Debug)]
pub(crate) struct Watch {
    inner: Shared,
    poll: Arc<Poll>,
    answer: oneshot::Receiver<Answer>,
}

impl Poll {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this one, unless it is over or somebody else does.
    fn watch(&self) -> Option<oneshot::Receiver<Answer>> {
        let mut state = self.state();
        matches!(*state, State::Unwatched).then(|| {
            let (tell, answer) = oneshot::channel();
            *state = State::Watched(tell);
            answer
        })
    }
}

impl Polls {
    fn unwatched(&self) -> MutexGuard<'_, Vec<Arc<Poll>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Waits for a receive from this queue that is under way and brings no more than `max`, if
/// there is one.
pub(crate) fn adopt(inner: &Shared, queue: &Queue, max: usize, lease: Duration) -> Option<Watch> {
    let mut unwatched = inner.polls.unwatched();
    let fits = |poll: &Arc<Poll>| poll.queue.named == queue.named && poll.max <= max && poll.lease == lease;
    while let Some(at) = unwatched.iter().position(fits) {
        let poll = unwatched.swap_remove(at);
        if let Some(answer) = poll.watch() {
            return Some(Watch { inner: inner.clone(), poll, answer });
        }
    }
    None
}

/// Begins a receive, and waits for it.
pub(crate) fn begin(
    inner: &Shared,
    queue: &Arc<Queue>,
    max: usize,
    lease: Duration,
    wait: Duration,
) -> Watch {
    let max = max.min(MAX_BATCH);
    let (tell, answer) = oneshot::channel();
    let (state, over) = (Mutex::new(State::Watched(tell)), CancellationToken::new());
    let poll = Arc::new(Poll { queue: queue.clone(), max, lease, state, over });
    tokio::spawn(run(inner.clone(), poll.clone(), wait));
    Watch { inner: inner.clone(), poll, answer }
}

async fn run(inner: Shared, poll: Arc<Poll>, wait: Duration) {
    let answer = inner.receive(&poll.queue, poll.max, poll.lease, wait).await;
    let before = std::mem::replace(&mut *poll.state(), State::Over);
    let left = match before {
        State::Watched(tell) => tell.send(answer).err(),
        State::Unwatched | State::Over => Some(answer),
    };
    if let Some(Ok(messages)) = left
        && !messages.is_empty()
    {
        inner.show_again(messages).await;
    }
    inner.polls.forget(&poll);
    poll.over.cancel();
}

impl Watch {
    /// The queue that it receives from.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.poll.queue
    }

    /// How many messages it brings at most.
    pub(crate) fn max(&self) -> usize {
        self.poll.max
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let lost = |_| Err(Error::Unavailable { message: "a receive broke off".into(), source: None });
        (&mut self.answer).await.unwrap_or_else(lost)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.poll.state();
        if matches!(*state, State::Watched(_)) {
            *state = State::Unwatched;
            drop(state);
            self.inner.polls.unwatched().push(self.poll.clone());
            return;
        }
        drop(state);
        // What comes from here on is refused, and goes back by whoever sends it.
        self.answer.close();
        if let Ok(Ok(messages)) = self.answer.try_recv() {
            // It came in the moment in which nobody wanted it any more.
            let inner = self.inner.clone();
            self.inner.tasks.spawn(async move { inner.show_again(messages).await });
        }
    }
}

impl Inner {
    /// One receive.
    pub(crate) async fn receive(
        &self,
        queue: &Arc<Queue>,
        max: usize,
        lease: Duration,
        wait: Duration,
    ) -> Answer {
        let messages = queue.receive(&queue.url, max, lease, wait).await?;
        let (config, now) = (&self.config, self.now());
        Ok(messages.iter().map(|message| Received::new(message, config, queue, now, lease)).collect())
    }
}
