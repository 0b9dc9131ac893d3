//! `haulage cancel`

use haulage::{
    Error, JobId, Producer, Status,
    backend::{Cancellation, ListQuery},
    producer::Unfinished,
};
use serde_json::json;

use super::{
    completing,
    confirm::confirm,
    filter::{self, Filter},
    ids, whole_read,
};
use crate::{
    exit::{Code, Exit, Result},
    output::{Output, count},
    session::Session,
};

/// How many jobs are cancelled in one call.
const CHUNK: usize = 1_000;

/// The statuses of jobs that can be cancelled.
const UNFINISHED: [Status; 2] = [Status::Submitted, Status::InProgress];

/// Cancel jobs: those that wait at once, those that run through their worker
///
/// By their ids, or by filters: then all jobs that wait or run and match. It says how many those are,
/// and asks before it cancels them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage cancel \"$(haulage list --json --status in-progress --limit 1 | jq -r .id)\"\n  haulage cancel --status submitted --metadata user=anna --older-than 1h"
)]
pub(crate) struct Args {
    /// Job ids, or the beginnings of some: 8 characters or more
    #[arg(value_name = "ID", conflicts_with_all = ["status", "Filter", "yes"], add = completing::unfinished())]
    ids: Vec<String>,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// Only jobs with this status
    #[arg(
        long, value_name = "STATUS", value_parser = filter::status(&UNFINISHED), ignore_case = true,
        help_heading = "Which jobs"
    )]
    status: Option<Status>,

    #[command(flatten)]
    filter: Filter,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        if self.ids.is_empty() {
            let query = self.filter.query();
            if self.status.is_none() && query == ListQuery::default() {
                return Err(Exit::usage(
                    "nothing says which jobs; give their ids, or what they have in common, such as \
                     --group GROUP, --metadata KEY=VALUE or --status submitted",
                ));
            }
            return many(session, query.status(self.status), self.yes).await;
        }
        let output = session.output;
        let backend = session.records().await?;
        let ids = ids::whole(&*backend, self.ids).await?;
        let answers = backend.cancel(ids.clone()).await?;
        let mut refused = Vec::new();
        for (id, answer) in ids.into_iter().zip(answers) {
            tell(output, &id, answer)?;
            match answer {
                Cancellation::Missing => refused.push(Error::NotFound(id).into()),
                Cancellation::TooLate(status) if status != Status::Cancelled => {
                    let message = format!("job {id} was over before it could be cancelled: it is {status}");
                    refused.push(Exit::new(Code::Failure, message));
                }
                _ => {}
            }
        }
        Exit::all(refused)
    }
}

/// Cancels all that are meant and are not over.
async fn many(session: &Session, query: ListQuery, yes: bool) -> Result {
    let output = session.output;
    let backend = session.records().await?;
    let producer = Producer::new(backend.clone());
    let unfinished = producer.unfinished(query);
    let Unfinished { ids, running, .. } = whole_read::several(output, &*backend, 3, unfinished).await?;
    if ids.is_empty() {
        output.talk("no jobs to cancel");
        return Ok(());
    }
    let what =
        format!("{} ({} waiting, {running} running)", count(ids.len() as u64, "job"), ids.len() - running);
    if yes {
        output.talk(format_args!("cancelling {what}"));
    } else {
        confirm(output, &format!("Cancel {what} of {}?", session.url), "nothing was cancelled")
            .map_err(|exit| exit.about(&what))?;
    }
    let (mut done, mut asked, mut late) = (0, 0, 0);
    for chunk in ids.chunks(CHUNK) {
        let answers = backend.cancel(chunk.to_vec()).await?;
        for (id, answer) in chunk.iter().zip(answers) {
            tell(output, id, answer)?;
            match answer {
                Cancellation::Done => done += 1,
                Cancellation::Requested => asked += 1,
                Cancellation::TooLate(_) | Cancellation::Missing => late += 1,
            }
        }
    }
    let mut parts = vec![format!("{} cancelled", count(done, "job"))];
    parts.extend((asked > 0).then(|| format!("{asked} asked to stop")));
    parts.extend((late > 0).then(|| format!("{late} over already")));
    output.talk(parts.join(", "));
    Ok(())
}

fn tell(output: Output, id: &JobId, answer: Cancellation) -> Result {
    let (name, words, status) = match answer {
        Cancellation::Done => ("done", "cancelled".to_owned(), None),
        Cancellation::Requested => ("requested", "its worker has been asked to stop".to_owned(), None),
        Cancellation::TooLate(status) => ("too_late", format!("is over already: {status}"), Some(status)),
        Cancellation::Missing => return Ok(()),
    };
    if output.json {
        output.json(&json!({ "id": id, "cancellation": name, "status": status }))
    } else {
        output.line(format_args!("{id} {words}"))
    }
}
