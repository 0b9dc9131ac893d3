//! What programs have started ends with their jobs, and with a worker that is killed.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::place::{LONG, Place};

#[test]
fn a_program_does_not_outlive_a_killed_worker() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    place.submit(&["1"]);
    let line = format!("exec 9>{}; echo $$ >&9; exec sleep 1000", fifo.path().display());
    let worker = place.worker(&["--shell", &line]);
    let pid = fifo.line();
    assert!(Path::new("/proc").join(&pid).exists());
    worker.signal("KILL");
    fifo.closed();
    assert_eq!(worker.wait().1, Some(9));
}

#[test]
fn nothing_that_a_program_started_outlives_a_killed_worker() {
    for start in
        ["sleep 1000", "setsid sleep 1000", "setsid sh -c 'sleep 1000 & sleep 1000'", "(setsid sleep 1000 &)"]
    {
        let place = Place::new();
        let fifo = place.fifo("fifo");
        place.submit(&["1"]);
        // They hold the pipe, each of them.
        let line =
            format!("exec 9>{}; {start} & echo started >&9; wait; sleep 1000; echo 1", fifo.path().display());
        let worker = place.worker(&["--shell", &line]);
        assert_eq!(fifo.line(), "started");
        worker.signal("KILL");
        fifo.closed();
    }
}

#[test]
fn a_cancelled_job_leaves_nothing_behind() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    let line = format!("exec 9>{}; setsid sleep 1000 & echo started >&9; sleep 1000", fifo.path().display());
    let worker = place.worker(&["--shell", &line]);
    assert_eq!(fifo.line(), "started");
    place.ok(["cancel", &id]);
    fifo.closed();
    worker.stop();
}

#[test]
fn a_job_whose_time_is_over_leaves_nothing_behind() {
    let record = crate::exec::timed_out("0.5", "setsid sleep 1000 & sleep 1000");
    assert_eq!(record["error"]["kind"], json!("timeout"));
}

/// The guard of this worker: a child of its, by that name.
fn guard(worker: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{worker}/task/{worker}/children")).ok()?;
    children.split_whitespace().filter_map(|id| id.parse().ok()).find(|id: &u32| {
        fs::read_to_string(format!("/proc/{id}/cmdline"))
            .is_ok_and(|line| line.split('\0').nth(1) == Some("guard"))
    })
}

#[test]
fn a_guard_that_is_killed_or_stopped_is_replaced() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let line = format!("exec 9>{}; sleep 1000 & echo started >&9; wait; echo 1", fifo.path().display());
    let worker = place.worker(&[
        "--concurrency",
        "2",
        "--shell",
        "read body; if [ $body = 1 ]; then echo 1; else eval \"$LINE\"; fi",
        "--env",
        &format!("LINE={line}"),
    ]);
    worker.says("worker starts");
    let first = guard(worker.id()).expect("a guard");
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &format!("kill -9 {first}")])
            .status()
            .expect("kill")
            .success()
    );
    let until = Instant::now() + LONG;
    // A job notices.
    while guard(worker.id()).is_none_or(|other| other == first) {
        let id = place.submit(&["1"]);
        place.ok(["wait", &id]);
        assert!(Instant::now() < until, "no other guard");
        std::thread::sleep(Duration::from_millis(5));
    }
    worker.says("another one takes its place");
    place.submit(&["2"]);
    assert_eq!(fifo.line(), "started");
    worker.signal("KILL");
    fifo.closed();
}
