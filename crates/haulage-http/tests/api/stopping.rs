//! The end of a server.

use std::time::Duration;

use haulage::Backend as _;
use haulage_http::HttpBackend;

use crate::client::Site;

#[tokio::test]
async fn waits_end_with_503_and_nothing_is_lost() {
    let site = Site::new().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    let worker = HttpBackend::builder(site.server.url()).patience(Duration::ZERO).open().await.expect("open");
    let waits = {
        let (client, id) = (client.clone(), id.clone());
        tokio::spawn(async move {
            let (path, result) = (format!("/v1/jobs/{id}?wait=60"), format!("/v1/jobs/{id}/result?wait=60"));
            let submit = client.post_with("/v1/jobs", r#"{"body": 2}"#, &[("prefer", "wait=60")]);
            tokio::join!(client.get(&path), client.get(&result), submit)
        })
    };
    let queue: haulage::QueueName = "empty".parse().expect("a name");
    let request =
        haulage::backend::ClaimRequest::new("w", Duration::from_secs(60)).wait(Duration::from_secs(60));
    let request = request.queues(queue, 0);
    let claim = tokio::spawn(async move { worker.claim(request, Default::default()).await });
    // Until all of them wait.
    while site.backend.stats().await.expect("stats").visible < 2 || site.server.open_requests() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let Site { server, backend, folder } = site;
    assert!(server.stop(Duration::from_secs(30)).await, "nothing is left open");
    let (record, result, submitted) = waits.await.expect("waits");
    for answer in [record, result] {
        assert_eq!(answer.problem(503)["type"], "haulage:stopping");
        assert!(answer.header("retry-after").parse::<u64>().is_ok());
    }
    // What was submitted is submitted, and its id is told.
    assert_eq!(submitted.status.as_u16(), 202, "{submitted:?}");
    assert!(submitted.json()["id"].is_string());
    let claimed = claim.await.expect("claim");
    assert!(matches!(claimed, Err(haulage::Error::Unavailable { .. })), "{claimed:?}");
    assert_eq!(backend.stats().await.expect("stats").visible, 2);
    drop(folder);
}
