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
    #[command(after_help = "Example:\n  haulage dead redrive --all")]
    Redrive {
        /// All dead letters
        #[arg(long, required = true)]
        all: bool,

        /// Only those of this queue
        #[arg(long, value_name = "NAME")]
        queue: Option<QueueName>,
    },
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result {
        match self {
            Self::List { filter, page } => list::show(session, filter.query().dead(true), page).await,
            Self::Redrive { queue, .. } => redrive_all(session, queue).await,
        }
    }
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
