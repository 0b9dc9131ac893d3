//! What becomes of jobs is told to their webhooks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use haulage::{
    Backend, FailureKind, JobError, NewJob, Webhook, WebhookEvent,
    backend::{Delivery, DeliveryQuery, Outcome},
};
use haulage_http::{
    HttpBackend,
    server::{Builder, Key, KeyFile, Scope, Server, WebhookSecret, Webhooks},
};
use hyper::StatusCode;
use ring::hmac;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::Site,
    receiver::{Received, Receiver},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server that tells receivers on this machine.
fn telling(builder: Builder, folder: &TempDir) -> Builder {
    builder.webhooks(set_up(folder).allow("127.0.0.0/8".parse().expect("a network")))
}

fn set_up(folder: &TempDir) -> Webhooks {
    let path = folder.path().join("secrets");
    std::fs::write(&path, format!("{SECRET}\n")).expect("write");
    Webhooks::new(path)
}

async fn site() -> Site {
    Site::with(telling).await
}

/// Submits a job that tells of its end there, and ends it.
async fn ended(site: &Site, url: &str) -> String {
    let job = NewJob::new(&1).expect("JSON").webhook(Webhook::new(url));
    let id = site.backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted").id;
    site.backend.cancel(vec![id.clone()]).await.expect("cancel");
    id.to_string()
}

/// Waits until a delivery is as it should be.
async fn delivery(site: &Site, is_so: impl Fn(&Delivery) -> bool) -> Delivery {
    let look = async {
        loop {
            let listed =
                site.backend.deliveries().expect("webhooks").list_deliveries(DeliveryQuery::new(100)).await;
            if let Some(found) = listed.expect("list").into_iter().find(&is_so) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect("such a delivery")
}

/// Waits until nothing is left to be told.
async fn all_told(site: &Site) {
    let look = async {
        loop {
            let listed =
                site.backend.deliveries().expect("webhooks").list_deliveries(DeliveryQuery::new(100)).await;
            if listed.expect("list").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect("all of it was told");
}

/// Checks a signature as the specification of Standard Webhooks says.
fn verify(received: &Received, secret: &str, signature: &str) {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
    let signed = format!(
        "{}.{}.{}",
        received.header("webhook-id"),
        received.header("webhook-timestamp"),
        received.body
    );
    let tag = STANDARD.decode(signature.strip_prefix("v1,").expect("a version")).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature");
}

#[tokio::test]
async fn the_end_of_a_job_is_told_and_signed() {
    let site = site().await;
    let mut receiver = Receiver::new().await;
    let webhook = format!(r#"{{"url": "{}", "events": ["ended", "attempt_failed"]}}"#, receiver.url());
    let id = site.client().submit(&format!(r#"{{"body": "secret", "webhook": {webhook}}}"#)).await;
    let job = site.claim().await;
    let error = JobError::new(FailureKind::Handler, "not yet");
    site.settle(&job, Outcome::Retry { error, delay: Duration::ZERO }).await;
    let failed = receiver.next().await;
    assert_eq!(failed.json()["type"], "job.attempt_failed");
    assert_eq!(failed.json()["data"]["error"]["message"], "not yet");
    site.succeed(r#"{"n": 1}"#).await;
    let ended = receiver.next().await;
    assert_eq!(
        (ended.path.as_str(), ended.header("content-type")),
        ("/hooks?token=secret", "application/json")
    );
    let body = ended.json();
    assert_eq!((&body["type"], &body["data"]["id"]), (&"job.ended".into(), &id.as_str().into()));
    assert_eq!((&body["data"]["status"], &body["data"]["result"]["n"]), (&"SUCCESS".into(), &1.into()));
    assert!(!ended.body.contains("secret"), "neither the job's body nor the token: {}", ended.body);
    assert_ne!(ended.header("webhook-id"), failed.header("webhook-id"));
    let sent: i64 = ended.header("webhook-timestamp").parse().expect("seconds");
    let now = site.backend.clock().now().as_micros() / 1_000_000;
    assert!((now - 120..=now + 1).contains(&sent), "{sent} is not {now}");
    for received in [&failed, &ended] {
        verify(received, SECRET, received.header("webhook-signature"));
    }
    all_told(&site).await;
    assert!(receiver.rest().is_empty(), "once");
    // Whoever may see a record does not see the token.
    let record = site.client().get(&format!("/v1/jobs/{id}")).await.text();
    assert!(record.contains("/hooks?…") && !record.contains("token"), "{record}");
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_sign() {
    let site = site().await;
    let mut receiver = Receiver::new().await;
    let other = WebhookSecret::create().expect("a secret");
    std::fs::write(site.folder.path().join("secrets"), format!("{other}\n{SECRET}\n")).expect("write");
    let both = async {
        loop {
            ended(&site, &receiver.url()).await;
            let received = receiver.next().await;
            if received.header("webhook-signature").contains(' ') {
                return received;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let received = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the file is read again");
    let signatures: Vec<_> = received.header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2);
    verify(&received, &other, signatures[0]);
    verify(&received, SECRET, signatures[1]);
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_under_the_same_id() {
    let site = Site::standing_still_with(telling).await;
    let mut receiver =
        Receiver::answering(&[(503, "retry-after", "30"), (500, "x", "y"), (200, "x", "y")]).await;
    ended(&site, &receiver.url()).await;
    let first = receiver.next().await;
    let waits = delivery(&site, |delivery| delivery.error.is_some()).await;
    assert!(waits.error.as_ref().is_some_and(|error| error.contains("503")), "{waits:?}");
    let now = site.backend.clock().now();
    assert_eq!(waits.due_at, Some(now.after(Duration::from_secs(30))), "as long as it asks for");
    site.backend.clock().advance(Duration::from_secs(29));
    // It looks once in a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(receiver.rest().is_empty(), "not before its time");
    site.backend.clock().advance(Duration::from_secs(1));
    let second = receiver.next().await;
    delivery(&site, |delivery| delivery.error.as_ref().is_some_and(|error| error.contains("500"))).await;
    site.backend.clock().advance(Duration::from_secs(10));
    let third = receiver.next().await;
    all_told(&site).await;
    for again in [&second, &third] {
        assert_eq!((again.header("webhook-id"), &again.body), (first.header("webhook-id"), &first.body));
        verify(again, SECRET, again.header("webhook-signature"));
    }
    let times: BTreeSet<_> = [&first, &second, &third].map(|one| one.header("webhook-timestamp")).into();
    assert_eq!(times.len(), 3, "each try has its own time: {times:?}");
}

#[tokio::test]
async fn gone_is_the_end_until_somebody_redrives_it() {
    let site = site().await;
    let client = site.client();
    let mut receiver = Receiver::answering(&[(410, "x", "y"), (200, "x", "y")]).await;
    let id = ended(&site, &receiver.url()).await;
    receiver.next().await;
    let dead = delivery(&site, |delivery| delivery.dead_at.is_some()).await;
    let listed = client.get("/v1/webhooks?dead=true").await.json();
    let shown = &listed["deliveries"][0];
    assert_eq!((&shown["id"], &shown["job"]), (&dead.id.as_str().into(), &id.as_str().into()));
    assert_eq!((&shown["event"], &shown["tries"]), (&"ended".into(), &1.into()));
    assert!(shown["error"].as_str().is_some_and(|error| error.contains("410")), "{listed}");
    assert!(shown["url"].as_str().is_some_and(|url| url.ends_with("/hooks?…")), "{listed}");
    let of_job = client.get(&format!("/v1/webhooks?job={id}&dead=true")).await.json();
    assert_eq!(of_job["deliveries"].as_array().map(Vec::len), Some(1));
    assert_eq!(client.get("/v1/webhooks?queue=other").await.json()["deliveries"], Value::Array(Vec::new()));
    client.get("/v1/webhooks?limit=0").await.problem(422);

    let path = format!("/v1/webhooks/{}/redrive", dead.id);
    assert_eq!(client.post(&path, "").await.json()["redriven"], true);
    let again = receiver.next().await;
    assert_eq!(again.header("webhook-id"), dead.id);
    all_told(&site).await;
    let gone = client.post(&path, "").await.problem(404);
    assert!(gone["detail"].as_str().is_some_and(|detail| detail.contains("no delivery")), "{gone}");
}

#[tokio::test]
async fn a_delivery_that_is_not_dead_is_not_redriven() {
    let site = Site::standing_still_with(telling).await;
    let mut receiver = Receiver::answering(&[(500, "x", "y")]).await;
    ended(&site, &receiver.url()).await;
    receiver.next().await;
    let waits = delivery(&site, |delivery| delivery.error.is_some()).await;
    site.client().post(&format!("/v1/webhooks/{}/redrive", waits.id), "").await.problem(409);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let site = site().await;
    let mut elsewhere = Receiver::new().await;
    let place: &'static str = format!("http://127.0.0.1:{}/elsewhere", elsewhere.port()).leak();
    for status in [301, 302, 303, 307, 308] {
        let answers: &'static [(u16, &str, &str)] = vec![(status, "location", place)].leak();
        let mut receiver = Receiver::answering(answers).await;
        let id = ended(&site, &receiver.url()).await;
        receiver.next().await;
        let is_it = |delivery: &Delivery| delivery.job.as_str() == id && delivery.error.is_some();
        let error = delivery(&site, is_it).await.error.expect("why");
        assert!(
            error.contains(&status.to_string()) && error.contains("redirects are not followed"),
            "{error}"
        );
        assert!(!error.contains("elsewhere"), "{error}");
    }
    assert!(elsewhere.rest().is_empty());
}

#[tokio::test]
async fn what_would_not_be_told_is_refused_at_submit() {
    let deaf = Site::new().await;
    let problem =
        deaf.client().post("/v1/jobs", r#"{"body": 1, "webhook": "https://a.example"}"#).await.problem(422);
    assert_eq!(problem["field"], "webhook");
    assert!(
        problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("haulage webhook secret")),
        "{problem}"
    );
    // The same for workers' programs, and for each line of many.
    let client = HttpBackend::connect(&deaf.server.url()).await.expect("connect");
    let job = || NewJob::new(&1).expect("JSON").webhook(Webhook::new("https://a.example"));
    client.submit(vec![job()]).await.expect_err("refused");
    let lines = "{\"body\": 1}\n{\"body\": 2, \"webhook\": \"https://a.example\"}\n";
    let jsonl = [("content-type", "application/jsonl")];
    let answers = deaf.client().send(hyper::Method::POST, "/v1/jobs", &jsonl, lines).await.text();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(answers[0].get("id").is_some(), "{answers:?}");
    assert_eq!(answers[1]["error"]["field"], "webhook");

    // No address of this machine or its network, unless it is named; and https alone.
    let strict = Site::with(|builder, folder| builder.webhooks(set_up(folder))).await;
    for (url, why) in [
        ("http://a.example/x", "over HTTPS only"),
        ("https://127.0.0.1/x", "not a public address"),
        ("https://[::1]:8443/x", "not a public address"),
        ("https://[::ffff:10.0.0.1]/x", "not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"),
        ("ftp://a.example", "not a URL"),
        ("https://me:secret@a.example", "a password"),
    ] {
        let problem =
            strict.client().post("/v1/jobs", &format!(r#"{{"body": 1, "webhook": "{url}"}}"#)).await;
        let problem = problem.problem(422);
        assert_eq!(problem["field"], "webhook", "{url}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{url}: {problem}");
    }
    strict.client().submit(r#"{"body": 1, "webhook": "https://a.example"}"#).await;
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_reached() {
    let strict = Site::with(|builder, folder| builder.webhooks(set_up(folder))).await;
    let mut receiver = Receiver::new().await;
    let id = ended(&strict, &format!("https://localhost:{}/x", receiver.port())).await;
    let is_it = |delivery: &Delivery| delivery.job.as_str() == id && delivery.error.is_some();
    let error = delivery(&strict, is_it).await.error.expect("why");
    assert!(error.contains("the address of this name is not a public address"), "{error}");
    // What came into the store by another way is looked at, too.
    let plain = ["localhost", "0x7f.1"].map(|name| format!("http://{name}:{}/x", receiver.port()));
    for url in plain.into_iter().chain([receiver.url()]) {
        let id = ended(&strict, &url).await;
        let is_it = |delivery: &Delivery| delivery.job.as_str() == id && delivery.error.is_some();
        let error = delivery(&strict, is_it).await.error.expect("why");
        assert!(error.contains("without TLS"), "{url}: {error}");
    }
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn a_receiver_that_is_slow_holds_up_no_other() {
    let site = site().await;
    let mut slow = Receiver::slow().await;
    for _ in 0..300 {
        ended(&site, &slow.url()).await;
    }
    slow.next().await;
    let mut quick = Receiver::new().await;
    ended(&site, &quick.url()).await;
    quick.next().await;
    // A few at a time, so that a receiver is not overrun either.
    assert!(slow.rest().len() < 16);
    slow.answers.add_permits(1000);
    all_told_of(&mut slow, 300 - 16).await;
}

async fn all_told_of(receiver: &mut Receiver, count: usize) {
    for _ in 0..count {
        receiver.next().await;
    }
}

#[tokio::test]
async fn several_servers_share_the_work() {
    let site = Site::with(|builder, folder| builder.webhooks(set_up(folder).leave_to_others())).await;
    let mut receiver = Receiver::new().await;
    let mut jobs = BTreeSet::new();
    for _ in 0..60 {
        jobs.insert(ended(&site, &receiver.url()).await);
    }
    assert!(receiver.rest().is_empty(), "this server leaves it to others");
    let others: Vec<Server> = (0..2)
        .map(|_| {
            let builder = Server::builder(Arc::clone(&site.backend)).listen("127.0.0.1:0");
            telling(builder, &site.folder).start().expect("a server")
        })
        .collect();
    let mut told = BTreeSet::new();
    for _ in 0..60 {
        let received = receiver.next().await;
        told.insert(received.json()["data"]["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(told, jobs);
    all_told(&site).await;
    assert!(receiver.rest().is_empty(), "each was told once");
    drop(others);
}

#[tokio::test]
async fn a_server_that_stops_ends_what_it_is_telling() {
    let Site { server, backend, folder: _folder } = site().await;
    let mut receiver = Receiver::slow().await;
    let job = NewJob::new(&1).expect("JSON").webhook(Webhook::new(receiver.url()));
    let id = backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted").id;
    backend.cancel(vec![id]).await.expect("cancel");
    receiver.next().await;
    let stop = tokio::spawn(server.stop(Duration::from_secs(60)));
    receiver.answers.add_permits(1);
    assert!(stop.await.expect("it stops"), "all of it came to its end");
    let left =
        backend.deliveries().expect("webhooks").list_deliveries(DeliveryQuery::new(10)).await.expect("list");
    assert_eq!(left, [], "and that is known");
}

#[tokio::test]
async fn a_server_that_dies_while_it_tells_is_followed_by_another() {
    let site = Site::standing_still_with(telling).await;
    let mut receiver = Receiver::slow().await;
    ended(&site, &receiver.url()).await;
    let first = receiver.next().await;
    let Site { server, backend, folder } = site;
    drop(server);
    let builder = Server::builder(Arc::clone(&backend)).listen("127.0.0.1:0");
    let server = telling(builder, &folder).start().expect("a server");
    let site = Site { server, backend, folder };
    receiver.answers.add_permits(10);
    // Its lease is over half a minute later.
    site.backend.clock().advance(Duration::from_secs(31));
    let second = receiver.next().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    all_told(&site).await;
}

#[tokio::test]
async fn keys_see_what_is_theirs() {
    let mut keys = Vec::new();
    let site = Site::with(|builder, folder| {
        let path = folder.path().join("keys");
        for (scopes, queues) in [
            (vec![Scope::Read], vec![]),
            (vec![Scope::Operate], vec![]),
            (Scope::ALL.to_vec(), vec!["bulk".parse().expect("a name")]),
        ] {
            let (key, secret) = Key::create("k", scopes, queues, None).expect("a key");
            KeyFile::change(&path, |keys| {
                keys.push(key);
                Ok(())
            })
            .expect("write");
            keys.push(secret);
        }
        telling(builder.keys(KeyFile::open(&path).expect("open")), folder)
    })
    .await;
    let receiver = Receiver::answering(&[(410, "x", "y")]).await;
    let queues = ["default", "bulk"];
    for queue in queues {
        let webhook = Webhook::new(receiver.url()).events([WebhookEvent::Ended]);
        let job = NewJob::new(&1).expect("JSON").queue(queue.parse().expect("a name")).webhook(webhook);
        let id = site.backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted").id;
        site.backend.cancel(vec![id]).await.expect("cancel");
    }
    let mut ids = Vec::new();
    for queue in queues {
        let of = |delivery: &Delivery| delivery.dead_at.is_some() && delivery.queue.as_str() == queue;
        ids.push(delivery(&site, of).await.id);
    }
    let [read, operate, bulk] = [0, 1, 2].map(|n| site.client().with_key(&keys[n]));
    assert_eq!(read.get("/v1/webhooks").await.json()["deliveries"].as_array().map(Vec::len), Some(2));
    let redrive = |n: usize| format!("/v1/webhooks/{}/redrive", ids[n]);
    read.post(&redrive(0), "").await.problem(403);
    operate.get("/v1/webhooks").await.problem(403);
    bulk.get("/v1/webhooks").await.problem(403);
    let own = bulk.get("/v1/webhooks?queue=bulk").await.json();
    assert_eq!(own["deliveries"].as_array().map(Vec::len), Some(1), "{own}");
    bulk.post(&redrive(0), "").await.problem(404);
    assert_eq!(bulk.post(&redrive(1), "").await.status, StatusCode::OK);
    assert_eq!(operate.post(&redrive(0), "").await.status, StatusCode::OK);
}
