//! Which records a list is about.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[allow(unused_imports)] // for the documentation
use crate::backend::Backend;
use crate::{JobId, Metadata, QueueName, Record, Status, Timestamp, seconds};

/// Which records [`Backend::list`] gives: those for which everything that is set holds.
///
/// ```
/// use std::time::Duration;
/// use haulage::{Status, backend::ListQuery};
///
/// let query = ListQuery::new().status(Status::Error).metadata("user", "anna").newer_than(Duration::from_secs(3600));
/// assert_eq!(query.limit, 20);
/// ```
///
/// What a backend finds by an index, and for what it reads record by record, newest first, until it
/// has enough, is for it to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ListQuery {
    /// Only this status.
    pub status: Option<Status>,
    /// Only dead letters.
    pub dead: bool,
    /// Only jobs whose id begins so.
    pub id_prefix: Option<String>,
    /// Only jobs of this queue.
    pub queue: Option<QueueName>,
    /// Only jobs of this task.
    pub task: Option<String>,
    /// Only jobs of this group, in whichever queue.
    pub group: Option<String>,
    /// Only jobs with this request id.
    pub request_id: Option<String>,
    /// Only jobs with all of these labels.
    pub metadata: Metadata,
    /// Only jobs whose record has an error of this kind or type, by its name, or with this in its
    /// text, in this spelling. An error of an earlier attempt counts, and so does the reason for which a job was
    /// given back.
    pub error: Option<String>,
    /// Only jobs that were submitted this long ago, or longer.
    #[serde(with = "seconds::option")]
    pub older_than: Option<Duration>,
    /// Only jobs that were submitted less than this long ago.
    #[serde(with = "seconds::option")]
    pub newer_than: Option<Duration>,
    /// Only what was submitted before this job.
    pub before: Option<JobId>,
    /// At most so many. Default: 20.
    pub limit: usize,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            status: None,
            dead: false,
            id_prefix: None,
            queue: None,
            task: None,
            group: None,
            request_id: None,
            metadata: Metadata::new(),
            error: None,
            older_than: None,
            newer_than: None,
            before: None,
            limit: 20,
        }
    }
}

impl ListQuery {
    /// The newest 20 records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only this status.
    #[must_use]
    pub fn status(mut self, status: impl Into<Option<Status>>) -> Self {
        self.status = status.into();
        self
    }

    /// Only dead letters.
    #[must_use]
    pub fn dead(mut self, dead: bool) -> Self {
        self.dead = dead;
        self
    }

    /// Only jobs whose id begins so.
    #[must_use]
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = Some(prefix.into());
        self
    }

    /// Only jobs of this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<Option<QueueName>>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Only jobs of this task.
    #[must_use]
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Only jobs of this group, in whichever queue.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Only jobs with this request id.
    #[must_use]
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// Only jobs with this label, and with those that were named before.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Only jobs with such an error: see [`ListQuery::error`](Self#structfield.error).
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// Only jobs that were submitted this long ago, or longer.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only jobs that were submitted less than this long ago.
    #[must_use]
    pub fn newer_than(mut self, age: Duration) -> Self {
        self.newer_than = Some(age);
        self
    }

    /// Only what was submitted before this job.
    #[must_use]
    pub fn before(mut self, id: impl Into<Option<JobId>>) -> Self {
        self.before = id.into();
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Whether the record, as it is shown at `now`, is one of those that are meant; its place in the
    /// list aside. For backends.
    pub fn matches(&self, record: &Record, now: Timestamp) -> bool {
        let error = |wanted: &str| {
            let error = record.error.as_ref();
            error.is_some_and(|error| {
                error.kind.as_str() == wanted
                    || error.type_name.as_deref() == Some(wanted)
                    || error.message.contains(wanted)
            })
        };
        self.status.is_none_or(|status| record.status == status)
            && (record.dead || !self.dead)
            && self.id_prefix.as_ref().is_none_or(|prefix| record.id.as_str().starts_with(prefix))
            && self.queue.as_ref().is_none_or(|queue| record.spec.queue == *queue)
            && self.task.as_ref().is_none_or(|task| record.spec.task.as_ref() == Some(task))
            && self.group.as_ref().is_none_or(|group| record.spec.group.as_ref() == Some(group))
            && self.request_id.as_ref().is_none_or(|id| record.request_id() == id)
            && self.metadata.iter().all(|(key, value)| record.spec.metadata.get(key) == Some(value))
            && self.error.as_deref().is_none_or(error)
            && self.older_than.is_none_or(|age| record.submitted_at <= now.before(age))
            && self.newer_than.is_none_or(|age| record.submitted_at > now.before(age))
    }
}
