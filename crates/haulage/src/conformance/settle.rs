//! `settle`: what each outcome leads to.

use std::time::Duration;

use super::{
    Case,
    groups::tracked,
    submit::{exceedable_limit, fillable_limit, filled},
    trial::{Trial, error, fail, job, jobs, json, retry, success},
};
use crate::{
    Backend, ERROR_TTL, Error, FailureKind, JobError, Json, NewJob, Status,
    backend::{ClaimKey, Claimed, Outcome, Settlement},
};

pub(super) const CASES: &[Case] = &[
    Case::new("settle: success", &[2, 4], |t| Box::pin(succeeds(t))),
    Case::new("settle: a success drops the body where that was asked for", &[2, 10], |t| {
        Box::pin(drops_body(t))
    }),
    Case::new("settle: failure for good", &[2, 4], |t| Box::pin(fails(t))),
    Case::new("settle: cancelled", &[2, 4], |t| Box::pin(cancelled(t))),
    Case::new("settle: a retry goes back, with its error", &[4, 6], |t| Box::pin(retries(t))),
    Case::new("settle: a retry waits", &[7], |t| Box::pin(retry_waits(t))),
    Case::new("settle: a retry without attempts is a dead letter", &[6], |t| Box::pin(exhausted(t))),
    Case::new("settle: a release does not count", &[6], |t| Box::pin(releases(t))),
    Case::new("settle: a release with a delay waits, and does not count", &[6, 7], |t| {
        Box::pin(release_waits(t))
    }),
    Case::new("settle: a release says why in the record", &[6], |t| Box::pin(release_reason(t))),
    Case::new("settle: once a cancel was requested", &[2, 4], |t| Box::pin(cancel_requested(t))),
    Case::new("settle: keeps the error of the attempt before", &[2], |t| Box::pin(keeps_error(t))),
    Case::new("settle: keeps long and odd errors", &[2], |t| Box::pin(odd_errors(t))),
    Case::new("settle: a result that is too large is an error", &[2, 10], |t| Box::pin(too_large(t)))
        .needs(exceedable_limit),
    Case::new("settle: takes the largest result that is allowed", &[10], |t| Box::pin(largest(t)))
        .needs(fillable_limit),
    Case::new("settle: answers in order, and of a claim settled twice once", &[3], |t| Box::pin(in_order(t))),
    Case::new("settle: of nothing is nothing", &[3], |t| Box::pin(nothing(t))),
    Case::new("settle: with a claim, which takes what the settle lets go", &[3, 8], |t| {
        Box::pin(with_a_claim(t))
    })
    .needs(tracked),
    Case::new("settle: signals for every end", &[1], |t| Box::pin(signals(t))).needs(no_signal),
];

fn no_signal(backend: &dyn Backend) -> Option<&'static str> {
    backend.signals().outcomes.is_none().then_some("no signal for outcomes")
}

async fn with_a_claim(t: &Trial<'_>) {
    let first = t.start(job(1).group("a")).await;
    let second = t.submit(job(2).group("a")).await;
    let both = async |key: &ClaimKey, outcome| {
        let settlement = Settlement::new(key.clone(), outcome);
        t.backend.settle_and_claim(vec![settlement], t.request()).await.expect("settle and claim")
    };
    let (settled, claimed) = both(&first.key, success(1)).await;
    assert_eq!(settled[0].as_ref().ok(), Some(&Status::Success));
    assert_eq!(claimed[0].key.id, second);
    // A settlement that is refused is no reason to claim nothing.
    let third = t.submit(job(3)).await;
    let (settled, claimed) = both(&first.key, retry("stale")).await;
    assert!(matches!(settled[0], Err(Error::LostClaim { .. })), "{settled:?}");
    assert_eq!(claimed[0].key.id, third);
    let (settled, claimed) = both(&claimed[0].key, success(3)).await;
    assert_eq!((settled.len(), claimed), (1, Vec::new()), "it does not wait");
    // An error says that nothing was settled.
    let last = t.start(job(4)).await.key;
    let settlement = Settlement::new(last.clone(), success(4));
    let refused = t.request().max(0);
    match t.backend.settle_and_claim(vec![settlement], refused).await {
        Ok((settled, claimed)) => {
            assert!(settled[0].is_ok() && claimed.is_empty(), "{settled:?}, {claimed:?}");
        }
        Err(_) => assert_eq!(t.finish(&last, success(4)).await, Status::Success),
    }
}

async fn succeeds(t: &Trial<'_>) {
    let claimed = t.start(job(1).result_ttl(t.ticks(50))).await;
    let before = t.record(&claimed.key.id).await;
    t.pass(1).await;
    let settled = t.now();
    assert_eq!(t.finish(&claimed.key, success(42)).await, Status::Success);

    let record = t.record(&claimed.key.id).await;
    assert_eq!(record.status, Status::Success);
    assert_eq!(record.result.as_ref().map(|r| r.as_str()), Some("42"));
    t.assert_near(record.finished_at, settled, Duration::ZERO);
    assert_eq!(record.expires_at, record.finished_at.map(|f| f.after(t.ticks(50))));
    assert_eq!((&record.error, record.dead, record.due_at), (&None, false, None));
    let kept =
        |r: &crate::Record| (r.attempt, r.submitted_at, r.started_at, r.worker.clone(), r.body.clone());
    assert_eq!(kept(&record), kept(&before));
    t.assert_idle().await;
}

async fn drops_body(t: &Trial<'_>) {
    let large = t.backend.capabilities().max_payload.min(100_000) - 2;
    for (key, body) in [("small", json("1")), ("large", json(&format!("\"{}\"", "x".repeat(large))))] {
        let id = t.submit(NewJob::from_json(body.clone()).drop_body().idempotency_key(key)).await;
        let claimed = t.take().await;
        t.finish(&claimed.key, retry("again")).await;
        let claimed = t.take().await;
        assert_eq!(claimed.body, body);
        t.finish(&claimed.key, success(1)).await;
        let record = t.record(&id).await;
        assert_eq!((record.body, record.result), (None, Some(json("1"))));
        let again = NewJob::from_json(body).idempotency_key(key);
        let again = t.backend.submit(vec![again]).await.expect("submit").remove(0).expect("accepted");
        assert_eq!((again.id, again.duplicate), (id, true), "its key counts as before");
    }
}

async fn fails(t: &Trial<'_>) {
    let claimed = t.start(job(1).drop_body().result_ttl(t.ticks(50))).await;
    assert_eq!(t.finish(&claimed.key, fail("bad input")).await, Status::Error);
    let record = t.record(&claimed.key.id).await;
    assert_eq!((record.status, record.dead), (Status::Error, false));
    assert_eq!((record.error, record.result), (Some(error("bad input")), None));
    assert_eq!(record.body.as_ref().map(Json::as_str), Some("1"), "there to be looked at");
    let kept = record.finished_at.map(|f| f.after(ERROR_TTL));
    assert_eq!(record.expires_at, kept, "longer than its result_ttl");
    t.assert_idle().await;
}

async fn cancelled(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    assert_eq!(t.finish(&claimed.key, Outcome::Cancelled).await, Status::Cancelled);
    let record = t.record(&claimed.key.id).await;
    assert_eq!((record.status, record.dead, record.result), (Status::Cancelled, false, None));
    assert_eq!(record.error, Some(JobError::cancelled()));
    assert_eq!(record.expires_at, record.finished_at.map(|f| f.after(NewJob::DEFAULT_RESULT_TTL)));
    t.assert_idle().await;
}

async fn retries(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let settled = t.now();
    assert_eq!(t.finish(&claimed.key, retry("try again")).await, Status::Submitted);
    let record = t.record(&claimed.key.id).await;
    assert_eq!((record.status, record.attempt, record.uncounted), (Status::Submitted, 1, 0));
    assert_eq!(record.error, Some(error("try again")));
    assert_eq!((record.finished_at, record.expires_at, record.result), (None, None, None));
    t.assert_near(record.due_at, settled, Duration::ZERO);
    assert_eq!(record.worker.as_deref(), Some("tester"), "who held it last");
    let again = t.take().await;
    assert_eq!((again.key.id, again.key.attempt, again.counted), (claimed.key.id, 2, 2));
}

async fn retry_waits(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let outcome = Outcome::Retry { error: error("later"), delay: t.ticks(4) };
    let settled = t.now();
    t.finish(&claimed.key, outcome).await;
    let due = t.record(&claimed.key.id).await.due_at;
    t.assert_near(due, settled, t.ticks(4));
    assert_eq!(t.take_after(4, due.expect("near")).await.key.attempt, 2);
}

async fn exhausted(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(2).result_ttl(t.ticks(1))).await;
    let first = t.take().await;
    assert_eq!(t.finish(&first.key, retry("first")).await, Status::Submitted);
    let second = t.take().await;
    assert_eq!(t.finish(&second.key, retry("second")).await, Status::Error);
    let record = t.record(&id).await;
    assert_eq!((record.status, record.attempt, record.dead), (Status::Error, 2, true));
    assert_eq!((record.error, record.due_at), (Some(error("second")), None));
    let kept = record.finished_at.map(|f| f.after(ERROR_TTL));
    assert_eq!(record.expires_at, kept, "longer than its result_ttl");
    t.pass(2).await;
    t.assert_idle().await;
    assert_eq!(t.status(&id).await, Status::Error);
}

async fn releases(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(1)).await;
    for n in 1..=3 {
        let claimed = t.take().await;
        assert_eq!((claimed.key.attempt, claimed.counted), (n, 1));
        assert_eq!(t.finish(&claimed.key, Outcome::release()).await, Status::Submitted);
        let record = t.record(&id).await;
        assert_eq!((record.attempt, record.uncounted, record.error), (n, n, None));
        assert!(record.due_at.is_some_and(|due| due <= t.now()), "claimable at once: {:?}", record.due_at);
    }
    let last = t.take().await;
    assert_eq!(t.finish(&last.key, retry("really tried")).await, Status::Error);
    assert!(t.record(&id).await.dead);
}

async fn release_waits(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(1)).await;
    let first = t.take().await;
    let outcome =
        Outcome::Release { after: t.ticks(4), reason: Some("no licence is free".into()), begun: true };
    let settled = t.now();
    assert_eq!(t.finish(&first.key, outcome).await, Status::Submitted);
    let record = t.record(&id).await;
    assert_eq!((record.attempt, record.uncounted, record.dead), (1, 1, false));
    t.assert_near(record.due_at, settled, t.ticks(4));
    let second = t.take_after(4, record.due_at.expect("near")).await;
    assert_eq!((second.key.attempt, second.counted), (2, 1));
    // Given back without a delay, it does not wait again for the one before.
    t.finish(&second.key, Outcome::release()).await;
    let record = t.record(&id).await;
    assert_eq!(record.uncounted, 2);
    assert!(record.due_at.is_some_and(|due| due <= t.now()), "claimable at once: {:?}", record.due_at);
    let last = t.take().await;
    assert_eq!(t.finish(&last.key, retry("really tried")).await, Status::Error);
    assert!(t.record(&id).await.dead);
}

async fn release_reason(t: &Trial<'_>) {
    let first = t.start(job(1)).await;
    t.finish(&first.key, retry("really tried")).await;
    let second = t.take().await;
    t.finish(&second.key, Outcome::release()).await;
    assert_eq!(t.record(&first.key.id).await.error, Some(error("really tried")), "nothing new to say");
    let third = t.take().await;
    let reason = "🚲".repeat(JobError::MAX_BYTES);
    let outcome = Outcome::Release { after: Duration::ZERO, reason: Some(reason.clone()), begun: true };
    assert_eq!(t.finish(&third.key, outcome).await, Status::Submitted);
    let record = t.record(&first.key.id).await;
    assert_eq!(record.error, Some(JobError::released(reason)));
    assert!(record.due_at.is_some_and(|due| due <= t.now()), "claimable at once: {:?}", record.due_at);
    assert_eq!((record.attempt, record.uncounted, record.status), (3, 2, Status::Submitted));
}

async fn cancel_requested(t: &Trial<'_>) {
    for (outcome, status) in [
        (success(1), Status::Success),
        (fail("no use"), Status::Error),
        (Outcome::Cancelled, Status::Cancelled),
        (retry("again"), Status::Cancelled),
        (Outcome::release(), Status::Cancelled),
        (
            Outcome::Release { after: t.ticks(5), reason: Some("later".into()), begun: true },
            Status::Cancelled,
        ),
    ] {
        let claimed = t.start(job(1)).await;
        t.backend.cancel(vec![claimed.key.id.clone()]).await.expect("cancel");
        assert_eq!(t.finish(&claimed.key, outcome.clone()).await, status, "{outcome:?}");
        let record = t.record(&claimed.key.id).await;
        assert_eq!((record.status, record.dead), (status, false), "{outcome:?}");
        if status == Status::Cancelled {
            assert_eq!(record.error, Some(JobError::cancelled()), "{outcome:?}");
        }
        t.assert_idle().await;
    }
}

async fn keeps_error(t: &Trial<'_>) {
    let first = t.start(job(1)).await;
    t.finish(&first.key, retry("the first time")).await;
    let second = t.take().await;
    assert_eq!(t.finish(&second.key, success(1)).await, Status::Success);
    let record = t.record(&first.key.id).await;
    assert_eq!(record.error, Some(error("the first time")));
    assert!(record.result.is_some());
}

async fn odd_errors(t: &Trial<'_>) {
    let long = "🚲".repeat(JobError::MAX_BYTES);
    for (kind, message) in FailureKind::ALL.into_iter().zip([
        "",
        "\"'\\\n\t",
        "ünï",
        "%s {}",
        "\u{7f}",
        &long,
        "x",
        "no\rreturn",
    ]) {
        let claimed = t.start(job(1)).await;
        let error = JobError::new(kind, message);
        t.finish(&claimed.key, Outcome::Fail(error.clone())).await;
        assert_eq!(t.record(&claimed.key.id).await.error, Some(error));
    }
}

async fn too_large(t: &Trial<'_>) {
    let limit = t.backend.capabilities().max_payload;
    let claimed = t.start(job(1)).await;
    assert_eq!(t.finish(&claimed.key, Outcome::Success(filled(limit + 1))).await, Status::Error);
    let record = t.record(&claimed.key.id).await;
    assert_eq!((record.status, record.dead, record.result), (Status::Error, false, None));
    let error = record.error.expect("why");
    assert_eq!(error.kind, FailureKind::InvalidResult);
    assert!(error.message.contains(&limit.to_string()), "names the limit: {error}");
}

async fn largest(t: &Trial<'_>) {
    let result = filled(t.backend.capabilities().max_payload);
    let claimed = t.start(job(1)).await;
    assert_eq!(t.finish(&claimed.key, Outcome::Success(result.clone())).await, Status::Success);
    let stored = t.record(&claimed.key.id).await.result;
    assert!(stored.as_ref() == Some(&result), "came back with {:?} bytes", stored.map(|r| r.size()));
}

async fn in_order(t: &Trial<'_>) {
    t.submit_all(jobs(3)).await;
    let claimed = [t.take().await, t.take().await, t.take().await];
    let settlement = |of: &Claimed, outcome| Settlement::new(of.key.clone(), outcome);
    let unknown = ClaimKey { id: "no-such-job".into(), attempt: 1 };
    let answers = t
        .backend
        .settle(vec![
            settlement(&claimed[2], fail("no use")),
            Settlement::new(unknown, success(1)),
            settlement(&claimed[0], success(1)),
            settlement(&claimed[2], success(2)),
            settlement(&claimed[1], retry("again")),
        ])
        .await
        .expect("settle");
    let ok = matches!(
        answers[..],
        [
            Ok(Status::Error),
            Err(Error::LostClaim { .. }),
            Ok(Status::Success),
            Err(Error::LostClaim { .. }),
            Ok(Status::Submitted)
        ]
    );
    assert!(ok, "{answers:?}");
    assert_eq!(t.status(&claimed[2].key.id).await, Status::Error);
}

async fn nothing(t: &Trial<'_>) {
    assert!(t.backend.settle(Vec::new()).await.expect("settle").is_empty());
}

async fn signals(t: &Trial<'_>) {
    let mut outcomes = t.backend.signals().outcomes.expect("the signal");
    for outcome in [success(1), fail("no use"), Outcome::Cancelled, retry("the last")] {
        let claimed = t.start(job(1).max_attempts(1)).await;
        outcomes.borrow_and_update();
        let shown = format!("{outcome:?}");
        t.finish(&claimed.key, outcome).await;
        let notified = t.soon(outcomes.changed()).await;
        assert!(notified.is_ok(), "no signal for {shown}");
    }
}
