//! `haulage list`

use haulage::{Status, backend::ListQuery};

use super::{
    filter::{self, Filter},
    ids, view, whole_read,
};
use crate::{exit::Result, session::Session};

/// List jobs, newest first
///
/// WAITED is how long a job waited for its last start, or has waited so far; TOOK how long its last
/// attempt took, or has taken so far.
///
/// Jobs are found by an index where --status (other than submitted and success), --request-id, or
/// --group with --status submitted or in-progress is given. For all else records are read, the newest
/// first, until there are enough of them; in a large database that may mean all. It holds up no other
/// command. On AWS the whole table is read, for all but dead letters (`haulage dead list`).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage list --status error --error 'out of memory'\n  haulage list --metadata user=anna --newer-than 1h --limit 100"
)]
pub(crate) struct Args {
    /// Only jobs with this status
    #[arg(
        long, value_name = "STATUS", value_parser = filter::status(&Status::ALL), ignore_case = true,
        help_heading = "Which jobs"
    )]
    status: Option<Status>,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    page: Page,
}

/// Which part of a long list to show.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How many")]
pub(crate) struct Page {
    /// How many jobs at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,

    /// Only jobs that were submitted before this one, by its id or the beginning of that: 8 characters or more
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        show(session, self.filter.query().status(self.status), self.page).await
    }
}

pub(super) async fn show(session: &Session, query: ListQuery, page: Page) -> Result {
    let output = session.output;
    let backend = session.records().await?;
    let before = match page.before {
        Some(id) => Some(ids::one(&*backend, id).await?),
        None => None,
    };
    let query = query.before(before).limit(page.limit);
    let nothing = if query.dead { "no dead letters" } else { "no jobs" };
    let records = if query.dead {
        backend.list(query).await?
    } else {
        whole_read::all(output, &*backend, backend.list(query)).await?
    };
    if output.json {
        return records.iter().try_for_each(|record| output.json(record));
    }
    if records.is_empty() {
        output.talk(nothing);
        return Ok(());
    }
    output.text(&view::table(output, &records, backend.clock().now(), output.width()))?;
    if let Some(last) = records.last().filter(|_| records.len() == page.limit && output.is_terminal()) {
        output.talk(format_args!("there may be more: --before {}", last.id));
    }
    Ok(())
}
