//! The exec handler.

use std::fs;

use serde_json::{Value, json};

use crate::place::Place;

fn error(record: &Value) -> &str {
    record["error"]["message"].as_str().unwrap_or_default()
}

/// A job with one attempt, through a shell line.
fn shell(line: &str) -> Value {
    Place::new().work(&["1", "--max-attempts", "1"], &["--shell", line])
}

#[test]
fn results_and_exit_codes() {
    let record = shell("echo '{\"a\": 1}'");
    assert_eq!((&record["status"], &record["result"]), (&json!("SUCCESS"), &json!({ "a": 1 })));
    // 65 is final, whatever attempts are left.
    let record = Place::new().work(&["1"], &["--shell", "echo bad shape >&2; exit 65"]);
    assert_eq!(
        (&record["status"], &record["attempt"], &record["dead"]),
        (&json!("ERROR"), &json!(1), &json!(false))
    );
    assert_eq!(error(&record), "exit code 65 (bad input): bad shape");
    // Another code is tried again.
    let record =
        Place::new().work(&["1", "--max-attempts", "2"], &["--shell", "echo one >&2; echo two >&2; exit 3"]);
    assert_eq!(
        (&record["status"], &record["attempt"], &record["dead"]),
        (&json!("ERROR"), &json!(2), &json!(true))
    );
    assert!(error(&record).contains("exit code 3: two\n\nIts stderr ended with:\none\ntwo"), "{record}");
    let record = shell("kill -SEGV $$");
    assert!(error(&record).contains("killed by SIGSEGV (bad memory access)"), "{record}");
    let record = shell("kill -KILL $$");
    assert!(error(&record).contains("killed by SIGKILL (out of memory?)"), "{record}");
}

#[test]
fn results_must_be_json() {
    let record = Place::new().work(&["1"], &["--exec", "echo hello there"]);
    assert_eq!((&record["status"], &record["attempt"]), (&json!("ERROR"), &json!(1)));
    assert_eq!(
        error(&record),
        "the program's output is not JSON: expected value at line 1 column 1; it begins with \"hello there \"; \
         it is not tried again, but by `haulage retry ID`. Where more than the result goes to stdout, have \
         the program write the result to the file that $HAULAGE_RESULT names\n\nAll of it:\nhello there\n"
    );
    let record = Place::new().work(&["1"], &["--exec", "true"]);
    assert!(
        error(&record)
            .starts_with("the program wrote no result; it must write JSON to stdout, or to the file"),
        "{record}"
    );
}

#[test]
fn stdin_may_be_ignored() {
    let place = Place::new();
    // More than a pipe holds.
    place.write("big.json", format!("\"{}\"", "x".repeat(1 << 20)));
    let record = place.work(&["--file", "big.json"], &["--exec", "echo 1"]);
    assert_eq!((&record["status"], &record["result"]), (&json!("SUCCESS"), &json!(1)));
}

#[test]
fn five_megabytes_through_cat() {
    let place = Place::new();
    let body = format!("\"{}\"", "é".repeat(5 << 19));
    place.write("big.json", &body);
    let id = place.submit(&["--file", "big.json"]);
    let worker = place.worker(&["--exec", "cat"]);
    place.ok(["wait", &id]);
    assert!(place.ok(["result", &id]) == body);
    worker.stop();
}

#[test]
fn much_stderr_blocks_nothing() {
    let record = shell("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1");
    let message = error(&record);
    assert!(message.ends_with("line 19999") && message.len() < 4500, "{}", message.len());
    assert!(message.contains("ended with:\n… "), "{message}");
}

#[test]
fn the_program_knows_its_job() {
    let place = Place::new();
    let line = r#"printf '{"id":"%s","request":"%s","attempt":"%s","max":"%s","deadline":"%s","url":"%s","task":"%s"}' \
        $HAULAGE_JOB_ID $HAULAGE_JOB_REQUEST_ID $HAULAGE_ATTEMPT $HAULAGE_JOB_MAX_ATTEMPTS $HAULAGE_DEADLINE $HAULAGE_URL $HAULAGE_JOB_TASK"#;
    let record =
        place.work(&["1", "--request-id", "r-1", "--timeout", "1h", "--task", "embed"], &["--shell", line]);
    let result = &record["result"];
    assert_eq!(result["id"], record["id"]);
    assert_eq!(
        (&result["request"], &result["attempt"], &result["max"]),
        (&json!("r-1"), &json!("1"), &json!("3"))
    );
    assert!(result["deadline"].as_str().is_some_and(|d| d.ends_with('Z')), "{record}");
    assert_eq!((&result["url"], &result["task"]), (&json!("sqlite://haulage.db"), &json!("embed")));
}

/// docs/operations.md has such a program in Python.
#[test]
fn the_next_attempt_of_a_program_has_the_checkpoint_of_the_last() {
    let place = Place::new();
    let line = r#"if [ -e "$HAULAGE_CHECKPOINT" ]; then cat "$HAULAGE_CHECKPOINT"; else
        printf '{"step":7}' > "$HAULAGE_CHECKPOINT"; exit 1; fi"#;
    let record = place.work(&["1", "--max-attempts", "2"], &["--shell", line]);
    assert_eq!((&record["attempt"], &record["result"]), (&json!(2), &json!({"step": 7})));
    assert_eq!(record.get("checkpoint"), None, "it has succeeded");

    // What is no JSON is not kept, and what was there before is.
    let line = r#"case $HAULAGE_ATTEMPT in
        1) printf '[1]' > "$HAULAGE_CHECKPOINT";; 2) printf '[1,' > "$HAULAGE_CHECKPOINT";; *) cat "$HAULAGE_CHECKPOINT" >&2;; esac
        exit 1"#;
    let record = place.work(&["1", "--max-attempts", "3"], &["--shell", line]);
    assert!(error(&record).ends_with("[1]"), "{record}");
    let shown = place.run(["show", "--json", record["id"].as_str().expect("an id")]);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!((&shown["status"], &shown["checkpoint"]), (&json!("ERROR"), &json!([1])), "{shown}");
}

#[test]
fn words_and_arguments() {
    for args in [
        &["--exec", "printf '\"%s-%s\"' 'a  b' c"][..],
        &["--exec", "printf '\"%s-%s\"'", "--", "a  b", "c"],
        &["--exec", "--", "printf", "\"%s-%s\"", "a  b", "c"],
        &["--", "printf", "\"%s-%s\"", "a  b", "c"],
    ] {
        assert_eq!(Place::new().work(&["1"], args)["result"], "a  b-c", "{args:?}");
    }
}

#[test]
fn the_environment_may_choose_the_program() {
    let place = Place::new();
    let id = place.submit(&["[7]"]);
    let mut command = place.command(["worker"]);
    command.env("HAULAGE_EXEC", "cat").env("HAULAGE_HTTP", "");
    let worker = crate::place::Worker::start(command);
    place.ok(["wait", &id]);
    assert_eq!(place.ok(["result", &id]), "[7]");
    worker.stop();
    // A flag goes before it.
    let id = place.submit(&["[7]"]);
    let mut command = place.command(["worker", "--shell", "echo 8"]);
    command.env("HAULAGE_HTTP", "http://localhost:9/");
    let worker = crate::place::Worker::start(command);
    place.ok(["wait", &id]);
    assert_eq!(place.ok(["result", &id]), "8");
    worker.stop();
}

#[test]
fn a_missing_program_is_told_before_any_job_is_claimed() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    fs::write(place.path("plain"), "").expect("write");
    for (args, words) in [
        (
            &["--exec", "no-such-program --x"][..],
            "cannot find the program no-such-program; it is in no folder of $PATH",
        ),
        (&["--exec", "./none"], "cannot run ./none: there is no such file"),
        (&["--exec", "./plain"], "cannot run ./plain: it is not executable; `chmod +x ./plain` makes it so"),
        (
            &["--exec", "cat | sort"],
            "cannot split --exec 'cat | sort': | has a meaning for a shell only, and none is run; use --shell, or put single quotes around it",
        ),
        (&["--exec", ""], "--exec needs a program to run"),
        (
            &[],
            "nothing says how to run a job; give one of --exec COMMAND, --shell LINE, --http URL, \
             --python MODULE[:NAME] or -- COMMAND",
        ),
        (&["--exec", "cat", "--http-ready", "/ping"], "--http-ready goes with --http, and there is none"),
    ] {
        let done = place.run([&["worker"], args].concat());
        assert_eq!((done.code, done.stderr), (Some(2), format!("haulage: {words}\n")), "{args:?}");
    }
    let done = place.run(["worker", "--exec", "cat", "--log", "a=b=c"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.starts_with("haulage: --log (or HAULAGE_LOG) is not a log filter: "), "{done:?}");
    assert_eq!(place.record(&id)["attempt"], 0);
}

#[test]
fn what_a_job_leaves_behind_is_ended() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    // The background process holds stdout and the pipe; the job is over all the same.
    let line = format!("exec 9>{}; sleep 1000 & echo 1", fifo.path().display());
    let record = place.work(&["1"], &["--shell", &line]);
    assert_eq!(record["result"], 1);
    fifo.closed();
}

#[test]
fn stderr_goes_through_line_by_line() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--shell", "echo loading weights >&2; echo 1"]);
    let line = worker.says("loading weights");
    assert!(line.contains("program") && line.contains(&id), "{line}");
    worker.stop();
    let id = place.submit(&["1"]);
    let worker = place.worker(&["--log-format", "json", "--shell", "echo loading weights >&2; echo 1"]);
    let line: Value = serde_json::from_str(&worker.says("loading weights")).expect("a JSON line");
    assert_eq!((&line["target"], &line["span"]["job_id"]), (&json!("program"), &json!(id)));
    worker.stop();
}

/// The record of a job that runs this and whose time is over while it does, once all of that is gone.
pub(crate) fn timed_out(timeout: &str, line: &str) -> Value {
    // On a machine under load, a program may not even have begun by then.
    for timeout in [timeout, "5", "30"] {
        let place = Place::new();
        let fifo = place.fifo("fifo");
        let line = format!("exec 9>{}; touch begun; {line}", fifo.path().display());
        let record = place.work(&["1", "--timeout", timeout, "--max-attempts", "1"], &["--shell", &line]);
        if place.path("begun").exists() {
            fifo.closed();
            return record;
        }
    }
    panic!("the program never began");
}

#[test]
fn a_deadline_ends_the_program() {
    let record = timed_out("0.2", "sleep 1000");
    assert_eq!((&record["status"], &record["error"]["kind"]), (&json!("ERROR"), &json!("timeout")));
}

#[test]
fn a_byte_that_no_variable_can_have_keeps_no_program_from_its_job() {
    let place = Place::new();
    let id = place.submit(&["1", "--request-id", "r-1", "--task", "embed"]);
    let database = rusqlite::Connection::open(place.path("haulage.db")).expect("open");
    database
        .execute_batch(r#"UPDATE job SET request_id = 'r' || char(0) || '1', spec = '{"task":"e\u00001"}'"#)
        .expect("write");
    drop(database);
    let line = r#"printf '["%s", "%s"]' "$HAULAGE_JOB_REQUEST_ID" "$HAULAGE_JOB_TASK""#;
    place.ok(["worker", "--max-jobs", "1", "--shell", line]);
    assert_eq!(place.record(&id)["status"], "SUCCESS");
    assert_eq!(place.ok(["result", &id]), r#"["r1", "e1"]"#);
}
