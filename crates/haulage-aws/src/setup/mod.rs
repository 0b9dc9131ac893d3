//! Making, showing and deleting what the backend needs, for development and
//! tests. For production, describe it in Terraform or the like.

mod bucket;
mod queue;
mod table;

use std::time::Duration;

use aws_config::SdkConfig;
use haulage::Result;
use serde::Serialize;

pub(crate) use self::{
    bucket::{missing_rules, rules},
    table::{TTL, find as find_table, ttl as ttl_of, wrong_key},
};
use crate::{
    clients::{Clients, load},
    clock::ServerClock,
    config::Config,
    inner::Tuning,
    meter::Meter,
};

/// How a queue is made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// How long a received message is hidden where a receive does not say; each
    /// receive of Haulage does. Default: 30 s.
    pub visibility_timeout: Duration,
    /// How long a message is kept. Default: 14 days, the most that SQS has.
    pub retention: Duration,
    /// After how many receives SQS itself moves a message to the dead-letter
    /// queue: a net under the attempts that consumers count. More than the
    /// `max_attempts` of any job, as a release and a second delivery are
    /// receives as well. Default: 10.
    pub max_receives: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            retention: Duration::from_secs(14 * 24 * 3600),
            max_receives: 10,
        }
    }
}

/// What was found or done about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The thing: `queue jobs.fifo`.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What there is to say of it, such as where it differs from what was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What became of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It was made.
    Created,
    /// It was there, and was left as it is.
    Exists,
    /// It was deleted.
    Deleted,
    /// It is not there.
    Missing,
    /// It was left, for the reason in the notes.
    Kept,
}

impl Step {
    fn new(what: impl Into<String>, outcome: Outcome) -> Self {
        Self { what: what.into(), outcome, notes: Vec::new() }
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// The name of the dead-letter queue that [`create`] makes: `jobs-dead.fifo`
/// for `jobs.fifo`.
pub fn dead_letter_queue(config: &Config) -> String {
    let name = config.queue_name();
    match name.strip_suffix(".fifo") {
        Some(base) => format!("{base}-dead.fifo"),
        None => format!("{name}-dead"),
    }
}

async fn clients(config: &Config, sdk: Option<SdkConfig>) -> Result<Clients> {
    config.validate()?;
    let sdk = match sdk {
        Some(sdk) => sdk,
        None => load(config).await,
    };
    Clients::new(&sdk, config, &Tuning::default(), &ServerClock::new(0), &Meter::new(false))
}

/// Makes the queue, its dead-letter queue and the table, and gives the bucket
/// its lifecycle rules, where one is configured. What is there already is left
/// as it is; where it differs from what was asked, the step says so.
///
/// # Errors
///
/// [`haulage::Error::Config`] where a name is wrong;
/// [`haulage::Error::Unavailable`] where AWS cannot be reached or refuses.
pub async fn create(config: &Config, settings: &QueueSettings, sdk: Option<SdkConfig>) -> Result<Vec<Step>> {
    let clients = clients(config, sdk).await?;
    let mut steps = queue::create(&clients, config, settings).await?;
    steps.push(table::create(&clients, config).await?);
    if let Some(name) = &config.bucket {
        steps.push(bucket::create(&clients, name).await?);
    }
    Ok(steps)
}

/// Shows what is there.
///
/// # Errors
///
/// As [`create`].
pub async fn describe(config: &Config, sdk: Option<SdkConfig>) -> Result<Vec<Step>> {
    let clients = clients(config, sdk).await?;
    let mut steps = queue::describe(&clients, config).await?;
    steps.push(table::describe(&clients, config).await?);
    if let Some(name) = &config.bucket {
        steps.push(bucket::describe(&clients, name).await?);
    }
    Ok(steps)
}

/// Deletes the queue, the dead-letter queue that [`create`] makes, and the
/// table, with all jobs and records in them. The bucket is left.
///
/// # Errors
///
/// As [`create`].
pub async fn delete(config: &Config, sdk: Option<SdkConfig>) -> Result<Vec<Step>> {
    let clients = clients(config, sdk).await?;
    let mut steps = queue::delete(&clients, config).await?;
    steps.push(table::delete(&clients, config).await?);
    if let Some(name) = &config.bucket {
        let step = Step::new(format!("bucket {name}"), Outcome::Kept);
        steps.push(step.note("its objects expire by its lifecycle rules; delete it yourself if you want to"));
    }
    Ok(steps)
}
