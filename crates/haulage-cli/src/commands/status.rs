//! `haulage status`

use haulage::{JobId, backend::Detail};

use super::view;
use crate::{
    exit::{Exit, Result},
    session::Session,
};

/// Show the state of jobs, without body and result
///
/// `haulage show` has all there is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        show(session, &self.ids, Detail::Status).await
    }
}

/// Shows the jobs that there are, then fails for those that there are not.
pub(super) async fn show(session: &Session, ids: &[String], detail: Detail) -> Result {
    let backend = session.existing().await?;
    let ids: Vec<JobId> = ids.iter().map(|id| JobId::from(id.as_str())).collect();
    let found = backend.get(ids.clone(), detail).await?;
    let now = backend.clock().now();
    let mut missing = Vec::new();
    let mut first = true;
    for (id, lookup) in ids.iter().zip(found) {
        match lookup.into_record(id) {
            Ok(record) if session.output.json => session.output.json(&record)?,
            Ok(record) => {
                let gap = if std::mem::take(&mut first) { "" } else { "\n" };
                session.output.text(&format!("{gap}{}", view::details(session.output, &record, now)))?;
            }
            Err(error) => missing.push(Exit::from(error)),
        }
    }
    Exit::all(missing)
}
