//! Calls of the backend's side that come more than once, as they stand on the wire.

use std::{sync::atomic::Ordering, time::Duration};

use haulage::{
    Backend, NewJob, Status,
    backend::{ClaimRequest, Claimed, Outcome, Redrive, Settlement},
};
use haulage_http::server::Server;
use hyper::StatusCode;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    client::{Answer, Client, Site},
    store::Store,
};

/// A job whose answers take a quarter of all that a server keeps.
const LARGE: usize = 16 << 20;

/// A call with this id.
async fn call(client: &Client, verb: &str, id: &str, body: &str) -> Answer {
    client.post_with(&format!("/v1/backend/{verb}"), body, &[("haulage-call", id)]).await
}

/// A repeat of one, which began on this server.
async fn again(client: &Client, verb: &str, id: &str, body: &str, began: &str) -> Answer {
    let headers = [("haulage-call", id), ("haulage-began", began)];
    client.post_with(&format!("/v1/backend/{verb}"), body, &headers).await
}

/// The name that a server has given itself.
async fn instance(client: &Client) -> String {
    client.get("/v1/backend").await.header("haulage-instance").to_owned()
}

fn claim(wait: u64) -> String {
    json!({"worker": "w", "max": 1, "lease": 300, "wait": wait}).to_string()
}

fn claimed(answer: &Answer) -> Claimed {
    assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
    let mut jobs: Vec<Claimed> = serde_json::from_slice(&answer.body).expect("jobs");
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

/// Jobs as a call submits them.
fn jobs(body: &str) -> String {
    serde_json::to_string(&[NewJob::new(&body).expect("JSON")]).expect("JSON")
}

/// Submits a large job, and claims it by the call of this id.
async fn claim_large(site: &Site, id: &str) -> Claimed {
    site.backend.submit(vec![NewJob::new(&"x".repeat(LARGE)).expect("JSON")]).await.expect("submit");
    claimed(&call(&site.client(), "claim", id, &claim(60)).await)
}

async fn is_held(store: &dyn Backend, job: &Claimed) -> bool {
    let settled = store.settle(vec![Settlement::new(job.key.clone(), Outcome::release())]).await;
    settled.expect("settle").remove(0).is_ok()
}

#[tokio::test]
async fn every_answer_says_which_server_gave_it() {
    let (site, other) = (Site::new().await, Site::new().await);
    let name = instance(&site.client()).await;
    assert!(name.len() >= 16 && name != instance(&other.client()).await, "{name}");
    for path in ["/v1/stats", "/v1/jobs/no-such-job", "/no-such-path"] {
        assert_eq!(site.client().get(path).await.header("haulage-instance"), name, "{path}");
    }
}

#[tokio::test]
async fn an_id_that_two_calls_have_is_noticed() {
    let site = Site::new().await;
    let client = site.client();
    let first = call(&client, "submit", "c-1", &jobs("a")).await;
    assert_eq!(first.status, StatusCode::OK);
    // As copies of one process would do it.
    for (verb, body) in [("submit", jobs("b")), ("claim", claim(0)), ("cancel", "[]".into())] {
        let refused = call(&client, verb, "c-1", &body).await.problem(422);
        assert_eq!(
            (&refused["type"], &refused["field"]),
            (&"haulage:call_conflict".into(), &"haulage-call".into())
        );
    }
    assert_eq!(call(&client, "submit", "c-1", &jobs("a")).await.body, first.body, "a repeat is one");
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1);
}

#[tokio::test]
async fn what_is_not_known_any_more_is_not_made_again_in_secret() {
    let site = Site::new().await;
    let client = site.client();
    let here = instance(&client).await;
    let submitted = call(&client, "submit", "submit", &jobs("a")).await;
    let job = claimed(&call(&client, "claim", "claim", &claim(60)).await);
    let success = Settlement::new(job.key.clone(), Outcome::Success(job.body.clone()));
    let settle = json!({"settlements": [success]}).to_string();
    let settled = call(&client, "settle", "settle", &settle).await;
    assert_eq!(settled.json()["settled"], json!([{"ok": "SUCCESS"}]));
    let held = call(&client, "submit", "held", &jobs("b")).await;
    let first = claimed(&call(&client, "claim", "first", &claim(60)).await);
    assert_eq!(
        again(&client, "submit", "submit", &jobs("a"), &here).await.body,
        submitted.body,
        "kept so far"
    );

    // More answers than there is room for.
    for n in 0..4 {
        claim_large(&site, &format!("large-{n}")).await;
    }
    let unknown = again(&client, "submit", "submit", &jobs("a"), &here).await.problem(503);
    assert_eq!(unknown["type"], "haulage:unknown_call");
    // That stays so.
    again(&client, "submit", "submit", &jobs("a"), &here).await.problem(503);
    again(&client, "submit", "held", &jobs("b"), &here).await.problem(503);
    assert_eq!(held.status, StatusCode::OK);
    assert_eq!(again(&client, "settle", "settle", &settle, &here).await.body, settled.body);
    // What a claim brought goes back before it is made again.
    let second = claimed(&again(&client, "claim", "first", &claim(60), &here).await);
    assert_eq!((&second.key.id, second.key.attempt, second.counted), (&first.key.id, 2, 1), "{second:?}");
    assert!(!is_held(&*site.backend, &first).await && is_held(&*site.backend, &second).await);
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1, "only what was just let go");
}

#[tokio::test]
async fn what_a_call_without_its_answer_brought_can_be_given_back() {
    let site = Site::new().await;
    site.backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    claimed(&call(&site.client(), "claim", "first", &claim(60)).await);
    for n in 0..4 {
        claim_large(&site, &format!("large-{n}")).await;
    }
    let stop = json!({"call": "first", "give_back": true}).to_string();
    assert_eq!(site.client().post("/v1/backend/stop", &stop).await.json()["known"], true);
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1);
}

#[tokio::test]
async fn a_repeat_that_comes_too_late_is_told() {
    let site = Site::new().await;
    let client = site.client();
    let first = call(&client, "submit", "c-1", &jobs("a")).await;
    assert_eq!(again(&client, "submit", "c-1", &jobs("a"), "long-ago").await.body, first.body, "it is known");
    let unknown = again(&client, "submit", "c-2", &jobs("a"), "long-ago").await.problem(503);
    assert_eq!(unknown["type"], "haulage:unknown_call");
    // Of one that began here, and is not known, nothing has arrived.
    let here = instance(&client).await;
    assert_eq!(again(&client, "submit", "c-3", &jobs("a"), &here).await.status, StatusCode::OK);
    assert_eq!(site.backend.stats().await.expect("stats").visible, 2);
}

#[tokio::test]
async fn a_redrive_that_an_earlier_server_may_have_made_is_not_made_again() {
    let site = Site::new().await;
    let client = site.client();
    client.submit(r#"{"body": 1}"#).await;
    let job = site.claim().await;
    let error = haulage::JobError::new(haulage::FailureKind::Handler, "no");
    site.settle(&job, Outcome::Fail(error)).await;
    let asked = |what: &Redrive| serde_json::to_string(what).expect("JSON");
    for (id, what) in [("c-1", Redrive::dead(10)), ("c-2", Redrive::Jobs(vec![job.key.id.clone()]))] {
        let what = asked(&what);
        let unknown = again(&client, "redrive", id, &what, "another").await.problem(503);
        assert_eq!(unknown["type"], "haulage:unknown_call", "{what}");
        assert!(
            unknown["remedy"].as_str().is_some_and(|remedy| remedy.contains("dead letters")),
            "{unknown}"
        );
        let record = client.get(&format!("/v1/jobs/{}", job.key.id)).await.json();
        assert_eq!(record["status"], json!(Status::Error), "{what}");
        let here = instance(&client).await;
        let made = again(&client, "redrive", "c-3", &asked(&Redrive::Jobs(Vec::new())), &here).await;
        assert_eq!(made.json(), json!([]), "one that began here has not been made");
    }
}

/// Waits until so many requests are being answered.
async fn open(server: &Server, requests: usize) {
    let reached = async {
        while server.open_requests() != requests {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    assert!(reached.is_ok(), "{} requests are open", server.open_requests());
}

/// The claim of this id comes again while what it brought goes back: it brings the job anew.
async fn comes_again(client: &Client, server: &Server, store: &Store, began: &str, others: usize) -> Claimed {
    let repeat = {
        let (client, began) = (client.clone(), began.to_owned());
        tokio::spawn(async move { again(&client, "claim", "c-1", &claim(60), &began).await })
    };
    open(server, others + 1).await;
    // It waits for the store, which waits for us.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!repeat.is_finished(), "it was given what goes back");
    store.holds_settles.send_replace(false);
    claimed(&repeat.await.expect("join"))
}

#[tokio::test]
async fn a_claim_that_is_being_given_up_is_not_handed_out() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    let began = instance(&client).await;
    // Its client goes away while it waits.
    let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
    let body = claim(60);
    let head = format!(
        "POST /v1/backend/claim HTTP/1.1\r\nhost: localhost\r\nhaulage-call: c-1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("send");
    open(&site.server, 1).await;
    drop(stream);
    open(&site.server, 0).await;
    let mut came = store.settles.subscribe();
    store.holds_settles.send_replace(true);
    site.backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    // Nobody has come back: the job goes back to the queue.
    Store::next_settle(&mut came).await;
    let job = comes_again(&client, &site.server, &store, &began, 0).await;
    assert_eq!((job.key.attempt, job.counted), (2, 1), "{job:?}");
    assert!(is_held(&*site.backend, &job).await);
}

#[tokio::test]
async fn a_claim_that_its_client_gives_back_is_not_handed_out() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    let began = instance(&client).await;
    site.backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    claimed(&call(&client, "claim", "c-1", &claim(60)).await);
    let mut came = store.settles.subscribe();
    store.holds_settles.send_replace(true);
    let stop = {
        let client = client.clone();
        let stop = json!({"call": "c-1", "give_back": true}).to_string();
        tokio::spawn(async move { client.post("/v1/backend/stop", &stop).await })
    };
    Store::next_settle(&mut came).await;
    let job = comes_again(&client, &site.server, &store, &began, 1).await;
    assert_eq!((job.key.attempt, job.counted), (2, 1), "{job:?}");
    assert!(is_held(&*site.backend, &job).await);
    assert_eq!(stop.await.expect("join").json()["known"], true);
}

#[tokio::test]
async fn a_job_that_cannot_be_given_back_now_is_given_back_later() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    site.backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    claimed(&call(&client, "claim", "c-1", &claim(60)).await);
    let stop = json!({"call": "c-1", "give_back": true}).to_string();
    store.refuses_settles.store(true, Ordering::Relaxed);
    client.post("/v1/backend/stop", &stop).await.problem(503);
    assert_eq!(site.backend.stats().await.expect("stats").visible, 0);
    store.refuses_settles.store(false, Ordering::Relaxed);
    assert_eq!(client.post("/v1/backend/stop", &stop).await.json()["known"], true);
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1);
    assert_eq!(client.post("/v1/backend/stop", &stop).await.json()["known"], false);
}

#[tokio::test]
async fn who_waits_for_a_claim_that_is_given_back_is_told() {
    let (site, _) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { call(&client, "claim", "c-1", &claim(60)).await })
    };
    open(&site.server, 1).await;
    let stop = json!({"call": "c-1", "give_back": true}).to_string();
    assert_eq!(client.post("/v1/backend/stop", &stop).await.json()["known"], true);
    assert_eq!(waiting.await.expect("join").problem(503)["type"], "haulage:given_up");
    drop(site);
}

#[tokio::test]
async fn a_claim_of_the_same_id_for_other_jobs_is_the_same_claim() {
    let site = Site::new().await;
    let request = ClaimRequest::new("w", Duration::from_secs(60));
    site.backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    let ask = |request: &ClaimRequest| serde_json::to_string(request).expect("JSON");
    let client = site.client();
    let first = call(&client, "claim", "c-1", &ask(&request)).await;
    let same = again(&client, "claim", "c-1", &ask(&request.max(3)), &instance(&client).await).await;
    assert_eq!(claimed(&first).key, claimed(&same).key);
}
