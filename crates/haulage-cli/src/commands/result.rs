//! `haulage result`

use haulage::{Error, Record, backend::Detail};

use super::{completing, ids};
use crate::{
    exit::{Exit, Result},
    output::Output,
    session::Session,
};

/// Print the result of a job that is done, as raw JSON
///
/// This one does not wait; `haulage wait` does. A job that failed, was
/// cancelled, or has not ended yet is an error, each with its own exit code.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  haulage result \"$(haulage list --json --status success --limit 1 | jq -r .id)\""
)]
pub(crate) struct Args {
    /// Job id, or the beginning of one: 8 characters or more
    #[arg(value_name = "ID", add = completing::any())]
    id: String,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let backend = session.records().await?;
        let id = ids::one(&*backend, self.id).await?;
        let found = backend.get(vec![id.clone()], Detail::Result).await?;
        let record = found.into_iter().next().ok_or_else(|| Error::NotFound(id.clone()))?.into_record(&id)?;
        match record.clone().into_result() {
            Err(error @ Error::NotFinished { .. }) => {
                Err(Exit::from(error).and(&format!("wait for it with `haulage wait {}`", record.id)))
            }
            _ => tell(session.output, record),
        }
    }
}

/// Prints the result of a job that is over, or with `--json` its record. That there is no
/// result is an error.
pub(super) fn tell(output: Output, record: Record) -> Result {
    if output.json {
        output.json(&record)?;
    }
    let result = record.into_result()?;
    if output.json { Ok(()) } else { output.json_text(result.as_str()) }
}
