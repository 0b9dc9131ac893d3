//! `submit`: what is accepted, and what is refused.

use std::{collections::HashSet, time::Duration};

use super::{
    Case,
    trial::{Trial, job, jobs, json},
};
use crate::{
    Backend, Error, NewJob, Status,
    backend::{Groups, Stats},
};

pub(super) const CASES: &[Case] = &[
    Case::new("submit: answers in order, with ids that are unique", &[1], |t| Box::pin(order(t))),
    Case::new("submit: of nothing is nothing", &[1], |t| Box::pin(nothing(t))),
    Case::new("submit: the record is there at once", &[1, 4], |t| Box::pin(record(t))),
    Case::new("submit: options are kept, and shown to the handler", &[1], |t| Box::pin(options(t))),
    Case::new("submit: without options, the defaults", &[1], |t| Box::pin(defaults(t))),
    Case::new("submit: a delay holds the job back", &[1], |t| Box::pin(delay(t))),
    Case::new("submit: one invalid job, and none is stored", &[1], |t| Box::pin(invalid(t))),
    Case::new("submit: one body that is too large, and none is stored", &[10], |t| Box::pin(too_large(t)))
        .needs(exceedable_limit),
    Case::new("submit: takes the largest body that is allowed", &[10], |t| Box::pin(largest(t)))
        .needs(fillable_limit),
    Case::new("submit: more jobs than a call takes are refused", &[1], |t| Box::pin(too_many(t)))
        .needs(submit_limit),
    Case::new("submit: every job can be claimed, once", &[1, 5], |t| Box::pin(every_job(t))),
];

/// Making a payload that is refused costs memory only; storing one takes time.
pub(super) fn exceedable_limit(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().max_payload > 512 << 20).then_some("no payload limit up to 512 MiB")
}

pub(super) fn fillable_limit(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().max_payload > 64 << 20).then_some("no payload limit up to 64 MiB")
}

fn submit_limit(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().max_submit > 100_000).then_some("no submit limit up to 100,000 jobs")
}

async fn order(t: &Trial<'_>) {
    let ids = t.submit_all(jobs(10)).await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 10, "{ids:?}");
    for (n, id) in ids.iter().enumerate() {
        let body = t.record(id).await.body.expect("the body");
        assert_eq!(body.as_str(), n.to_string());
    }
}

async fn nothing(t: &Trial<'_>) {
    assert!(t.backend.submit(Vec::new()).await.expect("submit").is_empty());
    assert_eq!(t.stats().await.unfinished(), 0);
}

async fn record(t: &Trial<'_>) {
    let before = t.now();
    let id = t.submit(job(1)).await;
    let record = t.record(&id).await;
    assert_eq!((record.id, record.status), (id, Status::Submitted));
    assert_eq!((record.attempt, record.uncounted), (0, 0));
    t.assert_near(Some(record.submitted_at), before, Duration::ZERO);
    assert_eq!(record.due_at, Some(record.submitted_at));
    assert_eq!((record.started_at, record.finished_at, record.expires_at), (None, None, None));
    assert_eq!((record.worker, record.progress, record.error, record.result), (None, None, None, None));
    assert!(!record.cancel_requested && !record.dead);
}

async fn options(t: &Trial<'_>) {
    let mut job = NewJob::from_json(json(r#"{"prompt":"a red bicycle"}"#))
        .task("embed \"ä\"")
        .request_id("r-1 \"ü\"")
        .max_attempts(5)
        .metadata("tenant", "acme")
        .metadata("ключ", "値\n🚲")
        .metadata("longest", "x".repeat(NewJob::MAX_METADATA_BYTES))
        .timeout(Duration::from_millis(1500))
        .result_ttl(Duration::from_micros(3_600_000_001));
    if t.backend.capabilities().groups >= Groups::Ordered {
        job = job.group("g '1'");
    }

    let id = t.submit(job.clone()).await;
    let record = t.record(&id).await;
    assert_eq!(record.body.as_ref(), Some(&job.body));
    assert_eq!(record.spec, job.spec);

    let claimed = t.take().await;
    assert_eq!(claimed.body, job.body);
    assert_eq!(*claimed.spec, job.spec);
    assert_eq!(claimed.submitted_at, record.submitted_at);
}

async fn defaults(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let record = t.record(&claimed.key.id).await;
    let id = claimed.key.id.to_string();
    assert_eq!((record.request_id(), claimed.request_id()), (id.as_str(), id.as_str()));
    assert_eq!(record.spec, *claimed.spec);
    assert_eq!(record.spec, job(1).request_id(id).spec);
}

async fn delay(t: &Trial<'_>) {
    let id = t.submit(job(1).delay(t.ticks(4))).await;
    let record = t.record(&id).await;
    let due = record.submitted_at.after(t.ticks(4));
    assert_eq!(record.due_at, Some(due));
    assert_eq!(t.take_after(4, due).await.key.id, id);
}

async fn invalid(t: &Trial<'_>) {
    let long = "x".repeat(NewJob::MAX_LABEL_BYTES + 1);
    for bad in [
        job(1).max_attempts(0),
        job(1).delay(NewJob::MAX_DURATION * 2),
        job(1).timeout(Duration::ZERO),
        job(1).result_ttl(NewJob::MAX_DURATION * 2),
        job(1).group(""),
        job(1).task(""),
        job(1).task(long.clone()),
        job(1).idempotency_key(long.clone()),
        job(1).request_id(long.clone()),
        job(1).metadata(long.clone(), "v"),
        job(1).metadata("k", "x".repeat(NewJob::MAX_METADATA_BYTES + 1)),
    ] {
        let shown = format!("{:.80}", format!("{bad:?}"));
        let answer = t.backend.submit(vec![job(0), bad, job(2)]).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{shown}: {answer:?}");
    }
    assert_nothing_stored(t).await;
}

async fn too_large(t: &Trial<'_>) {
    let limit = t.backend.capabilities().max_payload;
    let large = NewJob::from_json(filled(limit + 1));
    match t.backend.submit(vec![job(0), large]).await {
        Err(Error::TooLarge { what, size, limit: told, .. }) => {
            assert_eq!((what, size, told), ("body", limit + 1, limit));
        }
        other => panic!("should be too large, and was answered with {:.200}", format!("{other:?}")),
    }
    assert_nothing_stored(t).await;
}

async fn largest(t: &Trial<'_>) {
    let body = filled(t.backend.capabilities().max_payload);
    let claimed = t.start(NewJob::from_json(body.clone())).await;
    assert!(claimed.body == body, "the body came back with {} bytes", claimed.body.size());
}

async fn too_many(t: &Trial<'_>) {
    let limit = t.backend.capabilities().max_submit;
    let answer = t.backend.submit(vec![job(0); limit + 1]).await;
    assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    assert_nothing_stored(t).await;
    assert_eq!(t.submit_all(vec![job(0); limit]).await.len(), limit);
}

async fn every_job(t: &Trial<'_>) {
    let (calls, size) = (8, t.backend.capabilities().max_submit.min(10) as u64);
    let mut submitted = HashSet::new();
    for _ in 0..calls {
        submitted.extend(t.submit_all(jobs(size)).await);
    }
    let mut claimed = HashSet::new();
    while claimed.len() < submitted.len() {
        let key = t.take().await.key;
        assert_eq!(key.attempt, 1);
        assert!(claimed.insert(key.id.clone()), "{key:?} was claimed twice");
    }
    assert_eq!(claimed, submitted);
    t.assert_idle().await;
}

/// A document of exactly so many bytes.
pub(super) fn filled(bytes: usize) -> crate::Json {
    crate::Json::from_stored(format!("\"{}\"", "x".repeat(bytes - 2)))
}

async fn assert_nothing_stored(t: &Trial<'_>) {
    let stats = t.stats().await;
    assert_eq!(Stats { stored_bytes: None, ..stats }, Stats::default());
    t.assert_idle().await;
}
