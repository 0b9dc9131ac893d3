//! The side of the queue that submits, and waits for results.

mod handle;
mod pauses;
mod results;
mod unfinished;
mod waiter;
mod watch;

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use self::waiter::Hub;
pub use self::{handle::JobHandle, unfinished::Unfinished};
use crate::{
    Backend, Error, JobId, NewJob, Record, Result,
    backend::{Cancellation, Detail, Redrive, Submitted},
};

/// Submits jobs, and looks after them.
///
/// A clone is cheap and the same producer: all its waits share their polls.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use haulage::{NewJob, Producer, Status, memory::MemoryBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> haulage::Result<()> {
/// let producer = Producer::new(Arc::new(MemoryBackend::new()));
///
/// // Any serialisable value is a body; options come with a `NewJob`.
/// let job = producer.submit("a red bicycle").await?;
/// let other = producer.submit_job(NewJob::new("a blue one")?.max_attempts(5)).await?;
/// assert_eq!(job.status().await?, Status::Submitted);
///
/// // The id is all it takes to find a job again, in another process too.
/// let found = producer.job(job.id().clone());
/// assert_eq!(found.record().await?.attempt, 0);
/// found.cancel().await?;
/// assert!(job.wait(Some(Duration::from_secs(5))).await?.status == Status::Cancelled);
/// # other.cancel().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    backend: Arc<dyn Backend>,
    hub: Arc<Hub>,
}

impl Producer {
    /// The most jobs that go to the backend in one call.
    const CHUNK_JOBS: usize = 4000;
    /// The most bytes of bodies that do, unless one job alone has more: 4 MiB.
    const CHUNK_BYTES: usize = 4 * 1024 * 1024;

    /// A producer on this backend.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let hub = Arc::new(Hub::new(backend.clone()));
        Self { backend, hub }
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Submits a job with this body and the default options. Once this has
    /// returned `Ok`, the job is kept durably and reaches a terminal status.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidJson`] where the body has no JSON form,
    /// [`Error::TooLarge`], [`Error::Unavailable`].
    pub async fn submit<T: Serialize + ?Sized>(&self, body: &T) -> Result<JobHandle> {
        self.submit_job(NewJob::new(body)?).await
    }

    /// Submits a job with options.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where an option is out of its range,
    /// [`Error::TooLarge`], [`Error::Unavailable`].
    pub async fn submit_job(&self, job: NewJob) -> Result<JobHandle> {
        let mut answers = self.backend.submit(vec![job]).await?;
        answers.pop().unwrap_or_else(|| Err(self.unexpected_answer())).map(|submitted| self.handle(submitted))
    }

    /// Submits many jobs, in as few calls as the backend allows. The handles
    /// are in the order of the jobs.
    ///
    /// All jobs are checked before the first is submitted.
    ///
    /// # Errors
    ///
    /// [`SubmitManyError`], which tells which jobs were accepted all the same.
    pub async fn submit_many(&self, jobs: Vec<NewJob>) -> Result<Vec<JobHandle>, SubmitManyError> {
        let failed = |accepted: Vec<JobHandle>, error| SubmitManyError {
            index: accepted.len(),
            accepted,
            accepted_later: Vec::new(),
            error,
        };
        let capabilities = self.backend.capabilities();
        for (index, job) in jobs.iter().enumerate() {
            let checked = job.validate().and_then(|()| capabilities.check_payload("body", &job.body));
            if let Err(error) = checked {
                return Err(SubmitManyError {
                    accepted: Vec::new(),
                    index,
                    accepted_later: Vec::new(),
                    error,
                });
            }
        }
        let most = capabilities.max_submit.clamp(1, Self::CHUNK_JOBS);
        let mut accepted = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while let Some(job) = jobs.next_if(|job| {
                chunk.is_empty() || (chunk.len() < most && bytes + job.body.size() <= Self::CHUNK_BYTES)
            }) {
                bytes += job.body.size();
                chunk.push(job);
            }
            let size = chunk.len();
            let answers = match self.backend.submit(chunk).await {
                Ok(answers) if answers.len() == size => answers,
                Ok(_) => return Err(failed(accepted, self.unexpected_answer())),
                Err(error) => return Err(failed(accepted, error)),
            };
            let first = accepted.len();
            let mut failure: Option<SubmitManyError> = None;
            for (n, answer) in answers.into_iter().enumerate() {
                match (answer, &mut failure) {
                    (Ok(submitted), None) => accepted.push(self.handle(submitted)),
                    (Ok(submitted), Some(failure)) => {
                        failure.accepted_later.push((first + n, self.handle(submitted)));
                    }
                    (Err(error), None) => failure = Some(failed(std::mem::take(&mut accepted), error)),
                    (Err(_), Some(_)) => {}
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        Ok(accepted)
    }

    fn handle(&self, submitted: Submitted) -> JobHandle {
        JobHandle::new(self.clone(), submitted.id, submitted.duplicate)
    }

    fn unexpected_answer(&self) -> Error {
        let message = format!("the {} backend did not answer for each job", self.backend.name());
        Error::Unavailable { message, source: None }
    }

    /// The handle of a job that was submitted before, here or elsewhere. Asks
    /// nobody: an unknown id shows when the handle is used.
    pub fn job(&self, id: impl Into<JobId>) -> JobHandle {
        JobHandle::new(self.clone(), id.into(), false)
    }

    /// What is known about a job.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Expired`], [`Error::Unavailable`].
    pub async fn get(&self, id: &JobId, detail: Detail) -> Result<Record> {
        let lookup = self.backend.get(vec![id.clone()], detail).await?.pop();
        lookup.ok_or_else(|| self.unexpected_answer())?.into_record(id)
    }

    /// Waits until all these jobs are over. The records, results included, are
    /// in the order of the ids.
    ///
    /// # Errors
    ///
    /// At once, when the first of the jobs turns out not to be there:
    /// [`Error::NotFound`], [`Error::Expired`]. One that may be on its way
    /// ([`Lookup::Unrecorded`](crate::backend::Lookup::Unrecorded)) is waited for. [`Error::TimedOut`] when
    /// `timeout` has passed (`None`: never), [`Error::Unavailable`] instead if
    /// the backend could not be reached in all that time. The jobs go on.
    pub async fn wait_all(&self, ids: &[JobId], timeout: Option<Duration>) -> Result<Vec<Record>> {
        let mut records = vec![None; ids.len()];
        self.wait_each(ids, timeout, |index, record| records[index] = Some(record)).await?;
        records.into_iter().collect::<Option<_>>().ok_or_else(|| self.unexpected_answer())
    }

    /// Waits until all these jobs are over, and calls `done` for each as soon
    /// as it is: with its index in `ids`, and its record, result included. Few
    /// results are in memory at a time, unless `done` keeps them.
    ///
    /// # Errors
    ///
    /// Like [`Producer::wait_all`].
    pub async fn wait_each(
        &self,
        ids: &[JobId],
        timeout: Option<Duration>,
        done: impl FnMut(usize, Record) + Send,
    ) -> Result<()> {
        self.hub.wait(ids, timeout, done).await
    }

    /// Cancels a job. One that waits is cancelled by this; one that runs is
    /// asked to stop, and may still succeed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn cancel(&self, id: &JobId) -> Result<Cancellation> {
        match self.backend.cancel(vec![id.clone()]).await?.pop() {
            Some(Cancellation::Missing) => Err(Error::NotFound(id.clone())),
            Some(answer) => Ok(answer),
            None => Err(self.unexpected_answer()),
        }
    }

    /// Puts a job that failed or was cancelled back to work, with all its
    /// attempts.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where the job is in another status than `ERROR` or
    /// `CANCELLED`; [`Error::NotFound`], [`Error::Expired`],
    /// [`Error::Unavailable`].
    pub async fn redrive(&self, id: &JobId) -> Result<()> {
        if self.backend.redrive(Redrive::Jobs(vec![id.clone()])).await?.contains(id) {
            return Ok(());
        }
        let status = self.get(id, Detail::Status).await?.status;
        Err(Error::Invalid(format!(
            "job {id} is {status}; only a job in ERROR or CANCELLED can be put back to work"
        )))
    }
}

/// A [`Producer::submit_many`] that did not get all its jobs accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("job {index} was not accepted: {error}")]
#[non_exhaustive]
pub struct SubmitManyError {
    /// The jobs before `index`, in order: all of them were accepted.
    pub accepted: Vec<JobHandle>,
    /// The first job that was not, counted from 0.
    pub index: usize,
    /// Jobs behind `index` that were accepted all the same, each with its
    /// place. There are some only on a backend whose submit is not
    /// [atomic](crate::backend::Capabilities::atomic_submit).
    pub accepted_later: Vec<(usize, JobHandle)>,
    /// Why it was not.
    #[source]
    pub error: Error,
}
