//! `haulage cancel`

use haulage::{Error, JobId, backend::Cancellation};
use serde_json::json;

use crate::{
    exit::{Code, Exit, Result},
    session::Session,
};

/// Cancel jobs: those that wait at once, those that run through their worker
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Job ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let ids: Vec<JobId> = self.ids.into_iter().map(JobId::from).collect();
        let answers = session.existing().await?.cancel(ids.clone()).await?;
        let mut refused = Vec::new();
        for (id, answer) in ids.into_iter().zip(answers) {
            let (name, words, status) = match answer {
                Cancellation::Done => ("done", "cancelled".to_owned(), None),
                Cancellation::Requested => {
                    ("requested", "its worker has been asked to stop".to_owned(), None)
                }
                Cancellation::TooLate(status) => {
                    ("too_late", format!("is over already: {status}"), Some(status))
                }
                Cancellation::Missing => {
                    refused.push(Error::NotFound(id).into());
                    continue;
                }
            };
            if output.json {
                output.json(&json!({ "id": id, "cancellation": name, "status": status }))?;
            } else {
                output.line(format_args!("{id} {words}"))?;
            }
            if let Some(status) = status.filter(|s| *s != haulage::Status::Cancelled) {
                let message = format!("job {id} was over before it could be cancelled: it is {status}");
                refused.push(Exit::new(Code::Failure, message));
            }
        }
        Exit::all(refused)
    }
}
