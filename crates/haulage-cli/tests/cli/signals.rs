//! Stopping a worker.

use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn first_finishes_what_runs() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    let made = std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo");
    assert!(made.success());
    let (first, second) = (place.submit(&["1"]), place.submit(&["2"]));
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let worker = place.worker(&["--json", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signal("TERM");
    worker.says("SIGTERM");
    std::fs::write(go, "go\n").expect("write");
    let (code, _, stdout) = worker.wait();
    assert_eq!(code, Some(0));
    let summary: Value = serde_json::from_str(&stdout).expect("a summary");
    assert_eq!((&summary["succeeded"], &summary["released"]), (&json!(1), &json!(0)));
    assert_eq!(place.ok(["result", &first]), "5");
    assert_eq!(place.record(&second)["attempt"], 0);
}

#[test]
fn a_job_that_takes_too_long_is_given_back() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    let line = format!("exec 9>{}; echo started >&9; exec sleep 1000", fifo.path().display());
    let worker = place.worker(&["--shutdown-grace-period", "0.1", "--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signal("INT");
    worker.says("1 released");
    assert_eq!(worker.wait().0, Some(0));
    fifo.closed();
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["uncounted"]), (&json!("SUBMITTED"), &json!(1)), "{record}");
}

#[test]
fn second_ends_at_once() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1"]);
    // Would ignore a polite request.
    let line = format!(
        "trap '' TERM; exec 9>{}; echo started >&9; while :; do sleep 0.1; done",
        fifo.path().display()
    );
    let worker = place.worker(&["--shell", &line]);
    assert_eq!(fifo.line(), "started");
    worker.signal("TERM");
    worker.says("send it again");
    worker.signal("TERM");
    let (code, signal, _) = worker.wait();
    assert_eq!((code, signal), (Some(143), None));
    fifo.closed();
    assert_eq!(place.record(&id)["status"], "SUBMITTED");
}

#[test]
fn an_echo_is_no_second_signal() {
    let place = Place::new();
    let (fifo, go) = (place.fifo("fifo"), place.path("go"));
    let made = std::process::Command::new("mkfifo").arg(&go).status().expect("run mkfifo");
    assert!(made.success());
    let id = place.submit(&["1"]);
    let line =
        format!("exec 9>{}; echo started >&9; read line <{}; echo 5", fifo.path().display(), go.display());
    let worker = place.worker(&["--shell", &line]);
    assert_eq!(fifo.line(), "started");
    // Both are there when it goes on, however long this program is held up between them.
    worker.signals(&["STOP", "TERM", "INT", "CONT"]);
    worker.says("send it again");
    std::fs::write(go, "go\n").expect("write");
    assert_eq!(worker.wait().0, Some(0));
    assert_eq!(place.ok(["result", &id]), "5");
}

#[test]
fn an_idle_worker_stops_at_once() {
    let place = Place::new();
    let worker = place.worker(&["--exec", "cat"]);
    worker.says("worker starts");
    worker.signal("TERM");
    worker.says("haulage: worker stopped: no jobs");
    assert_eq!(worker.wait().0, Some(0));
}

#[test]
fn a_wait_ends_with_the_signal() {
    let place = Place::new();
    let id = place.submit(&["1"]);
    let waiting = crate::place::Worker::start(place.command(["wait", &id]));
    waiting.signal("INT");
    assert_eq!(waiting.wait().1, Some(2));
}

#[test]
fn a_terminal_that_goes_away_is_a_polite_signal() {
    let place = Place::new();
    let worker = place.worker(&["--exec", "cat"]);
    worker.says("worker starts");
    worker.signal("HUP");
    worker.says("SIGHUP: no more jobs are taken");
    assert_eq!(worker.wait().0, Some(0));
}

#[test]
fn a_worker_started_with_nohup_outlives_its_terminal() {
    let place = Place::new();
    let program = place.command::<&str>([]).get_program().to_owned();
    let mut nohup = std::process::Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" worker --exec cat"]).arg(program);
    nohup.current_dir(place.path("")).stderr(std::process::Stdio::piped());
    let worker = crate::place::Worker::start(nohup);
    worker.says("worker starts");
    worker.signals(&["HUP", "TERM"]);
    worker.says("SIGTERM: no more jobs are taken");
    assert_eq!(worker.wait().0, Some(0));
}

/// A pipe that somebody holds, and nobody reads.
fn unread(place: &Place, name: &str) -> (std::fs::File, std::fs::File) {
    let path = place.path(name);
    assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("run mkfifo").success());
    let held = std::fs::File::options().read(true).write(true).open(&path).expect("open");
    let end = std::fs::File::options().write(true).open(&path).expect("open");
    (held, end)
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_jobs_nor_signals() {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let (log, end) = unread(&place, "log");
    let ids: Vec<String> = (0..3).map(|_| place.submit(&["1"])).collect();
    // More than the pipe holds, and the queue behind it.
    let line = "head -c 9000000 /dev/zero | tr '\\0' x >&2; cat";
    let mut command = place.command(["worker", "--log-limit", "1G", "--shell", line]);
    command.stderr(end);
    let worker = crate::place::Worker::silent(command);
    place.ok(["wait", &ids[0], &ids[1], &ids[2]]);
    let last = place.submit(&["2"]);
    place.ok(["wait", &last]);
    worker.signal("TERM");
    assert_eq!(worker.wait_within(crate::place::LONG).0, Some(0));
    drop(log);

    let (_log, end) = unread(&place, "another");
    let id = place.submit(&["1"]);
    let line = format!(
        "head -c 9000000 /dev/zero | tr '\\0' x >&2; exec 9>{}; echo started >&9; exec sleep 1000",
        fifo.path().display()
    );
    let mut command = place.command(["worker", "--log-limit", "1G", "--shell", &line]);
    command.stderr(end);
    let worker = crate::place::Worker::silent(command);
    assert_eq!(fifo.line(), "started");
    worker.signal("TERM");
    // Again, as somebody does who sees nothing happen: one that comes too soon counts as an echo.
    assert_eq!(worker.insist("TERM"), (Some(143), None));
    fifo.closed();
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["uncounted"]), (&json!("SUBMITTED"), &json!(1)), "{record}");
}

#[test]
fn what_was_not_read_of_the_log_is_counted() {
    let place = Place::new();
    let (mut log, end) = unread(&place, "log");
    let id = place.submit(&["1"]);
    let line = "head -c 9000000 /dev/zero | tr '\\0' x >&2; cat";
    let mut command = place.command(["worker", "--log-limit", "1G", "--shell", line]);
    command.stderr(end);
    let worker = crate::place::Worker::silent(command);
    place.ok(["wait", &id]);
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::BufRead as _;
        for line in std::io::BufReader::new(&mut log).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    let told = lines.iter().find(|line| line.ends_with(" of the log were dropped, as nobody read it"));
    assert!(told.is_some_and(|line| line.starts_with("haulage: ")));
    worker.stop();
}

/// A worker and its program are sent a signal together, in either order, as
/// systemd does it and the shutdown of a machine.
fn told_together(program_first: bool, signal: &str, line: &str) {
    let place = Place::new();
    let fifo = place.fifo("fifo");
    let id = place.submit(&["1", "--max-attempts", "1"]);
    let line = format!("exec 9>{}; echo $$ >&9; {line}", fifo.path().display());
    let worker = place.worker(&["--shell", &line]);
    let program = fifo.line();
    let kill = |target: &str| {
        let line = format!("kill -s {signal} {target}");
        assert!(std::process::Command::new("sh").args(["-c", &line]).status().expect("run kill").success());
    };
    // The worker hears of both at once, however long this program is held up between them.
    worker.signal("STOP");
    // The minus is for the group: a shell and what it runs.
    if program_first {
        kill(&format!("-- -{program}"));
        worker.signal("TERM");
    } else {
        worker.signal("TERM");
        kill(&format!("-- -{program}"));
    }
    worker.signal("CONT");
    worker.says("1 released");
    assert_eq!(worker.wait().0, Some(0));
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["uncounted"]), (&json!("SUBMITTED"), &json!(1)), "{record}");
}

#[test]
fn a_program_that_is_stopped_with_its_worker_costs_its_job_no_attempt() {
    told_together(true, "TERM", "exec sleep 1000");
    told_together(false, "TERM", "exec sleep 1000");
    told_together(true, "KILL", "exec sleep 1000");
    told_together(true, "INT", "exec sleep 1000");
    // Ends with 143, as the shell of a shutdown does that waits for what it runs.
    told_together(false, "TERM", "trap 'exit 143' TERM; sleep 1000 & wait");
}
