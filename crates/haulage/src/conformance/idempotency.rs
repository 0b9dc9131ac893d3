//! Idempotency keys: a second submit finds the first job.

use std::time::Duration;

use super::{
    Case,
    trial::{End, Trial, job, jobs},
};
use crate::{
    JobId, NewJob, Status,
    backend::{Lookup, Submitted},
};

pub(super) const CASES: &[Case] = &[
    Case::new("idempotency: the same key finds the first job, and creates nothing", &[9], |t| {
        Box::pin(second_submit(t))
    }),
    Case::new("idempotency: also within one submit", &[9], |t| Box::pin(within_one(t))),
    Case::new("idempotency: other keys, and none, are other jobs", &[9], |t| Box::pin(other_keys(t))),
    Case::new("idempotency: whatever has become of the job", &[9], |t| Box::pin(whatever_became(t))),
    Case::new("idempotency: also where the record has expired or was purged", &[9, 11], |t| {
        Box::pin(record_gone(t))
    }),
    Case::new("idempotency: a refused submit leaves no key", &[9], |t| Box::pin(refused(t))),
    Case::new("idempotency: the window is 24 hours from the first submit", &[9], |t| Box::pin(window(t)))
        .lasts(NewJob::IDEMPOTENCY_WINDOW),
];

async fn submit(t: &Trial<'_>, job: NewJob) -> Submitted {
    t.backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted")
}

fn keyed(body: u64) -> NewJob {
    job(body).idempotency_key("order-4711 'ü\"")
}

fn found(id: &JobId) -> Submitted {
    Submitted { id: id.clone(), duplicate: true }
}

async fn second_submit(t: &Trial<'_>) {
    let id = t.submit(keyed(1).request_id("first")).await;
    assert_eq!(submit(t, keyed(1)).await, found(&id));
    t.pass(1).await;
    assert_eq!(submit(t, keyed(2).request_id("second").delay(t.ticks(9))).await, found(&id));
    assert_eq!(t.stats().await.unfinished(), 1);
    let record = t.record(&id).await;
    assert_eq!(record.body.as_ref().map(|b| b.as_str()), Some("1"));
    assert_eq!(record.request_id, "first");
    assert_eq!(t.take().await.key.id, id);
    t.assert_idle().await;
}

async fn within_one(t: &Trial<'_>) {
    let batch = vec![job(0), keyed(1), job(2), keyed(3), keyed(4)];
    let answers = t.backend.submit(batch).await.expect("submit");
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("accepted")).collect();
    assert_eq!(answers.iter().map(|a| a.duplicate).collect::<Vec<_>>(), [false, false, false, true, true]);
    assert!(answers[3].id == answers[1].id && answers[4].id == answers[1].id, "{answers:?}");
    assert_eq!(t.stats().await.unfinished(), 3);
    assert_eq!(t.record(&answers[1].id).await.body.expect("body").as_str(), "1");
}

async fn other_keys(t: &Trial<'_>) {
    let keys = ["a", "A", "a ", "aa", "ä", "1", "%"];
    t.submit_all(keys.map(|key| job(1).idempotency_key(key)).to_vec()).await;
    t.submit_all(jobs(3)).await;
    assert_eq!(t.stats().await.unfinished(), 10);
}

async fn whatever_became(t: &Trial<'_>) {
    for end in End::ALL {
        let key = format!("{end:?}");
        let id = t.end(job(1).idempotency_key(&key), end).await;
        assert_eq!(submit(t, job(2).idempotency_key(&key)).await, found(&id));
        assert_eq!(t.status(&id).await, end.status());
    }
    let running = t.start(job(1).idempotency_key("running")).await;
    assert_eq!(submit(t, job(2).idempotency_key("running")).await, found(&running.key.id));
    t.assert_idle().await;
}

async fn record_gone(t: &Trial<'_>) {
    let expired = t.end(job(1).idempotency_key("expired").result_ttl(t.ticks(2)), End::Success).await;
    t.pass(2).await;
    assert_eq!(t.lookup(&expired).await, Lookup::Expired);
    assert_eq!(submit(t, job(2).idempotency_key("expired")).await, found(&expired));

    let purged = t.submit(job(1).idempotency_key("purged")).await;
    assert_eq!(t.purge(Status::Submitted).await, 1);
    assert_eq!(submit(t, job(2).idempotency_key("purged")).await, found(&purged));
    assert_eq!(t.lookup(&purged).await, Lookup::Missing);
    t.assert_idle().await;
}

async fn refused(t: &Trial<'_>) {
    let batch = vec![keyed(1), job(2).max_attempts(0)];
    assert!(t.backend.submit(batch).await.is_err());
    let bad = keyed(1).max_attempts(0);
    assert!(t.backend.submit(vec![bad.clone()]).await.is_err());
    t.submit(keyed(1)).await;
    assert!(t.backend.submit(vec![bad]).await.is_err(), "invalid, even where its key is known");
}

async fn window(t: &Trial<'_>) {
    let window = NewJob::IDEMPOTENCY_WINDOW;
    let first = t.submit(keyed(1)).await;
    t.pass_time(window / 2).await;
    assert_eq!(submit(t, keyed(2)).await, found(&first), "which does not extend the window");
    t.pass_time(window / 2 - Duration::from_secs(1)).await;
    assert_eq!(submit(t, keyed(3)).await, found(&first));
    t.pass_time(Duration::from_secs(1)).await;
    let second = t.submit(keyed(4)).await;
    assert_ne!(second, first);
    t.pass_time(window / 2).await;
    assert_eq!(submit(t, keyed(5)).await, found(&second), "it has a window of its own");
}
