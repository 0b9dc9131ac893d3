//! Calls that can be repeated without being made again.
//!
//! A call that changes something is a task of its own, which goes on where its
//! connection breaks. Its answer stays until the client says that it has got it, or for
//! [`KEPT`]; a repeat is given the same answer, or waits for it.
//!
//! A claim is special: jobs that nobody hears of would be hidden from others until their leases
//! end. So a claim whose client has gone away ends soon, and jobs that it brings meanwhile go
//! back to the queue.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haulage::{
    Backend, Result,
    backend::{ClaimKey, Outcome, Settlement},
};
use hyper::{StatusCode, body::Bytes};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long an answer is kept for a client that does not say that it has got it.
const KEPT: Duration = Duration::from_secs(120);
/// How many bytes of answers are kept at most; the oldest go first.
const MOST_BYTES: usize = 64 << 20;
/// How long a claim goes on without its client.
const GRACE: Duration = Duration::from_secs(3);

/// The calls that are under way, and the answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Calls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: HashMap<CallId, Call>,
    /// The order in which they were answered, and when.
    answered: VecDeque<(Instant, CallId)>,
    bytes: usize,
}

/// The id that the client has given, and the key with which it came: nobody is told
/// another's answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallId {
    pub(super) key: String,
    pub(super) id: String,
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

#[derive(Debug)]
struct Call {
    answer: watch::Receiver<Option<Answered>>,
    /// How many requests wait for the answer.
    waiting: usize,
    /// Some request has been given the answer.
    told: bool,
    stop: CancellationToken,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// Makes a call, or waits for what an earlier request with this id has begun.
    /// `None` where the call ended without an answer, by a fault of the program.
    pub(super) async fn run<F>(
        &self,
        id: CallId,
        backend: &Arc<dyn Backend>,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> Option<Answered>
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let mut answer = self.begin(&id, backend, work);
        let waiting = Waiting { calls: Arc::clone(&self.0), backend: Arc::clone(backend), id };
        let answered = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        let mut state = lock(&self.0);
        match (&answered, state.calls.get_mut(&waiting.id)) {
            (Some(_), Some(call)) => call.told = true,
            // Another try is to begin anew.
            (None, Some(_)) => drop(state.calls.remove(&waiting.id)),
            (_, None) => {}
        }
        drop(state);
        answered
    }

    /// Whether such a call is known.
    pub(super) fn knows(&self, id: &CallId) -> bool {
        lock(&self.0).calls.contains_key(id)
    }

    fn begin<F>(
        &self,
        id: &CallId,
        backend: &Arc<dyn Backend>,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> watch::Receiver<Option<Answered>>
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let mut state = lock(&self.0);
        if let Some(call) = state.calls.get_mut(id) {
            call.waiting += 1;
            return call.answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        let stop = CancellationToken::new();
        let call = Call { answer: answer.clone(), waiting: 1, told: false, stop: stop.clone() };
        state.calls.insert(id.clone(), call);
        let (work, calls, backend, id) = (work(stop), Arc::clone(&self.0), Arc::clone(backend), id.clone());
        tokio::spawn(async move {
            let answered = work.await;
            let unheard = {
                let mut state = lock(&calls);
                state.bytes += answered.body.len();
                state.answered.push_back((Instant::now(), id.clone()));
                state.tidy();
                state.calls.get(&id).is_none_or(|call| call.waiting == 0)
            };
            let has_jobs = !answered.claims.is_empty();
            let is_failure = answered.status.is_server_error();
            sender.send_replace(Some(answered));
            if is_failure {
                // Who tries again means it.
                lock(&calls).forget(&id);
            }
            if unheard && has_jobs {
                give_up_later(calls, backend, id);
            }
        });
        answer
    }

    /// The client has got these answers.
    pub(super) fn received(&self, ids: impl Iterator<Item = CallId>) {
        let mut state = lock(&self.0);
        for id in ids {
            state.forget(&id);
        }
    }

    /// Ends the wait of a claim. Its answer still comes, unless its jobs are to be given
    /// back: then there is none, and this is done when they are. False where no such call is known.
    pub(super) async fn stop(
        &self,
        id: &CallId,
        give_back: bool,
        backend: &Arc<dyn Backend>,
    ) -> Result<bool> {
        let answer = {
            let state = lock(&self.0);
            let Some(call) = state.calls.get(id) else { return Ok(false) };
            call.stop.cancel();
            call.answer.clone()
        };
        if give_back {
            release(&self.0, answer, id, backend).await?;
        }
        Ok(true)
    }
}

/// Gives the jobs of a call back, and forgets it.
async fn release(
    calls: &Mutex<State>,
    mut answer: watch::Receiver<Option<Answered>>,
    id: &CallId,
    backend: &Arc<dyn Backend>,
) -> Result<()> {
    let answered = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
    if let Some(answered) = answered {
        let release = |key: &ClaimKey| Settlement::new(key.clone(), Outcome::release());
        let releases: Vec<_> = answered.claims.iter().map(release).collect();
        if !releases.is_empty() {
            // A claim that is lost meanwhile is nobody's to give back.
            backend.settle(releases).await?;
        }
    }
    lock(calls).forget(id);
    Ok(())
}

impl State {
    fn forget(&mut self, id: &CallId) {
        // One that is under way is not forgotten: it would be made twice.
        let Some(call) = self.calls.get(id) else { return };
        let Some(size) = call.answer.borrow().as_ref().map(|answer| answer.body.len()) else { return };
        self.bytes = self.bytes.saturating_sub(size);
        self.calls.remove(id);
    }

    /// Forgets what has been kept for long, or takes too much room.
    fn tidy(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.answered.front() {
            let known = self.calls.contains_key(id);
            if known && now.saturating_duration_since(*at) < KEPT && self.bytes <= MOST_BYTES {
                return;
            }
            let id = id.clone();
            self.answered.pop_front();
            self.forget(&id);
        }
    }
}

/// A request that waits for the answer of a call.
struct Waiting {
    calls: Arc<Mutex<State>>,
    backend: Arc<dyn Backend>,
    id: CallId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let alone = {
            let mut state = lock(&self.calls);
            let Some(call) = state.calls.get_mut(&self.id) else { return };
            call.waiting = call.waiting.saturating_sub(1);
            call.waiting == 0 && !call.told
        };
        // Whatever it is, it goes on; a claim is given up if its client does not come back.
        if alone {
            give_up_later(Arc::clone(&self.calls), Arc::clone(&self.backend), self.id.clone());
        }
    }
}

/// Ends a claim that nobody waits for, and gives back what it brings. Other calls have nothing
/// that hears of a stop, and bring no claims.
fn give_up_later(calls: Arc<Mutex<State>>, backend: Arc<dyn Backend>, id: CallId) {
    // At the end of the program there may be no runtime left.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        tokio::time::sleep(GRACE).await;
        let answer = {
            let state = lock(&calls);
            match state.calls.get(&id) {
                Some(call) if call.waiting == 0 && !call.told => {
                    call.stop.cancel();
                    call.answer.clone()
                }
                _ => return,
            }
        };
        let mut brought = answer.clone();
        let has_jobs = match brought.wait_for(Option::is_some).await {
            Ok(answer) => answer.as_ref().is_some_and(|answer| !answer.claims.is_empty()),
            Err(_) => return,
        };
        let is_unheard = |call: &Call| call.waiting == 0 && !call.told;
        if !has_jobs || !lock(&calls).calls.get(&id).is_some_and(is_unheard) {
            return;
        }
        if let Err(error) = release(&calls, answer, &id, &backend).await {
            tracing::warn!(%error, "cannot give back the jobs of a client that has gone away");
        }
    });
}
