//! Lists of jobs, and the search.

use std::sync::Arc;

use haulage::{
    FailureKind, JobId, Record, Status,
    backend::{Detail, ListQuery, Lookup},
};
use maud::{Markup, html};

use super::{View, field, layout, price, same::part, see_other};
use crate::{
    Problem,
    server::{
        Api,
        backend::visible,
        jobs::{find, list_query},
        keys::Identity,
        reply::Handled,
        request::{Query, Request, invalid},
        route::Parameter,
    },
};

/// How many stand on a page.
const MOST: usize = 50;

pub(super) const PARAMETERS: &[Parameter] = &[
    field("find"),
    field("status"),
    field("dead"),
    field("queue"),
    field("task"),
    field("group"),
    field("request_id"),
    field("label"),
    field("metadata.{name}"),
    field("error"),
    field("id_prefix"),
    field("older_than"),
    field("newer_than"),
    field("before"),
    field("limit"),
    field("read"),
    field("done"),
];

/// Those that are text in the form, and what they are called there.
const TEXTS: [(&str, &str, &str); 9] = [
    ("queue", "Queue", ""),
    ("task", "Task", ""),
    ("group", "Group", ""),
    ("request_id", "Request id", ""),
    ("label", "Label", "name=value"),
    ("error", "Error", "kind, type or text"),
    ("id_prefix", "Beginning of the id", ""),
    ("older_than", "Older than", "1h30m"),
    ("newer_than", "Newer than", "1h30m"),
];

pub(super) async fn page(api: Arc<Api>, request: Request) -> Handled {
    // A form sends what is empty, too.
    let asked = request.query.without_empty();
    let is_cheap = api.backend.capabilities().cheap_looks;
    let (mut found, mut next, mut is_paid) = (Vec::new(), None, false);
    if let Some(text) = asked.get("find").map(str::trim)
        && let Some(job) = by_id(&api, &request.who, text).await?
    {
        return Ok(see_other(&format!("/jobs/{}", part(job.id.as_str()))));
    }
    if is_cheap || asked.flag("read")? || asked.flag("dead")? {
        found = match asked.get("find").map(str::trim) {
            Some(text) => search(&api, &request.who, text).await?,
            None => {
                let query = query(&asked)?;
                let limit = query.limit;
                let found = find(&api, &request.who, query).await?;
                next = found.last().filter(|_| found.len() == limit).map(|last| last.id.clone());
                found
            }
        };
    } else {
        is_paid = true;
    }
    let content = html! {
        @if is_paid {
            (layout::paid(&price(&api).await?, &target(&asked, ("read", "true")), "Read them"))
        } @else if found.is_empty() {
            p { "No job is like that." }
        } @else {
            (table(&found))
        }
        @if let Some(next) = next { p { a href=(target(&asked, ("before", next.as_str()))) { "Older ones" } } }
        @if !is_paid {
            p .note { "The same: " code { "haulage list" } " with these filters, or " code { "GET /v1/jobs" } "." }
        }
    };
    let is_live = is_cheap && asked.get("before").is_none();
    View { title: "Jobs".to_owned(), tools: Some(tools(&asked)), content, is_live }.show(&api, &request)
}

async fn by_id(api: &Api, who: &Identity, id: &str) -> Result<Option<Record>, Problem> {
    let found = api.backend.get(vec![JobId::from(id)], Detail::Status).await?.pop();
    Ok(match found.map(|found| visible(who, found)) {
        Some(Lookup::Found(record)) => Some(record),
        _ => None,
    })
}

/// Jobs with this request id or label, or whose ids begin so.
async fn search(api: &Arc<Api>, who: &Identity, text: &str) -> Result<Vec<Record>, Problem> {
    let limited = || ListQuery::new().limit(MOST);
    let mut queries = vec![limited().request_id(text)];
    if let Some((name, value)) = text.split_once('=') {
        queries.push(limited().metadata(name.trim(), value.trim()));
    }
    if api.backend.capabilities().finds_by_prefix {
        queries.push(limited().id_prefix(text));
    }
    let mut found: Vec<Record> = Vec::new();
    for query in queries {
        for job in find(api, who, query).await? {
            if !found.iter().any(|other| other.id == job.id) {
                found.push(job);
            }
        }
    }
    Ok(found)
}

fn query(asked: &Query) -> Result<ListQuery, Problem> {
    let mut query = list_query(asked)?;
    if asked.get("limit").is_none() {
        query.limit = MOST;
    }
    if let Some(label) = asked.get("label") {
        let (name, value) = label.split_once('=').ok_or_else(|| {
            invalid("label", format!("{label:?} is not a label; write it like team=vision"))
        })?;
        query.metadata.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(query)
}

/// The same page with another parameter.
fn target(asked: &Query, with: (&str, &str)) -> String {
    // Jobs of another status are another list, of which no page is known, and a search is for all.
    let is_kept = |name: &str| match name {
        "done" => false,
        "before" | "find" if with.0 == "status" => false,
        name => name != with.0,
    };
    let with = [with].into_iter().filter(|(_, value)| !value.is_empty());
    let kept = asked.pairs().filter(|(name, _)| is_kept(name)).chain(with);
    let kept = kept.map(|(name, value)| format!("{}={}", part(name), part(value)));
    format!("/jobs?{}", kept.collect::<Vec<_>>().join("&")).trim_end_matches('?').to_owned()
}

/// What is shown of the jobs: the search, what else they are chosen by, and their status.
fn tools(asked: &Query) -> Markup {
    let value = |name: &str| asked.get(name).unwrap_or_default();
    let status = value("status").to_ascii_uppercase();
    let is_filtered = TEXTS.iter().any(|(name, ..)| !value(name).is_empty());
    html! {
        form .find method="get" action="/jobs" role="search" {
            label .hidden for="find" { "Find" }
            input #find type="search" name="find" value=(value("find")) placeholder="Id, request id or name=value";
            button .main { "Find" }
        }
        details .filter open[is_filtered] {
            summary #filter { "Filter by queue, task, label and more" }
            form method="get" action="/jobs" {
                @if !status.is_empty() { input type="hidden" name="status" value=(status); }
                @for (name, says, hint) in TEXTS { div {
                    label for=(name) { (says) }
                    input id=(name) name=(name) value=(value(name)) placeholder=[(!hint.is_empty()).then_some(hint)]
                        list=[(name == "error").then_some("kinds")];
                } }
                datalist #kinds { @for kind in FailureKind::ALL { option value=(kind.as_str()); } }
                div { button { "Filter" } " " a href="/jobs" { "Show all" } }
            }
        }
        nav .tabs aria-label="Status" {
            a href=(target(asked, ("status", ""))) aria-current=[status.is_empty().then_some("true")] { "All" }
            @for of in Status::ALL {
                a href=(target(asked, ("status", of.as_str()))) aria-current=[(of.as_str() == status).then_some("true")] {
                    (layout::status(of))
                }
            }
        }
    }
}

pub(super) fn table(jobs: &[Record]) -> Markup {
    layout::table(
        "Jobs",
        html! {
            thead { tr {
                @for name in ["Status", "Job", "Queue", "Task", "Submitted", "Attempts", "Error"] { th scope="col" { (name) } }
            } }
            tbody { @for job in jobs { tr {
                td { (layout::status(job.status)) }
                td .head { (layout::job(&job.id)) }
                (layout::cell("Queue", html! { (job.spec.queue) }))
                (layout::cell("Task", html! { (job.spec.task.as_deref().unwrap_or("–")) }))
                (layout::cell("Submitted", layout::time(Some(job.submitted_at))))
                (layout::cell("Attempts", html! { (job.counted()) " of " (job.spec.max_attempts) }))
                td .error { (layout::error_line(job.error.as_ref())) }
            } } }
        },
    )
}
