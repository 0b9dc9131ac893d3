//! Looking at jobs, and clearing them away.

use haulage_servers::Process;
use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn list() {
    let place = Place::new();
    let ids: Vec<String> = (0..5).map(|n| place.submit(&[&n.to_string()])).collect();
    place.ok(["cancel", &ids[0]]);
    let table = place.ok(["list", "--limit", "3"]);
    let shown: Vec<_> =
        table.lines().skip(1).map(|line| line.split_whitespace().next().expect("an id")).collect();
    assert_eq!(shown, [&ids[4], &ids[3], &ids[2]]);
    assert!(table.starts_with("ID ") && table.contains("  SUBMITTED  0/3  "), "{table}");
    let lines = place.ok(["list", "--json", "--before", &ids[2]]);
    let older: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!((&older[0]["id"], &older[1]["id"], older.len()), (&json!(ids[1]), &json!(ids[0]), 2));
    let lines = place.ok(["list", "--json", "--status", "cancelled"]);
    assert!(lines.lines().count() == 1 && lines.contains(&ids[0]), "{lines}");
    let done = place.run(["list", "--status", "in-progress"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", "no jobs\n"));
}

#[test]
fn list_by_what_jobs_have() {
    let place = Place::new();
    let labels = |user: &str| ["--metadata".to_owned(), format!("user={user}")];
    let submit = |body: &str, args: &[&str], user: &str| {
        let user = labels(user);
        let user: Vec<&str> = user.iter().map(String::as_str).collect();
        place.submit(&[&[body, "--max-attempts", "1"], args, &user[..]].concat())
    };
    let failed = submit("1", &["--request-id", "r-1"], "anna");
    let worker = place.worker(&["--shell", "echo out of memory >&2; exit 1"]);
    assert_eq!(place.run(["wait", &failed]).code, Some(4));
    worker.stop();
    let grouped = submit("2", &["--group", "nightly", "--metadata", "k=v"], "anna");
    let other = submit("3", &["--group", "nightly", "--task", "embed"], "bert");
    for (args, expected) in [
        (&["--group", "nightly"][..], &[&other, &grouped][..]),
        (&["--request-id", "r-1"], &[&failed]),
        (&["--task", "embed"], &[&other]),
        (&["--metadata", "user=anna"], &[&grouped, &failed]),
        (&["--metadata", "user=anna", "--metadata", "k=v"], &[&grouped]),
        (&["--error", "out of memory"], &[&failed]),
        (&["--error", "handler", "--status", "ERROR"], &[&failed]),
        (&["--error", "handler", "--status", "in_progress"], &[]),
        (&["--older-than", "0s"], &[&other, &grouped, &failed]),
        (&["--older-than", "1h"], &[]),
        (&["--newer-than", "1h", "--metadata", "user=bert"], &[&other]),
    ] {
        let lines = place.ok([&["list", "--json"], args].concat());
        let found = lines.lines().map(|line| serde_json::from_str(line).expect("a line"));
        let ids: Vec<String> =
            found.map(|record: Value| record["id"].as_str().expect("an id").to_owned()).collect();
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{args:?}");
    }
    assert!(place.ok(["show", &other]).contains("\ntask          embed\n"));
    let dead = place.ok(["dead", "list", "--metadata", "user=anna", "--error", "memory"]);
    assert!(dead.contains(&failed) && dead.lines().count() == 2, "{dead}");
}

#[test]
fn ids_by_their_beginnings() {
    let place = Place::new();
    let id = place.submit(&["7"]);
    assert_eq!(place.record(&id[..8])["id"], json!(id));
    assert_eq!(place.record(&id[..35].to_uppercase())["id"], json!(id));
    let words = place.run(["result", &id[..13]]).stderr;
    assert!(words.contains(&format!("job {id} has no result yet")), "{words}");
    for text in [&id[..7], "7"] {
        let words = format!(
            "haulage: `{text}` is too short for the beginning of an id; write at least 8 characters\n"
        );
        let done = place.run(["status", text]);
        assert_eq!((done.code, done.stderr), (Some(2), words));
    }
    for text in ["00000000", "nonsense-id", "job-7"] {
        let done = place.run(["status", text]);
        assert_eq!(done.stderr, format!("haulage: there is no job {text}\n"));
        assert_eq!(done.code, Some(3));
    }
    assert_eq!(place.ok(["cancel", &id[..20]]), format!("{id} cancelled"));
    assert_eq!(place.run(["wait", &id[..20]]).stdout, format!("{id} CANCELLED\n"));
    assert_eq!(place.ok(["retry", &id[..20]]), id);

    let many = place.feed(["submit", "--jsonl", "-"], "1\n2\n3\n4\n5\n6\n7\n").stdout;
    let ids: Vec<&str> = many.lines().collect();
    // Of one moment.
    let start = &ids[0][..13];
    let done = place.run(["cancel", start]);
    let named = ids[2..].iter().rev().copied().collect::<Vec<_>>().join(", ");
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert_eq!(
        done.stderr,
        format!(
            "haulage: several jobs have an id that begins with {start}: {named}, and others; write more of it\n"
        )
    );
    let older = place.ok(["list", "--json", "--before", &ids[1][..35]]);
    assert!(older.lines().count() == 2 && older.contains(ids[0]), "{older}");
    assert_eq!(place.ok(["purge", &ids[6][..35]]), "1 job deleted");
}

#[test]
fn show_tells_of_the_attempts_before_the_last() {
    let place = Place::new();
    let failing = "test $HAULAGE_ATTEMPT = 3 || { echo no luck >&2; exit 1; }; cat";
    let id = place.submit(&["1", "--drop-body"]);
    let worker = place.worker(&["--worker-name", "w", "--shell", failing]);
    place.ok(["wait", &id]);
    worker.stop();
    let shown = place.ok(["show", &id]);
    for n in [1, 2] {
        let start = format!("attempt {n}     20");
        let line = shown.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.contains(" on w: handler: ") && line.contains("no luck"), "{line}");
    }
    assert!(!shown.contains("attempt 3") && shown.contains("body          deleted after"), "{shown}");
    let record: Value = serde_json::from_str(&place.ok(["show", "--json", &id])).expect("a record");
    let attempts = record["attempts"].as_array().expect("a list");
    let seen: Vec<_> = attempts.iter().map(|one| (&one["attempt"], &one["error"]["kind"])).collect();
    let handler = json!("handler");
    assert_eq!(seen, [(&json!(1), &handler), (&json!(2), &handler), (&json!(3), &Value::Null)]);
    assert_eq!((&record["body"], &record["drop_body"]), (&Value::Null, &json!(true)));
    let again = place.run(["retry", &id]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("was deleted when it succeeded"), "{again:?}");
}

#[test]
fn what_comes_too_late_does_not_run() {
    let place = Place::new();
    let late = place.submit(&["1", "--start-within", "1ms"]);
    // Nobody works, and whoever waits is told all the same.
    let waited = place.run(["wait", &late]);
    assert_eq!(waited.code, Some(4), "{waited:?}");
    assert!(waited.stderr.contains("not started within 1ms of its submit (start_within)"), "{waited:?}");
    let record = place.record(&late);
    assert_eq!((&record["status"], &record["error"]["kind"]), (&json!("ERROR"), &json!("expired")));
    assert_eq!((&record["dead"], &record["attempt"]), (&json!(false), &json!(0)));
    let never = place.run(["submit", "1", "--delay", "2s", "--start-within", "1s"]);
    assert_eq!(never.code, Some(2));
    assert!(never.stderr.contains("start_within is not longer than delay"), "{never:?}");
}

#[test]
fn a_success_is_retried_as_a_new_job_with_its_body_and_options() {
    let place = Place::new();
    let options = [
        "--task",
        "embed",
        "--group",
        "g",
        "--metadata",
        "k=v",
        "--max-attempts",
        "5",
        "--timeout",
        "90s",
        "--result-ttl",
        "2h",
    ];
    let record = place.work(&[&["{\"n\": 1}"], &options[..]].concat(), &["--exec", "cat"]);
    let id = record["id"].as_str().expect("an id");
    let again: Value = serde_json::from_str(&place.ok(["retry", "--json", id])).expect("a line");
    let new = again["id"].as_str().expect("an id");
    assert_eq!(again, json!({ "id": new, "retried": id }));
    assert_ne!(new, id);
    let show =
        |id: &str| -> Value { serde_json::from_str(&place.ok(["show", "--json", id])).expect("a record") };
    let (old, copy) = (show(id), show(new));
    assert_eq!((&old["status"], &old["result"]), (&json!("SUCCESS"), &json!({"n": 1})));
    assert_eq!((&copy["status"], &copy["request_id"]), (&json!("SUBMITTED"), &json!(new)));
    for field in ["body", "task", "group", "metadata", "max_attempts", "timeout", "result_ttl"] {
        assert!(copy[field] == old[field] && !old[field].is_null(), "{field}: {old} {copy}");
    }
    // What the caller gave stays.
    let given = place.work(&["1", "--request-id", "r-1"], &["--exec", "cat"]);
    let new = place.ok(["retry", given["id"].as_str().expect("an id")]);
    assert_eq!(place.record(&new)["request_id"], "r-1");
    let done = place.run(["retry", &new, "nonsense"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.contains("is not over yet") && done.stderr.contains("no job nonsense"), "{done:?}");
}

#[test]
fn workers_that_hold_jobs() {
    let place = Place::new();
    let done = place.run(["workers"]);
    assert_eq!(done.code, Some(2), "there is no database yet: {done:?}");
    place.feed(["submit", "--jsonl", "-"], "1\n2\n3\n");
    let done = place.run(["workers"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), "no worker holds a job\n"));
    let fifo = place.fifo("fifo");
    let line = format!("exec 9>{}; echo started >&9; exec sleep 1000", fifo.path().display());
    let _worker = place.worker(&["--worker-name", "gpu-1", "--concurrency", "2", "--shell", &line]);
    assert_eq!((fifo.line(), fifo.line()), ("started".to_owned(), "started".to_owned()));
    let table = place.ok(["workers"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["WORKER", "JOBS", "OLDEST", "LEASE"]);
    assert_eq!((&rows[1][..2], &rows[1][3..5], rows.len()), (&["gpu-1", "2"][..], &["ends", "in"][..], 2));
    let worker: Value = serde_json::from_str(&place.ok(["workers", "--json"])).expect("a line");
    assert_eq!((&worker["worker"], &worker["jobs"]), (&json!("gpu-1"), &json!(2)));
    assert!(worker["oldest_started_at"].is_string() && worker["lease_until"].is_string(), "{worker}");
}

#[test]
fn result_of_a_job_that_waits() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let done = place.run(["result", &id]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(8), ""));
    let words = format!(
        "haulage: job {id} has no result yet: it is SUBMITTED; wait for it with `haulage wait {id}`\n"
    );
    assert_eq!(done.stderr, words);
}

#[test]
fn stats() {
    let place = Place::new();
    place.submit(&["1"]);
    place.submit(&["1", "--delay", "1h"]);
    let stats: Value = serde_json::from_str(&place.ok(["stats", "--json"])).expect("stats");
    assert_eq!((&stats["visible"], &stats["delayed"], &stats["success"]), (&json!(1), &json!(1), &json!(0)));
    assert!(stats["oldest_visible_seconds"].is_number() && stats["stored_bytes"].is_number(), "{stats}");
    let text = place.ok(["stats"]);
    assert!(text.starts_with("visible               1  may be claimed now\n"), "{text}");
}

#[test]
fn stats_watch_goes_on() {
    use std::io::{BufRead as _, BufReader};
    let place = Place::new();
    place.submit(&["1"]);
    let mut child = Process::start(&mut place.command(["stats", "--json", "--watch", "--interval", "0.01"]));
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("\"visible\":1"), "{first}");
    place.submit(&["2"]);
    assert!(lines.any(|line| line.expect("text").contains("\"visible\":2")));
    drop(lines);
    // Nobody reads on, and that ends it.
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

#[test]
fn purge() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    place.ok(["cancel", &id]);
    let purge = |args: &[&str]| place.run([&["purge", "--status", "cancelled"], args].concat());
    let done = purge(&["--older-than", "0s"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(
        done.stderr,
        "haulage: nothing was deleted, since there is no terminal to ask on; add --yes\n"
    );
    assert_eq!(purge(&["--older-than", "1h", "--yes"]).stdout, "0 jobs deleted\n");
    assert_eq!(purge(&["--older-than", "0s", "--yes", "--json"]).stdout, "{\"deleted\":1}\n");
    assert_eq!(place.run(["status", &id]).code, Some(3));
    let done = place.run(["purge", "--status", "in-progress", "--older-than", "0s", "--yes"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(2), "haulage: jobs in progress cannot be purged; cancel them first\n")
    );
}

#[test]
fn purge_of_single_jobs() {
    let place = Place::new();
    let ids = [place.submit(&["1"]), place.submit(&["2"]), place.submit(&["3"])];
    assert_eq!(place.ok(["purge", &ids[0]]), "1 job deleted");
    let done = place.run(["purge", &ids[0], &ids[1]]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(3), "1 job deleted\n"));
    assert_eq!(done.stderr, format!("haulage: there is no job {}\n", ids[0]));
    let _worker = place.busy_worker(&[]);
    let done = place.run(["purge", &ids[2]]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "0 jobs deleted\n"));
    assert!(done.stderr.contains("is IN_PROGRESS, and was not deleted; cancel it first"), "{done:?}");
    assert_eq!(place.run(["purge", "--status", "success"]).code, Some(2));
    assert_eq!(place.run(["purge"]).code, Some(2));
}

#[test]
fn show_has_everything() {
    let place = Place::new();
    let options = ["--group", "g", "--metadata", "k=v", "--request-id", "r", "--max-attempts", "5"];
    let id = place.submit(&[&["{\"n\": 1}"], &options[..]].concat());
    let waiting = place.ok(["show", &id]);
    assert!(waiting.contains("\nwaited        ") && !waiting.contains("\ntook "), "{waiting}");
    let worker = place.worker(&["--worker-name", "w", "--exec", "cat"]);
    place.ok(["wait", &id]);
    worker.stop();
    let shown = place.ok(["show", &id]);
    for line in [
        "status        SUCCESS",
        "attempts      1 of 5",
        "request id    r",
        "group         g",
        "metadata      k=v",
        "worker        w",
        "body          {\"n\": 1}",
        "result        {\"n\": 1}",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line:?} in:\n{shown}");
    }
    for start in ["waited        ", "took          "] {
        let line = shown.lines().find(|line| line.starts_with(start)).expect(start);
        assert!(line.contains("ms") || line.ends_with('s'), "{line}");
    }
    let status = place.ok(["status", &id]);
    assert!(
        status.contains("\ntook ") && !status.contains("\nbody ") && !status.contains("\nresult "),
        "{status}"
    );
    let record: Value = serde_json::from_str(&place.ok(["show", "--json", &id])).expect("a record");
    assert_eq!((&record["body"], &record["result"]), (&json!({"n": 1}), &json!({"n": 1})));
}
