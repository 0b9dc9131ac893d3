//! Idempotency keys: a second submit finds the first job.

use std::time::Duration;

use super::{
    Case,
    trial::{Trial, TrialEnd, job, jobs, json, retry, success},
};
use crate::{
    Error, JobId, NewJob, Result, Status,
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
    Case::new("idempotency: another body is told, and the others of its submit go on", &[9], |t| {
        Box::pin(conflict(t))
    }),
    Case::new("idempotency: white space is no other body", &[9], |t| Box::pin(white_space(t))),
    Case::new("idempotency: the window can be chosen, and ends once the job is over", &[9], |t| {
        Box::pin(own_window(t))
    }),
    Case::new("idempotency: a key holds as long as its job is not over", &[9], |t| Box::pin(as_its_job(t))),
    Case::new("idempotency: the window is 24 hours from the first submit", &[9], |t| Box::pin(window(t)))
        .lasts(NewJob::DEFAULT_IDEMPOTENCY_WINDOW),
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
    assert_eq!(submit(t, keyed(1).request_id("second").delay(t.ticks(9))).await, found(&id));
    assert_eq!(t.stats().await.unfinished(), 1);
    let record = t.record(&id).await;
    assert_eq!(record.body.as_ref().map(|b| b.as_str()), Some("1"));
    assert_eq!(record.request_id(), "first");
    assert_eq!(t.take().await.key.id, id);
    t.assert_idle().await;
}

async fn within_one(t: &Trial<'_>) {
    let batch = vec![job(0), keyed(1), job(2), keyed(1), keyed(1)];
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
    for end in TrialEnd::ALL {
        let key = format!("{end:?}");
        let id = t.end(job(1).idempotency_key(&key), end).await;
        assert_eq!(submit(t, job(1).idempotency_key(&key)).await, found(&id));
        assert_eq!(t.status(&id).await, end.status());
    }
    let running = t.start(job(1).idempotency_key("running")).await;
    assert_eq!(submit(t, job(1).idempotency_key("running")).await, found(&running.key.id));
    t.assert_idle().await;
}

async fn record_gone(t: &Trial<'_>) {
    let expired = t.end(job(1).idempotency_key("expired").result_ttl(t.ticks(2)), TrialEnd::Success).await;
    t.pass(2).await;
    assert_eq!(t.lookup(&expired).await, Lookup::Expired);
    assert_eq!(submit(t, job(1).idempotency_key("expired")).await, found(&expired));

    let purged = t.submit(job(1).idempotency_key("purged")).await;
    assert_eq!(t.purge(Status::Submitted).await, 1);
    assert_eq!(submit(t, job(1).idempotency_key("purged")).await, found(&purged));
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

fn assert_conflict(answer: Result<Submitted>, first: &JobId) {
    match answer {
        Err(Error::IdempotencyConflict { key, id }) => {
            assert_eq!((key.as_str(), &id), ("order-4711 'ü\"", first));
        }
        other => panic!("another body, and the answer was {other:?}"),
    }
}

async fn conflict(t: &Trial<'_>) {
    let id = t.submit(keyed(1)).await;
    let mut answers = t.backend.submit(vec![job(7), keyed(2), keyed(1), job(8)]).await.expect("submit");
    assert!(answers.remove(3).is_ok_and(|job| !job.duplicate));
    assert_eq!(answers.remove(2).expect("the same body"), found(&id));
    assert_conflict(answers.remove(1), &id);
    assert!(answers.remove(0).is_ok_and(|job| !job.duplicate));
    assert_eq!(t.stats().await.unfinished(), 3);

    // Within one submit, and once the job is over.
    let batch = vec![job(1).idempotency_key("k"), job(2).idempotency_key("k")];
    let mut answers = t.backend.submit(batch).await.expect("submit");
    assert!(matches!(answers.remove(1), Err(Error::IdempotencyConflict { .. })));
    let first = t.take().await;
    assert_eq!(first.key.id, id);
    t.finish(&first.key, success(1)).await;
    assert_conflict(t.backend.submit(vec![keyed(2)]).await.expect("submit").remove(0), &id);
}

async fn white_space(t: &Trial<'_>) {
    let texts = [r#"{"a": [1, 2], "b c": " \" x"}"#, "{\"a\":[1,2],\r\n\t\"b c\":\" \\\" x\"}"];
    let [first, second] = texts.map(|text| NewJob::from_json(json(text)).idempotency_key("k"));
    let id = t.submit(first).await;
    assert_eq!(submit(t, second).await, found(&id));
    let other = NewJob::from_json(json(r#"{"a": [1, 2], "b c": " \"  x"}"#)).idempotency_key("k");
    assert!(
        t.backend.submit(vec![other]).await.expect("submit").remove(0).is_err(),
        "space in a text counts"
    );
}

async fn own_window(t: &Trial<'_>) {
    let id = t.end(keyed(1).idempotency_window(t.ticks(40)), TrialEnd::Success).await;
    assert_eq!(submit(t, keyed(1)).await, found(&id));
    t.pass(40).await;
    // What comes now is a new job, with any body.
    assert_ne!(t.submit(keyed(2)).await, id);
}

async fn as_its_job(t: &Trial<'_>) {
    let id = t.submit(keyed(1).idempotency_window(t.ticks(2)).max_attempts(3)).await;
    t.pass(3).await;
    assert_eq!(submit(t, keyed(1)).await, found(&id), "it waits");
    let claimed = t.take().await;
    t.pass(3).await;
    assert_eq!(submit(t, keyed(1)).await, found(&id), "it runs");
    t.finish(&claimed.key, retry("again")).await;
    assert_eq!(submit(t, keyed(1)).await, found(&id), "it waits again");
    let claimed = t.take().await;
    t.finish(&claimed.key, success(1)).await;
    assert_ne!(t.submit(keyed(1)).await, id, "it is over");
}

async fn window(t: &Trial<'_>) {
    let window = NewJob::DEFAULT_IDEMPOTENCY_WINDOW;
    let first = t.end(keyed(1), TrialEnd::Success).await;
    t.pass_time(window / 2).await;
    assert_eq!(submit(t, keyed(1)).await, found(&first), "which does not extend the window");
    t.pass_time(window / 2 - Duration::from_secs(1)).await;
    assert_eq!(submit(t, keyed(1)).await, found(&first));
    t.pass_time(Duration::from_secs(1)).await;
    let second = t.end(keyed(4), TrialEnd::Success).await;
    assert_ne!(second, first);
    t.pass_time(window / 2).await;
    assert_eq!(submit(t, keyed(4)).await, found(&second), "it has a window of its own");
}
