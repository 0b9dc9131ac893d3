//! Stopping a worker.

use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn first_finishes_what_runs() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    let made = std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo");
    assert!(made.success());
    let (first, second) = (place.submit(&["1"]), place.submit(&["2"]));
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let worker = place.worker(&["--json", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signal("TERM");
    worker.says("SIGTERM");
    std::fs::write(go, "go\n").expect("write");
    let (code, _, stdout) = worker.wait();
    assert_eq!(code, Some(0));
    let summary: Value = serde_json::from_str(&stdout).expect("a summary");
    assert_eq!((&summary["succeeded"], &summary["released"]), (&json!(1), &json!(0)));
    assert_eq!(place.ok(["result", &first]), "5");
    assert_eq!(place.record(&second)["attempt"], 0);
}

#[test]
fn a_job_that_takes_too_long_is_given_back() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    let line = format!("exec 9>{}; echo started >&9; exec sleep 1000", fifo.path().display());
    let worker = place.worker(&["--shutdown-grace-period", "0.1", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signal("INT");
    worker.says("1 released");
    assert_eq!(worker.wait().0, Some(0));
    fifo.closed();
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["uncounted"]), (&json!("SUBMITTED"), &json!(1)), "{record}");
}

#[test]
fn second_ends_at_once() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    // Would ignore a polite request.
    let line = format!(
        "trap '' TERM; exec 9>{}; echo started >&9; while :; do sleep 0.1; done",
        fifo.path().display()
    );
    let worker = place.worker(&["--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signal("TERM");
    worker.says("a second signal ends");
    worker.signal("TERM");
    let (code, signal, _) = worker.wait();
    assert_eq!((code, signal), (Some(143), None));
    fifo.closed();
    assert_eq!(place.record(&id)["status"], "SUBMITTED");
}

#[test]
fn an_echo_is_no_second_signal() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    let made = std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo");
    assert!(made.success());
    let id = place.submit(&["1"]);
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let worker = place.worker(&["--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signals(&["TERM", "INT"]);
    worker.says("a second signal ends");
    std::fs::write(go, "go\n").expect("write");
    assert_eq!(worker.wait().0, Some(0));
    assert_eq!(place.ok(["result", &id]), "5");
}

#[test]
fn an_idle_worker_stops_at_once() {
    let place = Place::new();
    let worker = place.worker(&["--exec", "cat"]);
    worker.says("worker starts");
    worker.signal("TERM");
    worker.says("haulage: worker stopped: no jobs");
    assert_eq!(worker.wait().0, Some(0));
}

#[test]
fn a_wait_ends_with_the_signal() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let waiting = crate::place::Worker::start(place.command(["wait", &id]));
    waiting.signal("INT");
    assert_eq!(waiting.wait().1, Some(2));
}
