//! A folder with a database, and the programs that run in it.

use std::{
    ffi::OsStr,
    fmt::Debug,
    fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use haulage_servers::Process;
use tempfile::TempDir;

/// What takes longer than this hangs.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// A folder of its own for one test.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
}

/// What a finished command left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("write a file");
        path
    }

    /// `haulage` with these arguments, in this folder, with no environment
    /// but `PATH`.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haulage"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        Done::from(self.command(args).output().expect("run haulage"))
    }

    /// Runs the command with this text on stdin.
    pub(crate) fn feed<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Done {
        let mut child = Process::start(self.command(args).stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().expect("stdin");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.output();
        // The program may have good reason not to read it all.
        let _ = writer.join().expect("writer");
        Done::from(output)
    }

    /// Runs the command, which must succeed, and gives its stdout.
    pub(crate) fn ok<S: AsRef<OsStr> + Debug>(&self, args: impl IntoIterator<Item = S>) -> String {
        let args: Vec<S> = args.into_iter().collect();
        let done = self.run(&args);
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.stdout.trim_end().to_owned()
    }

    /// Submits a job and gives its id.
    pub(crate) fn submit(&self, args: &[&str]) -> String {
        self.ok([&["submit"], args].concat())
    }

    /// The record of a job, as `status --json` has it.
    pub(crate) fn record(&self, id: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(["status", "--json", id])).expect("a record")
    }

    /// A worker with these arguments, which is told to stop at the end.
    pub(crate) fn worker(&self, args: &[&str]) -> Worker {
        Worker::start(self.command([&["worker", "--retry-base", "0"], args].concat()))
    }

    /// A worker with these arguments that has begun a job that was submitted before, and
    /// does not end it.
    pub(crate) fn busy_worker(&self, args: &[&str]) -> Worker {
        let fifo = self.fifo("begun");
        let line = format!("exec 9>{}; echo begun >&9; exec sleep 1000", fifo.path().display());
        let worker = self.worker(&[args, &["--shell", &line]].concat());
        assert_eq!(fifo.line(), "begun");
        worker
    }

    /// Runs one job to its end with a worker of its own, and gives its record.
    pub(crate) fn work(&self, submit: &[&str], worker: &[&str]) -> serde_json::Value {
        let id = self.submit(submit);
        let worker = self.worker(worker);
        self.run(["wait", "--wait-timeout", "300", &id]);
        worker.stop();
        let done = self.run(["result", "--json", &id]);
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
    }

    /// A pipe with a name, to hear from programs.
    pub(crate) fn fifo(&self, name: &str) -> Fifo {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status().expect("run mkfifo");
        assert!(made.success());
        let (send, lines) = channel();
        let reader = path.clone();
        std::thread::spawn(move || {
            // Waits here until somebody writes.
            let Ok(file) = fs::File::open(reader) else { return };
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Fifo { path, lines }
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The reading end of a named pipe.
#[derive(Debug)]
pub(crate) struct Fifo {
    path: PathBuf,
    lines: Receiver<String>,
}

impl Fifo {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next line that somebody writes.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(LONG).expect("a line")
    }

    /// Waits until every process that held the writing end is gone.
    pub(crate) fn closed(&self) {
        match self.lines.recv_timeout(LONG) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("still open: {other:?}"),
        }
    }
}

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Process,
    stderr: Receiver<String>,
}

impl Worker {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = Process::start(&mut command);
        let pipe = process.stderr.take().expect("stderr");
        let (send, stderr) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                // Goes on reading, so that the worker never waits for us.
                let _ = send.send(line);
            }
        });
        Self { process, stderr }
    }

    /// One whose stderr goes elsewhere.
    pub(crate) fn silent(mut command: Command) -> Self {
        Self { process: Process::start(&mut command), stderr: channel().1 }
    }

    /// Waits for a line with this text on stderr, and gives it.
    pub(crate) fn says(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.stderr.recv_timeout(LONG) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}: no {text:?} in {seen:#?}"),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(match name {
            "CONT" => libc::SIGCONT,
            "HUP" => libc::SIGHUP,
            "INT" => libc::SIGINT,
            "KILL" => libc::SIGKILL,
            "STOP" => libc::SIGSTOP,
            "TERM" => libc::SIGTERM,
            other => panic!("which number has {other}?"),
        });
    }

    /// Sends one after the other, without delay.
    pub(crate) fn signals(&self, names: &[&str]) {
        names.iter().for_each(|name| self.signal(name));
    }

    /// Waits for the end: its code, its signal, and its stdout, where that comes here.
    pub(crate) fn wait(mut self) -> (Option<i32>, Option<i32>, String) {
        use std::{io::Read as _, os::unix::process::ExitStatusExt as _};
        let mut stdout = String::new();
        if let Some(mut pipe) = self.process.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("read stdout");
        }
        let status = self.process.wait().expect("wait");
        (status.code(), status.signal(), stdout)
    }

    /// Waits for the end, which is to come within `limit`: its code and its signal.
    pub(crate) fn wait_within(mut self, limit: Duration) -> (Option<i32>, Option<i32>) {
        use std::os::unix::process::ExitStatusExt as _;
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.process.try_wait().expect("wait") {
                return (status.code(), status.signal());
            }
            assert!(Instant::now() < until, "it has not ended after {limit:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends it the signal now and then until it ends: its code and its signal.
    pub(crate) fn insist(mut self, name: &str) -> (Option<i32>, Option<i32>) {
        use std::os::unix::process::ExitStatusExt as _;
        let until = Instant::now() + LONG;
        loop {
            // Longer than what counts as an echo of a signal.
            std::thread::sleep(Duration::from_millis(400));
            if let Some(status) = self.process.try_wait().expect("wait") {
                return (status.code(), status.signal());
            }
            assert!(Instant::now() < until, "it has not ended after {LONG:?}");
            self.signal(name);
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.wait().0, Some(0));
    }
}
