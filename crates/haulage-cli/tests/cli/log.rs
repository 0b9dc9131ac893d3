//! What the worker's log, and a terminal, show of what is not ours.

use serde_json::{Value, json};

use crate::place::{Place, Worker};

/// All that a worker writes to stderr for one job, from its start to its end.
fn log(submit: &[&str], args: &[&str]) -> Vec<String> {
    let place = Place::new();
    place.submit(submit);
    let mut command = place.command([&["worker", "--retry-base", "0"], args].concat());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("start a worker");
    let stderr = std::io::BufReader::new(child.stderr.take().expect("stderr"));
    let mut lines = Vec::new();
    for line in std::io::BufRead::lines(stderr).map_while(Result::ok) {
        let ended = line.contains("succeeded") || line.contains("failed");
        lines.push(line);
        if ended && lines.iter().all(|line| !line.contains("SIGTERM")) {
            let kill = format!("kill {}", child.id());
            std::process::Command::new("sh").args(["-c", &kill]).status().expect("run kill");
        }
    }
    child.wait().expect("wait");
    lines
}

const FORGERY: &str = r#"printf 'x\n2026-11-28T00:00:00Z  INFO haulage: succeeded job_id=FORGED\n\033[2J\033[31mred\033[0m\0\302\233 \342\200\256\n{"_aws":{"Timestamp":1}}\n' >&2"#;

#[test]
fn a_program_forges_no_line_of_the_log() {
    let lines = log(&["1", "--max-attempts", "1"], &["--shell", &format!("{FORGERY}; exit 1")]);
    for line in &lines {
        let ours = line.starts_with("20") || line.starts_with("haulage: ");
        assert!(ours, "a line of its own: {line:?}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        // What it says is said to be the program's, or a part of an error.
        let told = line.contains("FORGED").then(|| line.contains("program: ") || line.contains("error=\""));
        assert_ne!(told, Some(false), "{line:?}");
    }
    // The stderr is there once, line by line, and of the error the first line.
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("program: x"), count("FORGED")), (1, 1), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("exit code 1: {") && line.contains("more lines")),
        "{lines:#?}"
    );
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let lines = log(
        &["1", "--max-attempts", "1"],
        &["--log-format", "json", "--shell", &format!("{FORGERY}; exit 1")],
    );
    for line in &lines {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
        assert!(object.get("_aws").is_none(), "a metric: {line}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
    let last: Value = serde_json::from_str(lines.last().expect("lines")).expect("JSON");
    assert_eq!((&last["message"], &last["failed"]), (&json!("worker stopped: 1 failed"), &json!(1)));
    let place = Place::new();
    for args in [
        &["worker", "--log-format", "json", "--exec", "no-such-program"][..],
        &["worker", "--log-format=json", "--no-such-flag"],
        &["--url", "nowhere://x", "worker", "--exec", "cat", "--log-format", "json"],
    ] {
        let done = place.run(args);
        let lines: Vec<Value> = done
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {done:?}")))
            .collect();
        let last = lines.last().expect("a line");
        assert_eq!((&last["level"], &last["exit_code"]), (&json!("ERROR"), &json!(2)), "{args:?}");
    }
}

#[test]
fn an_error_of_a_job_plays_no_tricks_on_whoever_waits_for_it() {
    let place = Place::new();
    let id = place.submit(&["1", "--max-attempts", "1"]);
    let worker = place.worker(&["--shell", &format!("{FORGERY}; exit 1")]);
    for args in [&["wait", &id][..], &["result", &id], &["status", &id], &["show", &id], &["list"]] {
        let done = place.run(args);
        let text = done.stdout + &done.stderr;
        let odd = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(odd), "{args:?}: {text:?}");
        assert!(
            !text.lines().any(|line| line.starts_with("20") || line.starts_with('{')),
            "{args:?}: {text}"
        );
    }
    worker.stop();
}

#[test]
fn what_one_job_may_log_has_an_end() {
    let lines = log(&["1"], &["--shell", "seq 30000 >&2; echo 1"]);
    let logged = lines.iter().filter(|line| line.contains("program: ")).count();
    // 1 MiB, of which a line counts for 100 bytes at least, and the remark.
    assert_eq!(logged, (1 << 20) / 100 + 1);
    let remark = lines.iter().find(|line| line.contains("--log-limit")).expect("a remark");
    assert!(remark.contains("19515 lines of 97575 bytes more were not logged"), "{remark}");
}

#[test]
fn an_end_says_how_long_it_took_and_a_job_is_named_once() {
    let lines = log(&["1"], &["--shell", "echo hello >&2; echo 1"]);
    let succeeded = lines.iter().find(|line| line.contains("succeeded job_id=")).expect("a success");
    assert!(succeeded.contains(" took="), "{succeeded}");
    for (code, what) in [("1", "failed; to be tried again job_id="), ("65", "failed job_id=")] {
        let lines = log(&["1"], &["--shell", &format!("exit {code}")]);
        let line = lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{lines:#?}"));
        assert!(line.contains(" took="), "{line}");
    }
    assert!(!lines.iter().any(|line| line.contains("request_id")), "{lines:#?}");
    let lines = log(&["1", "--request-id", "r-1"], &["--shell", "echo hello >&2; echo 1"]);
    assert!(
        lines.iter().any(|line| line.contains("request_id=r-1") && line.ends_with("program: hello")),
        "{lines:#?}"
    );
}

/// docs/operations.md has such a program in Python.
#[test]
fn a_result_may_have_a_file_of_its_own() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let line = r#"echo 'Downloading model: 100%'; echo '[1, 2]' >"$HAULAGE_RESULT"; echo done"#;
    let worker = place.worker(&["--shell", line]);
    place.ok(["wait", &id]);
    assert_eq!(place.ok(["result", &id]), "[1, 2]");
    worker.says("program: Downloading model: 100%");
    worker.says("program: done");
    // What one job wrote is not there for the next.
    let line = r#"if [ -e "$HAULAGE_RESULT" ]; then echo '"there"'; else echo '"new"'; fi"#;
    worker.stop();
    assert_eq!(place.work(&["2"], &["--shell", line])["result"], json!("new"));
    // One that fails has no result, whatever it wrote.
    let line = r#"echo 1 >"$HAULAGE_RESULT"; exit 3"#;
    let record = place.work(&["3", "--max-attempts", "1"], &["--shell", line]);
    assert_eq!(record["error"]["message"], json!("exit code 3"));
    let record = place.work(&["4"], &["--shell", r#"echo 1; echo oops >"$HAULAGE_RESULT""#]);
    let message = record["error"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("what the program wrote to $HAULAGE_RESULT is not JSON"), "{record}");
}

#[test]
fn work_is_not_lost_where_a_library_prints() {
    let place = Place::new();
    let line = r#"echo 'Downloading model: 100%'; echo '{"label": "cat"}'"#;
    let record = place.work(&["1"], &["--shell", line]);
    let message = record["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("write the result to the file that $HAULAGE_RESULT names"), "{message}");
    assert!(message.ends_with("\nDownloading model: 100%\n{\"label\": \"cat\"}\n"), "{message}");
    // A mark of the encoding is no mistake.
    assert_eq!(place.work(&["1"], &["--shell", r"printf '\357\273\277[1]'"])["result"], json!([1]));
}

#[test]
fn temporary_files_go_with_the_worker() {
    for signal in ["TERM", "KILL"] {
        let place = Place::new();
        let fifo = place.fifo("fifo");
        place.submit(&["1"]);
        let line = format!("exec 9>{}; echo \"$HAULAGE_RESULT\" >&9; exec sleep 1000", fifo.path().display());
        let mut command = place.command(["worker", "--shutdown-grace-period", "0.1", "--shell", &line]);
        command.env("TMPDIR", place.path(""));
        let worker = Worker::start(command);
        let result = std::path::PathBuf::from(fifo.line());
        let folder = result.parent().expect("a folder").to_owned();
        assert!(folder.exists());
        worker.signal(signal);
        let until = std::time::Instant::now() + crate::place::LONG;
        while folder.exists() {
            assert!(std::time::Instant::now() < until, "{signal} leaves {}", folder.display());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
