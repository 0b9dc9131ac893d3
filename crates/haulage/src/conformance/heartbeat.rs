//! `heartbeat`: what it extends, and what it tells.

use std::time::Duration;

use super::{
    Case,
    trial::{Trial, job, jobs, retry, success},
};
use crate::{
    Error, NewJob, Status,
    backend::{ClaimKey, Claimed, Heartbeat, HeartbeatStatus, Update},
    record::Progress,
};

pub(super) const CASES: &[Case] = &[
    Case::new("heartbeat: extends the lease", &[5], |t| Box::pin(extends(t))),
    Case::new("heartbeat: the lease counts from now", &[5], |t| Box::pin(from_now(t))),
    Case::new("heartbeat: stores progress, and keeps it", &[4], |t| Box::pin(progress(t))),
    Case::new("heartbeat: tells that the job is to be cancelled", &[5], |t| Box::pin(tells_cancel(t))),
    Case::new("heartbeat: revives a lease that ran out, as long as nobody has taken the job", &[5], |t| {
        Box::pin(revives(t))
    }),
    Case::new("heartbeat: comes too late once somebody has", &[3, 5], |t| Box::pin(too_late(t))),
    Case::new("heartbeat: tells every lost claim, each in its place", &[3, 5], |t| Box::pin(in_order(t))),
    Case::new("heartbeat: of a lost claim leaves its successor alone", &[3, 5], |t| Box::pin(successor(t))),
    Case::new("heartbeat: one bad lease, and none is extended", &[5], |t| Box::pin(invalid(t))),
    Case::new("heartbeat: of nothing is nothing", &[5], |t| Box::pin(nothing(t))),
];

fn beat(t: &Trial<'_>, claimed: &Claimed, ticks: u32) -> Heartbeat {
    Heartbeat::new(claimed.key.clone(), t.ticks(ticks))
}

async fn send(t: &Trial<'_>, beats: Vec<Heartbeat>) -> Vec<HeartbeatStatus> {
    t.backend.heartbeat(beats).await.expect("heartbeat")
}

async fn extends(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let claimed = t.take_for(6).await;
    for _ in 0..4 {
        t.pass(4).await;
        let before = t.now();
        let statuses = send(t, vec![beat(t, &claimed, 6)]).await;
        let HeartbeatStatus::Held(until) = statuses[0] else { panic!("{statuses:?}") };
        t.assert_near(Some(until), before, t.ticks(6));
        assert_eq!(t.record(&id).await.due_at, Some(until));
        t.assert_idle().await;
    }
    assert_eq!(t.finish(&claimed.key, success(1)).await, Status::Success);
}

async fn from_now(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let before = t.now();
    let statuses = send(t, vec![beat(t, &claimed, 2)]).await;
    let HeartbeatStatus::Held(until) = statuses[0] else { panic!("{statuses:?}") };
    t.assert_near(Some(until), before, t.ticks(2));
    assert_eq!(t.retake(2).await.key.attempt, 2, "it can be shorter than the one before");
    t.assert_lost(&claimed.key).await;
}

async fn progress(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let id = &claimed.key.id;
    for (fraction, message) in [(0.0, None), (0.25, Some("loading the ünïcode 🚲")), (1.0, Some(""))] {
        let progress = Some(Progress { fraction, message: message.map(Into::into) });
        send(t, vec![beat(t, &claimed, 50).update(Update::default().progress(progress.clone()))]).await;
        assert_eq!(t.record(id).await.progress, progress);
        send(t, vec![beat(t, &claimed, 50)]).await;
        assert_eq!(t.record(id).await.progress, progress, "no news is no news");
    }
    let last = t.record(id).await.progress;
    t.finish(&claimed.key, success(1)).await;
    assert_eq!(t.record(id).await.progress, last);
}

async fn tells_cancel(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    t.backend.cancel(vec![claimed.key.id.clone()]).await.expect("cancel");
    for _ in 0..2 {
        let before = t.now();
        let statuses = send(t, vec![beat(t, &claimed, 30)]).await;
        let HeartbeatStatus::CancelRequested(until) = statuses[0] else { panic!("{statuses:?}") };
        t.assert_near(Some(until), before, t.ticks(30));
    }
}

async fn revives(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(1)).await;
    let claimed = t.take_for(2).await;
    // Longer than a lease, and than two.
    for silence in [3, 9] {
        t.pass(silence).await;
        let before = t.now();
        let statuses = send(t, vec![beat(t, &claimed, 2)]).await;
        let HeartbeatStatus::Held(until) = statuses[0] else { panic!("after {silence} ticks: {statuses:?}") };
        t.assert_near(Some(until), before, t.ticks(2));
        let record = t.record(&id).await;
        assert_eq!((record.status, record.attempt, record.error), (Status::InProgress, 1, None));
    }
    send(t, vec![beat(t, &claimed, 50)]).await;
    t.assert_idle().await;
    assert_eq!(t.finish(&claimed.key, success(1)).await, Status::Success);
}

async fn too_late(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let claimed = t.take_for(2).await;
    assert_eq!(t.retake(2).await.key.attempt, 2);
    assert_eq!(send(t, vec![beat(t, &claimed, 50)]).await, [HeartbeatStatus::Lost]);
    t.assert_lost(&claimed.key).await;
}

async fn in_order(t: &Trial<'_>) {
    t.submit_all(jobs(4)).await;
    let [held, released, done, cancelled] = [t.take().await, t.take().await, t.take().await, t.take().await];
    t.finish(&released.key, retry("again")).await;
    t.finish(&done.key, success(1)).await;
    t.backend.cancel(vec![cancelled.key.id.clone()]).await.expect("cancel");
    let mut future = beat(t, &held, 50);
    future.key.attempt += 1;
    let mut unknown = beat(t, &held, 50);
    unknown.key = ClaimKey { id: "no-such-job".into(), attempt: 1 };

    let beats = [&done, &held, &released, &cancelled].map(|claimed| beat(t, claimed, 50));
    let statuses = send(t, [beats.to_vec(), vec![future, unknown]].concat()).await;
    let ok = matches!(
        statuses[..],
        [
            HeartbeatStatus::Lost,
            HeartbeatStatus::Held(_),
            HeartbeatStatus::Lost,
            HeartbeatStatus::CancelRequested(_),
            HeartbeatStatus::Lost,
            HeartbeatStatus::Lost
        ]
    );
    assert!(ok, "{statuses:?}");
}

async fn successor(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let old = t.take_for(2).await;
    let new = t.retake(2).await;
    let before = t.record(&new.key.id).await;
    let progress = Some(Progress { fraction: 0.9, message: Some("stale".into()) });
    assert_eq!(
        send(t, vec![beat(t, &old, 50).update(Update::default().progress(progress))]).await,
        [HeartbeatStatus::Lost]
    );
    assert_eq!(t.record(&new.key.id).await, before);
}

async fn invalid(t: &Trial<'_>) {
    t.submit_all(jobs(2)).await;
    let (one, two) = (t.take().await, t.take().await);
    let longest = t.backend.capabilities().max_lease;
    for lease in [Duration::ZERO, longest + NewJob::MAX_DURATION] {
        let beats = vec![beat(t, &one, 2), Heartbeat { lease, ..beat(t, &two, 2) }];
        let answer = t.backend.heartbeat(beats).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{lease:?}: {answer:?}");
    }
    assert_eq!(t.record(&one.key.id).await.due_at, Some(one.lease_until));
    // A message that is too long is cut by whoever writes it, and refused where nobody has.
    let long = || Progress { fraction: 0.5, message: Some("é".repeat(Progress::MAX_MESSAGE_BYTES)) };
    send(t, vec![beat(t, &one, 2).update(Update::default().progress(long()))]).await;
    let message = t.record(&one.key.id).await.progress.and_then(|progress| progress.message);
    assert_eq!(message.map(|message| message.len()), Some(Progress::MAX_MESSAGE_BYTES));
    let around = Update { progress: Some(long()), ..Update::default() };
    let answer = t.backend.heartbeat(vec![beat(t, &two, 2).update(around)]).await;
    assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
}

async fn nothing(t: &Trial<'_>) {
    assert!(send(t, Vec::new()).await.is_empty());
}
