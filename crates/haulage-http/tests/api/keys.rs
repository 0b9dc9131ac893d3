//! Who may do what.

use std::{sync::Mutex, time::Duration};

use haulage::backend::ListQuery;
use haulage_http::{
    HttpBackend,
    server::{KeyFile, Network, Scope},
};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::client::{Client, Site, add_key};

/// A server with keys: one for each scope, and one for all of them in the queue `bulk`.
struct Guarded {
    site: Site,
    secrets: Vec<(Scope, String)>,
    bulk: String,
}

impl Guarded {
    async fn new() -> Self {
        let mut secrets = Vec::new();
        let mut bulk = String::new();
        let site = Site::with(|builder, folder| {
            let path = folder.path().join("keys");
            for scope in Scope::ALL {
                secrets.push((scope, add_key(&path, scope.as_str(), &[scope], Vec::new())));
            }
            bulk = add_key(&path, "bulk", &Scope::ALL, vec!["bulk".parse().expect("a name")]);
            builder.keys(KeyFile::open(&path).expect("open"))
        })
        .await;
        Self { site, secrets, bulk }
    }

    fn with(&self, scope: Scope) -> Client {
        let (_, secret) = self.secrets.iter().find(|(of, _)| *of == scope).expect("a key");
        self.site.client().with_key(secret)
    }

    /// Every path and method in the document, with the scopes that the document names.
    async fn operations(&self) -> Vec<(Method, String, Vec<String>)> {
        let document = self.with(Scope::Read).get("/openapi.json").await.json();
        let mut found = Vec::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let method = method.to_uppercase().parse().expect("a method");
                let said = operation["description"].as_str().expect("a description");
                let scopes = said.trim_start_matches("Needs a key with the scope ").trim_end_matches('.');
                found.push((method, path.clone(), scopes.split(" or ").map(str::to_owned).collect()));
            }
        }
        found
    }
}

#[tokio::test]
async fn a_stranger_learns_nothing_but_401() {
    let guarded = Guarded::new().await;
    let client = guarded.site.client();
    let expected = client.get("/v1/jobs").await;
    expected.problem(401);
    assert_eq!(expected.header("www-authenticate"), "Bearer");
    let strangers = [client.clone(), client.with_key("haulage_00000000_0"), client.with_key("")];
    let mut asked = guarded.operations().await;
    asked.push((Method::GET, "/no/such/path".to_owned(), vec![]));
    asked.push((Method::PATCH, "/v1/jobs".to_owned(), vec![]));
    asked.push((Method::OPTIONS, "/v1/jobs".to_owned(), vec![]));
    for (method, path, _) in asked {
        for stranger in &strangers {
            let answer =
                stranger.send(method.clone(), &path, &[("origin", "https://evil.example")], "").await;
            assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "{method} {path}");
            let names = |answer: &crate::client::Answer| {
                let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
                names.sort();
                names
            };
            assert_eq!(names(&answer), names(&expected), "{method} {path}");
        }
    }
    let basic = client.get_with("/v1/jobs", &[("authorization", "Basic aGk6aGk=")]).await;
    assert_eq!((basic.status, &basic.body), (expected.status, &expected.body));
}

#[tokio::test]
async fn every_route_takes_the_scopes_that_the_document_names_and_no_others() {
    let guarded = Guarded::new().await;
    for (method, path, scopes) in guarded.operations().await {
        let at = path.replace("{id}", "no-such-job").replace("{queue}", "no-such-queue");
        for scope in Scope::ALL {
            let answer = guarded.with(scope).send(method.clone(), &at, &[], "").await;
            let may = scopes.iter().any(|of| of == scope.as_str());
            assert_eq!(answer.status != StatusCode::FORBIDDEN, may, "{method} {at} with {scope}: {answer:?}");
            if !may {
                let problem = answer.problem(403);
                let remedy = problem["remedy"].as_str().unwrap_or_default();
                assert!(remedy.contains("haulage key create --name NAME --scope "), "{problem}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_for_one_queue_sees_no_other() {
    let guarded = Guarded::new().await;
    let (client, bulk) = (guarded.with(Scope::Submit), guarded.site.client().with_key(&guarded.bulk));
    let other = client.submit(r#"{"body": 1}"#).await;
    let own = bulk.submit(r#"{"body": 2, "queue": "bulk"}"#).await;
    assert_eq!(bulk.get(&format!("/v1/jobs/{own}")).await.status, StatusCode::OK);
    for (method, path) in [
        (Method::GET, format!("/v1/jobs/{other}")),
        (Method::GET, format!("/v1/jobs/{other}/result")),
        (Method::GET, format!("/v1/jobs/{other}/events")),
        (Method::POST, format!("/v1/jobs/{other}/cancel")),
        (Method::POST, format!("/v1/jobs/{other}/redrive")),
        (Method::DELETE, format!("/v1/jobs/{other}")),
    ] {
        let answer = bulk.send(method.clone(), &path, &[], "").await;
        assert_eq!(answer.problem(404)["type"], "haulage:not_found", "{method} {path}");
    }
    assert_eq!(bulk.post("/v1/jobs", r#"{"body": 1}"#).await.problem(403)["field"], "queue");
    bulk.get("/v1/jobs").await.problem(403);
    bulk.get("/v1/jobs?queue=default").await.problem(403);
    bulk.post("/v1/queues/default/pause", "").await.problem(403);
    bulk.get("/v1/workers").await.problem(403);
    assert_eq!(bulk.get("/v1/jobs?queue=bulk").await.json()["jobs"].as_array().map(Vec::len), Some(1));
    let stats = bulk.get("/v1/stats").await.json();
    assert_eq!((&stats["visible"], stats["queues"].get("default")), (&1.into(), None), "{stats}");
    assert_eq!(bulk.get("/v1/scale").await.json()["visible"], 1);
    let mut calls = 0;
    let mut post = |verb: &str, body: Value| {
        calls += 1;
        let call = format!("call-{calls}");
        let (path, body, bulk) = (format!("/v1/backend/{verb}"), body.to_string(), bulk.clone());
        async move { bulk.post_with(&path, &body, &[("haulage-call", &call)]).await }
    };
    let claim = serde_json::json!({ "worker": "w", "max": 1, "lease": 60, "wait": 0 });
    post("claim", claim).await.problem(403);
    let key = serde_json::json!({ "id": other, "attempt": 1 });
    post("heartbeat", serde_json::json!([{ "key": key, "lease": 60 }])).await.problem(404);
    post("settle", serde_json::json!({ "settlements": [{ "key": key, "outcome": "cancelled" }] }))
        .await
        .problem(404);
    let found = post("get", serde_json::json!({ "ids": [other, own], "detail": "full" })).await.json();
    assert_eq!((&found[0], found[1].get("found").is_some()), (&"missing".into(), true), "{found}");
    for what in [
        serde_json::json!({ "dead": { "limit": 1 } }),
        serde_json::json!({ "lost": { "limit": 1 } }),
        serde_json::json!({ "dead": { "limit": 1, "queue": "default" } }),
    ] {
        post("redrive", what).await.problem(403);
    }
    post("purge", serde_json::json!({ "status": { "status": "SUBMITTED", "older_than": 0 } }))
        .await
        .problem(403);
    post("purge", serde_json::json!({ "jobs": [other] })).await.problem(404);
    post("list", serde_json::json!({})).await.problem(403);
    post("check", Value::Null).await.problem(403);
    assert_eq!(guarded.site.backend.stats().await.expect("stats").visible, 2, "nothing was changed");
}

#[tokio::test]
async fn a_key_for_one_queue_finds_no_jobs_of_others_by_their_idempotency_keys() {
    let guarded = Guarded::new().await;
    let (client, bulk) = (guarded.with(Scope::Submit), guarded.site.client().with_key(&guarded.bulk));
    let other = client.submit(r#"{"body": 1, "idempotency_key": "k"}"#).await;
    guarded.site.succeed(r#""a secret""#).await;
    // It has a job of its own under this key, and finds that again.
    let own = r#"{"body": 1, "queue": "bulk", "idempotency_key": "k"}"#;
    let answer = bulk.post_with("/v1/jobs", own, &[("prefer", "wait=0")]).await;
    let first = answer.json()["id"].clone();
    assert!(first != other && answer.json()["duplicate"] == false, "{answer:?}");
    let found = serde_json::json!({ "id": first, "duplicate": true });
    assert_eq!(bulk.post("/v1/jobs", own).await.json(), found);
    let job = serde_json::json!([{ "body": 1, "spec": { "queue": "bulk" }, "idempotency_key": "k", "idempotency_window": 60 }]);
    let answer = bulk.post_with("/v1/backend/submit", &job.to_string(), &[("haulage-call", "c-1")]).await;
    assert_eq!(answer.json()[0]["ok"], found, "{answer:?}");
    let answer = bulk.post("/v1/jobs", r#"{"body": 2, "queue": "bulk", "idempotency_key": "k"}"#).await;
    let conflict = answer.problem(422);
    assert_eq!((&conflict["key"], &conflict["id"]), (&"k".into(), &first), "{conflict}");
    assert!(conflict["detail"].as_str().is_some_and(|detail| detail.contains(r#""k""#)), "{conflict}");
    // Nor does it take the keys of others before they come.
    bulk.submit(r#"{"body": 1, "queue": "bulk", "idempotency_key": "l"}"#).await;
    let answer = client.post("/v1/jobs", r#"{"body": 1, "idempotency_key": "l"}"#).await;
    assert_eq!(answer.json()["duplicate"], false, "{answer:?}");
    // What is no key is none, hashed or not.
    let empty = r#"{"body": 1, "queue": "bulk", "idempotency_key": ""}"#;
    assert_eq!(bulk.post("/v1/jobs", empty).await.problem(422)["field"], "idempotency_key");
}

#[tokio::test]
async fn what_a_key_has_done_is_in_the_log_though_nobody_waited_for_the_answer() {
    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    struct Log;
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.lock().expect("no test panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init();

    let mut secret = String::new();
    let (site, store) = Site::on_store(|builder, folder| {
        let path = folder.path().join("keys");
        secret = add_key(&path, "ops", &Scope::ALL, Vec::new());
        let proxy = "127.0.0.1".parse().expect("an address");
        builder.keys(KeyFile::open(&path).expect("open")).max_connections(1).trust_forwarded(proxy)
    })
    .await;
    let (id, client) = {
        let client = site.client().with_key(&secret);
        (client.submit(r#"{"body": 1}"#).await, site.client().with_key(&secret))
    };
    let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
    let request = format!(
        "POST /v1/jobs/{id}/cancel HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\n\
         x-forwarded-for: 198.51.100.1, 192.0.2.7\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("send");
    store.cancelled.acquire().await.expect("it is open").forget();
    drop(stream);
    // There is room for one connection: the other one is over.
    assert_eq!(client.get(&format!("/v1/jobs/{id}")).await.json()["status"], "CANCELLED");
    store.answered.add_permits(1);
    let until = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let log = String::from_utf8_lossy(&LOG.lock().expect("no test panics with it")).into_owned();
        let line = log.lines().find(|line| line.contains(r#"action="cancel""#) && line.contains(&id));
        if let Some(line) = line {
            // Who is there, as the proxy says, and not what the client said before.
            assert!(line.contains("client=192.0.2.7 "), "{line}");
            let submit = log.lines().find(|line| line.contains(r#"action="submit""#) && line.contains(&id));
            assert!(submit.is_some_and(|line| line.contains("client=127.0.0.1 ")), "{log}");
            return;
        }
        assert!(std::time::Instant::now() < until, "{log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_job_has_the_name_of_its_key_whatever_it_says() {
    let guarded = Guarded::new().await;
    let client = guarded.with(Scope::Submit);
    let forged = r#"{"body": 1, "metadata": {"haulage.key": "the-boss", "team": "vision"}}"#;
    let id = client.submit(forged).await;
    let record = guarded.with(Scope::Read).get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(record["metadata"], serde_json::json!({ "haulage.key": "submit", "team": "vision" }));
    // Who may not read is not told the result with the submit either.
    let answer = client.post_with("/v1/jobs", r#"{"body": 1}"#, &[("prefer", "wait=30")]).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_worker_with_its_key_works_and_one_without_is_told_why() {
    let guarded = Guarded::new().await;
    let url = guarded.site.server.url();
    let refused = HttpBackend::builder(&url).key("haulage_0_0").open().await.expect_err("refused");
    assert!(
        matches!(&refused, haulage::Error::Config(why) if why.contains("haulage key create")),
        "{refused:?}"
    );
    let (_, work) = &guarded.secrets[2];
    let worker = HttpBackend::builder(&url).key(work).open().await.expect("open");
    use haulage::Backend as _;
    let refused = worker.list(ListQuery::new()).await.expect_err("refused");
    assert!(matches!(&refused, haulage::Error::Config(why) if why.contains("scope read")), "{refused:?}");
    guarded.with(Scope::Submit).submit(r#"{"body": 1}"#).await;
    let request = haulage::backend::ClaimRequest::new("w", Duration::from_secs(60));
    let claimed = worker.claim(request, Default::default()).await.expect("claim");
    assert_eq!(claimed.len(), 1);
}

#[tokio::test]
async fn without_keys_only_this_machine_is_served() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = haulage::sqlite::SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
    let refused =
        haulage_http::server::Server::builder(std::sync::Arc::new(backend)).listen("0.0.0.0:0").start();
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains("haulage key create") && refused.contains("127.0.0.1"), "{refused}");

    let site = Site::new().await;
    let client = site.client();
    let address = site.server.address().to_string();
    let own = format!("http://{address}");
    for (headers, status) in [
        (vec![("host", "evil.example")], 403),
        (vec![("host", "evil.example:80")], 403),
        (vec![("host", "localhost")], 200),
        (vec![("origin", "https://evil.example")], 403),
        (vec![("origin", "null")], 403),
        (vec![("host", address.as_str()), ("origin", own.as_str())], 200),
    ] {
        let answer = client.get_with("/v1/stats", &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}: {answer:?}");
    }
    for (headers, remedy) in [
        ([("host", "evil.example")], "`haulage key create`"),
        ([("origin", "https://app.example.com")], "--cors-origin https://app.example.com"),
    ] {
        let problem = client.get_with("/v1/stats", &headers).await.problem(403);
        assert!(problem["remedy"].as_str().is_some_and(|given| given.contains(remedy)), "{problem}");
    }
    // Not a word of an origin that anybody's page has.
    let problem = client.get_with("/v1/stats", &[("origin", "null")]).await.problem(403);
    assert!(!problem.to_string().contains("null"), "{problem}");
}

#[tokio::test]
async fn without_keys_a_proxy_asks_for_this_machine_only() {
    let site = Site::new().await;
    let headers =
        [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1"), ("x-forwarded-host", "x")];
    for header in headers {
        let problem = site.client().get_with("/v1/stats", &[header]).await.problem(403);
        let remedy = problem["remedy"].as_str().expect("a remedy");
        assert!(remedy.contains("--trust-forwarded") && remedy.contains("haulage key create"), "{problem}");
    }
    let proxy = |text: &str| -> Network { text.parse().expect("a network") };
    let site = Site::with(|builder, _| {
        builder.trust_forwarded(proxy("10.0.0.0/8")).trust_forwarded(proxy("127.0.0.1"))
    })
    .await;
    let client = site.client();
    for (headers, status) in [
        (vec![], 200),
        (vec![("x-forwarded-for", "127.0.0.1")], 200),
        (vec![("x-forwarded-for", "::1"), ("x-forwarded-host", "localhost:80")], 200),
        (vec![("x-forwarded-for", "192.0.2.7")], 403),
        // What a client elsewhere has written itself.
        (vec![("x-forwarded-for", "127.0.0.1, 192.0.2.7")], 403),
        (vec![("forwarded", "for=192.0.2.7")], 403),
        (vec![("x-forwarded-for", "10.1.1.1")], 403),
        // A page under a name that leads to the proxy.
        (vec![("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", "evil.example")], 403),
        (vec![("forwarded", "for=127.0.0.1;host=evil.example")], 403),
        (vec![("x-forwarded-host", "localhost"), ("origin", "https://localhost")], 200),
        (vec![("x-forwarded-host", "localhost"), ("origin", "https://evil.example")], 403),
    ] {
        let answer = client.get_with("/v1/stats", &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}: {answer:?}");
    }
}

#[tokio::test]
async fn pages_of_an_origin_that_is_named_may_ask() {
    let site = Site::with(|builder, _| builder.allow_origin("https://app.example.com")).await;
    let client = site.client();
    let ours = [("origin", "https://app.example.com")];
    let preflight = client.send(Method::OPTIONS, "/v1/jobs", &ours, "").await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://app.example.com");
    assert!(preflight.header("access-control-allow-headers").contains("Idempotency-Key"));
    let answer = client.get_with("/v1/stats", &ours).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (StatusCode::OK, "https://app.example.com")
    );
    let other = client.get_with("/v1/stats", &[("origin", "https://evil.example")]).await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (StatusCode::FORBIDDEN, ""));
}
