//! Jobs that are lost with their worker, one of which may have been the cause.

use super::{
    Case,
    trial::{LONG, Trial, job, jobs, retry, success},
};
use crate::{
    Backend, FailureKind, JobId, Status,
    backend::{ClaimRequest, Claimed, HeartbeatStatus, Outcome},
};

/// How long the leases are that run out here, in ticks, and when they may be given notice.
const LEASE: u32 = 12;
const NOTICE: u32 = 7;

fn unsupported(backend: &dyn Backend) -> Option<&'static str> {
    (!backend.capabilities().suspects).then_some("jobs that were lost together come back together")
}

pub(super) const CASES: &[Case] = &[
    Case::new("suspects: what was lost together comes back one at a time to a worker", &[6], |t| {
        Box::pin(one_at_a_time(t))
    })
    .needs(unsupported),
    Case::new("suspects: a job that was never lost does not wait for those that were", &[6], |t| {
        Box::pin(others_go_on(t))
    })
    .needs(unsupported),
    Case::new(
        "suspects: the second loss counts for the suspect, and for none of its neighbours",
        &[6],
        |t| Box::pin(blamed(t)),
    )
    .needs(unsupported),
    Case::new("suspects: a neighbour that is lost later is spared as well", &[6], |t| {
        Box::pin(spared_later(t))
    })
    .needs(unsupported),
    Case::new("suspects: a neighbour that is alive after all has its attempt counted", &[6], |t| {
        Box::pin(alive_after_all(t))
    })
    .needs(unsupported),
    Case::new(
        "suspects: a job that is lost beside a suspect that lives has its attempt counted",
        &[6],
        |t| Box::pin(lost_beside_a_living_one(t)),
    )
    .needs(unsupported),
    Case::new("suspects: one that ran for as long as before lets others in", &[6], |t| Box::pin(outlived(t)))
        .needs(unsupported),
    Case::new(
        "suspects: an attempt that ends lifts the suspicion, and one that is given back does not",
        &[6],
        |t| Box::pin(lifted(t)),
    )
    .needs(unsupported),
    Case::new("suspects: a waiting claim hears of the next one", &[6], |t| Box::pin(heard_of(t)))
        .needs(unsupported),
];

fn by(t: &Trial<'_>, worker: &str, max: usize) -> ClaimRequest {
    ClaimRequest { worker: worker.into(), max, lease: t.ticks(LEASE), ..t.request() }
}

async fn claim(t: &Trial<'_>, worker: &str, max: usize) -> Vec<Claimed> {
    t.backend.claim(by(t, worker, max), Default::default()).await.expect("claim")
}

fn ids(claimed: &[Claimed]) -> Vec<&JobId> {
    claimed.iter().map(|claimed| &claimed.key.id).collect()
}

/// Claims so many jobs by one worker, and lets it die: its leases run out, while
/// somebody is there to see it.
async fn lose(t: &Trial<'_>, worker: &str, count: usize) {
    assert_eq!(claim(t, worker, count).await.len(), count);
    t.pass(NOTICE).await;
    assert_eq!(claim(t, "watcher", 1).await, [], "nothing is due yet");
    t.pass(LEASE - NOTICE).await;
}

async fn one_at_a_time(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(4)).await;
    lose(t, "first", 4).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut claimed = claim(t, "second", 4).await;
        assert_eq!(claimed.len(), 1, "one of those that were lost");
        assert_eq!(claim(t, "second", 3).await, [], "no other one beside it");
        let one = claimed.remove(0);
        assert_eq!((one.key.attempt, one.counted), (2, 2));
        assert!(one.watched.is_some());
        assert_eq!(t.finish(&one.key, success(1)).await, Status::Success);
        seen.push(one.key.id);
    }
    // Each worker has one.
    seen.push(claim(t, "third", 4).await.remove(0).key.id);
    assert_eq!(seen, submitted);
}

async fn others_go_on(t: &Trial<'_>) {
    let lost = t.submit_all(jobs(3)).await;
    lose(t, "first", 3).await;
    let new = t.submit_all(jobs(3)).await;
    let claimed = claim(t, "second", 3).await;
    assert_eq!(ids(&claimed), [&lost[0], &new[0], &new[1]]);
    assert!(claimed[0].watched.is_some() && claimed[1].watched.is_none());
    let claimed = claim(t, "second", 3).await;
    assert_eq!(ids(&claimed), [&new[2]]);
    let claimed = claim(t, "third", 3).await;
    assert_eq!(ids(&claimed), [&lost[1]]);
}

async fn blamed(t: &Trial<'_>) {
    let poison = t.submit(job(0).max_attempts(2)).await;
    lose(t, "first", 1).await;
    let neighbours = t.submit_all(jobs(2).into_iter().map(|job| job.max_attempts(1)).collect()).await;
    lose(t, "second", 3).await;

    let claimed = claim(t, "third", 9).await;
    assert_eq!(ids(&claimed), [&neighbours[0]], "they are watched in their turn");
    assert_eq!((claimed[0].key.attempt, claimed[0].counted), (2, 1));
    let record = t.record(&neighbours[1]).await;
    assert_eq!((record.status, record.attempt, record.uncounted), (Status::Submitted, 1, 1));
    let error = record.error.expect("why it waits again");
    assert_eq!(error.kind, FailureKind::WorkerLost);
    assert!(error.message.contains("a job that had been lost before was lost with it"), "{error}");

    let record = t.record(&poison).await;
    assert_eq!((record.status, record.attempt, record.uncounted, record.dead), (Status::Error, 2, 0, true));
    assert_eq!(record.error.map(|error| error.kind), Some(FailureKind::WorkerLost));
}

/// A watched job is lost, and then taken by another worker; so is a neighbour,
/// whose lease has not run out yet, and which has one attempt.
async fn lost_before_its_neighbour(t: &Trial<'_>) -> (Claimed, Claimed) {
    t.submit(job(0)).await;
    lose(t, "first", 1).await;
    let suspect = claim(t, "second", 1).await.remove(0);
    t.pass(2).await;
    t.submit(job(1).max_attempts(1)).await;
    let neighbour = claim(t, "second", 1).await.remove(0);
    t.pass(NOTICE - 2).await;
    assert_eq!(claim(t, "watcher", 1).await, []);
    t.pass(LEASE - NOTICE).await;
    let retaken = claim(t, "third", 2).await.remove(0);
    assert_eq!(retaken.key.id, suspect.key.id);
    (retaken, neighbour)
}

async fn spared_later(t: &Trial<'_>) {
    let (_, neighbour) = lost_before_its_neighbour(t).await;
    t.pass(LEASE - NOTICE).await;
    let again = claim(t, "fourth", 2).await;
    assert_eq!(ids(&again), [&neighbour.key.id]);
    assert_eq!((again[0].key.attempt, again[0].counted), (2, 1));
}

async fn alive_after_all(t: &Trial<'_>) {
    let (suspect, neighbour) = lost_before_its_neighbour(t).await;
    assert!(matches!(t.beat(&neighbour.key).await, HeartbeatStatus::Held(_)));
    assert_eq!(t.finish(&suspect.key, success(1)).await, Status::Success);
    // It is lost much later, alone.
    for _ in 0..2 {
        t.pass(LONG).await;
        assert_eq!(claim(t, "watcher", 1).await, []);
    }
    assert_eq!(t.status(&neighbour.key.id).await, Status::Error);
}

/// Of two workers of one name, perhaps, of which one has died.
async fn lost_beside_a_living_one(t: &Trial<'_>) {
    t.submit(job(0)).await;
    lose(t, "first", 1).await;
    let suspect = claim(t, "second", 1).await.remove(0);
    let lost = t.submit(job(1).max_attempts(1)).await;
    assert_eq!(ids(&claim(t, "second", 1).await), [&lost]);
    for time in [NOTICE, LEASE - NOTICE] {
        t.pass(time).await;
        assert!(matches!(t.beat(&suspect.key).await, HeartbeatStatus::Held(_)));
        assert_eq!(claim(t, "watcher", 1).await, []);
    }
    assert_eq!(t.status(&lost).await, Status::Error);
}

async fn outlived(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(2)).await;
    lose(t, "first", 2).await;
    let request = by(t, "second", 2).lease(t.ticks(10 * LEASE));
    let claimed = t.backend.claim(request, Default::default()).await.expect("claim");
    assert_eq!(ids(&claimed), [&submitted[0]]);
    // Of its lease, a third and no more passed until the heartbeat that did not come.
    assert_eq!(
        claimed[0].watched.map(|time| time.as_secs_f64().round()),
        Some(t.ticks(4).as_secs_f64().round())
    );
    t.pass(3).await;
    assert_eq!(claim(t, "second", 2).await, []);
    t.pass(1).await;
    assert_eq!(ids(&claim(t, "second", 2).await), [&submitted[1]]);
}

async fn lifted(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(3)).await;
    lose(t, "first", 3).await;
    let one = claim(t, "second", 1).await.remove(0);
    t.pass(1).await;
    assert_eq!(t.finish(&one.key, retry("again")).await, Status::Submitted);
    let two = claim(t, "second", 1).await.remove(0);
    assert_eq!(t.finish(&two.key, Outcome::release()).await, Status::Submitted);
    let claimed = claim(t, "second", 9).await;
    assert_eq!(ids(&claimed), [&submitted[1], &submitted[0]], "the first is like any other now");
    // An operator who puts a dead job back to work has mended it.
    let dead = submitted[2].clone();
    let three = claim(t, "third", 1).await.remove(0);
    assert_eq!(t.finish(&three.key, Outcome::Fail(crate::JobError::cancelled())).await, Status::Error);
    assert_eq!(t.redrive(&[&dead]).await, std::slice::from_ref(&dead));
    assert_eq!(ids(&claim(t, "second", 9).await), [&dead]);
}

async fn heard_of(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(3)).await;
    lose(t, "first", 3).await;
    let one = claim(t, "tester", 1).await.remove(0);
    let mut waiter = t.wait_for_job(90).await;
    assert_eq!(t.finish(&one.key, success(1)).await, Status::Success);
    assert_eq!(ids(&t.answer(&mut waiter).await), [&submitted[1]], "when the one before has ended");
    let mut waiter = t.wait_for_job(90).await;
    assert_eq!(
        ids(&t.answer_within(&mut waiter, 5).await),
        [&submitted[2]],
        "when it has run for long enough"
    );
}
