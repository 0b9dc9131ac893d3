//! Clients that send what they should not, or nothing at all.

use std::time::Duration;

use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::client::Site;

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
