//! `haulage wait`

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    time::Duration,
};

use haulage::{
    Error, JobId, Producer, Record, Status,
    backend::{Detail, Lookup},
};

use super::{completing, ids, result, serving, view};
use crate::{
    env,
    exit::{Code, Exit, Result},
    input, options,
    output::{Output, count, sanitized_line},
    progress,
    session::Session,
};

/// Wait until jobs are over
///
/// Writes the id and the status of each job as it ends; with --json its record,
/// result included. The exit code says whether all succeeded. Where no worker takes jobs, it says
/// so after ten seconds, and goes on waiting.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haulage submit --jsonl bodies.jsonl | haulage wait --stdin")]
pub(crate) struct Args {
    /// Job ids, or the beginnings of some: 8 characters or more
    #[arg(value_name = "ID", conflicts_with = "stdin", add = completing::any())]
    ids: Vec<String>,

    /// Read the ids from stdin, one a line
    #[arg(long)]
    stdin: bool,

    #[command(flatten)]
    limit: Limit,
}

/// How long to wait.
#[derive(Debug, clap::Args)]
pub(super) struct Limit {
    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::WAIT_TIMEOUT.name, help = env::WAIT_TIMEOUT.help
    )]
    wait_timeout: Option<Duration>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        if self.ids.is_empty() && !self.stdin {
            return Err(Exit::usage("nothing says which jobs; give their ids, or --stdin"));
        }
        let ids: Vec<String> = if self.stdin {
            let text = String::from_utf8(input::stdin()?)
                .map_err(|_| Exit::usage("stdin is not text; write an id a line"))?;
            text.split_whitespace().map(str::to_owned).collect()
        } else {
            self.ids
        };
        let producer = Producer::new(session.existing().await?);
        let ids = ids::whole(&**producer.backend(), ids).await?;
        let output = session.output;
        let tell = |_, record: Record| {
            if output.json {
                output.json(&record)
            } else {
                output.line(format_args!("{} {}", sanitized_line(record.id.as_str()), record.status))
            }
        };
        for_each(session, &producer, &ids, &self.limit, tell).await
    }
}

/// Waits for one job and prints its result.
pub(super) async fn one(session: &Session, producer: &Producer, id: &JobId, limit: &Limit) -> Result {
    let (output, ids) = (session.output, std::slice::from_ref(id));
    let watched = async {
        announce(output, producer, id).await;
        serving::watch(session, producer, ids, |message| output.talk(message)).await
    };
    let waited = tokio::select! {
        waited = producer.wait_all(ids, limit.wait_timeout) => waited,
        never = watched => match never {},
    };
    let records = waited.map_err(|error| late(error, &format!("`haulage wait {id}`")))?;
    records.into_iter().try_for_each(|record| result::tell(output, record))
}

/// Waits for jobs and prints their records, in the order of `ids`.
pub(super) async fn in_order(session: &Session, producer: &Producer, ids: &[JobId], limit: &Limit) -> Result {
    let mut early = BTreeMap::new();
    let mut next = 0;
    let tell = |index, record: Record| {
        early.insert(index, record);
        while let Some(record) = early.remove(&next) {
            next += 1;
            session.output.json(&record)?;
        }
        Ok(())
    };
    for_each(session, producer, ids, limit, tell).await
}

/// How long a person looks at nothing.
const PROMPT: Duration = Duration::from_secs(1);

/// Tells a person for what the command waits, and until when nothing will happen. Beside the wait, whose time
/// runs from the start.
async fn announce(output: Output, producer: &Producer, id: &JobId) {
    if output.json || !io::stderr().is_terminal() {
        return;
    }
    let backend = producer.backend();
    let look = backend.get(vec![id.clone()], Detail::Status);
    let found = tokio::time::timeout(PROMPT, look).await.map(|found| found.map(|mut found| found.pop()));
    let hold = match found {
        Ok(Ok(Some(Lookup::Found(record)))) if record.status.is_terminal() => return,
        Ok(Ok(Some(Lookup::Found(record)))) if record.status == Status::Submitted => {
            view::hold(&record, backend.clock().now())
        }
        // Whoever waits says that there is no such job.
        Ok(Ok(None | Some(Lookup::Missing | Lookup::Expired))) => return,
        // The wait goes on where the look fails, and the id may have been told nowhere else.
        _ => String::new(),
    };
    let hold = if hold.is_empty() { hold } else { format!(" ({hold})") };
    output.talk(format_args!("waiting for {}{hold}", sanitized_line(id.as_str())));
}

/// Calls `tell` as each job ends, with a progress bar where several are
/// waited for. Jobs that did not succeed, and time that ran out, are an error.
async fn for_each(
    session: &Session,
    producer: &Producer,
    ids: &[JobId],
    limit: &Limit,
    mut tell: impl FnMut(usize, Record) -> Result + Send,
) -> Result {
    let output = session.output;
    let bar = (ids.len() != 1).then(|| progress::bar("waiting", ids.len() as u64));
    if let Some(bar) = &bar {
        // Otherwise it would be there only when the first of them is over.
        bar.tick();
    }
    let (mut failures, mut cancelled) = (Vec::new(), 0);
    let mut told = Ok(());
    let done = |index: usize, record: Record| {
        match record.clone().into_result() {
            Ok(_) => {}
            Err(Error::JobCancelled(_)) => cancelled += 1,
            Err(error) => failures.push(error.into()),
        }
        let write = || {
            if told.is_ok() {
                told = tell(index, record);
            }
        };
        match &bar {
            Some(bar) => {
                // A line of data must not end up in the middle of the bar.
                if output.is_terminal() {
                    bar.suspend(write);
                } else {
                    write();
                }
                bar.inc(1);
            }
            None => write(),
        }
    };
    let say = |message: String| match &bar {
        Some(bar) => bar.suspend(|| output.talk(message)),
        None => output.talk(message),
    };
    let watched = async {
        if let [id] = ids {
            announce(output, producer, id).await;
        }
        serving::watch(session, producer, ids, say).await
    };
    let waited = tokio::select! {
        waited = producer.wait_each(ids, limit.wait_timeout, done) => waited,
        never = watched => match never {},
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    told?;
    waited.map_err(|error| late(error, "`haulage wait`"))?;
    let total = ids.len() as u64;
    match (failures.len() as u64, cancelled) {
        (0, 0) => Ok(()),
        (0, 1) if total == 1 => Err(Exit::new(Code::JobCancelled, format!("job {} was cancelled", ids[0]))),
        (0, n) => {
            Err(Exit::new(Code::JobCancelled, format!("{n} of {} were cancelled", count(total, "job"))))
        }
        (1, _) => Exit::all(failures),
        (n, _) => {
            let message = format!("{n} of {} failed; see `haulage status ID` for why", count(total, "job"));
            Err(Exit::new(Code::JobFailed, message))
        }
    }
}

/// Says how to go on where time ran out.
fn late(error: Error, how: &str) -> Exit {
    match error {
        Error::TimedOut(limit) => {
            let limit = humantime::format_duration(limit);
            Exit::new(
                Code::TimedOut,
                format!("not over after {limit}; the work goes on, and {how} waits again"),
            )
        }
        other => other.into(),
    }
}
