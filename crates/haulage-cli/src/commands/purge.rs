//! `haulage purge`

use std::time::Duration;

use haulage::{
    Error, QueueName, Status,
    backend::{Detail, Lookup, Purge},
};
use serde_json::json;

use super::{completing, confirm::confirm, filter, ids, whole_read};
use crate::{
    exit::{Code, Exit, Result},
    options,
    output::{Output, count},
    session::Session,
};

/// Delete the records of jobs for good, with their bodies and results
///
/// Records expire by themselves when their --result-ttl is over; this is for
/// what should be gone sooner: single jobs by their ids, or all of one status.
/// Deleting SUBMITTED jobs drops work.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage purge --status success --older-than 1d --yes\n  haulage purge 0193a1b2-7c00-7000-8000-00000004d2f1"
)]
pub(crate) struct Args {
    /// Job ids, or the beginnings of some: 8 characters or more
    #[arg(value_name = "ID", conflicts_with_all = ["status", "older_than", "queue"], add = completing::any())]
    ids: Vec<String>,

    /// Only jobs with this status; those in progress cannot be deleted
    #[arg(
        long, value_name = "STATUS", requires = "older_than",
        value_parser = filter::status(&Status::ALL), ignore_case = true
    )]
    status: Option<Status>,

    /// Only jobs that ended this long ago (SUBMITTED: were submitted)
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    older_than: Option<Duration>,

    /// Only jobs of this queue
    #[arg(long, value_name = "NAME", requires = "status")]
    queue: Option<QueueName>,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        if self.status.is_none() && self.ids.is_empty() {
            return Err(Exit::usage("nothing says which jobs; give their ids, or --status and --older-than"));
        }
        match self.status {
            Some(status) => {
                let older_than = self.older_than.unwrap_or_default();
                let what = Purge::Status { status, older_than, queue: self.queue.clone() };
                by_status(session, what, &self.question(session, status), self.yes).await
            }
            None => by_id(session, self.ids).await,
        }
    }

    fn question(&self, session: &Session, status: Status) -> String {
        let age = humantime::format_duration(self.older_than.unwrap_or_default());
        let queue = self.queue.as_ref().map(|queue| format!(" in the queue {queue}")).unwrap_or_default();
        format!("Delete all {status} jobs{queue} older than {age} from {}?", session.url)
    }
}

async fn by_status(session: &Session, what: Purge, question: &str, yes: bool) -> Result {
    what.check()?;
    let backend = session.records().await?;
    if !yes {
        confirm(session.output, question, "nothing was deleted")?;
    }
    let purged = whole_read::all(session.output, &*backend, backend.purge(what)).await?;
    tell(session.output, purged)
}

/// Deletes the jobs that there are and that do not run, then fails for those
/// that are left.
async fn by_id(session: &Session, ids: Vec<String>) -> Result {
    let backend = session.records().await?;
    let ids = ids::whole(&*backend, ids).await?;
    let before = backend.get(ids.clone(), Detail::Status).await?;
    tell(session.output, backend.purge(Purge::Jobs(ids.clone())).await?)?;
    let after = backend.get(ids.clone(), Detail::Status).await?;
    let refused =
        ids.iter().zip(before).zip(after).filter_map(|((id, before), after)| match (before, after) {
            (_, Lookup::Found(record)) => Some(Exit::new(
                Code::Failure,
                format!("job {id} is {}, and was not deleted; cancel it first", record.status),
            )),
            (Lookup::Missing | Lookup::Unrecorded { .. } | Lookup::Expired, _) => {
                Some(Error::NotFound(id.clone()).into())
            }
            _ => None,
        });
    Exit::all(refused.collect())
}

fn tell(output: Output, deleted: u64) -> Result {
    if output.json {
        output.json(&json!({ "deleted": deleted }))
    } else {
        output.line(format_args!("{} deleted", count(deleted, "job")))
    }
}
