//! `haulage result`

use haulage::{Error, Record, Status, backend::Detail};

use super::{completing, ids};
use crate::{
    exit::{Exit, Result},
    output::Output,
    session::Session,
};

/// Print the result of a job that is done, as raw JSON
///
/// Does not wait: see `haulage wait` for that. A job that failed, was
/// cancelled, or has not ended yet is an error, each with its own exit code.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  haulage result \"$(haulage list --json --status success --limit 1 | jq -r .id)\""
)]
pub(crate) struct Args {
    /// Job id, or the beginning of one
    #[arg(value_name = "ID", add = completing::any())]
    id: String,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let backend = session.records().await?;
        let id = ids::one(&*backend, self.id).await?;
        let found = backend.get(vec![id.clone()], Detail::Result).await?;
        let record = found.into_iter().next().ok_or_else(|| Error::NotFound(id.clone()))?.into_record(&id)?;
        if !record.status.is_terminal() {
            let (id, status) = (record.id, record.status);
            let exit = Exit::from(Error::NotFinished { id: id.clone(), status });
            return Err(exit.and(&format!("wait for it with `haulage wait {id}`")));
        }
        print(session.output, &record)?;
        ending(&record)
    }
}

/// Prints the result, where there is one; with `--json`, the record.
pub(super) fn print(output: Output, record: &Record) -> Result {
    if output.json {
        return output.json(record);
    }
    match &record.result {
        Some(result) => output.json_text(result.as_str()),
        None => Ok(()),
    }
}

/// How a job that is over makes the program end.
pub(super) fn ending(record: &Record) -> Result {
    let id = record.id.clone();
    match (record.status, record.error.clone()) {
        (Status::Error, Some(error)) => Err(Error::JobFailed { id, error }.into()),
        (Status::Cancelled, _) => Err(Error::JobCancelled(id).into()),
        _ => Ok(()),
    }
}
