//! What goes over the wire in gzip.

use std::time::Duration;

use haulage::{
    Backend as _, Json, NewJob,
    backend::{Detail, Lookup, Outcome, Settlement},
};
use haulage_http::HttpBackend;

use crate::place::{Place, request};

/// How many bytes a job of a megabyte, with a result of one, takes on its way.
async fn cost(url: impl FnOnce(&str) -> String, compress: Option<bool>) -> u64 {
    let place = Place::patient().await;
    let mut builder = HttpBackend::builder(url(&place.flaky.url()));
    if let Some(compress) = compress {
        builder = builder.compress(compress);
    }
    let client = builder.open().await.expect("open");
    let before = place.flaky.passed();
    let large = Json::encode(&"0123456789".repeat(100_000)).expect("JSON");
    let job = NewJob::from_json(large.clone());
    let id = client.submit(vec![job]).await.expect("submit").remove(0).expect("submitted").id;
    let claimed = client.claim(request(1), Default::default()).await.expect("claim").pop().expect("a job");
    assert_eq!(claimed.body, large);
    let settlement = Settlement::new(claimed.key, Outcome::Success(large.clone()));
    client.settle(vec![settlement]).await.expect("settle").remove(0).expect("settled");
    match client.get(vec![id], Detail::Result).await.expect("get").remove(0) {
        Lookup::Found(record) => assert_eq!(record.result, Some(large)),
        other => panic!("{other:?}"),
    }
    place.flaky.passed() - before
}

#[tokio::test]
async fn large_bodies_are_compressed_where_that_is_asked_for() {
    let all = 4 << 20;
    for compress in [Some(false), None] {
        let plain = cost(str::to_owned, compress).await;
        assert!((all - 500_000..all + 500_000).contains(&plain), "{compress:?}: {plain}");
    }
    let packed = cost(str::to_owned, Some(true)).await;
    assert!(packed < all / 20, "{packed}");
    let packed = cost(|url| format!("{url}?compress=true"), None).await;
    assert!(packed < all / 20, "{packed}");
}

#[tokio::test]
async fn small_ones_go_as_they_are() {
    let place = Place::patient().await;
    let client = HttpBackend::builder(place.flaky.url()).compress(true).open().await.expect("open");
    // It is found in what passes, so it is not compressed.
    place.flaky.fail_next("a small body", haulage_servers::Break::Slow(0));
    let job = NewJob::new(&"a small body").expect("JSON");
    client.submit(vec![job]).await.expect("submit").remove(0).expect("submitted");
    assert!(place.flaky.is_through());
    tokio::time::timeout(Duration::from_secs(60), client.ping()).await.expect("in time").expect("ping");
}
