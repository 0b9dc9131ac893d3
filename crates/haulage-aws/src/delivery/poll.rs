//! Receives that outlive those who wait for them: what one brings that nobody waits for is
//! shown to others again at once.

use std::{sync::Arc, time::Duration};

use haulage::Error;
use tokio::sync::oneshot;

use crate::{
    services::queue::{MAX_BATCH, Queue},
    state::{
        Inner, Shared,
        in_flight::Received,
        polls::{Answer, Poll},
    },
};

/// A claim's wait for a receive. Dropped, it leaves the receive to others.
#[derive(Debug)]
pub(crate) struct Watch {
    inner: Shared,
    poll: Arc<Poll>,
    answer: oneshot::Receiver<Answer>,
}

/// Waits for a receive from this queue that is under way and brings no more than `max`, if
/// there is one.
pub(crate) fn adopt(inner: &Shared, queue: &Queue, max: usize, lease: Duration) -> Option<Watch> {
    let (poll, answer) = inner.polls.adopt(queue, max, lease)?;
    Some(Watch { inner: inner.clone(), poll, answer })
}

/// Begins a receive, and waits for it.
pub(crate) fn begin(
    inner: &Shared,
    queue: &Arc<Queue>,
    max: usize,
    lease: Duration,
    wait: Duration,
) -> Watch {
    let (poll, answer) = Poll::new(queue.clone(), max.min(MAX_BATCH), lease);
    let poll = Arc::new(poll);
    tokio::spawn(run(inner.clone(), poll.clone(), wait));
    Watch { inner: inner.clone(), poll, answer }
}

async fn run(inner: Shared, poll: Arc<Poll>, wait: Duration) {
    let answer = inner.receive(&poll.queue, poll.max, poll.lease, wait).await;
    if let Some(Ok(messages)) = poll.answer(answer)
        && !messages.is_empty()
    {
        inner.show_again(messages).await;
    }
    inner.polls.over(&poll);
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
        if self.poll.unwatch() {
            return self.inner.polls.leave(self.poll.clone());
        }
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
