//! What a backend can do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[allow(unused_imports)] // for the documentation
use crate::backend::Backend;
use crate::{
    Error, Json, NewJob, Queues, Result,
    backend::{ClaimRequest, Heartbeat, Settlement, Unready},
    seconds,
    spec::{check_name, check_size},
};

/// What a backend can do. The conformance suite runs what is declared, and
/// counts what is not. Of one that was written down by another version, what that did not know is as in
/// [`Capabilities::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Capabilities {
    /// What becomes of groups.
    pub groups: Groups,
    /// A submit of several jobs is all or nothing.
    pub atomic_submit: bool,
    /// [`Backend::list`] works for every status.
    pub list: bool,
    /// A list by [`id_prefix`](crate::backend::ListQuery::id_prefix) costs no more than a look-up by
    /// the whole id.
    pub finds_by_prefix: bool,
    /// [`Backend::stats`], and lists and purges by status, cost little, however many
    /// records there are. Without it they read all of them, and
    /// [`Backend::whole_read`] says what that takes.
    pub cheap_looks: bool,
    /// Each record has its job's body from the submit on. Without, bodies that are not small
    /// are shown, and jobs redriven, once a consumer has seen them end without success.
    pub keeps_bodies: bool,
    /// How many jobs one [`Backend::submit`] takes.
    pub max_submit: usize,
    /// The largest body or result, in bytes.
    pub max_payload: usize,
    /// The longest lease.
    #[serde(with = "seconds")]
    pub max_lease: Duration,
    /// Jobs that were lost with their worker come back one at a time to each
    /// worker, so that the one that ends its worker ends no others; see
    /// [`Backend::claim`].
    pub suspects: bool,
    /// A claim that is made again under its id brings what it brought before; see
    /// [`ClaimRequest::again`].
    pub claims_again: bool,
    /// [`Backend::settle_and_claim`] costs one write, and no more time than a
    /// settle. A consumer fills its slots by it, then.
    pub joins_claims: bool,
    /// It keeps what is to be told to webhooks: there are [`Backend::deliveries`]. Without, a job with a webhook is
    /// refused.
    pub webhooks: bool,
    /// It keeps which workers are not ready: see [`Backend::set_unready`]. Without, a consumer does not tell.
    pub keeps_unready: bool,
    /// How many [`Backend::settle`] calls a consumer has under way at once. One
    /// makes the largest batches; with more, a call that takes long (a large
    /// result) does not hold up all others.
    pub settles_at_once: usize,
}

impl Capabilities {
    /// Everything, without limits; take away from here.
    pub const ALL: Self = Self {
        groups: Groups::Tracked,
        atomic_submit: true,
        list: true,
        finds_by_prefix: true,
        cheap_looks: true,
        keeps_bodies: true,
        max_submit: usize::MAX,
        max_payload: usize::MAX,
        max_lease: NewJob::MAX_DURATION,
        suspects: true,
        claims_again: true,
        joins_claims: true,
        webhooks: true,
        keeps_unready: true,
        settles_at_once: 1,
    };

    /// Checks what [`Backend::submit`] is given, before anything is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::TooLarge`].
    pub fn check_submit(&self, jobs: &[NewJob]) -> Result<()> {
        let (count, limit) = (jobs.len(), self.max_submit);
        if count > limit {
            return Err(Error::Invalid(format!(
                "one submit takes {limit} jobs at most, and was given {count}"
            )));
        }
        jobs.iter().try_for_each(|job| {
            job.validate()?;
            if job.spec.webhook.is_some() && !self.webhooks {
                return Err(Error::Invalid(
                    "webhook is not supported by this store; leave it out, and wait for the job or poll it"
                        .into(),
                ));
            }
            self.check_payload("body", &job.body)
        })
    }

    /// Checks the size of a `"body"` or `"result"`.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`].
    pub fn check_payload(&self, what: &'static str, payload: &Json) -> Result<()> {
        let (size, limit) = (payload.size(), self.max_payload);
        if size > limit {
            let hint = "keep it elsewhere, and pass a reference to it".into();
            return Err(Error::TooLarge { what, size, limit, hint });
        }
        Ok(())
    }

    /// Checks the lease that a claim or a heartbeat asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`].
    pub fn check_lease(&self, lease: Duration) -> Result<()> {
        if lease.is_zero() {
            return Err(Error::Invalid("the lease is 0; a claim would be lost at once".into()));
        }
        if lease > self.max_lease {
            let limit = humantime::format_duration(self.max_lease);
            return Err(Error::Invalid(format!("the lease is longer than {limit}")));
        }
        Ok(())
    }

    /// Checks what [`Backend::heartbeat`] is given.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::TooLarge`].
    pub fn check_heartbeats(&self, beats: &[Heartbeat]) -> Result<()> {
        beats.iter().try_for_each(|beat| {
            self.check_lease(beat.lease)?;
            beat.update.check()
        })
    }

    /// Checks what [`Backend::settle`] is given, but for the sizes of results: one that is too large
    /// is the end of its job.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::TooLarge`].
    pub fn check_settlements(&self, settlements: &[Settlement]) -> Result<()> {
        settlements.iter().try_for_each(|settlement| settlement.update.check())
    }

    /// Checks what [`Backend::claim`] is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`].
    pub fn check_claim(&self, request: &ClaimRequest) -> Result<()> {
        if request.max == 0 {
            return Err(Error::Invalid("a claim of 0 jobs; ask for 1 at least".into()));
        }
        check_name("worker", Some(&request.worker))?;
        request.queues.validate()?;
        self.check_lease(request.lease)
    }

    /// Checks what [`Backend::set_unready`] is given.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`].
    pub fn check_unready(&self, worker: &str, unready: Option<&Unready>) -> Result<()> {
        check_name("worker", Some(worker))?;
        let Some(Unready { queues, reason, .. }) = unready else { return Ok(()) };
        check_size("reason", reason, Unready::MAX_REASON_BYTES)?;
        Queues::InOrder(queues.clone()).validate()
    }
}

impl Default for Capabilities {
    /// Of a backend that does not say what it can do: nothing is relied on, and it refuses by itself what is too
    /// much for it.
    fn default() -> Self {
        Self {
            groups: Groups::Ignored,
            atomic_submit: false,
            list: false,
            finds_by_prefix: false,
            cheap_looks: false,
            keeps_bodies: false,
            suspects: false,
            claims_again: false,
            joins_claims: false,
            webhooks: false,
            keeps_unready: false,
            ..Self::ALL
        }
    }
}

/// What a backend makes of [`NewJob::group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Groups {
    /// Nothing: jobs of one group run side by side.
    Ignored,
    /// Jobs of one group run one at a time, in the order of their submits. Which
    /// jobs wait behind their group is not known: they show a due time and count
    /// as visible. A redriven job goes to the end of its group, and one that is
    /// cancelled while it heads its group and waits lets the next one go only
    /// once its own wait is over.
    Ordered,
    /// The same, and the backend sees each group as a whole: blocked jobs have
    /// no due time and are counted, a redriven job takes its old place, and a
    /// cancelled head lets the next one go at once.
    Tracked,
}
