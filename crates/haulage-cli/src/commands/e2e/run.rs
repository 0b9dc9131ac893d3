//! The way of the jobs: submit, watch, clean up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haulage::{
    Backend, Error, JobId, Json, Producer, Record, Status,
    backend::{Detail, Lookup, Purge},
    shutdown::Shutdown,
};

use super::{
    checks::{Check, Outcome},
    jobs::{Jobs, LABEL},
    report::Reports,
};
use crate::{
    exit::{Code, Exit, Result},
    output::{count, span},
};

/// How often the jobs are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long jobs that run may take to stop, before they are left.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A check whose job is not over yet.
#[derive(Debug)]
struct Watched {
    check: Check,
    id: JobId,
    seen: Vec<Status>,
    record: Option<Record>,
}

/// What has been submitted, and is to be deleted.
#[derive(Debug)]
pub(super) struct Run<'a> {
    producer: Producer,
    url: &'a str,
    limit: Duration,
    until: Instant,
    submitted: Vec<JobId>,
    open: Vec<Watched>,
}

impl<'a> Run<'a> {
    pub(super) fn new(backend: Arc<dyn Backend>, url: &'a str, limit: Duration) -> Self {
        let (producer, until) = (Producer::new(backend), Instant::now() + limit);
        Self { producer, url, limit, until, submitted: Vec::new(), open: Vec::new() }
    }

    /// Submits the jobs of all checks, until it is told to stop.
    pub(super) async fn submit_all(
        &mut self,
        jobs: &Jobs,
        skip: &[Check],
        reports: &mut Reports,
        shutdown: &Shutdown,
    ) -> Result {
        for check in Check::all().iter().copied() {
            if shutdown.is_stopping() {
                break;
            }
            if skip.contains(&check) {
                reports.add(check, None, Outcome::LeftOut(format!("--skip {}", check.name())))?;
                continue;
            }
            match self.begin(check, jobs).await {
                Ok(id) => self.open.push(Watched { check, id, seen: Vec::new(), record: None }),
                Err(outcome) => reports.add(check, None, outcome)?,
            }
        }
        Ok(())
    }

    /// Watches the jobs until all are over, or the time is.
    pub(super) async fn watch(&mut self, result: Option<&Json>, reports: &mut Reports) -> Result {
        let mut trouble = None;
        while !self.open.is_empty() && Instant::now() < self.until {
            match self.look(result, reports).await {
                Ok(told) => {
                    trouble = None;
                    told?;
                }
                // Whatever it is, it may pass, and there is time.
                Err(error) => trouble = Some(error),
            }
            if !self.open.is_empty() {
                tokio::time::sleep(LOOK.min(self.until.saturating_duration_since(Instant::now()))).await;
            }
        }
        for Watched { check, id, record, .. } in std::mem::take(&mut self.open) {
            let late = check.late(record.as_ref(), self.url, self.limit);
            let why =
                trouble.as_ref().map(|error| format!("; the last look failed: {error}")).unwrap_or_default();
            reports.add(check, Some(&id), Outcome::Failed(late + &why))?;
        }
        Ok(())
    }

    /// Submits the job of a check.
    async fn begin(&mut self, check: Check, jobs: &Jobs) -> Result<JobId, Outcome> {
        let mut job = jobs.job(check).map_err(Outcome::LeftOut)?;
        let capabilities = self.producer.backend().capabilities();
        if check == Check::Large && capabilities.check_payload("body", &job.body).is_err() {
            return Err(Outcome::LeftOut(format!(
                "{} takes bodies of {} bytes at most; on AWS, add bucket=NAME to the URL",
                self.url, capabilities.max_payload
            )));
        }
        let failed = |error: Error| Outcome::Failed(format!("not accepted: {error}"));
        if check == Check::Duplicate {
            // That of a run beside this one is another.
            job.idempotency_key = Some(format!("{LABEL}-{:016x}", fastrand::u64(..)));
            job.idempotency_window = self.limit.max(Duration::from_secs(60));
        }
        let again = job.clone();
        let id = self.submit(job).await.map_err(failed)?.0;
        match check {
            Check::Duplicate => {
                let mut other = again.clone();
                let (second, is_duplicate) = self.submit(again).await.map_err(failed)?;
                if second != id || !is_duplicate {
                    return Err(Outcome::Failed(format!("the same key gave two jobs, {id} and {second}")));
                }
                other.body = Json::from_stored(format!("{{\"{LABEL}\":{}}}", other.body));
                match self.submit(other).await {
                    Err(Error::IdempotencyConflict { .. }) => {}
                    Err(error) => return Err(failed(error)),
                    Ok(_) => {
                        return Err(Outcome::Failed("the same key with another body was accepted".into()));
                    }
                }
            }
            Check::Cancelled => drop(
                self.producer
                    .cancel(&id)
                    .await
                    .map_err(|error| Outcome::Failed(format!("job {id} could not be cancelled: {error}")))?,
            ),
            _ => {}
        }
        Ok(id)
    }

    async fn submit(&mut self, job: haulage::NewJob) -> Result<(JobId, bool), Error> {
        let handle = self.producer.submit_job(job).await?;
        if !self.submitted.contains(handle.id()) {
            self.submitted.push(handle.id().clone());
        }
        Ok((handle.id().clone(), handle.is_duplicate()))
    }

    /// Looks at what is open once, and tells of what is over.
    async fn look(&mut self, result: Option<&Json>, reports: &mut Reports) -> Result<Result, Error> {
        let ids = self.open.iter().map(|watched| watched.id.clone()).collect();
        let found = self.producer.backend().peek(ids, Detail::Result).await?;
        let mut still = Vec::new();
        let mut told = Ok(());
        for (mut watched, lookup) in std::mem::take(&mut self.open).into_iter().zip(found) {
            let outcome = match lookup {
                Lookup::Found(record) => {
                    if watched.seen.last() != Some(&record.status) {
                        watched.seen.push(record.status);
                    }
                    if watched.check == Check::Stopped
                        && record.status == Status::InProgress
                        && !record.cancel_requested
                    {
                        // Where it fails, the next look tries again.
                        let _ = self.producer.cancel(&watched.id).await;
                    }
                    let judge = || watched.check.judge(&record, &watched.seen, result);
                    let outcome = record.status.is_terminal().then(judge);
                    watched.record = Some(record);
                    outcome
                }
                // A message on AWS may be there before its record can be read.
                Lookup::Missing | Lookup::Unrecorded { .. } if watched.seen.is_empty() => None,
                Lookup::Missing | Lookup::Unrecorded { .. } | Lookup::Expired => {
                    Some(Outcome::Failed("its record is gone".into()))
                }
                Lookup::Incomplete { message, for_good } => for_good.then_some(Outcome::Failed(message)),
            };
            match outcome {
                Some(outcome) if told.is_ok() => {
                    told = reports.add(watched.check, Some(&watched.id), outcome);
                }
                Some(_) => {}
                None => still.push(watched),
            }
        }
        self.open = still;
        Ok(told)
    }

    /// Deletes all that was submitted: what waits at once, what runs once it has
    /// been stopped.
    pub(super) async fn clean_up(&self) -> Result {
        let mut left = self.submitted.clone();
        let until = Instant::now() + STOP_LIMIT;
        let trouble = loop {
            let trouble = match self.delete(&left).await {
                Ok(still) if still.is_empty() => return Ok(()),
                Ok(still) => {
                    left = still;
                    format!("still there after {}, as their handlers do not stop", span(STOP_LIMIT))
                }
                Err(error) => format!("not deleted: {error}"),
            };
            if Instant::now() >= until {
                break trouble;
            }
            tokio::time::sleep(LOOK).await;
        };
        let ids = left.iter().map(JobId::as_str).collect::<Vec<_>>().join(" ");
        let jobs = count(left.len() as u64, "job");
        Err(Exit::new(
            Code::Failure,
            format!("{jobs} of this test {trouble}; delete them later by `haulage purge {ids}`"),
        ))
    }

    /// Deletes these jobs, and gives those that still run.
    async fn delete(&self, ids: &[JobId]) -> Result<Vec<JobId>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.producer.backend();
        backend.cancel(ids.to_vec()).await?;
        backend.purge(Purge::Jobs(ids.to_vec())).await?;
        let found = backend.get(ids.to_vec(), Detail::Status).await?;
        let there = |lookup: &Lookup| matches!(lookup, Lookup::Found(_) | Lookup::Incomplete { .. });
        Ok(ids.iter().zip(found).filter(|(_, lookup)| there(lookup)).map(|(id, _)| id.clone()).collect())
    }
}
