//! Calls that run on threads which are not this crate's.

use std::{fmt, mem};

use serde::Serialize;

use super::report::{CallContext, CallEnd, CallGuard, Delivery, Verdict, judge_all};
use crate::{Context, Failure, FailureKind, Job, JobError, Json};

/// A call of the handler for a dispatcher to carry out: one job, or a batch.
/// See [`ConsumerBuilder::dispatcher`](super::ConsumerBuilder::dispatcher).
///
/// It may go to any thread. Dropped unfinished, it gives its jobs back, and
/// the attempts do not count.
pub struct Call {
    tickets: Vec<u64>,
    jobs: Vec<(Job<Json>, Context)>,
    call_context: CallContext,
    guard: CallGuard,
}

impl Call {
    pub(super) fn new(deliveries: Vec<Delivery>, call_context: CallContext, guard: CallGuard) -> Self {
        let (tickets, jobs) = deliveries
            .into_iter()
            .map(|Delivery { ticket, body, context }| {
                let id = context.job_id().clone();
                (ticket, (Job { id, body }, context))
            })
            .unzip();
        Self { tickets, jobs, call_context, guard }
    }

    /// Takes the jobs out, so that their bodies need not stay in memory for as
    /// long as they run. Empty when called again.
    pub fn take_jobs(&mut self) -> Vec<(Job<Json>, Context)> {
        mem::take(&mut self.jobs)
    }

    /// Ends one job of the call before its end, in `ERROR`, as
    /// [`FailureKind::InvalidBody`]: its body does not fit the handler.
    ///
    /// `index` is its place among the jobs that the call still has; the answers
    /// of [`Call::finish`] are for the others. Nothing happens where there is none.
    pub fn refuse(&mut self, index: usize, message: impl Into<String>) {
        if index < self.tickets.len() {
            let error = JobError::new(FailureKind::InvalidBody, message);
            self.call_context.hand_in(vec![(self.tickets.remove(index), Verdict::Fail(error))]);
        }
    }

    /// Ends the call with an answer for each job, in the order of the jobs.
    ///
    /// An answer whose serialisation fails ends its job in `ERROR`, as
    /// [`FailureKind::InvalidResult`]. If the
    /// number of answers is wrong, every job has failed and is tried again.
    pub fn finish<R: Serialize + 'static>(self, answers: Vec<Result<R, Failure>>) {
        let verdicts = judge_all(self.tickets, answers, &self.call_context);
        self.guard.end(verdicts, CallEnd::Returned);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("jobs", &self.tickets.len()).finish_non_exhaustive()
    }
}
