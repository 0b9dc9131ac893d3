//! Groups: in order, one job at a time, others go on.

use std::time::Duration;

use super::{
    Case,
    trial::{Trial, TrialEnd, error, fail, job, jobs, retry, success},
};
use crate::{
    Backend, JobId, NewJob, Status,
    backend::{Cancellation, Groups, Outcome},
};

pub(super) const CASES: &[Case] = &[
    grouped("groups: in the order of submits, one at a time", |t| Box::pin(in_order(t))),
    grouped("groups: one does not hold up another, nor what has none", |t| Box::pin(side_by_side(t))),
    grouped("groups: one claim takes one job of each", |t| Box::pin(one_of_each(t))),
    grouped("groups: a retry that waits holds up its group", |t| Box::pin(retry_blocks(t))),
    grouped("groups: a job that is put off holds up its group", |t| Box::pin(release_blocks(t))),
    grouped("groups: a delayed job holds up its group", |t| Box::pin(delay_blocks(t))),
    seen_whole("groups: a delay counts from the submit, not from the turn", |t| Box::pin(delay_in_turn(t))),
    grouped("groups: a released or lost job comes before the next", |t| Box::pin(given_back(t))),
    grouped("groups: every end lets the next one go", |t| Box::pin(every_end(t))),
    grouped("groups: a job that died with its worker lets the next one go", |t| Box::pin(death(t))),
    grouped("groups: a job that is cancelled while it waits is passed over", |t| Box::pin(cancelled(t))),
    grouped("groups: a job that is purged while it waits is passed over", |t| Box::pin(purged(t))),
    seen_whole("groups: what is blocked has no due time", |t| Box::pin(no_due_time(t))),
    seen_whole("groups: a redriven job waits while another runs", |t| Box::pin(redrive_behind(t))),
    seen_whole("groups: a redriven job comes before those that wait", |t| Box::pin(redrive_before(t))),
    seen_whole("groups: a redriven job comes before one that is given back", |t| {
        Box::pin(redrive_overtakes(t))
    }),
    grouped("groups: a redriven job does not wait for its delay again", |t| Box::pin(redrive_delayed(t))),
    grouped("groups: redriven jobs are in order", |t| Box::pin(redrive_many(t))),
    grouped("groups: an empty group starts anew", |t| Box::pin(anew(t))),
];

const fn grouped(name: &'static str, run: super::Run) -> Case {
    Case::new(name, &[8], run).needs(ordered)
}

const fn seen_whole(name: &'static str, run: super::Run) -> Case {
    Case::new(name, &[8], run).needs(tracked)
}

/// For cases about order, one at a time.
pub(super) fn ordered(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().groups < Groups::Ordered).then_some("no groups")
}

/// For cases about what only a backend knows that sees a group as a whole.
pub(super) fn tracked(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().groups < Groups::Tracked).then_some("groups are kept in order, not tracked")
}

fn of(group: &str, body: u64) -> NewJob {
    job(body).group(group)
}

async fn submit_group(t: &Trial<'_>, count: u64) -> Vec<JobId> {
    t.submit_all((0..count).map(|n| of("g", n)).collect()).await
}

async fn in_order(t: &Trial<'_>) {
    let mut ids = submit_group(t, 3).await;
    ids.extend(submit_group(t, 3).await);
    for id in &ids {
        let claimed = t.take().await;
        assert_eq!(claimed.key.id, *id);
        t.assert_idle().await;
        t.finish(&claimed.key, success(1)).await;
    }
    t.assert_idle().await;
}

async fn side_by_side(t: &Trial<'_>) {
    let a = t.submit_all(vec![of("a", 0), of("a", 1)]).await;
    let b = t.submit_all(vec![of("b", 0), of("b", 1)]).await;
    let none = t.submit_all(jobs(2)).await;
    let claimed: Vec<_> = t.claim(10).await.into_iter().map(|c| c.key.id).collect();
    assert_eq!(claimed, [&a[0], &b[0], &none[0], &none[1]].map(Clone::clone));
    t.assert_idle().await;
}

async fn one_of_each(t: &Trial<'_>) {
    for n in 0..5 {
        t.submit_all(vec![of("a", n), of("b", n)]).await;
    }
    for _ in 0..5 {
        let claimed = t.claim(10).await;
        let groups: Vec<_> = claimed.iter().filter_map(|c| c.spec.group.as_deref()).collect();
        assert_eq!(groups, ["a", "b"]);
        for claimed in &claimed {
            t.finish(&claimed.key, success(1)).await;
        }
        t.pass(1).await;
    }
}

async fn retry_blocks(t: &Trial<'_>) {
    let ids = submit_group(t, 2).await;
    let head = t.take().await;
    t.finish(&head.key, Outcome::Retry { error: error("later"), delay: t.ticks(4) }).await;
    t.pass(2).await;
    t.assert_idle().await;
    t.pass(2).await;
    let again = t.take().await;
    assert_eq!((&again.key.id, again.key.attempt), (&ids[0], 2));
    t.assert_idle().await;
    t.finish(&again.key, success(1)).await;
    assert_eq!(t.take().await.key.id, ids[1]);
}

async fn release_blocks(t: &Trial<'_>) {
    let ids = submit_group(t, 2).await;
    let head = t.take().await;
    t.finish(&head.key, Outcome::Release { after: t.ticks(4), reason: Some("later".into()), begun: true })
        .await;
    t.pass(2).await;
    t.assert_idle().await;
    t.pass(2).await;
    let again = t.take().await;
    assert_eq!((&again.key.id, again.key.attempt, again.counted), (&ids[0], 2, 1));
    t.assert_idle().await;
    t.finish(&again.key, success(1)).await;
    assert_eq!(t.take().await.key.id, ids[1]);
}

async fn delay_blocks(t: &Trial<'_>) {
    let ids = t.submit_all(vec![of("g", 0).delay(t.ticks(3)), of("g", 1)]).await;
    t.assert_idle().await;
    t.pass(3).await;
    let head = t.take().await;
    assert_eq!(head.key.id, ids[0]);
    t.assert_idle().await;
    t.finish(&head.key, success(1)).await;
    assert_eq!(t.take().await.key.id, ids[1]);
}

async fn delay_in_turn(t: &Trial<'_>) {
    let ids =
        t.submit_all(vec![of("g", 0), of("g", 1).delay(t.ticks(4)), of("g", 2).delay(t.ticks(4))]).await;
    let head = t.take().await;
    t.finish(&head.key, success(1)).await;
    let record = t.record(&ids[1]).await;
    assert_eq!(record.due_at, Some(record.submitted_at.after(t.ticks(4))));
    t.assert_idle().await;
    t.pass(6).await;
    let second = t.take().await;
    let ended = t.now();
    t.finish(&second.key, success(1)).await;
    t.assert_near(t.record(&ids[2]).await.due_at, ended, Duration::ZERO);
    assert_eq!(t.take().await.key.id, ids[2]);
}

async fn given_back(t: &Trial<'_>) {
    let ids = submit_group(t, 2).await;
    let head = t.take_for(50).await;
    t.finish(&head.key, Outcome::release()).await;
    let head = t.take_for(2).await;
    assert_eq!(head.key.id, ids[0]);
    let head = t.retake(2).await;
    assert_eq!((&head.key.id, head.key.attempt), (&ids[0], 3));
    t.assert_idle().await;
}

async fn every_end(t: &Trial<'_>) {
    let outcomes = [success(1), fail("no use"), Outcome::Cancelled, retry("the last")];
    let ids = t.submit_all((0..5).map(|n| of("g", n).max_attempts(1)).collect()).await;
    for (outcome, id) in outcomes.into_iter().zip(&ids) {
        let claimed = t.take().await;
        assert_eq!(claimed.key.id, *id);
        assert!(t.finish(&claimed.key, outcome).await.is_terminal());
    }
    assert_eq!(t.take().await.key.id, ids[4]);
}

async fn death(t: &Trial<'_>) {
    let ids = t.submit_all(vec![of("g", 0).max_attempts(1), of("g", 1)]).await;
    t.take_for(2).await;
    // Nobody has looked since: the claim itself finds out.
    assert_eq!(t.retake(2).await.key.id, ids[1]);
    assert!(t.record(&ids[0]).await.dead);
}

async fn cancelled(t: &Trial<'_>) {
    let ids = submit_group(t, 4).await;
    let answers = t.backend.cancel(vec![ids[2].clone(), ids[0].clone()]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::Done; 2]);
    let second = t.take().await;
    assert_eq!(second.key.id, ids[1]);
    t.finish(&second.key, success(1)).await;
    assert_eq!(t.take().await.key.id, ids[3]);
}

async fn purged(t: &Trial<'_>) {
    let running = t.start(of("g", 0)).await;
    submit_group(t, 2).await;
    t.pass(3).await;
    let left = t.submit(of("g", 3)).await;
    let query = crate::backend::Purge::status(Status::Submitted, t.ticks(2));
    assert_eq!(t.backend.purge(query.clone()).await.expect("purge"), 2);
    t.assert_idle().await;
    t.finish(&running.key, success(1)).await;
    assert_eq!(t.take().await.key.id, left);

    // The head itself.
    let head = t.submit(of("h", 0)).await;
    t.pass(3).await;
    let next = t.submit(of("h", 1)).await;
    assert_eq!(t.backend.purge(query).await.expect("purge"), 1, "{head}");
    assert_eq!(t.take().await.key.id, next);
}

async fn no_due_time(t: &Trial<'_>) {
    let ids = submit_group(t, 3).await;
    assert!(t.record(&ids[0]).await.due_at.is_some());
    for id in &ids[1..] {
        assert_eq!(t.record(id).await.due_at, None);
    }
    let head = t.take().await;
    t.pass(1).await;
    let ended = t.now();
    t.finish(&head.key, success(1)).await;
    t.assert_near(t.record(&ids[1]).await.due_at, ended, Duration::ZERO);
    assert_eq!(t.record(&ids[2]).await.due_at, None);
}

async fn redrive_behind(t: &Trial<'_>) {
    let first = t.end(of("g", 0), TrialEnd::Dead).await;
    let second = t.start(of("g", 1)).await;
    let third = t.submit(of("g", 2)).await;
    t.redrive(&[&first]).await;
    assert_eq!(t.record(&first).await.due_at, None, "another runs");
    t.assert_idle().await;
    t.finish(&second.key, success(1)).await;
    let claimed = t.take().await;
    assert_eq!(claimed.key.id, first, "the oldest first");
    t.assert_idle().await;
    t.finish(&claimed.key, success(1)).await;
    assert_eq!(t.take().await.key.id, third);
}

async fn redrive_before(t: &Trial<'_>) {
    let first = t.end(of("g", 0), TrialEnd::Failed).await;
    let rest = submit_group(t, 2).await;
    t.redrive(&[&first]).await;
    assert_eq!(t.record(&rest[0]).await.due_at, None, "no longer the head");
    for id in [&first, &rest[0], &rest[1]] {
        let claimed = t.take().await;
        assert_eq!(claimed.key.id, *id);
        t.assert_idle().await;
        t.finish(&claimed.key, success(1)).await;
    }
}

async fn redrive_overtakes(t: &Trial<'_>) {
    let ways: [fn() -> Option<Outcome>; 3] = [|| Some(retry("again")), || Some(Outcome::release()), || None];
    for outcome in ways.map(|way| way()) {
        let first = t.end(of("g", 0), TrialEnd::Cancelled).await;
        t.submit(of("g", 1)).await;
        let second = t.take_for(2).await;
        t.redrive(&[&first]).await;
        let claimed = match outcome {
            Some(outcome) => {
                t.finish(&second.key, outcome).await;
                t.take().await
            }
            None => t.retake(2).await,
        };
        assert_eq!(claimed.key.id, first);
        assert_eq!(t.record(&second.key.id).await.due_at, None);
        t.assert_idle().await;
        t.finish(&claimed.key, success(1)).await;
        let again = t.take().await;
        assert_eq!((&again.key.id, again.key.attempt), (&second.key.id, 2));
        t.finish(&again.key, success(1)).await;
    }
}

async fn redrive_delayed(t: &Trial<'_>) {
    let delayed = t.submit(of("g", 0).delay(t.ticks(50))).await;
    t.backend.cancel(vec![delayed.clone()]).await.expect("cancel");
    let other = t.start(of("g", 1)).await;
    t.redrive(&[&delayed]).await;
    t.finish(&other.key, success(1)).await;
    assert_eq!(t.take().await.key.id, delayed);
}

async fn redrive_many(t: &Trial<'_>) {
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(t.end(of("g", n), TrialEnd::Dead).await);
    }
    t.redrive(&[&ids[2], &ids[0], &ids[1]]).await;
    for id in &ids {
        let claimed = t.take().await;
        assert_eq!(claimed.key.id, *id);
        t.assert_idle().await;
        t.finish(&claimed.key, success(1)).await;
    }
}

async fn anew(t: &Trial<'_>) {
    for _ in 0..3 {
        let claimed = t.start(of("g", 1)).await;
        t.assert_idle().await;
        t.finish(&claimed.key, success(1)).await;
    }
}
