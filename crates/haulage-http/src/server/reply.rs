//! Answers, and their bodies.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame},
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{content::UNKNOWN_ENCODING, pressure};
use crate::{Problem, gzip, problem};

/// The body of an answer. An error ends the connection, so that nobody takes a part for
/// the whole.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Reply = Response<Body>;
/// What comes of a request.
pub(super) type Handled = Result<Reply, Problem>;

pub(super) const JSON: &str = "application/json";

/// An answer whose body is all there.
pub(super) fn bytes(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    with_body(status, kind, body)
}

/// An answer whose body comes bit by bit.
pub(super) fn stream(status: StatusCode, kind: &'static str) -> (Sender, Reply) {
    // Little, so that whoever writes goes as fast as whoever reads.
    stream_ahead(status, kind, 64 << 10)
}

/// The same, where so many bytes may be written before somebody reads.
pub(super) fn stream_ahead(status: StatusCode, kind: &'static str, ahead: usize) -> (Sender, Reply) {
    let (parts, receiver) = mpsc::unbounded_channel();
    let sender = Sender { parts, room: Arc::new(Semaphore::new(ahead)), ahead };
    (sender, with_body(status, kind, Channel(receiver).boxed_unsync()))
}

fn with_body(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Of jobs, which change; and a browser is to take nothing for what it is not.
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    match status {
        StatusCode::UNAUTHORIZED => header(&mut reply, WWW_AUTHENTICATE, "Bearer"),
        StatusCode::SERVICE_UNAVAILABLE => retry_after(&mut reply, problem::RETRY_AFTER),
        StatusCode::TOO_MANY_REQUESTS => retry_after(&mut reply, pressure::RETRY_AFTER),
        _ => {}
    }
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
    if problem.name() == UNKNOWN_ENCODING {
        header(&mut reply, ACCEPT_ENCODING, gzip::NAME);
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
pub(super) struct Sender {
    parts: mpsc::UnboundedSender<Part>,
    /// For bytes that nobody has read yet.
    room: Arc<Semaphore>,
    /// How much of that there is.
    ahead: usize,
}

/// A part of a body.
#[derive(Debug)]
struct Part {
    bytes: io::Result<Bytes>,
    /// What it takes until it is read.
    _room: Option<OwnedSemaphorePermit>,
}

/// What a part takes besides its bytes.
const BESIDE: usize = 128;

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Sender {
    /// Waits until there is room. What is larger than all of it waits until nothing else is there.
    pub(super) async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let bytes = bytes.into();
        let size = u32::try_from(bytes.len().saturating_add(BESIDE).min(self.ahead)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(size) => room.ok(),
            () = self.parts.closed() => return Err(Gone),
        };
        self.parts.send(Part { bytes: Ok(bytes), _room: room }).map_err(|_| Gone)
    }

    /// Ends the connection, and with it a body of which a part cannot be had.
    pub(super) fn cut(&self, why: String) {
        let _ = self.parts.send(Part { bytes: Err(io::Error::other(why)), _room: None });
    }

    /// Ends when nobody reads any more.
    pub(super) async fn gone(&self) {
        self.parts.closed().await;
    }
}

struct Channel(mpsc::UnboundedReceiver<Part>);

impl hyper::body::Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|next| next.map(|part| part.bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_does_not_read_is_sent_so_many_bytes() {
        let (sender, reply) = stream_ahead(StatusCode::OK, JSON, 1000);
        let part = |size: usize| "x".repeat(size);
        assert!(sender.send(part(500)).now_or_never().is_some(), "there is room");
        let mut second = Box::pin(sender.send(part(500)));
        assert!((&mut second).now_or_never().is_none(), "there is none any more");
        let mut body = reply.into_body();
        assert_eq!(body.frame().await.expect("a part").expect("sent").into_data().expect("data").len(), 500);
        assert!((&mut second).now_or_never().is_some(), "there is room again");
        // What is larger than the room goes alone.
        let mut large = Box::pin(sender.send(part(5000)));
        assert!((&mut large).now_or_never().is_none());
        body.frame().await.expect("a part").expect("sent");
        assert!((&mut large).now_or_never().is_some());
        assert!(sender.send(part(1)).now_or_never().is_none());
        drop(body);
        assert!(sender.send(part(1)).await.is_err(), "nobody reads any more");
    }
}
