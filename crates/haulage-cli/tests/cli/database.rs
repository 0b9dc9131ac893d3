//! The files of an embedded database.

use std::fs;

use serde_json::json;

use crate::place::Place;

#[test]
fn a_query_looks_inside_and_changes_nothing() {
    let place = Place::new();
    place.submit(&["1"]);
    place.submit(&[r#"{"n":2}"#]);
    let query = "SELECT status, count(*) AS jobs, NULL AS empty FROM jobs GROUP BY status";
    assert_eq!(place.ok(["sql", query]), "status     jobs  empty\nSUBMITTED  2     -");
    assert_eq!(place.ok(["sql", query, "--json"]), r#"{"empty":null,"jobs":2,"status":"SUBMITTED"}"#);
    for writing in ["DELETE FROM job", "PRAGMA user_version = 7", "ATTACH 'other.db' AS other", "nonsense"] {
        let done = place.run(["sql", writing]);
        assert!(done.code == Some(2) || done.stdout.is_empty(), "{writing}: {done:?}");
    }
    assert!(!place.path("other.db").exists());
    assert_eq!(place.ok(["list", "--json"]).lines().count(), 2);
    let done = place.run(["sql", "DELETE FROM job"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(2), "haulage: a query can only read\n"));
    assert_eq!(place.run(["sql", query, "--url", "sqlite://none.db"]).code, Some(2));
}

#[test]
fn after_everything_has_ended_the_file_alone_is_a_copy() {
    let place = Place::new();
    for body in ["1", "2", "3"] {
        place.submit(&[body]);
    }
    let worker = place.worker(&["--exec", "cat"]);
    while !place.ok(["stats", "--json"]).contains(r#""success":3"#) {}
    worker.signal("TERM");
    assert_eq!(worker.wait().0, Some(0));
    assert!(!place.path("haulage.db-wal").exists());
    fs::copy(place.path("haulage.db"), place.path("copy.db")).expect("copy");
    let stats = place.ok(["stats", "--json", "--url", "sqlite://copy.db"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    let there = ["visible", "in_progress", "success"].map(|name| stats[name].as_u64().expect("a count"));
    assert_eq!(there.iter().sum::<u64>(), 3, "{stats}");
}

#[test]
fn a_worker_that_is_stopped_at_any_moment_of_its_start_leaves_no_log() {
    let place = Place::new();
    for moment in 0..80 {
        place.submit(&["1"]);
        let worker = place.worker(&["--exec", "cat"]);
        // The moments are what this is about.
        std::thread::sleep(std::time::Duration::from_micros(moment * 250));
        worker.signal("TERM");
        // Earlier than that it hears no signal, and has opened nothing.
        if worker.wait().0 == Some(0) {
            assert!(
                !place.path("haulage.db-wal").exists(),
                "stopped after {moment} quarters of a millisecond"
            );
        }
        place.ok(["stats"]);
    }
}

#[test]
fn a_worker_whose_database_was_moved_says_so_and_goes_on_when_it_is_back() {
    let place = Place::new();
    place.submit(&["1"]);
    let worker = place.worker(&["--claim-wait", "1s", "--exec", "cat"]);
    worker.says("succeeded");
    fs::rename(place.path("haulage.db"), place.path("moved.db")).expect("move");
    worker.says("was deleted, moved or replaced while this process had it open");
    // Nobody starts a new one over the log of that one.
    let done = place.run(["submit", "2"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("holds jobs of a database that was moved or deleted"), "{done:?}");
    fs::rename(place.path("moved.db"), place.path("haulage.db")).expect("move back");
    place.submit(&["2"]);
    worker.says("succeeded");
    assert_eq!(json!(place.ok(["list", "--status", "success", "--json"]).lines().count()), json!(2));
}
