//! `haulage queue`: what the AWS backend needs, for development.

use std::time::Duration;

use crate::{exit::Result, options, session::Session};

/// Make, show or delete the queue and the table of an sqs:// URL, for development
///
/// For production, describe them in Terraform or the like. The URL names all of them:
/// sqs://jobs.fifo?table=results&bucket=payloads&region=eu-central-1
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Example:\n  haulage queue create --url 'sqs://jobs.fifo?table=results&region=eu-central-1'"
)]
pub(crate) enum Command {
    /// Make the queue, its dead-letter queue and the table
    ///
    /// What is there already is left as it is; where it differs, that is said. A
    /// bucket in the URL is made as well, or gets the lifecycle rules that it lacks.
    #[command(
        after_help = "Example:\n  haulage queue create --url 'sqs://jobs.fifo?table=results' --visibility-timeout 1m"
    )]
    Create(Create),
    /// Show what is there
    #[command(after_help = "Example:\n  haulage queue describe --url 'sqs://jobs.fifo?table=results'")]
    Describe,
    /// Delete the queue, its dead-letter queue and the table, with all jobs and records
    ///
    /// A bucket is left as it is, unless --bucket is given.
    #[command(after_help = "Example:\n  haulage queue delete --url 'sqs://jobs.fifo?table=results' --yes")]
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// How long a received message is hidden where a receive does not say
    #[arg(long, value_name = "DURATION", value_parser = options::duration, default_value = "30s")]
    visibility_timeout: Duration,

    /// How long messages are kept: 1 minute to 14 days
    #[arg(long, value_name = "DURATION", value_parser = options::duration, default_value = "14d")]
    retention: Duration,

    /// After how many receives SQS itself moves a message to the dead-letter queue: more than
    /// the --max-attempts of any job
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), default_value = "100")]
    max_receives: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Delete the bucket of the URL as well, if nothing is in it
    #[arg(long)]
    bucket: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Command {
    #[cfg(not(feature = "aws"))]
    #[allow(clippy::unused_async)] // as with the feature
    pub(crate) async fn run(self, _session: &Session) -> Result {
        Err(crate::session::without_aws())
    }

    #[cfg(feature = "aws")]
    pub(crate) async fn run(self, session: &Session) -> Result {
        use haulage_aws::setup;

        let output = session.output;
        let config = aws::config(session)?;
        let steps = match self {
            Self::Create(args) => setup::create(&config, &args.settings(), None).await?,
            Self::Describe => setup::describe(&config, None).await?,
            Self::Delete(args) => {
                let bucket = args.bucket(&config)?;
                if !args.yes {
                    super::confirm::confirm(output, &aws::question(&config, bucket), "nothing was deleted")?;
                }
                match bucket {
                    Some(_) => setup::delete_with_bucket(&config, None).await?,
                    None => setup::delete(&config, None).await?,
                }
            }
        };
        aws::show(output, &steps)
    }
}

#[cfg(feature = "aws")]
mod aws {
    use haulage_aws::{
        Config,
        setup::{Outcome, QueueSettings, Step},
    };

    use super::{Create, Delete};
    use crate::{
        exit::{Exit, Result},
        output::{Output, sanitized},
        session::Session,
    };

    pub(super) fn config(session: &Session) -> Result<Config> {
        if !session.is_aws() {
            return Err(Exit::usage(format!(
                "queues are for AWS, and the URL is {}; name one with --url sqs://jobs.fifo?table=results",
                session.url
            )));
        }
        Ok(Config::from_url(&session.url)?)
    }

    impl Create {
        pub(super) fn settings(&self) -> QueueSettings {
            let mut settings = QueueSettings::default();
            settings.visibility_timeout = self.visibility_timeout;
            settings.retention = self.retention;
            settings.max_receives = self.max_receives;
            settings
        }
    }

    impl Delete {
        /// The bucket that is to be deleted.
        pub(super) fn bucket<'a>(&self, config: &'a Config) -> Result<Option<&'a str>> {
            match (self.bucket, config.bucket.as_deref()) {
                (true, None) => {
                    Err(Exit::usage("--bucket goes with bucket=… in the URL, and the URL has none"))
                }
                (asked, bucket) => Ok(bucket.filter(|_| asked)),
            }
        }
    }

    /// What a person is asked before all is deleted.
    pub(super) fn question(config: &Config, bucket: Option<&str>) -> String {
        let (queue, table) = (config.queue_name(), &config.table);
        let bucket = bucket.map(|name| format!(", and bucket {name} if it is empty")).unwrap_or_default();
        format!("Delete queue {queue}, its dead-letter queue and table {table}, with all jobs{bucket}?")
    }

    pub(super) fn show(output: Output, steps: &[Step]) -> Result {
        for step in steps {
            if output.json {
                output.json(step)?;
                continue;
            }
            let outcome = match step.outcome {
                Outcome::Created => "created",
                Outcome::Exists => "exists",
                Outcome::Deleted => "deleted",
                Outcome::Missing => "missing",
                _ => "kept",
            };
            output.line(format_args!("{outcome:<8} {}", step.what))?;
            for note in &step.notes {
                output.line(format_args!("         {}", sanitized(note)))?;
            }
        }
        Ok(())
    }
}
