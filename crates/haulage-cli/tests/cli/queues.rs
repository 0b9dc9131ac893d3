//! Queues by name, from the command line.

use serde_json::{Value, json};

use crate::place::{Place, Worker};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
}

#[test]
fn a_worker_serves_the_queues_that_it_names_and_no_others() {
    let place = Place::new();
    let bulk = place.submit(&["1", "--queue", "bulk"]);
    let other = place.submit(&["2"]);
    let worker = |args: &[&str]| {
        let run = ["worker", "--until-empty", "--shell", "echo \"\\\"$HAULAGE_JOB_QUEUE\\\"\""];
        place.ok([&run[..], args].concat())
    };
    worker(&["--queue", "interactive", "--queue", "bulk"]);
    assert_eq!(place.ok(["result", &bulk]), "\"bulk\"");
    assert_eq!(place.record(&other)["status"], "SUBMITTED", "that is in the queue of nobody's naming");
    assert_eq!((&place.record(&bulk)["queue"], place.record(&other).get("queue")), (&json!("bulk"), None));
    worker(&[]);
    assert_eq!(place.ok(["result", &other]), "\"default\"");
    // By weights, and from the environment.
    let weighted = place.submit(&["3", "--queue", "bulk"]);
    let mut command = place.command(["worker", "--until-empty", "--exec", "cat"]);
    let output = command.env("HAULAGE_QUEUE", "interactive=6,bulk=1").output().expect("run haulage");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(place.ok(["result", &weighted]), "3");
}

#[test]
fn a_paused_queue_holds_its_jobs_until_it_is_resumed() {
    let place = Place::new();
    place.submit(&["0"]);
    assert_eq!(place.ok(["queue", "pause", "bulk"]), "bulk is paused; 0 jobs due in it");
    let submit = Worker::start(place.command(["submit", "--wait", "--queue", "bulk", "1"]));
    submit.says("the queue bulk is paused; `haulage queue resume bulk` lets it go on");
    assert_eq!(place.ok(["queue", "pause", "bulk"]), "bulk was paused already; 1 job due in it");
    let listed = lines(&place.ok(["queue", "list", "--json"]));
    let shown: Vec<_> =
        listed.iter().map(|line| (&line["queue"], &line["is_paused"], &line["due"])).collect();
    let (yes, no, one) = (json!(true), json!(false), json!(1));
    assert_eq!(shown, [(&json!("bulk"), &yes, &one), (&json!("default"), &no, &one)]);
    let table = place.ok(["queue", "list"]);
    assert!(
        table
            .starts_with("QUEUE    STATE   DUE  DELAYED  BLOCKED  RUNNING  DEAD  OLDEST\nbulk     paused  1")
    );
    let stats = place.ok(["stats"]);
    assert!(
        stats.contains("queue                 1  wait in bulk, 0 are being worked on; it is paused"),
        "{stats}"
    );
    let doctor = place.run(["doctor"]);
    assert!(doctor.stdout.contains("the queue bulk is paused, and 1 job waits in it"), "{doctor:?}");
    let worker = place.worker(&["--queue", "bulk", "--exec", "cat"]);
    let resumed = place.ok(["queue", "resume", "bulk", "--json"]);
    assert_eq!(lines(&resumed), [json!({"queue": "bulk", "paused": false, "changed": true})]);
    assert_eq!(submit.wait(), (Some(0), None, "1\n".to_owned()));
    assert_eq!(place.ok(["queue", "resume", "bulk"]), "bulk was not paused; 0 jobs due in it");
    worker.stop();
}

#[test]
fn commands_about_many_jobs_can_be_about_one_queue() {
    let place = Place::new();
    for queue in ["bulk", "bulk", "default"] {
        place.submit(&["1", "--queue", queue, "--max-attempts", "1"]);
    }
    let ids = |args: &[&str]| {
        let listed = lines(&place.ok([args, &["--json"]].concat()));
        listed.into_iter().map(|record| record["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let bulk = ids(&["list", "--queue", "bulk"]);
    assert_eq!((bulk.len(), ids(&["list"]).len()), (2, 3));
    let table = place.ok(["list"]);
    assert!(
        table.lines().next().is_some_and(|line| line.contains("STATUS     QUEUE    ATTEMPTS")),
        "{table}"
    );
    place.ok(["worker", "--until-empty", "--queue", "bulk,default", "--shell", "exit 65"]);
    place.ok(["retry", &bulk[0], &bulk[1]]);
    place.ok(["worker", "--until-empty", "--queue", "bulk", "--shell", "exit 1"]);
    assert_eq!(ids(&["dead", "list", "--queue", "bulk"]), bulk);
    assert_eq!(ids(&["dead", "list", "--queue", "default"]), [""; 0]);
    assert_eq!(place.ok(["dead", "redrive", "--all", "--queue", "default"]), "");
    assert_eq!(place.ok(["dead", "redrive", "--all", "--queue", "bulk"]).lines().count(), 2);
    assert_eq!(place.ok(["cancel", "--yes", "--queue", "bulk"]).lines().count(), 2);
    let purge = |queue: &str, status: &str| {
        place.ok(["purge", "--yes", "--status", status, "--older-than", "0s", "--queue", queue])
    };
    assert_eq!(purge("default", "cancelled"), "0 jobs deleted");
    assert_eq!(purge("bulk", "cancelled"), "2 jobs deleted");
    assert_eq!(purge("default", "error"), "1 job deleted");
}

#[test]
fn a_mistake_in_a_queue_is_named_before_anything_is_done() {
    let place = Place::new();
    for (args, message) in [
        (&["submit", "1", "--queue", "two words"][..], "\"two words\" is not the name of a queue"),
        (
            &["worker", "--exec", "cat", "--queue", "a", "--queue", "b=2"],
            "some queues have a weight and some have none",
        ),
        (&["worker", "--exec", "cat", "--queue", "a,a"], "the queue \"a\" is named twice"),
        (&["worker", "--exec", "cat", "--queue", "a=0"], "it is a number from 1 to 100"),
        (&["queue", "pause", "no/way"], "is not the name of a queue"),
    ] {
        let done = place.run(args);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(message), "{done:?}");
    }
    assert!(!place.path("haulage.db").exists());
}

#[test]
fn a_queue_that_nobody_serves_is_told_while_another_is_busy() {
    let place = Place::new();
    place.submit(&["1"]);
    let _worker = place.busy_worker(&[]);
    let submit = Worker::start(place.command(["submit", "--queue", "bulk", "--wait", "2"]));
    let line = submit.says("no worker takes jobs of the queue bulk: 1 job waits");
    assert!(line.contains("start a worker on sqlite://haulage.db with --queue bulk"), "{line}");
    let text = place.ok(["doctor"]);
    assert!(text.contains("warning  workers: 1 job waits in the queue bulk, the oldest for "), "{text}");
    assert!(text.contains("→ start a worker with --queue bulk"), "{text}");
}

#[test]
fn a_worker_that_waits_for_a_paused_queue_says_so() {
    let place = Place::new();
    let id = place.submit(&["1", "--queue", "bulk"]);
    place.ok(["queue", "pause", "bulk"]);
    let flags = ["--queue", "default", "--queue", "bulk", "--until-empty", "--exec", "cat"];
    let worker = place.worker(&flags);
    let line = worker.says("all that is left waits in paused queues");
    assert!(line.contains("jobs=1") && line.contains("queues=bulk"), "{line}");
    place.ok(["queue", "resume", "bulk"]);
    assert_eq!(worker.wait().0, Some(0));
    assert_eq!(place.record(&id)["status"], "SUCCESS");
}
