//! Calls that can be repeated without being made again.
//!
//! A call that changes something is a task of its own, which goes on where its
//! connection breaks. What is known of it stays in the [`CallTable`], so a repeat is given
//! the same answer, or waits for it.
//!
//! A claim is special: jobs that nobody hears of would be hidden from others until their leases
//! end. So a claim whose client has gone away ends soon, and jobs that it brings meanwhile go
//! back to the queue. Who hears of a claim, and whether it is given up, is decided under one lock:
//! no job goes back that somebody has been given.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use haulage::{
    Backend, Error, Result,
    backend::{ClaimKey, Outcome, Settlement},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::call_table::{Answered, CallId, CallTable, Fingerprint, Joined, KeptCall};
use crate::{Problem, protocol};

/// How long a claim goes on without its client.
const GRACE: Duration = Duration::from_secs(3);

/// The calls that are under way, and what is known of those that were made.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<CallTable>,
    backend: Arc<dyn Backend>,
    stopping: CancellationToken,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, CallTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a client has sent a call before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Never,
    /// Since this server is there.
    Here,
    /// To a server that is no more, or so long ago that nothing needs to be known of it here.
    Elsewhere,
}

/// A call as it comes.
#[derive(Clone, Debug)]
pub(super) struct NewCall {
    pub(super) id: CallId,
    pub(super) what: Fingerprint,
    pub(super) sent: Sent,
}

/// What a call that begins is told.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Nobody wants its answer any more, or the server is being stopped.
    pub(super) stop: CancellationToken,
    /// It has been sent before.
    pub(super) is_repeat: bool,
    /// It may have been made before.
    pub(super) is_doubtful: bool,
}

impl Calls {
    pub(super) fn new(backend: Arc<dyn Backend>, stopping: CancellationToken) -> Self {
        Self(Arc::new(Shared { table: Mutex::default(), backend, stopping }))
    }

    /// Makes a call, or waits for what an earlier request with this id has begun.
    pub(super) async fn run<F>(
        &self,
        call: NewCall,
        work: impl FnOnce(Start) -> F,
    ) -> Result<Answered, Problem>
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let NewCall { id, what, mut sent } = call;
        let mut gave_back = false;
        let joined = loop {
            let gone = {
                let mut table = self.0.table();
                let Some(kept) = table.get(&id) else {
                    break self.begin(&mut table, &id, what, sent, work);
                };
                if kept.what != what {
                    return Err(conflict(&id));
                }
                if kept.given_up.is_cancelled() {
                    kept.gone.clone()
                } else if !kept.is_lost {
                    break kept.join();
                } else if kept.claims().is_empty() {
                    // It was made; what it came to, nobody knows any more.
                    table.remove(&id);
                    break self.begin(&mut table, &id, what, Sent::Elsewhere, work);
                } else if gave_back {
                    return Err(still_held());
                } else {
                    // What it brought goes back before it is made anew.
                    gave_back = true;
                    let gone = kept.gone.clone();
                    drop(self.give_back(kept, &id));
                    gone
                }
            };
            gone.cancelled().await;
            sent = Sent::Elsewhere;
        };
        let Joined { serial, mut answer, given_up } = joined;
        let waiting = Waiting { calls: self.clone(), id, serial };
        let answered = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        let mut table = self.0.table();
        let Some(answered) = answered else {
            // By a fault of the program. Another try is to begin anew.
            table.remove_if(&waiting.id, serial);
            let detail = "the call ended without an answer";
            return Err(Problem::new(500, "failed", "The server failed", detail));
        };
        if given_up.is_cancelled() {
            let detail = "the client gave this call up, and what it brought went back";
            return Err(Problem::new(503, "given_up", "The call was given up", detail));
        }
        if let Some(call) = table.current(&waiting.id, serial) {
            call.told = true;
        }
        Ok(answered)
    }

    fn begin<F>(
        &self,
        table: &mut CallTable,
        id: &CallId,
        what: Fingerprint,
        sent: Sent,
        work: impl FnOnce(Start) -> F,
    ) -> Joined
    where
        F: Future<Output = Answered> + Send + 'static,
    {
        let is_doubtful = sent == Sent::Elsewhere || (sent == Sent::Here && table.has_forgotten());
        let stop = self.0.stopping.child_token();
        let (sender, answer) = watch::channel(None);
        let joined = table.insert(id, what, answer, stop.clone());
        let work = work(Start { stop, is_repeat: sent != Sent::Never, is_doubtful });
        let (calls, id, serial) = (self.clone(), id.clone(), joined.serial);
        tokio::spawn(async move {
            let answered = work.await;
            let is_unheard = calls.0.table().publish(&id, serial, &sender, answered, is_doubtful);
            if is_unheard {
                calls.give_up_later(id, serial);
            }
        });
        joined
    }

    /// The client has got these answers.
    pub(super) fn received(&self, ids: impl Iterator<Item = CallId>) {
        let mut table = self.0.table();
        for id in ids {
            table.received(&id);
        }
    }

    /// Ends the wait of a claim. Its answer still comes, unless its jobs are to be given
    /// back: then there is none, and this is done when they are. False where no such call is known.
    pub(super) async fn stop(&self, id: &CallId, give_back: bool) -> Result<bool> {
        loop {
            let (task, gone) = {
                let mut table = self.0.table();
                let Some(kept) = table.get(id) else { return Ok(false) };
                kept.stop.cancel();
                if !give_back {
                    return Ok(true);
                }
                let task = (!kept.given_up.is_cancelled()).then(|| self.give_back(kept, id));
                (task, kept.gone.clone())
            };
            if let Some(task) = task {
                let done = task.await;
                return done
                    .unwrap_or_else(|e| Err(Error::unavailable("giving jobs back failed", e)))
                    .map(|()| true);
            }
            // Somebody else does it.
            gone.cancelled().await;
        }
    }

    /// From now on nobody is given what this call brings: it goes back to the queue, and the call is
    /// forgotten. A task of its own, since those who wait for its end may go away.
    fn give_back(&self, kept: &KeptCall, id: &CallId) -> JoinHandle<Result<()>> {
        kept.given_up.cancel();
        let (shared, id, serial, mut answer) =
            (Arc::clone(&self.0), id.clone(), kept.serial, kept.answer.clone());
        tokio::spawn(async move {
            let answered = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
            let claims = answered.map_or_else(|| [].into(), |answered| answered.claims);
            let (left, released) = match release(&*shared.backend, &claims).await {
                Ok(()) => (Vec::new(), Ok(())),
                Err((left, error)) => (left, Err(error)),
            };
            shared.table().given_back(&id, serial, left);
            released
        })
    }

    /// Ends a claim that nobody waits for, and gives back what it brings. Other calls have nothing
    /// that hears of a stop, and bring no claims.
    fn give_up_later(&self, id: CallId, serial: u64) {
        // At the end of the program there may be no runtime left.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let calls = self.clone();
        runtime.spawn(async move {
            tokio::time::sleep(GRACE).await;
            let unheard = |call: &&mut KeptCall| call.is_unheard();
            let mut answer = {
                let mut table = calls.0.table();
                let Some(call) = table.current(&id, serial).filter(unheard) else { return };
                call.stop.cancel();
                call.answer.clone()
            };
            if answer.wait_for(Option::is_some).await.is_err() {
                return;
            }
            let given_back = {
                let mut table = calls.0.table();
                match table.current(&id, serial).filter(unheard) {
                    Some(call) if !call.claims().is_empty() => calls.give_back(call, &id),
                    _ => return,
                }
            };
            if let Ok(Err(error)) = given_back.await {
                tracing::warn!(%error, "cannot give back the jobs of a client that has gone away");
            }
        });
    }
}

fn conflict(id: &CallId) -> Problem {
    let detail = format!("the call {} was made before, and asked for something else", id.id);
    Problem::new(422, "call_conflict", "The id of the call was used for another one", detail)
        .field(protocol::CALL)
        .remedy("give each call an id of its own, drawn from the system's random numbers")
}

fn still_held() -> Problem {
    let detail = "the jobs that an earlier request of this call brought cannot be given back now";
    Problem::new(503, "unavailable", "The store is out of reach, or refuses to work", detail)
}

/// Gives jobs back. Which of them it could not, and why.
async fn release(backend: &dyn Backend, claims: &[ClaimKey]) -> Result<(), (Vec<ClaimKey>, Error)> {
    if claims.is_empty() {
        return Ok(());
    }
    let release = |key: &ClaimKey| Settlement::new(key.clone(), Outcome::release());
    let answers = match backend.settle(claims.iter().map(release).collect()).await {
        Ok(answers) => answers,
        Err(error) => return Err((claims.to_vec(), error)),
    };
    let (mut left, mut why) = (Vec::new(), None);
    for (key, answer) in claims.iter().zip(answers) {
        // A claim that is lost meanwhile is nobody's to give back.
        if let Err(error @ Error::Unavailable { .. }) = answer {
            left.push(key.clone());
            why = Some(error);
        }
    }
    why.map_or(Ok(()), |error| Err((left, error)))
}

/// A request that waits for the answer of a call.
struct Waiting {
    calls: Calls,
    id: CallId,
    serial: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let is_unheard = {
            let mut table = self.calls.0.table();
            let Some(call) = table.current(&self.id, self.serial) else { return };
            call.waiting = call.waiting.saturating_sub(1);
            call.is_unheard()
        };
        // Whatever it is, it goes on; a claim is given up if its client does not come back.
        if is_unheard {
            self.calls.give_up_later(self.id.clone(), self.serial);
        }
    }
}
