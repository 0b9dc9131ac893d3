//! What is said, and with which exit code, when something is wrong.

use haulage_servers::Process;
use serde_json::{Value, json};

use crate::place::Place;

const NO_JOB: &str = "00000000-0000-7000-8000-000000000000";

/// Runs a command that fails with this code and exactly these words.
fn fails(place: &Place, args: &[&str], code: i32, words: &str) {
    let done = place.run(args);
    let words = words.replace("PLACE", &place.path("").display().to_string());
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.trim_end()),
        (Some(code), "", words.trim_end()),
        "{args:?}"
    );
}

#[test]
fn who_names_no_jobs_is_told_every_way_to_do_so() {
    let place = Place::new();
    for (args, words) in [
        (
            &["cancel", "--yes"][..],
            "haulage: nothing says which jobs; give their ids, or what they have in common, such as --group GROUP, \
             --metadata KEY=VALUE or --status submitted",
        ),
        (
            &["purge", "--yes"],
            "haulage: nothing says which jobs; give their ids, or --status and --older-than",
        ),
        (&["wait"], "haulage: nothing says which jobs; give their ids, or --stdin"),
    ] {
        fails(&place, args, 2, words);
    }
}

#[test]
fn malformed_json_is_pointed_at() {
    let place = Place::new();
    fails(
        &place,
        &["submit", "{\"a\": nope}"],
        2,
        "haulage: the body is not JSON: expected ident at line 1 column 8; \
         nothing was submitted; correct it and try again",
    );
    fails(
        &place,
        &["submit", "hello"],
        2,
        "haulage: the body is not JSON: expected value at line 1 column 1; \
         to send it as a text, put double quotes inside the shell's: '\"…\"'",
    );
    fails(
        &place,
        &["submit", ""],
        2,
        "haulage: the body is empty; a job's body is a JSON document, and may be null",
    );
    // Nothing on stdin.
    fails(
        &place,
        &["submit"],
        2,
        "haulage: stdin is empty; a job's body is a JSON document, and may be null",
    );
    place.write("body.json", "[1,\n 2");
    fails(
        &place,
        &["submit", "--file", "body.json"],
        2,
        "haulage: body.json is not JSON: EOF while parsing a list at line 2 column 2; \
         nothing was submitted; correct it and try again",
    );
    fails(
        &place,
        &["submit", "--file", "none.json"],
        2,
        "haulage: cannot read none.json: No such file or directory (os error 2)",
    );
    assert!(!place.path("haulage.db").exists(), "a mistake leaves no database behind");
}

#[test]
fn options_have_ranges() {
    let place = Place::new();
    fails(
        &place,
        &["submit", "1", "--max-attempts", "0"],
        2,
        "haulage: max_attempts is 0; a job needs 1 attempt at least",
    );
    fails(&place, &["submit", "1", "--delay", "400d"], 2, "haulage: delay is longer than 366 days");
    let done = place.run(["submit", "1", "--timeout", "soon"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("write it like 90s, 5m, 1h30m or 2d"), "{}", done.stderr);
    let done = place.run(["list", "--status", "done"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("submitted, in-progress, success, error, cancelled"), "{}", done.stderr);
    let done = place.run(["submit", "1", "--metadata", "color"]);
    assert!(done.code == Some(2) && done.stderr.contains("write it like key=value"), "{}", done.stderr);
}

#[test]
fn unknown_flags_are_explained_in_one_voice() {
    let done = Place::new().run(["submit", "--max-attempt", "3", "1"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.starts_with("haulage: unexpected argument '--max-attempt' found"), "{}", done.stderr);
    assert!(done.stderr.contains("--max-attempts"), "{}", done.stderr);
}

#[test]
fn looking_makes_no_database() {
    let place = Place::new();
    let words = "haulage: there is no database haulage.db yet; \
                 the first submit or worker makes it, or name another with --url";
    for args in [
        &["status", NO_JOB][..],
        &["result", NO_JOB],
        &["wait", NO_JOB],
        &["cancel", NO_JOB],
        &["list"],
        &["dead", "list"],
        &["dead", "redrive", "--all"],
        &["stats"],
        &["purge", "--status", "success", "--older-than", "1d", "--yes"],
    ] {
        fails(&place, args, 2, words);
    }
    assert!(!place.path("haulage.db").exists());
}

#[test]
fn unknown_scheme() {
    let place = Place::new();
    for args in [&["submit", "1"][..], &["stats"], &["worker", "--exec", "cat"]] {
        let done = place.run([args, &["--url", "postgres://localhost/jobs"]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
        let words = "haulage: unknown URL scheme `postgres`; write sqlite://haulage.db for a file of this \
                     machine, https://jobs.example.com for a Haulage server, or sqs://jobs.fifo?table=results for AWS";
        assert_eq!(done.stderr.lines().last(), Some(words));
    }
}

#[test]
fn memory_is_no_place_for_jobs_of_several_commands() {
    let place = Place::new();
    let words = "haulage: memory:// is gone when this command ends, and other commands cannot see it; \
                 keep the jobs in a file, with sqlite://haulage.db";
    fails(&place, &["submit", "1", "--url", "memory://"], 2, words);
}

#[test]
fn a_locked_database_is_unavailable() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let other = rusqlite::Connection::open(place.path("haulage.db")).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let url = "sqlite://haulage.db?busy_timeout=50ms";
    let done = place.run(["submit", "2", "--url", url]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(7), ""), "{done:?}");
    let path = place.path("haulage.db").canonicalize().expect("the database");
    let path = path.display();
    let (me, pid) = (std::fs::read_to_string("/proc/self/comm").expect("comm"), std::process::id());
    let why = format!(
        "{path} has been locked for more than 50ms: nothing was stored; process {pid} ({}) holds it: close that, \
         and try again",
        me.trim_end()
    );
    assert_eq!(done.stderr, format!("haulage: {why}\n"));
    // A file goes in all the same, up to where it does not.
    place.write("jobs.jsonl", "1\n2\n");
    let done = place.run(["submit", "--jsonl", "jobs.jsonl", "--url", url]);
    assert_eq!(done.code, Some(7));
    let words = format!(
        "haulage: 0 of 2 jobs were submitted; the first that was not is line 1 of jobs.jsonl: {why}\n"
    );
    assert_eq!(done.stderr, words);
    other.execute_batch("ROLLBACK").expect("unlock");
    assert_eq!(place.record(&id)["status"], "SUBMITTED");
}

#[test]
fn absent_jobs_are_not_found() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let words = format!("haulage: there is no job {NO_JOB}");
    for command in ["result", "cancel", "wait"] {
        fails(&place, &[command, NO_JOB], 3, &words);
    }
    fails(&place, &["show", NO_JOB], 3, &words);
    fails(&place, &["retry", NO_JOB], 3, &words);
    fails(&place, &["status", "nonsense"], 3, "haulage: there is no job nonsense");
    // What there is, is shown all the same.
    let done = place.run(["status", NO_JOB, &id]);
    assert_eq!((done.code, done.stderr.trim_end()), (Some(3), words.as_str()));
    assert!(done.stdout.contains(&id), "{}", done.stdout);
}

#[test]
fn errors_as_json() {
    let place = Place::new();
    let error = |args: &[&str]| -> (Option<i32>, Value) {
        let done = place.run(args);
        assert_eq!(done.stdout, "");
        (done.code, serde_json::from_str(&done.stderr).unwrap_or_else(|e| panic!("{e}: {}", done.stderr)))
    };
    place.submit(&["1"]);
    let message = format!("there is no job {NO_JOB}");
    assert_eq!(
        error(&["status", "--json", NO_JOB]),
        (Some(3), json!({ "error": { "code": "not_found", "exit_code": 3, "message": message } }))
    );
    let (code, value) = error(&["--json", "submit", "--no-such-flag"]);
    assert_eq!(code, Some(2));
    assert_eq!(value["error"]["code"], "usage");
    let (code, value) = error(&["submit", "--json", "{"]);
    assert_eq!((code, &value["error"]["exit_code"]), (Some(2), &json!(2)));
}

#[test]
fn a_closed_pipe_is_quiet() {
    let place = Place::new();
    let lines = "1\n".repeat(5000);
    place.write("many.jsonl", &lines);
    let mut child = Process::start(&mut place.command(["submit", "--jsonl", "many.jsonl"]));
    drop(child.stdout.take());
    let output = child.output();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    // A reader that goes away does not leave half of the file submitted.
    let stats: Value = serde_json::from_str(&place.ok(["stats", "--json"])).expect("stats");
    assert_eq!(stats["visible"], 5000);
}
