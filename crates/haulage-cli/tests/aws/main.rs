//! The program on `sqs://` URLs, against a local server.
#![allow(missing_docs)]

#[allow(dead_code)] // not all of it is needed here
#[path = "../cli/place.rs"]
mod place;

use std::process::Command;

use haulage_servers::Server;
use place::{Done, Place};

/// A folder, a server, and the variables that lead to it.
struct Aws {
    place: Place,
    server: Server,
}

impl Aws {
    fn start() -> Self {
        Self { place: Place::new(), server: haulage_servers::ministack() }
    }

    fn command(&self, url: &str, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command
            .env("HAULAGE_URL", url)
            .env("AWS_ENDPOINT_URL", self.server.url())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    fn run(&self, url: &str, args: &[&str]) -> Done {
        Done::from(self.command(url, args).output().expect("run haulage"))
    }

    #[track_caller]
    fn ok(&self, url: &str, args: &[&str]) -> String {
        let done = self.run(url, args);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.stdout
    }
}

#[test]
fn the_same_commands_on_another_url() {
    let aws = Aws::start();
    for url in ["sqs://jobs.fifo?table=results", "sqs://plain"] {
        let created = aws.ok(url, &["queue", "create"]);
        assert_eq!(created.lines().filter(|line| line.starts_with("created")).count(), 3, "{created}");
        let again = aws.ok(url, &["queue", "create"]);
        assert_eq!(again.lines().filter(|line| line.starts_with("exists")).count(), 3, "{again}");
        assert!(aws.ok(url, &["queue", "describe"]).contains("about 0 messages visible"));

        let id = aws.ok(url, &["submit", "{\"number\": 4}"]);
        let id = id.trim();
        assert!(aws.ok(url, &["status", id]).contains("SUBMITTED"));
        assert!(aws.ok(url, &["stats"]).contains('1'));
        let mut worker =
            aws.command(url, &["worker", "--shell", "cat", "--concurrency", "4"]).spawn().expect("a worker");
        assert!(aws.ok(url, &["wait", id, "--wait-timeout", "30s"]).contains("SUCCESS"));
        assert_eq!(aws.ok(url, &["result", id]).trim(), "{\"number\": 4}");
        assert_eq!(aws.ok(url, &["submit", "--wait", "[1, 2]"]).trim(), "[1, 2]");
        terminate(&worker);
        assert!(worker.wait().expect("the worker").success());
        assert!(aws.ok(url, &["list"]).contains("SUCCESS"));
        let doctor = aws.run(url, &["doctor"]);
        assert_eq!(doctor.code, Some(0), "{doctor:?}");
        assert!(doctor.stdout.contains("may dynamodb:PartiQLInsert"), "{doctor:?}");

        let refused = aws.run(url, &["queue", "delete"]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("add --yes"), "{refused:?}");
        let deleted = aws.ok(url, &["queue", "delete", "--yes"]);
        assert_eq!(deleted.lines().filter(|line| line.starts_with("deleted")).count(), 3, "{deleted}");
    }
}

fn terminate(child: &std::process::Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

#[test]
fn mistakes_are_named() {
    let aws = Aws::start();
    for (url, args, code, part) in [
        ("sqs://no-such-queue.fifo", &["submit", "1"][..], 2, "no-such-queue.fifo: it does not exist"),
        ("sqs://jobs?tabel=x", &["stats"], 2, "unknown parameter `tabel`"),
        ("sqs://a/b", &["stats"], 2, "no name of a queue"),
        ("sqlite://x.db", &["queue", "create"], 2, "queues are for AWS"),
        ("sqs://jobs?endpoint=http://127.0.0.1:1", &["stats"], 7, "AWS cannot be reached"),
    ] {
        let done = aws.run(url, args);
        assert_eq!(done.code, Some(code), "{url}: {done:?}");
        assert!(done.stderr.contains(part), "{url}: {done:?}");
    }
    let mut command = aws.command("sqs://jobs", &["stats"]);
    let done = Done::from(command.env_remove("AWS_REGION").output().expect("run haulage"));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("no AWS region is set"), "{done:?}");
    let mut command = aws.command("sqs://jobs", &["stats"]);
    let command = command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let done = Done::from(command.env("HOME", aws.place.path("")).output().expect("run haulage"));
    assert_eq!(done.code, Some(7), "{done:?}");
    assert!(done.stderr.contains("no AWS credentials"), "{done:?}");
}
