//! `haulage dead`

use haulage::{JobId, QueueName, backend::Redrive};
use serde_json::json;

use super::{filter::Filter, list};
use crate::{exit::Result, output::count, session::Session};

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
    /// Put dead letters back to work, with all their attempts
    ///
    /// For single jobs, see `haulage retry`.
    #[command(after_help = "Examples:\n  haulage dead redrive --all\n  haulage dead redrive --lost")]
    Redrive {
        /// All dead letters
        #[arg(long, required_unless_present = "lost")]
        all: bool,

        /// Jobs that wait in vain, as SQS has deleted their messages; elsewhere there are none
        #[arg(long, conflicts_with_all = ["all", "queue"])]
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

async fn redrive_lost(session: &Session) -> Result {
    let output = session.output;
    // In one go, as each reads everything.
    let sent = session.existing().await?.redrive(Redrive::Lost { limit: usize::MAX }).await?;
    let tell = |id: &JobId| if output.json { output.json(&json!({ "id": id })) } else { output.line(id) };
    sent.iter().try_for_each(tell)?;
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
        // What dies anew while we are at it is left alone, or this might not end.
        after = some.last().cloned();
        if after.is_none() {
            break;
        }
        let tell = |id: &JobId| if output.json { output.json(&json!({ "id": id })) } else { output.line(id) };
        some.iter().try_for_each(tell)?;
        done += some.len() as u64;
    }
    output.talk(format_args!("{} put back to work", count(done, "job")));
    Ok(())
}
