//! The producer's side.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use haulage::{
    Backend, Clock, JobId, Producer, Status, Timestamp,
    backend::{Cancellation, Detail, ListQuery, Purge, Redrive},
    memory::MemoryBackend,
    sqlite::SqliteBackend,
    url::Scheme,
};
use haulage_http::HttpBackend;
use pyo3::{exceptions::PyTypeError, prelude::*, types::PyDict};

use crate::{
    convert, errors,
    job::NewJob,
    operation::{AsJson, Failed, Operation},
    process::{Here, PerProcess},
    record::Record,
};

/// A connection to where the jobs are.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Client {
    producer: Here<Producer>,
    /// The same, where it is an embedded database.
    database: Option<Here<SqliteBackend>>,
    /// The clock, where it stands still until it is moved.
    clock: Option<Clock>,
}

/// An access key of AWS, its secret, and a session's token.
pub(crate) type Credentials = (String, String, Option<String>);

/// Opens the backend that a URL names. The credentials are for AWS alone, the second
/// for the table alone; without them, they come as its SDK finds them.
#[pyfunction]
#[pyo3(signature = (url, credentials=None, table_credentials=None))]
pub(crate) fn connect(
    url: String,
    credentials: Option<Credentials>,
    table_credentials: Option<Credentials>,
) -> PyResult<Operation> {
    let scheme = haulage::url::split(&url).map(|(scheme, _)| scheme);
    if matches!(scheme, Ok(Scheme::Sqlite)) && haulage::sqlite::was_forked_while_open() {
        return Err(errors::forked_while_open());
    }
    Operation::start(async move {
        let (backend, database) = open(&url, credentials, table_credentials).await?;
        let client = Client::new(Producer::new(backend), None);
        Ok(Client { database: database.map(Here::new), ..client })
    })
}

/// A memory backend whose clock stands still until [`Client::advance`].
#[pyfunction]
pub(crate) fn connect_manual() -> PyResult<Operation> {
    let clock = Clock::manual(Timestamp::from(std::time::SystemTime::now()));
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    Operation::start(async move { Ok(Client::new(Producer::new(backend), Some(clock))) })
}

/// How many jobs are cancelled in one call.
const CANCELLED_TOGETHER: usize = 1_000;

type Opened = (Arc<dyn Backend>, Option<SqliteBackend>);

async fn open(
    url: &str,
    credentials: Option<Credentials>,
    table_credentials: Option<Credentials>,
) -> haulage::Result<Opened> {
    let (backend, database): Opened = match haulage::url::split(url)?.0 {
        Scheme::Sqs => (aws(url, credentials, table_credentials).await?, None),
        Scheme::Sqlite => {
            let database = SqliteBackend::connect(url).await?;
            (Arc::new(database.clone()), Some(database))
        }
        Scheme::Http => (Arc::new(HttpBackend::connect(url).await?), None),
        Scheme::Memory => (haulage::connect(url).await?, None),
    };
    opened().retain(|other| other.strong_count() > 0);
    opened().push(Arc::downgrade(&backend));
    Ok((backend, database))
}

/// What is open, to be closed when the interpreter ends.
fn opened() -> MutexGuard<'static, Vec<Weak<dyn Backend>>> {
    static OPENED: PerProcess<Mutex<Vec<Weak<dyn Backend>>>> = PerProcess::new();
    OPENED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes all backends that are still open.
pub(crate) async fn close_all() {
    let all: Vec<_> = opened().drain(..).filter_map(|backend| backend.upgrade()).collect();
    for backend in all {
        // What cannot be tidied up now is, when somebody opens it next.
        if let Err(error) = backend.close().await {
            tracing::debug!(%error, "not closed");
        }
    }
}

#[cfg(feature = "aws")]
async fn aws(
    url: &str,
    credentials: Option<Credentials>,
    table_credentials: Option<Credentials>,
) -> haulage::Result<Arc<dyn Backend>> {
    let mut builder = aws_config(haulage_aws::Config::from_url(url)?, credentials);
    if let Some((key, secret, token)) = table_credentials {
        builder = builder.table_credentials(key, secret, token);
    }
    Ok(Arc::new(builder.open().await?))
}

/// With these credentials, or those that the SDK finds.
#[cfg(feature = "aws")]
pub(crate) fn aws_config(
    config: haulage_aws::Config,
    credentials: Option<Credentials>,
) -> haulage_aws::Builder {
    let builder = haulage_aws::AwsBackend::with_config(config);
    match credentials {
        Some((key, secret, token)) => builder.credentials(key, secret, token),
        None => builder,
    }
}

#[cfg(not(feature = "aws"))]
async fn aws(
    _url: &str,
    _credentials: Option<Credentials>,
    _table_credentials: Option<Credentials>,
) -> haulage::Result<Arc<dyn Backend>> {
    let message = "this build of haulage has no AWS; build the package with the feature `aws`";
    Err(haulage::Error::Config(message.into()))
}

impl Client {
    pub(crate) fn new(producer: Producer, clock: Option<Clock>) -> Self {
        Self { producer: Here::new(producer), database: None, clock }
    }

    pub(crate) fn producer(&self) -> PyResult<&Producer> {
        self.producer.get()
    }
}

fn status(name: &str) -> PyResult<haulage::Status> {
    name.parse().map_err(|e: haulage::Error| errors::invalid(e.to_string()))
}

#[pymethods]
impl Client {
    /// The kind of backend.
    #[getter]
    fn backend(&self) -> PyResult<&'static str> {
        Ok(self.producer()?.backend().name())
    }

    /// Submits jobs; brings a list of ids, each with whether an earlier job
    /// with the same idempotency key was found instead.
    fn submit(&self, jobs: Vec<Bound<'_, NewJob>>) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let jobs: Vec<_> = jobs.iter().map(|job| job.get().0.clone()).collect();
        let count = jobs.len();
        Operation::start(async move {
            let handles = match producer.submit_many(jobs).await {
                Ok(handles) => handles,
                Err(error) => return Err(Failed::SubmitMany(Box::new(error), count)),
            };
            let answers = handles.iter().map(|job| (job.id().to_string(), job.is_duplicate()));
            Ok(answers.collect::<Vec<_>>())
        })
    }

    /// Looks jobs up; brings their records: `"status"` without body and result, with the
    /// `"result"`, or `"full"`.
    fn get(&self, ids: Vec<String>, detail: &str) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let ids: Vec<JobId> = ids.into_iter().map(JobId::from).collect();
        let detail = match detail {
            "status" => Detail::Status,
            "result" => Detail::Result,
            _ => Detail::Full,
        };
        Operation::start(async move {
            let found = producer.backend().get(ids.clone(), detail).await?;
            let records: haulage::Result<Vec<_>> =
                found.into_iter().zip(&ids).map(|(lookup, id)| lookup.into_record(id).map(Record)).collect();
            Ok(records?)
        })
    }

    /// Waits for jobs to end; their records come as they do.
    #[pyo3(signature = (ids, timeout=None))]
    fn wait(&self, ids: Vec<String>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let ids: Vec<JobId> = ids.into_iter().map(JobId::from).collect();
        let timeout = convert::optional_duration("timeout", timeout)?;
        Operation::start_with(|shared| async move {
            Ok(producer.wait_each(&ids, timeout, |index, record| shared.item(index, record)).await?)
        })
    }

    /// Cancels a job.
    fn cancel(&self, id: String) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let id = JobId::from(id);
        Operation::start(
            async move { Ok(name(producer.cancel(&id).await?).ok_or(haulage::Error::NotFound(id))?) },
        )
    }

    /// Cancels all jobs that match; pairs of an id and what came of it.
    #[pyo3(signature = (status_name, **which))]
    fn cancel_many(
        &self,
        status_name: Option<&str>,
        which: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let query = filter(status_name, which)?;
        if query == ListQuery::new() {
            return Err(errors::invalid(
                "nothing says which jobs are to be cancelled; give what they have in common, such as \
                 group=, metadata= or status=\"submitted\"",
            ));
        }
        if query.status.is_some_and(Status::is_terminal) {
            return Err(errors::invalid(
                "jobs that are over cannot be cancelled; status is submitted or in_progress",
            ));
        }
        Operation::start(async move {
            let found = producer.unfinished(query).await?;
            let mut answers = Vec::with_capacity(found.ids.len());
            for ids in found.ids.chunks(CANCELLED_TOGETHER) {
                let came = producer.backend().cancel(ids.to_vec()).await?;
                // One that is missing was over, and purged since.
                let told = ids.iter().zip(came).filter_map(|(id, came)| Some((id.to_string(), name(came)?)));
                answers.extend(told);
            }
            Ok(answers)
        })
    }

    /// Puts a job that failed or was cancelled back to work.
    fn redrive(&self, id: String) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        Operation::start(async move { Ok(producer.redrive(&JobId::from(id)).await?) })
    }

    /// Puts up to so many dead letters back to work, oldest first.
    #[pyo3(signature = (limit, *, queue=None))]
    fn redrive_dead(
        &self,
        limit: &Bound<'_, PyAny>,
        queue: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let (limit, queue) = (convert::count("limit", limit)?, convert::optional_queue(queue)?);
        let what = Redrive::Dead { limit, queue, after: None };
        Operation::start(async move {
            let ids = producer.backend().redrive(what).await?;
            Ok(ids.iter().map(JobId::to_string).collect::<Vec<_>>())
        })
    }

    /// Records, newest first.
    #[pyo3(signature = (status_name, *, dead, limit, **which))]
    fn list(
        &self,
        status_name: Option<&str>,
        dead: bool,
        limit: &Bound<'_, PyAny>,
        which: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let query = filter(status_name, which)?.dead(dead).limit(convert::count("limit", limit)?);
        Operation::start(async move {
            let records = producer.backend().list(query).await?;
            Ok(records.into_iter().map(Record).collect::<Vec<_>>())
        })
    }

    /// Deletes records that have had a status for so long.
    #[pyo3(signature = (status_name, older_than, *, queue=None))]
    fn purge(
        &self,
        status_name: &str,
        older_than: &Bound<'_, PyAny>,
        queue: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let older_than = convert::duration("older_than", older_than)?;
        let queue = convert::optional_queue(queue)?;
        let query = Purge::Status { status: status(status_name)?, older_than, queue };
        Operation::start(async move { Ok(producer.backend().purge(query).await?) })
    }

    /// Pauses a queue, or lets it go on; whether that changed anything.
    fn set_paused(&self, queue: &Bound<'_, PyAny>, paused: bool) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        let queue = convert::optional_queue(Some(queue))?.unwrap_or_default();
        Operation::start(async move { Ok(producer.backend().set_paused(queue, paused).await?) })
    }

    /// All queues in numbers.
    fn stats(&self) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        Operation::start(async move { Ok(AsJson(producer.backend().stats().await?)) })
    }

    /// Whether queue and records answer.
    fn ping(&self) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        Operation::start(async move { Ok(producer.backend().ping().await?) })
    }

    /// Checks the backend's health.
    fn check(&self) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        Operation::start(async move { Ok(AsJson(producer.backend().check().await?)) })
    }

    /// What a query finds in an embedded database: its columns, and its rows.
    fn sql(&self, query: String) -> PyResult<Operation> {
        self.producer()?;
        let Some(database) = &self.database else {
            return Err(errors::invalid("only an embedded database, sqlite://…, can be asked by SQL"));
        };
        let database = database.get()?.clone();
        Operation::start(async move {
            let table = database.query(query).await?;
            Ok(AsJson((table.columns, table.rows)))
        })
    }

    /// Lets go of what is open; calls that come later fail.
    fn close(&self) -> PyResult<Operation> {
        let producer = self.producer()?.clone();
        Operation::start(async move { Ok(producer.backend().close().await?) })
    }

    /// Moves the clock of a client of [`connect_manual`].
    fn advance(&self, seconds: f64) -> PyResult<()> {
        match &self.clock {
            Some(clock) if seconds >= 0.0 && seconds.is_finite() => {
                clock.advance(Duration::from_secs_f64(seconds));
                Ok(())
            }
            Some(_) => Err(errors::invalid("time moves forwards only")),
            None => Err(errors::invalid("this client's clock is the machine's; nobody moves it")),
        }
    }

    /// The time by the client's clock, in microseconds since the epoch.
    fn now(&self) -> PyResult<i64> {
        Ok(self.producer()?.backend().clock().now().as_micros())
    }
}

/// What came of a cancel; nothing where there is no such job.
const fn name(cancellation: Cancellation) -> Option<&'static str> {
    match cancellation {
        Cancellation::Done => Some("done"),
        Cancellation::Requested => Some("requested"),
        Cancellation::TooLate(_) => Some("too_late"),
        Cancellation::Missing => None,
    }
}

/// Which records, by the keywords of `client.records`.
fn filter(status_name: Option<&str>, which: Option<&Bound<'_, PyDict>>) -> PyResult<ListQuery> {
    let mut query = ListQuery::new().status(status_name.map(status).transpose()?);
    for (key, value) in which.into_iter().flatten() {
        let (key, value) = (key.extract::<String>()?, (!value.is_none()).then_some(&value));
        match key.as_str() {
            "queue" => query.queue = convert::optional_queue(value)?,
            "task" => query.task = convert::optional_text(&key, value)?,
            "group" => query.group = convert::optional_text(&key, value)?,
            "request_id" => query.request_id = convert::optional_text(&key, value)?,
            "metadata" => query.metadata = convert::labels(value)?,
            "error" => query.error = convert::optional_text(&key, value)?,
            "older_than" => query.older_than = convert::optional_duration(&key, value)?,
            "newer_than" => query.newer_than = convert::optional_duration(&key, value)?,
            "before" => query.before = convert::optional_text(&key, value)?.map(JobId::from),
            _ => return Err(PyTypeError::new_err(format!("records have no {key} to look for"))),
        }
    }
    Ok(query)
}
