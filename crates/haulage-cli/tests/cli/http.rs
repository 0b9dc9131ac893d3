//! The HTTP handler.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::{
    place::{Place, Worker},
    server::{Answer, Server, tls_file},
};

fn error(record: &Value) -> &str {
    record["error"]["message"].as_str().unwrap_or_default()
}

/// What becomes of a job with two attempts, when the server answers so each time.
fn answered(answer: Answer) -> (Value, Server) {
    let server = Server::start(move |_| answer.clone());
    let record = Place::new().work(
        &["{\"x\": 1}", "--max-attempts", "2", "--task", "sum"],
        &["--http", &server.url("/invocations")],
    );
    (record, server)
}

#[test]
fn a_result() {
    let (record, server) = answered(Answer::new("200 OK", "{\"label\": 7}"));
    assert_eq!((&record["status"], &record["result"]), (&json!("SUCCESS"), &json!({ "label": 7 })));
    let request = server.request();
    assert_eq!(request.line, "POST /invocations HTTP/1.1");
    assert_eq!(request.body, "{\"x\": 1}");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("x-haulage-job-id"), record["id"].as_str().expect("an id"));
    assert_eq!(request.header("x-request-id"), record["request_id"].as_str().expect("an id"));
    assert_eq!(request.header("x-haulage-attempt"), "1");
    assert_eq!(request.header("x-haulage-task"), "sum");
    let (record, _) = answered(Answer::new("204 No Content", ""));
    assert_eq!((&record["status"], &record["result"]), (&json!("SUCCESS"), &Value::Null));
}

#[test]
fn final_answers() {
    for (answer, words) in [
        (Answer::new("400 Bad Request", "no field x"), "HTTP 400 Bad Request from SERVER: no field x"),
        (Answer::new("404 Not Found", ""), "HTTP 404 Not Found from SERVER"),
        (
            Answer::new("200 OK", "<html>"),
            "the server's answer is not JSON: expected value at line 1 column 1; it begins with \"<html>\"; \
             it is not tried again, but by `haulage retry ID`\n\nAll of it:\n<html>",
        ),
        (
            Answer::Full(
                "307 Temporary Redirect",
                "location: http://elsewhere/x?token=s3cret\r\n".into(),
                String::new(),
            ),
            "HTTP 307 Temporary Redirect from SERVER: it redirects to http://elsewhere/x?…; give that URL to --http",
        ),
    ] {
        let (record, server) = answered(answer);
        assert_eq!((&record["status"], &record["attempt"]), (&json!("ERROR"), &json!(1)), "{record}");
        assert_eq!(error(&record), words.replace("SERVER", &server.url("/invocations")));
    }
}

#[test]
fn answers_to_try_again() {
    for status in ["408 Request Timeout", "429 Too Many Requests", "500 Internal Server Error"] {
        let (record, server) = answered(Answer::new(status, "out of memory"));
        assert_eq!((&record["status"], &record["attempt"]), (&json!("ERROR"), &json!(2)), "{record}");
        let words = format!("HTTP {status} from {}: out of memory", server.url("/invocations"));
        assert!(error(&record).contains(&words), "{record}");
    }
}

#[test]
fn a_server_is_sent_the_checkpoint_that_it_has_left() {
    let place = Place::new();
    let server = Server::start(|request| match request.header("x-haulage-attempt") {
        "1" => Answer::Full(
            "500 Internal Server Error",
            "x-haulage-checkpoint: {\"step\": 1}\r\n".into(),
            "".into(),
        ),
        "2" => {
            Answer::Full("500 Internal Server Error", "x-haulage-checkpoint: {\"ste\r\n".into(), "".into())
        }
        _ => Answer::new("200 OK", request.header("x-haulage-checkpoint")),
    });
    let record = place.work(&["1"], &["--http", &server.url("/")]);
    assert_eq!((&record["attempt"], &record["result"]), (&json!(3), &json!({ "step": 1 })), "{record}");
}

#[test]
fn retry_after_is_honoured() {
    let place = Place::new();
    let header = "retry-after: 3600\r\n".to_owned();
    let server = Server::start(move |_| Answer::Full("429 Too Many Requests", header.clone(), String::new()));
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--http", &server.url("/"), "--retry-cap", "1d"]);
    server.request();
    // The worker's own order would be: at once.
    worker.says("to be tried again");
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["attempt"]), (&json!("SUBMITTED"), &json!(1)), "{record}");
    assert!(place.ok(["status", &id]).contains("(in 59m)"));
    worker.stop();
}

#[test]
fn retry_after_is_no_longer_than_the_cap() {
    let place = Place::new();
    let header = "retry-after: Fri, 01 Jan 2100 00:00:00 GMT\r\n".to_owned();
    let server = Server::start(move |_| Answer::Full("429 Too Many Requests", header.clone(), String::new()));
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--http", &server.url("/"), "--retry-cap", "2h"]);
    worker.says("to be tried again");
    assert!(place.ok(["status", &id]).contains("(in 1h"), "{}", place.ok(["status", &id]));
    worker.stop();
}

#[test]
fn over_tls() {
    let server = Server::start_secure(|_| Answer::new("200 OK", "{\"label\": 7}"));
    let place = Place::new();
    let worker = |trusted: &str| {
        let mut command = place.command(["worker", "--http", &server.url("/")]);
        command.env("SSL_CERT_FILE", trusted);
        Worker::start(command)
    };
    let id = place.submit(&["1", "--max-attempts", "1"]);
    let stranger = worker(&tls_file("stranger.pem"));
    let line = stranger.says("not ready");
    assert!(line.contains("invalid peer certificate"), "{line}");
    stranger.stop();
    assert_eq!(place.record(&id)["attempt"], 0);
    let known = worker(&tls_file("certificate.pem"));
    place.ok(["wait", &id]);
    assert_eq!(place.ok(["result", &id]), "{\"label\": 7}");
    known.stop();
    let worker = worker("none.pem");
    worker.says("haulage: cannot read the system's certificates: ");
    assert_eq!(worker.wait().0, Some(1));
}

#[test]
fn waits_until_the_server_is_ready() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let place = Place::new();
    let server = Server::start(|request| match request.line.as_str() {
        "GET /ping HTTP/1.1" if ASKED.fetch_add(1, Ordering::Relaxed) < 2 => {
            Answer::new("503 Service Unavailable", "")
        }
        "GET /ping HTTP/1.1" => Answer::new("200 OK", ""),
        _ => Answer::new("200 OK", "1"),
    });
    place.work(&["1"], &["--http", &server.url("/invocations?x=1"), "--http-ready", "/ping"]);
    let lines: Vec<_> = (0..4).map(|_| server.request().line).collect();
    assert_eq!(lines[2..], ["GET /ping HTTP/1.1", "POST /invocations?x=1 HTTP/1.1"]);
}

#[test]
fn stops_while_it_waits() {
    let place = Place::new();
    let server = Server::start(|_| Answer::new("503 Service Unavailable", ""));
    let worker = place.worker(&["--http", &server.url("/"), "--http-ready", "/ping"]);
    server.request();
    worker.stop();
}

#[test]
fn urls_are_checked() {
    let place = Place::new();
    for (url, why) in [
        ("localhost:8080", "the scheme is not http or https"),
        ("/invocations", "the URL names no server"),
        ("ftp://localhost/", "the scheme is not http or https"),
        ("http://a:b@localhost/", "a name and password in the URL are not supported; use --http-header-file"),
        ("not a url", "this is not a URL"),
        ("http://localhost:65536/", "the port is not a number from 1 to 65535"),
        ("http://localhost:0/", "the port is not a number from 1 to 65535"),
        ("http://localhost:/", "the port is not a number from 1 to 65535"),
        ("http://[::1]:99999/", "the port is not a number from 1 to 65535"),
    ] {
        let done = place.run(["worker", "--http", url]);
        assert_eq!(done.code, Some(2), "{done:?}");
        let words =
            format!("haulage: --http {url}: {why}; write it like http://localhost:8080/invocations\n");
        assert_eq!(done.stderr, words.replace("a:b@", ""));
    }
}

#[test]
fn a_token_in_the_url_is_in_no_record_and_no_log() {
    let server = Server::start(|_| Answer::new("400 Bad Request", "no"));
    let place = Place::new();
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--http", &server.url("/x?api_key=s3cret"), "--log", "trace"]);
    assert_eq!(server.request().line, "POST /x?api_key=s3cret HTTP/1.1");
    let mut log = Vec::new();
    loop {
        log.push(worker.says(""));
        if log.last().is_some_and(|line| line.contains("failed job_id")) {
            break;
        }
    }
    worker.stop();
    let record = place.record(&id);
    assert_eq!(error(&record), format!("HTTP 400 Bad Request from {}?…: no", server.url("/x")));
    let shown: Vec<_> = log.iter().filter(|line| line.contains("s3cret")).collect();
    assert!(shown.is_empty(), "{shown:?}");
    let done = place.run(["worker", "--http", "http://me:s3cret@localhost/"]);
    assert!(done.code == Some(2) && !done.stderr.contains("s3cret"), "{done:?}");
}

#[test]
fn a_server_gets_the_headers_of_the_settings() {
    let server = Server::start(|_| Answer::new("200 OK", "1"));
    let place = Place::new();
    let headers = place.write("headers", "# of the server\nX-Tenant: 7\n");
    let mut command = place.command(["worker", "--http", &server.url("/"), "--http-header-file"]);
    command.arg(&headers).env("HAULAGE_HTTP_HEADER", "Authorization: Bearer s3cret");
    let id = place.submit(&["1"]);
    let worker = Worker::start(command);
    let request = server.request();
    assert_eq!((request.header("authorization"), request.header("x-tenant")), ("Bearer s3cret", "7"));
    place.ok(["wait", &id]);
    // A token that was changed is the one that is sent.
    place.write("headers", "X-Tenant: 8\n");
    place.submit(&["2"]);
    assert_eq!(server.request().header("x-tenant"), "8");
    worker.stop();
    let done = place.run(["worker", "--http", &server.url("/"), "--http-header", "s3cret"]);
    assert!(done.code == Some(2) && done.stderr.contains("this is not a header"), "{done:?}");
    assert!(!done.stderr.contains("s3cret"), "{done:?}");
}

#[test]
fn a_server_that_drips_comes_to_an_end() {
    let server = Server::start(|_| Answer::Drip);
    let place = Place::new();
    let record =
        place.work(&["1", "--max-attempts", "1"], &["--http", &server.url("/"), "--http-timeout", "1s"]);
    let words = format!("no whole answer from {} within 1s (--http-timeout)", server.url("/"));
    assert_eq!((&record["status"], error(&record)), (&json!("ERROR"), words.as_str()));
    server.hung_up();
}
