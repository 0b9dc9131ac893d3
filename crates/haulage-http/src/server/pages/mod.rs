//! Pages for people: what `/` and the paths beside it show.
//!
//! They are rendered here, by `maud`, which escapes whatever is put into them: bodies, errors and names are
//! anybody's. No page has a script or a style of its own, and the policy that goes with each allows none.
//! The one script fetches a page again while somebody looks at it.

mod actions;
mod assets;
mod dead;
mod history;
mod job;
mod jobs;
mod layout;
mod overview;
mod same;
mod session;
mod workers;

use hyper::{
    HeaderMap, Method, Request as Asking, StatusCode,
    header::{ACCEPT, HeaderName, LOCATION},
};
use maud::{Markup, html};

pub(super) use self::{
    history::{History, look},
    session::{check_same_origin, secret},
    workers::FailingSlots,
};
use super::{
    Api,
    keys::Scope,
    reply::{self, Handled, Reply},
    request::Request,
    route::{Parameter, Route, query, to},
    tag::{fingerprint, matches},
};
use crate::Problem;

const READ: &[Scope] = &[Scope::Read];
const OPERATE: &[Scope] = &[Scope::Operate];
/// Whoever asks, with a key or without.
const ANYBODY: &[Scope] = &[];

const SIGN_IN: &str = "/sign-in";
const SIGN_OUT: &str = "/sign-out";

/// Nothing but what this server itself gives, and nothing inline.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A parameter of a page, which is in no document.
const fn field(name: &'static str) -> Parameter {
    query(name, "", "")
}

/// What an action has come to, and for how many jobs.
const DONE: Parameter = field("done");
const COUNT: Parameter = field("count");

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", READ, to!(overview::page)).parameters(const { &[DONE, field("exact")] }),
        Route::get("/jobs", READ, to!(jobs::page)).parameters(jobs::PARAMETERS),
        Route::get("/jobs/{id}", READ, to!(job::page)).parameters(const { &[DONE, field("full")] }),
        Route::get("/workers", READ, to!(workers::page)).parameters(const { &[field("read")] }),
        Route::get("/dead", READ, to!(dead::page))
            .parameters(const { &[DONE, COUNT, field("queue"), field("read")] }),
        Route::post("/queues/{queue}/pause", OPERATE, to!(actions::pause)),
        Route::post("/queues/{queue}/resume", OPERATE, to!(actions::resume)),
        Route::post("/jobs/{id}/cancel", OPERATE, to!(actions::cancel)),
        Route::post("/jobs/{id}/redrive", OPERATE, to!(actions::redrive)),
        Route::post("/jobs/{id}/delete", OPERATE, to!(actions::delete)),
        Route::post("/dead/redrive", OPERATE, to!(dead::redrive)),
        Route::post(SIGN_IN, ANYBODY, to!(session::sign_in)),
        Route::post(SIGN_OUT, ANYBODY, to!(session::sign_out)),
        Route::get(assets::STYLE, ANYBODY, to!(assets::style)),
        Route::get(assets::SCRIPT, ANYBODY, to!(assets::script)),
        Route::get(assets::ICON, ANYBODY, to!(assets::icon)),
    ]
}

/// Whether a path is one of the pages', and none of the API's.
pub(super) fn is_page(path: &str) -> bool {
    !path.starts_with("/v1/") && path != "/openapi.json"
}

/// What is answered whoever asks: what the form for a key is made of, and where it goes.
pub(super) fn is_public(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => [assets::STYLE, assets::SCRIPT, assets::ICON].contains(&path),
        _ => *method == Method::POST && [SIGN_IN, SIGN_OUT].contains(&path),
    }
}

/// Somebody with a browser asks for a page: what goes wrong is told as one.
pub(super) struct Reader {
    /// Where they wanted to go.
    target: String,
    /// They come from elsewhere, so the browser has kept the key back.
    is_from_elsewhere: bool,
}

impl Reader {
    pub(super) fn of<B>(request: &Asking<B>) -> Option<Self> {
        let text = |name: &str| header(request.headers(), name);
        if !is_page(request.uri().path()) || !text(ACCEPT.as_str()).contains("text/html") {
            return None;
        }
        let is_get = [Method::GET, Method::HEAD].contains(request.method());
        let target = request.uri().path_and_query().filter(|target| is_get && target.path() != SIGN_IN);
        let target = target.map_or("/", |target| target.as_str()).to_owned();
        Some(Self { target, is_from_elsewhere: is_get && text("sec-fetch-site") == "cross-site" })
    }

    /// The page that tells of a problem. For whoever has no key, it is the form for one, whatever
    /// they asked for.
    pub(super) fn problem(&self, problem: &Problem, has_keys: bool) -> Reply {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == StatusCode::UNAUTHORIZED {
            return html_reply(status, session::form(&self.target, self.is_from_elsewhere, false));
        }
        html_reply(status, layout::problem(problem, has_keys))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A whole page.
fn html_reply(status: StatusCode, page: Markup) -> Reply {
    let mut reply = reply::bytes(status, "text/html; charset=utf-8", page.into_string());
    protect(&mut reply);
    reply
}

fn protect(reply: &mut Reply) {
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        // Not `no-referrer`: with that, browsers send no origin with a form.
        ("referrer-policy", "same-origin"),
    ] {
        reply::header(reply, HeaderName::from_static(name), value);
    }
}

/// What a page shows.
struct View {
    title: String,
    /// What stays when the rest is fetched again: forms, in which somebody may have written something.
    tools: Option<Markup>,
    content: Markup,
    /// Whether it is fetched again while somebody looks at it: where that is not paid for.
    is_live: bool,
}

impl View {
    /// The page; or that nothing has changed, for whoever has it.
    fn show(self, api: &Api, request: &Request) -> Handled {
        let tag = fingerprint(self.content.0.as_bytes());
        self.show_as(api, request, &tag)
    }

    /// The same where it is known what tells one state of it from another.
    fn show_as(self, api: &Api, request: &Request, tag: &str) -> Handled {
        if is_unchanged(request, tag) {
            return Ok(unchanged());
        }
        let said = layout::done(request.query.get(DONE.name), request.query.get(COUNT.name));
        Ok(html_reply(StatusCode::OK, layout::page(api, &request.who, &self, said, tag)))
    }
}

fn is_unchanged(request: &Request, tag: &str) -> bool {
    matches(request, tag)
}

fn unchanged() -> Reply {
    reply::bytes(StatusCode::NOT_MODIFIED, "text/html; charset=utf-8", "")
}

/// Leads to another page, by a GET.
fn see_other(target: &str) -> Reply {
    let mut reply = html_reply(StatusCode::SEE_OTHER, html! {});
    reply::header(&mut reply, LOCATION, target);
    reply
}

/// What it takes to read everything, in words.
async fn price(api: &Api) -> Result<String, Problem> {
    Ok(match api.backend.whole_read().await? {
        None => "This reads all records.".to_owned(),
        Some(read) => format!(
            "This reads all of {}: about {} items, {:.1} MB, for about {:.2} US dollars ({}).",
            read.from,
            read.items,
            read.bytes as f64 / 1e6,
            read.dollars,
            read.price
        ),
    })
}
