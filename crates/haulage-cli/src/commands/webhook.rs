//! `haulage webhook`: what a server delivers to the URLs that jobs name.

use haulage::{
    QueueName, Timestamp,
    backend::{Backend, Deliveries, Delivery, DeliveryQuery, RedriveDeliveries},
};
use haulage_http::server::WebhookSecret;
use serde_json::json;

use super::ids;
use crate::{
    exit::{Code, Exit, Result},
    output::{brief, summary_line},
    session::Session,
};

/// How many deliveries are made due in one go.
const CHUNK: usize = 1000;

/// Make a signing secret for webhooks, list pending and dead deliveries, and redrive dead ones
///
/// A server (`haulage serve --webhook-secret-file`) posts the events of a job to the URL that it was submitted
/// with (--webhook). A delivery that the receiver does not accept is retried for a day; after that, or as soon
/// as the receiver answers 410, it is dead.
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Examples:\n  haulage webhook secret > webhook.secret\n  haulage webhook list --dead\n  haulage webhook redrive --all"
)]
pub(crate) enum Command {
    /// Make a secret, with which receivers verify that a delivery comes from your server
    ///
    /// Give it to `haulage serve --webhook-secret-file`, in a file that nobody else may read (`umask 077`), and to the
    /// receivers. While you replace it, the file has two, one a line, and each delivery two signatures.
    #[command(after_help = "Example:\n  haulage webhook secret > webhook.secret")]
    Secret,
    /// List pending and dead deliveries, newest first; with --dead, most recently dead first
    #[command(after_help = "Example:\n  haulage webhook list --dead")]
    List(List),
    /// Redrive dead deliveries: they are retried for another day at most
    ///
    /// Prints their ids.
    #[command(
        group(clap::ArgGroup::new("which").required(true)),
        after_help = "Examples:\n  haulage webhook redrive --all\n  haulage webhook redrive msg_0193a1b27c0070008000d2f1"
    )]
    Redrive(Redrive),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only dead ones: their day is over, or the receiver has answered 410
    #[arg(long)]
    dead: bool,

    /// Only those of this job, by its id or the beginning of that: 8 characters or more
    #[arg(long, value_name = "ID")]
    job: Option<String>,

    /// Only those of jobs of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,

    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    /// Ids of deliveries
    #[arg(value_name = "ID", group = "which")]
    ids: Vec<String>,

    /// All dead ones
    #[arg(long, group = "which")]
    all: bool,

    /// Only those of jobs of this queue
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    queue: Option<QueueName>,
}

impl Command {
    pub(crate) async fn run(self, session: &Session) -> Result {
        match self {
            Self::Secret => secret(session),
            Self::List(list) => list.run(session).await,
            Self::Redrive(redrive) => redrive.run(session).await,
        }
    }
}

fn secret(session: &Session) -> Result {
    let secret = WebhookSecret::create()?;
    if session.output.json {
        return session.output.json(&json!({ "secret": secret }));
    }
    session.output.line(secret)
}

fn deliveries(backend: &dyn Backend) -> Result<&dyn Deliveries> {
    backend
        .deliveries()
        .ok_or_else(|| Exit::usage(format!("the {} store does not support webhooks", backend.name())))
}

impl List {
    async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let backend = session.existing().await?;
        let mut query = DeliveryQuery::new(self.limit.into());
        (query.dead, query.queue) = (self.dead, self.queue);
        if let Some(job) = self.job {
            query.job = ids::whole(&*backend, vec![job]).await?.pop();
        }
        let found = deliveries(&*backend)?.list_deliveries(query).await?;
        if output.json {
            return found.iter().try_for_each(|delivery| output.json(delivery));
        }
        if found.is_empty() {
            output.talk(if self.dead { "no dead deliveries" } else { "no deliveries" });
            return Ok(());
        }
        let now = backend.clock().now();
        let rows: Vec<Vec<String>> = found.iter().map(|delivery| row(delivery, now)).collect();
        output.text(&output.table(&["ID", "JOB", "EVENT", "AGE", "TRIES", "NEXT", "URL", "ERROR"], &rows))
    }
}

fn row(delivery: &Delivery, now: Timestamp) -> Vec<String> {
    let next = match delivery.due_at {
        None => "dead".to_owned(),
        Some(at) if at <= now => "now".to_owned(),
        Some(at) => format!("in {}", brief(at.since(now))),
    };
    vec![
        delivery.id.clone(),
        delivery.job.to_string(),
        delivery.event.to_string(),
        brief(now.since(delivery.created_at)),
        delivery.tries.to_string(),
        next,
        summary_line(&delivery.url),
        delivery.error.as_deref().map(summary_line).unwrap_or_default(),
    ]
}

impl Redrive {
    async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let backend = session.existing().await?;
        let deliveries = deliveries(&*backend)?;
        let tell = |ids: &[String]| {
            ids.iter().try_for_each(|id| {
                if output.json { output.json(&json!({ "id": id })) } else { output.line(id) }
            })
        };
        if !self.all {
            let mut redriven = Vec::new();
            for ids in self.ids.chunks(CHUNK) {
                let some = deliveries.redrive_deliveries(RedriveDeliveries::Deliveries(ids.to_vec())).await?;
                tell(&some)?;
                redriven.extend(some);
            }
            let refused = self.ids.iter().filter(|id| !redriven.contains(id));
            let refused = refused.map(|id| {
                let id = summary_line(id);
                let message = format!("there is no dead delivery {id}; see `haulage webhook list --dead`");
                Exit::new(Code::NotFound, message)
            });
            return Exit::all(refused.collect());
        }
        let (mut done, by) = (0, backend.clock().now());
        loop {
            let what = RedriveDeliveries::Dead { limit: CHUNK, queue: self.queue.clone(), by };
            let some = deliveries.redrive_deliveries(what).await?;
            tell(&some)?;
            done += some.len() as u64;
            if some.len() < CHUNK {
                break;
            }
        }
        output.talk(format_args!("{done} {} redriven", if done == 1 { "delivery" } else { "deliveries" }));
        Ok(())
    }
}
