//! What claims bring when answers are lost, servers are started anew, and workers stop.

use std::{sync::Arc, time::Duration};

use haulage::{Backend as _, Error, Status};
use haulage_http::HttpBackend;
use haulage_servers::Break;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::place::{LOST, Place, request, success};

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
    place.open(1).await;
    claim.abort();
    assert!(claim.await.expect_err("aborted").is_cancelled());
    // Its runtime, and with it its connection, is gone; the server notices.
    place.open(0).await;
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
async fn a_claim_that_a_proxy_answers_strands_nothing() {
    for status in [429, 500, 520] {
        let place = Place::hasty().await;
        place.submit(1).await;
        place.flaky.fail_next("/v1/backend/claim", Break::Page(status));
        let unanswered = place.client.claim(request(1), Default::default()).await;
        assert!(matches!(unanswered, Err(Error::Unavailable { .. })), "{status}: {unanswered:?}");
        let claimed = place.client.claim(request(1), Default::default()).await.expect("claim");
        assert_eq!((claimed.len(), claimed[0].counted), (1, 1), "{status}: {claimed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_claim_brought_before_a_restart_comes_to_one_of_two_consumers() {
    let mut place = Place::hasty().await;
    place.submit(2).await;
    place.flaky.fail_next("/v1/backend/claim", Break::LostAnswer);
    place.client.claim(request(1), Default::default()).await.expect_err("no answer");
    place.restart();
    // Both ask what has become of it at the same time.
    for _ in 0..2 {
        place.flaky.fail_next("/v1/backend/stop", Break::Slow(300));
    }
    let claim = || place.client.claim(request(1), Default::default());
    let (one, other) = tokio::join!(claim(), claim());
    let (one, other) = (one.expect("claim").remove(0), other.expect("claim").remove(0));
    assert_ne!(one.key.id, other.key.id, "one job for both");
    assert!(one.key.attempt == 1 && other.key.attempt == 1);
    assert_eq!(place.visible().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_come_though_others_cannot_be_given_back_and_these_go_back_later() {
    let mut place = Place::hasty().await;
    place.submit(3).await;
    place.flaky.fail_next("/v1/backend/claim", Break::LostAnswer);
    place.client.claim(request(3), Default::default()).await.expect_err("no answer");
    place.restart();
    // Three come back, and there is room for one.
    place.flaky.fail_next("/v1/backend/settle", Break::Reset);
    let claimed = place.client.claim(request(1), Default::default()).await.expect("claim");
    assert_eq!(claimed.len(), 1);
    assert!(place.flaky.is_through() && place.visible().await == 0);
    place.client.drain().await.expect("drain");
    assert_eq!(place.visible().await, 2);
    let settled = place.client.settle(vec![success(&claimed[0].key)]).await.expect("settle").remove(0);
    assert_eq!(settled.expect("its status"), Status::Success);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_overtakes_its_claim_is_heard() {
    let place = Arc::new(Place::patient().await);
    place.flaky.fail_next("/v1/backend/claim", Break::Slow(500));
    let stop = CancellationToken::new();
    let claim = {
        let (place, stop) = (Arc::clone(&place), stop.clone());
        tokio::spawn(async move { place.client.claim(request(1), stop).await })
    };
    while !place.flaky.is_through() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    // Unheard, it would wait for 25 s.
    let ended = tokio::time::timeout(Duration::from_secs(15), claim).await;
    assert!(ended.expect("it ends").expect("join").expect("claim").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_repeated_however_long_it_has_waited() {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut place = Place::new(PATIENCE).await;
    let client = HttpBackend::builder(place.flaky.url()).patience(PATIENCE).open().await.expect("open");
    let waiting = tokio::spawn(async move { client.claim(request(1), Default::default()).await });
    place.open(1).await;
    let server = place.server.take().expect("a server");
    let since = Instant::now();
    tokio::time::sleep_until(since + PATIENCE + Duration::from_millis(500)).await;
    place.restart();
    drop(server);
    place.submit(1).await;
    assert_eq!(waiting.await.expect("join").expect("claim").len(), 1);
}
