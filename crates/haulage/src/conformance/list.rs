//! `list`: records by status, newest first, page by page.

use super::{
    Case,
    trial::{End, Trial, job, jobs, retry},
};
use crate::{
    Backend, Error, JobId, Status,
    backend::{ListQuery, Outcome},
};

pub(super) const CASES: &[Case] = &[
    Case::new("list: newest first, at most so many", &[4], |t| Box::pin(newest_first(t))).needs(list),
    Case::new("list: by status, and dead letters", &[4, 6], |t| Box::pin(by_status(t))).needs(list),
    Case::new("list: page by page, each record once", &[4], |t| Box::pin(pages(t))).needs(list),
    Case::new("list: before an unknown job is an error", &[4], |t| Box::pin(unknown(t))).needs(list),
    Case::new("list: neither body nor result", &[4], |t| Box::pin(no_payloads(t))).needs(list),
    Case::new("list: by submits, whatever came after", &[4], |t| Box::pin(stable(t))).needs(list),
];

fn list(backend: &dyn Backend) -> Option<&'static str> {
    (!backend.capabilities().list).then_some("no list")
}

async fn ids(t: &Trial<'_>, query: ListQuery) -> Vec<JobId> {
    t.backend.list(query).await.expect("list").into_iter().map(|record| record.id).collect()
}

fn all() -> ListQuery {
    ListQuery { limit: 1000, ..ListQuery::default() }
}

fn reversed(ids: &[JobId]) -> Vec<JobId> {
    ids.iter().rev().cloned().collect()
}

async fn newest_first(t: &Trial<'_>) {
    assert_eq!(ids(t, all()).await, []);
    let submitted = t.submit_all(jobs(30)).await;
    assert_eq!(ids(t, all()).await, reversed(&submitted));
    assert_eq!(ids(t, ListQuery { limit: 3, ..all() }).await, reversed(&submitted[27..]));
    assert_eq!(ids(t, ListQuery::default()).await.len(), 20);
}

async fn by_status(t: &Trial<'_>) {
    let mut of_status = Vec::new();
    for end in End::ALL {
        of_status.push(t.end(job(1), end).await);
    }
    let [success, failed, dead, cancelled] = of_status.try_into().expect("four ends");
    let running = t.start(job(2)).await.key.id;
    let waiting = t.submit(job(3)).await;
    for (status, expected) in [
        (Status::Submitted, vec![waiting]),
        (Status::InProgress, vec![running]),
        (Status::Success, vec![success]),
        (Status::Error, vec![dead.clone(), failed]),
        (Status::Cancelled, vec![cancelled]),
    ] {
        let query = ListQuery { status: Some(status), ..all() };
        assert_eq!(ids(t, query.clone()).await, expected, "{status}");
        let dead_too = if status == Status::Error { vec![dead.clone()] } else { vec![] };
        assert_eq!(ids(t, ListQuery { dead: true, ..query }).await, dead_too, "dead and {status}");
    }
    assert_eq!(ids(t, ListQuery { dead: true, ..all() }).await, [dead]);
}

async fn pages(t: &Trial<'_>) {
    let mut submitted = t.submit_all(jobs(10)).await;
    for claimed in t.claim(10).await.into_iter().step_by(2) {
        t.finish(&claimed.key, Outcome::Cancelled).await;
    }
    for status in [None, Some(Status::Cancelled), Some(Status::InProgress)] {
        let expected: Vec<_> = match status {
            None => submitted.clone(),
            Some(Status::Cancelled) => submitted.iter().step_by(2).cloned().collect(),
            Some(_) => submitted.iter().skip(1).step_by(2).cloned().collect(),
        };
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let page = ids(t, ListQuery { status, limit: 3, before, ..all() }).await;
            let Some(last) = page.last().cloned() else { break };
            before = Some(last);
            seen.extend(page);
            assert!(seen.len() <= 10, "{seen:?}");
        }
        assert_eq!(seen, reversed(&expected), "{status:?}");
    }
    // What comes after the first page began does not shift the next.
    let first = ids(t, ListQuery { limit: 5, ..all() }).await;
    submitted.extend(t.submit_all(jobs(3)).await);
    let second = ids(t, ListQuery { limit: 5, before: first.last().cloned(), ..all() }).await;
    assert_eq!([first, second].concat(), reversed(&submitted[..10]));
}

async fn unknown(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let missing = JobId::from("no-such-job");
    let answer = t.backend.list(ListQuery { before: Some(missing.clone()), ..all() }).await;
    assert!(matches!(&answer, Err(Error::NotFound(id)) if *id == missing), "{answer:?}");
}

async fn no_payloads(t: &Trial<'_>) {
    let id = t.end(job(1), End::Success).await;
    let listed = t.backend.list(all()).await.expect("list").remove(0);
    let whole = t.record(&id).await;
    assert_eq!((listed.body.as_ref(), listed.result.as_ref()), (None, None));
    assert_eq!(crate::Record { body: whole.body.clone(), result: whole.result.clone(), ..listed }, whole);
}

async fn stable(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(4)).await;
    let claimed = t.claim(4).await;
    t.finish(&claimed[0].key, retry("again")).await;
    t.finish(&claimed[2].key, Outcome::release()).await;
    assert_eq!(ids(t, all()).await, reversed(&submitted));
}
