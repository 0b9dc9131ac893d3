//! `claim`: who gets what, and what a lease is.

use std::{collections::HashSet, time::Duration};

use super::{
    Case,
    trial::{LONG, Trial, job, jobs, retry, success},
};
use crate::{
    Error, FailureKind, NewJob, Status,
    backend::{Cancellation, ClaimRequest, Claimed, Heartbeat, HeartbeatStatus, ListQuery, Outcome, Update},
    record::Progress,
};

pub(super) const CASES: &[Case] = &[
    Case::new("claim: the oldest first, and at most as many as asked for", &[1], |t| Box::pin(oldest(t))),
    Case::new("claim: by due time, then by the order of submits", &[7], |t| Box::pin(due_order(t))),
    Case::new("claim: what it tells, and what it records", &[4], |t| Box::pin(recorded(t))),
    Case::new("claim: not while a lease is live", &[5], |t| Box::pin(live_lease(t))),
    Case::new("claim: again once its holder was silent for too long", &[1, 5, 6], |t| Box::pin(lapsed(t))),
    Case::new("claim: made again under its id, it brings what it brought", &[1, 3, 5], |t| {
        Box::pin(made_again(t))
    })
    .needs(|b| (!b.capabilities().claims_again).then_some("a claim that is made again is another one")),
    Case::new("claim: no attempt number comes twice", &[3, 6], |t| Box::pin(attempts_grow(t))),
    Case::new("claim: a crash counts, and after the last one the job is dead", &[6], |t| {
        Box::pin(crashes(t))
    }),
    Case::new("claim: an abandoned job is not seen in progress for ever", &[6], |t| {
        Box::pin(never_in_progress(t))
    }),
    Case::new("claim: a lost job that was to be cancelled is cancelled", &[6], |t| {
        Box::pin(lost_cancelled(t))
    }),
    Case::new("claim: a lost job is cancelled at once", &[6], |t| Box::pin(lost_then_cancelled(t))),
    Case::new("claim: signals for a job that died with its worker", &[6], |t| Box::pin(death_signals(t)))
        .needs(|b| b.signals().outcomes.is_none().then_some("no signal for outcomes")),
    Case::new("claim: looks that only read leave a silent holder its job", &[5], |t| {
        Box::pin(looks_take_nothing(t))
    }),
    Case::new("claim: starts with no progress", &[4], |t| Box::pin(no_progress(t))),
    Case::new("claim: refuses what makes no sense", &[5], |t| Box::pin(invalid(t))),
];

async fn oldest(t: &Trial<'_>) {
    let ids = t.submit_all(jobs(6)).await;
    let mut claimed = Vec::new();
    for max in [2, 1, 9] {
        let batch = t.claim(max).await;
        assert!(batch.len() <= max);
        claimed.extend(batch.into_iter().map(|c| c.key.id));
    }
    assert_eq!(claimed, ids);
}

async fn due_order(t: &Trial<'_>) {
    let late = t.submit(job(0).delay(t.ticks(6))).await;
    let early = t.submit(job(1).delay(t.ticks(2))).await;
    let first = t.submit(job(2)).await;
    t.pass(8).await;
    let last = t.submit(job(3)).await;
    let claimed: Vec<_> = t.claim(9).await.into_iter().map(|c| c.key.id).collect();
    assert_eq!(claimed, [first, early, late, last]);
}

async fn recorded(t: &Trial<'_>) {
    let id = t.submit(job(41)).await;
    let request = ClaimRequest { worker: "gpu-7".into(), lease: t.ticks(30), ..t.request() };
    let before = t.now();
    let claimed = t.take_as(request).await;
    assert_eq!((&claimed.key.id, claimed.key.attempt, claimed.counted), (&id, 1, 1));
    assert_eq!(claimed.body.as_str(), "41");
    t.assert_near(Some(claimed.lease_until), before, t.ticks(30));

    let record = t.record(&id).await;
    assert_eq!((record.status, record.attempt, record.uncounted), (Status::InProgress, 1, 0));
    assert_eq!(record.worker.as_deref(), Some("gpu-7"));
    assert_eq!(record.due_at, Some(claimed.lease_until));
    t.assert_near(record.started_at, before, Duration::ZERO);
    assert_eq!((record.finished_at, record.expires_at, record.error), (None, None, None));
    assert_eq!(record.submitted_at, claimed.submitted_at);
}

async fn live_lease(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let claimed = t.take_for(10).await;
    for _ in 0..3 {
        t.assert_idle().await;
        t.pass(2).await;
    }
    assert!(matches!(t.beat(&claimed.key).await, HeartbeatStatus::Held(_)));
}

async fn lapsed(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let first = t.take_for(2).await;
    t.pass(4).await;
    let record = t.record(&id).await;
    assert_eq!((record.status, record.attempt), (Status::Submitted, 1));
    assert_eq!(record.due_at, Some(first.lease_until), "due since then");
    let error = record.error.expect("why it is submitted again");
    assert_eq!(error.kind, FailureKind::WorkerLost);
    assert!(error.message.contains("attempt 1 of 3 was lost: worker tester"), "{error}");

    let second = t.retake(2).await;
    assert_eq!((&second.key.id, second.key.attempt, second.counted), (&id, 2, 2));
    assert_eq!(t.finish(&second.key, Outcome::Success(second.body)).await, Status::Success);
}

async fn made_again(t: &Trial<'_>) {
    t.submit_all(jobs(4)).await;
    let claim =
        async |request: ClaimRequest| t.backend.claim(request, Default::default()).await.expect("claim");
    let keys = |claimed: &[Claimed]| claimed.iter().map(|job| job.key.clone()).collect::<Vec<_>>();
    let request = t.request().max(2).id("request-1");
    let first = claim(request.clone()).await;
    assert_eq!(first.len(), 2);
    t.pass(1).await;
    // However few are asked for now: they are in nobody's hands.
    let before = t.now();
    let again = claim(request.clone().max(1).again()).await;
    assert_eq!(keys(&again), keys(&first), "no attempt more");
    assert!(
        again
            .iter()
            .zip(&first)
            .all(|(again, first)| again.counted == first.counted && again.body == first.body)
    );
    t.assert_near(Some(again[0].lease_until), before, t.ticks(LONG));
    // What has ended is not brought again, and neither is what another has.
    t.finish(&first[0].key, success(1)).await;
    assert_eq!(keys(&claim(request.clone().again()).await), [first[1].key.clone()]);
    t.finish(&first[1].key, Outcome::release()).await;
    let other = claim(t.request().max(1).id("request-2")).await;
    assert_eq!(other[0].key.id, first[1].key.id);
    let next = claim(request.again()).await;
    assert_eq!(next.len(), 2, "there is nothing left of it, so it brings others");
    assert!(next.iter().all(|job| job.key.id != other[0].key.id));
}

async fn attempts_grow(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(3)).await;
    let mut seen = HashSet::new();
    for round in 0..4 {
        for way in 0..3 {
            let claimed = t.take_for(2).await;
            assert_eq!(claimed.key.id, id);
            assert!(seen.insert(claimed.key.attempt), "attempt {} came twice", claimed.key.attempt);
            assert_eq!(Some(claimed.key.attempt), seen.iter().max().copied(), "attempts grow");
            match way {
                0 => drop(t.finish(&claimed.key, retry("again")).await),
                1 => drop(t.finish(&claimed.key, Outcome::release()).await),
                _ => {}
            }
        }
        let last = t.retake(2).await;
        assert!(seen.insert(last.key.attempt), "attempt {} came twice", last.key.attempt);
        assert_eq!(last.counted, 3, "round {round}: of four claims, one was given back");
        assert_eq!(t.finish(&last.key, retry("out of attempts")).await, Status::Error);
        assert_eq!(t.redrive(&[&id]).await.len(), 1);
    }
}

async fn crashes(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(3)).await;
    let request = t.request().lease(t.ticks(2));
    let mut claimed = t.take_as(request.clone()).await;
    for attempt in 1..=3 {
        assert_eq!((claimed.key.attempt, claimed.counted, claimed.spec.max_attempts), (attempt, attempt, 3));
        if attempt < 3 {
            claimed = t.retake_as(2, request.clone()).await;
        }
    }
    t.abandon(2).await;
    t.assert_idle().await;
    let record = t.record(&id).await;
    assert_eq!((record.status, record.attempt, record.dead), (Status::Error, 3, true));
    assert!(record.finished_at.is_some() && record.expires_at.is_some() && record.due_at.is_none());
    let error = record.error.expect("what happened");
    assert_eq!(error.kind, FailureKind::WorkerLost);
    let message = "attempt 3 of 3 was lost: worker tester stopped heartbeating and its lease ran out; \
                   it crashed, was killed, or lost the database";
    assert_eq!(error.message, message);
}

async fn never_in_progress(t: &Trial<'_>) {
    let again = t.submit(job(1)).await;
    t.take_for(2).await;
    let dead = t.submit(job(2).max_attempts(1)).await;
    t.take_for(2).await;
    t.abandon(2).await;

    // Nobody claims: whoever looks must see it all the same.
    let stats = t.stats().await;
    assert_eq!((stats.in_progress, stats.visible, stats.error, stats.dead), (0, 1, 1, 1));
    assert_eq!((t.status(&again).await, t.status(&dead).await), (Status::Submitted, Status::Error));
    if t.backend.capabilities().list {
        let query = ListQuery::new().status(Status::InProgress);
        assert_eq!(t.backend.list(query).await.expect("list"), []);
    }
}

async fn lost_cancelled(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    t.take_for(2).await;
    let asked = t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    assert_eq!(asked, [Cancellation::Requested]);
    t.abandon(2).await;
    let record = t.record(&id).await;
    assert_eq!((record.status, record.dead), (Status::Cancelled, false));
    assert_eq!(record.error.map(|e| e.kind), Some(FailureKind::Cancelled));
    t.assert_idle().await;
}

async fn lost_then_cancelled(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    t.take_for(2).await;
    t.pass(2).await;
    // Nobody runs it any more, so nobody needs to be asked.
    let answers = t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::Done]);
    assert_eq!(t.status(&id).await, Status::Cancelled);
}

async fn death_signals(t: &Trial<'_>) {
    let mut outcomes = t.backend.signals().outcomes.expect("the signal");
    t.submit(job(1).max_attempts(1)).await;
    t.take_for(2).await;
    t.pass(2).await;
    t.assert_idle().await;
    t.pass(2).await;
    outcomes.borrow_and_update();
    t.assert_idle().await;
    outcomes.changed().await.expect("a signal");
}

async fn looks_take_nothing(t: &Trial<'_>) {
    let ids = t.submit_all(vec![job(1).max_attempts(1), job(2)]).await;
    let claimed = [t.take_for(4).await, t.take_for(4).await];
    for _ in 0..3 {
        t.pass(2).await;
        t.stats().await;
        for id in &ids {
            assert_eq!(t.status(id).await, Status::InProgress, "{id} was taken from its holder");
        }
    }
    for claimed in claimed {
        assert_eq!(t.finish(&claimed.key, success(1)).await, Status::Success);
    }
}

async fn no_progress(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let progress = Some(Progress { fraction: 0.5, message: None });
    let beat =
        Heartbeat::new(claimed.key.clone(), t.ticks(50)).update(Update::default().progress(progress.clone()));
    t.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    t.finish(&claimed.key, Outcome::release()).await;
    assert_eq!(t.record(&claimed.key.id).await.progress, progress);
    let again = t.take().await;
    assert_eq!(t.record(&again.key.id).await.progress, None);
}

async fn invalid(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let longest = t.backend.capabilities().max_lease;
    for bad in [
        t.request().max(0),
        ClaimRequest { lease: Duration::ZERO, ..t.request() },
        ClaimRequest { lease: longest + NewJob::MAX_DURATION, ..t.request() },
        ClaimRequest { worker: String::new(), ..t.request() },
        ClaimRequest { worker: "w".repeat(NewJob::MAX_LABEL_BYTES + 1), ..t.request() },
    ] {
        let answer = t.backend.claim(bad.clone(), Default::default()).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{bad:?}: {answer:?}");
    }
    t.take_as(ClaimRequest { lease: longest, ..t.request() }).await;
}
