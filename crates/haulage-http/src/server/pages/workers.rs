//! The workers that hold jobs, and those that are not ready for any.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use haulage::{
    Status,
    backend::{ListQuery, holders},
};
use maud::html;

use super::{View, layout, price};
use crate::server::{Api, jobs::find, reply::Handled, request::Request};

/// How many jobs in progress are read.
const MOST_HELD: usize = 1000;

/// How long what was found of slots is shown: a health check reads much of the database.
const CHECKED_EVERY: Duration = Duration::from_secs(60);

/// How long a page waits for that.
const PATIENCE: Duration = Duration::from_secs(2);

/// The slots that give jobs back, as the last health check found them, and when it began.
#[derive(Debug, Default)]
pub(in crate::server) struct FailingSlots(Mutex<(Option<Instant>, Vec<String>)>);

impl FailingSlots {
    fn lock(&self) -> MutexGuard<'_, (Option<Instant>, Vec<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a check is to begin, which is noted.
    fn begins(&self) -> bool {
        let mut last = self.lock();
        let begins = last.0.is_none_or(|at| at.elapsed() >= CHECKED_EVERY);
        if begins {
            last.0 = Some(Instant::now());
        }
        begins
    }

    /// Where a check fails or takes long, what was known before.
    async fn of(api: &Arc<Api>) -> Vec<String> {
        if api.failing_slots.begins() {
            let of = Arc::clone(api);
            // Goes on where whoever asked does not wait for it.
            let check = tokio::spawn(async move {
                if let Ok(findings) = of.backend.check().await {
                    let found = findings.into_iter().filter(|finding| finding.check == "slots");
                    of.failing_slots.lock().1 = found.map(|finding| finding.message).collect();
                }
            });
            let _ = tokio::time::timeout(PATIENCE, check).await;
        }
        api.failing_slots.lock().1.clone()
    }
}

pub(super) async fn page(api: Arc<Api>, request: Request) -> Handled {
    let title = "Workers".to_owned();
    let is_cheap = api.backend.capabilities().cheap_looks;
    if !is_cheap && !request.query.flag("read")? {
        let says = format!("Which workers hold which jobs is in the records. {}", price(&api).await?);
        let content = layout::paid(&says, "/workers?read=true", "Read them");
        return View { title, tools: None, content, is_live: false }.show(&api, &request);
    }
    let query = ListQuery::new().status(Status::InProgress).limit(MOST_HELD);
    let held = find(&api, &request.who, query).await?;
    let workers = holders(&held, api.unready_workers(&request.who).await?);
    let now = api.backend.clock().now();
    // They may have had jobs of any queue; on AWS, no check knows of them.
    let failing_slots = match is_cheap && request.who.need_all_queues().is_ok() {
        true => FailingSlots::of(&api).await,
        false => Vec::new(),
    };
    let content = html! {
        @for slot in &failing_slots { p .said .bad { (slot) } }
        @if held.is_empty() { p { "No worker holds a job. Of one that is ready for jobs and has none, nothing is known here." } }
        @if held.len() == MOST_HELD { p .note { "These are the workers of the newest " (MOST_HELD) " running jobs." } }
        @for holder in &workers {
            section {
            h2 { @if holder.worker.is_empty() { "A worker without a name" } @else { (holder.worker) } }
            @if let Some(unready) = &holder.unready {
                p .said .bad { "Has not been ready since " (layout::time(Some(unready.since))) ": " (unready.reason) }
                p { "It serves " @if unready.queues.len() == 1 { "the queue " } @else { "the queues " }
                    @for (n, queue) in unready.queues.iter().enumerate() { @if n > 0 { ", " } (queue) } "." }
            }
            @if holder.jobs > 0 {
            p { "Holds " (holder.jobs) @if holder.jobs == 1 { " job" } @else { " jobs" } ", the oldest since "
                (layout::time(holder.oldest_started_at)) "." }
            (layout::table("Jobs that it holds", html! {
                thead { tr {
                    @for name in ["Job", "Queue", "Since", "Lease", "Slot", "Progress"] { th scope="col" { (name) } }
                } }
                tbody {
                    @for job in held.iter().filter(|job| job.worker.as_deref().unwrap_or_default() == holder.worker) { tr {
                        td .head { (layout::job(&job.id)) @if job.cancel_requested { " (to be cancelled)" } }
                        (layout::cell("Queue", html! { (job.spec.queue) }))
                        (layout::cell("Since", layout::time(job.started_at)))
                        // Heartbeats move it on all the time, which is nothing new.
                        (layout::cell("Lease", html! {
                            @if job.due_at.is_some_and(|end| end <= now) { strong { "ran out " (layout::time(job.due_at)) } } @else { "alive" }
                        }))
                        (layout::cell("Slot", html! { (job.slot.as_deref().unwrap_or("–")) }))
                        (layout::cell("Progress", html! { @match &job.progress {
                            Some(progress) => {
                                (format!("{:.0} %", progress.fraction * 100.0)) " " (progress.message.as_deref().unwrap_or_default())
                            }
                            None => { "–" }
                        } }))
                    } }
                }
            }))
            }
            }
        }
    };
    View { title, tools: None, content, is_live: is_cheap }.show(&api, &request)
}
