//! `claim` with a wait: what wakes it, and what ends it.

use tokio_util::sync::CancellationToken;

use super::{
    Case,
    groups::{ordered, tracked},
    trial::{Trial, TrialEnd, error, job, retry, success},
};
use crate::{
    Status,
    backend::{Cancellation, Heartbeat, Outcome},
};

pub(super) const CASES: &[Case] = &[
    Case::new("waiting: a submit wakes it", &[1], |t| Box::pin(submit(t))),
    Case::new("waiting: a delay that passes wakes it", &[7], |t| Box::pin(delay(t))),
    Case::new("waiting: so does one that is shorter than others", &[7], |t| Box::pin(shorter_delay(t))),
    Case::new("waiting: a retry wakes it", &[7], |t| Box::pin(retried(t))),
    Case::new("waiting: a retry whose delay passes wakes it", &[7], |t| Box::pin(retry_delay(t))),
    Case::new("waiting: a lease that runs out wakes it", &[6], |t| Box::pin(lapse(t))),
    Case::new("waiting: so does one that ends sooner than it was to", &[6], |t| Box::pin(earlier_lapse(t))),
    Case::new("waiting: a release wakes it", &[1], |t| Box::pin(release(t))),
    Case::new("waiting: a redrive wakes it", &[1], |t| Box::pin(redrive(t))),
    Case::new("waiting: the end of an earlier job of the group wakes it", &[8], |t| Box::pin(group_end(t)))
        .needs(ordered),
    Case::new("waiting: the loss of the last attempt of one wakes it", &[8], |t| Box::pin(group_death(t)))
        .needs(ordered),
    Case::new("waiting: a cancel of one wakes it", &[8], |t| Box::pin(group_cancel(t))).needs(tracked),
    Case::new("waiting: ends empty when its time is over", &[5], |t| Box::pin(time_out(t))),
    Case::new("waiting: does not outlast its time for a job that is due later", &[5], |t| {
        Box::pin(too_late(t))
    }),
    Case::new("waiting: stop ends it", &[5], |t| Box::pin(stop(t))),
    Case::new("waiting: after stop, nothing is claimed", &[5], |t| Box::pin(stopped_before(t))),
    Case::new("waiting: of two, one gets the job and one waits on", &[5], |t| Box::pin(two(t))),
];

async fn submit(t: &Trial<'_>) {
    let mut waiter = t.wait_for_job(50).await;
    let id = t.submit(job(1)).await;
    assert_eq!(t.answer(&mut waiter).await[0].key.id, id);
}

async fn delay(t: &Trial<'_>) {
    let id = t.submit(job(1).delay(t.ticks(3))).await;
    let mut waiter = t.wait_for_job(50).await;
    assert_eq!(t.answer_within(&mut waiter, 20).await[0].key.id, id);
    let record = t.record(&id).await;
    assert!(record.started_at >= Some(record.submitted_at.after(t.ticks(3))), "too early");
}

async fn shorter_delay(t: &Trial<'_>) {
    t.submit(job(1).delay(t.ticks(40))).await;
    let mut waiter = t.wait_for_job(50).await;
    let id = t.submit(job(2).delay(t.ticks(3))).await;
    assert_eq!(t.answer_within(&mut waiter, 20).await[0].key.id, id);
}

async fn retried(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let mut waiter = t.wait_for_job(50).await;
    assert_eq!(t.finish(&claimed.key, retry("again")).await, Status::Submitted);
    assert_eq!(t.answer(&mut waiter).await[0].key.attempt, 2);
}

async fn retry_delay(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let mut waiter = t.wait_for_job(50).await;
    let due = t.now().after(t.ticks(3));
    t.finish(&claimed.key, Outcome::Retry { error: error("again"), delay: t.ticks(3) }).await;
    waiter.assert_waits().await;
    assert_eq!(t.answer_within(&mut waiter, 20).await[0].key.attempt, 2);
    assert!(t.record(&claimed.key.id).await.started_at >= Some(due), "too early");
}

async fn lapse(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let lost = t.take_for(3).await;
    let mut waiter = t.wait_for_job(50).await;
    let next = t.answer_within(&mut waiter, 20).await;
    assert_eq!((&next[0].key.id, next[0].key.attempt), (&lost.key.id, 2));
    assert!(t.record(&lost.key.id).await.started_at >= Some(lost.lease_until), "too early");
}

async fn earlier_lapse(t: &Trial<'_>) {
    let held = t.start(job(1)).await;
    // When this one begins to wait, it knows of a long lease only.
    let mut waiter = t.wait_for_job(50).await;
    let beat = Heartbeat::new(held.key.clone(), t.ticks(3));
    t.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    assert_eq!(t.answer_within(&mut waiter, 20).await[0].key.attempt, 2);
}

async fn release(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let mut waiter = t.wait_for_job(50).await;
    t.finish(&claimed.key, Outcome::release()).await;
    assert_eq!(t.answer(&mut waiter).await[0].key.id, claimed.key.id);
}

async fn redrive(t: &Trial<'_>) {
    let id = t.end(job(1), TrialEnd::Dead).await;
    let mut waiter = t.wait_for_job(50).await;
    assert_eq!(t.redrive(&[&id]).await, std::slice::from_ref(&id));
    assert_eq!(t.answer(&mut waiter).await[0].key.id, id);
}

async fn group_end(t: &Trial<'_>) {
    let head = t.start(job(1).group("g")).await;
    let next = t.submit(job(2).group("g")).await;
    let mut waiter = t.wait_for_job(50).await;
    t.finish(&head.key, success(1)).await;
    assert_eq!(t.answer(&mut waiter).await[0].key.id, next);
}

async fn group_death(t: &Trial<'_>) {
    t.submit(job(1).group("g").max_attempts(1)).await;
    t.take_for(3).await;
    let next = t.submit(job(2).group("g")).await;
    let mut waiter = t.wait_for_job(50).await;
    assert_eq!(t.answer_within(&mut waiter, 20).await[0].key.id, next);
}

async fn group_cancel(t: &Trial<'_>) {
    let head = t.submit(job(1).group("g").delay(t.ticks(40))).await;
    let next = t.submit(job(2).group("g")).await;
    let mut waiter = t.wait_for_job(50).await;
    let answers = t.backend.cancel(vec![head]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::Done]);
    assert_eq!(t.answer(&mut waiter).await[0].key.id, next);
}

async fn time_out(t: &Trial<'_>) {
    let begin = t.now();
    let mut waiter = t.wait_for_job(4).await;
    assert!(t.answer_within(&mut waiter, 40).await.is_empty());
    assert!(t.now() >= begin.after(t.ticks(4)), "too early");
}

async fn too_late(t: &Trial<'_>) {
    t.submit(job(1).delay(t.ticks(60))).await;
    let mut waiter = t.wait_for_job(4).await;
    assert!(t.answer_within(&mut waiter, 40).await.is_empty());
}

async fn stop(t: &Trial<'_>) {
    let mut waiter = t.wait_for_job(50).await;
    waiter.stop.cancel();
    assert!(t.answer(&mut waiter).await.is_empty());
    // What comes later is for others.
    let id = t.submit(job(1)).await;
    assert_eq!(t.take().await.key.id, id);
}

async fn stopped_before(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let request = t.request().wait(t.ticks(50));
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(t.backend.claim(request, stop).await.expect("claim").is_empty());
    assert_eq!(t.take().await.key.attempt, 1);
    assert_eq!(t.status(&id).await, Status::InProgress);
}

async fn two(t: &Trial<'_>) {
    let (mut one, mut two) = (t.wait_for_job(50).await, t.wait_for_job(50).await);
    t.submit_all(vec![job(1)]).await;
    t.pass(1).await;
    let (first, mut other) = tokio::select! {
        answer = t.answer(&mut one) => (answer, two),
        answer = t.answer(&mut two) => (answer, one),
    };
    assert_eq!(first.len(), 1);
    other.assert_waits().await;
    let id = t.submit(job(2)).await;
    assert_eq!(t.answer(&mut other).await[0].key.id, id);
}
