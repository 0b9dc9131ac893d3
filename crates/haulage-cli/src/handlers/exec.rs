//! Runs a program for each job: body on stdin, result on stdout.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use haulage::{Context, Failure, Job, Json, shutdown::Shutdown};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use super::{
    HandlerEnd,
    checkpoint::CheckpointFile,
    confine::Confinement,
    guard::{Group, Guard},
    result,
    results::{AttemptFile, Folder, Written},
    shell_words,
    stderr::{Allowance, Lines},
    too_large, unix, which,
};
use crate::{
    devices::{Slot, gpus},
    env,
    exit::{Code, Exit, Result},
};

/// The exit code of a program that says the input is at fault: `EX_DATAERR`
/// of BSD's sysexits.h.
const DATA_ERROR: i32 = 65;

/// The exit code of a program that says that what it runs on is broken: `EX_TEMPFAIL` of the same.
const BROKEN: i32 = 75;

/// How long to read on after the program has ended, where somebody else still
/// holds its stdout or stderr open.
const DRAIN: Duration = Duration::from_secs(2);

/// By how much a program may hear a signal before its worker does, where both
/// are sent it: systemd and the shutdown of a machine signal all processes.
const TOLD_TOGETHER: Duration = Duration::from_secs(1);

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    program: OsString,
    args: Vec<OsString>,
    confinement: Confinement,
    /// How much of what it prints for one job is logged, in bytes.
    log_limit: usize,
    serving: Option<Serving>,
}

/// What is known once jobs are to come.
#[derive(Clone, Debug)]
struct Serving {
    /// Where the jobs are: programs that submit jobs mean the same place.
    url: String,
    /// The largest result that is taken there.
    limit: usize,
    shutdown: Shutdown,
    guard: Guard,
    folder: Folder,
}

impl Exec {
    /// A command: words to be split, and further arguments as they are.
    pub(crate) fn new(line: &str, more: Vec<OsString>) -> Result<Self> {
        let words = shell_words::split(line)
            .map_err(|why| Exit::usage(format!("cannot split --exec '{line}': {why}")))?;
        let mut words = words.into_iter().map(OsString::from).chain(more);
        let program = words.next().ok_or_else(|| Exit::usage("--exec needs a program to run"))?;
        let (args, confinement) = (words.collect(), Confinement::default());
        let exec = Self { program, args, confinement, log_limit: usize::MAX, serving: None };
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

    /// What the program gets of the surroundings, and how much of what it
    /// prints for one job is logged, in bytes.
    #[must_use]
    pub(crate) fn confined(mut self, confinement: Confinement, log_limit: usize) -> Self {
        self.confinement = confinement;
        self.log_limit = log_limit;
        self
    }

    /// Makes ready for jobs of a backend that takes results of up to `limit`
    /// bytes.
    pub(crate) fn serving(mut self, url: &str, limit: usize, shutdown: Shutdown) -> Result<Self> {
        let folder = Folder::new();
        let guard = Guard::start(folder.path())
            .map_err(|error| Exit::new(Code::Failure, format!("cannot read random numbers: {error}")))?;
        self.serving = Some(Serving { url: url.to_owned(), limit, shutdown, guard, folder });
        Ok(self)
    }

    /// The program, for messages.
    pub(crate) fn name(&self) -> &OsStr {
        &self.program
    }

    /// Whether the program is there.
    pub(crate) fn ready(&self) -> Result<(), String> {
        which::find(&self.program, std::env::var_os("PATH").as_deref())
    }

    pub(crate) async fn run(
        &self,
        job: Job<Json>,
        context: Context,
        slot: Slot<'_>,
    ) -> Result<Json, HandlerEnd> {
        let Some(serving) = &self.serving else {
            return Err(Failure::fatal("the worker is not ready for jobs").into());
        };
        let place = serving.folder.place();
        let mut checkpoint = match serving.folder.place() {
            Some(place) => Some(CheckpointFile::new(place, &context).map_err(|error| {
                Failure::not_ready(format!("cannot write the last checkpoint for the program: {error}"))
            })?),
            None => None,
        };
        let places = [place.as_ref(), checkpoint.as_ref().map(CheckpointFile::place)];
        let (mut child, group) = self.spawn(serving, places, &job, &context, slot)?;
        let (mut output, mut errors) = (Vec::new(), Lines::default());
        let allowance = Mutex::new(Allowance::new(self.log_limit));
        // The span that surrounds this says which job it is.
        let emit = |line: &str| {
            if allowance.lock().unwrap_or_else(PoisonError::into_inner).takes(line) {
                tracing::info!(target: "program", "{line}");
            }
        };

        let full = CancellationToken::new();
        let mut pipes = Box::pin({
            let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let collect = collect(stdout, serving.limit, &mut output, &full);
            let relay = relay(stderr, &mut errors, emit);
            async move { tokio::join!(feed(stdin, job.body), collect, relay) }
        });
        let (mut piping, mut cancelled, mut overfull) = (true, false, false);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                _ = &mut pipes, if piping => piping = false,
                never = watched(&mut checkpoint) => match never {},
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
        if cancelled {
            // All of it, that is, wherever it went.
            drop(group);
        } else {
            group.finish();
        }
        if piping && tokio::time::timeout(DRAIN, &mut pipes).await.is_err() {
            tracing::warn!("the program has ended, and another holds its output open");
        }
        drop(pipes);
        if let Some(checkpoint) = checkpoint {
            checkpoint.finish().await;
        }
        let tail = errors.finish(emit);
        let status =
            status.map_err(|error| Failure::retry(format!("cannot tell how the program ended: {error}")))?;
        let written = match &place {
            Some(place) if status.success() => place.read(serving.limit).await,
            _ => Ok(Written::Nothing),
        };
        if !matches!(written, Ok(Written::Nothing)) {
            // There, the result is; so this is a log.
            let mut lines = Lines::default();
            lines.push(&output, emit);
            lines.finish(emit);
        }
        if let Some(remark) = allowance.lock().unwrap_or_else(PoisonError::into_inner).remark() {
            tracing::warn!(target: "program", "{remark}");
        }
        let outcome = match written {
            Ok(Written::Nothing) if output.len() > serving.limit => {
                Err(too_large("the program's output", serving.limit))
            }
            Ok(Written::Nothing) => judge(status, &output, &tail),
            Ok(Written::Result(bytes)) => result(&bytes, "what the program wrote to $HAULAGE_RESULT", ""),
            Ok(Written::TooMuch) => {
                Err(too_large("what the program wrote to $HAULAGE_RESULT", serving.limit))
            }
            Err(error) => Err(Failure::retry(format!("cannot read $HAULAGE_RESULT of the program: {error}"))),
        };
        match outcome {
            // A program that was told to stop may still have been done.
            Err(_) if cancelled => Err(Failure::cancelled().into()),
            Err(failure) if stopped(status).is_some() && serving.is_stopping().await => {
                Err(Failure::not_ready(failure.message()).into())
            }
            Err(failure) if status.code() == Some(BROKEN) => {
                Err(HandlerEnd::Broken(failure.message().to_owned()))
            }
            outcome => outcome.map_err(HandlerEnd::from),
        }
    }

    fn spawn(
        &self,
        serving: &Serving,
        [result, checkpoint]: [Option<&AttemptFile>; 2],
        job: &Job<Json>,
        context: &Context,
        slot: Slot<'_>,
    ) -> Result<(Child, Group), Failure> {
        let mut command = Command::new(&self.program);
        self.confinement.apply(&mut command);
        command
            .args(&self.args)
            .env(env::job::URL, &serving.url)
            .env(env::job::JOB_ID, job.id.as_str())
            .env(env::job::REQUEST_ID, variable(context.request_id()))
            .env(env::job::QUEUE, context.queue().as_str())
            .env(env::job::ATTEMPT, context.attempt().to_string())
            .env(env::job::MAX_ATTEMPTS, context.max_attempts().to_string())
            .env_remove(env::job::TASK)
            .env_remove(env::job::DEADLINE)
            .env_remove(env::job::RESULT)
            .env_remove(env::job::CHECKPOINT)
            .envs(gpus::environment(slot.number, slot.device))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(task) = context.task() {
            command.env(env::job::TASK, variable(task));
        }
        if let Some(deadline) = context.deadline() {
            command.env(env::job::DEADLINE, deadline.to_string());
        }
        for (name, place) in [(env::job::RESULT, result), (env::job::CHECKPOINT, checkpoint)] {
            if let Some(place) = place {
                command.env(name, place.path());
            }
        }
        unix::die_with_worker(command.as_std_mut());
        // Whatever it is, a missing file or a table that is full, it is not this job's fault.
        serving
            .guard
            .spawn(&mut command)
            .map_err(|error| Failure::not_ready(format!("cannot start {}: {error}", self.program.display())))
    }
}

/// A text of the producer's as a variable, which no byte 0 can be in: a program that is given one is
/// never started.
fn variable(text: &str) -> String {
    text.replace('\0', "")
}

/// Looks after the checkpoint for as long as the program runs.
async fn watched(checkpoint: &mut Option<CheckpointFile<'_>>) -> Infallible {
    match checkpoint {
        Some(checkpoint) => checkpoint.watch().await,
        None => std::future::pending().await,
    }
}

impl Serving {
    /// Whether the worker is told to stop, or will be in a moment.
    async fn is_stopping(&self) -> bool {
        tokio::time::timeout(TOLD_TOGETHER, self.shutdown.stopping()).await.is_ok()
    }
}

/// The signal of which the program died, where it is one that asks for an end;
/// a shell ends with 128 and the number of the one that its program died of.
fn stopped(status: ExitStatus) -> Option<i32> {
    let signal = status.signal().or_else(|| status.code().map(|code| code - 128))?;
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGKILL].contains(&signal).then_some(signal)
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
    // What happened in one line, for those who read no more.
    let because = |what: String| match tail.lines().rev().find(|line| !line.trim().is_empty()) {
        None => what,
        Some(_) if !tail.contains('\n') => format!("{what}: {tail}"),
        Some(last) => format!("{what}: {}\n\nIts stderr ended with:\n{tail}", last.trim()),
    };
    match (status.code(), status.signal()) {
        (Some(0), _) if output.trim_ascii().is_empty() => Err(Failure::fatal(because(
            "the program wrote no result; it must write JSON to stdout, or to the file that $HAULAGE_RESULT \
             names, and `null` where there is nothing to say"
                .into(),
        ))),
        (Some(0), _) => result(
            output,
            "the program's output",
            ". Where more than the result goes to stdout, have the program write the result to the file that \
             $HAULAGE_RESULT names",
        ),
        (Some(DATA_ERROR), _) => Err(Failure::fatal(because(format!("exit code {DATA_ERROR} (bad input)")))),
        (Some(BROKEN), _) => {
            Err(Failure::retry(because(format!("exit code {BROKEN} (what it runs on is broken)"))))
        }
        (Some(code), _) => Err(Failure::retry(because(format!("exit code {code}")))),
        (None, signal) => {
            Err(Failure::retry(because(format!("killed by {}", signal_name(signal.unwrap_or(0))))))
        }
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
