//! What a worker does with a job: run a program, or ask an HTTP server.

mod exec;
mod http;
mod program;
mod retry_after;
mod stderr;
mod unix;
mod words;

use std::{fmt, time::Duration};

pub(crate) use self::{
    exec::Exec,
    http::{Http, with_causes},
};

use haulage::{Context, Failure, Job, Json};

use crate::output::harmless;

/// One of the two kinds. A clone shares its connections.
#[derive(Clone, Debug)]
pub(crate) enum Handler {
    Exec(Exec),
    Http(Box<Http>),
}

impl Handler {
    /// Sets where the jobs come from, the largest result, in bytes, that is
    /// taken there, and the longest wait that a server can ask for.
    pub(crate) fn serving(self, url: &str, limit: usize, longest_wait: Duration) -> Self {
        match self {
            Self::Exec(exec) => Self::Exec(exec.serving(url, limit)),
            Self::Http(http) => Self::Http(Box::new(http.limits(limit, longest_wait))),
        }
    }

    /// Whether a job could be handed over; else, why not.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        match self {
            Self::Exec(exec) => exec.ready(),
            Self::Http(http) => http.ready().await,
        }
    }

    pub(crate) async fn run(&self, job: Job<Json>, context: Context) -> Result<Json, Failure> {
        match self {
            Self::Exec(exec) => exec.run(job, context).await,
            Self::Http(http) => http.run(job, context).await,
        }
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(exec) => write!(f, "{}", exec.name().display()),
            Self::Http(http) => write!(f, "{}", http.target()),
        }
    }
}

/// How much of a program's stderr, or of a server's answer, an error keeps:
/// the end of it, 4 KiB.
const TAIL: usize = 4 << 10;

/// The bytes as a result; `source` says whose they are.
fn result(bytes: &[u8], source: &str) -> Result<Json, Failure> {
    Json::from_slice(bytes).map_err(|error| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        let start = harmless(&start);
        Failure::fatal(format!("{source} is not JSON: {error}; it begins with {start:?}"))
    })
}

/// What is said of a result over the backend's limit.
fn too_large(source: &str, limit: usize) -> Failure {
    Failure::fatal(format!(
        "{source} has more than {limit} bytes, which is what the backend takes; store it elsewhere"
    ))
}
