//! What a worker does with a job: run a program, or ask an HTTP server.

mod checkpoint;
mod confine;
mod exec;
pub(crate) mod guard;
mod headers;
mod http;
mod results;
pub(crate) mod shell_words;
mod stderr;
mod unix;
mod which;

use std::{fmt, time::Duration};

pub(crate) use self::{
    confine::Confinement, exec::Exec, headers::Headers, http::Http, shell_words::split, unix::die_with_worker,
};

use haulage::{Context, Failure, Job, Json, shutdown::Shutdown};

use crate::{
    devices::Slot,
    exit::Result,
    output::{count, sanitized, sanitized_line},
};

/// One of the two kinds. A clone shares its connections.
#[derive(Clone, Debug)]
pub(crate) enum Handler {
    Exec(Exec),
    Http(Box<Http>),
}

impl Handler {
    /// Makes ready for the jobs of a backend that takes results of up to
    /// `limit` bytes, until `shutdown` says that it is over. A server can ask
    /// for no longer wait than `longest_wait`.
    pub(crate) fn serving(
        self,
        url: &str,
        limit: usize,
        longest_wait: Duration,
        shutdown: Shutdown,
    ) -> Result<Self> {
        Ok(match self {
            Self::Exec(exec) => Self::Exec(exec.serving(url, limit, shutdown)?),
            Self::Http(http) => Self::Http(Box::new(http.limits(limit, longest_wait))),
        })
    }

    /// Whether a job could be handed over; else, why not.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        match self {
            Self::Exec(exec) => exec.ready(),
            Self::Http(http) => http.ready().await,
        }
    }

    pub(crate) async fn run(&self, job: Job<Json>, context: Context, slot: Slot<'_>) -> HandlerEnd {
        match self {
            Self::Exec(exec) => exec.run(job, context, slot).await.into(),
            Self::Http(http) => http.run(job, context).await.into(),
        }
    }
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum HandlerEnd {
    Done(Json),
    Failed(Failure),
    /// What runs the jobs says of itself that it does not work.
    Broken(String),
}

impl From<Result<Json, Self>> for HandlerEnd {
    fn from(result: Result<Json, Self>) -> Self {
        result.map_or_else(|end| end, Self::Done)
    }
}

impl From<Failure> for HandlerEnd {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(exec) => write!(f, "{}", exec.name().display()),
            Self::Http(http) => write!(f, "{}", http.shown()),
        }
    }
}

/// How much of a program's stderr, or of a server's answer, an error keeps:
/// the end of it, 4 KiB.
const TAIL: usize = 4 << 10;

/// How much of what is no result is kept: its begin and its end, half each.
const KEPT: usize = 56 << 10;

/// What becomes of a job whose result cannot be read.
const NOT_AGAIN: &str = "it is not tried again, but by `haulage retry ID`";

/// The bytes as a result; `source` says whose they are, and `advice` what to
/// do where they are none.
fn result(bytes: &[u8], source: &str, advice: &str) -> Result<Json, Failure> {
    // Some systems begin every file with a mark of its encoding.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    Json::from_slice(bytes).map_err(|error| {
        let text = sanitized(&String::from_utf8_lossy(bytes));
        let begin = sanitized_line(&text.chars().take(40).collect::<String>());
        // So that no work is lost, as far as a record has room for it.
        Failure::fatal(format!(
            "{source} is not JSON: {error}; it begins with {begin:?}; {NOT_AGAIN}{advice}\n\nAll of it:\n{}",
            both_ends(&text, KEPT)
        ))
    })
}

/// A text of at most about `most` bytes: begin and end of a longer one.
fn both_ends(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let boundary = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (begin, end) = (boundary(most / 2), boundary(text.len() - most / 2));
    let cut = count((end - begin) as u64, "byte");
    format!("{}\n[… {cut} left out …]\n{}", &text[..begin], &text[end..])
}

/// What is said of a result over the backend's limit.
fn too_large(source: &str, limit: usize) -> Failure {
    Failure::fatal(format!(
        "{source} has more than {limit} bytes, which is what the backend takes; store it elsewhere"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_kept() {
        assert_eq!(both_ends("äöü", 6), "äöü");
        assert_eq!(both_ends("äöüäöü", 7), "ä\n[… 6 bytes left out …]\nöü");
        let long = format!("loading {}[1, 2]", "x".repeat(100_000));
        let failure = result(long.as_bytes(), "the output", "").expect_err("no JSON");
        let message = failure.message();
        assert!(message.len() <= haulage::JobError::MAX_BYTES, "{}", message.len());
        assert!(message.contains("begins with \"loading xxx") && message.ends_with("x[1, 2]"), "{message}");
        assert!(message.contains("bytes left out"));
        let marked = result(b"\xef\xbb\xbf[1]\n", "the output", "").expect("JSON behind a mark");
        assert_eq!(marked.as_str().trim_end(), "[1]");
    }
}
