//! A terminal record never changes, other than by an operator's redrive.

use super::{
    Case,
    trial::{END_LEASE, Trial, TrialEnd, job},
};
use crate::{
    NewJob, Record, Status,
    backend::{Cancellation, ClaimKey, Purge, Redrive},
};

pub(super) const CASES: &[Case] = &[
    Case::new("terminal: no verb changes a success", &[2, 4], |t| Box::pin(unchanged(t, TrialEnd::Success))),
    Case::new("terminal: none but redrive changes a failure", &[2, 4], |t| {
        Box::pin(unchanged(t, TrialEnd::Failed))
    }),
    Case::new("terminal: none but redrive changes a dead letter", &[2, 4], |t| {
        Box::pin(unchanged(t, TrialEnd::Dead))
    }),
    Case::new("terminal: none but redrive changes a cancelled job", &[2, 4], |t| {
        Box::pin(unchanged(t, TrialEnd::Cancelled))
    }),
    Case::new("terminal: a job cancelled while it waited stays so", &[2, 4], |t| {
        Box::pin(waiting_cancelled(t))
    }),
];

async fn unchanged(t: &Trial<'_>, end: TrialEnd) {
    let key = "the key";
    let id = t.end(job(1).idempotency_key(key), end).await;
    let before = t.record(&id).await;
    assert_eq!(before.status, end.status());
    try_everything(t, &before, key).await;

    if end == TrialEnd::Success {
        assert_eq!(t.redrive(&[&id]).await, [], "nothing leads out of SUCCESS");
        assert_eq!(t.record(&id).await, before);
    }
}

async fn waiting_cancelled(t: &Trial<'_>) {
    let key = "the key";
    let id = t.submit(job(1).idempotency_key(key).delay(t.ticks(3))).await;
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    let before = t.record(&id).await;
    assert_eq!(before.status, Status::Cancelled);
    try_everything(t, &before, key).await;
}

/// Everything that could touch the job; nothing may.
async fn try_everything(t: &Trial<'_>, before: &Record, idempotency_key: &str) {
    let id = &before.id;
    for attempt in 0..=before.attempt + 1 {
        t.assert_lost(&ClaimKey { id: id.clone(), attempt }).await;
    }
    let answers = t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::TooLate(before.status)]);
    let body = before.body.clone().expect("the whole record");
    let again = NewJob::from_json(body).idempotency_key(idempotency_key);
    let again = t.backend.submit(vec![again]).await.expect("submit").remove(0).expect("accepted");
    assert!(again.duplicate && again.id == *id, "{again:?}");
    if !before.dead {
        assert_eq!(t.backend.redrive(Redrive::dead(10)).await.expect("redrive"), []);
    }
    for status in Status::ALL.into_iter().filter(|s| *s != before.status && *s != Status::InProgress) {
        assert_eq!(t.purge(status).await, 0);
    }
    let query = Purge::status(before.status, t.ticks(1000));
    assert_eq!(t.backend.purge(query).await.expect("purge"), 0);

    t.assert_idle().await;
    // Until after the lease that the last claim had.
    t.pass(END_LEASE).await;
    t.assert_idle().await;
    assert_eq!(t.record(id).await, *before);
}
