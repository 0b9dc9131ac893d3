//! `claim`: messages are received, and worked through until jobs are ours.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use haulage::{
    Result, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed, Heartbeat, HeartbeatStatus},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    delivery::{disposition::Disposition, receive::receive, resolve::resolve},
    schema::body::DocumentPlace,
    services::{queue::Queue, table::PARALLEL, time_limit::SOON},
    state::{
        Inner, Shared,
        in_flight::{Chain, Received, chains, hidden_behind, with_followers},
    },
    verbs::heartbeat::heartbeat,
};

pub(crate) async fn claim(
    inner: Shared,
    request: ClaimRequest,
    stop: CancellationToken,
) -> Result<Vec<Claimed>> {
    inner.capabilities.check_claim(&request)?;
    inner.stopped.store(false, Ordering::Relaxed);
    let deadline = Instant::now() + request.wait;
    let mut pauses = inner.pauses.changed.subscribe();
    loop {
        if stop.is_cancelled() {
            // No claim may come after this one, to see that nothing is left to do.
            inner.stop_claiming().await;
            return Ok(Vec::new());
        }
        // Where the task could not be protected, nothing is received in vain:
        // SQS counts receives.
        if inner.unprotected.load(Ordering::Relaxed) {
            protect(&inner).await?;
        }
        pauses.mark_unchanged();
        let queues = open_queues(&inner, &request).await?;
        let mut found = inner.in_flight.take_ready(&queues, request.max, inner.now());
        if found.is_empty() {
            // What is to be looked at first.
            let signal = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = inner.in_flight.signal.notified() => {}
                    _ = pauses.changed() => {}
                }
            };
            let received = receive(&inner, &request, &queues, deadline, signal).await?;
            found = still_open(&inner, chains(received)).await;
        }
        if found.is_empty() {
            inner.release_if_idle().await;
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            continue;
        }
        let _starting = inner.starting.read().await;
        // Before anything is started: a task that is stopped then has worked for nothing.
        if let Err(error) = protect(&inner).await {
            inner.show_again(found.into_iter().flatten()).await;
            return Err(error);
        }
        let claimed = work_through(&inner, &request, found).await?;
        if !claimed.is_empty() {
            return Ok(claimed);
        }
    }
}

/// The queues that are asked for and are not paused.
async fn open_queues(inner: &Inner, request: &ClaimRequest) -> Result<Vec<Arc<Queue>>> {
    let paused = inner.pauses.known(&inner.store.table).await;
    let mut queues = Vec::new();
    for name in request.queues.names().filter(|name| !paused.contains(name)) {
        queues.push(inner.queues.get(name).await?);
    }
    Ok(queues)
}

/// What was received, but for what is of a queue that has been paused meanwhile: that
/// shows again.
async fn still_open(inner: &Inner, found: Vec<Chain>) -> Vec<Chain> {
    if found.is_empty() {
        return found;
    }
    let paused = inner.pauses.known(&inner.store.table).await;
    let (held_up, open): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|chain| chain.front().is_some_and(|first| paused.contains(&first.queue.named)));
    if !held_up.is_empty() {
        inner.show_again(held_up.into_iter().flatten()).await;
    }
    open
}

async fn protect(inner: &Inner) -> Result<()> {
    let protected = inner.protection.hold().await;
    inner.unprotected.store(protected.is_err(), Ordering::Relaxed);
    protected
}

/// Tries the first message of each chain; the oldest job comes first in the answer.
async fn work_through(inner: &Shared, request: &ClaimRequest, mut found: Vec<Chain>) -> Result<Vec<Claimed>> {
    // The leases of the first run while the last are looked at.
    let enough = Instant::now() + request.lease / 3;
    // Those that wait for a turn must not keep others from theirs.
    found.sort_by_key(is_in_bucket);
    let outcomes: Vec<Result<Option<(Timestamp, Claimed)>>> = stream::iter(found)
        .map(|chain| async move {
            let turn = timeout_at(enough, turn(inner, &chain)).await;
            if turn.is_err() || Instant::now() > enough {
                give_back(inner, chain.into_iter().map(|message| (message, Duration::ZERO)).collect());
                return Ok(None);
            }
            work_chain(inner, request, chain).await
        })
        .buffer_unordered(2 * PARALLEL)
        .collect()
        .await;
    let mut claimed = Vec::new();
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            Ok(one) => claimed.extend(one),
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        if claimed.is_empty() {
            return Err(error);
        }
        warn!(%error, "some messages could not be looked at; they show again");
    }
    claimed.sort_by_key(|(due, claimed)| (*due, claimed.submitted_at));
    Ok(refreshed(inner, request, claimed.into_iter().map(|(_, claimed)| claimed).collect()).await)
}

/// A turn to read the body of the first message from the bucket: many at once
/// would all be late. `None` where there is no need.
async fn turn(inner: &Inner, chain: &Chain) -> Option<OwnedSemaphorePermit> {
    let bucket = inner.store.bucket.as_ref().filter(|_| is_in_bucket(chain))?;
    bucket.claims.clone().acquire_owned().await.ok()
}

fn is_in_bucket(chain: &Chain) -> bool {
    let envelope = chain.front().and_then(|message| message.envelope.as_ref().ok());
    envelope.is_some_and(|envelope| matches!(envelope.body.place, DocumentPlace::Object(_)))
}

/// Extends the leases that have run down while other messages were looked at.
async fn refreshed(inner: &Shared, request: &ClaimRequest, mut claimed: Vec<Claimed>) -> Vec<Claimed> {
    let fresh = inner.now().after(request.lease / 2);
    let old: Vec<ClaimKey> = claimed
        .iter()
        .filter(|claimed| claimed.lease_until < fresh)
        .map(|claimed| claimed.key.clone())
        .collect();
    if old.is_empty() {
        return claimed;
    }
    let beat = |key: &ClaimKey| Heartbeat::new(key.clone(), request.lease);
    match heartbeat(inner.clone(), old.iter().map(beat).collect()).await {
        Ok(statuses) => {
            let statuses: HashMap<ClaimKey, HeartbeatStatus> = old.into_iter().zip(statuses).collect();
            claimed.retain_mut(|claimed| match statuses.get(&claimed.key) {
                Some(HeartbeatStatus::Held(until) | HeartbeatStatus::CancelRequested(until)) => {
                    claimed.lease_until = *until;
                    true
                }
                Some(HeartbeatStatus::Lost) => false,
                None => true,
            });
        }
        Err(error) => warn!(%error, "leases that have run down were not extended"),
    }
    claimed
}

/// Goes along a chain until one of its jobs is ours, or has to wait.
async fn work_chain(
    inner: &Shared,
    request: &ClaimRequest,
    mut chain: Chain,
) -> Result<Option<(Timestamp, Claimed)>> {
    while let Some(message) = chain.pop_front() {
        let disposition = resolve(inner, request, &message).await;
        if disposition.is_ok() {
            inner.failures.forget(&message.id);
        }
        match disposition {
            Ok(Disposition::Claimed(claim)) => {
                let (claimed, mut hold) = *claim;
                let due = hold.envelope.due_at();
                hold.followers = chain;
                let late = message.hidden_until < claimed.lease_until.before(SOON);
                inner.in_flight.insert(claimed.key.clone(), hold, inner.now());
                if late {
                    // It has waited here behind another of its group.
                    let queue = message.queue.clone();
                    let time = inner.limits(&queue).hide_for(&message, request.lease, inner.now());
                    inner.tasks.spawn(async move { queue.hide(vec![(message.receipt, time)]).await });
                }
                return Ok(Some((due, claimed)));
            }
            Ok(Disposition::Dropped) => {
                inner.queues.delete(&message.queue, message.receipt, !chain.is_empty());
            }
            Ok(Disposition::Hidden(time)) => {
                give_back(inner, with_followers(message, time, chain));
                return Ok(None);
            }
            Ok(Disposition::Held(time)) => {
                let back = inner.clone();
                let followers = hidden_behind(chain, time);
                inner.tasks.spawn(async move {
                    back.leave_to_holder(message, time).await;
                    back.give_back(followers).await;
                });
                return Ok(None);
            }
            Err(error) => {
                let time = inner.failures.failed(&message.id, message.is_grouped());
                give_back(inner, with_followers(message, time, chain));
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// Gives messages back while the claim goes on: the leases of what was claimed
/// must not run down because the queue is slow.
fn give_back(inner: &Shared, messages: Vec<(Received, Duration)>) {
    let back = inner.clone();
    inner.tasks.spawn(async move { back.give_back(messages).await });
}
