//! Dead letters, and their way back.

use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn list_show_retry() {
    let place = Place::new();
    let dead = place.submit(&["{\"n\": 1}", "--max-attempts", "2"]);
    let worker = place.worker(&["--shell", "echo out of memory >&2; exit 1"]);
    assert_eq!(place.run(["wait", &dead]).code, Some(4));
    worker.stop();
    let alive = place.submit(&["2"]);

    let table = place.ok(["dead", "list"]);
    let row = table.lines().nth(1).expect("a row");
    assert!(row.starts_with(&dead) && row.contains("ERROR") && row.contains("2/2"), "{table}");
    assert!(row.contains("dead letter: ") && row.contains("out of memory"), "{table}");
    assert!(!table.contains(&alive), "{table}");
    let shown = place.ok(["show", &dead]);
    for part in ["dead letter   yes", "attempts      2 of 2", "exit code 1: out of memory", "{\"n\": 1}"] {
        assert!(shown.contains(part), "{part:?} in:\n{shown}");
    }

    let done = place.run(["retry", &alive]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert_eq!(done.stderr, format!("haulage: job {alive} is not over yet: it is SUBMITTED\n"));
    assert_eq!(place.ok(["retry", &dead]), dead);
    let record = place.record(&dead);
    assert_eq!((&record["status"], &record["dead"]), (&json!("SUBMITTED"), &json!(false)));
    let worker = place.worker(&["--exec", "cat"]);
    place.ok(["wait", &dead, &alive]);
    worker.stop();
    assert_eq!(place.ok(["result", &dead]), "{\"n\": 1}");
    let done = place.run(["dead", "list"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", "no dead letters\n"));
}

#[test]
fn redrive_all() {
    let place = Place::new();
    let ids = place.feed(["submit", "--jsonl", "-", "--max-attempts", "1"], "1\n2\n3\n").stdout;
    let worker = place.worker(&["--shell", "exit 1"]);
    assert_eq!(place.feed(["wait", "--stdin"], &ids).code, Some(4));
    worker.stop();
    let done = place.run(["dead", "redrive", "--all", "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let redriven: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!(redriven, ids.lines().map(|id| json!({ "id": id })).collect::<Vec<_>>());
    let done = place.run(["dead", "redrive", "--all"]);
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (Some(0), "", "0 jobs put back to work\n")
    );
}
