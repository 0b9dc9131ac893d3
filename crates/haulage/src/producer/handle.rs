//! One job, as its producer sees it.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Producer;
use crate::{
    Error, JobId, Progress, Record, Result, Status,
    backend::{Cancellation, Detail},
};

/// A job that was submitted: asks for its status, waits for its result.
///
/// It is no more than an id and a [`Producer`]: dropping it does nothing to the
/// job, and [`Producer::job`] makes it again.
#[derive(Clone, Debug)]
pub struct JobHandle {
    producer: Producer,
    id: JobId,
    duplicate: bool,
}

impl JobHandle {
    pub(super) fn new(producer: Producer, id: JobId, duplicate: bool) -> Self {
        Self { producer, id, duplicate }
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Whether the submit found an earlier job with the same idempotency key,
    /// and this is that job. `false` for a handle made by [`Producer::job`].
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// Where the job is in its life.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Expired`], [`Error::Unavailable`].
    pub async fn status(&self) -> Result<Status> {
        Ok(self.producer.get(&self.id, Detail::Status).await?.status)
    }

    /// What is known about the job, result included, body not.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Expired`], [`Error::Unavailable`].
    pub async fn record(&self) -> Result<Record> {
        self.producer.get(&self.id, Detail::Result).await
    }

    /// What the handler last said of its progress.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Expired`], [`Error::Unavailable`].
    pub async fn progress(&self) -> Result<Option<Progress>> {
        Ok(self.producer.get(&self.id, Detail::Status).await?.progress)
    }

    /// Waits until the job is over, in whichever way, for `timeout` at most
    /// (`None`: for as long as it takes).
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; [`Error::Unavailable`] instead if the backend could
    /// not be reached in all that time. [`Error::NotFound`], [`Error::Expired`].
    pub async fn wait(&self, timeout: Option<Duration>) -> Result<Record> {
        let mut records = self.producer.wait_all(std::slice::from_ref(&self.id), timeout).await?;
        records.pop().ok_or_else(|| Error::NotFound(self.id.clone()))
    }

    /// Waits for the result, for `timeout` at most (`None`: for as long as it
    /// takes).
    ///
    /// # Errors
    ///
    /// Like [`JobHandle::wait`], and [`Error::JobFailed`],
    /// [`Error::JobCancelled`], [`Error::InvalidJson`] where the result does not
    /// fit `T`.
    pub async fn result<T: DeserializeOwned>(&self, timeout: Option<Duration>) -> Result<T> {
        self.wait(timeout).await?.into_result()?.decode()
    }

    /// The result, if it is there; [`JobHandle::result`] waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinished`], [`Error::JobFailed`], [`Error::JobCancelled`];
    /// [`Error::InvalidJson`] where the result does not fit `T`;
    /// [`Error::NotFound`], [`Error::Expired`], [`Error::Unavailable`].
    pub async fn try_result<T: DeserializeOwned>(&self) -> Result<T> {
        self.record().await?.into_result()?.decode()
    }

    /// Cancels the job; see [`Producer::cancel`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn cancel(&self) -> Result<Cancellation> {
        self.producer.cancel(&self.id).await
    }

    /// Puts the job back to work after it failed or was cancelled; see
    /// [`Producer::redrive`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where it is in another status;
    /// [`Error::NotFound`], [`Error::Expired`], [`Error::Unavailable`].
    pub async fn redrive(&self) -> Result<()> {
        self.producer.redrive(&self.id).await
    }
}
