//! What waits, runs and has failed, by queue.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haulage::{
    QueueName, Status,
    backend::{Backlog, QueueStats, Stats},
};
use maud::{Markup, html};

use super::{
    View, layout, price,
    same::{Same, part},
};
use crate::server::{Api, keys::Identity, reply::Handled, request::Request};

/// A job that has waited so long, while nothing of its queue runs, is worth a look. Where somebody serves the
/// queue, it looks so only for a moment.
const NOTICED: Duration = Duration::from_secs(10);

pub(super) async fn page(api: Arc<Api>, request: Request) -> Handled {
    let is_cheap = api.backend.capabilities().cheap_looks;
    let content = if is_cheap || request.query.flag("exact")? {
        counted(&api, &request.who, &api.stats(&request.who).await?)
    } else {
        let backlog = api.backlog(&request.who).await?;
        let says = format!(
            "These are the numbers that the queue itself counts; they may be a minute old. What has ended is counted \
             by reading the records. {}",
            price(&api).await?
        );
        html! {
            (estimated(&api, &request.who, &backlog))
            (layout::paid(&says, "/?exact=true", "Count the records"))
        }
    };
    View { title: "Overview".to_owned(), tools: None, content, is_live: is_cheap }.show(&api, &request)
}

/// With all that the records tell.
fn counted(api: &Api, who: &Identity, stats: &Stats) -> Markup {
    let row = |queue: &QueueName, of: &QueueStats| {
        let number = |name: &str, count: u64, status: Status| {
            let target = format!("/jobs?queue={}&status={status}", part(queue.as_str()));
            layout::number(name, count, &target)
        };
        let oldest = of.oldest_due_seconds.filter(|_| of.due > 0).unwrap_or(0.0);
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        let is_idle = of.in_progress == 0 && !of.is_paused && oldest >= NOTICED;
        html! {
            tr {
                (name(queue, of.is_paused, is_idle))
                (number("Due", of.due, Status::Submitted))
                (number("Delayed", of.delayed, Status::Submitted))
                (number("Behind group", of.blocked, Status::Submitted))
                (number("Running", of.in_progress, Status::InProgress))
                (number("Succeeded", of.success, Status::Success))
                (number("Failed", of.error, Status::Error))
                (number("Cancelled", of.cancelled, Status::Cancelled))
                (layout::number("Dead letters", of.dead, &format!("/dead?queue={}", part(queue.as_str()))))
                td .number .zero[of.due == 0] data-name="Oldest waits for" {
                    @if of.due > 0 { (layout::span(oldest)) } @else { "–" }
                }
                td .change { (pausing(api, queue, of.is_paused).show(who)) }
            }
        }
    };
    html! {
        (headline(stats))
        @if stats.queues.is_empty() {
            (empty())
        } @else {
            (layout::table("Queues", html! {
                thead { tr {
                    th scope="col" { "Queue" }
                    @for name in ["Due", "Delayed", "Behind group", "Running", "Succeeded", "Failed", "Cancelled", "Dead letters", "Oldest waits for"] {
                        th .number scope="col" { (name) }
                    }
                    th .change scope="col" { span .hidden { "Change" } }
                } }
                tbody { @for (queue, of) in &stats.queues { (row(queue, of)) } }
            }))
        }
        (api.history.show(who.confined_to()))
    }
}

/// With what the queues count by themselves.
fn estimated(api: &Api, who: &Identity, backlog: &Backlog) -> Markup {
    let queues: BTreeMap<_, _> = backlog.queues.iter().collect();
    html! {
        p { (backlog.dead) " dead letters are in all queues together." }
        @if queues.is_empty() {
            (empty())
        } @else {
            (layout::table("Queues", html! {
                thead { tr {
                    th scope="col" { "Queue" }
                    @for name in ["Due", "Delayed", "Running"] { th .number scope="col" { (name) } }
                    th .change scope="col" { span .hidden { "Change" } }
                } }
                tbody { @for (queue, of) in queues { tr {
                    (name(queue, of.is_paused, false))
                    @for (name, count) in [("Due", of.visible), ("Delayed", of.delayed), ("Running", of.in_progress)] {
                        td .number .zero[count == 0] data-name=(name) { (count) }
                    }
                    td .change { (pausing(api, queue, of.is_paused).show(who)) }
                } } }
            }))
        }
    }
}

fn name(queue: &QueueName, is_paused: bool, is_idle: bool) -> Markup {
    html! {
        th .head scope="row" {
            a href={ "/jobs?queue=" (part(queue.as_str())) } { (queue) }
            @if is_paused { " " span .badge { "paused" } }
            @if is_idle { " " span .badge .bad { "nothing runs" } }
        }
    }
}

fn headline(stats: &Stats) -> Markup {
    let due = stats.visible + stats.paused;
    html! {
        dl .numbers {
            @for (name, count, target) in [
                ("due", due, "/jobs?status=SUBMITTED"),
                ("waiting for their time or group", stats.delayed + stats.blocked, "/jobs?status=SUBMITTED"),
                ("running", stats.in_progress, "/jobs?status=IN_PROGRESS"),
                ("failed", stats.error, "/jobs?status=ERROR"),
                ("dead letters", stats.dead, "/dead"),
            ] {
                div { dt { (name) } dd .zero[count == 0] .bad[name == "dead letters"] { a href=(target) { (count) } } }
            }
        }
    }
}

fn empty() -> Markup {
    html! { p { "There are no jobs yet. " code { "haulage submit '{}'" } " submits one." } }
}

pub(super) fn pausing<'a>(api: &Api, queue: &QueueName, is_paused: bool) -> layout::Action<'a> {
    let (name, verb) = if is_paused { ("Resume", "resume") } else { ("Pause", "pause") };
    let says = match is_paused {
        true => format!("Workers take jobs from the queue {queue} again."),
        false => format!("Nothing more of the queue {queue} is started; what runs goes on."),
    };
    layout::Action {
        name,
        id: format!("{verb}-{}", part(queue.as_str())),
        says,
        path: format!("/queues/{}/{verb}", part(queue.as_str())),
        fields: Vec::new(),
        same: Same::set_paused(api, queue.as_str(), verb),
        is_final: false,
    }
}
