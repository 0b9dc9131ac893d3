//! `list`: records by status, newest first, page by page.

use std::time::Duration;

use super::{
    Case,
    trial::{LONG, Trial, TrialEnd, error, job, jobs, retry, success},
};
use crate::{
    Backend, Error, JobId, Status,
    backend::{Detail, ListQuery, Outcome},
};

pub(super) const CASES: &[Case] = &[
    Case::new("list: newest first, at most so many", &[4], |t| Box::pin(newest_first(t))).needs(list),
    Case::new("list: by status, and dead letters", &[4, 6], |t| Box::pin(by_status(t))).needs(list),
    Case::new("list: page by page, each record once", &[4], |t| Box::pin(pages(t))).needs(list),
    Case::new("list: before an unknown job is an error", &[4], |t| Box::pin(unknown(t))).needs(list),
    Case::new("list: neither body nor result", &[4], |t| Box::pin(no_payloads(t))).needs(list),
    Case::new("list: by submits, whatever came after", &[4], |t| Box::pin(stable(t))).needs(list),
    Case::new("list: by the beginning of the id", &[4], |t| Box::pin(by_prefix(t))).needs(list),
    Case::new("list: by task, group, request id and labels", &[4], |t| Box::pin(by_options(t))).needs(list),
    Case::new("list: by the error, of any attempt", &[4], |t| Box::pin(by_error(t))).needs(list),
    Case::new("list: by age", &[4], |t| Box::pin(by_age(t))).needs(list),
    Case::new("list: all that is asked for holds", &[4], |t| Box::pin(all_at_once(t))).needs(list),
];

fn list(backend: &dyn Backend) -> Option<&'static str> {
    (!backend.capabilities().list).then_some("no list")
}

async fn ids(t: &Trial<'_>, query: ListQuery) -> Vec<JobId> {
    t.backend.list(query).await.expect("list").into_iter().map(|record| record.id).collect()
}

fn all() -> ListQuery {
    ListQuery::new().limit(1000)
}

fn reversed(ids: &[JobId]) -> Vec<JobId> {
    ids.iter().rev().cloned().collect()
}

async fn newest_first(t: &Trial<'_>) {
    assert_eq!(ids(t, all()).await, []);
    let submitted = t.submit_all(jobs(30)).await;
    assert_eq!(ids(t, all()).await, reversed(&submitted));
    assert_eq!(ids(t, all().limit(3)).await, reversed(&submitted[27..]));
    assert_eq!(ids(t, ListQuery::new()).await.len(), 20);
}

async fn by_status(t: &Trial<'_>) {
    let mut of_status = Vec::new();
    for end in TrialEnd::ALL {
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
        let query = all().status(status);
        assert_eq!(ids(t, query.clone()).await, expected, "{status}");
        let dead_too = if status == Status::Error { vec![dead.clone()] } else { vec![] };
        assert_eq!(ids(t, query.dead(true)).await, dead_too, "dead and {status}");
    }
    assert_eq!(ids(t, all().dead(true)).await, [dead]);
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
            let page = ids(t, all().status(status).limit(3).before(before)).await;
            let Some(last) = page.last().cloned() else { break };
            before = Some(last);
            seen.extend(page);
            assert!(seen.len() <= 10, "{seen:?}");
        }
        assert_eq!(seen, reversed(&expected), "{status:?}");
    }
    // What comes after the first page began does not shift the next.
    let first = ids(t, all().limit(5)).await;
    submitted.extend(t.submit_all(jobs(3)).await);
    let second = ids(t, all().limit(5).before(first.last().cloned())).await;
    assert_eq!([first, second].concat(), reversed(&submitted[..10]));
}

async fn unknown(t: &Trial<'_>) {
    t.submit(job(1)).await;
    let missing = JobId::from("no-such-job");
    let answer = t.backend.list(all().before(missing.clone())).await;
    assert!(matches!(&answer, Err(Error::NotFound(id)) if *id == missing), "{answer:?}");
}

async fn no_payloads(t: &Trial<'_>) {
    let id = t.end(job(1), TrialEnd::Success).await;
    let listed = t.backend.list(all()).await.expect("list").remove(0);
    assert_eq!((listed.body.as_ref(), listed.result.as_ref()), (None, None));
    let alone = t.backend.get(vec![id.clone()], Detail::Status).await.expect("get").remove(0);
    assert_eq!(listed, alone.into_record(&id).expect("the record"));
}

async fn stable(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(4)).await;
    let claimed = t.claim(4).await;
    t.finish(&claimed[0].key, retry("again")).await;
    t.finish(&claimed[2].key, Outcome::release()).await;
    assert_eq!(ids(t, all()).await, reversed(&submitted));
}

async fn by_prefix(t: &Trial<'_>) {
    let submitted = t.submit_all(jobs(5)).await;
    for id in &submitted {
        for length in [0, 1, 8, 13, 20, id.as_str().len()] {
            let prefix = id.as_str().get(..length).unwrap_or(id.as_str());
            let expected = submitted.iter().rev().filter(|id| id.as_str().starts_with(prefix));
            let expected: Vec<_> = expected.cloned().collect();
            assert_eq!(ids(t, all().id_prefix(prefix)).await, expected, "{prefix}");
            assert_eq!(ids(t, all().id_prefix(prefix).limit(1)).await, expected[..1], "{prefix}");
        }
        assert_eq!(ids(t, all().id_prefix(format!("{id}0"))).await, []);
        assert_eq!(ids(t, all().id_prefix(&id.as_str()[1..])).await, []);
    }
    assert_eq!(ids(t, all().id_prefix("no-such-job")).await, []);
}

async fn by_options(t: &Trial<'_>) {
    let told = r#"a "quoted" \ back, ä"#;
    let [a, b, c, d] = t
        .submit_all(vec![
            job(1).group("g").request_id("r-1").metadata("user", "anna").metadata("note", told),
            job(2).group("g").task(told).request_id("r-2").metadata("user", "bert"),
            job(3).group("G").task("embed").request_id("r-1").metadata("anna", "user"),
            job(4).metadata("task", "embed"),
        ])
        .await
        .try_into()
        .expect("four ids");
    for (query, expected) in [
        (all().group("g"), vec![&b, &a]),
        (all().group("G"), vec![&c]),
        (all().group(""), vec![]),
        (all().request_id("r-1"), vec![&c, &a]),
        (all().request_id("r-"), vec![]),
        (all().request_id("r-1").limit(1), vec![&c]),
        // Where the caller gave none, it is the job's id.
        (all().request_id(d.as_str()), vec![&d]),
        (all().request_id(a.as_str()), vec![]),
        (all().task("embed"), vec![&c]),
        (all().task(told), vec![&b]),
        (all().task("embe"), vec![]),
        (all().metadata("user", "anna"), vec![&a]),
        (all().metadata("note", told).metadata("user", "anna"), vec![&a]),
        (all().metadata("note", told).metadata("user", "bert"), vec![]),
        (all().metadata("user", ""), vec![]),
        (all().group("g").request_id("r-1"), vec![&a]),
        (all().group("g").before(b.clone()), vec![&a]),
        (all().request_id("r-1").before(b.clone()), vec![&a]),
    ] {
        assert_eq!(ids(t, query.clone()).await.iter().collect::<Vec<_>>(), expected, "{query:?}");
    }
    t.backend.cancel(vec![a.clone()]).await.expect("cancel");
    assert_eq!(ids(t, all().group("g")).await, [b.clone(), a.clone()], "whether it is over or not");
    assert_eq!(ids(t, all().group("g").status(Status::Submitted)).await, [b]);
    assert_eq!(ids(t, all().request_id("r-1").status(Status::Cancelled)).await, [a]);
}

async fn by_error(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    let typed = error("CUDA error: out of memory").of_type(Some("AcceleratorError".into()));
    t.finish(&claimed.key, Outcome::Fail(typed)).await;
    let failed = claimed.key.id;
    let claimed = t.start(job(2)).await;
    t.finish(&claimed.key, Outcome::Retry { error: error("out of luck"), delay: t.ticks(LONG) }).await;
    let waiting = claimed.key.id;
    let claimed = t.start(job(3)).await;
    t.finish(&claimed.key, retry("out of memory, at first")).await;
    let done = claimed.key.id;
    t.finish(&t.take().await.key, success(3)).await;
    let cancelled = t.end(job(4), TrialEnd::Cancelled).await;
    t.end(job(5), TrialEnd::Success).await;
    for (error, expected) in [
        ("out of", vec![&done, &waiting, &failed]),
        ("out of memory", vec![&done, &failed]),
        ("Out of memory", vec![]),
        ("%", vec![]),
        ("AcceleratorError", vec![&failed]),
        ("Accelerator", vec![]),
        ("handler", vec![&done, &waiting, &failed]),
        ("cancelled", vec![&cancelled]),
    ] {
        assert_eq!(ids(t, all().error(error)).await.iter().collect::<Vec<_>>(), expected, "{error}");
    }
    assert_eq!(ids(t, all().error("out of").limit(2)).await, [done.clone(), waiting.clone()]);
    assert_eq!(ids(t, all().error("out of").status(Status::Error)).await, [failed]);
    assert_eq!(ids(t, all().error("out of").status(Status::Submitted)).await, [waiting]);
    assert_eq!(ids(t, all().error("out of").status(Status::Success)).await, [done]);
}

async fn by_age(t: &Trial<'_>) {
    let old = t.submit(job(1)).await;
    t.pass(4).await;
    let young = t.submit(job(2)).await;
    let (hour, two) = (Duration::from_secs(3600), t.ticks(2));
    assert_eq!(ids(t, all().older_than(two)).await, std::slice::from_ref(&old));
    assert_eq!(ids(t, all().newer_than(two)).await, std::slice::from_ref(&young));
    assert_eq!(ids(t, all().older_than(two).newer_than(two)).await, []);
    assert_eq!(ids(t, all().older_than(hour)).await, []);
    assert_eq!(ids(t, all().older_than(Duration::ZERO)).await, [young.clone(), old.clone()]);
    assert_eq!(ids(t, all().newer_than(Duration::MAX)).await, [young, old]);
}

async fn all_at_once(t: &Trial<'_>) {
    let labelled = |n| job(n).group(if n % 2 == 0 { "even" } else { "odd" }).metadata("k", "v");
    let submitted = t.submit_all((0..6).map(labelled).chain(jobs(3)).collect()).await;
    t.backend.cancel(submitted[..2].to_vec()).await.expect("cancel");
    let query = all().group("odd").metadata("k", "v").error("cancelled").status(Status::Cancelled);
    assert_eq!(ids(t, query.clone().newer_than(Duration::MAX)).await, [submitted[1].clone()]);
    assert_eq!(ids(t, query.request_id("another")).await, []);
    let waiting = all().group("odd").metadata("k", "v").status(Status::Submitted);
    assert_eq!(ids(t, waiting.clone()).await, [submitted[5].clone(), submitted[3].clone()]);
    assert_eq!(ids(t, waiting.clone().limit(1)).await, [submitted[5].clone()]);
    assert_eq!(ids(t, waiting.limit(1).before(submitted[5].clone())).await, [submitted[3].clone()]);
}
