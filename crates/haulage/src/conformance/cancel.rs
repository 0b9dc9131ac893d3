//! `cancel`: of what waits, of what runs, and of what is over.

use std::time::Duration;

use super::{
    Case,
    trial::{Trial, TrialEnd, error, job, retry, success},
};
use crate::{
    Backend, FailureKind, JobId, NewJob, Status,
    backend::{Cancellation, HeartbeatStatus, Outcome},
};

pub(super) const CASES: &[Case] = &[
    Case::new("cancel: a waiting job, at once", &[4], |t| Box::pin(waiting(t))),
    Case::new("cancel: a delayed job, and one that waits for its retry", &[4, 7], |t| Box::pin(delayed(t))),
    Case::new("cancel: a running job is asked to stop", &[4, 5], |t| Box::pin(running(t))),
    Case::new("cancel: answers in order, and what is over stays so", &[2], |t| Box::pin(in_order(t))),
    Case::new("cancel: signals for a running job", &[5], |t| Box::pin(signals(t)))
        .needs(|b| b.signals().cancels.is_none().then_some("no signal for cancels")),
    Case::new("cancel: of a waiting job is an outcome, and signals", &[1], |t| Box::pin(outcome_signals(t)))
        .needs(no_outcomes),
];

fn no_outcomes(backend: &dyn Backend) -> Option<&'static str> {
    backend.signals().outcomes.is_none().then_some("no signal for outcomes")
}

async fn cancel(t: &Trial<'_>, id: &JobId) -> Cancellation {
    t.backend.cancel(vec![id.clone()]).await.expect("cancel").remove(0)
}

async fn waiting(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let before = t.now();
    assert_eq!(cancel(t, &id).await, Cancellation::Done);
    let record = t.record(&id).await;
    assert_eq!((record.status, record.attempt, record.dead), (Status::Cancelled, 0, false));
    assert_eq!(record.error.map(|e| e.kind), Some(FailureKind::Cancelled));
    t.assert_near(record.finished_at, before, Duration::ZERO);
    assert_eq!(record.expires_at, record.finished_at.map(|f| f.after(NewJob::DEFAULT_RESULT_TTL)));
    assert_eq!(record.due_at, None);
    t.assert_idle().await;
}

async fn delayed(t: &Trial<'_>) {
    let delayed = t.submit(job(1).delay(t.ticks(3))).await;
    let claimed = t.start(job(2)).await;
    t.finish(&claimed.key, Outcome::Retry { error: error("later"), delay: t.ticks(3) }).await;
    assert_eq!(cancel(t, &delayed).await, Cancellation::Done);
    assert_eq!(cancel(t, &claimed.key.id).await, Cancellation::Done);
    t.pass(4).await;
    t.assert_idle().await;
    assert_eq!(t.stats().await.cancelled, 2);
}

async fn running(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    for _ in 0..2 {
        assert_eq!(cancel(t, &claimed.key.id).await, Cancellation::Requested);
        let record = t.record(&claimed.key.id).await;
        assert_eq!((record.status, record.cancel_requested), (Status::InProgress, true));
        assert_eq!(record.due_at, Some(claimed.lease_until), "the claim is still held");
    }
    assert!(matches!(t.beat(&claimed.key).await, HeartbeatStatus::CancelRequested(_)));
    t.assert_idle().await;
    assert_eq!(t.finish(&claimed.key, Outcome::Cancelled).await, Status::Cancelled);
    assert_eq!(cancel(t, &claimed.key.id).await, Cancellation::TooLate(Status::Cancelled));
}

async fn in_order(t: &Trial<'_>) {
    let success = t.end(job(1), TrialEnd::Success).await;
    let dead = t.end(job(2), TrialEnd::Dead).await;
    let running = t.start(job(3)).await.key.id;
    let waiting = t.submit(job(4)).await;
    let asked = vec![
        waiting.clone(),
        "no-such-job".into(),
        success.clone(),
        running.clone(),
        dead.clone(),
        waiting.clone(),
    ];
    let answers = t.backend.cancel(asked).await.expect("cancel");
    let expected = [
        Cancellation::Done,
        Cancellation::Missing,
        Cancellation::TooLate(Status::Success),
        Cancellation::Requested,
        Cancellation::TooLate(Status::Error),
        Cancellation::TooLate(Status::Cancelled),
    ];
    assert_eq!(answers, expected);
    assert!(t.backend.cancel(Vec::new()).await.expect("cancel").is_empty());
    for (id, status) in [
        (waiting, Status::Cancelled),
        (success, Status::Success),
        (running, Status::InProgress),
        (dead, Status::Error),
    ] {
        assert_eq!(t.status(&id).await, status);
    }
}

async fn signals(t: &Trial<'_>) {
    let mut cancels = t.backend.signals().cancels.expect("the signal");
    let claimed = t.start(job(1)).await;
    cancels.borrow_and_update();
    cancel(t, &claimed.key.id).await;
    let notified = t.soon(cancels.changed()).await;
    assert!(notified.is_ok(), "no signal");
}

async fn outcome_signals(t: &Trial<'_>) {
    let mut outcomes = t.backend.signals().outcomes.expect("the signal");
    let claimed = t.start(job(1)).await;
    t.finish(&claimed.key, retry("again")).await;
    outcomes.borrow_and_update();
    cancel(t, &claimed.key.id).await;
    let notified = t.soon(outcomes.changed()).await;
    assert!(notified.is_ok(), "no signal");
    assert!(t.settle(&claimed.key, success(1)).await.is_err());
}
