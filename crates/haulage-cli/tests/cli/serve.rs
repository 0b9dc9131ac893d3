//! `haulage serve`, the keys of it, and all else by the URL of a server.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use serde_json::Value;

use crate::{
    place::{Done, Place, Worker},
    server::{free_address, tls_file},
};

/// A server, and where it is.
pub(crate) struct Served {
    server: Worker,
    url: String,
}

impl Served {
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", place, args)
    }

    fn start_at(address: &str, place: &Place, args: &[&str]) -> Self {
        let command = place.command([&["serve", "--listen", address], args].concat());
        let server = Worker::start(command);
        let line = server.says("serving on http");
        let url = line.split_whitespace().find(|word| word.starts_with("http")).expect("a URL").to_owned();
        Self { server, url }
    }

    /// `haulage` at this server.
    pub(crate) fn command(&self, place: &Place, args: &[&str]) -> Command {
        let mut command = place.command(args);
        command.env("HAULAGE_URL", &self.url);
        command
    }

    fn run(&self, place: &Place, args: &[&str]) -> Done {
        Done::from(self.command(place, args).output().expect("run haulage"))
    }

    /// Runs a command, which must succeed, and gives its stdout.
    #[track_caller]
    pub(crate) fn ok(&self, place: &Place, args: &[&str]) -> String {
        let done = self.run(place, args);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.stdout.trim_end().to_owned()
    }

    /// Sends a request by hand, and gives the answer.
    pub(crate) fn ask(&self, request: &str) -> String {
        let address = self.url.split_once("://").expect("a URL").1;
        let mut stream = TcpStream::connect(address).expect("connect");
        let request = format!("{request}\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    }
}

#[test]
fn all_commands_work_at_a_server_as_they_do_at_its_database() {
    let place = Place::new();
    let served = Served::start(&place, &[]);
    let ok = |args: &[&str]| served.ok(&place, args);
    let id = ok(&["submit", "{\"n\": 1}"]);
    let other = ok(&["submit", "--queue", "bulk", "2"]);
    let worker = Worker::start(served.command(&place, &["worker", "--exec", "cat"]));
    assert!(ok(&["wait", &id]).contains("SUCCESS"));
    assert_eq!(ok(&["submit", "--wait", "5"]), "5");
    worker.stop();
    assert_eq!(ok(&["result", &id]), "{\"n\": 1}");
    let record: Value = serde_json::from_str(&ok(&["status", "--json", &id])).expect("JSON");
    assert_eq!(record["status"], "SUCCESS");
    assert!(ok(&["list"]).contains(&id[..8]));
    assert!(ok(&["queue", "pause", "bulk"]).contains("bulk is paused; 1 job due in it"));
    assert!(ok(&["queue", "list"]).contains("paused"));
    ok(&["queue", "resume", "bulk"]);
    ok(&["cancel", &other]);
    ok(&["retry", &other]);
    ok(&["worker", "--queue", "bulk", "--until-empty", "--shell", "echo no >&2; exit 65"]);
    assert!(ok(&["list", "--status", "error"]).contains(&other[..8]));
    ok(&["purge", &other]);
    assert_eq!(served.run(&place, &["status", &other]).code, Some(3));
    ok(&["doctor"]);
    ok(&["stats"]);
    ok(&["workers"]);
    // What is in the database is the same.
    assert_eq!(place.ok(["result", &id]), "{\"n\": 1}");
    for args in [&["backup", "x.db"][..], &["sql", "SELECT 1"]] {
        let done = served.run(&place, args);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("on the server's machine"), "{done:?}");
    }
    served.server.stop();
}

#[test]
fn a_worker_goes_on_when_its_server_is_started_anew() {
    let place = Place::new();
    let address = free_address().to_string();
    let served = Served::start_at(&address, &place, &[]);
    let (fifo, go) = (place.fifo("begun"), place.path("go"));
    assert!(Command::new("mkfifo").arg(&go).status().expect("run mkfifo").success());
    // The second job has nobody to tell.
    let line = "read body; mkdir once 2>/dev/null && { echo begun >BEGUN; read go <GO; }; echo $body";
    let line = line.replace("BEGUN", &fifo.path().display().to_string());
    let line = line.replace("GO", &go.display().to_string());
    let worker = Worker::start(served.command(&place, &["worker", "--shell", &line]));
    let ids: Vec<_> = (0..2).map(|n| served.ok(&place, &["submit", &n.to_string()])).collect();
    assert_eq!(fifo.line(), "begun");
    // In the middle of a job, and without a word.
    served.server.signal("KILL");
    served.server.wait();
    let server = Worker::start(place.command(["serve", "--listen", &address]));
    server.says("serving on http");
    fs::write(&go, "on\n").expect("it waits for this");
    for id in &ids {
        place.ok(["wait", "--wait-timeout", "300", id]);
        let record = place.record(id);
        assert_eq!((&record["status"], &record["attempt"]), (&"SUCCESS".into(), &1.into()), "{record}");
    }
    worker.stop();
    server.stop();
}

#[test]
fn who_has_no_key_is_told_how_to_get_one_and_a_key_ends_when_it_is_revoked() {
    let place = Place::new();
    let create = |args: &[&str]| {
        let key: Value =
            serde_json::from_str(&place.ok([&["key", "create", "--json"], args].concat())).expect("JSON");
        key["key"].as_str().expect("a secret").to_owned()
    };
    let web = create(&["--name", "web", "--scope", "submit,read"]);
    let work = create(&["--name", "gpu-7", "--scope", "work", "--queue", "bulk"]);
    let listed = place.ok(["key", "list"]);
    assert!(listed.contains("web") && listed.contains("submit,read") && listed.contains("bulk"), "{listed}");
    let file = fs::read_to_string(place.path("haulage.db-keys")).expect("the keys");
    assert!(!file.contains(&web) && !listed.contains(&web), "a secret is kept");

    // Beside the database they are found; whoever may reach the server needs one.
    let served = Served::start(&place, &[]);
    let with = |key: &str, args: &[&str]| {
        Done::from(served.command(&place, args).env("HAULAGE_KEY", key).output().expect("run haulage"))
    };
    let none = served.run(&place, &["submit", "1"]);
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("haulage key create"), "{none:?}");
    assert!(served.ask("GET /v1/jobs HTTP/1.1").starts_with("HTTP/1.1 401"));
    let id = with(&web, &["submit", "--queue", "bulk", "1"]);
    assert_eq!(id.code, Some(0), "{id:?}");
    served.server.says("haulage::audit");
    let refused = with(&web, &["worker", "--until-empty", "--exec", "cat"]);
    assert!(refused.stderr.contains("scope work"), "{refused:?}");
    let done = with(&work, &["worker", "--queue", "bulk", "--until-empty", "--exec", "cat"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let record = place.record(id.stdout.trim_end());
    assert_eq!((&record["status"], &record["metadata"]["haulage.key"]), (&"SUCCESS".into(), &"web".into()));

    // Rotated, both hold for a while; revoked, none does.
    let rotated: Value =
        serde_json::from_str(&place.ok(["key", "rotate", "web", "--overlap", "1h", "--json"])).expect("JSON");
    let next = rotated["key"].as_str().expect("a secret");
    for key in [next, &web] {
        assert_eq!(with(key, &["submit", "1"]).code, Some(0));
    }
    assert!(place.ok(["key", "revoke", "web"]).contains("is revoked"));
    for key in [next, &web] {
        assert_eq!(with(key, &["submit", "1"]).code, Some(2));
    }
    assert_eq!(place.run(["key", "revoke", "web"]).code, Some(3));
    served.server.stop();
}

#[test]
fn a_rotated_key_is_valid_for_as_long_as_the_last_one_was() {
    let place = Place::new();
    let key = |args: &[&str]| -> Value {
        serde_json::from_str(&place.ok([&["key"], args, &["--json"]].concat())).expect("JSON")
    };
    let end = |key: &Value| key["expires_at"].as_str().expect("a time").to_owned();
    let first = key(&["create", "--name", "ci", "--scope", "submit", "--expires", "90d"]);
    let rotated = key(&["rotate", "ci", "--overlap", "1h"]);
    // So it ends later than the first one was to, and not by much.
    assert!(end(&rotated) > end(&first), "{rotated}");
    assert!(place.ok(["key", "list"]).contains("in 89d"), "{}", place.ok(["key", "list"]));
    key(&["create", "--name", "web", "--scope", "read"]);
    assert_eq!(key(&["rotate", "web"])["expires_at"], Value::Null);
}

#[test]
fn without_keys_it_listens_to_this_machine_alone_and_says_so() {
    let place = Place::new();
    let open = place.run(["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(open.code, Some(2), "{open:?}");
    assert!(open.stderr.contains("haulage key create"), "{open:?}");
    let server = Worker::start(place.command(["serve", "--listen", "127.0.0.1:0"]));
    server.says("for this machine only");
    server.stop();
    let missing = place.run(["serve", "--keys", "no-such-file"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    let nested = place.run(["serve", "--url", "http://127.0.0.1:1"]);
    assert!(nested.stderr.contains("not another server"), "{nested:?}");
}

#[test]
fn over_tls_a_server_proves_who_it_is() {
    let place = Place::new();
    let (certificate, key) = (tls_file("certificate.pem"), tls_file("key.pem"));
    let served = Served::start(&place, &["--tls-cert", &certificate, "--tls-key", &key]);
    // The certificate is for this name.
    let url = served.url.replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://"), "{url}");
    let submit = |trusted: &str| {
        let mut command = place.command(["submit", "--url", &url, "1"]);
        Done::from(command.env("SSL_CERT_FILE", trusted).output().expect("run haulage"))
    };
    let known = submit(&certificate);
    assert_eq!(known.code, Some(0), "{known:?}");
    let stranger = submit(&tls_file("stranger.pem"));
    assert_eq!(stranger.code, Some(7), "{stranger:?}");
    assert!(stranger.stderr.contains("set SSL_CERT_FILE to a file with it"), "{stranger:?}");
    served.server.stop();
    let serve = |certificate: &str| place.run(["serve", "--tls-cert", certificate, "--tls-key", &key]);
    let other = serve(&tls_file("stranger.pem"));
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stderr.contains(&format!("stranger.pem with {key}: ")), "{other:?}");
    let no_certificate = serve(&key);
    assert!(
        no_certificate.stderr.contains("there is no certificate in it; it has to be in PEM"),
        "{no_certificate:?}"
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    let served = Served::start(&place, &[]);
    let id = served.ok(&place, &["submit", "1"]);
    // A request whose body does not come holds the end up, for the grace period.
    let address = served.url.split_once("://").expect("a URL").1;
    let mut stream = TcpStream::connect(address).expect("connect");
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("send");
    assert!(served.ask(&format!("GET /v1/jobs/{id} HTTP/1.1")).starts_with("HTTP/1.1 200"));
    served.server.signal("TERM");
    served.server.says("open ones are answered");
    served.server.says("send it again");
    served.server.signal("TERM");
    assert_eq!(served.server.wait().0, Some(143));
}

#[test]
fn where_there_is_no_server_that_is_said() {
    let place = Place::new();
    for (url, code, says) in [
        ("http://127.0.0.1:1", 7, "cannot reach http://127.0.0.1:1/"),
        ("http://", 2, "write it like https://jobs.example.com"),
        ("https://x?key=1", 2, "unknown parameter"),
    ] {
        let done = place.run(["stats", "--url", url]);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.stderr.contains(says), "{done:?}");
    }
}

#[test]
fn of_a_file_with_more_jobs_than_may_wait_the_first_are_submitted() {
    let place = Place::new();
    let served = Served::start(&place, &["--max-waiting", "50"]);
    let bodies: String = (1..=60).map(|n| format!("{n}\n")).collect();
    fs::write(place.path("bodies.jsonl"), bodies).expect("write");
    let done = served.run(&place, &["submit", "--jsonl", "bodies.jsonl"]);
    assert_ne!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout.lines().count(), 50, "{done:?}");
    for said in [
        "50 of 60 jobs were submitted; the first that was not is line 51 of bodies.jsonl",
        "50 jobs are waiting in the queue default, and no more than 50 may; submit again later",
    ] {
        assert!(done.stderr.contains(said), "{said:?} is not in {}", done.stderr);
    }
    served.server.stop();
}
