//! The limit to start: work that nobody wants any more when it comes late.

use super::{
    Case,
    groups::ordered,
    trial::{Trial, error, job, retry, success},
};
use crate::{
    FailureKind, JobId, Status,
    backend::{Cancellation, Outcome},
};

pub(super) const CASES: &[Case] = &[
    Case::new("start_within: a job that nobody starts in time is over, and does not run", &[2, 4], |t| {
        Box::pin(nobody(t))
    }),
    Case::new("start_within: one that was started in time goes on", &[2, 7], |t| Box::pin(in_time(t))),
    Case::new("start_within: one that was given back has not been started", &[2, 6], |t| {
        Box::pin(given_back(t))
    }),
    Case::new("start_within: one that was interrupted has been started", &[2, 6], |t| {
        Box::pin(interrupted(t))
    }),
    Case::new("start_within: lets the group go on", &[8], |t| Box::pin(in_a_group(t))).needs(ordered),
    Case::new("start_within: a redrive is not bound by it", &[4], |t| Box::pin(redriven(t))),
    Case::new("start_within: can be longer than the delay only", &[1], |t| Box::pin(too_short(t))),
];

async fn assert_expired(t: &Trial<'_>, id: &JobId) {
    let record = t.record(id).await;
    assert_eq!((record.status, record.dead), (Status::Error, false));
    let error = record.error.clone().expect("an error");
    assert_eq!(error.kind, FailureKind::Expired, "{error}");
    assert_eq!((record.result, record.due_at), (None, None));
}

async fn nobody(t: &Trial<'_>) {
    let before = t.now();
    let id = t.submit(job(1).start_within(t.ticks(3))).await;
    let later = t.submit(job(2).start_within(t.ticks(50)).delay(t.ticks(20))).await;
    t.pass(2).await;
    assert_eq!(t.status(&id).await, Status::Submitted);
    t.pass(2).await;
    // Claims and looks agree, whoever comes first.
    t.assert_idle().await;
    assert_expired(t, &id).await;
    assert!(t.record(&id).await.finished_at >= Some(before.after(t.ticks(3))), "not before its time");
    let answers = t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::TooLate(Status::Error)]);
    let stats = t.stats().await;
    assert_eq!((stats.error, stats.dead, stats.unfinished()), (1, 0, 1));
    assert_eq!(t.status(&later).await, Status::Submitted);
}

async fn in_time(t: &Trial<'_>) {
    let claimed = t.start(job(1).start_within(t.ticks(3))).await;
    t.pass(4).await;
    assert_eq!(t.status(&claimed.key.id).await, Status::InProgress);
    assert_eq!(t.finish(&claimed.key, retry("again")).await, Status::Submitted);
    t.pass(4).await;
    let again = t.take().await;
    assert_eq!(again.key.id, claimed.key.id);
    assert_eq!(t.finish(&again.key, success(1)).await, Status::Success);

    // Nor is one that was lost with its worker started anew.
    let id = t.submit(job(2).start_within(t.ticks(3))).await;
    t.take_for(2).await;
    let again = t.retake(2).await;
    assert_eq!(again.key.id, id);
    assert_eq!(t.record(&id).await.error.map(|e| e.kind), Some(FailureKind::WorkerLost));
}

async fn given_back(t: &Trial<'_>) {
    let job = || job(1).start_within(t.ticks(4));
    let claimed = t.start(job()).await;
    assert_eq!(t.finish(&claimed.key, Outcome::release()).await, Status::Submitted);
    let claimed = t.take().await;
    t.pass(5).await;
    assert_eq!(t.finish(&claimed.key, Outcome::release()).await, Status::Error);
    assert_expired(t, &claimed.key.id).await;

    let claimed = t.start(job()).await;
    let later = Outcome::Release { after: t.ticks(30), reason: Some("not yet".to_owned()), begun: false };
    assert_eq!(t.finish(&claimed.key, later).await, Status::Submitted);
    t.pass(5).await;
    assert_expired(t, &claimed.key.id).await;
}

async fn interrupted(t: &Trial<'_>) {
    let claimed = t.start(job(1).start_within(t.ticks(4))).await;
    t.pass(5).await;
    assert_eq!(t.finish(&claimed.key, Outcome::interrupted()).await, Status::Submitted);
    t.pass(2).await;
    let again = t.take().await;
    assert_eq!((&again.key.id, again.counted), (&claimed.key.id, 1));
    assert_eq!(t.finish(&again.key, Outcome::interrupted()).await, Status::Submitted);
    let again = t.take().await;
    assert_eq!(t.finish(&again.key, success(1)).await, Status::Success);
}

async fn in_a_group(t: &Trial<'_>) {
    let first = t.start(job(1).group("g")).await;
    let late = t.submit(job(2).group("g").start_within(t.ticks(2))).await;
    let later = t.submit(job(4).group("g").start_within(t.ticks(2))).await;
    let next = t.submit(job(3).group("g")).await;
    t.pass(3).await;
    for late in [late, later] {
        assert_expired(t, &late).await;
    }
    let stats = t.stats().await;
    assert_eq!((stats.error, stats.visible + stats.blocked), (2, 1), "{stats:?}");
    assert_eq!(t.status(&next).await, Status::Submitted);
    t.assert_idle().await;
    t.finish(&first.key, success(1)).await;
    let next_claim = t.take().await;
    assert_eq!(next_claim.key.id, next);
    t.finish(&next_claim.key, success(1)).await;

    // Where nothing of the group runs, too.
    let head = t.submit(job(1).group("h").start_within(t.ticks(2))).await;
    let behind = t.submit(job(2).group("h").start_within(t.ticks(2))).await;
    let last = t.submit(job(3).group("h")).await;
    t.pass(3).await;
    let stats = t.stats().await;
    assert_eq!((stats.error, stats.visible, stats.blocked), (4, 1, 0), "{stats:?}");
    for late in [head, behind] {
        assert_expired(t, &late).await;
    }
    assert_eq!(t.take().await.key.id, last);
}

async fn redriven(t: &Trial<'_>) {
    let id = t.submit(job(1).start_within(t.ticks(2))).await;
    t.pass(3).await;
    assert_expired(t, &id).await;
    assert_eq!(t.redrive(&[&id]).await, std::slice::from_ref(&id));
    t.pass(3).await;
    let claimed = t.take().await;
    assert_eq!(claimed.key.id, id);
    t.finish(&claimed.key, Outcome::release()).await;
    assert_eq!(t.status(&id).await, Status::Submitted);
    let claimed = t.take().await;
    assert_eq!(t.finish(&claimed.key, Outcome::Fail(error("no"))).await, Status::Error);
    assert_eq!(t.record(&id).await.error, Some(error("no")));
}

async fn too_short(t: &Trial<'_>) {
    for job in [job(1).start_within(t.ticks(2)).delay(t.ticks(2)), job(2).start_within(t.ticks(0))] {
        let refused = t.backend.submit(vec![job]).await.expect_err("refused");
        assert!(refused.to_string().contains("start_within"), "{refused}");
    }
}
