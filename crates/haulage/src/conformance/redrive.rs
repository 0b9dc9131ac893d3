//! `redrive`: an operator puts ended jobs back to work.

use std::time::Duration;

use super::{
    Case,
    trial::{Trial, TrialEnd, job, retry, success},
};
use crate::{JobError, Status, backend::Redrive};

pub(super) const CASES: &[Case] = &[
    Case::new("redrive: gives a dead letter all its attempts back", &[2, 6], |t| Box::pin(dead(t))),
    Case::new("redrive: failures and cancelled jobs, by id", &[2], |t| Box::pin(by_id(t))),
    Case::new("redrive: nothing else", &[2, 4], |t| Box::pin(nothing_else(t))),
    Case::new("redrive: dead letters, oldest first, so many", &[6], |t| Box::pin(oldest_first(t))),
    Case::new("redrive: all dead letters, a part at a time, and each once", &[6], |t| Box::pin(in_parts(t))),
    Case::new("redrive: a cancelled job runs as if nobody had asked", &[2], |t| Box::pin(cancelled(t))),
    Case::new("redrive: a job cancelled while delayed is due at once", &[2], |t| Box::pin(delayed(t))),
    Case::new("redrive: a job can die again", &[2, 6], |t| Box::pin(dies_again(t))),
];

async fn dead(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(2)).await;
    for _ in 0..2 {
        let claimed = t.take().await;
        t.finish(&claimed.key, retry("not yet")).await;
    }
    assert!(t.record(&id).await.dead);
    let before = t.now();
    assert_eq!(t.backend.redrive(Redrive::dead(10)).await.expect("redrive"), std::slice::from_ref(&id));

    let record = t.record(&id).await;
    assert_eq!((record.status, record.attempt, record.uncounted), (Status::Submitted, 2, 2));
    assert!(!record.dead && !record.cancel_requested);
    assert_eq!((record.finished_at, record.expires_at, &record.result), (None, None, &None));
    assert_eq!(record.error.map(|e| e.message).as_deref(), Some("not yet"), "kept until the next");
    t.assert_near(record.due_at, before, Duration::ZERO);
    assert_eq!(t.stats().await.dead, 0);

    for counted in 1..=2 {
        let claimed = t.take().await;
        assert_eq!(
            (claimed.key.attempt, claimed.counted, claimed.spec.max_attempts),
            (2 + counted, counted, 2)
        );
        t.finish(&claimed.key, if counted == 1 { retry("again") } else { success(1) }).await;
    }
    assert_eq!(t.status(&id).await, Status::Success);
}

async fn by_id(t: &Trial<'_>) {
    for end in [TrialEnd::Failed, TrialEnd::Dead, TrialEnd::Cancelled] {
        let id = t.end(job(1), end).await;
        assert_eq!(t.redrive(&[&id]).await, std::slice::from_ref(&id), "{end:?}");
        assert_eq!(t.status(&id).await, Status::Submitted);
        let claimed = t.take().await;
        assert_eq!((claimed.key.attempt, claimed.counted), (2, 1));
        assert_eq!(t.finish(&claimed.key, success(3)).await, Status::Success);
        let record = t.record(&id).await;
        assert_eq!(record.result.as_ref().map(|r| r.as_str()), Some("3"));
    }
}

async fn nothing_else(t: &Trial<'_>) {
    let success = t.end(job(1), TrialEnd::Success).await;
    let failed = t.end(job(2), TrialEnd::Failed).await;
    let running = t.start(job(3)).await.key.id;
    let waiting = t.submit(job(4).delay(t.ticks(50))).await;
    let missing = "no-such-job".into();
    let mut before = Vec::new();
    for id in [&success, &running, &waiting] {
        before.push(t.record(id).await);
    }
    assert_eq!(
        t.backend.redrive(Redrive::dead(10)).await.expect("redrive"),
        [],
        "a failure is no dead letter"
    );
    let asked = [&success, &missing, &running, &failed, &waiting, &failed];
    assert_eq!(t.redrive(&asked).await, [failed], "once, however often it is named");
    for (id, before) in [&success, &running, &waiting].into_iter().zip(before) {
        assert_eq!(t.record(id).await, before);
    }
    assert_eq!(t.redrive(&[]).await, []);
}

async fn oldest_first(t: &Trial<'_>) {
    let mut dead = Vec::new();
    for n in 0..4 {
        dead.push(t.end(job(n), TrialEnd::Dead).await);
    }
    assert_eq!(t.backend.redrive(Redrive::dead(0)).await.expect("redrive"), []);
    assert_eq!(t.backend.redrive(Redrive::dead(3)).await.expect("redrive"), dead[..3]);
    assert_eq!(t.stats().await.dead, 1);
    assert_eq!(t.backend.redrive(Redrive::dead(3)).await.expect("redrive"), dead[3..]);
    let claimed: Vec<_> = t.claim(9).await.into_iter().map(|c| c.key.id).collect();
    assert_eq!(claimed, dead);
}

async fn in_parts(t: &Trial<'_>) {
    let mut dead = Vec::new();
    for n in 0..4 {
        dead.push(t.end(job(n).max_attempts(1), TrialEnd::Dead).await);
    }
    let redrive = async |after: Option<&crate::JobId>| {
        let what = Redrive::Dead { limit: 2, queue: None, after: after.cloned() };
        t.backend.redrive(what).await.expect("redrive")
    };
    assert_eq!(redrive(None).await, dead[..2]);
    // They die again before the rest has its turn.
    for _ in 0..2 {
        let claimed = t.take().await;
        assert_eq!(t.finish(&claimed.key, retry("again")).await, Status::Error);
    }
    assert_eq!(redrive(Some(&dead[1])).await, dead[2..]);
    assert_eq!(redrive(Some(&dead[3])).await, []);
    assert_eq!(redrive(None).await, dead[..2]);
}

async fn cancelled(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    t.backend.cancel(vec![claimed.key.id.clone()]).await.expect("cancel");
    t.finish(&claimed.key, crate::backend::Outcome::Cancelled).await;
    t.redrive(&[&claimed.key.id]).await;
    let record = t.record(&claimed.key.id).await;
    assert_eq!((record.cancel_requested, record.error), (false, Some(JobError::cancelled())));
    let again = t.take().await;
    assert!(matches!(t.beat(&again.key).await, crate::backend::HeartbeatStatus::Held(_)));
    assert_eq!(t.finish(&again.key, retry("as any other")).await, Status::Submitted);
}

async fn delayed(t: &Trial<'_>) {
    let id = t.submit(job(1).delay(t.ticks(50))).await;
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    t.redrive(&[&id]).await;
    assert_eq!(t.take().await.key.id, id);
}

async fn dies_again(t: &Trial<'_>) {
    let id = t.end(job(1), TrialEnd::Dead).await;
    t.redrive(&[&id]).await;
    t.take_for(2).await;
    t.abandon(2).await;
    let record = t.record(&id).await;
    assert_eq!((record.status, record.dead, record.attempt), (Status::Error, true, 2));
    let message = record.error.map(|e| e.message).unwrap_or_default();
    assert!(message.starts_with("attempt 1 of 1 was lost"), "{message}");
}
