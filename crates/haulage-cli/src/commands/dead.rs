//! `haulage dead`

use haulage::{Error, JobId, Producer, backend::Redrive};
use serde_json::json;

use super::{filter::Filter, ids, list};
use crate::{
    exit::{Exit, Result},
    output::{Output, count},
    session::Session,
};

/// How many dead letters are put back in one go.
const CHUNK: u64 = 1000;

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
    /// Put jobs that failed or were cancelled back to work, with all their attempts
    #[command(
        after_help = "Examples:\n  haulage dead redrive 0193a1b2-7c00-7000-8000-00000004d2f1\n  haulage dead redrive --all"
    )]
    Redrive {
        /// Job ids, or the beginnings of some
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All dead letters
        #[arg(long)]
        all: bool,
    },
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result {
        match self {
            Self::List { filter, page } => list::show(session, filter.query().dead(true), page).await,
            Self::Redrive { all: true, .. } => redrive_all(session).await,
            Self::Redrive { ids, .. } => redrive(session, ids).await,
        }
    }
}

async fn redrive(session: &Session, ids: Vec<String>) -> Result {
    let producer = Producer::new(session.existing().await?);
    let mut refused = Vec::new();
    for id in ids::whole(&**producer.backend(), ids).await? {
        match producer.redrive(&id).await {
            Ok(()) => tell(session.output, &id)?,
            // Nothing that the next id could change.
            Err(error @ Error::Unavailable { .. }) => return Err(error.into()),
            Err(error) => refused.push(Exit::from(error)),
        }
    }
    Exit::all(refused)
}

async fn redrive_all(session: &Session) -> Result {
    let backend = session.existing().await?;
    // What dies anew while we are at it is left alone, or this might not end.
    let total = backend.stats().await?.dead;
    let mut done = 0;
    while done < total {
        let some = backend.redrive(Redrive::Dead((total - done).min(CHUNK) as usize)).await?;
        if some.is_empty() {
            break;
        }
        some.iter().try_for_each(|id| tell(session.output, id))?;
        done += some.len() as u64;
    }
    session.output.talk(format_args!("{} put back to work", count(done, "job")));
    Ok(())
}

fn tell(output: Output, id: &JobId) -> Result {
    if output.json { output.json(&json!({ "id": id })) } else { output.line(id) }
}
