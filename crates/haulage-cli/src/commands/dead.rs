//! `haulage dead`

use haulage::{JobId, QueueName, backend::Redrive};
use serde_json::json;

use super::{filter::Filter, list, whole_read};
use crate::{
    exit::Result,
    output::{Output, count},
    session::Session,
};

/// How many dead letters are put back in one go.
const CHUNK: usize = 1000;

/// Look at jobs whose attempts are used up, and put them back to work
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:\n  haulage dead list --newer-than 1d\n  haulage dead redrive --all")]
pub(crate) enum Command {
    /// List dead letters, newest first
    #[command(after_help = "Example:\n  haulage dead list --error worker_lost --newer-than 1d")]
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        page: list::Page,
    },
    /// Put dead letters back to work, with all their attempts, or jobs whose messages SQS has deleted
    ///
    /// For single jobs, see `haulage retry`.
    #[command(
        group(clap::ArgGroup::new("which").required(true)),
        after_help = "Examples:\n  haulage dead redrive --all\n  haulage dead redrive --lost"
    )]
    Redrive {
        /// All dead letters
        #[arg(long, group = "which")]
        all: bool,

        /// Jobs that still wait, and whose messages SQS has deleted; their attempts stay as they are.
        /// Other backends have none
        #[arg(long, group = "which", conflicts_with = "queue")]
        lost: bool,

        /// Only those of this queue
        #[arg(long, value_name = "NAME")]
        queue: Option<QueueName>,
    },
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result {
        match self {
            Self::List { filter, page } => list::show(session, filter.query().dead(true), page).await,
            Self::Redrive { lost: true, .. } => redrive_lost(session).await,
            Self::Redrive { queue, .. } => redrive_all(session, queue).await,
        }
    }
}

fn tell(output: Output, ids: &[JobId]) -> Result {
    ids.iter()
        .try_for_each(|id| if output.json { output.json(&json!({ "id": id })) } else { output.line(id) })
}

async fn redrive_lost(session: &Session) -> Result {
    let output = session.output;
    let backend = session.existing().await?;
    // In one go, as each reads everything.
    let lost = backend.redrive(Redrive::Lost { limit: usize::MAX });
    let sent = whole_read::all(output, &*backend, lost).await?;
    tell(output, &sent)?;
    output.talk(format_args!("{} sent to the queue again", count(sent.len() as u64, "job")));
    Ok(())
}

async fn redrive_all(session: &Session, queue: Option<QueueName>) -> Result {
    let output = session.output;
    let backend = session.existing().await?;
    let (mut done, mut after) = (0, None);
    loop {
        let what = Redrive::Dead { limit: CHUNK, queue: queue.clone(), after };
        let some = backend.redrive(what).await?;
        tell(output, &some)?;
        done += some.len() as u64;
        // What a queue itself has moved comes last, in no order: behind it, what has died
        // anew meanwhile would be met again, and this might not end.
        if some.len() < CHUNK {
            break;
        }
        after = some.last().cloned();
    }
    output.talk(format_args!("{} put back to work", count(done, "job")));
    Ok(())
}
