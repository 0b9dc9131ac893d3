//! Bodies in gzip, both ways.

use std::{convert::Infallible, io::Write as _, time::Duration};

use flate2::{
    Compression,
    write::{GzDecoder, GzEncoder},
};
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Frame},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use crate::client::Site;

/// How much more than its body a submission may have.
const OPTIONS: usize = 256 << 10;
const TAKES: (&str, &str) = ("accept-encoding", "br, gzip");
const SENDS: (&str, &str) = ("content-encoding", "gzip");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(bytes).expect("gzip");
    decoder.finish().expect("all of it")
}

#[tokio::test]
async fn answers_are_compressed_for_whoever_takes_that() {
    let site = Site::new().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    let result = format!("[{}1]", "1234,".repeat(20_000));
    site.succeed(&result).await;
    let path = format!("/v1/jobs/{id}/result");
    let plain = client.get(&path).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    assert_eq!((&plain.body[..], plain.header("accept-ranges")), (result.as_bytes(), "bytes"));
    let packed = client.get_with(&path, &[TAKES]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"));
    assert!(packed.body.len() < result.len() / 20, "{}", packed.body.len());
    assert_eq!(gunzip(&packed.body), result.as_bytes());
    // Other bytes have no tag that says that they are these, and there are no parts of them.
    assert_eq!(packed.header("etag"), format!("W/{}", plain.header("etag")));
    assert_eq!(packed.header("accept-ranges"), "");
    for tag in [plain.header("etag"), packed.header("etag")] {
        let same = client.get_with(&path, &[TAKES, ("if-none-match", tag)]).await;
        assert_eq!((same.status, same.header("content-encoding")), (StatusCode::NOT_MODIFIED, ""));
    }
    let head = client.send(Method::HEAD, &path, &[TAKES], "").await;
    assert_eq!((head.header("content-encoding"), head.body.len()), ("gzip", 0));
    // Records, lists and problems go the same way; what is small goes as it is.
    let record = client.get_with(&format!("/v1/jobs/{id}"), &[TAKES]).await;
    let record: serde_json::Value = serde_json::from_slice(&gunzip(&record.body)).expect("JSON");
    assert_eq!(record["id"], id);
    let small = client.get_with("/v1/jobs/x", &[TAKES]).await;
    assert_eq!((small.header("content-encoding"), small.header("vary")), ("", "accept-encoding"));
    small.problem(404);
    let refused = client.get_with(&path, &[("accept-encoding", "gzip;q=0, br")]).await;
    assert_eq!(refused.body, result);
}

#[tokio::test]
async fn a_part_of_a_result_is_one_of_its_own_bytes() {
    let site = Site::new().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    let result = format!("\"{}\"", "0123456789".repeat(1000));
    site.succeed(&result).await;
    let path = format!("/v1/jobs/{id}/result");
    let tag = client.get(&path).await.header("etag").to_owned();
    let range = ("range", "bytes=1-5000");
    for given in [None, Some(tag.as_str())] {
        let headers: Vec<_> = [TAKES, range].into_iter().chain(given.map(|tag| ("if-range", tag))).collect();
        let part = client.get_with(&path, &headers).await;
        assert_eq!((part.status, part.header("content-encoding")), (StatusCode::PARTIAL_CONTENT, ""));
        assert_eq!(part.body, result[1..=5000]);
    }
    // Whoever has a part of something else gets all of it: of another result, or of this in gzip.
    for other in ["\"other\"", &format!("W/{tag}")] {
        let whole = client.get_with(&path, &[range, ("if-range", other)]).await;
        assert_eq!((whole.status, &whole.body[..]), (StatusCode::OK, result.as_bytes()), "{other}");
    }
}

#[tokio::test]
async fn events_are_not_held_back_to_be_compressed() {
    let site = Site::new().await;
    let client = site.client();
    let large = "x".repeat(2000);
    let id = client.submit(&format!(r#"{{"body": 1, "metadata": {{"large": "{large}"}}}}"#)).await;
    site.succeed("1").await;
    let events = client.get_with(&format!("/v1/jobs/{id}/events"), &[TAKES]).await;
    assert_eq!(events.header("content-encoding"), "");
    assert!(events.body.starts_with(b"id: "), "{events:?}");
}

#[tokio::test]
async fn requests_may_be_compressed() {
    let site = Site::new().await;
    let client = site.client();
    let json = ("content-type", "application/json");
    let text = format!(r#"{{"body": "{}"}}"#, "x".repeat(300_000));
    let submit = |headers: Vec<(&'static str, &'static str)>, body: Vec<u8>| {
        let client = client.clone();
        async move { client.send(Method::POST, "/v1/jobs", &headers, body).await }
    };
    for coding in ["gzip", "X-GZIP", "identity, gzip"] {
        let answer = submit(vec![json, ("content-encoding", coding)], gzip(text.as_bytes())).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        let record = client.get(&format!("/v1/jobs/{id}?body=true")).await.json();
        assert_eq!(record["body"].as_str().map(str::len), Some(300_000), "{coding}");
    }
    for coding in ["br", "gzip, gzip", "zstd"] {
        let answer = submit(vec![json, ("content-encoding", coding)], gzip(text.as_bytes())).await;
        assert_eq!(answer.header("accept-encoding"), "gzip");
        assert_eq!(answer.problem(415)["field"], "content-encoding", "{coding}");
    }
    let whole = gzip(text.as_bytes());
    for (broken, says) in [(&br#"{"body": 1}"#[..], "is not"), (&whole[..whole.len() / 2], "ends before")] {
        let problem = submit(vec![json, SENDS], broken.to_vec()).await.problem(400);
        let detail = problem["detail"].as_str().expect("text");
        assert!(problem["type"] == "haulage:not_gzip" && detail.contains(says), "{problem}");
    }
    // Of a client that says how much it will be, there is room for that.
    for (promised, status) in [(text.len(), 202), (text.len() - 1, 400)] {
        let promised = promised.to_string();
        let headers = [json, SENDS, ("haulage-inflated", promised.as_str())];
        let answer = client.send(Method::POST, "/v1/jobs", &headers, gzip(text.as_bytes())).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    assert_eq!(site.backend.stats().await.expect("stats").visible, 4);
}

#[tokio::test]
async fn a_body_that_inflates_without_end_is_refused_while_it_comes() {
    const LIMIT: usize = 1 << 20;
    let site = Site::with(|builder, _| builder.max_body(LIMIT)).await;
    // No more of it than arrives at once: what is left unread when the server ends the connection might cut
    // off its answer.
    let mut bomb = gzip(format!(r#"{{"body": "{}"}}"#, "x".repeat(20 << 20)).as_bytes());
    bomb.truncate(4 << 10);
    // Blocks of nothing, of which there may be any number; the last byte is the one that is too many.
    let mut nothing = gzip(b"")[..10].to_vec();
    nothing.extend([0, 0, 0, 0xff, 0xff].repeat((LIMIT + OPTIONS) / 5));
    nothing.truncate(LIMIT + OPTIONS + 1);
    for body in [bomb, nothing] {
        let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
            2 * body.len()
        );
        // Its end does not come.
        stream.write_all(&[head.as_bytes(), &body].concat()).await.expect("send");
        let mut answer = [0; 12];
        let reading = tokio::time::timeout(Duration::from_secs(60), stream.read_exact(&mut answer));
        reading.await.expect("an answer before the end").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
    // A line of an upload has the same limit, and the lines before it stand.
    let lines = gzip(format!("{{\"body\": 1}}\n{{\"body\": \"{}", "x".repeat(2 << 20)).as_bytes());
    let headers = [("content-type", "application/jsonl"), SENDS];
    let answer = site.client().send(Method::POST, "/v1/jobs", &headers, lines).await;
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains(r#""line":1,"id""#) && text.contains("too_large"), "{text}");
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1);
}

#[tokio::test]
async fn lines_are_answered_while_they_come_in_gzip_too() {
    let site = Site::new().await;
    let stream = TcpStream::connect(site.server.address()).await.expect("connect");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let (lines, receiver) = mpsc::unbounded_channel::<Bytes>();
    let frames = stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let request = Request::post("/v1/jobs")
        .header("host", "localhost")
        .header("content-type", "application/jsonl")
        .header(SENDS.0, SENDS.1)
        .header(TAKES.0, TAKES.1)
        .body(StreamBody::new(Box::pin(frames)))
        .expect("a request");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut send = |text: &str| {
        encoder.write_all(text.as_bytes()).expect("compressed");
        encoder.flush().expect("flushed");
        lines.send(std::mem::take(encoder.get_mut()).into()).expect("somebody reads");
    };
    send("{\"body\": 1}\n");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut body = response.into_body();
    let mut decoder = GzDecoder::new(Vec::new());
    for line in 1..=3 {
        if line > 1 {
            send(&format!("{{\"body\": {line}}}\n"));
        }
        // Before more is sent, and though the answer goes on.
        let answer = loop {
            let frame = tokio::time::timeout(Duration::from_secs(60), body.frame());
            let frame = frame.await.expect("more comes").expect("a part").expect("sent");
            decoder.write_all(&frame.into_data().expect("data")).expect("gzip");
            decoder.flush().expect("gzip");
            let text = String::from_utf8(std::mem::take(decoder.get_mut())).expect("text");
            if text.ends_with('\n') {
                break text;
            }
            assert!(text.is_empty(), "a part of a line: {text}");
        };
        assert!(answer.starts_with(&format!("{{\"line\":{line},\"id\"")), "{answer}");
    }
}
