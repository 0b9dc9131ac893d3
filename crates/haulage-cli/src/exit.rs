//! How the program ends: exit codes, and the errors that lead to them.

use std::{fmt::Write as _, process::ExitCode};

use haulage::Error;

/// A command's result.
pub(crate) type Result<T = (), E = Exit> = std::result::Result<T, E>;

/// Why the program ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    Ok,
    Failure,
    Usage,
    NotFound,
    JobFailed,
    JobCancelled,
    TimedOut,
    Unavailable,
    NotFinished,
    /// What a worker runs its jobs on does not work: `EX_TEMPFAIL` of BSD's sysexits.h.
    WorkerBroken,
    /// Ended by a signal that the program caught.
    Signal(u8),
}

impl Code {
    /// The codes that have a fixed number, in its order.
    pub(crate) const ALL: [Self; 10] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NotFound,
        Self::JobFailed,
        Self::JobCancelled,
        Self::TimedOut,
        Self::Unavailable,
        Self::NotFinished,
        Self::WorkerBroken,
    ];

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::JobFailed => 4,
            Self::JobCancelled => 5,
            Self::TimedOut => 6,
            Self::Unavailable => 7,
            Self::NotFinished => 8,
            Self::WorkerBroken => 75,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// The name in `--json` errors.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::JobFailed => "job_failed",
            Self::JobCancelled => "job_cancelled",
            Self::TimedOut => "timed_out",
            Self::Unavailable => "unavailable",
            Self::NotFinished => "not_finished",
            Self::WorkerBroken => "worker_broken",
            Self::Signal(_) => "signal",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failure => "another failure",
            Self::Usage => {
                "bad arguments or bad input: an unknown flag, malformed JSON, a wrong URL, a key that another body has"
            }
            Self::NotFound => "there is no such job, or its record has expired",
            Self::JobFailed => "the job failed",
            Self::JobCancelled => "the job was cancelled",
            Self::TimedOut => "the wait timed out; the job goes on",
            Self::Unavailable => "the backend is out of reach, or refuses to work",
            Self::NotFinished => "the job has not ended yet",
            Self::WorkerBroken => "the worker is broken (its GPUs, for instance): run it elsewhere",
            Self::Signal(_) => "ended by a signal",
        }
    }

    /// The table for `--help`.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for code in Self::ALL {
            let _ = writeln!(text, "  {:>3}  {}", code.number(), code.meaning());
        }
        text.push_str("  130  ended by Ctrl-C (SIGINT)\n  143  ended by SIGTERM");
        text
    }
}

impl From<&Error> for Code {
    fn from(error: &Error) -> Self {
        match error {
            Error::InvalidJson { .. }
            | Error::Invalid(_)
            | Error::TooLarge { .. }
            | Error::IdempotencyConflict { .. }
            | Error::Config(_) => Self::Usage,
            Error::NotFound(_) | Error::Expired(_) => Self::NotFound,
            Error::JobFailed { .. } => Self::JobFailed,
            Error::JobCancelled(_) => Self::JobCancelled,
            Error::TimedOut(_) => Self::TimedOut,
            Error::Unavailable { .. } => Self::Unavailable,
            Error::NotFinished { .. } => Self::NotFinished,
            _ => Self::Failure,
        }
    }
}

/// An early end: the code, and what is said on stderr, a sentence each.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: Code,
    pub(crate) messages: Vec<String>,
}

impl Exit {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, messages: vec![message.into()] }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// Nothing more is said: everything is on the screen already, or nobody listens.
    pub(crate) const fn silent(code: Code) -> Self {
        Self { code, messages: Vec::new() }
    }

    /// Puts `what` before each message.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Self {
        for message in &mut self.messages {
            *message = format!("{what}: {message}");
        }
        self
    }

    /// Adds what to do about it to the last message.
    #[must_use]
    pub(crate) fn and(mut self, advice: &str) -> Self {
        if let Some(message) = self.messages.last_mut() {
            let _ = write!(message, "; {advice}");
        }
        self
    }

    /// Joins what went wrong with several things; the first gives the code.
    pub(crate) fn all(exits: Vec<Self>) -> Result {
        let mut exits = exits.into_iter();
        let Some(mut first) = exits.next() else { return Ok(()) };
        exits.for_each(|exit| first.messages.extend(exit.messages));
        Err(first)
    }
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        // The message alone says what happened, why, and what to do. Further
        // lines are a handler's, and are not to look like ours.
        Self::new(Code::from(&error), error.to_string().trim_end().replace('\n', "\n  "))
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}
