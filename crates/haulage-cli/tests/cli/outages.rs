//! Servers that are down and programs that are missing: no job pays for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    place::{Place, Worker},
    server::{Answer, Server, free_address},
    site::Site,
};

/// Submits so many jobs, which have so many attempts each.
fn submit_many(place: &Place, count: usize, attempts: &str) {
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    let done = place.feed(["submit", "--jsonl", "-", "--max-attempts", attempts], &lines);
    assert_eq!(done.code, Some(0), "{done:?}");
}

fn stats(place: &Place) -> Value {
    serde_json::from_str(&place.ok(["stats", "--json"])).expect("JSON")
}

#[test]
fn a_server_that_is_down_and_comes_back_gets_every_job() {
    const JOBS: usize = 500;
    let place = Place::new();
    // More than one: whom the server leaves in the middle of a request has lost an attempt.
    submit_many(&place, JOBS, "3");
    let address = free_address();
    let url = format!("http://{address}/invocations");
    let site = Site::start(&place, &["--concurrency", "4", "--http", &url]);
    site.becomes("/ready", 500, "Connection refused");
    let (_, ready) = site.get("/ready");
    assert!(ready.contains(&format!("cannot connect to {url}: ")), "{ready}");
    assert!(ready.contains("\"status\":\"not ready\""), "{ready}");
    assert_eq!(site.get("/health").0, 200, "a restart would not help");
    site.becomes("/metrics", 200, "haulage_outages_total{store=\"haulage.db\"} 1\n");

    let half = Arc::new(AtomicU32::new(0));
    let answer = |half: &Arc<AtomicU32>| {
        let half = half.clone();
        move |_: &crate::server::Request| {
            half.fetch_add(1, Ordering::SeqCst);
            Answer::new("200 OK", "1")
        }
    };
    let server = Server::start_at(address, answer(&half));
    site.becomes("/ready", 200, "{\"status\":\"ok\"}");
    while half.load(Ordering::SeqCst) < 50 {
        server.request();
    }
    // In the middle of the work it goes away once more.
    server.stop();
    site.becomes("/ready", 500, "Connection refused");
    let before = stats(&place);
    assert_eq!((&before["error"], &before["dead"]), (&json!(0), &json!(0)), "{before}");
    let _server = Server::start_at(address, answer(&half));
    site.counts("success", JOBS as u32);
    let after = stats(&place);
    assert_eq!((&after["success"], &after["dead"]), (&json!(JOBS), &json!(0)), "{after}");
    site.becomes("/ready", 200, "ok");
    site.worker.stop();
}

#[test]
fn a_server_that_loads_answers_503_and_gets_the_job_when_it_has_loaded() {
    let place = Place::new();
    submit_many(&place, 6, "1");
    let asked = AtomicU32::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0..4 => Answer::Full("503 Service Unavailable", "retry-after: 3600\r\n".into(), "loading".into()),
        _ => Answer::new("200 OK", "1"),
    });
    let site = Site::start(&place, &["--concurrency", "3", "--http", &server.url("/")]);
    let line = site.worker.says("not ready");
    assert!(
        line.contains(&format!("HTTP 503 Service Unavailable from {}: loading", server.url("/"))),
        "{line}"
    );
    site.counts("success", 6);
    site.worker.says("ready again");
    site.worker.stop();
    assert_eq!(stats(&place)["success"], 6);
}

#[test]
fn an_answer_that_is_lost_counts_as_an_attempt() {
    let place = Place::new();
    let server = Server::start(|_| Answer::HangUp);
    let record = place.work(&["1", "--max-attempts", "1"], &["--http", &server.url("/")]);
    assert_eq!((&record["status"], &record["attempt"]), (&json!("ERROR"), &json!(1)), "{record}");
    let message = record["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("no answer from "), "{record}");
}

#[test]
fn a_worker_whose_server_is_down_stops_when_told() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--http", &format!("http://{}/", free_address())]);
    worker.says("not ready");
    worker.stop();
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["attempt"]), (&json!("SUBMITTED"), &json!(0)), "{record}");
}

#[test]
fn a_program_that_is_moved_away_and_back_gets_every_job() {
    let place = Place::new();
    let program = place.write("infer.sh", "#!/bin/sh\ncat\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let site = Site::start(&place, &["--concurrency", "2", "--exec", "./infer.sh"]);
    submit_many(&place, 3, "1");
    site.counts("success", 3);
    fs::rename(&program, place.path("infer.new")).expect("move");
    submit_many(&place, 20, "1");
    let line = site.worker.says("not ready");
    assert!(line.contains("cannot start ./infer.sh: No such file or directory"), "{line}");
    site.becomes("/ready", 500, "there is no such file");
    let list = place.ok(["list"]);
    assert!(list.contains("cannot start ./infer.sh"), "says why it waits: {list}");
    fs::rename(place.path("infer.new"), &program).expect("move");
    site.counts("success", 23);
    assert_eq!(stats(&place)["dead"], 0);
    site.worker.stop();
}

#[test]
fn a_table_of_files_that_is_full_costs_no_job_an_attempt() {
    let place = Place::new();
    submit_many(&place, 60, "1");
    // Each program takes three pipes; so there is room for some of them, not for sixteen.
    let line = format!(
        "ulimit -n 48; exec {} worker --concurrency 16 --shell 'sleep 0.05; cat'",
        env!("CARGO_BIN_EXE_haulage")
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &line]).current_dir(place.path(""));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let worker = Worker::start(command);
    let line = worker.says("not ready");
    assert!(line.contains("cannot start sh: Too many open files"), "{line}");
    while stats(&place)["success"] != 60 {
        assert_eq!(stats(&place)["dead"], 0);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    worker.stop();
}
