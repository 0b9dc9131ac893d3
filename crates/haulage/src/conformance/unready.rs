//! Workers that are not ready.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    Case,
    trial::{Trial, job},
};
use crate::{
    Backend, Error, NewJob, QueueName, Queues,
    backend::{Severity, Unready},
};

pub(super) const CASES: &[Case] = &[
    Case::new("unready: a worker is known with its reason until it takes that back", &[1], |t| {
        Box::pin(known(t))
    })
    .needs(keeps),
    Case::new("unready: one that tells no more is forgotten", &[1], |t| Box::pin(forgotten(t)))
        .needs(keeps)
        .lasts(Unready::KEPT),
    Case::new("unready: many workers are known, and not any number", &[1], |t| Box::pin(many(t)))
        .needs(keeps),
    Case::new("unready: what makes no sense is refused", &[1], |t| Box::pin(invalid(t))),
];

fn keeps(backend: &dyn Backend) -> Option<&'static str> {
    (!backend.capabilities().keeps_unready).then_some("does not keep which workers are not ready")
}

fn names(names: &[&str]) -> Vec<QueueName> {
    names.iter().map(|name| name.parse().expect("a name")).collect()
}

async fn set(t: &Trial<'_>, worker: &str, unready: Option<&Unready>) {
    t.backend.set_unready(worker.to_owned(), unready.cloned()).await.expect("it takes note");
}

/// The workers that are known, and what each has said.
async fn said(t: &Trial<'_>) -> Vec<(String, Unready)> {
    t.backend.unready_workers().await.expect("workers").into_iter().collect()
}

async fn known(t: &Trial<'_>) {
    let id = t.submit(job(1)).await;
    assert_eq!(said(t).await, []);
    set(t, "a", None).await;
    let first = Unready::new(names(&["default", "high"]), "refused: \"ünready\"", t.now());
    let second = Unready::new(names(&["low"]), "no device", t.now().before(Duration::from_secs(3600)));
    set(t, "b", Some(&second)).await;
    set(t, "a", Some(&first)).await;
    assert_eq!(said(t).await, [("a".to_owned(), first), ("b".to_owned(), second.clone())]);
    let findings = t.backend.check().await.expect("findings");
    let tells =
        |worker: &str| findings.iter().any(|f| f.severity == Severity::Warning && f.message.contains(worker));
    assert!(tells("worker a of the queues default, high") && tells("no device"), "{findings:?}");
    let again = Unready::new(names(&["high"]), "still refused", t.now());
    set(t, "a", Some(&again)).await;
    assert_eq!(said(t).await, [("a".to_owned(), again), ("b".to_owned(), second.clone())]);
    set(t, "a", None).await;
    assert_eq!(said(t).await, [("b".to_owned(), second.clone())]);
    // It is for people, and nothing follows from it: not even for the worker itself.
    set(t, &t.request().worker, Some(&second)).await;
    assert_eq!(t.take().await.key.id, id);
}

async fn forgotten(t: &Trial<'_>) {
    let of = |reason| Unready::new(names(&["default"]), reason, t.now());
    let (killed, lives) = (of("refused"), of("no device"));
    set(t, "killed", Some(&killed)).await;
    set(t, "lives", Some(&lives)).await;
    let moment = t.ticks(1);
    t.pass_time(Unready::KEPT - moment).await;
    assert_eq!(said(t).await, [("killed".to_owned(), killed), ("lives".to_owned(), lives.clone())]);
    set(t, "lives", Some(&lives)).await;
    t.pass_time(moment).await;
    assert_eq!(said(t).await, [("lives".to_owned(), lives.clone())]);
    let findings = t.backend.check().await.expect("findings");
    assert!(!findings.iter().any(|finding| finding.message.contains("killed")), "{findings:?}");
    // Nor does another one's word bring it back.
    set(t, "lives", None).await;
    assert_eq!(said(t).await, []);
}

async fn many(t: &Trial<'_>) {
    let unready = Unready::new(names(&["default"]), "refused\nok: all is well", t.now());
    let told = (0..=Unready::MOST)
        .map(async |n| t.backend.set_unready(format!("w{n}"), Some(unready.clone())).await);
    for told in join_all(told).await {
        told.expect("it takes note of those that it can");
    }
    let said = said(t).await;
    assert_eq!(said.len(), Unready::MOST);
    let known = &said[0].0;
    // One that is known is heard, and one that is ready makes room for another.
    let again = Unready::new(names(&["default"]), "still refused", t.now());
    set(t, known, Some(&again)).await;
    assert_eq!(t.backend.unready_workers().await.expect("workers")[known], again);
    set(t, known, None).await;
    set(t, "one more", Some(&again)).await;
    assert!(t.backend.unready_workers().await.expect("workers").contains_key("one more"));
    let findings = t.backend.check().await.expect("findings");
    assert!(!findings.iter().any(|finding| finding.message.contains('\n')), "{findings:?}");
}

async fn invalid(t: &Trial<'_>) {
    let long = "x".repeat(Unready::MAX_REASON_BYTES + 1);
    let cut = Unready::new(names(&["default"]), &long, t.now());
    assert_eq!(cut.reason.len(), Unready::MAX_REASON_BYTES);
    let too_long = Unready { reason: long, ..cut.clone() };
    let nothing = Unready { queues: Vec::new(), ..cut.clone() };
    let many = (0..=Queues::MOST).map(|n| format!("q{n}").parse().expect("a name"));
    let too_many = Unready { queues: many.collect(), ..cut.clone() };
    let name = "w".repeat(NewJob::MAX_LABEL_BYTES + 1);
    for (worker, unready) in
        [("w", Some(too_long)), ("w", Some(nothing)), ("w", Some(too_many)), ("", None), (&name, Some(cut))]
    {
        let refused = t.backend.set_unready(worker.to_owned(), unready).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
}
