//! Checkpoints: what an attempt leaves for the next one.

use super::{
    Case,
    trial::{Trial, fail, job, json, retry, success},
};
use crate::{
    Status,
    backend::{ClaimKey, Detail, Heartbeat, HeartbeatStatus, Outcome, Settlement, Update},
};

pub(super) const CASES: &[Case] = &[
    Case::new("checkpoint: the first attempt has none", &[3], |t| Box::pin(none(t))),
    Case::new("checkpoint: outlives the worker", &[3, 6], |t| Box::pin(lost(t))),
    Case::new("checkpoint: goes with the end of an attempt", &[7], |t| Box::pin(with_the_end(t))),
    Case::new("checkpoint: the newest counts, and what says nothing of it keeps it", &[3], |t| {
        Box::pin(newest(t))
    }),
    Case::new("checkpoint: of a claim that is lost changes nothing", &[3], |t| Box::pin(fenced(t))),
    Case::new("checkpoint: a success ends it, a failure does not", &[2], |t| Box::pin(at_the_end(t))),
    Case::new("checkpoint: of any JSON value, 64 KiB large", &[10], |t| Box::pin(exact(t))),
];

fn leaving(text: &str) -> Update {
    Update::default().checkpoint(json(text)).expect("it is small enough")
}

async fn beat(t: &Trial<'_>, key: &ClaimKey, update: Update) -> HeartbeatStatus {
    let beat = Heartbeat::new(key.clone(), t.ticks(50)).update(update);
    t.backend.heartbeat(vec![beat]).await.expect("heartbeat").remove(0)
}

async fn settle(t: &Trial<'_>, key: &ClaimKey, outcome: Outcome, update: Update) -> crate::Result<Status> {
    let settlement = Settlement::new(key.clone(), outcome).update(update);
    t.backend.settle(vec![settlement]).await.expect("settle").remove(0)
}

async fn none(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    assert_eq!(claimed.checkpoint, None);
    assert_eq!(t.record(&claimed.key.id).await.checkpoint, None);
}

async fn lost(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let first = t.take_for(2).await;
    let beat = Heartbeat::new(first.key.clone(), t.ticks(2)).update(leaving("{\"step\":1}"));
    t.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    assert_eq!(t.record(&id).await.checkpoint, Some(json("{\"step\":1}")));
    let second = t.retake(2).await;
    assert_eq!(second.checkpoint, Some(json("{\"step\":1}")));
    assert_eq!(t.record(&id).await.checkpoint, second.checkpoint);
    assert_eq!(t.finish(&second.key, success(1)).await, Status::Success);
    assert_eq!(t.record(&id).await.checkpoint, None);
}

async fn with_the_end(t: &Trial<'_>) {
    t.submit(job(1).max_attempts(9)).await;
    for (n, outcome) in [retry("again"), Outcome::release(), retry("again")].into_iter().enumerate() {
        let claimed = t.take().await;
        let text = format!("[{n}]");
        assert_eq!(
            settle(t, &claimed.key, outcome, leaving(&text)).await.expect("settle"),
            Status::Submitted
        );
        let next = t.take().await;
        assert_eq!(next.checkpoint, Some(json(&text)));
        t.finish(&next.key, Outcome::release()).await;
    }
}

async fn newest(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    for text in ["1", "2"] {
        assert!(matches!(beat(t, &claimed.key, leaving(text)).await, HeartbeatStatus::Held(_)));
    }
    beat(t, &claimed.key, Update::default()).await;
    assert_eq!(t.record(&claimed.key.id).await.checkpoint, Some(json("2")));
    t.finish(&claimed.key, retry("again")).await;
    let next = t.take().await;
    assert_eq!(next.checkpoint, Some(json("2")));
    settle(t, &next.key, retry("again"), leaving("3")).await.expect("settle");
    assert_eq!(t.take().await.checkpoint, Some(json("3")));
}

async fn fenced(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let old = t.take_for(2).await;
    let new = t.retake(2).await;
    assert_eq!(beat(t, &old.key, leaving("\"old\"")).await, HeartbeatStatus::Lost);
    assert!(settle(t, &old.key, retry("old"), leaving("\"old\"")).await.is_err());
    assert_eq!(t.record(&old.key.id).await.checkpoint, None);
    t.finish(&new.key, retry("again")).await;
    assert_eq!(t.take().await.checkpoint, None);
}

async fn at_the_end(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    beat(t, &claimed.key, leaving("1")).await;
    t.finish(&claimed.key, success(1)).await;
    assert_eq!(t.record(&claimed.key.id).await.checkpoint, None);

    let claimed = t.start(job(2)).await;
    settle(t, &claimed.key, fail("no use"), leaving("2")).await.expect("settle");
    let id = claimed.key.id;
    assert_eq!(t.record(&id).await.checkpoint, Some(json("2")));
    let short = t.backend.get(vec![id.clone()], Detail::Result).await.expect("get").remove(0);
    assert_eq!(short.into_record(&id).expect("a record").checkpoint, None, "not asked for");
    t.redrive(&[&id]).await;
    let again = t.take().await;
    assert_eq!(again.checkpoint, Some(json("2")));

    // Nor does the end of one that was cancelled, however its attempt ends.
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    let status = settle(t, &again.key, retry("too late"), leaving("3")).await.expect("settle");
    assert_eq!((status, t.record(&id).await.checkpoint), (Status::Cancelled, Some(json("3"))));
}

async fn exact(t: &Trial<'_>) {
    let large = format!("\"{}\"", "x".repeat(Update::MAX_CHECKPOINT - 2));
    let claimed = t.start(job(1)).await;
    for text in ["null", "0", "\"\"", "{\"a\":[1.0,\"🚲\"]}", &large] {
        beat(t, &claimed.key, leaving(text)).await;
        assert_eq!(t.record(&claimed.key.id).await.checkpoint, Some(json(text)));
    }
    let too_large = Update::default().checkpoint(json(&large.replacen('x', "xx", 1)));
    assert!(is_refused(&too_large), "{too_large:?}");
    // Also where somebody went around that.
    let around = Update { checkpoint: Some(json(&large.replacen('x', "xx", 1))), ..Update::default() };
    let beats = vec![Heartbeat::new(claimed.key.clone(), t.ticks(50)).update(around.clone())];
    let answer = t.backend.heartbeat(beats).await;
    assert!(is_refused(&answer), "{answer:?}");
    let settlements = vec![Settlement::new(claimed.key.clone(), fail("no use")).update(around)];
    let answer = t.backend.settle(settlements.clone()).await;
    assert!(is_refused(&answer), "{answer:?}");
    let answer = t.backend.settle_and_claim(settlements, t.request()).await;
    assert!(is_refused(&answer), "{answer:?}");
    let record = t.record(&claimed.key.id).await;
    assert_eq!((record.status, record.checkpoint), (Status::InProgress, Some(json(&large))));
}

fn is_refused<T>(answer: &crate::Result<T>) -> bool {
    matches!(answer, Err(crate::Error::TooLarge { what: "checkpoint", .. }))
}
