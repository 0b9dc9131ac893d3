//! The program on `sqs://` URLs, against a local server.
#![allow(missing_docs)]

#[allow(dead_code)] // not all of it is needed here
#[path = "../cli/place.rs"]
mod place;
#[allow(dead_code)] // nor of this
#[path = "../cli/server.rs"]
mod server;

use std::{process::Command, time::SystemTime};

use haulage_servers::{Process, Server};
use place::{Done, Place, Worker};
use serde_json::json;

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

/// The library on the same queue and table.
fn backend(aws: &Aws, queue: &str) -> haulage_aws::Builder {
    let backend = haulage_aws::AwsBackend::builder(queue).table("results").endpoint(aws.server.url());
    backend.region("us-east-1").credentials("local", "local", None)
}

/// What docs/aws.md begins with, among others.
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
        let mut worker = aws.command(url, &["worker", "--shell", "cat", "--concurrency", "4"]);
        worker.env("HAULAGE_CLUSTER_NAME", "prod").env("HAULAGE_SERVICE_NAME", "worker");
        let worker = Process::start(&mut worker);
        assert!(aws.ok(url, &["wait", id, "--wait-timeout", "300s"]).contains("SUCCESS"));
        assert_eq!(aws.ok(url, &["result", id]).trim(), "{\"number\": 4}");
        assert_eq!(aws.ok(url, &["submit", "--wait", "[1, 2]"]).trim(), "[1, 2]");
        worker.signal(libc::SIGTERM);
        let ended = worker.output();
        assert!(ended.status.success());
        let metrics = String::from_utf8_lossy(&ended.stdout);
        let queue = if url.contains(".fifo") { "jobs.fifo" } else { "plain" };
        assert!(metrics.contains(&format!("\"QueueName\":\"{queue}\"")), "{metrics}");
        assert!(metrics.contains("\"JobsSucceeded\":2"), "{metrics}");
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

#[test]
fn a_bucket_is_made_and_deleted_with_the_rest() {
    let aws = Aws::start();
    // Local servers have no host names for buckets; with an endpoint in the URL, none are used.
    let url = format!("sqs://jobs.fifo?table=results&bucket=payloads&endpoint={}", aws.server.url());
    let lines = |text: String| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let outcomes = |steps: &[serde_json::Value]| -> Vec<String> {
        steps.iter().map(|step| step["outcome"].as_str().expect("an outcome").to_owned()).collect()
    };
    let create = ["queue", "create", "--retention", "4d", "--max-receives", "5", "--json"];
    let made = lines(aws.ok(&url, &create));
    assert_eq!(outcomes(&made), ["created"; 4], "{made:?}");
    assert_eq!(made[3]["what"], "bucket payloads");
    let again = aws.ok(&url, &["queue", "create"]);
    for part in ["MessageRetentionPeriod is 345600", "would be made as 1209600", "maxReceiveCount"] {
        assert!(again.contains(part), "{part}: {again}");
    }
    let shown = aws.ok(&url, &["queue", "describe"]);
    for part in
        ["keeps messages for 4 days", "key message_id (S, HASH)", "`haulage/45d/` expires after 45 days"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let large = format!("\"{}\"", "x".repeat(500_000));
    aws.place.write("large.json", &large);
    let id = aws.ok(&url, &["submit", "--file", "large.json"]);
    // Whoever cannot read the body sees the rest.
    let shown = aws.run(&url.replace("bucket=payloads&", ""), &["show", id.trim()]);
    assert_eq!(shown.code, Some(2), "{shown:?}");
    assert!(shown.stdout.contains("SUBMITTED"), "{shown:?}");
    assert!(shown.stderr.contains("add bucket=… to the URL"), "{shown:?}");
    assert!(aws.ok(&url, &["doctor"]).contains("may s3:PutObject: on objects under haulage/"), "{id}");

    let delete = |more: &[&str]| aws.ok(&url, &[&["queue", "delete", "--yes", "--json"], more].concat());
    assert_eq!(outcomes(&lines(delete(&[]))), ["deleted", "deleted", "deleted", "kept"]);
    let kept = lines(delete(&["--bucket"]));
    assert_eq!(outcomes(&kept), ["missing", "missing", "missing", "kept"], "it holds a body");
    assert!(kept[3]["notes"][0].as_str().is_some_and(|note| note.contains("not empty")), "{kept:?}");
}

#[test]
fn redrive_all_brings_back_what_has_died_and_what_sqs_has_moved() {
    let aws = Aws::start();
    let url = "sqs://jobs?table=results";
    aws.ok(url, &["queue", "create", "--max-receives", "2"]);
    let submit = |body: &str| aws.ok(url, &["submit", body, "--max-attempts", "1"]).trim().to_owned();
    let worker = |shell: &str| Process::start(&mut aws.command(url, &["worker", "--shell", shell]));
    // Consumers receive it, and die before they come to anything.
    let moved = submit("2");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let backend = backend(&aws, "jobs").open().await.expect("a backend");
        for _ in 0..3 {
            let receive = backend.sqs().receive_message().queue_url(backend.queue_url());
            receive.visibility_timeout(0).wait_time_seconds(2).send().await.expect("receive");
        }
        let backlog = haulage::Backend::backlog(&backend).await.expect("counts");
        assert_eq!((backlog.visible, backlog.dead), (0, 1), "SQS has moved it");
    });
    let dead = submit("1");
    let failing = worker("exit 1");
    assert_eq!(aws.run(url, &["wait", &dead, "--wait-timeout", "300s"]).code, Some(4));
    failing.signal(libc::SIGTERM);
    failing.output();
    let redriven = aws.run(url, &["dead", "redrive", "--all"]);
    assert_eq!(redriven.stdout, format!("{dead}\n{moved}\n"), "{redriven:?}");
    assert_eq!(redriven.stderr, "2 jobs put back to work\n");
    let worker = worker("cat");
    assert!(aws.ok(url, &["wait", &dead, &moved, "--wait-timeout", "300s"]).contains("SUCCESS"));
    worker.signal(libc::SIGTERM);
    worker.output();
    let none = aws.run(url, &["dead", "redrive", "--all"]);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "0 jobs put back to work\n"));
}

#[test]
fn a_job_whose_message_sqs_has_deleted_is_named_and_sent_again() {
    let aws = Aws::start();
    let url = "sqs://jobs.fifo?table=results";
    aws.ok(url, &["queue", "create"]);
    let id = aws.ok(url, &["submit", "[4]"]).trim().to_owned();
    // It has waited for longer than SQS keeps messages.
    let then = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_micros() - 15 * 24 * 3_600_000_000;
    aws.server.call(
        "DynamoDB_20120810.UpdateItem",
        &json!({
            "TableName": "results",
            "Key": { "message_id": { "S": id } },
            "UpdateExpression": "SET due_at = :then, submitted_at = :then",
            "ExpressionAttributeValues": { ":then": { "N": then.to_string() } },
        }),
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let backend = backend(&aws, "jobs.fifo").open().await.expect("a backend");
        backend.sqs().purge_queue().queue_url(backend.queue_url()).send().await.expect("purged");
    });
    let doctor = aws.run(url, &["doctor"]);
    assert!(doctor.stdout.contains("warning  lost messages: "), "{doctor:?}");
    assert!(doctor.stdout.contains("haulage dead redrive --lost"), "{doctor:?}");
    let again = aws.run(url, &["dead", "redrive", "--lost"]);
    assert_eq!((again.code, again.stdout), (Some(0), format!("{id}\n")), "{}", again.stderr);
    aws.ok(url, &["worker", "--shell", "cat", "--until-empty"]);
    assert_eq!(aws.ok(url, &["result", &id]).trim(), "[4]");
    let none = aws.run(url, &["dead", "redrive", "--lost"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""), "{none:?}");
}

#[test]
fn a_job_of_another_program_has_no_record_until_a_worker_receives_it() {
    let aws = Aws::start();
    let url = "sqs://jobs?table=results";
    aws.ok(url, &["queue", "create"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let id = runtime.block_on(async {
        let backend = backend(&aws, "jobs").open().await.expect("a backend");
        let send = backend.sqs().send_message().queue_url(backend.queue_url()).message_body("[4]");
        send.send().await.expect("sent").message_id.expect("its id")
    });
    for verb in ["status", "show"] {
        let none = aws.run(url, &[verb, &id]);
        assert_eq!((none.code, none.stdout.as_str()), (Some(3), ""), "{none:?}");
        let said = format!("job {id} has no record: no worker of {url} has received its message yet");
        assert!(none.stderr.contains(&said), "{none:?}");
    }
    aws.ok(url, &["worker", "--shell", "cat", "--until-empty"]);
    assert!(aws.ok(url, &["status", &id]).contains("SUCCESS"));
}

/// Producer and worker have no credentials of AWS, nor has the receiver of the webhook.
#[test]
fn a_server_stands_before_the_queue() {
    let aws = Aws::start();
    let url = "sqs://jobs.fifo?table=results";
    aws.ok(url, &["queue", "create"]);
    aws.place.write("secret", aws.ok(url, &["webhook", "secret"]));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--webhook-secret-file", "secret"];
    let serve = [&serve[..], &["--webhook-allow", "127.0.0.1"]].concat();
    let server = Worker::start(aws.command(url, &serve));
    let line = server.says("serving on http");
    let front = line.split_whitespace().find(|word| word.starts_with("http")).expect("a URL");
    let ok = |args: &[&str]| aws.place.ok([&["--url", front], args].concat());
    let receiver = server::Server::start(|_| server::Answer::new("204 No Content", ""));
    let hook = receiver.url("/hooks");

    let id = ok(&["submit", "{\"number\": 4}", "--webhook", &hook]).trim().to_owned();
    let worker = aws.place.command([
        "--url",
        front,
        "worker",
        "--shell",
        "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"number\"])'",
    ]);
    let worker = Worker::start(worker);
    assert!(ok(&["wait", &id, "--wait-timeout", "300s"]).contains("SUCCESS"));
    assert_eq!(aws.ok(url, &["result", &id]).trim(), "4");
    let dead = ok(&["submit", "{}", "--webhook", &hook, "--max-attempts", "1"]).trim().to_owned();
    let mut told = [receiver.request(), receiver.request()].map(|request| {
        let body: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
        (body["data"]["id"].as_str().expect("an id").to_owned(), body["data"]["status"].clone())
    });
    told.sort_by_key(|(told, _)| *told != id);
    assert_eq!(told, [(id.clone(), json!("SUCCESS")), (dead.clone(), json!("ERROR"))]);
    assert!(aws.ok(url, &["list", "--status", "error"]).contains(&dead));
    let slow = ok(&["submit", "1", "--delay", "1h"]).trim().to_owned();
    ok(&["cancel", &slow]);
    assert!(aws.ok(url, &["status", &slow]).contains("CANCELLED"));
    worker.stop();
    server.stop();
}

#[test]
fn results_are_read_when_the_queue_is_gone() {
    let aws = Aws::start();
    let url = "sqs://jobs.fifo?table=results";
    aws.ok(url, &["queue", "create"]);
    let worker = Process::start(&mut aws.command(url, &["worker", "--shell", "cat"]));
    let id = aws.ok(url, &["submit", "[4]"]).trim().to_owned();
    aws.ok(url, &["wait", &id, "--wait-timeout", "300s"]);
    worker.signal(libc::SIGTERM);
    worker.output();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let backend = backend(&aws, "jobs.fifo").open().await.expect("a backend");
        backend.sqs().delete_queue().queue_url(backend.queue_url()).send().await.expect("deleted");
    });
    assert!(aws.ok(url, &["status", &id]).contains("SUCCESS"));
    assert_eq!(aws.ok(url, &["result", &id]).trim(), "[4]");
    assert!(aws.ok(url, &["list"]).contains(&id));
    assert_eq!(aws.run(url, &["dead", "list"]).stderr, "no dead letters\n");
    assert!(aws.ok(url, &["stats", "--exact"]).contains("success               1"));
    for args in [&["stats"][..], &["submit", "1"], &["dead", "redrive", "--all"]] {
        let done = aws.run(url, args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
        assert!(done.stderr.contains("cannot find queue jobs.fifo: it does not exist"), "{args:?}: {done:?}");
    }
    assert!(aws.ok(url, &["purge", &id]).contains('1'));
}

#[test]
fn stats_are_the_counts_of_the_queue_unless_they_are_to_be_exact() {
    let aws = Aws::start();
    let url = "sqs://jobs.fifo?table=results";
    aws.ok(url, &["queue", "create"]);
    for body in ["1", "2", "3"] {
        aws.ok(url, &["submit", body]);
    }
    let id = aws.ok(url, &["submit", "4", "--delay", "1h"]);
    aws.ok(url, &["cancel", id.trim()]);
    let json =
        |args: &[&str]| -> serde_json::Value { serde_json::from_str(&aws.ok(url, args)).expect("JSON") };
    let counts = json(&["stats", "--json"]);
    let of_it = serde_json::json!({ "visible": 4, "delayed": 0, "in_progress": 0, "is_paused": false });
    let all = serde_json::json!({
        "visible": 4, "delayed": 0, "in_progress": 0, "dead": 0, "queues": { "default": of_it }
    });
    assert_eq!(counts, all);
    let exact = json(&["stats", "--exact", "--json"]);
    assert_eq!((&exact["visible"], &exact["cancelled"]), (&3.into(), &1.into()));
    let refused = aws.run(url, &["stats", "--exact", "--watch"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

/// What docs/queues.md says.
#[test]
fn a_store_has_several_queues() {
    let aws = Aws::start();
    let url = "sqs://jobs.fifo?table=results";
    let submit = ["submit", "--queue", "bulk", "[1]"];
    let refused = aws.run(url, &submit);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let created = aws.ok(url, &["queue", "create", "--queue", "interactive"]);
    assert!(created.contains("created  queue jobs--interactive.fifo\n"), "{created}");
    // One more, later: the dead-letter queue takes its messages as well.
    let created = aws.ok(url, &["queue", "create", "--queue", "interactive", "--queue", "bulk"]);
    assert_eq!(created.matches("created").count(), 1, "{created}");
    let id = aws.ok(url, &submit);
    assert_eq!(aws.ok(url, &["queue", "pause", "bulk"]), "bulk is paused; 1 job due in it\n");
    let other = aws.ok(url, &["submit", "--queue", "interactive", "[2]"]);
    let serve = ["worker", "--queue", "interactive", "--queue", "bulk", "--shell", "cat"];
    let worker = Process::start(&mut aws.command(url, &serve));
    assert!(aws.ok(url, &["wait", other.trim(), "--wait-timeout", "300s"]).contains("SUCCESS"));
    let listed = aws.ok(url, &["queue", "list"]);
    let words: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["bulk", "paused", "1", "0", "0"], "{listed}");
    assert_eq!((words[2][0], words[3][0]), ("default", "interactive"), "{listed}");
    assert!(aws.ok(url, &["stats"]).contains("1  wait in bulk, 0 are being worked on; it is paused"));
    let doctor = aws.run(url, &["doctor"]);
    assert!(doctor.stdout.contains("no job of the queue bulk is started, as it is paused"), "{doctor:?}");
    assert!(doctor.stdout.contains("queue interactive: jobs--interactive.fifo at "), "{doctor:?}");
    assert!(aws.ok(url, &["list", "--queue", "bulk"]).contains(id.trim()));
    aws.ok(url, &["queue", "resume", "bulk"]);
    assert!(aws.ok(url, &["wait", id.trim(), "--wait-timeout", "300s"]).contains("SUCCESS"));
    worker.signal(libc::SIGTERM);
    worker.output();
    assert_eq!(
        aws.ok(url, &["purge", "--status", "success", "--older-than", "0s", "--queue", "bulk", "--yes"])
            .trim(),
        "1 job deleted"
    );
    // None of these is another one's.
    let ended = aws.ok(url, &["worker", "--queue", "bulk", "--shell", "cat", "--until-empty"]);
    assert!(!ended.contains("paused"), "{ended}");
    let deleted = aws.ok(url, &["queue", "delete", "--yes"]);
    assert_eq!(deleted.matches("deleted").count(), 5, "{deleted}");
}

#[test]
fn looking_makes_nothing() {
    let aws = Aws::start();
    let url = "sqs://jobs.fifo?table=results";
    for args in [
        &["status", "x"][..],
        &["result", "x"],
        &["wait", "x"],
        &["cancel", "x"],
        &["list"],
        &["dead", "list"],
        &["stats"],
        &["purge", "--status", "success", "--older-than", "1d", "--yes"],
    ] {
        let done = aws.run(url, args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:?}");
        assert!(done.stderr.contains("make it with `haulage queue create`"), "{args:?}: {done:?}");
    }
    let doctor = aws.run(url, &["doctor"]);
    assert_eq!((doctor.code, doctor.stderr.as_str()), (Some(1), ""), "{doctor:?}");
    assert!(doctor.stdout.starts_with("problem  open: cannot find queue jobs.fifo"), "{doctor:?}");
    let shown = aws.ok(url, &["queue", "describe"]);
    assert_eq!(shown, "missing  queue jobs.fifo\nmissing  queue jobs-dead.fifo\nmissing  table results\n");
}

#[test]
fn a_pipeline_is_checked_from_end_to_end_and_left_as_it_was() {
    let aws = Aws::start();
    for name in ["jobs.fifo", "plain"] {
        let bucket = format!("payloads-{}", &name[..4]);
        let url = format!("sqs://{name}?table=results&bucket={bucket}&endpoint={}", aws.server.url());
        aws.ok(&url, &["queue", "create"]);
        // Fails for what has no text, and stops when it is told to.
        let handler = "python3 -c 'import json, sys, time; body = json.load(sys.stdin); \
                       time.sleep(body.get(\"seconds\", 0)); print(len(body[\"text\"]))'";
        let lively =
            ["--concurrency", "4", "--retry-base", "0", "--heartbeat-interval", "1s", "--lease", "4s"];
        let worker = [&["worker", "--shell", handler][..], &lively].concat();
        let worker = Process::start(&mut aws.command(&url, &worker));
        let bodies = ["--body", "{\"text\": \"four\"}", "--result", "4", "--fill", "text"];
        let more = ["--slow-body", "{\"text\": \"\", \"seconds\": 6}", "--failing-body", "{}"];
        let done = aws.run(&url, &[&["e2e", "--timeout", "300s"][..], &bodies, &more].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.starts_with("8 passed, 0 failed, 0 left out"), "{done:?}");
        assert_eq!(aws.ok(&url, &["list"]), "");
        // Nothing that an alarm on the dead letters would go off for.
        let described = aws.ok(&url, &["queue", "describe"]);
        assert_eq!(described.matches("about 0 messages visible").count(), 2, "{described}");
        // Without a bucket, a large body is nothing that could be sent.
        let small = url.replace(&format!("bucket={bucket}&"), "");
        let done = aws.run(&small, &[&["e2e"][..], &bodies].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stdout.contains("left out large        sqs://"), "{done:?}");
        worker.signal(libc::SIGTERM);
        assert!(worker.output().status.success());
    }
}

#[test]
fn mistakes_are_named() {
    let aws = Aws::start();
    for (url, args, code, part) in [
        ("sqs://no-such-queue.fifo", &["submit", "1"][..], 2, "no-such-queue.fifo: it does not exist"),
        ("sqs://jobs?tabel=x", &["stats"], 2, "unknown parameter `tabel`"),
        ("sqs://a/b", &["stats"], 2, "is not the name of a queue"),
        ("sqlite://x.db", &["queue", "create"], 2, "only queues of SQS are made"),
        ("sqs://jobs", &["queue", "create", "--retention", "15d"], 2, "between 1 minute and 14 days"),
        ("sqs://jobs", &["queue", "delete", "--bucket"], 2, "--bucket goes with bucket=… in the URL"),
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
