//! `haulage show`

use haulage::backend::Detail;

use super::{completing, status};
use crate::{exit::Result, session::Session};

/// Show all there is of jobs: body, result, options, attempts, error, how long they waited and took
///
/// With --json their records, body and result included. For the state alone, without body and result,
/// see `haulage status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  haulage show \"$(haulage list --json --status error --limit 1 | jq -r .id)\""
)]
pub(crate) struct Args {
    /// Job ids, or the beginnings of some: 8 characters or more
    #[arg(required = true, value_name = "ID", add = completing::any())]
    ids: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        status::show(session, self.ids, Detail::Full).await
    }
}
