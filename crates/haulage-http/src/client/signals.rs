//! What the server pushes: that something has ended, or is to be cancelled. One stream a
//! process, which is opened when somebody wants to hear of it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haulage::backend::Signals;
use http_body_util::BodyExt as _;
use hyper::{Method, body::Bytes};
use tokio::sync::watch;

use super::{connection::Connection, runtime::Runtime};
use crate::protocol::HasSignals;

/// The server says something that often, if only that it is there.
const SILENCE: Duration = Duration::from_secs(30);
/// The pause before a stream that broke off is opened again; it doubles, to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest line.
const LINE: usize = 256;

/// Where what the server says is told on.
#[derive(Debug)]
pub(super) struct Stream {
    has: HasSignals,
    senders: Arc<Senders>,
    listens: AtomicBool,
}

#[derive(Debug, Default)]
struct Senders {
    outcomes: watch::Sender<u64>,
    cancels: watch::Sender<u64>,
    scanned: watch::Sender<u64>,
}

impl Stream {
    pub(super) fn new(has: HasSignals) -> Self {
        Self { has, senders: Arc::default(), listens: AtomicBool::new(false) }
    }

    /// Listens from now on.
    pub(super) fn signals(&self, connection: &Arc<Connection>, runtime: &Runtime) -> Signals {
        let HasSignals { outcomes, cancels, scanned } = self.has;
        if !outcomes && !cancels && !scanned {
            return Signals::default();
        }
        let senders = &self.senders;
        let signals = Signals {
            outcomes: outcomes.then(|| senders.outcomes.subscribe()),
            cancels: cancels.then(|| senders.cancels.subscribe()),
            scanned: scanned.then(|| senders.scanned.subscribe()),
        };
        // Only now, so that whoever is the first hears that the stream is open.
        if !self.listens.swap(true, Ordering::Relaxed) {
            runtime.spawn(listen(Arc::downgrade(connection), Arc::downgrade(senders)));
        }
        signals
    }
}

/// Listens as long as the backend is there.
async fn listen(connection: Weak<Connection>, senders: Weak<Senders>) {
    let mut pause = PAUSE;
    loop {
        let Some(strong) = connection.upgrade() else { return };
        let response = strong.request(Method::GET, "/v1/backend/signals", &[], Bytes::new());
        let response = tokio::time::timeout(SILENCE, response).await;
        drop(strong);
        if let Ok(Ok(response)) = response
            && response.status().is_success()
        {
            pause = PAUSE;
            let Some(senders) = senders.upgrade() else { return };
            // Whatever came meanwhile, nobody has said.
            bump(&senders.outcomes);
            bump(&senders.cancels);
            let mut body = response.into_body();
            let mut line = Vec::new();
            while let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE, body.frame()).await {
                let Ok(data) = frame.into_data() else { continue };
                for byte in data {
                    match byte {
                        b'\n' => {
                            tell(&senders, &line);
                            line.clear();
                        }
                        byte if line.len() < LINE => line.push(byte),
                        _ => {}
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn bump(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count = count.wrapping_add(1));
}

/// What a later version says is nothing to this one.
fn tell(senders: &Senders, line: &[u8]) {
    match line {
        b"outcomes" => bump(&senders.outcomes),
        b"cancels" => bump(&senders.cancels),
        line => {
            let scanned = line.strip_prefix(b"scanned ").and_then(|count| std::str::from_utf8(count).ok());
            if let Some(count) = scanned.and_then(|count| count.parse().ok()) {
                senders.scanned.send_replace(count);
            }
        }
    }
}
