//! Answers that are lost at a moment of the test's choice, and servers that are started anew.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Error, Json, NewJob, Status,
    backend::{ClaimRequest, Detail, Outcome, Redrive, Settlement},
    sqlite::SqliteBackend,
};
use haulage_http::{HttpBackend, server::Server};
use haulage_servers::{Break, Flaky};
use tempfile::TempDir;

use crate::place::serve;

struct Place {
    store: Arc<dyn Backend>,
    server: Option<Server>,
    flaky: Flaky,
    client: HttpBackend,
    _folder: TempDir,
}

impl Place {
    async fn new(patience: Duration) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let store: Arc<dyn Backend> =
            Arc::new(SqliteBackend::open(folder.path().join("x.db")).await.expect("open"));
        let server = serve(store.clone());
        let flaky = Flaky::start(server.address(), 1);
        let client = HttpBackend::builder(flaky.url()).patience(patience).open().await.expect("open");
        Self { store, server: Some(server), flaky, client, _folder: folder }
    }

    /// One that waits until a server is there again.
    async fn patient() -> Self {
        Self::new(Duration::from_secs(60)).await
    }

    /// One that gives up at once.
    async fn hasty() -> Self {
        Self::new(Duration::ZERO).await
    }

    async fn submit(&self, count: u64) {
        let jobs = (0..count).map(|n| NewJob::new(&n).expect("JSON")).collect();
        self.store.submit(jobs).await.expect("submit");
    }

    async fn visible(&self) -> u64 {
        self.store.stats().await.expect("stats").visible
    }

    /// Another server takes the place of this one, which knows nothing of it.
    fn restart(&mut self) {
        let server = serve(self.store.clone());
        self.flaky.lead_to(server.address());
        self.server = Some(server);
    }
}

fn request(max: usize) -> ClaimRequest {
    ClaimRequest::new("w", Duration::from_secs(300)).max(max).wait(Duration::from_secs(60))
}

fn success(key: &haulage::backend::ClaimKey) -> Settlement {
    Settlement::new(key.clone(), Outcome::Success(Json::parse("1").expect("JSON")))
}

const LOST: [Break; 2] = [Break::LostAnswer, Break::HalfAnswer];

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
async fn a_claim_that_was_given_up_strands_nothing() {
    for fault in LOST {
        let place = Place::hasty().await;
        place.submit(3).await;
        place.flaky.fail_next("/v1/backend/claim", fault);
        let given_up = place.client.claim(request(3), Default::default()).await;
        assert!(matches!(given_up, Err(Error::Unavailable { .. })), "{given_up:?}");
        // The next one has them, and no attempt was lost.
        let claimed = place.client.claim(request(3), Default::default()).await.expect("claim");
        assert_eq!(claimed.len(), 3, "{fault:?}");
        assert!(claimed.iter().all(|job| job.counted == 1), "{claimed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_claim_brings_whose_worker_stops_goes_back() {
    let place = Place::hasty().await;
    place.submit(2).await;
    place.flaky.fail_next("/v1/backend/claim", Break::LostAnswer);
    place.client.claim(request(2), Default::default()).await.expect_err("no answer");
    assert_eq!(place.visible().await, 0);
    place.client.drain().await.expect("drain");
    assert_eq!(place.visible().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_vanishes_while_it_waits_takes_no_job_along() {
    let place = Place::patient().await;
    let client = HttpBackend::builder(place.flaky.url()).open().await.expect("open");
    let claim = tokio::spawn(async move { client.claim(request(1), Default::default()).await });
    // Until it waits on the server, which shows when a job would be taken.
    tokio::time::sleep(Duration::from_millis(300)).await;
    claim.abort();
    assert!(claim.await.expect_err("aborted").is_cancelled());
    // Its runtime, and with it its connection, is gone; the server notices.
    tokio::time::sleep(Duration::from_millis(300)).await;
    place.submit(1).await;
    let claimed = place.client.claim(request(1), Default::default()).await.expect("claim");
    assert_eq!((claimed.len(), claimed[0].counted), (1, 1), "{claimed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_filled_by_a_settle_without_an_answer_is_not_lost() {
    for (place, patient) in [(Place::patient().await, true), (Place::hasty().await, false)] {
        place.submit(2).await;
        let first = place.client.claim(request(1), Default::default()).await.expect("claim").remove(0);
        place.flaky.fail_next("/v1/backend/settle", Break::LostAnswer);
        let joined = place.client.settle_and_claim(vec![success(&first.key)], request(1)).await;
        let second = if patient {
            let (settled, mut claimed) = joined.expect("answered again");
            assert_eq!(*settled[0].as_ref().expect("its status"), Status::Success);
            claimed.remove(0)
        } else {
            joined.expect_err("no answer");
            // As a consumer does: the settle again, alone, and then a claim.
            let settled = place.client.settle(vec![success(&first.key)]).await.expect("settle").remove(0);
            assert_eq!(settled.expect("it was settled by the call that was not answered"), Status::Success);
            place.client.claim(request(1), Default::default()).await.expect("claim").remove(0)
        };
        assert_ne!(second.key.id, first.key.id);
        assert_eq!(second.counted, 1, "patient: {patient}");
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
    tokio::time::sleep(Duration::from_millis(200)).await;
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
