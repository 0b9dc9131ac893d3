//! What all pages have in common.

use std::time::Duration;

use haulage::{JobError, JobId, Status, Timestamp};
use maud::{DOCTYPE, Markup, html};

use super::{
    SIGN_OUT, View, assets,
    same::{Same, part},
};
use crate::{
    Problem,
    server::{
        Api,
        keys::{Identity, Scope},
        waiting::moment,
    },
};

/// How much of an error a list shows, in characters.
const LINE: usize = 200;

pub(super) fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        title { (title) " – Haulage" }
        link rel="stylesheet" href=(assets::STYLE);
        link rel="icon" href=(assets::ICON) type="image/svg+xml";
        script src=(assets::SCRIPT) defer {}
    }
}

fn navigation(here: &str) -> Markup {
    html! {
        a .brand href="/" aria-label="Haulage, the overview" { "Haulage" }
        nav aria-label="Pages" {
            @for (path, name) in [("/", "Overview"), ("/jobs", "Jobs"), ("/workers", "Workers"), ("/dead", "Dead letters")] {
                a href=(path) aria-current=[(name == here).then_some("page")] { (name) }
            }
        }
    }
}

pub(super) fn page(api: &Api, who: &Identity, view: &View, said: Option<String>, tag: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(&view.title)) }
            body {
                a .skip href="#content" { "Skip to the content" }
                header {
                    (navigation(&view.title))
                    @if let (Some(_), Some(name)) = (&api.keys, &who.name) {
                        form .who method="post" action=(SIGN_OUT) {
                            span { "Key: " (name) }
                            button { "Sign out" }
                        }
                    }
                }
                main #content tabindex="-1" {
                    @if let Some(said) = said { p .said role="status" { (said) } }
                    // The script shows it.
                    p #stale .said .bad role="alert" hidden { "The server does not answer: what is here may be out of date." }
                    h1 { (view.title) }
                    @if let Some(tools) = &view.tools { (tools) }
                    div #live data-tag=[view.is_live.then_some(tag)] { (view.content) }
                    @if !view.is_live { p .note { "This page does not change by itself: reload it." } }
                }
            }
        }
    }
}

/// A page that tells what went wrong.
pub(super) fn problem(problem: &Problem, has_keys: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(&problem.title)) }
            body {
                header { (navigation("")) }
                main #content .narrow {
                    h1 { (problem.title) }
                    p { (problem.detail) }
                    @if let Some(remedy) = &problem.remedy { p { "What to do: " (remedy) } }
                    @if has_keys && problem.status == 403 {
                        form method="post" action=(SIGN_OUT) { button { "Sign in with another key" } }
                    }
                }
            }
        }
    }
}

/// What an action has come to, in a sentence; there are no others, whatever a link says.
pub(super) fn done(what: Option<&str>, count: Option<&str>) -> Option<String> {
    let count = count.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    Some(match what? {
        "paused" => "The queue is paused: what runs goes on, and nothing else is started.".to_owned(),
        "resumed" => "The queue goes on.".to_owned(),
        "cancelled" => "The job is cancelled.".to_owned(),
        "asked" => "The worker of the job has been asked to stop it.".to_owned(),
        "redriven" => "The job waits again, with all its attempts.".to_owned(),
        "deleted" => "The job is deleted.".to_owned(),
        "group" if count == 1 => "1 job waits again, with all its attempts.".to_owned(),
        "group" => format!("{count} jobs wait again, with all their attempts."),
        _ => return None,
    })
}

/// Something that changes what there is: what it does, what does the same, and the button.
pub(super) struct Action<'a> {
    /// A word, on what opens it and on the button.
    pub(super) name: &'a str,
    /// Which one it is on its page.
    pub(super) id: String,
    pub(super) says: String,
    pub(super) path: String,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) same: Same,
    /// It cannot be undone.
    pub(super) is_final: bool,
}

impl Action<'_> {
    /// Nothing, for whoever may not do it. The button comes after what it does has been read.
    pub(super) fn show(&self, who: &Identity) -> Markup {
        if !who.may(&[Scope::Operate]) {
            return html! {};
        }
        html! {
            details .action name="action" {
                summary id=(self.id) { (self.name) "…" }
                div .panel {
                    p { (self.says) @if self.is_final { " " strong { "This cannot be undone." } } }
                    form method="post" action=(self.path) {
                        @for (name, value) in &self.fields { input type="hidden" name=(name) value=(value); }
                        button .main .bad[self.is_final] { (self.name) }
                    }
                    (same(&self.same))
                }
            }
        }
    }
}

/// What does the same as a page.
pub(super) fn same(same: &Same) -> Markup {
    html! {
        p .note { "The same in a shell, with " code { "HAULAGE_URL" } " and " code { "HAULAGE_KEY" } " set:" }
        pre tabindex="0" { (same.command) }
        pre tabindex="0" { (same.curl) }
    }
}

/// Something that is paid for, and is done when somebody asks for it.
pub(super) fn paid(says: &str, target: &str, name: &str) -> Markup {
    html! { div .paid { p { (says) } p { a .button href=(target) { (name) } } } }
}

/// A table. On a narrow screen each row of it is a block, in which `cell` names its values.
pub(super) fn table(label: &str, table: Markup) -> Markup {
    html! { table aria-label=(label) { (table) } }
}

/// A value in a row.
pub(super) fn cell(name: &str, value: Markup) -> Markup {
    html! { td data-name=(name) { (value) } }
}

pub(super) fn status(status: Status) -> Markup {
    html! { span .status .(status.as_str().to_ascii_lowercase()) { (status) } }
}

pub(super) fn job(id: &JobId) -> Markup {
    html! { a .id href={ "/jobs/" (part(id.as_str())) } { (id) } }
}

/// A number in a row, which leads to what it counts.
pub(super) fn number(name: &str, count: u64, target: &str) -> Markup {
    html! {
        td .number .zero[count == 0] data-name=(name) {
            @if count == 0 { "0" } @else { a href=(target) { (count) } }
        }
    }
}

pub(super) fn time(time: Option<Timestamp>) -> Markup {
    html! { @if let Some(time) = time { time datetime=(time) { (moment(time)) } } @else { "–" } }
}

/// A time span, to the second.
pub(super) fn span(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
}

/// The line of an error that tells most.
pub(super) fn first_line(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(LINE).collect()
}

/// An error in a list.
pub(super) fn error_line(error: Option<&JobError>) -> Markup {
    html! {
        @if let Some(error) = error {
            code { (error.type_name.as_deref().unwrap_or(error.kind.as_str())) } " " (first_line(&error.message))
        }
    }
}
