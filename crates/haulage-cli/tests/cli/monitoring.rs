//! What a worker publishes of itself.

use std::{io::Write as _, net::TcpListener, process::Stdio};

use haulage_servers::Process;
use serde_json::Value;

use crate::{
    place::{Place, Worker},
    server::{Answer, Server},
    site::Site,
};

#[test]
fn counts_follow_the_jobs() {
    let place = Place::new();
    let site = Site::start(&place, &["--shell", "read body; echo 1; exit $body"]);
    site.becomes("/ready", 200, r#"{"status":"ok"}"#);
    for (body, attempts, outcome, count) in
        [("0", "1", "success", 1), ("65", "1", "error", 1), ("1", "3", "error", 2), ("7", "1", "error", 3)]
    {
        let id = place.submit(&[body, "--max-attempts", attempts]);
        place.run(["wait", &id]);
        site.counts(outcome, count);
    }
    site.counts("retry", 2);
    site.becomes(
        "/metrics",
        200,
        "haulage_job_duration_seconds_count{store=\"haulage.db\",queue=\"default\"} 6\n",
    );
    let (_, text) = site.get("/metrics");
    assert!(text.contains("# TYPE haulage_job_duration_seconds histogram\n"), "{text}");
    assert_eq!(site.get("/health"), (200, "{\"status\":\"ok\"}\n".into()));
    assert_eq!(site.get("/nothing").0, 404);
    site.worker.stop();
}

#[test]
fn busy_while_a_job_runs() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    assert!(std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo").success());
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let site = Site::start(&place, &["--concurrency", "3", "--shell", &line]);
    assert_eq!(site.get("/busy"), (200, "{\"status\":\"idle\"}\n".into()));
    place.submit(&["1"]);
    assert_eq!(fifo.line(), "started");
    assert_eq!(site.get("/busy"), (503, "{\"status\":\"busy\"}\n".into()));
    site.becomes("/metrics", 200, "haulage_slots_busy{store=\"haulage.db\"} 1\n");
    site.becomes("/metrics", 200, "haulage_slots{store=\"haulage.db\"} 3\n");
    site.worker.signal("TERM");
    site.becomes("/ready", 500, "stopping");
    assert_eq!(site.get("/health").0, 200);
    std::fs::write(go, "go\n").expect("write");
    assert_eq!(site.worker.wait().0, Some(0));
}

#[test]
fn not_ready_while_the_database_cannot_be_written() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    assert!(std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo").success());
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let site = Site::start(
        &place,
        &["--url", "sqlite://haulage.db?busy_timeout=100ms", "--lease", "1h", "--shell", &line],
    );
    place.submit(&["1"]);
    assert_eq!(fifo.line(), "started");
    site.becomes("/ready", 200, "ok");
    let database = rusqlite::Connection::open(place.path("haulage.db")).expect("open");
    database.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    std::fs::write(go, "go\n").expect("write");
    site.becomes("/ready", 500, "the store does not answer");
    site.becomes("/metrics", 200, "haulage_ready{store=\"haulage.db\"} 0\n");
    assert_eq!(site.get("/health").0, 200, "a restart would not help");
    database.execute_batch("ROLLBACK").expect("roll back");
    site.counts("success", 1);
    site.becomes("/ready", 200, "ok");
    site.worker.stop();
}

#[test]
fn a_worker_that_waits_for_its_queue_is_well_but_not_ready() {
    let place = Place::new();
    let database = rusqlite::Connection::open(place.path("haulage.db")).expect("open");
    database.execute_batch("BEGIN EXCLUSIVE").expect("nobody else can open it");
    let site = Site::start(&place, &["--url", "sqlite://haulage.db?busy_timeout=10m", "--exec", "cat"]);
    assert_eq!(site.get("/health"), (200, "{\"status\":\"ok\"}\n".into()));
    assert_eq!(site.get("/ready"), (500, "{\"status\":\"starting\"}\n".into()));
    assert_eq!(site.get("/busy"), (200, "{\"status\":\"idle\"}\n".into()));
    site.becomes("/metrics", 200, "haulage_ready{store=\"haulage.db\"} 0\n");
    database.execute_batch("ROLLBACK").expect("roll back");
    site.becomes("/ready", 200, "ok");
    site.worker.stop();
}

#[test]
fn a_worker_that_waits_for_its_server_is_well_but_not_ready() {
    let place = Place::new();
    let (sender, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let server = Server::start(move |_| {
        let open = gate.lock().expect("one at a time").try_recv().is_ok();
        Answer::new(if open { "200 OK" } else { "503 Service Unavailable" }, "3")
    });
    let site = Site::start(&place, &["--http", &server.url("/invocations"), "--http-ready", "/ping"]);
    site.becomes(
        "/ready",
        500,
        "/ping is not ready: HTTP 503 Service Unavailable\",\"status\":\"not ready\"}",
    );
    assert_eq!(site.get("/health").0, 200);
    let done = place.run(["health", "--http-listen", &site.address]);
    assert!(done.code == Some(0) && done.stdout.contains("is not ready: HTTP 503"), "{done:?}");
    sender.send(()).expect("the server is there");
    site.becomes("/ready", 200, "ok");
    sender.send(()).expect("the server is there");
    place.submit(&["1"]);
    site.counts("success", 1);
    site.worker.stop();
}

#[test]
fn an_address_that_is_taken_is_named_at_once() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let done = place.run(["worker", "--exec", "cat", "--http-listen", &address]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains(&format!("cannot listen on {address}: ")), "{done:?}");
    assert!(done.stderr.contains("with a port that is free"), "{done:?}");
    assert!(!place.path("haulage.db").exists(), "nothing has begun");
    let done = place.run(["worker", "--exec", "cat", "--http-listen", "everywhere"]);
    assert_eq!(done.code, Some(2), "{done:?}");
}

#[test]
fn health_for_containers() {
    let place = Place::new();
    let site = Site::start(&place, &["--exec", "cat"]);
    let port = site.address.rsplit(':').next().expect("a port").to_owned();
    for address in [site.address.clone(), format!("0.0.0.0:{port}"), format!("localhost:{port}")] {
        let done = place.command(["health"]).env("HAULAGE_HTTP_LISTEN", address).output().expect("run");
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert_eq!(done.stdout, b"{\"status\":\"ok\"}\n");
    }
    let address = site.address.clone();
    site.worker.stop();
    let done = place.run(["health", "--http-listen", &address]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains(&format!("the worker at {address} is not well: ")), "{done:?}");
    assert!(done.stderr.contains("Connection refused"), "{done:?}");
    assert_eq!(place.run(["health"]).code, Some(2));
    assert_eq!(place.run(["health", "--http-listen", "a b"]).code, Some(2));

    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address").to_string();
    let done = place.run(["health", "--http-listen", &address]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no answer within 4s"), "{done:?}");
    let server = Server::start(|_| Answer::new("500 Internal Server Error", "{\"status\":\"stuck\"}"));
    let url = server.url("");
    let done = place.run(["health", "--http-listen", url.trim_start_matches("http://")]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("HTTP 500 Internal Server Error: {\"status\":\"stuck\"}"), "{done:?}");
}

#[test]
fn health_of_a_server() {
    let place = Place::new();
    place.ok(["key", "create", "--name", "web", "--scope", "submit"]);
    let server = Worker::start(place.command(["serve", "--listen", "127.0.0.1:0"]));
    let line = server.says("serving on http");
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).expect("an address");
    // Whoever asks has no key. In an image, the worker's address is set as well.
    let mut health = place.command(["health"]);
    health
        .env("HAULAGE_LISTEN", address.replace("127.0.0.1", "0.0.0.0"))
        .env("HAULAGE_HTTP_LISTEN", "127.0.0.1:1");
    let done = health.output().expect("run");
    assert_eq!(
        (done.status.code(), done.stdout.as_slice()),
        (Some(0), &b"the server answers\n"[..]),
        "{done:?}"
    );
    // What is written counts before the variable of a server.
    let mut health = place.command(["health", "--http-listen", "127.0.0.1:1"]);
    let done = health.env("HAULAGE_LISTEN", address).output().expect("run");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("the worker at 127.0.0.1:1"), "{done:?}");
    let address = address.to_owned();
    server.stop();
    let done = place.run(["health", "--listen", &address]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains(&format!("the server at {address} is not well: ")), "{done:?}");
}

#[test]
fn metrics_for_cloudwatch_are_all_there_is_on_stdout() {
    let place = Place::new();
    for body in ["0", "65", "1"] {
        place.submit(&[body, "--max-attempts", "2"]);
    }
    let names = ["--cluster-name", "prod", "--service-name", "worker"];
    let shell = ["--concurrency", "2", "--shell", "read body; echo 1; exit $body"];
    let worker = place.worker(&[&names[..], &shell[..]].concat());
    place.run(["wait", "--wait-timeout", "300", &place.submit(&["0"])]);
    for record in place.ok(["list", "--json"]).lines() {
        let record: Value = serde_json::from_str(record).expect("a record");
        place.run(["wait", record["id"].as_str().expect("an id")]);
    }
    worker.signal("TERM");
    let (code, _, stdout) = worker.wait();
    assert_eq!(code, Some(0));
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let sum = |name: &str| lines.iter().filter_map(|line| line[name].as_u64()).sum::<u64>();
    assert_eq!((sum("JobsSucceeded"), sum("JobsFailed"), sum("JobsRetried")), (2, 2, 1), "{stdout}");
    let times: usize = lines
        .iter()
        .filter_map(|line| line[haulage_autoscale::JobSeconds::NAME].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(times, 5);
    for line in &lines {
        assert_eq!((&line["ClusterName"], &line["ServiceName"]), (&"prod".into(), &"worker".into()));
        assert_eq!(line["QueueName"], "default");
        let has_slots = line.get("JobSeconds").is_none();
        assert_eq!(line.get("Slots"), has_slots.then_some(&2.into()), "{stdout}");
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], haulage_autoscale::NAMESPACE);
    }
}

#[test]
fn a_cluster_needs_a_service() {
    let place = Place::new();
    let done = place.run(["worker", "--exec", "cat", "--cluster-name", "prod"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("--service-name <NAME>"), "{done:?}");
    let done = place.command(["worker", "--exec", "cat"]).env("HAULAGE_SERVICE_NAME", "x").output();
    assert_eq!(done.expect("run").status.code(), Some(2));
}

#[test]
fn a_stdout_that_nobody_reads_does_not_keep_the_worker_from_ending() {
    let place = Place::new();
    let (mut stdout, _nobody_reads) = std::os::unix::net::UnixStream::pair().expect("a pair");
    stdout.set_nonblocking(true).expect("nonblocking");
    while stdout.write(&[b' '; 4096]).is_ok() {}
    stdout.set_nonblocking(false).expect("blocking");
    let args = ["worker", "--json", "--exec", "cat", "--cluster-name", "prod", "--service-name", "worker"];
    let mut command = place.command(args);
    command.stdout(Stdio::from(std::os::fd::OwnedFd::from(stdout)));
    let worker = Worker::start(command);
    worker.says("worker starts");
    worker.signal("TERM");
    worker.says("nobody has read from stdout");
    assert_eq!(worker.wait().0, Some(1));
}

#[test]
fn a_stdout_that_takes_nothing_harms_no_job() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
    let args = ["worker", "--exec", "cat", "--cluster-name", "prod", "--service-name", "worker"];
    let mut command = place.command(args);
    command.stdout(Stdio::from(full));
    let worker = Process::start(&mut command);
    assert!(place.ok(["wait", "--wait-timeout", "300", &id]).contains("SUCCESS"));
    worker.signal(libc::SIGTERM);
    let output = worker.output();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
