//! `haulage queue`: queues by name, and what the AWS backend needs, for development.

use std::time::Duration;

use haulage::{
    QueueName,
    backend::{Backlog, QueueBacklog, QueueStats},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    exit::Result,
    options,
    output::{Output, brief, count},
    session::Session,
};

/// Look at queues, pause them, and let them go on; on AWS, make and delete them
///
/// A queue is there as soon as a job is submitted to it (`haulage submit --queue NAME`), and as long as it
/// has jobs or is paused. On AWS each is one of SQS, and has to be made: `create`, `describe` and
/// `delete` do that for development. For production, describe them in Terraform or the like.
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Examples:\n  haulage queue list\n  haulage queue pause bulk\n  haulage queue create --url 'sqs://jobs.fifo?table=results&region=eu-central-1'"
)]
pub(crate) enum Command {
    /// List the queues that have jobs or are paused
    ///
    /// On AWS, all queues are listed, with what SQS counts: it may be a minute old, and jobs that
    /// wait for a retry are among those that run.
    #[command(after_help = "Example:\n  haulage queue list --json | jq 'select(.is_paused).queue'")]
    List,
    /// Pause a queue: no job of it is started until it is resumed
    ///
    /// Jobs can be submitted to it, and those that run go on. It may have no jobs yet.
    #[command(after_help = "Example:\n  haulage queue pause bulk")]
    Pause {
        /// Its name
        queue: QueueName,
    },
    /// Let a paused queue go on: workers that wait start its jobs at once
    #[command(after_help = "Example:\n  haulage queue resume bulk")]
    Resume {
        /// Its name
        queue: QueueName,
    },
    /// Make the queue of an sqs:// URL, its dead-letter queue and the table
    ///
    /// The URL names all of them, as in sqs://jobs.fifo?table=results&bucket=payloads&region=eu-central-1;
    /// with --queue, named queues of it are made as well: bulk is jobs--bulk.fifo in SQS. What is there
    /// already is left as it is; where it differs, that is said. A bucket in the URL is made as well, or
    /// gets the lifecycle rules that it lacks.
    #[command(
        after_help = "Example:\n  haulage queue create --url 'sqs://jobs.fifo?table=results' --visibility-timeout 1m"
    )]
    Create(Create),
    /// Show what is there of an sqs:// URL
    #[command(after_help = "Example:\n  haulage queue describe --url 'sqs://jobs.fifo?table=results'")]
    Describe,
    /// Delete the queues of an sqs:// URL, their dead-letter queue and the table, with all jobs and records
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

    /// A named queue to make as well; may be given several times
    #[arg(long = "queue", value_name = "NAME")]
    queues: Vec<QueueName>,
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
    pub(crate) async fn run(self, session: &Session) -> Result {
        match self {
            Self::List => list(session).await,
            Self::Pause { queue } => set_paused(session, queue, true).await,
            Self::Resume { queue } => set_paused(session, queue, false).await,
            #[cfg(not(feature = "aws"))]
            _ => Err(crate::session::without_aws()),
            #[cfg(feature = "aws")]
            command => aws::run(command, session).await,
        }
    }
}

async fn list(session: &Session) -> Result {
    #[derive(Serialize)]
    struct Line<'a> {
        queue: &'a QueueName,
        #[serde(flatten)]
        stats: &'a QueueStats,
    }
    let output = session.output;
    let backend = session.existing().await?;
    if !backend.capabilities().cheap_looks {
        return backlogs(output, &backend.backlog().await?);
    }
    let queues = backend.stats().await?.queues;
    if output.json {
        return queues.iter().try_for_each(|(queue, stats)| output.json(&Line { queue, stats }));
    }
    if queues.is_empty() {
        output.talk("no queue has jobs, and none is paused");
        return Ok(());
    }
    let header = ["QUEUE", "STATE", "DUE", "DELAYED", "BLOCKED", "RUNNING", "DEAD", "OLDEST"];
    let row = |(queue, stats): (&QueueName, &QueueStats)| {
        let oldest = stats.oldest_due_seconds.and_then(|age| Duration::try_from_secs_f64(age).ok());
        let numbers = [stats.due, stats.delayed, stats.blocked, stats.in_progress, stats.dead];
        let mut row = vec![queue.to_string(), state(stats.is_paused).to_owned()];
        row.extend(numbers.map(|n| n.to_string()));
        row.push(oldest.map(brief).unwrap_or_default());
        row
    };
    let rows: Vec<Vec<String>> = queues.iter().map(row).collect();
    output.text(&output.table(&header, &rows))
}

/// The same of what the queues count by themselves.
fn backlogs(output: Output, backlog: &Backlog) -> Result {
    #[derive(Serialize)]
    struct Line<'a> {
        queue: &'a QueueName,
        #[serde(flatten)]
        backlog: &'a QueueBacklog,
    }
    if output.json {
        let lines = backlog.queues.iter().map(|(queue, backlog)| Line { queue, backlog });
        return lines.into_iter().try_for_each(|line| output.json(&line));
    }
    let row = |(queue, backlog): (&QueueName, &QueueBacklog)| {
        let mut row = vec![queue.to_string(), state(backlog.is_paused).to_owned()];
        row.extend([backlog.visible, backlog.delayed, backlog.in_progress].map(|n| n.to_string()));
        row
    };
    let rows: Vec<Vec<String>> = backlog.queues.iter().map(row).collect();
    output.text(&output.table(&["QUEUE", "STATE", "DUE", "DELAYED", "RUNNING"], &rows))
}

const fn state(is_paused: bool) -> &'static str {
    if is_paused { "paused" } else { "open" }
}

async fn set_paused(session: &Session, queue: QueueName, paused: bool) -> Result {
    let output = session.output;
    let backend = session.existing().await?;
    let changed = backend.set_paused(queue.clone(), paused).await?;
    if output.json {
        return output.json(&json!({ "queue": queue, "paused": paused, "changed": changed }));
    }
    let backlog = backend.backlog().await?;
    let waiting = backlog.queues.get(&queue).map_or(0, |backlog| backlog.visible);
    let waiting = count(waiting, "job");
    output.line(match (paused, changed) {
        (true, true) => format!("{queue} is paused; {waiting} due in it"),
        (true, false) => format!("{queue} was paused already; {waiting} due in it"),
        (false, true) => format!("{queue} goes on; {waiting} due in it"),
        (false, false) => format!("{queue} was not paused; {waiting} due in it"),
    })
}

#[cfg(feature = "aws")]
mod aws {
    use haulage_aws::{
        Config,
        setup::{self, Outcome, QueueSettings, Step},
    };

    use super::{Command, Create, Delete};
    use crate::{
        commands::confirm::confirm,
        exit::{Exit, Result},
        output::{Output, sanitized},
        session::Session,
    };

    pub(super) async fn run(command: Command, session: &Session) -> Result {
        let output = session.output;
        let config = config(session)?;
        let steps = match command {
            Command::Create(args) => setup::create(&config, &args.settings(), None).await?,
            Command::Delete(args) => {
                let bucket = args.bucket(&config)?;
                if !args.yes {
                    confirm(output, &question(&config, bucket), "nothing was deleted")?;
                }
                match bucket {
                    Some(_) => setup::delete_with_bucket(&config, None).await?,
                    None => setup::delete(&config, None).await?,
                }
            }
            _ => setup::describe(&config, None).await?,
        };
        show(output, &steps)
    }

    fn config(session: &Session) -> Result<Config> {
        if !session.is_aws() {
            return Err(Exit::usage(format!(
                "only queues of SQS are made, shown and deleted, and the URL is {}; name one with --url sqs://jobs.fifo?table=results",
                session.url
            )));
        }
        Ok(Config::from_url(&session.url)?)
    }

    impl Create {
        fn settings(&self) -> QueueSettings {
            let mut settings = QueueSettings::default();
            settings.visibility_timeout = self.visibility_timeout;
            settings.retention = self.retention;
            settings.max_receives = self.max_receives;
            settings.named.clone_from(&self.queues);
            settings
        }
    }

    impl Delete {
        /// The bucket that is to be deleted.
        fn bucket<'a>(&self, config: &'a Config) -> Result<Option<&'a str>> {
            match (self.bucket, config.bucket.as_deref()) {
                (true, None) => {
                    Err(Exit::usage("--bucket goes with bucket=… in the URL, and the URL has none"))
                }
                (asked, bucket) => Ok(bucket.filter(|_| asked)),
            }
        }
    }

    /// What a person is asked before all is deleted.
    fn question(config: &Config, bucket: Option<&str>) -> String {
        let (queue, table) = (config.queue_name(), &config.table);
        let bucket = bucket.map(|name| format!(", and bucket {name} if it is empty")).unwrap_or_default();
        format!(
            "Delete queue {queue} and its named queues, their dead-letter queue and table {table}, with all jobs{bucket}?"
        )
    }

    fn show(output: Output, steps: &[Step]) -> Result {
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
