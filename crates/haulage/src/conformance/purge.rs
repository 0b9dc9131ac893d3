//! `purge`: an operator deletes records.

use super::{
    Case,
    trial::{Trial, TrialEnd, job, jobs},
};
use crate::{
    Error, Status,
    backend::{Lookup, Purge},
};

pub(super) const CASES: &[Case] = &[
    Case::new("purge: the records of one status", &[2], |t| Box::pin(one_status(t))),
    Case::new("purge: what ended long enough ago", &[2], |t| Box::pin(since_the_end(t))),
    Case::new("purge: what was submitted long enough ago", &[2], |t| Box::pin(since_the_submit(t))),
    Case::new("purge: never what runs", &[1, 2], |t| Box::pin(running(t))),
    Case::new("purge: what it deletes is missing", &[2], |t| Box::pin(missing(t))),
    Case::new("purge: single jobs, and no others", &[2], |t| Box::pin(single_jobs(t))),
];

async fn purge(t: &Trial<'_>, status: Status, ticks: u32) -> u64 {
    t.backend.purge(Purge::status(status, t.ticks(ticks))).await.expect("purge")
}

async fn one_status(t: &Trial<'_>) {
    let mut ids = Vec::new();
    for end in TrialEnd::ALL {
        ids.push(t.end(job(1), end).await);
    }
    ids.push(t.start(job(2)).await.key.id);
    ids.extend(t.submit_all(jobs(2)).await);
    let mut left = ids.len() as u64;
    for (status, count) in
        [(Status::Success, 1), (Status::Error, 2), (Status::Cancelled, 1), (Status::Submitted, 2)]
    {
        assert_eq!(t.purge(status).await, count, "{status}");
        assert_eq!(t.purge(status).await, 0, "{status}, again");
        left -= count;
        let stats = t.stats().await;
        assert_eq!(stats.unfinished() + stats.success + stats.error + stats.cancelled, left, "{status}");
    }
    assert_eq!(t.status(&ids[4]).await, Status::InProgress);
    t.assert_idle().await;
}

async fn since_the_end(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    t.pass(6).await;
    t.finish(&claimed.key, super::trial::success(1)).await;
    t.pass(2).await;
    assert_eq!(purge(t, Status::Success, 4).await, 0, "older than 4 ticks, but not since its end");
    t.pass(2).await;
    assert_eq!(purge(t, Status::Success, 4).await, 1);
}

async fn since_the_submit(t: &Trial<'_>) {
    let old = t.submit(job(1)).await;
    t.pass(4).await;
    let new = t.submit(job(2)).await;
    assert_eq!(purge(t, Status::Submitted, 2).await, 1);
    assert_eq!(t.lookup(&old).await, Lookup::Missing);
    assert_eq!(t.take().await.key.id, new);
}

async fn running(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let query = Purge::status(Status::InProgress, std::time::Duration::ZERO);
    let answer = t.backend.purge(query).await;
    assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    assert_eq!(t.purge(Status::Submitted).await, 0);
    assert_eq!(t.status(&claimed.key.id).await, Status::InProgress);
}

async fn missing(t: &Trial<'_>) {
    let dead = t.end(job(1), TrialEnd::Dead).await;
    let waiting = t.submit(job(2)).await;
    assert_eq!((t.purge(Status::Error).await, t.purge(Status::Submitted).await), (1, 1));
    for id in [&dead, &waiting] {
        assert_eq!(t.lookup(id).await, Lookup::Missing);
        assert_eq!(t.redrive(&[id]).await, []);
    }
    let answers = t.backend.cancel(vec![dead, waiting]).await.expect("cancel");
    assert_eq!(answers, [crate::backend::Cancellation::Missing; 2]);
    t.assert_idle().await;
}

async fn single_jobs(t: &Trial<'_>) {
    let (kept, done) = (t.end(job(1), TrialEnd::Success).await, t.end(job(2), TrialEnd::Success).await);
    let running = t.start(job(3)).await.key;
    let waiting = t.submit(job(4)).await;
    let ids = vec![done.clone(), waiting.clone(), running.id.clone(), "no-such-job".into(), done.clone()];
    assert_eq!(t.backend.purge(Purge::Jobs(ids.clone())).await.expect("purge"), 2);
    assert_eq!(t.backend.purge(Purge::Jobs(ids)).await.expect("purge"), 0, "again");
    for gone in [&done, &waiting] {
        assert_eq!(t.lookup(gone).await, Lookup::Missing);
    }
    assert_eq!(t.status(&kept).await, Status::Success);
    assert_eq!(t.status(&running.id).await, Status::InProgress);
    t.finish(&running, super::trial::success(3)).await;
    t.assert_idle().await;
}
