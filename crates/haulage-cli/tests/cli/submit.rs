//! Submitting: one or many, waiting or not.

use serde_json::{Value, json};

use crate::place::{Done, Place};

#[test]
fn round_trip() {
    let place = Place::new();
    let id = place.submit(&["{\"b\": 1, \"a\": 18446744073709551615}"]);
    let worker = place.worker(&["--exec", "cat"]);
    assert_eq!(place.ok(["wait", &id]), format!("{id} SUCCESS"));
    // The very text, not a reading of it.
    assert_eq!(place.ok(["result", &id]), "{\"b\": 1, \"a\": 18446744073709551615}");
    assert_eq!(place.ok(["submit", "--wait", "\"héllo\""]), "\"héllo\"");
    assert_eq!(place.feed(["submit", "--wait"], " null\n").stdout, "null\n");
    assert_eq!(place.feed(["submit", "--wait", "-"], "[]").stdout, "[]\n");
    place.write("body.json", "0");
    assert_eq!(place.ok(["submit", "--wait", "--file", "body.json"]), "0");
    assert_eq!(place.feed(["submit", "--wait", "--file", "-"], "false").stdout, "false\n");
    let record: Value =
        serde_json::from_str(&place.ok(["submit", "--wait", "--json", "[\n1\n]"])).expect("a line");
    assert_eq!((&record["status"], &record["result"]), (&json!("SUCCESS"), &json!([1])));
    worker.stop();
}

#[test]
fn options_reach_the_record() {
    let place = Place::new();
    let id = place.submit(&[
        "1",
        "--group",
        "g",
        "--delay",
        "1h",
        "--max-attempts",
        "5",
        "--timeout",
        "90",
        "--request-id",
        "r-1",
        "--metadata",
        "team=vision",
        "--metadata",
        "run=a=b",
        "--result-ttl",
        "30d",
    ]);
    let record = place.record(&id);
    assert_eq!(record["status"], "SUBMITTED");
    assert_eq!(record["group"], "g");
    assert_eq!(record["max_attempts"], 5);
    assert_eq!(record["request_id"], "r-1");
    assert_eq!(record["metadata"], json!({ "team": "vision", "run": "a=b" }));
    let text = place.ok(["status", &id]);
    for part in ["request id    r-1", "attempts      0 of 5", "metadata      team=vision", "(in 59m)"] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

#[test]
fn the_environment_has_the_flags_names() {
    let place = Place::new();
    let submit = |args: &[&str]| {
        let mut command = place.command([&["submit", "1"], args].concat());
        command
            .env("HAULAGE_URL", "sqlite://other.db")
            .env("HAULAGE_MAX_ATTEMPTS", "7")
            .env("HAULAGE_REQUEST_ID", "r");
        let done = Done::from(command.output().expect("run"));
        assert_eq!(done.code, Some(0), "{done:?}");
        let status = place.ok(["status", "--json", "--url", "sqlite://other.db", done.stdout.trim_end()]);
        serde_json::from_str::<Value>(&status).expect("a record")
    };
    let record = submit(&[]);
    assert_eq!((&record["max_attempts"], &record["request_id"]), (&json!(7), &json!("r")));
    assert_eq!(submit(&["--max-attempts", "2"])["max_attempts"], 2);
    // Set to nothing is not set.
    let mut command = place.command(["submit", "1"]);
    command.env("HAULAGE_URL", "sqlite://other.db").env("HAULAGE_MAX_ATTEMPTS", "").env("HAULAGE_GROUP", "");
    assert_eq!(Done::from(command.output().expect("run")).code, Some(0));
    assert!(!place.path("haulage.db").exists());
}

#[test]
fn a_key_is_submitted_once() {
    let place = Place::new();
    let id = place.submit(&["1", "--idempotency-key", "k"]);
    assert_eq!(place.submit(&[" 1 ", "--idempotency-key", "k"]), id);
    let other = place.run(["submit", "2", "--idempotency-key", "k"]);
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stderr.contains(&format!("idempotency key \"k\" is that of job {id}")), "{}", other.stderr);
    let window = ["submit", "1", "--idempotency-key", "w", "--idempotency-window", "0s"];
    assert_ne!(place.ok(window), place.submit(&["1", "--idempotency-key", "k2"]));
    let again: Value =
        serde_json::from_str(&place.submit(&["1", "--json", "--idempotency-key", "k"])).expect("a line");
    assert_eq!(again, json!({ "id": id, "duplicate": true }));
}

#[test]
fn a_bad_line_submits_nothing() {
    let place = Place::new();
    place.write("jobs.jsonl", "{\"n\": 1}\n\n{\"n\": 2\n3\nnope\n");
    let done = place.run(["submit", "--jsonl", "jobs.jsonl"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.stdout, "");
    assert_eq!(
        done.stderr,
        "haulage: jobs.jsonl line 3 column 7: EOF while parsing an object\n\
         haulage: jobs.jsonl line 5 column 2: expected ident\n\
         haulage: nothing was submitted; fix these lines and try again\n"
    );
    assert!(!place.path("haulage.db").exists());
    // The same through stdin, which can be read but once.
    let done = place.feed(["submit", "--jsonl", "-"], "1\n]\n");
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.starts_with("haulage: stdin line 2 column 1: "), "{}", done.stderr);
}

#[test]
fn lines_keep_their_order() {
    let place = Place::new();
    let lines: String = (0..2500).map(|n| format!("{n}\n")).collect();
    place.write("jobs.jsonl", &lines);
    let ids = place.ok(["submit", "--jsonl", "jobs.jsonl"]);
    assert_eq!(ids.lines().count(), 2500);
    let third = ids.lines().nth(2).expect("a third");
    let shown: Value = serde_json::from_str(&place.ok(["show", "--json", third])).expect("a record");
    assert_eq!(shown["body"], 2);
}

#[test]
fn keyed_lines_can_be_submitted_again() {
    let place = Place::new();
    let first = place.feed(["submit", "--jsonl", "-", "--idempotency-key", "batch"], "1\n2\n");
    let second = place.feed(["submit", "--jsonl", "-", "--idempotency-key", "batch"], "1\n2\n3\n");
    assert_eq!((first.code, second.code), (Some(0), Some(0)));
    assert_eq!(first.stdout.lines().count(), 2);
    assert!(second.stdout.starts_with(&first.stdout), "{first:?} {second:?}");
}

#[test]
fn bulk_wait_writes_records_in_the_order_of_the_lines() {
    let place = Place::new();
    let worker = place.worker(&["--concurrency", "2", "--exec", "cat"]);
    let done = place.feed(["submit", "--wait", "--jsonl", "-"], "\"a\"\n2\n{\"c\":\n");
    assert_eq!(done.code, Some(2), "a bad line: {done:?}");
    let done = place.feed(["submit", "--wait", "--jsonl", "-"], "\"a\"\n2\n[null]\n\n4");
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let results: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line")["result"].clone())
        .collect();
    assert_eq!(results, [json!("a"), json!(2), json!([null]), json!(4)]);
    worker.stop();
}

#[test]
fn waiting_ends_as_the_job_does() {
    let place = Place::new();
    let worker = place.worker(&["--shell", "echo no luck >&2; exit 65"]);
    let done = place.run(["submit", "--wait", "1"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(4), ""));
    assert!(
        done.stderr.starts_with("haulage: job ")
            && done.stderr.ends_with(" failed: exit code 65 (bad input): no luck\n"),
        "{}",
        done.stderr
    );
    let done = place.feed(["submit", "--wait", "--jsonl", "-"], "1\n2\n");
    assert_eq!(done.code, Some(4));
    assert_eq!(done.stderr, "haulage: 2 of 2 jobs failed; see `haulage status ID` for why\n");
    worker.stop();
    // Nobody works on this one.
    let done = place.run(["submit", "--wait", "--wait-timeout", "0.05", "1"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(6), ""));
    assert!(
        done.stderr.starts_with("haulage: not over after 50ms; the work goes on, and `haulage wait "),
        "{}",
        done.stderr
    );
    let id = place.submit(&["1"]);
    place.ok(["cancel", &id]);
    let done = place.run(["wait", &id]);
    assert_eq!(
        (done.code, done.stdout, done.stderr),
        (Some(5), format!("{id} CANCELLED\n"), format!("haulage: job {id} was cancelled\n"))
    );
    let done = place.feed(["wait", "--stdin"], &format!("{id}\n"));
    assert_eq!(done.code, Some(5), "{done:?}");
    assert_eq!(place.feed(["wait", "--stdin"], "").code, Some(0), "there is nothing to wait for");
}
