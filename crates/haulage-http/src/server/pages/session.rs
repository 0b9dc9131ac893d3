//! Who looks at pages: a browser that has a key in a cookie.
//!
//! The cookie is out of reach of scripts, and no other site can have it sent: it counts for pages alone, never
//! for the API, and whatever changes something has to come from a page of this server besides. A key that is
//! revoked or ends is refused at the next request, as everywhere.

use std::sync::Arc;

use haulage::Clock;
use hyper::{
    HeaderMap, StatusCode,
    header::{COOKIE, HOST, ORIGIN, SET_COOKIE},
};
use maud::{DOCTYPE, Markup, html};

use super::{SIGN_IN, header, html_reply, layout, see_other};
use crate::{
    Problem,
    server::{
        Api,
        reply::{self, Handled},
        request::{Query, Request},
    },
};

const NAME: &str = "haulage_key";
/// The same over TLS: no browser takes it from anybody else, nor sends it in clear text.
const SECURE_NAME: &str = "__Host-haulage_key";

/// The largest form, in bytes.
pub(super) const MOST_FORM_BYTES: usize = 64 << 10;

/// The key in the cookie of a request.
pub(in crate::server) fn secret(headers: &HeaderMap) -> Option<&str> {
    let named = |wanted: &str| {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim())
    };
    named(SECURE_NAME).or_else(|| named(NAME))
}

/// Refuses what changes something, unless a page of this server asks for it. Browsers say where a request
/// comes from, and no page can make them say otherwise; what says nothing is not one of ours.
pub(in crate::server) fn check_same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let (site, origin) = (header(headers, "sec-fetch-site"), header(headers, ORIGIN.as_str()));
    let is_own = match site {
        // Over plain HTTP, but for the loopback, browsers leave it out.
        "" => {
            let host = header(headers, HOST.as_str());
            !host.is_empty() && origin.split_once("://").is_some_and(|(_, from)| from == host)
        }
        site => site == "same-origin",
    };
    if is_own {
        return Ok(());
    }
    let detail = "this did not come from a page of this server";
    Err(Problem::new(403, "forbidden", "This is for the pages of this server", detail)
        .remedy("use the page itself; programs ask under /v1. Behind a proxy, it has to pass the Host on"))
}

/// A form that was sent.
pub(super) async fn form_of(request: &mut Request) -> Result<Query, Problem> {
    let sent = request.read(MOST_FORM_BYTES).await?;
    Ok(Query::parse(&String::from_utf8_lossy(&sent)))
}

pub(super) async fn sign_in(api: Arc<Api>, mut request: Request) -> Handled {
    let form = form_of(&mut request).await?;
    let target = local(form.get("next").unwrap_or("/"));
    let Some(keys) = &api.keys else { return Ok(see_other(target)) };
    let secret = form.get("key").unwrap_or_default().trim();
    if keys.identify(secret, Clock::system().now()).is_none() {
        return Ok(html_reply(StatusCode::UNAUTHORIZED, self::form(target, false, true)));
    }
    let mut reply = see_other(target);
    reply::header(&mut reply, SET_COOKIE, &cookie(&request.headers, secret, ""));
    Ok(reply)
}

pub(super) async fn sign_out(_: Arc<Api>, request: Request) -> Handled {
    let mut reply = see_other("/");
    reply::header(&mut reply, SET_COOKIE, &cookie(&request.headers, "", "; Max-Age=0"));
    Ok(reply)
}

/// Ends with the browser. The origin is what the browser sees, also where a proxy does the TLS.
fn cookie(headers: &HeaderMap, value: &str, more: &str) -> String {
    let (name, secure) = match header(headers, ORIGIN.as_str()).starts_with("https://") {
        true => (SECURE_NAME, "; Secure"),
        false => (NAME, ""),
    };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}")
}

/// A path of this server, or its first page: nobody is led elsewhere.
fn local(target: &str) -> &str {
    let is_local = target.starts_with('/')
        && !target[1..].starts_with(['/', '\\'])
        && target.bytes().all(|byte| byte.is_ascii_graphic());
    if is_local { target } else { "/" }
}

/// The form for a key.
pub(super) fn form(target: &str, is_from_elsewhere: bool, is_wrong: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (layout::head("Sign in"))
                // A link elsewhere was followed, so the browser has kept the key back; to this page's own
                // request it adds it.
                @if is_from_elsewhere { meta http-equiv="refresh" content="0"; }
            }
            body {
                main #content .narrow {
                    h1 { "Haulage" }
                    @if is_wrong {
                        p .said .bad role="alert" { "This server does not know that key, or it has ended." }
                    }
                    form method="post" action=(SIGN_IN) {
                        input type="hidden" name="next" value=(local(target));
                        label for="key" { "Key" }
                        input #key type="password" name="key" autocomplete="current-password" required autofocus;
                        button .main { "Sign in" }
                    }
                    p { "A key with the scope " code { "read" } " shows pages; " code { "operate" } " lets you change things." }
                    pre tabindex="0" { "haulage key create --name NAME --scope read,operate" }
                    p #plain .said .bad hidden { "This page came over plain HTTP: whoever is on the way can read your key." }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn only_pages_of_this_server_change_things() {
        for (own, pairs) in [
            (
                true,
                &[("sec-fetch-site", "same-origin"), ("host", "inside:8080"), ("origin", "https://out")][..],
            ),
            (true, &[("host", "box:8080"), ("origin", "http://box:8080")]),
            (false, &[("host", "box:8080"), ("origin", "http://evil.example")]),
            (false, &[("host", "box:8080"), ("origin", "null")]),
            (false, &[("host", "box:8080")]),
            (false, &[("origin", "http://")]),
            (false, &[("sec-fetch-site", "cross-site"), ("host", "box"), ("origin", "http://box")]),
            (false, &[("sec-fetch-site", "same-site"), ("host", "box"), ("origin", "http://box")]),
            (false, &[("sec-fetch-site", "none"), ("host", "box"), ("origin", "http://box")]),
        ] {
            assert_eq!(check_same_origin(&headers(pairs)).is_ok(), own, "{pairs:?}");
        }
    }

    #[test]
    fn a_key_is_found_among_cookies() {
        assert_eq!(secret(&headers(&[("cookie", "a=b; haulage_key=k; c=d")])), Some("k"));
        let both = headers(&[("cookie", "haulage_key=k; __Host-haulage_key=s")]);
        assert_eq!(secret(&both), Some("s"), "the one that nobody else can set");
        assert_eq!(secret(&headers(&[("cookie", "x_haulage_key=k; other")])), None);
    }

    #[test]
    fn nobody_is_led_elsewhere() {
        for (target, expected) in [
            ("/jobs?status=ERROR", "/jobs?status=ERROR"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("", "/"),
            ("/a\r\nset-cookie: x", "/"),
        ] {
            assert_eq!(local(target), expected, "{target:?}");
        }
    }
}
