//! What waits, runs and has failed, by queue.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haulage::{
    QueueName,
    backend::{Backlog, QueueStats, Stats},
};
use maud::{Markup, html};

use super::{
    View, layout, price,
    same::{Same, part},
};
use crate::server::{Api, keys::Identity, reply::Handled, request::Request};

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
    View { title: "Overview".to_owned(), content, is_live: is_cheap }.show(&api, &request)
}

/// With all that the records tell.
fn counted(api: &Api, who: &Identity, stats: &Stats) -> Markup {
    let row = |queue: &QueueName, of: &QueueStats| {
        let number = |count: u64, filter: &str| layout::count(count, queue, filter);
        let oldest = of.oldest_due_seconds.filter(|_| of.due > 0).unwrap_or(0.0);
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        html! {
            tr {
                th scope="row" { (queue) @if of.is_paused { " (paused)" } }
                td .number { (number(of.due, "status=SUBMITTED")) }
                td .number { (number(of.delayed, "status=SUBMITTED")) }
                td .number { (number(of.blocked, "status=SUBMITTED")) }
                td .number { (number(of.in_progress, "status=IN_PROGRESS")) }
                td .number { (number(of.success, "status=SUCCESS")) }
                td .number { (number(of.error, "status=ERROR")) }
                td .number { (number(of.cancelled, "status=CANCELLED")) }
                td .number {
                    @if of.dead == 0 { "0" } @else { a href={ "/dead?queue=" (part(queue.as_str())) } { (of.dead) } }
                }
                td { @if of.due > 0 { (layout::span(oldest)) } @else { "–" } }
                td { (pausing(api, queue, of.is_paused).show(who)) }
            }
        }
    };
    html! {
        (headline(stats.visible + stats.paused, stats.delayed + stats.blocked, stats.in_progress, stats.error))
        @if stats.queues.is_empty() {
            (empty())
        } @else {
            (layout::table("Queues", html! {
                thead { tr {
                    th scope="col" { "Queue" }
                    @for name in ["Due", "Delayed", "Behind group", "Running", "Succeeded", "Failed", "Cancelled", "Dead letters"] {
                        th .number scope="col" { (name) }
                    }
                    th scope="col" { "Oldest waits for" }
                    th scope="col" { "Change" }
                } }
                tbody { @for (queue, of) in &stats.queues { (row(queue, of)) } }
            }))
        }
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
                    th scope="col" { "Change" }
                } }
                tbody { @for (queue, of) in queues { tr {
                    th scope="row" { (queue) @if of.is_paused { " (paused)" } }
                    td .number { (of.visible) }
                    td .number { (of.delayed) }
                    td .number { (of.in_progress) }
                    td { (pausing(api, queue, of.is_paused).show(who)) }
                } } }
            }))
        }
    }
}

fn headline(due: u64, later: u64, running: u64, failed: u64) -> Markup {
    html! {
        p { strong { (due) } " due, " strong { (later) } " waiting for their time or group, " strong { (running) }
            " running, " strong { (failed) } " failed." }
    }
}

fn empty() -> Markup {
    html! { p { "There are no jobs yet. " code { "haulage submit '{}'" } " submits one." } }
}

fn pausing<'a>(api: &Api, queue: &QueueName, is_paused: bool) -> layout::Action<'a> {
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
