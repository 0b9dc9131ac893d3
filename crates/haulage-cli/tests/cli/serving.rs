//! Waiting for jobs that nobody runs.

use crate::place::{Place, Worker};

#[test]
fn who_waits_is_told_that_nobody_serves_the_queue() {
    let place = Place::new();
    let submit = Worker::start(place.command(["submit", "--wait", "1"]));
    let line = submit.says("no worker takes jobs");
    assert!(line.contains("1 job waits, the oldest for 1"), "{line}");
    assert!(line.contains("start a worker on sqlite://haulage.db"), "{line}");
    let ids = place.ok(["list", "--json"]);
    let id = serde_json::from_str::<serde_json::Value>(&ids).expect("a record")["id"].to_string();
    let wait = Worker::start(place.command(["wait", id.trim_matches('"')]));
    wait.says("no worker takes jobs");
    // It waits on, and gets its result.
    let worker = place.worker(&["--exec", "cat"]);
    assert_eq!(submit.wait(), (Some(0), None, "1\n".to_owned()));
    assert_eq!(wait.wait().0, Some(0));
    worker.stop();
}

#[test]
fn who_waits_behind_a_long_job_is_told_nothing() {
    let place = Place::new();
    place.submit(&["1"]);
    let _worker = place.busy_worker(&[]);
    let done = place.run(["submit", "--wait", "--wait-timeout", "12s", "2"]);
    assert_eq!(done.code, Some(6));
    assert!(done.stderr.starts_with("haulage: not over after 12s"), "{done:?}");
}
