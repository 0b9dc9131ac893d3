//! The workers that hold jobs.

use std::sync::Arc;

use haulage::{
    Status,
    backend::{ListQuery, holders},
};
use maud::html;

use super::{View, find, layout, price};
use crate::server::{Api, reply::Handled, request::Request};

/// How many jobs in progress are read.
const MOST_HELD: usize = 1000;

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
    let now = api.backend.clock().now();
    let content = html! {
        @if held.is_empty() { p { "No worker holds a job. Of a worker without one nothing is known here." } }
        @if held.len() == MOST_HELD { p .note { "These are the workers of the newest " (MOST_HELD) " running jobs." } }
        @for holder in holders(&held) {
            section {
            h2 { @if holder.worker.is_empty() { "A worker without a name" } @else { (holder.worker) } }
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
    };
    View { title, tools: None, content, is_live: is_cheap }.show(&api, &request)
}
