//! Making, showing and deleting what the backend needs, for development and
//! tests. For production, describe it in Terraform or the like.

mod bucket;
mod lifecycle;
mod queue;
mod table;

use std::time::Duration;

use aws_config::SdkConfig;
use haulage::{Error, QueueName, Result};
use serde::Serialize;

pub(crate) use self::{
    bucket::{Found, place as bucket_place},
    lifecycle::{NONE as NO_LIFECYCLE, early, missing as missing_rules},
    table::{INDEXES, Index, TTL, is_usable, ttl_attribute, wrong_key},
};
use crate::{
    config::Config,
    services::{
        clients::{Clients, load},
        clock::ServerClock,
        meter::Meter,
        queue::MAX_RETENTION,
    },
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
    /// `max_attempts` of any job, as a release, a second delivery, and each
    /// receive of what follows in a group are receives as well. Default: 100.
    pub max_receives: u32,
    /// The named queues to make besides the one of the URL, with the same settings and the
    /// same dead-letter queue. Default: none.
    pub named: Vec<QueueName>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            retention: MAX_RETENTION,
            max_receives: 100,
            named: Vec::new(),
        }
    }
}

impl QueueSettings {
    /// Checks every setting against the range that SQS has for it (Amazon SQS
    /// API Reference, "CreateQueue").
    ///
    /// # Errors
    ///
    /// [`Error::Config`] that names the setting and its range.
    pub fn validate(&self) -> Result<()> {
        let bad = |text: &str| Err(Error::Config(text.into()));
        if self.visibility_timeout > Duration::from_secs(12 * 3600) {
            return bad("visibility_timeout is over the 12 hours that SQS has");
        }
        if !(Duration::from_secs(60)..=MAX_RETENTION).contains(&self.retention) {
            return bad("retention is not between 1 minute and 14 days");
        }
        if !(1..=1000).contains(&self.max_receives) {
            return bad("max_receives is not between 1 and 1,000");
        }
        Ok(())
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
        None => load(config, None).await,
    };
    Clients::new(&sdk, config, None, &ServerClock::new(0), &Meter::new(false))
}

/// Makes the queue and named ones of its store, their dead-letter queue and the table, and gives the bucket
/// its lifecycle rules, where one is configured. What is there already is left
/// as it is; where it differs from what was asked, the step says so.
///
/// # Errors
///
/// [`haulage::Error::Config`] where a name or a setting is wrong;
/// [`haulage::Error::Unavailable`] where AWS cannot be reached or refuses.
pub async fn create(config: &Config, settings: &QueueSettings, sdk: Option<SdkConfig>) -> Result<Vec<Step>> {
    settings.validate()?;
    let clients = clients(config, sdk).await?;
    let mut steps = queue::create(&clients, config, settings).await?;
    steps.push(table::create(&clients, config).await?);
    if let Some(bucket) = bucket_of(config) {
        steps.push(bucket::create(&clients, bucket).await?);
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
    if let Some(bucket) = bucket_of(config) {
        steps.push(bucket::describe(&clients, bucket).await?);
    }
    Ok(steps)
}

/// Deletes the queue and the named ones of its store, the dead-letter queue that [`create`]
/// makes, and the table, with all jobs and records in them. The bucket is left.
///
/// # Errors
///
/// As [`create`].
pub async fn delete(config: &Config, sdk: Option<SdkConfig>) -> Result<Vec<Step>> {
    let clients = clients(config, sdk).await?;
    let mut steps = queue_and_table(&clients, config).await?;
    if let Some(name) = &config.bucket {
        let step = Step::new(format!("bucket {name}"), Outcome::Kept);
        steps.push(step.note("objects of Haulage expire by its lifecycle rules"));
    }
    Ok(steps)
}

/// The same, and the bucket, where one is configured and nothing is in it.
///
/// # Errors
///
/// As [`create`].
pub async fn delete_with_bucket(config: &Config, sdk: Option<SdkConfig>) -> Result<Vec<Step>> {
    let clients = clients(config, sdk).await?;
    let mut steps = queue_and_table(&clients, config).await?;
    if let Some(bucket) = bucket_of(config) {
        steps.push(bucket::delete(&clients, bucket).await?);
    }
    Ok(steps)
}

fn bucket_of(config: &Config) -> Option<bucket::Named<'_>> {
    let owner = config.bucket_owner.as_deref();
    config.bucket.as_deref().map(|name| bucket::Named { name, owner })
}

async fn queue_and_table(clients: &Clients, config: &Config) -> Result<Vec<Step>> {
    let mut steps = queue::delete(clients, config).await?;
    steps.push(table::delete(clients, config).await?);
    Ok(steps)
}
