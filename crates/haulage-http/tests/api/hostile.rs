//! Clients that send what they should not, or nothing at all.

use std::time::Duration;

use haulage_http::server::{KeyFile, Scope};
use hyper::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::client::{Site, add_key};

/// Longer than a machine under load holds up a client that means well.
const PATIENCE: Duration = Duration::from_secs(4);

/// What comes back for these bytes, until the server ends the connection.
async fn raw(site: &Site, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
    // The server may end it before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer));
    let _ = reading.await.expect("the server ends the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_sends_nothing_holds_nobody_up() {
    let site = Site::with(|builder, _| builder.patience(PATIENCE).max_connections(4)).await;
    let address = site.server.address();
    let mut slow = Vec::new();
    for _ in 0..7 {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.expect("send");
        slow.push(stream);
    }
    // All places are taken, for as long as patience lasts.
    let answer = tokio::time::timeout(Duration::from_secs(60), site.client().get("/v1/stats")).await;
    assert_eq!(answer.expect("an answer").status, StatusCode::OK);
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it was not cut");
    }
}

#[tokio::test]
async fn who_does_not_read_is_cut() {
    let site = Site::with(|builder, _| builder.patience(PATIENCE).max_connections(1)).await;
    let large = "x".repeat(32 << 20);
    let job = haulage::NewJob::new(&large).expect("JSON");
    let id = site.backend.submit(vec![job]).await.expect("submit").remove(0).expect("submitted").id;
    let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
    let request = format!("GET /v1/jobs/{id}?body=true HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send");
    // The answer has begun; and nobody takes it in.
    stream.peek(&mut [0]).await.expect("a part");
    // There is room for one connection, so another one is answered once this one was cut.
    let other = tokio::time::timeout(Duration::from_secs(60), site.client().get("/v1/stats")).await;
    assert_eq!(other.expect("an answer").status, StatusCode::OK);
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer));
    let _ = reading.await.expect("the server has ended the connection");
    assert!(answer.len() < large.len(), "all of it was sent");
}

#[tokio::test]
async fn who_sends_much_waits_until_there_is_room() {
    // Of the largest requests, two at a time.
    let site = Site::with(|builder, _| builder.max_body(400 << 20)).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\n\r\n",
            400 << 20
        );
        stream.write_all(head.as_bytes()).await.expect("send");
        // It has its room, and is to send now.
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 100");
        slow.push(stream);
    }
    let client = site.client();
    client.submit(r#"{"body": "small ones need none"}"#).await;
    let large = format!(r#"{{"body": "{}"}}"#, "x".repeat(64 << 20));
    let submit = client.submit(&large);
    tokio::pin!(submit);
    // Most likely it would have been answered by now.
    let early = tokio::time::timeout(Duration::from_secs(2), &mut submit).await;
    assert!(early.is_err(), "there was no room, and it was read");
    slow.pop();
    tokio::time::timeout(Duration::from_secs(60), submit).await.expect("there is room");
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_heads_are_refused() {
    let site = Site::new().await;
    let huge = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-huge: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = raw(&site, huge.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x-many: 1\r\n".repeat(1000));
    let answer = raw(&site, many.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"nonsense\r\n\r\n",
        b"GET /v1/stats HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = raw(&site, bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown:?}: {answer}");
    }
    assert_eq!(site.client().get("/v1/stats").await.status, StatusCode::OK, "the server goes on");
}

#[tokio::test]
async fn what_no_backend_would_send_is_refused_and_the_server_goes_on() {
    let site = Site::new().await;
    let client = site.client();
    let call = [("haulage-call", "c-1")];
    let bad_id = [("haulage-call", "two words")];
    assert_eq!(
        client.post_with("/v1/backend/submit", "[]", &bad_id).await.problem(422)["field"],
        "haulage-call"
    );
    let claim = r#"{"worker": "w", "max": 1, "lease": 60, "wait": 0}"#;
    for (verb, body) in [("claim", claim), ("submit", "[]"), ("settle", "{}"), ("cancel", "[]")] {
        let refused = client.post(&format!("/v1/backend/{verb}"), body).await.problem(422);
        assert_eq!(refused["field"], "haulage-call", "{verb}");
    }
    client
        .post_with("/v1/backend/claim", r#"{"worker": "w", "max": 0, "lease": 60, "wait": 0}"#, &call)
        .await
        .problem(422);
    for (verb, body) in [
        ("submit", "{"),
        ("submit", r#"[{"body": 1, "spec": {"queue": "two words"}, "idempotency_window": 1}]"#),
        ("settle", "[]"),
        ("heartbeat", r#"[{"key": {"id": "x", "attempt": -1}, "lease": 60}]"#),
        ("get", r#"{"ids": "x", "detail": "full"}"#),
        ("redrive", r#""everything""#),
    ] {
        client.post_with(&format!("/v1/backend/{verb}"), body, &call).await.problem(400);
    }
    let ids: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    let many = serde_json::json!({ "ids": ids, "detail": "status" }).to_string();
    assert_eq!(client.post("/v1/backend/get", &many).await.problem(422)["field"], "ids");
    let list = r#"{"limit": 1001}"#;
    assert_eq!(client.post("/v1/backend/list", list).await.problem(422)["field"], "limit");
    let zero = r#"[{"key": {"id": "x", "attempt": 1}, "lease": 0}]"#;
    client.post("/v1/backend/heartbeat", zero).await.problem(422);
    assert_eq!(client.get("/v1/stats").await.status, StatusCode::OK);
}

/// The head of a submit whose body is to have so many bytes.
fn submit_of(bytes: usize, more: &str) -> String {
    format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\
         content-length: {bytes}\r\n\r\n"
    )
}

#[tokio::test]
async fn who_sends_a_body_bit_by_bit_is_told_and_cut() {
    let site = Site::with(|builder, _| builder.patience(PATIENCE)).await;
    let begun = format!("{}{{", submit_of(1000, ""));
    let silent = raw(&site, begun.as_bytes());
    // Each bit comes in time, and all of it never would.
    let dripping = async {
        let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
        stream.write_all(submit_of(1000, "").as_bytes()).await.expect("send");
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        let drip = async {
            while writer.write_all(b" ").await.is_ok() {
                tokio::time::sleep(PATIENCE / 8).await;
            }
        };
        tokio::select! {
            biased;
            read = reader.read_to_end(&mut answer) => read.map(drop).expect("an answer"),
            () = drip => panic!("it was cut without an answer"),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it is not cut"),
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (silent, dripping) = tokio::join!(silent, dripping);
    for answer in [silent, dripping] {
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("haulage:too_slow"), "{answer}");
    }
    assert_eq!(site.client().get("/v1/stats").await.json()["visible"], 0, "nothing was submitted");
}

#[tokio::test]
async fn a_stranger_is_told_before_it_sends_anything() {
    let site = Site::with(|builder, folder| {
        let path = folder.path().join("keys");
        add_key(&path, "web", &Scope::ALL, Vec::new());
        builder.keys(KeyFile::open(&path).expect("open"))
    })
    .await;
    for more in ["", "expect: 100-continue\r\n", "authorization: Bearer haulage_0_0\r\n"] {
        let answer = raw(&site, submit_of(1 << 30, more).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{more}: {answer}");
    }
}

#[tokio::test]
async fn json_however_deep_is_a_body_or_refused() {
    let site = Site::new().await;
    let client = site.client();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    // As deep as one likes, but where the server has to read it.
    let id = client.submit(&format!(r#"{{"body": {deep}}}"#)).await;
    let record = client.get(&format!("/v1/jobs/{id}?body=true")).await;
    assert!(record.status == StatusCode::OK && record.text().contains(&deep));
    client.read(&format!("/jobs/{id}")).await;
    client.read(&format!("/jobs/{id}?full=true")).await;
    client.read("/jobs").await;
    site.succeed(&deep).await;
    assert_eq!(client.get(&format!("/v1/jobs/{id}/result")).await.text(), deep);
    client.read(&format!("/jobs/{id}")).await;
    for body in [
        format!(r#"{{"body": 1, "metadata": {deep}}}"#),
        format!(r#"{{"body": 1, "no_such_field": {deep}}}"#),
        format!(r#"{{"body": 1, "delay": {deep}}}"#),
        deep.clone(),
        "[".repeat(200_000),
        r#"{"body":"#.repeat(200_000),
    ] {
        let refused = client.post("/v1/jobs", &body).await;
        assert!([400, 422].contains(&refused.status.as_u16()), "{refused:?}");
        assert!(refused.body.len() < 3000, "{} bytes", refused.body.len());
        let line =
            client.send(Method::POST, "/v1/jobs", &[("content-type", "application/jsonl")], body).await;
        assert!(line.text().contains(r#""error""#), "{line:?}");
        assert!(line.body.len() < 3000, "{} bytes", line.body.len());
    }
    for verb in ["submit", "claim", "settle", "get", "list", "redrive", "purge"] {
        let call = [("haulage-call", "c-1")];
        client.post_with(&format!("/v1/backend/{verb}"), &deep, &call).await.problem(400);
    }
    assert_eq!(client.get("/v1/stats").await.json()["success"], 1);
}

#[tokio::test]
async fn of_two_of_the_same_name_neither_is_taken() {
    let site = Site::new().await;
    let client = site.client();
    for path in ["/v1/jobs?queue=a&queue=b", "/v1/jobs?limit=1&limit=1", "/v1/jobs?metadata.a=1&metadata.a=2"]
    {
        let refused = client.get(path).await.problem(422);
        assert!(refused["detail"].as_str().is_some_and(|d| d.ends_with("is given twice")), "{refused}");
    }
    for body in [
        r#"{"body": 1, "body": 2}"#,
        r#"{"body": 1, "queue": "a", "queue": "a"}"#,
        r#"{"body": 1, "metadata": {"a": "1", "a": "2"}}"#,
    ] {
        let refused = client.post("/v1/jobs", body).await;
        assert!(refused.status.is_client_error() && refused.text().contains("is given twice"), "{refused:?}");
    }
    let body = r#"{"body": 1}"#;
    let keys = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(client.post_with("/v1/jobs", body, &keys).await.problem(422)["field"], "idempotency_key");
    assert_eq!(client.get("/v1/stats").await.json()["visible"], 0, "nothing was submitted");
}

#[tokio::test]
async fn an_idempotency_key_counts_or_is_refused() {
    let site = Site::new().await;
    let submit = |key: &'static [u8]| {
        let body = r#"{"body": 1}"#;
        let head = submit_of(body.len(), "connection: close\r\nidempotency-key: ");
        let (before, after) = head.split_once("idempotency-key: ").expect("a key");
        let request =
            [before.as_bytes(), b"idempotency-key: ", key, b"\r\n", after.as_bytes(), body.as_bytes()];
        let request = request.concat();
        let site = &site;
        async move { raw(site, &request).await }
    };
    assert!(submit("schlüssel".as_bytes()).await.contains(r#""duplicate":false"#));
    assert!(submit("schlüssel".as_bytes()).await.contains(r#""duplicate":true"#));
    let refused = submit(b"\xff\xfe").await;
    assert!(refused.starts_with("HTTP/1.1 422") && refused.contains("not valid UTF-8"), "{refused}");
    assert!(submit(b"").await.starts_with("HTTP/1.1 422"));
    assert_eq!(site.client().get("/v1/stats").await.json()["visible"], 1);
}
