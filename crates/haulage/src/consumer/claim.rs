//! Asking for work.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::deadlines::Deadlines;
use crate::{
    Backend, Queues, Result,
    backend::{ClaimRequest, Claimed},
    backend_call::BackendCall,
    retry::Outage,
};

/// One claim at a time, never dropped before its answer is there: jobs may be
/// in it.
#[derive(Debug)]
pub(super) struct Claims {
    lease: Duration,
    wait: Duration,
    worker: String,
    queues: Queues,
    /// How many jobs have been claimed, from some number on: a worker that is started
    /// anew for each few jobs does not begin with the same queue each time.
    turn: u64,
    pending: Option<Pending>,
    not_before: Instant,
    outage: Outage,
}

#[derive(Debug)]
struct Pending {
    max: usize,
    started: Instant,
    stop: CancellationToken,
    call: BackendCall<Vec<Claimed>>,
    /// It does not wait, as it goes along with a settle.
    joined: bool,
}

/// A claim that goes along with a settle.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) request: ClaimRequest,
    /// Takes what it brings.
    pub(super) claimed: oneshot::Sender<Vec<Claimed>>,
}

impl Claims {
    pub(super) fn new(lease: Duration, wait: Duration, worker: String, queues: Queues) -> Self {
        Self {
            lease,
            wait,
            worker,
            queues,
            turn: u64::from(fastrand::u32(..)),
            pending: None,
            not_before: Instant::now(),
            outage: Outage::new("claim jobs"),
        }
    }

    pub(super) const fn outage(&self) -> &Outage {
        &self.outage
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Asks for as many jobs as there is room for.
    pub(super) fn start(&mut self, room: usize, backend: &Arc<dyn Backend>) {
        if let Some(pending) = &self.pending {
            // There was more room when it was asked: a batch has been called
            // before it was full. What this claim still brings has to wait.
            if pending.max > room {
                pending.stop.cancel();
            }
            return;
        }
        if room == 0 {
            self.outage.forget();
            return;
        }
        if Instant::now() < self.not_before {
            return;
        }
        let (request, backend, stop) = (self.request(room), backend.clone(), CancellationToken::new());
        let stops = stop.clone();
        let call = BackendCall::send(async move { backend.claim(request, stops).await });
        self.begin(Pending { max: room, started: Instant::now(), stop, call, joined: false });
    }

    /// The same, for a settle to take along; `None` where a claim is under way,
    /// or is not to be.
    pub(super) fn join(&mut self, room: usize) -> Option<Joined> {
        if self.is_pending() || room == 0 || self.outage.is_on() {
            return None;
        }
        let (request, stop) = (self.request(room), CancellationToken::new());
        let (claimed, answer) = oneshot::channel();
        // Without one, the settle failed, and nothing was claimed.
        let call = BackendCall::send(async move { Ok(answer.await.unwrap_or_default()) });
        self.begin(Pending { max: room, started: Instant::now(), stop, call, joined: true });
        Some(Joined { request, claimed })
    }

    fn request(&self, max: usize) -> ClaimRequest {
        ClaimRequest::new(self.worker.clone(), self.lease)
            .queues(self.queues.clone(), self.turn)
            .max(max)
            .wait(self.wait)
    }

    fn begin(&mut self, pending: Pending) {
        self.outage.begin();
        self.pending = Some(pending);
    }

    /// Ends the wait of the claim that is under way; its answer still comes.
    pub(super) fn stop(&self) {
        if let Some(pending) = &self.pending {
            pending.stop.cancel();
        }
    }

    /// Waits for the claim that is under way.
    pub(super) async fn answer(&mut self) -> Result<Vec<Claimed>> {
        match &mut self.pending {
            Some(pending) => pending.call.answer().await,
            None => std::future::pending().await,
        }
    }

    /// Takes the answer in.
    pub(super) fn answered(&mut self, answer: Result<Vec<Claimed>>) -> Vec<Claimed> {
        let Some(pending) = self.pending.take() else { return Vec::new() };
        self.turn += answer.as_ref().map_or(0, |jobs| jobs.len() as u64);
        match answer {
            // The settle may have failed: only the settle's answer tells.
            Ok(jobs) if pending.joined && jobs.is_empty() => {
                self.outage.forget();
                jobs
            }
            Ok(jobs) => {
                self.outage.over();
                if jobs.is_empty() && !pending.stop.is_cancelled() {
                    // A backend that does not wait is not asked in a tight loop.
                    self.not_before = pending.started + self.wait.min(Duration::from_millis(20));
                }
                jobs
            }
            Err(error) => {
                self.not_before = self.outage.failed(&error);
                Vec::new()
            }
        }
    }

    /// When there is something to do here.
    pub(super) fn deadlines(&self, room: usize, deadlines: &mut Deadlines) {
        if self.pending.is_none() && room > 0 {
            deadlines.real(Some(self.not_before));
        }
    }
}

#[cfg(test)]
mod tests;
