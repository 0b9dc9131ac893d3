//! Webhooks: told by a server, looked at and told again by commands.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    place::{LONG, Place, Worker},
    server::{Answer, Server},
};

/// Answers each delivery with the next of these, and then with the last one.
fn receiver(answers: &'static [Answer]) -> Server {
    let asked = AtomicUsize::new(0);
    Server::start(move |_| answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone())
}

const fn status(status: &'static str) -> Answer {
    Answer::Full(status, String::new(), String::new())
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

    const ANSWERS: &[Answer] = &[status("200 OK"), status("410 Gone"), status("204 No Content")];
    let receiver = receiver(ANSWERS);
    let url = receiver.url("/hooks?token=s3cret");
    let id = place.submit(&["{\"n\": 1}", "--webhook", &url, "--webhook-events", "ended,progress"]);
    let shown = place.ok(["show", &id]);
    assert!(shown.contains("/hooks?… (ended, progress)") && !shown.contains("s3cret"), "{shown}");
    place.ok(["cancel", &id]);
    let told = receiver.request();
    assert_eq!(told.line, "POST /hooks?token=s3cret HTTP/1.1");
    for (header, start) in [("webhook-id", "msg_"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,")]
    {
        assert!(told.header(header).starts_with(start), "{header}: {told:?}");
    }
    let body: Value = serde_json::from_str(&told.body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["id"]), (&"job.ended".into(), &id.as_str().into()));
    assert_eq!(body["data"]["status"], "CANCELLED");

    let other = place.submit(&["2", "--webhook", &url]);
    place.ok(["cancel", &other]);
    receiver.request();
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
    assert_eq!(receiver.request().header("webhook-id"), again.stdout.trim_end());
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
    const ANSWERS: &[Answer] = &[Answer::Never, status("204 No Content")];
    let receiver = receiver(ANSWERS);
    let url = receiver.url("/hooks");
    let job = place.submit(&["1", "--webhook", &url]);
    place.ok(["cancel", &job]);
    let arrives = || receiver.request().header("webhook-id").to_owned();
    let first = arrives();
    server.signal("KILL");
    server.wait();
    let server = serve();
    assert_eq!(arrives(), first, "it is the same delivery");
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
