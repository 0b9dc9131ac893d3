//! Fencing: a claim that is not current can do nothing, however it was lost.

use super::{
    Case,
    trial::{Trial, every_outcome, fail, job, retry, success},
};
use crate::{
    Status,
    backend::{ClaimKey, HeartbeatStatus, Outcome},
};

pub(super) const CASES: &[Case] = &[
    Case::new("fencing: a claim settles once", &[2, 3], |t| Box::pin(once(t))),
    Case::new("fencing: not after its lease ran out, as long as nobody has taken the job", &[3, 5], |t| {
        Box::pin(lapsed(t))
    }),
    Case::new("fencing: while its successor works, and after", &[2, 3, 5], |t| Box::pin(reclaimed(t))),
    Case::new("fencing: after a release", &[3], |t| Box::pin(released(t))),
    Case::new("fencing: after a retry", &[3], |t| Box::pin(retried(t))),
    Case::new("fencing: after a redrive", &[2, 3], |t| Box::pin(redriven(t))),
    Case::new("fencing: after the job was lost and cancelled", &[2, 3], |t| Box::pin(cancelled(t))),
    Case::new("fencing: after the job died with its worker", &[2, 3, 6], |t| Box::pin(died(t))),
    Case::new("fencing: attempts that never were", &[3], |t| Box::pin(never_were(t))),
    Case::new("fencing: after the job was purged", &[3], |t| Box::pin(purged(t))),
    Case::new("fencing: many owners, one after the other", &[3, 5], |t| Box::pin(generations(t))),
];

async fn once(t: &Trial<'_>) {
    for outcome in every_outcome() {
        let claimed = t.start(job(1)).await;
        t.finish(&claimed.key, outcome).await;
        t.assert_lost(&claimed.key).await;
        // Out of the way of the next one.
        t.backend.cancel(vec![claimed.key.id]).await.expect("cancel");
    }
}

async fn lapsed(t: &Trial<'_>) {
    for outcome in every_outcome() {
        let id = t.submit(job(1)).await;
        let claimed = t.take_for(2).await;
        t.pass(7).await;
        let status = t.settle(&claimed.key, outcome.clone()).await;
        assert!(status.is_ok(), "{outcome:?} counts, and was answered with {status:?}");
        t.assert_lost(&claimed.key).await;
        t.backend.cancel(vec![id]).await.expect("cancel");
    }
}

async fn reclaimed(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let old = t.take_for(2).await;
    let new = t.retake(2).await;
    assert_eq!(new.key, ClaimKey { attempt: 2, ..old.key.clone() });
    t.assert_lost(&old.key).await;
    assert!(matches!(t.beat(&new.key).await, HeartbeatStatus::Held(_)));
    assert_eq!(t.finish(&new.key, success(2)).await, Status::Success);
    t.assert_lost(&old.key).await;
    t.assert_lost(&new.key).await;
}

async fn released(t: &Trial<'_>) {
    let old = t.start(job(1)).await;
    t.finish(&old.key, Outcome::release()).await;
    t.assert_lost(&old.key).await;
    let new = t.take().await;
    t.assert_lost(&old.key).await;
    assert_eq!(t.finish(&new.key, success(1)).await, Status::Success);
}

async fn retried(t: &Trial<'_>) {
    let old = t.start(job(1)).await;
    t.finish(&old.key, retry("again")).await;
    t.assert_lost(&old.key).await;
    let new = t.take().await;
    t.assert_lost(&old.key).await;
    assert_eq!(t.finish(&new.key, fail("no use")).await, Status::Error);
    t.assert_lost(&old.key).await;
}

async fn redriven(t: &Trial<'_>) {
    let old = t.start(job(1).max_attempts(1)).await;
    t.finish(&old.key, retry("the last")).await;
    t.assert_lost(&old.key).await;
    t.redrive(&[&old.key.id]).await;
    t.assert_lost(&old.key).await;
    let new = t.take().await;
    assert!(new.key.attempt > old.key.attempt);
    t.assert_lost(&old.key).await;
    assert_eq!(t.finish(&new.key, success(1)).await, Status::Success);
}

async fn cancelled(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let old = t.take_for(2).await;
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    t.abandon(2).await;
    assert_eq!(t.status(&id).await, Status::Cancelled);
    t.assert_lost(&old.key).await;
    t.redrive(&[&id]).await;
    t.assert_lost(&old.key).await;
}

async fn died(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(1)).await;
    let old = t.take_for(2).await;
    t.abandon(2).await;
    assert_eq!(t.status(&id).await, Status::Error);
    t.assert_lost(&old.key).await;
}

async fn never_were(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let key = |attempt| ClaimKey { id: id.clone(), attempt };
    // Before the first claim, 0 is the attempt that the record shows.
    t.assert_lost(&key(0)).await;
    t.assert_lost(&key(1)).await;
    let claimed = t.take().await;
    for attempt in [0, 2, 3, u32::MAX] {
        t.assert_lost(&key(attempt)).await;
    }
    assert_eq!(t.finish(&claimed.key, success(1)).await, Status::Success);
    t.assert_lost(&ClaimKey { id: "no-such-job".into(), attempt: 1 }).await;
}

async fn purged(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    t.finish(&claimed.key, retry("again")).await;
    assert_eq!(t.purge(Status::Submitted).await, 1);
    t.assert_lost(&claimed.key).await;
}

async fn generations(t: &Trial<'_>) {
    t.submit(job(1).max_attempts(20)).await;
    let mut old: Vec<ClaimKey> = Vec::new();
    for n in 0..6 {
        // The first of three is lost; the others give it back.
        let claimed = match n % 3 {
            0 => t.take_for(4).await,
            1 => t.retake(4).await,
            _ => t.take().await,
        };
        for key in &old {
            assert_eq!(t.beat(key).await, HeartbeatStatus::Lost);
            assert!(t.settle(key, success(0)).await.is_err(), "{key:?}");
        }
        match n % 3 {
            0 => {}
            1 => drop(t.finish(&claimed.key, retry("again")).await),
            _ => drop(t.finish(&claimed.key, Outcome::release()).await),
        }
        old.push(claimed.key);
    }
    let last = t.take().await;
    assert_eq!(t.finish(&last.key, success(1)).await, Status::Success);
    for key in &old {
        t.assert_lost(key).await;
    }
}
