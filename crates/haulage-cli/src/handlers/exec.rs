//! Runs a program for each job: body on stdin, result on stdout.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use haulage::{Context, Failure, Job, Json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use super::{program, result, stderr::Lines, too_large, unix, words};
use crate::{
    env,
    exit::{Exit, Result},
};

/// The exit code of a program that says the input is at fault: `EX_DATAERR`
/// of BSD's sysexits.h.
const DATA_ERROR: i32 = 65;

/// How long to read on after the program has ended, where somebody else still
/// holds its stdout or stderr open.
const DRAIN: Duration = Duration::from_secs(2);

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    program: OsString,
    args: Vec<OsString>,
    limit: usize,
    /// Where the jobs are: programs that submit jobs mean the same place.
    url: String,
}

impl Exec {
    /// A command: words to be split, and further arguments as they are.
    pub(crate) fn new(line: &str, more: Vec<OsString>) -> Result<Self> {
        let words =
            words::split(line).map_err(|why| Exit::usage(format!("cannot split --exec '{line}': {why}")))?;
        let mut words = words.into_iter().map(OsString::from).chain(more);
        let program = words.next().ok_or_else(|| Exit::usage("--exec needs a program to run"))?;
        let exec = Self { program, args: words.collect(), limit: usize::MAX, url: String::new() };
        exec.ready().map_err(Exit::usage)?;
        Ok(exec)
    }

    /// A line for the shell.
    pub(crate) fn shell(line: &str) -> Result<Self> {
        if line.trim().is_empty() {
            return Err(Exit::usage("--shell needs a line to run"));
        }
        Self::new("sh -c", vec![line.into()])
    }

    /// The largest result that the backend takes.
    #[must_use]
    pub(crate) fn serving(mut self, url: &str, limit: usize) -> Self {
        self.url = url.to_owned();
        self.limit = limit;
        self
    }

    /// The program, for messages.
    pub(crate) fn name(&self) -> &OsStr {
        &self.program
    }

    /// Whether the program is there.
    pub(crate) fn ready(&self) -> Result<(), String> {
        program::find(&self.program, std::env::var_os("PATH").as_deref())
    }

    pub(crate) async fn run(&self, job: Job<Json>, context: Context) -> Result<Json, Failure> {
        let mut child = self.spawn(&job, &context)?;
        let group = unix::Group::of(&child);
        let (mut output, mut errors) = (Vec::new(), Lines::default());
        // The span that surrounds this says which job it is.
        let emit = |line: &str| tracing::info!(target: "program", "{line}");

        let full = CancellationToken::new();
        let mut pipes = Box::pin({
            let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let collect = collect(stdout, self.limit, &mut output, &full);
            let relay = relay(stderr, &mut errors, emit);
            async move { tokio::join!(feed(stdin, job.body), collect, relay) }
        });
        let (mut piping, mut cancelled, mut overfull) = (true, false, false);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                _ = &mut pipes, if piping => piping = false,
                () = full.cancelled(), if !overfull => {
                    overfull = true;
                    group.kill();
                }
                () = context.cancelled(), if !cancelled => {
                    cancelled = true;
                    // What does not end in time is killed when the consumer
                    // drops this future, and `group` with it.
                    group.terminate();
                }
            }
        };
        group.finish();
        if piping && tokio::time::timeout(DRAIN, &mut pipes).await.is_err() {
            tracing::warn!("the program has ended, and another holds its output open");
        }
        drop(pipes);
        let tail = errors.finish(emit);
        let status =
            status.map_err(|error| Failure::retry(format!("cannot tell how the program ended: {error}")))?;
        if output.len() > self.limit {
            return Err(too_large("the program's output", self.limit));
        }
        let outcome = judge(status, &output, &tail);
        // A program that was told to stop may still have been done.
        if cancelled && outcome.is_err() { Err(Failure::cancelled()) } else { outcome }
    }

    fn spawn(&self, job: &Job<Json>, context: &Context) -> Result<Child, Failure> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env(env::job::URL, &self.url)
            .env(env::job::JOB_ID, job.id.as_str())
            .env(env::job::REQUEST_ID, context.request_id())
            .env(env::job::ATTEMPT, context.attempt().to_string())
            .env(env::job::MAX_ATTEMPTS, context.max_attempts().to_string())
            .env_remove(env::job::DEADLINE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(deadline) = context.deadline() {
            command.env(env::job::DEADLINE, deadline.to_string());
        }
        unix::die_with_worker(&mut command);
        // Whatever it is, a missing file or a table that is full, it is not this job's fault.
        command
            .spawn()
            .map_err(|error| Failure::not_ready(format!("cannot start {}: {error}", self.program.display())))
    }
}

/// Writes the body. A program may end, or close its stdin, without having
/// read it all: that is its own affair.
async fn feed(stdin: Option<ChildStdin>, body: Json) {
    if let Some(mut stdin) = stdin
        && let Err(error) = stdin.write_all(body.as_str().as_bytes()).await
    {
        tracing::debug!(%error, "the program did not read all of its stdin");
    }
}

/// Reads up to the end; stops, and says so, when there is more than `limit`.
async fn collect(
    pipe: Option<impl AsyncRead + Unpin>,
    limit: usize,
    into: &mut Vec<u8>,
    full: &CancellationToken,
) {
    each_part(pipe, |part| {
        into.extend_from_slice(part);
        into.len() <= limit
    })
    .await;
    if into.len() > limit {
        full.cancel();
    }
}

async fn relay(pipe: Option<impl AsyncRead + Unpin>, lines: &mut Lines, emit: impl Fn(&str)) {
    each_part(pipe, |part| {
        lines.push(part, &emit);
        true
    })
    .await;
}

/// Reads a pipe until it ends, breaks, or `take` has had enough.
async fn each_part(pipe: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8]) -> bool) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        if !take(&buffer[..length]) {
            return;
        }
    }
}

/// What the program's end means for the job.
fn judge(status: ExitStatus, output: &[u8], tail: &str) -> Result<Json, Failure> {
    let because = |what: String| match tail {
        "" => what,
        tail if tail.contains('\n') => format!("{what}; its stderr ended with:\n{tail}"),
        tail => format!("{what}: {tail}"),
    };
    match (status.code(), status.signal()) {
        (Some(0), _) if output.trim_ascii().is_empty() => Err(Failure::fatal(because(
            "the program wrote no result; it must write JSON to stdout, and `null` where there is nothing to say".into(),
        ))),
        (Some(0), _) => result(output, "the program's output"),
        (Some(DATA_ERROR), _) => Err(Failure::fatal(because(format!("exit code {DATA_ERROR} (bad input)")))),
        (Some(code), _) => Err(Failure::retry(because(format!("exit code {code}")))),
        (None, signal) => Err(Failure::retry(because(format!("killed by {}", signal_name(signal.unwrap_or(0)))))),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS (bad memory access)",
        libc::SIGFPE => "SIGFPE (arithmetic error)",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL (illegal instruction)",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL (out of memory?)",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV (bad memory access)",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU (out of CPU time)",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}
