//! `haulage list`

use haulage::{JobId, Status, backend::ListQuery};

use super::view;
use crate::{exit::Result, session::Session};

/// List jobs, newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only jobs with this status: submitted, in-progress, success, error, or cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,

    #[command(flatten)]
    page: Page,
}

/// Which part of a long list to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Page {
    /// How many jobs at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,

    /// Only jobs that were submitted before this one
    #[arg(long, value_name = "ID")]
    before: Option<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        show(session, self.page, self.status, false).await
    }
}

pub(super) async fn show(session: &Session, page: Page, status: Option<Status>, dead: bool) -> Result {
    let output = session.output;
    let backend = session.existing().await?;
    let query = ListQuery { status, dead, before: page.before.map(JobId::from), limit: page.limit };
    let records = backend.list(query).await?;
    if output.json {
        return records.iter().try_for_each(|record| output.json(record));
    }
    if records.is_empty() {
        output.talk(if dead { "no dead letters" } else { "no jobs" });
        return Ok(());
    }
    output.text(&view::table(output, &records, backend.clock().now()))?;
    if let Some(last) = records.last().filter(|_| records.len() == page.limit && output.is_terminal()) {
        output.talk(format_args!("there may be more: --before {}", last.id));
    }
    Ok(())
}
