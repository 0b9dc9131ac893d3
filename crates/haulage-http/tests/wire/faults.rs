//! Answers that are lost at a moment of the test's choice, and servers that are started anew.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Error, NewJob, Status,
    backend::{Detail, Outcome, Redrive, Settlement},
};
use haulage_http::HttpBackend;
use haulage_servers::Break;

use crate::place::{LOST, Place, request, success};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_and_not_answered_is_not_done_again() {
    for fault in LOST {
        let place = Place::patient().await;
        place.flaky.fail_next("/v1/backend/submit", fault);
        let submitted = place.client.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
        let id = submitted.into_iter().next().expect("one").expect("accepted").id;
        assert_eq!(place.visible().await, 1, "{fault:?}: once");

        place.flaky.fail_next("/v1/backend/claim", fault);
        let mut claimed = place.client.claim(request(1), Default::default()).await.expect("claim");
        let job = claimed.pop().expect("the job");
        assert_eq!((job.key.id.clone(), job.key.attempt), (id.clone(), 1), "{fault:?}: the same claim");

        place.flaky.fail_next("/v1/backend/settle", fault);
        let failed = Settlement::new(
            job.key.clone(),
            Outcome::Fail(haulage::JobError::new(haulage::FailureKind::Handler, "no")),
        );
        let settled = place.client.settle(vec![failed]).await.expect("settle").remove(0);
        assert_eq!(settled.expect("its status"), Status::Error, "{fault:?}");

        place.flaky.fail_next("/v1/backend/redrive", fault);
        let redriven = place.client.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive");
        assert_eq!(redriven, std::slice::from_ref(&id), "{fault:?}");
        place.flaky.fail_next("/v1/backend/cancel", fault);
        let cancelled = place.client.cancel(vec![id]).await.expect("cancel");
        assert_eq!(cancelled, [haulage::backend::Cancellation::Done], "{fault:?}");
        assert!(place.flaky.is_through());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_started_anew_goes_unnoticed() {
    let mut place = Place::patient().await;
    // Who waits for a job.
    let client = Arc::new(HttpBackend::builder(place.flaky.url()).open().await.expect("open"));
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.claim(request(1), Default::default()).await })
    };
    place.open(1).await;
    let old = place.server.take().expect("a server");
    assert!(old.stop(Duration::from_secs(30)).await, "nothing is left open");
    place.restart();
    place.submit(1).await;
    let job = waiting.await.expect("join").expect("claim").remove(0);
    // Who holds one: the claim is that of the store.
    place.server = None;
    place.restart();
    let settled = client.settle(vec![success(&job.key)]).await.expect("settle").remove(0);
    assert_eq!(settled.expect("its status"), Status::Success);
    let found = client.get(vec![job.key.id.clone()], Detail::Result).await.expect("get").remove(0);
    assert_eq!(found.into_record(&job.key.id).expect("a record").attempt, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_that_the_old_server_made_counts_at_the_new_one() {
    let mut place = Place::patient().await;
    place.submit(1).await;
    let job = place.client.claim(request(1), Default::default()).await.expect("claim").remove(0);
    // It was made, and its answer is lost with the server.
    place.store.settle(vec![success(&job.key)]).await.expect("settle").remove(0).expect("settled");
    place.flaky.fail_next("/v1/backend/settle", Break::Reset);
    place.restart();
    let settled = place.client.settle(vec![success(&job.key)]).await.expect("settle").remove(0);
    assert_eq!(settled.expect("its status"), Status::Success);
    // Another outcome is another matter.
    let other = Settlement::new(job.key.clone(), Outcome::Cancelled);
    let refused = place.client.settle(vec![other]).await.expect("settle").remove(0);
    assert!(matches!(refused, Err(Error::LostClaim { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_that_the_old_server_may_have_made_is_not_made_again_in_secret() {
    let mut place = Place::patient().await;
    place.flaky.fail_next("/v1/backend/submit", Break::Reset);
    place.restart();
    let unsure = place.client.submit(vec![NewJob::new(&1).expect("JSON")]).await;
    assert!(
        matches!(&unsure, Err(Error::Unavailable { message, .. }) if message.contains("submit them again")),
        "{unsure:?}"
    );
    // Once it is known that there is another server, one that has not arrived has not been made.
    place.client.ping().await.expect("ping");
    place.flaky.fail_next("/v1/backend/submit", Break::Reset);
    let submitted = place.client.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    assert!(submitted[0].is_ok(), "{submitted:?}");
    place.flaky.fail_next("/v1/backend/submit", Break::Reset);
    place.restart();
    let keyed = NewJob::new(&1).expect("JSON").idempotency_key("k");
    assert!(place.client.submit(vec![keyed]).await.expect("submit")[0].is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_cancels_are_pushed() {
    let place = Place::patient().await;
    let mut signals = place.client.signals();
    let outcomes = signals.outcomes.as_mut().expect("there are signals");
    // The stream is open once it has said so.
    outcomes.changed().await.expect("a signal");
    place.submit(1).await;
    let job = place.client.claim(request(1), Default::default()).await.expect("claim").remove(0);
    outcomes.mark_unchanged();
    let cancels = signals.cancels.as_mut().expect("there are signals");
    cancels.mark_unchanged();
    place.store.cancel(vec![job.key.id.clone()]).await.expect("cancel");
    tokio::time::timeout(Duration::from_secs(60), cancels.changed())
        .await
        .expect("a signal")
        .expect("a signal");
    place.store.settle(vec![success(&job.key)]).await.expect("settle").remove(0).expect("settled");
    tokio::time::timeout(Duration::from_secs(60), outcomes.changed())
        .await
        .expect("a signal")
        .expect("a signal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_and_results_go_both_ways() {
    const JOBS: usize = 24;
    let place = Place::patient().await;
    let large = NewJob::new(&"x".repeat(1 << 20)).expect("JSON");
    let jobs = vec![large; JOBS];
    let ids: Vec<_> = place
        .client
        .submit(jobs)
        .await
        .expect("submit")
        .into_iter()
        .map(|new| new.expect("new").id)
        .collect();
    let mut claimed = Vec::new();
    while claimed.len() < JOBS {
        claimed.extend(place.client.claim(request(JOBS), Default::default()).await.expect("claim"));
    }
    let done = claimed.iter().map(|job| Settlement::new(job.key.clone(), Outcome::Success(job.body.clone())));
    let settled = place.client.settle(done.collect()).await.expect("settle");
    assert!(settled.len() == JOBS && settled.iter().all(|status| matches!(status, Ok(Status::Success))));
    let found = place.client.get(ids, Detail::Full).await.expect("get");
    let size = |found: haulage::backend::Lookup| match found {
        haulage::backend::Lookup::Found(record) => record.result.expect("a result").size(),
        other => panic!("{other:?}"),
    };
    assert!(found.into_iter().map(size).all(|size| size == (1 << 20) + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_proxy_is_not_the_answer() {
    for status in [429, 500, 502, 520] {
        let place = Place::patient().await;
        place.flaky.fail_next("/v1/backend/submit", Break::Page(status));
        let submitted = place.client.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
        assert!(submitted[0].is_ok() && place.visible().await == 1, "{status}: once");
        place.flaky.fail_next("/v1/backend/get", Break::Page(status));
        let id = submitted.into_iter().next().expect("one").expect("accepted").id;
        place.client.get(vec![id], Detail::Status).await.expect("get");
        assert!(place.flaky.is_through());
    }
    // That of something else than a server of Haulage is.
    let place = Place::patient().await;
    place.flaky.fail_next("/v1/backend/ping", Break::Page(501));
    let refused = place.client.ping().await;
    assert!(matches!(refused, Err(Error::Config(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_never_begin_are_asked_for_again() {
    let place = Place::patient().await;
    place.flaky.fail_next("/v1/backend/signals", Break::Silence);
    let mut signals = place.client.signals();
    let outcomes = signals.outcomes.as_mut().expect("there are signals");
    // Half a minute is what a silent one is given.
    let heard = tokio::time::timeout(Duration::from_secs(120), outcomes.changed()).await;
    heard.expect("a signal").expect("a signal");
    assert!(place.flaky.is_through());
}
