//! `get`: what is found, how much of it, and until when.

use std::time::Duration;

use super::{
    Case,
    trial::{Trial, TrialEnd, job, jobs, success},
};
use crate::{
    ERROR_TTL, JobId, Status,
    backend::{Cancellation, Detail, ListQuery, Lookup, Outcome, Redrive},
};

pub(super) const CASES: &[Case] = &[
    Case::new("get: answers in order, also twice, and knows what is missing", &[1], |t| Box::pin(order(t))),
    Case::new("get: as much detail as asked for", &[10], |t| Box::pin(detail(t))),
    Case::new("get: an expired record reads as expired, at once", &[11], |t| Box::pin(expires(t))),
    Case::new("get: a result that is not kept at all expires at once", &[11], |t| Box::pin(not_kept(t))),
    Case::new("get: an expired record is gone for every verb", &[11], |t| Box::pin(gone(t))),
    Case::new("get: what is not over does not expire", &[11], |t| Box::pin(unfinished(t))),
    Case::new("get: what went wrong is kept for 14 days", &[11], |t| Box::pin(wrong(t))).lasts(ERROR_TTL),
    Case::new("get: a dead letter is kept longer where its job says so", &[11], |t| Box::pin(dead_longer(t))),
    Case::new("get: a redriven job gets a new time to expire", &[11], |t| Box::pin(redriven(t))),
];

async fn order(t: &Trial<'_>) {
    let ids = t.submit_all(jobs(3)).await;
    let missing = JobId::from("no-such-job");
    let asked = vec![ids[2].clone(), missing, ids[0].clone(), ids[2].clone(), JobId::from("")];
    let found = t.backend.get(asked, Detail::Status).await.expect("get");
    let found: Vec<_> =
        found.into_iter().map(|lookup| lookup.into_record(&ids[0]).ok().map(|r| r.id)).collect();
    assert_eq!(found, [Some(ids[2].clone()), None, Some(ids[0].clone()), Some(ids[2].clone()), None]);
    assert!(t.backend.get(Vec::new(), Detail::Full).await.expect("get").is_empty());
    assert_eq!(t.lookup(&JobId::from("no-such-job")).await, Lookup::Missing);
    t.backend.ping().await.expect("it is there");
}

async fn detail(t: &Trial<'_>) {
    let id = t.end(job(5), TrialEnd::Success).await;
    for (detail, body, result) in [
        (Detail::Status, None, None),
        (Detail::Result, None, Some("7")),
        (Detail::Full, Some("5"), Some("7")),
    ] {
        let found = t.backend.get(vec![id.clone()], detail).await.expect("get").remove(0);
        let record = found.into_record(&id).expect("the record");
        assert_eq!(record.body.as_ref().map(|b| b.as_str()), body, "{detail:?}");
        assert_eq!(record.result.as_ref().map(|r| r.as_str()), result, "{detail:?}");
        let whole = t.record(&id).await;
        let (body, result, attempts) = (whole.body.clone(), whole.result.clone(), whole.attempts.clone());
        assert_eq!(crate::Record { body, result, attempts, ..record }, whole);
    }
}

async fn expires(t: &Trial<'_>) {
    for end in [TrialEnd::Success, TrialEnd::Cancelled] {
        let id = t.end(job(1).result_ttl(t.ticks(4)), end).await;
        t.pass(2).await;
        assert_eq!(t.status(&id).await, end.status());
        t.pass(2).await;
        assert_eq!(t.lookup(&id).await, Lookup::Expired, "{end:?}");
    }
    let waiting = t.submit(job(1).result_ttl(t.ticks(4))).await;
    t.backend.cancel(vec![waiting.clone()]).await.expect("cancel");
    t.pass(4).await;
    assert_eq!(t.lookup(&waiting).await, Lookup::Expired);
}

async fn not_kept(t: &Trial<'_>) {
    let id = t.end(job(1).result_ttl(Duration::ZERO), TrialEnd::Success).await;
    assert_eq!(t.lookup(&id).await, Lookup::Expired);
}

async fn gone(t: &Trial<'_>) {
    let mut ids = Vec::new();
    for end in [TrialEnd::Success, TrialEnd::Cancelled, TrialEnd::Cancelled] {
        ids.push(t.end(job(1).result_ttl(t.ticks(2)), end).await);
    }
    t.pass(2).await;
    let stats = t.stats().await;
    assert_eq!((stats.success, stats.cancelled, stats.unfinished()), (0, 0, 0));
    if t.backend.capabilities().list {
        assert_eq!(t.backend.list(ListQuery::default()).await.expect("list"), []);
    }
    assert_eq!(t.redrive(&ids.iter().collect::<Vec<_>>()).await, []);
    assert_eq!(t.backend.redrive(Redrive::dead(10)).await.expect("redrive"), []);
    for end in TrialEnd::ALL {
        assert_eq!(t.purge(end.status()).await, 0, "{end:?}");
    }
    let answers = t.backend.cancel(ids.clone()).await.expect("cancel");
    assert_eq!(answers, [Cancellation::Missing; 3]);
    t.assert_idle().await;
    for id in &ids {
        // Some verb may have swept it away.
        assert!(matches!(t.lookup(id).await, Lookup::Expired | Lookup::Missing), "{id}");
    }
}

async fn unfinished(t: &Trial<'_>) {
    let waiting = t.submit(job(1).result_ttl(t.ticks(1)).delay(t.ticks(50))).await;
    let claimed = t.start(job(2).result_ttl(t.ticks(1))).await;
    t.pass(3).await;
    assert!(matches!(t.lookup(&waiting).await, Lookup::Found(_)));
    assert!(matches!(t.lookup(&claimed.key.id).await, Lookup::Found(_)));
    t.finish(&claimed.key, success(1)).await;
    assert!(matches!(t.lookup(&claimed.key.id).await, Lookup::Found(_)), "its time begins at its end");
    t.pass(1).await;
    assert_eq!(t.lookup(&claimed.key.id).await, Lookup::Expired);
}

async fn wrong(t: &Trial<'_>) {
    let dead = t.end(job(1).result_ttl(t.ticks(1)), TrialEnd::Dead).await;
    let failed = t.end(job(2).result_ttl(t.ticks(1)), TrialEnd::Failed).await;
    t.pass_time(ERROR_TTL - t.ticks(1)).await;
    assert!(t.record(&dead).await.dead);
    assert_eq!(t.status(&failed).await, Status::Error);
    t.pass(1).await;
    for id in [dead, failed] {
        assert_eq!(t.lookup(&id).await, Lookup::Expired);
    }
    let stats = t.stats().await;
    assert_eq!((stats.error, stats.dead), (0, 0));
    assert_eq!(t.backend.redrive(Redrive::dead(10)).await.expect("redrive"), []);
}

async fn dead_longer(t: &Trial<'_>) {
    let ttl = ERROR_TTL * 2;
    let id = t.end(job(1).result_ttl(ttl), TrialEnd::Dead).await;
    let record = t.record(&id).await;
    assert_eq!(record.expires_at, record.finished_at.map(|f| f.after(ttl)));
}

async fn redriven(t: &Trial<'_>) {
    let id = t.end(job(1).result_ttl(t.ticks(4)), TrialEnd::Cancelled).await;
    t.pass(2).await;
    t.redrive(&[&id]).await;
    t.pass(4).await;
    let claimed = t.take().await;
    t.finish(&claimed.key, Outcome::Cancelled).await;
    t.pass(2).await;
    assert!(matches!(t.lookup(&id).await, Lookup::Found(_)));
    t.pass(2).await;
    assert_eq!(t.lookup(&id).await, Lookup::Expired);
}
