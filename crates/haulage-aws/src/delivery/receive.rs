//! Which queues a claim asks for messages, in which order, and for how many.
//!
//! Never for more than there are free slots, receives that are under way counted: SQS
//! hides what it hands out, and counts how often it did.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{join_all, select_all},
};
use haulage::{QueueName, Result, backend::ClaimRequest};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    delivery::poll::{self, Watch},
    services::{
        pauses::LOOK_EVERY,
        queue::{MAX_BATCH, MAX_WAIT, Queue},
        table::PARALLEL,
        time_limit::SOON,
    },
    state::{Shared, in_flight::Received},
};

/// How long a poll of one of several queues lasts: a slot that it has is no other queue's
/// meanwhile.
const SHARED_WAIT: Duration = Duration::from_secs(5);
/// The same where there are fewer free slots than queues, which then take turns.
const TURN_WAIT: Duration = Duration::from_secs(1);

/// Receives up to as many messages as are asked for, from these queues. It waits for no
/// longer than until the signal.
pub(crate) async fn receive(
    inner: &Shared,
    request: &ClaimRequest,
    queues: &[Arc<Queue>],
    deadline: Instant,
    signal: impl Future<Output = ()> + Send,
) -> Result<Vec<Received>> {
    let all_open = queues.len() == request.queues.names().count();
    let longest = if all_open { MAX_WAIT } else { LOOK_EVERY };
    let wait = deadline.saturating_duration_since(Instant::now()).min(longest);
    match queues {
        [] => {
            let _ = tokio::time::timeout(wait, signal).await;
            Ok(Vec::new())
        }
        [only] => from_one(inner, request, only, wait, signal).await,
        several => from_several(inner, request, several, wait, signal).await,
    }
}

/// From one queue: a long poll, and where that brings a full batch, more.
async fn from_one(
    inner: &Shared,
    request: &ClaimRequest,
    queue: &Arc<Queue>,
    wait: Duration,
    signal: impl Future<Output = ()> + Send,
) -> Result<Vec<Received>> {
    let lease = request.lease;
    // A claim that does not wait asks for itself.
    let adopted = if wait.is_zero() { None } else { poll::adopt(inner, queue, request.max, lease) };
    let mut watch = adopted.unwrap_or_else(|| poll::begin(inner, queue, request.max, lease, wait));
    let mut received = tokio::select! {
        answer = watch.answer() => answer?,
        () = signal => return Ok(Vec::new()),
        // A poll that an earlier claim began may last longer than this one wants.
        () = tokio::time::sleep(wait + SOON), if !wait.is_zero() => return Ok(Vec::new()),
    };
    let left = request.max - received.len().min(request.max);
    if received.len() == MAX_BATCH && left > 0 {
        // There seems to be more: ask for it at once.
        received.extend(at_once(inner, queue, left, lease).await);
    }
    Ok(received)
}

/// What is there, without waiting, more and more boldly.
async fn at_once(inner: &Shared, queue: &Arc<Queue>, max: usize, lease: Duration) -> Vec<Received> {
    let mut received = Vec::new();
    let mut full = true;
    while full && received.len() < max {
        let left = max - received.len();
        let width = inner.fan_out.load(Ordering::Relaxed).clamp(1, left.div_ceil(MAX_BATCH).min(PARALLEL));
        let maxima = (0..width).map(|n| (left - n * MAX_BATCH).min(MAX_BATCH));
        let answers = join_all(maxima.map(|max| inner.receive(queue, max, lease, Duration::ZERO))).await;
        for answer in answers {
            match answer {
                Ok(more) => {
                    full &= more.len() == MAX_BATCH;
                    received.extend(more);
                }
                // What is there already must not wait for this to mend.
                Err(error) => {
                    warn!(%error, "fewer messages than could be");
                    full = false;
                }
            }
        }
        inner.fan_out.store(if full { width * 2 } else { 1.max(width / 2) }, Ordering::Relaxed);
    }
    received
}

/// From several: as long as there is work, each in its turn and without waiting; long
/// polls of all of them where there is none.
async fn from_several(
    inner: &Shared,
    request: &ClaimRequest,
    queues: &[Arc<Queue>],
    wait: Duration,
    signal: impl Future<Output = ()> + Send,
) -> Result<Vec<Received>> {
    // What earlier claims have asked for may still come, and takes slots.
    let mut watches = Vec::new();
    let mut free = request.max;
    for queue in queues {
        while let Some(watch) = poll::adopt(inner, queue, free, request.lease) {
            free -= watch.max();
            watches.push(watch);
        }
    }
    let was_busy = inner.busy.swap(false, Ordering::Relaxed);
    let mut received = Vec::new();
    if was_busy || wait.is_zero() {
        received = in_turn(inner, request, queues, free).await?;
    }
    if received.is_empty() && !wait.is_zero() {
        let (begun, wait) = long_polls(inner, request, queues, &watches, free, wait);
        watches.extend(begun);
        received = first_of(&mut watches, wait, signal).await?;
    }
    if !received.is_empty() {
        inner.busy.store(true, Ordering::Relaxed);
    }
    Ok(received)
}

/// From each queue what is its share, by the turns of [`haulage::Queues::draw`]; what one
/// that has no more leaves goes to the others.
async fn in_turn(
    inner: &Shared,
    request: &ClaimRequest,
    queues: &[Arc<Queue>],
    free: usize,
) -> Result<Vec<Received>> {
    let (mut received, mut empty) = (Vec::new(), Vec::new());
    let mut boldness = MAX_BATCH;
    while received.len() < free && empty.len() < queues.len() {
        let turn = request.turn.wrapping_add(received.len() as u64);
        let most = (free - received.len()).min(boldness);
        let answers = join_all(shares(request, queues, &empty, turn, most).into_iter().map(
            |(queue, share)| async move {
                let batches = (0..share).step_by(MAX_BATCH).map(|from| (share - from).min(MAX_BATCH));
                let receives = batches.map(|max| inner.receive(queue, max, request.lease, Duration::ZERO));
                (queue, share, join_all(receives).await)
            },
        ))
        .await;
        let mut failure = None;
        for (queue, share, answers) in answers {
            let before = received.len();
            for answer in answers {
                match answer {
                    Ok(more) => received.extend(more),
                    Err(error) => failure = Some(error),
                }
            }
            if received.len() - before < share {
                empty.push(queue.named.clone());
            }
        }
        match failure {
            Some(error) if received.is_empty() => return Err(error),
            // What is there already must not wait for this to mend.
            Some(error) => {
                warn!(%error, "fewer messages than could be");
                break;
            }
            None => boldness *= 2,
        }
    }
    Ok(received)
}

/// How many of the next turns are each queue's, where these have no jobs.
fn shares<'a>(
    request: &ClaimRequest,
    queues: &'a [Arc<Queue>],
    empty: &[QueueName],
    turn: u64,
    turns: usize,
) -> Vec<(&'a Arc<Queue>, usize)> {
    let open = |name: &QueueName| queues.iter().find(|queue| queue.named == *name && !empty.contains(name));
    let drawn: std::result::Result<Vec<&Arc<Queue>>, Infallible> =
        request.queues.draw(turn, turns, |name| Ok(open(name)));
    let mut shares: Vec<(&Arc<Queue>, usize)> = Vec::new();
    for queue in drawn.unwrap_or_default() {
        match shares.iter_mut().find(|(other, _)| other.named == queue.named) {
            Some((_, share)) => *share += 1,
            None => shares.push((queue, 1)),
        }
    }
    shares
}

/// Begins a long poll of each queue of which none is under way, as far as there are slots:
/// one slot for each, and the rest for the one whose turn it is. Also how long they last.
fn long_polls(
    inner: &Shared,
    request: &ClaimRequest,
    queues: &[Arc<Queue>],
    under_way: &[Watch],
    mut free: usize,
    wait: Duration,
) -> (Vec<Watch>, Duration) {
    let is_polled = |queue: &QueueName| under_way.iter().any(|watch| watch.queue().named == *queue);
    let mut unpolled: Vec<&Arc<Queue>> = request
        .queues
        .order(request.turn)
        .into_iter()
        .filter(|name| !is_polled(name))
        .filter_map(|name| queues.iter().find(|queue| queue.named == *name))
        .collect();
    if unpolled.len() > free && !unpolled.is_empty() {
        // They take turns.
        let next = inner.next_poll.fetch_add(free, Ordering::Relaxed);
        let count = unpolled.len();
        unpolled.rotate_left(next % count);
        unpolled.truncate(free);
    }
    let all_at_once = under_way.len() + unpolled.len() >= queues.len();
    let wait = wait.min(if all_at_once { SHARED_WAIT } else { TURN_WAIT });
    let mut begun = Vec::new();
    for (n, queue) in unpolled.iter().enumerate() {
        let others = unpolled.len() - 1 - n;
        let share = if n == 0 { free - others } else { 1 }.min(MAX_BATCH);
        free -= share;
        begun.push(poll::begin(inner, queue, share, request.lease, wait));
    }
    (begun, wait)
}

/// What the first of these polls brings that brings something, and whatever else is there by
/// then.
async fn first_of(
    watches: &mut Vec<Watch>,
    wait: Duration,
    signal: impl Future<Output = ()> + Send,
) -> Result<Vec<Received>> {
    let enough = Instant::now() + wait + SOON;
    let mut signal = pin!(signal);
    let (mut received, mut failure) = (Vec::new(), None);
    while received.is_empty() && !watches.is_empty() {
        let answers = watches.iter_mut().map(|watch| Box::pin(watch.answer()));
        let (answer, at) = tokio::select! {
            (answer, at, _) = select_all(answers) => (answer, at),
            () = &mut signal => break,
            () = tokio::time::sleep_until(enough) => break,
        };
        watches.swap_remove(at);
        let mut answers = vec![answer];
        watches.retain_mut(|watch| match watch.answer().now_or_never() {
            Some(answer) => {
                answers.push(answer);
                false
            }
            None => true,
        });
        for answer in answers {
            match answer {
                Ok(more) => received.extend(more),
                Err(error) => failure = Some(error),
            }
        }
    }
    match failure {
        Some(error) if received.is_empty() => Err(error),
        Some(error) => {
            warn!(%error, "a queue could not be polled");
            Ok(received)
        }
        None => Ok(received),
    }
}
