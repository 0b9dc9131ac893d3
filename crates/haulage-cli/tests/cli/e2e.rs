//! Checking a pipeline with real jobs.

use serde_json::Value;

use crate::place::{Place, Worker};

/// Answers with how much text there is, fails for `null`, and takes its time where it is told to.
const HANDLER: &str = r#"
import json, sys, time
body = json.load(sys.stdin)
time.sleep(body.get("seconds", 0))
print(json.dumps({"characters": len(body["text"])}))
"#;

const JOBS: &str = r#"{
    "body": {"text": "four"}, "result": {"characters": 4}, "fill": "text",
    "slow_body": {"text": "", "seconds": 6}, "failing_body": {"text": null}
}"#;

/// A place with a database, a handler and its jobs.
fn place() -> Place {
    let place = Place::new();
    let first = place.submit(&["1"]);
    place.ok(["cancel", &first]);
    place.ok(["purge", &first]);
    place.write("handler.py", HANDLER);
    place.write("e2e.json", JOBS);
    place
}

fn worker(place: &Place) -> Worker {
    let lively = ["--concurrency", "4", "--heartbeat-interval", "250ms", "--lease", "5s"];
    place.worker(&[&lively[..], &["--exec", "python3 handler.py"]].concat())
}

/// Each check with its outcome and message, in the order of the checks.
fn outcomes(stdout: &str) -> Vec<(String, String, String)> {
    let order = ["small", "large", "slow", "failing", "dead-letter", "duplicate", "cancelled", "stopped"];
    let text = |report: &Value, name: &str| report[name].as_str().expect(name).to_owned();
    let mut all: Vec<_> = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|report| (text(&report, "check"), text(&report, "outcome"), text(&report, "message")))
        .collect();
    all.sort_by_key(|(check, ..)| order.iter().position(|name| name == check));
    assert_eq!(all.iter().map(|(check, ..)| check.as_str()).collect::<Vec<_>>(), order, "{stdout}");
    all
}

#[test]
fn a_pipeline_that_works_passes_and_is_left_as_it_was() {
    let place = place();
    let worker = worker(&place);
    let done = place.run(["e2e", "--jobs", "e2e.json", "--junit", "e2e.xml", "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let all = outcomes(&done.stdout);
    assert!(all.iter().all(|(_, outcome, _)| outcome == "passed"), "{all:#?}");
    assert!(all[2].2.contains("IN_PROGRESS → SUCCESS"), "the way of the slow one: {all:#?}");
    assert!(all[3].2.contains("ERROR at attempt 2: exit code 1: TypeError"), "{all:#?}");
    assert!(all[7].2.ends_with("IN_PROGRESS → CANCELLED"), "{all:#?}");
    let junit = std::fs::read_to_string(place.path("e2e.xml")).expect("a report");
    assert!(junit.contains("tests=\"8\" failures=\"0\" errors=\"0\" skipped=\"0\""), "{junit}");
    let left = place.run(["list"]);
    assert_eq!((left.stdout.as_str(), left.stderr.as_str()), ("", "no jobs\n"), "something is left");
    worker.stop();
}

#[test]
fn two_runs_beside_each_other_do_not_meet() {
    let place = place();
    let worker = worker(&place);
    let args = ["e2e", "--body", "{\"text\": \"\"}", "--result", "{\"characters\": 0}"];
    let other = Worker::start(place.command(args));
    let one = place.run(args);
    assert_eq!(one.code, Some(0), "{one:?}");
    let (code, _, stdout) = other.wait();
    assert_eq!(code, Some(0), "{stdout}");
    worker.stop();
}

#[test]
fn what_is_wrong_fails_and_what_is_not_given_is_left_out_with_the_reason() {
    let place = place();
    let worker = worker(&place);
    let args = ["e2e", "--json", "--junit", "e2e.xml", "--body", "{\"text\": \"a\"}", "--result", "4"];
    // One with which it does not fail, and one that is over before it is looked at twice.
    let bodies = ["--failing-body", "{\"text\": \"a\"}", "--skip", "stopped", "--skip", "slow"];
    let done = place.run([&args[..], &bodies].concat());
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("\"message\":\"4 checks failed\""), "{done:?}");
    let all = outcomes(&done.stdout);
    for (nth, outcome, part) in [
        (0, "failed", "the result is {\"characters\": 1} instead of 4"),
        (1, "left_out", "no --fill is given"),
        (2, "left_out", "--skip slow"),
        (3, "failed", "SUCCESS instead of ERROR: give a --failing-body with which the handler fails"),
        (4, "failed", "SUCCESS instead of ERROR"),
        (5, "failed", "the result is"),
        (6, "passed", "CANCELLED"),
        (7, "left_out", "--skip stopped"),
    ] {
        let (check, is, message) = &all[nth];
        assert_eq!(is, outcome, "{check}: {message}");
        assert!(message.contains(part), "{check}: {message}");
    }
    let junit = std::fs::read_to_string(place.path("e2e.xml")).expect("a report");
    assert!(junit.contains("failures=\"4\" errors=\"0\" skipped=\"3\""), "{junit}");
    assert!(junit.contains("{&quot;characters&quot;: 1}"), "{junit}");
    assert_eq!(place.run(["list"]).stdout, "");
    worker.stop();
}

#[test]
fn a_handler_that_fails_for_good_makes_no_dead_letter_and_that_is_said() {
    let place = place();
    let worker = place.worker(&["--concurrency", "4", "--shell", "echo no such image >&2; exit 65"]);
    let done = place.run(["e2e", "--json", "--body", "1", "--failing-body", "2"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let all = outcomes(&done.stdout);
    assert!(all[0].1 == "failed" && all[0].2.contains("ERROR instead of SUCCESS: exit code 65"), "{all:#?}");
    assert!(all[3].1 == "passed" && all[3].2.contains("at attempt 1"), "{all:#?}");
    assert!(all[4].1 == "left_out" && all[4].2.contains("fails this body for good"), "{all:#?}");
    worker.stop();
}

#[test]
fn where_nobody_works_it_ends_in_time_and_says_why() {
    let place = place();
    let done = place.run(["e2e", "--body", "1", "--timeout", "1s"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("failed   small"), "{done:?}");
    assert!(
        done.stdout.contains("no worker has claimed it within 1s; check that one serves sqlite://"),
        "{done:?}"
    );
    assert!(done.stderr.ends_with("haulage: 2 checks failed\n"), "{done:?}");
    assert_eq!(place.run(["list"]).stdout, "");
}

#[test]
fn ctrl_c_deletes_the_jobs_that_run_and_that_wait() {
    let place = place();
    let busy = place.write("wait.json", r#"{"body": 1, "slow_body": 2}"#);
    let test = Worker::start(place.command(["e2e", "--jobs", &busy.display().to_string()]));
    // It takes one of the jobs, and keeps it until it is told to stop.
    let worker = place.busy_worker(&["--heartbeat-interval", "250ms", "--lease", "5s"]);
    test.signal("INT");
    test.says("SIGINT: deleting this test's jobs");
    assert_eq!(test.wait().0, Some(130));
    assert_eq!(place.run(["list"]).stdout, "");
    worker.stop();
}

#[test]
fn mistakes_are_told_before_anything_is_submitted() {
    let place = place();
    place.write("wrong.json", "{\"payload\": 1}");
    place.write("empty.json", "{}");
    for (args, part) in [
        (&[][..], "--body <JSON>"),
        (&["--body", "text"], "--body is not JSON"),
        (&["--body", "1", "--fill", "text"], "the body is not an object, so it has no field `text` to fill"),
        (&["--body", "{\"a\": 1}", "--fill", "b"], "the body has no field `b` to fill; it has `a`"),
        (&["--body", "1", "--skip", "tiny"], "[possible values: small, large,"),
        (&["--body", "1", "--junit", "no/such.xml"], "cannot write no/such.xml"),
        (&["--body", "1", "--timeout", "soon"], "write it like 90s"),
        (&["--jobs", "wrong.json"], "wrong.json is not a file of jobs: unknown field `payload`"),
        (&["--jobs", "empty.json"], "there is no body; give one with which your handler succeeds"),
        (&["--jobs", "missing.json"], "cannot read missing.json"),
    ] {
        let done = place.run([&["e2e"][..], args].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {done:?}");
        assert!(done.stderr.contains(part), "{args:?}: {done:?}");
    }
    assert_eq!(place.run(["list"]).stdout, "");
    let nothing =
        [&["e2e", "--body", "1"][..], &["--skip", "small", "--skip", "duplicate", "--skip", "cancelled"]];
    let done = place.run(nothing.concat());
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("no check was carried out, so nothing is known"), "{done:?}");
}
