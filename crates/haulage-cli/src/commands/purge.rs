//! `haulage purge`

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    time::Duration,
};

use haulage::{Status, backend::PurgeQuery};
use serde_json::json;

use crate::{
    exit::{Code, Exit, Result},
    options,
    output::{Output, count},
    session::Session,
};

/// Delete the records of jobs for good
///
/// Records expire by themselves when their --result-ttl is over; this is for
/// what should be gone sooner. Deleting SUBMITTED jobs drops work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which jobs: SUBMITTED, SUCCESS, ERROR or CANCELLED
    #[arg(long, value_name = "STATUS")]
    status: Status,

    /// Only jobs that ended this long ago (SUBMITTED: were submitted)
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    older_than: Duration,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let (output, status) = (session.output, self.status);
        if status == Status::InProgress {
            return Err(Exit::usage("jobs in progress cannot be purged; cancel them first"));
        }
        let backend = session.existing().await?;
        if !self.yes {
            let age = humantime::format_duration(self.older_than);
            let question = format!("Delete all {status} jobs older than {age} from {}?", session.url);
            confirm(output, &question)?;
        }
        let deleted = backend.purge(PurgeQuery { status, older_than: self.older_than }).await?;
        if output.json {
            output.json(&json!({ "deleted": deleted }))
        } else {
            output.line(format_args!("{} deleted", count(deleted, "job")))
        }
    }
}

/// Asks a person before something is deleted.
pub(crate) fn confirm(output: Output, question: &str) -> Result {
    if !io::stdin().is_terminal() {
        return Err(Exit::usage("nothing was deleted, since there is no terminal to ask on; add --yes"));
    }
    output.prompt(format_args!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
        return Err(Exit::new(Code::Failure, "nothing was deleted"));
    }
    Ok(())
}
