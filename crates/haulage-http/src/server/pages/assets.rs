//! What every page loads besides itself: less than 10 kB.

use std::sync::Arc;

use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, ETAG},
};

use super::protect;
use crate::server::{
    Api,
    reply::{self, Handled},
    request::Request,
    tag::{fingerprint, matches},
};

pub(super) const STYLE: &str = "/assets/pages.css";
pub(super) const SCRIPT: &str = "/assets/pages.js";
pub(super) const ICON: &str = "/assets/icon.svg";

pub(super) async fn style(_: Arc<Api>, request: Request) -> Handled {
    asset(&request, "text/css; charset=utf-8", include_str!("assets/pages.css"))
}

pub(super) async fn script(_: Arc<Api>, request: Request) -> Handled {
    asset(&request, "text/javascript; charset=utf-8", include_str!("assets/pages.js"))
}

pub(super) async fn icon(_: Arc<Api>, request: Request) -> Handled {
    asset(&request, "image/svg+xml", include_str!("assets/icon.svg"))
}

fn asset(request: &Request, kind: &'static str, text: &'static str) -> Handled {
    let tag = format!("\"{}\"", fingerprint(text.as_bytes()));
    let mut answer = match matches(request, &tag) {
        true => reply::bytes(StatusCode::NOT_MODIFIED, kind, ""),
        false => reply::bytes(StatusCode::OK, kind, text),
    };
    reply::header(&mut answer, ETAG, &tag);
    // It is the same until the server is another.
    reply::header(&mut answer, CACHE_CONTROL, "no-cache");
    protect(&mut answer);
    Ok(answer)
}
