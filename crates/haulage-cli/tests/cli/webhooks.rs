//! Webhooks: told by a server, looked at and told again by commands.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::place::{LONG, Place, Worker};

/// Answers each delivery with the next of these statuses, and then with the last one; gives heads and bodies.
fn receiver(statuses: &'static [&'static str]) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hooks?token=s3cret", listener.local_addr().expect("an address"));
    let (sender, received) = mpsc::channel();
    thread::spawn(move || {
        for n in 0.. {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut text = Vec::new();
            let (head, body) = loop {
                let mut part = [0; 4096];
                let count = stream.read(&mut part).expect("read");
                text.extend_from_slice(&part[..count]);
                let whole = String::from_utf8_lossy(&text).into_owned();
                let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let status = statuses[statuses.len().min(n + 1) - 1];
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("answer");
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, received)
}

#[test]
fn the_end_of_a_job_is_told_and_what_was_given_up_is_told_again() {
    let place = Place::new();
    let secret = place.ok(["webhook", "secret"]);
    assert!(secret.starts_with("whsec_"), "{secret}");
    place.write("secret", &secret);
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--webhook-secret-file",
        "secret",
        "--webhook-allow",
        "127.0.0.0/8",
    ];
    let server = Worker::start(place.command(arguments));
    server.says("serving on http");

    let (url, received) = receiver(&["200 OK", "410 Gone", "204 No Content"]);
    let id = place.submit(&["{\"n\": 1}", "--webhook", &url, "--webhook-events", "ended,progress"]);
    let shown = place.ok(["show", &id]);
    assert!(shown.contains("/hooks?… (ended, progress)") && !shown.contains("s3cret"), "{shown}");
    place.ok(["cancel", &id]);
    let (head, body) = received.recv_timeout(LONG).expect("a delivery");
    assert!(head.starts_with("POST /hooks?token=s3cret HTTP/1.1"), "{head}");
    for header in ["webhook-id: msg_", "webhook-timestamp: ", "webhook-signature: v1,"] {
        assert!(head.contains(header), "{header}: {head}");
    }
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["id"]), (&"job.ended".into(), &id.as_str().into()));
    assert_eq!(body["data"]["status"], "CANCELLED");

    let other = place.submit(&["2", "--webhook", &url]);
    place.ok(["cancel", &other]);
    received.recv_timeout(LONG).expect("a delivery");
    let line = server.says("the delivery is dead");
    assert!(line.contains("410") && !line.contains("s3cret"), "{line}");
    let dead = place.ok(["webhook", "list", "--dead", "--json"]);
    let dead: Value = serde_json::from_str(&dead).unwrap_or_else(|error| panic!("{error}: {dead}"));
    assert_eq!((&dead["job"], &dead["tries"]), (&other.as_str().into(), &1.into()));
    let table = place.ok(["webhook", "list", "--dead", "--job", &other]);
    assert!(table.contains("dead") && table.contains("HTTP 410") && table.contains("/hooks?…"), "{table}");
    let finding = place.ok(["doctor"]);
    assert!(finding.contains("webhooks: 1 webhook delivery is dead"), "{finding}");

    let again = place.run(["webhook", "redrive", "--all"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), "1 delivery redriven\n"));
    assert_eq!(again.stdout.trim_end(), dead["id"]);
    let (head, _) = received.recv_timeout(LONG).expect("a delivery");
    assert!(head.contains(again.stdout.trim_end()), "{head}");
    let none = place.run(["webhook", "redrive", "msg_none"]);
    assert_eq!(none.code, Some(3), "{none:?}");
    assert!(none.stderr.contains("there is no dead delivery msg_none"), "{none:?}");
    server.stop();
}

#[test]
fn a_server_that_is_killed_while_it_tells_is_followed_by_another() {
    let place = Place::new();
    place.write("secret", place.ok(["webhook", "secret"]));
    let serve = || {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--webhook-secret-file", "secret"];
        let server =
            Worker::start(place.command(arguments.into_iter().chain(["--webhook-allow", "127.0.0.1"])));
        server.says("serving on http");
        server
    };
    let server = serve();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
    // What has arrived, once its head is there; nobody answers.
    let arrives = || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("read");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("text");
        let id = head.lines().find(|line| line.starts_with("webhook-id: ")).expect("an id").to_owned();
        (stream, id)
    };
    let job = place.submit(&["1", "--webhook", &url]);
    place.ok(["cancel", &job]);
    let (_stream, first) = arrives();
    server.signal("KILL");
    server.wait();
    let server = serve();
    let (mut stream, second) = arrives();
    assert_eq!(first, second, "it is the same delivery");
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("answer");
    let until = Instant::now() + LONG;
    while !place.ok(["webhook", "list", "--json"]).is_empty() {
        assert!(Instant::now() < until, "that it was told is not known");
        thread::sleep(Duration::from_millis(50));
    }
    server.stop();
}

#[test]
fn what_no_server_would_tell_is_refused() {
    let place = Place::new();
    let done = place.run(["submit", "1", "--webhook", "ftp://a.example"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("webhook is not a URL like https://"), "{done:?}");
    let done = place.run(["submit", "1", "--webhook-events", "ended"]);
    assert!(done.stderr.contains("--webhook"), "{done:?}");
    place.write("secret", "whsec_short");
    let done = place.run(["serve", "--listen", "127.0.0.1:0", "--webhook-secret-file", "secret"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("line 1") && !done.stderr.contains("short"), "{done:?}");
    let server = Worker::start(place.command(["serve", "--listen", "127.0.0.1:0"]));
    let line = server.says("serving on http");
    let url = line.split_whitespace().find(|word| word.starts_with("http")).expect("a URL");
    let done = place.run(["submit", "1", "--url", url, "--webhook", "https://a.example"]);
    assert!(done.stderr.contains("--webhook-secret-file"), "{done:?}");
    assert_eq!(place.ok(["webhook", "list"]), "");
    server.stop();
}
