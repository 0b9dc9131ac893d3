//! A job: where it is in its life, and why it waits.

use std::{sync::Arc, time::Duration};

use haulage::{
    Json, Record, Status, Timestamp,
    backend::{Detail, Lookup},
};
use maud::{Markup, html};

use super::{
    View, is_unchanged, layout,
    overview::pausing,
    same::{Same, part},
    unchanged,
};
use crate::{
    Problem,
    server::{
        Api,
        backend::visible,
        jobs::record,
        keys::Identity,
        reply::Handled,
        request::Request,
        tag::{fingerprint, mark_with_checkpoint},
        waiting::{Waiting, around, waiting},
    },
};

/// How much of a body, a result or a checkpoint is shown, in bytes.
const MOST_SHOWN: usize = 64 << 10;

pub(super) async fn page(api: Arc<Api>, request: Request) -> Handled {
    let found = record(&api, &request, Detail::Status).await?;
    let is_cheap = api.backend.capabilities().cheap_looks;
    let is_full = is_cheap || request.query.flag("full")?;
    let around = around(&api, &request.who, &found).await?;
    let waiting = waiting(&found, &around, api.backend.clock().now());
    let why = waiting.as_ref().map(ToString::to_string);
    let why_text = why.as_deref().unwrap_or_default();
    // The tag is known before the body is read, which may be large, but for a job that runs: its checkpoint may be
    // a new one.
    let read = match is_full && found.status == Status::InProgress {
        true => Some(whole(&api, &request.who, &found).await?),
        false => None,
    };
    let mark = mark_with_checkpoint(read.as_ref().map_or(&found, |(whole, _)| whole));
    let tag = fingerprint(format!("{mark} {} {is_full} {why_text}", lease(&api, &found)).as_bytes());
    if is_unchanged(&request, &tag) {
        return Ok(unchanged());
    }
    let (whole, missing) = match read {
        Some(read) => read,
        None if is_full => whole(&api, &request.who, &found).await?,
        None => (found, None),
    };
    let content = html! {
        @if let Some(waiting) = &waiting { (because(&api, &request.who, waiting)) }
        (facts(&api, &whole))
        (actions(&api, &request.who, &whole))
        @if let Some(error) = &whole.error {
            h2 { "Error " code { (error.kind.as_str()) } @if let Some(name) = &error.type_name { " " code { (name) } } }
            pre tabindex="0" { (error.message) }
        }
        @if let Some(missing) = missing { p .said .bad { (missing) } }
        @if is_full {
            (attempts(&whole))
            (document("Checkpoint", whole.checkpoint.as_ref()))
            (document("Body", whole.body.as_ref()))
            (document("Result", whole.result.as_ref()))
        } @else {
            (layout::paid(
                "Attempts, body, checkpoint and result are read when you ask for them: one read of the record, which is \
                 paid for by its size, and one of the bucket for each that is kept there.",
                &format!("/jobs/{}?full=true", part(whole.id.as_str())),
                "Read them",
            ))
        }
        h2 { "In a shell" }
        (layout::same(&Same::show(&api, &whole.id)))
    };
    View { title: format!("Job {}", whole.id), tools: None, content, is_live: is_cheap }
        .show_as(&api, &request, &tag)
}

/// The record with all that belongs to it, or without, and why.
async fn whole(api: &Api, who: &Identity, known: &Record) -> Result<(Record, Option<String>), Problem> {
    let found = api.backend.get(vec![known.id.clone()], Detail::Full).await?.pop();
    match visible(who, found.unwrap_or(Lookup::Missing)) {
        Lookup::Incomplete { message, .. } => Ok((known.clone(), Some(message))),
        found => Ok((found.into_record(&known.id)?, None)),
    }
}

/// What there is to say of the lease of a job: that it has run out. Its end moves all the time.
fn lease(api: &Api, record: &Record) -> &'static str {
    let has_ended = |end: Timestamp| end <= api.backend.clock().now();
    match (record.status, record.due_at) {
        (Status::InProgress, Some(end)) if has_ended(end) => "has run out: its worker has been silent",
        (Status::InProgress, _) => "is alive",
        _ => "",
    }
}

/// Why a job waits, with the way to what it waits for.
fn because(api: &Api, who: &Identity, waiting: &Waiting) -> Markup {
    let text = waiting.to_string();
    let earlier = match waiting {
        Waiting::Group { earlier: Some((id, _)), .. } => {
            text.split_once(id.as_str()).map(|around| (id, around))
        }
        _ => None,
    };
    html! {
        div .why {
            p {
                strong { "Why it waits: " }
                @match earlier {
                    Some((id, (before, after))) => { (before) (layout::job(id)) (after) }
                    None => { (text) }
                }
            }
            @if let Waiting::Paused { queue, .. } = waiting { (pausing(api, queue, true).show(who)) }
        }
    }
}

fn facts(api: &Api, record: &Record) -> Markup {
    let spec = &record.spec;
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let text = |name: &str, value: Option<&str>| html! { @if let Some(value) = value { (fact(name, html! { (value) })) } };
    // With the way to the others.
    let like = |name: &str, filter: &str, value: &str| {
        let target = format!("/jobs?{filter}={}", part(value));
        fact(name, html! { a href=(target) { (value) } })
    };
    let time =
        |name: &str, at: Option<Timestamp>| html! { @if at.is_some() { (fact(name, layout::time(at))) } };
    let limit = |limit: Option<Duration>| limit.map(|limit| humantime::format_duration(limit).to_string());
    html! {
        dl .facts {
            (fact("Status", html! {
                (layout::status(record.status))
                @if record.dead { ", a dead letter" }
                @if record.cancel_requested { ", to be cancelled" }
            }))
            @if let Some(progress) = &record.progress {
                (fact("Progress", html! {
                    progress max="1" value=(progress.fraction) aria-label="Progress" {}
                    " " (format!("{:.0} %", progress.fraction * 100.0)) " " (progress.message.as_deref().unwrap_or_default())
                }))
            }
            (fact("Attempts", html! {
                (record.counted()) " of " (spec.max_attempts)
                @if record.uncounted > 0 { ", and " (record.uncounted) " that do not count" }
            }))
            (like("Queue", "queue", spec.queue.as_str()))
            @if let Some(task) = &spec.task { (like("Task", "task", task)) }
            @if let Some(group) = &spec.group { (like("Group", "group", group)) }
            @if record.request_id() != record.id.as_str() { (like("Request id", "request_id", record.request_id())) }
            @for (name, value) in &spec.metadata {
                (fact(&format!("Label {name}"), html! { a href={ "/jobs?label=" (part(&format!("{name}={value}"))) } { (value) } }))
            }
            (time("Submitted", Some(record.submitted_at)))
            @if record.status == Status::Submitted { (time("Due", record.due_at)) }
            (time("Started", record.started_at))
            (time("Ended", record.finished_at))
            (time("Kept until", record.expires_at))
            (text("Worker", record.worker.as_deref()))
            (text("Slot", record.slot.as_deref()))
            @if record.status == Status::InProgress { (text("Lease", Some(lease(api, record)))) }
            (text("Timeout", limit(spec.timeout).as_deref()))
            (text("To start within", limit(spec.start_within).as_deref()))
            (text("Webhook", spec.webhook.as_ref().map(ToString::to_string).as_deref()))
        }
    }
}

fn actions(api: &Api, who: &Identity, record: &Record) -> Markup {
    let id = &record.id;
    let action = |name, verb: &str, says: &str, same, is_final| {
        let path = format!("/jobs/{}/{verb}", part(id.as_str()));
        let (says, fields) = (says.to_owned(), Vec::new());
        layout::Action { name, id: verb.to_owned(), says, path, fields, same, is_final }.show(who)
    };
    html! {
        div .actions {
            @if !record.status.is_terminal() {
                @let says = match record.status {
                    Status::InProgress => "Its worker is asked to stop it, and what it has done so far is lost.",
                    _ => "It will not be run.",
                };
                (action("Cancel", "cancel", says, Same::cancel(api, id), true))
            }
            @if matches!(record.status, Status::Error | Status::Cancelled) {
                (action("Run again", "redrive", "It waits again, under its id and with all its attempts.", Same::redrive(api, id), false))
            }
            @if record.status != Status::InProgress {
                (action("Delete", "delete", "Its record goes for good, with its body and result.", Same::delete(api, id), true))
            }
        }
    }
}

fn attempts(record: &Record) -> Markup {
    html! {
        @if !record.attempts.is_empty() {
            h2 { "Attempts" }
            (layout::table("Attempts", html! {
                thead { tr {
                    @for name in ["Attempt", "Worker", "Slot", "Started", "Took", "Error"] { th scope="col" { (name) } }
                } }
                tbody { @for attempt in &record.attempts { tr {
                    td .head data-name="Attempt" { (attempt.number) }
                    (layout::cell("Worker", html! { (attempt.worker.as_deref().unwrap_or("–")) }))
                    (layout::cell("Slot", html! { (attempt.slot.as_deref().unwrap_or("–")) }))
                    (layout::cell("Started", layout::time(Some(attempt.started_at))))
                    (layout::cell("Took", html! { @match attempt.ended_at {
                        Some(end) => { (took(end.since(attempt.started_at))) }
                        None => { "–" }
                    } }))
                    td .error { (layout::error_line(attempt.error.as_ref())) }
                } } }
            }))
        }
    }
}

/// A time span of which a second may be much.
fn took(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        1..=9 => format!("{:.1} s", span.as_secs_f64()),
        _ => layout::span(span),
    }
}

/// As it was written, or the beginning of it.
fn document(name: &str, json: Option<&Json>) -> Markup {
    html! {
        @if let Some(json) = json {
            @let text = json.as_str();
            @let end = text.floor_char_boundary(MOST_SHOWN);
            h2 { (name) }
            @if end < text.len() {
                p .note { "The first " (end) " of " (text.len()) " bytes. The commands below give all of it." }
            }
            pre tabindex="0" { (text[..end]) }
        }
    }
}
