//! Many jobs in one request, line by line.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend as _, Error, JobId, NewJob, Producer,
    backend::{Detail, ListQuery, Lookup},
};
use haulage_http::HttpBackend;
use hyper::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::client::Site;

const LINES: [(&str, &str); 1] = [("content-type", "application/jsonl")];

fn answers(body: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn every_line_has_its_answer_and_a_bad_one_stops_no_other() {
    let site = Site::new().await;
    let lines = "{\"body\": 1}\n\n{\"body\": 2, \"que\": 1}\nnope\n{\"body\": 3, \"idempotency_key\": \"k\"}\n{\"body\": 3, \"idempotency_key\": \"k\"}";
    let answer = site.client().send(Method::POST, "/v1/jobs", &LINES, lines).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/jsonl"));
    let answers = answers(&answer.body);
    let numbers: Vec<_> = answers.iter().map(|answer| answer["line"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [1, 3, 4, 5, 6]);
    assert!(answers[0]["id"].is_string(), "{answers:?}");
    assert_eq!(
        (&answers[1]["error"]["field"], &answers[2]["error"]["type"]),
        (&"que".into(), &"haulage:invalid_json".into())
    );
    assert_eq!((&answers[3]["id"], &answers[4]["duplicate"]), (&answers[4]["id"], &true.into()));
    assert_eq!(site.backend.stats().await.expect("stats").visible, 2);
}

#[tokio::test]
async fn of_what_a_line_has_its_answer_repeats_little() {
    let site = Site::new().await;
    let long = "é\\n".repeat(100_000);
    let lines = format!(
        "{{\"body\": 1, \"{long}\": 1}}\n\"{long}\"\n{{\"body\": 1, \"max_attempts\": \"{long}\"}}\n"
    );
    let answer = site.client().send(Method::POST, "/v1/jobs", &LINES, lines).await;
    let answers = answers(&answer.body);
    let kinds: Vec<_> = answers.iter().map(|answer| answer["error"]["type"].clone()).collect();
    assert_eq!(kinds, ["haulage:invalid", "haulage:invalid_json", "haulage:invalid"]);
    assert_eq!(answers[2]["error"]["field"], "max_attempts");
    assert!(answer.body.len() < 6000, "{answers:?}");
}

#[tokio::test]
async fn a_hundred_thousand_lines_are_answered_in_order() {
    const COUNT: usize = 100_000;
    let site = Site::new().await;
    let lines: String = (0..COUNT).map(|n| format!("{{\"body\":{n}}}\n")).collect();
    let answer = site.client().send(Method::POST, "/v1/jobs", &LINES, lines).await;
    let answers = answers(&answer.body);
    assert_eq!(answers.len(), COUNT);
    assert!(answers.iter().zip(1..).all(|(answer, line)| answer["line"] == line && answer["id"].is_string()));
    assert_eq!(site.backend.stats().await.expect("stats").visible, COUNT as u64);
}

/// A connection on which a request for lines has begun.
async fn begin(site: &Site) -> TcpStream {
    let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: {}\r\ncontent-type: application/jsonl\r\ntransfer-encoding: chunked\r\n\r\n",
        site.server.address()
    );
    stream.write_all(head.as_bytes()).await.expect("send");
    stream
}

async fn chunk(stream: &mut TcpStream, text: &str) {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.expect("send");
}

/// Reads until this has come.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    let mut bytes = [0; 4096];
    while !read.contains(text) {
        let reading = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut bytes));
        let count = reading.await.unwrap_or_else(|_| panic!("nothing more came: {read}")).expect("read");
        assert_ne!(count, 0, "the connection ended: {read}");
        read.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    read
}

#[tokio::test]
async fn answers_come_while_lines_still_go() {
    let site = Site::new().await;
    let mut stream = begin(&site).await;
    chunk(&mut stream, "{\"body\": 1}\n{\"bo").await;
    let read = read_until(&mut stream, "\"line\":1").await;
    assert!(read.contains("200 OK") && !read.contains("\"line\":2"), "{read}");
    chunk(&mut stream, "dy\": 2}\n").await;
    read_until(&mut stream, "\"line\":2").await;
    stream.write_all(b"0\r\n\r\n").await.expect("send");
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn of_an_upload_that_breaks_off_the_whole_lines_are_there() {
    let site = Site::new().await;
    let mut stream = begin(&site).await;
    chunk(&mut stream, "{\"body\": 1}\n{\"body\": 2}\n{\"body\": 3}").await;
    read_until(&mut stream, "\"line\":2").await;
    drop(stream);
    // Its end comes when the server has noticed the break; the next upload tells that it goes on.
    let answer = site.client().send(Method::POST, "/v1/jobs", &LINES, "{\"body\": 4}\n").await;
    assert_eq!(answers(&answer.body).len(), 1);
    assert_eq!(site.backend.stats().await.expect("stats").visible, 3, "the third line is not whole");
}

#[tokio::test]
async fn of_a_million_lines_that_break_off_what_was_answered_is_there_and_nothing_by_halves() {
    const COUNT: usize = 1_000_000;
    /// With so many answers, the client is gone.
    const HEARD: usize = 50_000;
    let site = Site::new().await;
    let (mut reader, mut writer) = begin(&site).await.into_split();
    let sending = tokio::spawn(async move {
        let lines: String = (0..COUNT).map(|n| format!("{{\"body\":{n}}}\n")).collect();
        // Pieces end anywhere.
        for piece in lines.as_bytes().chunks(50_021) {
            let head = format!("{:x}\r\n", piece.len());
            if writer.write_all(&[head.as_bytes(), piece, b"\r\n"].concat()).await.is_err() {
                return;
            }
        }
        // The body has no end; where sockets hold as much as that, all of it is on its way.
        std::future::pending::<()>().await;
    });
    let (mut heard, mut count, mut bytes) = (Vec::new(), 0, vec![0; 1 << 20]);
    while count < HEARD {
        let reading = tokio::time::timeout(Duration::from_secs(60), reader.read(&mut bytes));
        let read = reading.await.expect("answers").expect("read");
        assert_ne!(read, 0, "the connection ended");
        count += bytes[..read].iter().filter(|byte| **byte == b'\n').count();
        heard.extend_from_slice(&bytes[..read]);
    }
    sending.abort();
    assert!(sending.await.expect_err("it goes on until it is stopped").is_cancelled());
    drop(reader);

    let ids = String::from_utf8(heard).expect("UTF-8");
    let ids: Vec<JobId> =
        ids.split(r#""id":""#).skip(1).filter_map(|rest| rest.get(..36)).map(JobId::from).collect();
    assert!(ids.len() > HEARD / 2, "{}", ids.len());
    let found = site.backend.get(ids, Detail::Status).await.expect("get");
    assert!(found.iter().all(|found| matches!(found, Lookup::Found(_))), "an answered line is not there");
    // What was on its way may still come in; each time, it is the first so many lines, once each.
    loop {
        let count = site.backend.stats().await.expect("stats").visible;
        let newest = site.backend.list(ListQuery::new().limit(1)).await.expect("list").remove(0).id;
        let newest = site
            .backend
            .get(vec![newest.clone()], Detail::Full)
            .await
            .expect("get")
            .remove(0)
            .into_record(&newest);
        if site.backend.stats().await.expect("stats").visible == count {
            let body = newest.expect("a record").body.expect("its body");
            assert_eq!(body.as_str(), (count - 1).to_string());
            assert!(count <= COUNT as u64);
            break;
        }
    }
    let answer = site.client().send(Method::POST, "/v1/jobs", &LINES, "{\"body\": 4}\n").await;
    assert_eq!(answers(&answer.body).len(), 1);
}

#[tokio::test]
async fn a_line_without_an_end_is_refused() {
    // What a line may have beside its body.
    const OPTIONS: usize = 256 << 10;
    let site = Site::with(|builder, _| builder.max_body(10_000)).await;
    let mut stream = begin(&site).await;
    chunk(&mut stream, "{\"body\": 1}\n").await;
    read_until(&mut stream, "\"id\":").await;
    // The last byte is the one that is too many: were some left unread when the server ends the
    // connection, that might cut off its answer.
    let line = format!("{{\"body\": \"{}", "x".repeat(10_000 + OPTIONS + 1 - 10));
    assert_eq!(line.len(), 10_000 + OPTIONS + 1);
    let part = format!("{:x}\r\n{line}", 2 * line.len());
    stream.write_all(part.as_bytes()).await.expect("send");
    let rest = read_until(&mut stream, "too_large").await;
    assert!(rest.contains("\"line\":2"), "{rest}");
}

#[tokio::test]
async fn of_more_lines_than_may_wait_the_first_go_in() {
    let site = Site::with(|builder, _| builder.max_waiting(50)).await;
    let keyed = |n: u32| format!("{{\"body\": {n}, \"idempotency_key\": \"k{n}\"}}\n");
    let other = "{\"body\": 1, \"queue\": \"other\"}\n";
    // Line 56 is for a queue that has room: what comes after a refusal is for the next upload all the same.
    let lines: String = (1..=55).map(keyed).chain([other.to_owned()]).chain((56..=60).map(keyed)).collect();
    let upload =
        || async { answers(&site.client().send(Method::POST, "/v1/jobs", &LINES, lines.clone()).await.body) };
    let first = upload().await;
    let is_in = |answer: &serde_json::Value| answer["id"].is_string();
    assert!(first[..50].iter().all(is_in), "{first:?}");
    assert!(!first[50..].iter().any(is_in), "{first:?}");
    let refused = &first[50]["error"];
    assert_eq!(
        (&refused["type"], &refused["status"], &refused["field"]),
        (&"haulage:too_many_waiting".into(), &429.into(), &"queue".into())
    );
    assert_eq!(refused["detail"], "50 jobs are waiting in the queue default, and no more than 50 may");
    assert_eq!(refused["remedy"], "submit again later");
    assert_eq!(site.backend.stats().await.expect("stats").visible, 50);

    // Sent again, what is in is found, and each job that ends makes room for one.
    site.succeed("1").await;
    let again = async || loop {
        let answers = upload().await;
        assert!(answers.iter().zip(&first[..50]).all(|(now, then)| now["id"] == then["id"]), "{answers:?}");
        if is_in(&answers[50]) {
            return answers;
        }
        // What waits is counted twice a second.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let again = tokio::time::timeout(Duration::from_secs(60), again()).await.expect("there is room");
    assert_eq!((is_in(&again[50]), is_in(&again[51])), (true, false), "{again:?}");
}

#[tokio::test]
async fn what_comes_after_a_line_that_has_no_room_is_not_read() {
    let site = Site::with(|builder, _| builder.max_waiting(1)).await;
    let mut stream = begin(&site).await;
    chunk(&mut stream, "{\"body\": 1}\n").await;
    read_until(&mut stream, "\"id\":").await;
    chunk(&mut stream, "{\"body\": 2}\n").await;
    read_until(&mut stream, "too_many_waiting").await;
    chunk(&mut stream, "\n{\"body\": 3}\n").await;
    let end = read_until(&mut stream, "was read").await;
    assert!(end.contains("no line after line 3 was read"), "{end}");
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1);
}

/// Where the lines before it are submitted because it needs room, and where they are after it has begun.
#[tokio::test]
async fn a_line_that_is_not_submitted_is_one_that_was_not_read() {
    let site = Site::with(|builder, _| builder.max_waiting(1)).await;
    site.client().send(Method::POST, "/v1/jobs", &LINES, "{\"body\": 1}\n").await;

    // Somewhat more than is taken in without room.
    let mut stream = begin(&site).await;
    let line = format!("{{\"body\": \"{}\"}}\n", "x".repeat(200));
    chunk(&mut stream, &line.repeat((72 << 10) / line.len())).await;
    let read = read_until(&mut stream, "was read").await;
    let refused = read.matches("too_many_waiting").count() - 1;
    assert!(read.contains(&format!("no line after line {refused} was read")), "{refused}: {read:.4000}");

    let mut stream = begin(&site).await;
    chunk(&mut stream, "{\"body\": 5}\n{\"body\": 6}").await;
    read_until(&mut stream, "too_many_waiting").await;
    chunk(&mut stream, "\n").await;
    let end = read_until(&mut stream, "was read").await;
    assert!(end.contains("no line after line 1 was read"), "{end}");

    let mut stream = begin(&site).await;
    chunk(&mut stream, "{\"body\": 7}\n{\"body\": 8}").await;
    read_until(&mut stream, "too_many_waiting").await;
    stream.write_all(b"0\r\n\r\n").await.expect("send");
    let end = read_until(&mut stream, "was read").await;
    assert!(end.contains("no line after line 1 was read"), "{end}");
    assert_eq!(site.backend.stats().await.expect("stats").visible, 1);
}

#[tokio::test]
async fn of_more_jobs_than_may_wait_a_producer_elsewhere_hears_which_are_in() {
    let site = Site::with(|builder, _| builder.max_waiting(50)).await;
    let backend = Arc::new(HttpBackend::builder(site.server.url()).open().await.expect("open"));
    assert!(!backend.capabilities().atomic_submit, "a submit may be accepted in part");
    let jobs = (0..60).map(|n| NewJob::new(&n).expect("JSON")).collect();
    let failed = Producer::new(backend).submit_many(jobs).await.expect_err("too many");
    assert_eq!((failed.accepted.len(), failed.index, failed.accepted_later.len()), (50, 50, 0));
    assert!(matches!(failed.error, Error::Unavailable { .. }), "{failed}");
    let said = failed.error.to_string();
    assert!(said.contains("no more than 50 may; submit again later"), "{said}");
    assert_eq!(site.backend.stats().await.expect("stats").visible, 50);
}
