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
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(2), "haulage: a query can only read, and this one would write; nothing was changed\n")
    );
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

#[test]
fn a_backup_is_a_whole_database_of_its_owner_and_replaces_no_file() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let id = place.submit(&["1"]);
    let erased = place.submit(&["\"a body that was purged\""]);
    place.ok(["purge", &erased]);
    // Somebody has it open, and a job is in progress.
    let _worker = place.busy_worker(&[]);
    let done = place.run(["backup", "copy.db"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let copy = fs::metadata(place.path("copy.db")).expect("a copy");
    assert_eq!((copy.mode() & 0o777, copy.nlink()), (0o600, 1));
    let bytes = fs::read(place.path("copy.db")).expect("read");
    assert!(!bytes.windows(6).any(|bytes| bytes == b"purged"));

    let done = place.run(["backup", "copy.db"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.contains("copy.db is there already, and is left as it is"), "{done:?}");
    assert_eq!(fs::read(place.path("copy.db")).expect("read"), bytes);
    // A name that SQLite would take for a URI.
    place.ok(["backup", "file:other.db"]);
    assert_eq!(fs::metadata(place.path("file:other.db")).expect("a copy").len(), copy.len());
    let done = place.run(["backup", "nowhere/copy.db"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    let names = fs::read_dir(place.path(".")).expect("read").map(|entry| entry.expect("entry").file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("part")));

    let url = "sqlite://copy.db";
    assert!(place.ok(["doctor", "--url", url]).contains("every page is sound"));
    assert!(place.ok(["status", "--url", url, &id]).contains("IN_PROGRESS"));
    place.ok(["cancel", "--url", url, &id]);
}
