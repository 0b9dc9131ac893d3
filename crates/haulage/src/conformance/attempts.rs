//! What a record remembers of a job's attempts.

use std::time::Duration;

use super::{
    Case,
    trial::{LONG, Trial, TrialEnd, error, fail, job, retry, success},
};
use crate::{
    Attempt, FailureKind, JobError, Status,
    backend::{ClaimKey, Detail, Heartbeat, Outcome, Settlement, Update},
};

pub(super) const CASES: &[Case] = &[
    Case::new("attempts: none before the first, one while it runs and after it", &[2], |t| Box::pin(one(t))),
    Case::new("attempts: each says who, from when to when, and why it ended", &[2, 6], |t| Box::pin(each(t))),
    Case::new("attempts: the last ten are remembered", &[6], |t| Box::pin(last_ten(t))),
    Case::new("attempts: a redrive adds to them", &[2, 6], |t| Box::pin(redriven(t))),
    Case::new("attempts: an error is cut to its end", &[2], |t| Box::pin(cut(t))),
    Case::new("attempts: each says in which slot it ran, where that was said", &[2], |t| Box::pin(slots(t))),
    Case::new("attempts: each error has the type that was said, and no other", &[2], |t| Box::pin(typed(t))),
];

fn seen(attempts: &[Attempt]) -> Vec<(u32, Option<&str>)> {
    attempts.iter().map(|a| (a.number, a.error.as_ref().map(|e| e.message.as_str()))).collect()
}

async fn one(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    assert_eq!(t.record(&id).await.attempts, []);
    let claimed = t.take().await;
    let record = t.record(&id).await;
    let [running] = &record.attempts[..] else { panic!("{:?}", record.attempts) };
    assert_eq!((running.number, running.worker.as_deref()), (1, Some("tester")));
    assert_eq!((Some(running.started_at), running.ended_at), (record.started_at, None));
    t.finish(&claimed.key, success(1)).await;
    let record = t.record(&id).await;
    let [done] = &record.attempts[..] else { panic!("{:?}", record.attempts) };
    assert_eq!((done.ended_at, &done.error), (record.finished_at, &None));
    let short = t.backend.get(vec![id.clone()], Detail::Result).await.expect("get").remove(0);
    assert_eq!(short.into_record(&id).expect("a record").attempts, [], "not asked for");
}

async fn each(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    let first = t.take_as(t.request().lease(t.ticks(50))).await;
    t.pass(1).await;
    t.finish(&first.key, retry("first")).await;
    let second = t.take().await;
    t.finish(&second.key, Outcome::release()).await;
    let mut request = t.request().lease(t.ticks(2));
    "another".clone_into(&mut request.worker);
    t.take_as(request).await;
    let fourth = t.retake(2).await;
    t.finish(&fourth.key, fail("the end")).await;

    let attempts = t.record(&id).await.attempts;
    let [first, second, third, fourth] = &attempts[..] else { panic!("{attempts:?}") };
    assert_eq!(seen(&attempts[..2]), [(1, Some("first")), (2, None)]);
    assert!(first.ended_at.expect("over") >= first.started_at.after(t.ticks(1)), "{first:?}");
    assert!(second.started_at >= first.ended_at.expect("over"), "{attempts:?}");
    assert_eq!((third.number, third.worker.as_deref()), (3, Some("another")));
    assert_eq!(third.error.as_ref().map(|e| e.kind), Some(FailureKind::WorkerLost));
    assert!(third.ended_at.is_some_and(|end| end <= fourth.started_at), "{attempts:?}");
    assert_eq!((fourth.number, &fourth.error), (4, &Some(error("the end"))));
}

async fn last_ten(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(20)).await;
    for n in 1..=13 {
        let claimed = t.take().await;
        t.finish(&claimed.key, retry(&n.to_string())).await;
        let attempts = t.record(&id).await.attempts;
        assert_eq!(attempts.len(), n.min(Attempt::KEPT));
        assert_eq!(seen(&attempts).last(), Some(&(claimed.key.attempt, Some(n.to_string().as_str()))));
    }
    t.take().await;
    let numbers: Vec<_> = t.record(&id).await.attempts.iter().map(|a| a.number).collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
}

async fn redriven(t: &Trial<'_>) {
    let id = t.end(job(1), TrialEnd::Failed).await;
    let before = t.record(&id).await.attempts;
    t.redrive(&[&id]).await;
    assert_eq!(t.record(&id).await.attempts, before);
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    t.redrive(&[&id]).await;
    assert_eq!(t.record(&id).await.attempts, before, "it was cancelled between two attempts");
    let claimed = t.take().await;
    t.finish(&claimed.key, success(1)).await;
    let attempts = t.record(&id).await.attempts;
    assert_eq!((&attempts[..1], attempts[1].number, &attempts[1].error), (&before[..], 2, &None));
}

async fn slots(t: &Trial<'_>) {
    let in_slot = |name: &str| Update::default().slot(name.to_owned());
    let settle = async |key: &ClaimKey, outcome, update| {
        let settlement = Settlement::new(key.clone(), outcome).update(update);
        t.backend.settle(vec![settlement]).await.expect("settle").remove(0).expect("it is held")
    };
    let first = t.start(job(1)).await;
    let id = first.key.id.clone();
    let beat = Heartbeat::new(first.key.clone(), t.ticks(LONG)).update(in_slot("slot 1, GPU 0"));
    t.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    assert_eq!(t.record(&id).await.slot.as_deref(), Some("slot 1, GPU 0"));
    settle(&first.key, retry("once"), Update::default()).await;
    let second = t.take().await;
    assert_eq!(t.record(&id).await.slot, None, "that was the attempt before");
    settle(&second.key, retry("twice"), in_slot("slot 2, GPU 0")).await;
    let third = t.take().await;
    settle(&third.key, success(3), in_slot("slot 7, GPU 3")).await;
    let record = t.record(&id).await;
    assert_eq!((record.status, record.slot.as_deref()), (Status::Success, Some("slot 7, GPU 3")));
    let slots: Vec<_> = record.attempts.iter().map(|attempt| attempt.slot.as_deref()).collect();
    assert_eq!(slots, ["slot 1, GPU 0", "slot 2, GPU 0", "slot 7, GPU 3"].map(Some));
}

async fn typed(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let error = |message: &str, name: Option<&str>| error(message).of_type(name.map(str::to_owned));
    let odd = error("no", Some("torch.OutOfMemoryError"));
    t.finish(&claimed.key, Outcome::Retry { error: odd.clone(), delay: Duration::ZERO }).await;
    let id = claimed.key.id;
    assert_eq!(t.record(&id).await.error, Some(odd.clone()));
    t.finish(&t.take().await.key, retry("of a program")).await;
    let record = t.record(&id).await;
    assert_eq!(record.error, Some(error("of a program", None)), "not that of an earlier error");
    t.finish(&t.take().await.key, Outcome::Fail(error("the end", Some("KeyError")))).await;
    let record = t.record(&id).await;
    let types: Vec<_> = record.attempts.iter().map(|a| a.error.as_ref()?.type_name.as_deref()).collect();
    assert_eq!(types, [odd.type_name.as_deref(), None, Some("KeyError")]);
    assert_eq!(record.error, Some(error("the end", Some("KeyError"))));
}

async fn cut(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let long = "🚲".repeat(1000);
    t.finish(&claimed.key, retry(&long)).await;
    let record = t.record(&claimed.key.id).await;
    assert_eq!(record.error, Some(error(&long)), "the record has all of the latest");
    let kept = record.attempts[0].error.as_ref().map(|e: &JobError| e.message.as_str()).expect("an error");
    assert!(kept.len() <= Attempt::MAX_ERROR_BYTES && kept.ends_with('🚲') && kept.starts_with("[cut]"));
}
