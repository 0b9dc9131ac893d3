//! Deletes messages behind the callers' backs, ten at a time.
//!
//! A job is over once its record says so; its message costs nothing while it is
//! hidden. So deletes wait a moment for company, as each call is paid for.

use std::{sync::mpsc::RecvTimeoutError, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::services::queue::{MAX_BATCH, Queue, Receipt};

/// How long a delete waits for others.
const LINGER: Duration = Duration::from_millis(100);
/// How long the end of the backend waits for the last deletes.
const FLUSH: Duration = Duration::from_secs(5);

/// Takes receipts in; a task of the runtime deletes.
#[derive(Debug)]
pub(crate) struct Deleter {
    receipts: mpsc::UnboundedSender<(Receipt, bool)>,
    close: CancellationToken,
    closed: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Deleter {
    /// Starts the task, on the runtime that this is called on.
    pub(crate) fn start(queue: Queue) -> Self {
        let (receipts, inbox) = mpsc::unbounded_channel();
        let (tell, closed) = std::sync::mpsc::channel();
        let close = CancellationToken::new();
        let closing = close.clone();
        tokio::spawn(async move {
            work(queue, inbox, closing).await;
            drop(tell);
        });
        Self { receipts, close, closed: std::sync::Mutex::new(closed) }
    }

    /// Deletes a message soon; at once where others of its group wait for that.
    pub(crate) fn delete(&self, receipt: Receipt, at_once: bool) {
        // Nobody listens after the end; the message is deleted when it shows again.
        let _ = self.receipts.send((receipt, at_once));
    }

    /// Deletes what is left.
    pub(crate) fn begin_to_close(&self) {
        self.close.cancel();
    }

    /// The same, and waits for it a while.
    pub(crate) fn close(&self) {
        self.begin_to_close();
        if let Ok(closed) = self.closed.lock()
            && closed.recv_timeout(FLUSH) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!(
                "some messages of jobs that are over were not deleted in time; they are when they show again"
            );
        }
    }
}

async fn work(queue: Queue, mut inbox: mpsc::UnboundedReceiver<(Receipt, bool)>, close: CancellationToken) {
    let mut calls = JoinSet::new();
    loop {
        let first = tokio::select! {
            first = inbox.recv() => first,
            () = close.cancelled() => inbox.try_recv().ok(),
        };
        let Some((receipt, mut at_once)) = first else { break };
        let mut batch = vec![receipt];
        let linger = tokio::time::Instant::now() + LINGER;
        while batch.len() < MAX_BATCH {
            let more = match inbox.try_recv() {
                Ok(more) => Some(more),
                Err(_) if at_once || close.is_cancelled() => None,
                Err(_) => tokio::select! {
                    more = tokio::time::timeout_at(linger, inbox.recv()) => more.ok().flatten(),
                    () = close.cancelled() => continue,
                },
            };
            let Some((receipt, urgent)) = more else { break };
            at_once |= urgent;
            batch.push(receipt);
        }
        let queue = queue.clone();
        calls.spawn(async move { queue.delete(&queue.url, batch).await });
        while calls.try_join_next().is_some() {}
    }
    let _ = timeout(FLUSH, async { while calls.join_next().await.is_some() {} }).await;
}
