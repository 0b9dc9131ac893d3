//! What the metrics of a worker are told apart by.

use crate::QueueName;

/// The store that a worker works on, and what its default queue is called there.
///
/// ```
/// use haulage::metrics::Labels;
///
/// let embedded = Labels::of("sqlite:///srv/haulage.db");
/// assert_eq!((embedded.store.as_str(), embedded.default_queue.as_str()), ("haulage.db", "default"));
/// // On AWS, a queue is one of SQS, and the table is what all of them have in common.
/// let aws = Labels::of("sqs://jobs.fifo?table=results");
/// assert_eq!((aws.store.as_str(), aws.default_queue.as_str()), ("results", "jobs.fifo"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The name of the database's file, or of the table.
    pub store: String,
    /// The name of the queue of jobs that name none.
    pub default_queue: String,
}

impl Labels {
    /// Those of a backend's URL.
    pub fn of(url: &str) -> Self {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = if name.is_empty() { scheme } else { name };
        if scheme != "sqs" {
            return Self { store: name.to_owned(), default_queue: QueueName::default().to_string() };
        }
        let table = query.split('&').find_map(|option| option.strip_prefix("table="));
        let table = table.unwrap_or_else(|| name.strip_suffix(".fifo").unwrap_or(name));
        Self { store: table.to_owned(), default_queue: name.to_owned() }
    }

    pub(super) fn queue<'a>(&'a self, queue: &'a QueueName) -> &'a str {
        if queue.is_default() { &self.default_queue } else { queue.as_str() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_and_queues_have_names() {
        for (url, store, queue) in [
            ("sqs://jobs.fifo?table=results&region=eu-central-1", "results", "jobs.fifo"),
            ("sqs://https://sqs.eu-central-1.amazonaws.com/123456789012/jobs?region=x&table=t", "t", "jobs"),
            ("sqs://jobs.fifo", "jobs", "jobs.fifo"),
            ("sqlite:///srv/haulage.db?busy_timeout=1s", "haulage.db", "default"),
            ("sqlite://haulage.db", "haulage.db", "default"),
            ("memory://", "memory", "default"),
        ] {
            let labels = Labels::of(url);
            assert_eq!((labels.store.as_str(), labels.default_queue.as_str()), (store, queue), "{url}");
        }
    }
}
