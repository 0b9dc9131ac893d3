//! One call of the handler, on the caller's runtime.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{AbortHandle, Abortable, BoxFuture},
};
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender};
use tracing::{Instrument, Span, error, info_span};

use super::{
    dispatch::Call,
    function::Function,
    report::{CallContext, CallGuard, CallReport, Delivery},
};
use crate::handler::Predicate;

/// Starts calls.
pub(super) struct Caller {
    runtime: Handle,
    function: Function,
    non_retryable: Arc<[Predicate]>,
    reports: UnboundedSender<CallReport>,
    /// The span in which the consumer runs.
    parent: Span,
    /// Async calls that are ready to start.
    prepared: Vec<BoxFuture<'static, ()>>,
}

impl Caller {
    pub(super) fn new(
        runtime: Handle,
        function: Function,
        non_retryable: Arc<[Predicate]>,
        reports: UnboundedSender<CallReport>,
        parent: Span,
    ) -> Self {
        Self { runtime, function, non_retryable, reports, parent, prepared: Vec::new() }
    }

    /// Makes a call ready for [`Caller::launch`]; a blocking or dispatched one
    /// starts at once. What ends an async one early is the answer; the others
    /// have nothing that does.
    pub(super) fn prepare(&mut self, call: u64, deliveries: Vec<Delivery>) -> Option<AbortHandle> {
        let (non_retryable, reports) = (self.non_retryable.clone(), self.reports.clone());
        let guard = CallGuard::new(call, reports.clone());
        let call_context = CallContext { call, non_retryable, reports };
        match &self.function {
            Function::Async(f) => {
                let (f, span) = (f.clone(), self.span(&deliveries));
                let (abort, registration) = AbortHandle::new_pair();
                let task = async move {
                    let future = AssertUnwindSafe(async move { f(deliveries, call_context).await });
                    guard.tell(future.catch_unwind().await);
                };
                let task = Abortable::new(task.instrument(span), registration);
                self.prepared.push(Box::pin(async move {
                    // Aborted or not: `guard` has told.
                    let _ = task.await;
                }));
                Some(abort)
            }
            Function::Blocking(f) => {
                let (f, span) = (f.clone(), self.span(&deliveries));
                self.runtime.spawn_blocking(move || {
                    let _entered = span.enter();
                    guard.tell(catch_unwind(AssertUnwindSafe(|| f(deliveries, call_context))));
                });
                None
            }
            Function::Dispatched(f) => {
                let call = Call::new(deliveries, call_context, guard);
                // A panic has dropped the call, and so given its jobs back.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(call))) {
                    error!(panic = crate::panic::message(&*panic), "the dispatcher panicked");
                }
                None
            }
        }
    }

    /// Starts the calls that are prepared, each as a task of its own. Only the
    /// first is sent across threads, and starts the others from within the
    /// caller's runtime: to wake another thread for every job costs more than
    /// a short job itself.
    pub(super) fn launch(&mut self) {
        let mut calls = std::mem::take(&mut self.prepared).into_iter();
        let Some(first) = calls.next() else { return };
        self.runtime.spawn(async move {
            for call in calls {
                tokio::spawn(call);
            }
            first.await;
        });
    }

    fn span(&self, deliveries: &[Delivery]) -> Span {
        match deliveries {
            [one] => {
                let context = &one.context;
                let (job_id, request_id) = (context.job_id().as_str(), context.request_id());
                info_span!(
                    parent: &self.parent,
                    "job",
                    job_id,
                    // Where the caller gave none, it is the job's id.
                    request_id = (request_id != job_id).then_some(request_id),
                    attempt = context.attempt(),
                )
            }
            many => {
                let jobs: Vec<_> = many
                    .iter()
                    .map(|one| (one.context.job_id(), one.context.request_id(), one.context.attempt()))
                    .collect();
                info_span!(parent: &self.parent, "batch", ?jobs)
            }
        }
    }
}
