//! Workers that are not ready, and who is told of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    place::{LONG, Place, Worker},
    serve::Served,
    server::{Answer, Server},
};

/// Asks until the answer is so, and gives it.
fn until(ask: impl Fn() -> String, is_so: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let answer = ask();
        if is_so(&answer) {
            return answer;
        }
        assert!(began.elapsed() < LONG, "still {answer:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_worker_that_waits_for_its_model_is_known_until_it_is_ready() {
    static LOADED: AtomicBool = AtomicBool::new(false);
    let place = Place::new();
    let model = Server::start(|request| match request.line.as_str() {
        "GET /ping HTTP/1.1" if !LOADED.load(Ordering::SeqCst) => Answer::new("503 Service Unavailable", ""),
        _ => Answer::new("200 OK", "1"),
    });
    let served = Served::start(&place, &[]);
    let id = served.ok(&place, &["submit", "--queue", "gpu", "1"]);
    let url = model.url("/invocations");
    let args = ["worker", "--queue", "gpu", "--http", &url, "--http-ready", "/ping"];
    let worker = Worker::start(served.command(&place, &args));
    let workers = || served.ok(&place, &["workers"]);
    let shown = until(workers, |shown| shown.contains("NOT READY"));
    let why = "503 Service Unavailable";
    assert!(shown.contains(" for ") && shown.contains(why), "{shown}");
    // Whoever looks at the file knows as much.
    let json: Value = serde_json::from_str(&place.ok(["workers", "--json"])).expect("JSON");
    assert_eq!((&json["jobs"], &json["unready"]["queues"]), (&0.into(), &serde_json::json!(["gpu"])));
    let name = json["worker"].as_str().expect("its name");
    assert!(name.ends_with(&format!(":{}", worker.id())), "{name}");

    let waiting = || served.ask(&format!("GET /v1/jobs/{id}/waiting HTTP/1.1"));
    let said = waiting();
    let sentence = format!(
        "No worker seems to take jobs from the queue gpu: {name}, which serves it, has not been ready since "
    );
    assert!(said.contains(&sentence) && said.contains(why) && said.contains("\"not_ready\""), "{said}");
    assert!(served.ask("GET /v1/workers HTTP/1.1").contains("\"unready\":{\"queues\":[\"gpu\"]"));
    let doctor = served.ok(&place, &["doctor"]);
    let warning = format!("warning  workers: worker {name} of the queue gpu has not been ready for ");
    assert!(doctor.contains(&warning) && doctor.contains(why), "{doctor}");
    let wait = Worker::start(served.command(&place, &["wait", &id]));
    let line = wait.says("no worker takes jobs of the queue gpu");
    assert!(line.contains(&format!("; {name} has not been ready for ")) && line.contains(why), "{line}");

    LOADED.store(true, Ordering::SeqCst);
    assert_eq!(wait.wait().0, Some(0));
    until(workers, str::is_empty);
    let doctor = served.ok(&place, &["doctor"]);
    assert!(!doctor.contains("not been ready"), "{doctor}");
    worker.stop();
}

#[test]
fn a_worker_that_is_stopped_while_it_is_not_ready_is_not_known_any_more() {
    let place = Place::new();
    let line = "exit 75";
    let worker = place.worker(&["--health-check", "false", "--shell", line]);
    place.submit(&["1"]);
    let workers = || place.ok(["workers"]);
    let shown = until(workers, |shown| shown.contains("NOT READY"));
    assert!(shown.contains("75"), "{shown}");
    worker.stop();
    assert_eq!(workers(), "");
}
