//! The ids of jobs, as shells complete them: of an embedded database only, as a look at the newest
//! records costs next to nothing there. Whatever goes wrong, there are none.

use std::{
    ffi::{OsStr, OsString},
    sync::OnceLock,
    time::Duration,
};

use clap_complete::{ArgValueCompleter, CompletionCandidate};
use haulage::{Record, Status, backend::ListQuery};

use crate::{
    env,
    output::{LogFormat, Output},
    session::Session,
};

/// How many jobs are named; more are no help.
const MOST: usize = 50;

/// How long somebody who has pressed a key waits.
const LIMIT: Duration = Duration::from_millis(500);

/// The line that is being completed, after what the shell has called for it.
static LINE: OnceLock<Vec<OsString>> = OnceLock::new();

pub(super) fn line_is(arguments: &[OsString]) {
    let _ = LINE.set(arguments.to_vec());
}

/// The ids of all jobs.
pub(super) fn any() -> ArgValueCompleter {
    completer(&[None])
}

/// Those that wait or run.
pub(super) fn unfinished() -> ArgValueCompleter {
    completer(&[Some(Status::Submitted), Some(Status::InProgress)])
}

/// Those that are over.
pub(super) fn over() -> ArgValueCompleter {
    completer(&[Some(Status::Success), Some(Status::Error), Some(Status::Cancelled)])
}

fn completer(statuses: &'static [Option<Status>]) -> ArgValueCompleter {
    ArgValueCompleter::new(|begin: &OsStr| {
        let records = begin.to_str().and_then(|begin| newest(begin, statuses));
        let candidate = |(order, record): (usize, Record)| {
            let status = record.status.as_str().to_lowercase();
            let candidate = CompletionCandidate::new(record.id.as_str()).help(Some(status.into()));
            candidate.display_order(Some(order))
        };
        records.unwrap_or_default().into_iter().enumerate().map(candidate).collect()
    })
}

/// The newest records whose ids begin so.
fn newest(begin: &str, statuses: &[Option<Status>]) -> Option<Vec<Record>> {
    let line = LINE.get().into_iter().flatten().map(|word| word.to_string_lossy().into_owned());
    let session = Session::new(url(line), Output::new(false, LogFormat::Text));
    // On AWS the whole table would be read.
    if session.is_aws() {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let found = runtime.block_on(async {
        let look = async {
            let records = look(&session, begin, statuses).await;
            session.close().await;
            records
        };
        tokio::time::timeout(LIMIT, look).await.ok()?
    });
    runtime.shutdown_background();
    found
}

async fn look(session: &Session, begin: &str, statuses: &[Option<Status>]) -> Option<Vec<Record>> {
    let backend = session.existing().await.ok()?;
    let mut found = Vec::new();
    for status in statuses {
        let mut query = ListQuery::new().status(*status).limit(MOST);
        query.id_prefix = (!begin.is_empty()).then(|| begin.to_ascii_lowercase());
        found.extend(backend.list(query).await.ok()?);
    }
    found.sort_by(|a, b| b.id.as_str().cmp(a.id.as_str()));
    found.truncate(MOST);
    Some(found)
}

/// Where the jobs are, by the line that is being completed.
fn url(line: impl Iterator<Item = String>) -> String {
    let mut line = line.skip_while(|word| word != "--url" && !word.starts_with("--url="));
    let named = match line.next() {
        Some(word) if word == "--url" => line.next(),
        word => word.and_then(|word| word.strip_prefix("--url=").map(str::to_owned)),
    };
    let variable = || std::env::var(env::URL.name).ok();
    let set = named.or_else(variable).filter(|url| !url.is_empty());
    set.unwrap_or_else(|| env::URL.fallback().to_owned())
}
