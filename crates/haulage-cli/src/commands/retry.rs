//! `haulage retry`

use haulage::{Error, JobId, NewJob, Producer, Record, Status, backend::Detail};
use serde_json::json;

use super::{completing, ids};
use crate::{
    exit::{Exit, Result},
    session::Session,
};

/// Run jobs again that are over
///
/// A job that failed or was cancelled goes back to work under its id, with all its attempts. One that
/// succeeded keeps its result: a new job gets the same body and options, but no idempotency key. Writes
/// the id under which each runs now. For all dead letters at once, see `haulage dead redrive`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage retry 0193a1b2-7c00-7000-8000-00000004d2f1\n  haulage list --json --status error --newer-than 1h | jq -r .id | xargs haulage retry"
)]
pub(crate) struct Args {
    /// Job ids, or the beginnings of some: 8 characters or more
    #[arg(required = true, value_name = "ID", add = completing::over())]
    ids: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let (output, producer) = (session.output, Producer::new(session.existing().await?));
        let mut refused = Vec::new();
        for id in ids::whole(&**producer.backend(), self.ids).await? {
            match again(&producer, &id).await {
                Ok(now) if output.json => output.json(&json!({ "id": now, "retried": id }))?,
                Ok(now) => output.line(now)?,
                // Nothing that the next id could change.
                Err(error @ Error::Unavailable { .. }) => return Err(error.into()),
                Err(error) => refused.push(Exit::from(error)),
            }
        }
        Exit::all(refused)
    }
}

/// Runs the job again, and gives the id under which it does.
async fn again(producer: &Producer, id: &JobId) -> haulage::Result<JobId> {
    match producer.get(id, Detail::Status).await?.status {
        Status::Success => {}
        Status::Error | Status::Cancelled => return producer.redrive(id).await.map(|()| id.clone()),
        status => return Err(Error::Invalid(format!("job {id} is not over yet: it is {status}"))),
    }
    let record = producer.get(id, Detail::Full).await?;
    Ok(producer.submit_job(copy(record)?).await?.id().clone())
}

/// A job with the body and the options of this one.
fn copy(Record { id, body, mut spec, .. }: Record) -> haulage::Result<NewJob> {
    // One that was not given is the job's own id.
    spec.request_id = spec.request_id.filter(|given| given != id.as_str());
    let body = body.ok_or_else(|| match spec.drop_body {
        true => Error::Invalid(format!(
            "the body of job {id} was deleted when it succeeded (drop_body), so it cannot run again; \
             submit it with its body"
        )),
        false => Error::Unavailable {
            message: format!("the body of job {id} did not come with its record; nothing was submitted"),
            source: None,
        },
    })?;
    if spec.webhook.as_ref().is_some_and(|webhook| webhook.url.ends_with('…')) {
        return Err(Error::Invalid(format!(
            "the server hides the query of the webhook URL of job {id}, so the job cannot be copied; submit it again \
             with its webhook"
        )));
    }
    Ok(NewJob::from_json(body).spec(spec))
}
