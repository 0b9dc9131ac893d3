//! Which jobs a command is about, where it is not told by their ids.

use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use haulage::{QueueName, Status, backend::ListQuery};

use crate::options;

/// What jobs have to have; all of it, where several are given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct Filter {
    /// Only jobs of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,

    /// Only jobs of this task
    #[arg(long, value_name = "NAME")]
    task: Option<String>,

    /// Only jobs of this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Only jobs with this request id
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,

    /// Only jobs with this label; may be given several times, for jobs that have all of them
    #[arg(long, value_name = "KEY=VALUE", value_parser = options::label)]
    metadata: Vec<(String, String)>,

    /// Only jobs with an error that has this in its text, or is of this type, such as ValueError, or of
    /// this kind: handler, panic, timeout, worker_lost, invalid_body, invalid_result, cancelled, released,
    /// expired, or message_lost
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,

    /// Only jobs that were submitted this long ago, or longer
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    older_than: Option<Duration>,

    /// Only jobs that were submitted less than this long ago
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    newer_than: Option<Duration>,
}

impl Filter {
    /// A query for all that is meant.
    pub(super) fn query(self) -> ListQuery {
        let mut query = ListQuery::new();
        query.queue = self.queue;
        query.task = self.task;
        query.group = self.group;
        query.request_id = self.request_id;
        query.metadata = self.metadata.into_iter().collect();
        query.error = self.error;
        query.older_than = self.older_than;
        query.newer_than = self.newer_than;
        query
    }
}

/// One of these statuses, which shells complete; the flag is to ignore the case.
pub(super) fn status(statuses: &'static [Status]) -> impl TypedValueParser<Value = Status> {
    let values = statuses.iter().map(|status| match status {
        Status::Submitted => PossibleValue::new("submitted"),
        Status::InProgress => PossibleValue::new("in-progress").alias("in_progress"),
        Status::Success => PossibleValue::new("success"),
        Status::Error => PossibleValue::new("error"),
        Status::Cancelled => PossibleValue::new("cancelled"),
    });
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Status>())
}
