//! `haulage status`

use haulage::backend::{Detail, Lookup};

use super::{completing, ids, serving, view};
use crate::{
    exit::{Code, Exit, Result},
    session::Session,
};

/// Show the state of jobs, without body and result
///
/// `haulage show` has all there is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage status 0193a1b2-7c00-7000-8000-00000004d2f1\n  haulage list --json | jq -r .id | xargs haulage status --json"
)]
pub(crate) struct Args {
    /// Job ids, or the beginnings of some: 8 characters or more
    #[arg(required = true, value_name = "ID", add = completing::any())]
    ids: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        show(session, self.ids, Detail::Status).await
    }
}

/// Shows the jobs that there are, then fails for those that there are not.
pub(super) async fn show(session: &Session, ids: Vec<String>, detail: Detail) -> Result {
    let backend = session.records().await?;
    let ids = ids::whole(&*backend, ids).await?;
    let found = backend.get(ids.clone(), detail).await?;
    let now = backend.clock().now();
    let mut missing = Vec::new();
    let mut first = true;
    for (id, mut lookup) in ids.iter().zip(found) {
        if matches!(lookup, Lookup::Incomplete { .. }) && detail == Detail::Full {
            // What there is says what has become of the job; what is missing is told after it.
            let rest = backend.get(vec![id.clone()], Detail::Status).await;
            missing.extend(lookup.into_record(id).err().map(Exit::from));
            lookup = match rest {
                Ok(mut rest) => rest.pop().unwrap_or(Lookup::Missing),
                Err(error) => {
                    missing.push(Exit::from(error));
                    continue;
                }
            };
        }
        if matches!(lookup, Lookup::Unrecorded { .. }) {
            missing.push(Exit::new(Code::NotFound, serving::unrecorded(session, id)));
            continue;
        }
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
