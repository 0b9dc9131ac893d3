//! The one public error type.

use std::{fmt, sync::Arc, time::Duration};

use crate::{JobError, JobId};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by what a caller can do about it.
///
/// Backends map their own errors into it. It is `Clone`, since one failed
/// transaction can be the answer to many callers.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not JSON, or not JSON of the wanted shape. Nothing was stored.
    #[error("{message}{}", Place(*line, *column))]
    InvalidJson {
        /// Line of the mistake, from 1; 0 where there is no text to point into.
        line: usize,
        /// Column of the mistake, in bytes, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },

    /// A setting or an argument is out of its range. Nothing was done.
    #[error("{0}")]
    Invalid(String),

    /// A body or result is larger than the backend takes.
    #[error("the {what} has {size} bytes, and {limit} are allowed; {hint}")]
    TooLarge {
        /// `"body"` or `"result"`.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// What to do about it.
        hint: String,
    },

    /// A job with the same idempotency key has another body. Nothing was stored
    /// of this one.
    #[error(
        "idempotency key {key:?} is that of job {id}, which has another body; \
         nothing was submitted: a new job needs a new key"
    )]
    IdempotencyConflict {
        /// The key.
        key: String,
        /// The job that has it.
        id: JobId,
    },

    /// No job has this id, or its record expired long enough ago to be gone.
    #[error("there is no job {0}")]
    NotFound(JobId),

    /// The job is done and the time for which its record is kept is over.
    #[error("the record of job {0} has expired")]
    Expired(JobId),

    /// The claim is not the job's current one: its lease ran out and its job was
    /// taken from it, or the job is over. Nothing was changed.
    #[error("lost claim: attempt {attempt} no longer holds job {id}")]
    LostClaim {
        /// The job.
        id: JobId,
        /// The attempt that does not hold it any more.
        attempt: u32,
    },

    /// The job that was waited for ended in `ERROR`.
    #[error("job {id} failed: {error}")]
    JobFailed {
        /// The job.
        id: JobId,
        /// Why it failed.
        error: JobError,
    },

    /// The job that was waited for was cancelled.
    #[error("job {0} was cancelled")]
    JobCancelled(JobId),

    /// The job has not ended yet, and its result was asked for.
    #[error("job {id} has no result yet: it is {status}")]
    NotFinished {
        /// The job.
        id: JobId,
        /// Its status now.
        status: crate::Status,
    },

    /// A wait ended at its deadline. The job goes on.
    #[error("no result after {}; the job goes on, and can be waited for again", humantime::format_duration(*.0))]
    TimedOut(Duration),

    /// The backend's URL, or what is at that place, is not usable: a mistake
    /// to mend before trying again.
    #[error("{0}")]
    Config(String),

    /// The backend could not be reached, or refused to work: locked, full,
    /// out of reach. Trying again later may help. What was asked for may or
    /// may not have happened only where the message says so.
    #[error("{message}")]
    Unavailable {
        /// What happened, why, and what to do.
        message: String,
        /// The backend's own error.
        #[source]
        source: Option<Source>,
    },
}

/// Where a mistake in some text is, if there is a text.
struct Place(usize, usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(0, _) => Ok(()),
            Self(line, column) => write!(f, " at line {line} column {column}"),
        }
    }
}

/// The error under an [`Error`], shared so that errors can be cloned.
#[derive(Clone)]
pub struct Source(Arc<dyn std::error::Error + Send + Sync>);

impl Error {
    /// An [`Error::Unavailable`] with a cause.
    pub fn unavailable(
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable { message: message.into(), source: Some(Source(Arc::new(source))) }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let full = error.to_string();
        // serde_json ends its message with the place; ours is written by `Display`.
        let message = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
        Self::InvalidJson { line, column, message: message.to_owned() }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Source {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// The error and what it came from, in one line: `cannot open: no such file`.
///
/// Many errors repeat their source in their own text; that is not said twice.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_cause_once() {
        let inner = std::io::Error::other("disk full");
        let error = Error::unavailable("cannot write", inner);
        assert_eq!(with_causes(&error), "cannot write: disk full");
        let error = Error::unavailable("cannot write: disk full", std::io::Error::other("disk full"));
        assert_eq!(with_causes(&error), "cannot write: disk full");
    }
}
