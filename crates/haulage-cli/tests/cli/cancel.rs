//! Cancelling, for real: what ran is gone.

use serde_json::{Value, json};

use crate::{
    place::Place,
    server::{Answer, Server},
};

#[test]
fn a_waiting_job_at_once() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    assert_eq!(place.ok(["cancel", &id]), format!("{id} cancelled"));
    assert_eq!(place.record(&id)["status"], "CANCELLED");
    // Again is no mistake.
    assert_eq!(place.ok(["cancel", &id]), format!("{id} is over already: CANCELLED"));
    let again: Value = serde_json::from_str(&place.ok(["cancel", "--json", &id])).expect("a line");
    assert_eq!(again, json!({ "id": id, "cancellation": "too_late", "status": "CANCELLED" }));
    let done = place.run(["result", &id]);
    assert_eq!((done.code, done.stderr), (Some(5), format!("haulage: job {id} was cancelled\n")));
}

#[test]
fn a_job_that_is_done_is_too_late() {
    let place = Place::new();
    let record = place.work(&["1"], &["--exec", "cat"]);
    let id = record["id"].as_str().expect("an id");
    let done = place.run(["cancel", id]);
    assert_eq!(done.code, Some(1));
    assert_eq!(
        done.stderr,
        format!("haulage: job {id} was over before it could be cancelled: it is SUCCESS\n")
    );
}

#[test]
fn a_running_program_and_all_that_it_started() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    let line = format!(
        "exec 9>{}; trap 'echo stopping >&9; exit 0' TERM; sleep 1000 & echo started >&9; wait",
        fifo.path().display()
    );
    let worker = place.worker(&["--heartbeat-interval", "0.1", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    assert_eq!(place.ok(["cancel", &id]), format!("{id} its worker has been asked to stop"));
    let done = place.run(["wait", "--wait-timeout", "300", &id]);
    assert_eq!((done.code, done.stdout), (Some(5), format!("{id} CANCELLED\n")));
    assert_eq!(fifo.line(), "stopping", "it was asked first");
    fifo.closed();
    worker.stop();
}

#[test]
fn a_program_that_is_done_all_the_same() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    let line = format!(
        "exec 9>{}; trap 'echo 7; exit 0' TERM; sleep 1000 & echo started >&9; wait",
        fifo.path().display()
    );
    let worker = place.worker(&["--heartbeat-interval", "0.1", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    place.ok(["cancel", &id]);
    assert_eq!(place.ok(["wait", "--wait-timeout", "300", &id]), format!("{id} SUCCESS"));
    assert_eq!(place.ok(["result", &id]), "7");
    worker.stop();
}

#[test]
fn a_program_that_will_not_stop() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    let line = format!(
        "trap '' TERM; exec 9>{}; echo started >&9; while :; do sleep 0.1; done",
        fifo.path().display()
    );
    let args = ["--heartbeat-interval", "0.1", "--cancel-grace-period", "0.2", "--shell", &line];
    let worker = place.worker(&args);
    assert_eq!(fifo.line(), "started");
    place.ok(["cancel", &id]);
    assert_eq!(place.run(["wait", "--wait-timeout", "300", &id]).code, Some(5));
    fifo.closed();
    worker.stop();
}

#[test]
fn a_request_to_a_server() {
    let place = Place::new();
    let server = Server::start(|_| Answer::Never);
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--heartbeat-interval", "0.1", "--http", &server.url("/")]);
    server.request();
    place.ok(["cancel", &id]);
    assert_eq!(place.run(["wait", "--wait-timeout", "300", &id]).code, Some(5));
    server.hung_up();
    worker.stop();
}
