//! Answers, and their bodies.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::pressure;
use crate::{Problem, problem};

/// The body of an answer. An error ends the connection, so that nobody takes a part for
/// the whole.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Reply = Response<Body>;

pub(super) const JSON: &str = "application/json";

/// An answer whose body is all there.
pub(super) fn bytes(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    with_body(status, kind, body)
}

/// An answer whose body comes bit by bit.
pub(super) fn stream(status: StatusCode, kind: &'static str) -> (Sender, Reply) {
    // Few, so that whoever writes goes as fast as whoever reads.
    stream_ahead(status, kind, 4)
}

/// The same, where so many parts may be written before somebody reads.
pub(super) fn stream_ahead(status: StatusCode, kind: &'static str, parts: usize) -> (Sender, Reply) {
    let (sender, receiver) = mpsc::channel(parts);
    (Sender(sender), with_body(status, kind, Channel(receiver).boxed_unsync()))
}

fn with_body(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Of jobs, which change; and a browser is to take nothing for what it is not.
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}

/// An answer in JSON.
pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, JSON, body),
        Err(error) => self::problem(&Problem::from(haulage::Error::from(error))),
    }
}

/// An answer that says what went wrong.
pub(super) fn problem(problem: &Problem) -> Reply {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = bytes(status, problem::MEDIA_TYPE, serde_json::to_vec(problem).unwrap_or_default());
    match status {
        StatusCode::UNAUTHORIZED => {
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE => retry_after(&mut reply, problem::RETRY_AFTER),
        StatusCode::TOO_MANY_REQUESTS => retry_after(&mut reply, pressure::RETRY_AFTER),
        _ => {}
    }
    reply
}

/// When to ask again.
pub(super) fn retry_after(reply: &mut Reply, after: Duration) {
    header(reply, RETRY_AFTER, &after.as_secs().max(1).to_string());
}

/// Sets a header. A value that cannot be one is left out.
pub(super) fn header(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Where a body that comes bit by bit is written.
#[derive(Clone, Debug)]
pub(super) struct Sender(mpsc::Sender<io::Result<Bytes>>);

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Sender {
    /// Waits until there is room.
    pub(super) async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(bytes.into())).await.map_err(|_| Gone)
    }

    /// Ends the connection, and with it a body of which a part cannot be had.
    pub(super) async fn cut(&self, why: String) {
        let _ = self.0.send(Err(io::Error::other(why))).await;
    }

    /// Ends when nobody reads any more.
    pub(super) async fn gone(&self) {
        self.0.closed().await;
    }
}

struct Channel(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }
}
