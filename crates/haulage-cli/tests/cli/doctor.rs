//! The doctor, and what it says of things that are no database.

use serde_json::Value;

use crate::place::Place;

#[test]
fn a_healthy_database() {
    let place = Place::new();
    place.submit(&["1", "--delay", "1h"]);
    let text = place.ok(["doctor"]);
    assert!(text.lines().count() > 2 && text.lines().all(|line| line.starts_with("ok       ")), "{text}");
    for line in place.ok(["doctor", "--json"]).lines() {
        let finding: Value = serde_json::from_str(line).expect("a finding");
        assert_eq!(finding["severity"], "ok");
        assert!(finding["check"].is_string() && finding["message"].is_string(), "{line}");
    }
}

#[test]
fn jobs_that_nobody_takes_are_not_ok() {
    let place = Place::new();
    let worker = place.worker(&["--exec", "cat"]);
    place.ok(["wait", &place.submit(&["1"])]);
    assert!(place.ok(["doctor"]).contains("ok       workers: 0 jobs wait, 0 are in progress"));
    worker.stop();
    for _ in 0..3 {
        place.submit(&["1"]);
    }
    let text = place.ok(["doctor"]);
    assert!(text.contains("warning  workers: 3 jobs wait, the oldest for "), "{text}");
    assert!(text.contains("and none is in progress\n         → start a worker"), "{text}");
}

#[test]
fn dead_letters_are_worth_a_word() {
    let place = Place::new();
    place.work(&["1", "--max-attempts", "1"], &["--shell", "exit 1"]);
    let text = place.ok(["doctor"]);
    let words = "warning  dead letters: 1 job has used up its attempts\n         → ";
    assert!(text.contains(words), "{text}");
}

#[test]
fn what_is_no_database() {
    let place = Place::new();
    place.write("notes.txt", "Not a database, and long enough to be looked at as one. ".repeat(50));
    std::fs::create_dir(place.path("folder")).expect("a folder");
    for url in ["sqlite://notes.txt", "sqlite://folder", "sqlite://none.db", "postgres://localhost/"] {
        let done = place.run(["doctor", "--url", url]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""), "{url}: {done:?}");
        assert!(done.stdout.starts_with("problem  open: "), "{url}: {done:?}");
        // Others say the same as an error.
        let done = place.run(["stats", "--url", url]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{url}: {done:?}");
    }
    let kept = std::fs::read_to_string(place.path("notes.txt")).expect("read");
    assert!(kept.starts_with("Not a database"));
}

#[test]
fn somebody_elses_database() {
    let place = Place::new();
    // The header of an empty SQLite database with another application's id.
    let mut page = vec![0; 4096];
    page[..16].copy_from_slice(b"SQLite format 3\0");
    page[16..24].copy_from_slice(&[16, 0, 1, 1, 0, 64, 32, 32]);
    page[31] = 1; // pages
    page[47] = 4; // schema format
    page[59] = 1; // UTF-8
    page[68..72].copy_from_slice(b"OTHR");
    page[100] = 13; // an empty table leaf
    page[105] = 16;
    let path = place.write("other.db", &page);
    let done = place.run(["submit", "1", "--url", "sqlite://other.db"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
    assert!(done.stderr.contains("other.db"), "{done:?}");
    assert_eq!(std::fs::read(path).expect("read"), page, "it is left alone");
    assert_eq!(place.run(["doctor", "--url", "sqlite://other.db"]).code, Some(1));
}
