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
fn all_jobs_of_a_kind_once_it_was_told_to() {
    let place = Place::new();
    let running = place.submit(&["1", "--metadata", "user=anna"]);
    let worker = place.busy_worker(&["--heartbeat-interval", "0.1"]);
    let anna = place.submit(&["2", "--metadata", "user=anna"]);
    let bert = place.submit(&["3", "--metadata", "user=bert", "--group", "g"]);
    let over = place.submit(&["4", "--metadata", "user=anna"]);
    place.ok(["cancel", &over]);

    // It says how many, and does nothing without a yes.
    let done = place.run(["cancel", "--metadata", "user=anna"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert_eq!(
        done.stderr,
        "haulage: 2 jobs (1 waiting, 1 running): nothing was cancelled, since there is no terminal to ask on; add --yes\n"
    );
    assert_eq!(place.record(&anna)["status"], "SUBMITTED");

    let done = place.run(["cancel", "--metadata", "user=anna", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout, format!("{anna} cancelled\n{running} its worker has been asked to stop\n"));
    assert_eq!(done.stderr, "cancelling 2 jobs (1 waiting, 1 running)\n1 job cancelled, 1 asked to stop\n");
    assert_eq!(place.run(["wait", "--wait-timeout", "300", &running]).code, Some(5));
    worker.stop();
    assert_eq!(place.record(&bert)["status"], "SUBMITTED");

    let lines = place.ok(["cancel", "--json", "--status", "submitted", "--group", "g", "--yes"]);
    let told: Value = serde_json::from_str(&lines).expect("a line");
    assert_eq!(told, json!({ "id": bert, "cancellation": "done", "status": null }));
    let done = place.run(["cancel", "--older-than", "0s"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), "no jobs to cancel\n"));
}

#[test]
fn ids_or_what_jobs_have_and_never_all_by_mistake() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    for args in [
        &["cancel"][..],
        &["cancel", "--yes"],
        &["cancel", &id, "--group", "g"],
        &["cancel", &id, "--status", "submitted"],
        &["cancel", "--status", "success"],
    ] {
        let done = place.run(args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {done:?}");
    }
    assert_eq!(place.record(&id)["status"], "SUBMITTED");
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
