//! Answers in gzip, for whoever takes them so.

use std::{
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body as _, Bytes, Frame},
    header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY},
};

use super::reply::{self, Body, Reply};
use crate::gzip;

/// How many bytes are compressed before others have their turn.
const PART: usize = 64 << 10;

/// The same answer in gzip, where whoever asks takes that and it is worth it.
pub(super) fn compressed(mut reply: Reply, accepts: bool) -> Reply {
    reply.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    if !accepts || !is_worth_it(&reply) {
        return reply;
    }
    let headers = reply.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(gzip::NAME));
    headers.remove(CONTENT_LENGTH);
    // A part of the result would be one of the result itself, and not of this.
    headers.remove(ACCEPT_RANGES);
    // These are other bytes, so the tag is not that of the bytes any more (RFC 9110, 8.8.1).
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.starts_with("W/"));
    if let Some(tag) = tag.map(|tag| format!("W/{tag}")) {
        reply::header(&mut reply, ETAG, &tag);
    }
    reply.map(|body| Compressed { body, rest: Bytes::new(), encoder: Some(gzip::encoder()) }.boxed_unsync())
}

fn is_worth_it(reply: &Reply) -> bool {
    // A part is of the bytes as they are; and the others have no body.
    let has_whole = !matches!(
        reply.status(),
        StatusCode::PARTIAL_CONTENT | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let is_large = reply.body().size_hint().exact().is_none_or(|size| size >= gzip::LEAST as u64);
    has_whole && is_large && is_text(reply.headers()) && !reply.headers().contains_key(CONTENT_ENCODING)
}

/// Whether it is text that comes to an end. A stream of events stays open for hours and says little,
/// and what compresses it would take 300 KB all the time.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default() {
        "text/html" | "text/css" | "text/javascript" | "image/svg+xml" => true,
        kind => kind.starts_with("application/") && (kind.ends_with("json") || kind.ends_with("jsonl")),
    }
}

/// A body that is compressed as it is sent. Each part of it can be read as soon as it is sent.
struct Compressed {
    body: Body,
    /// Of the part that is being compressed.
    rest: Bytes,
    /// Until the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl hyper::body::Body for Compressed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Self { body, rest, encoder } = &mut *self;
            let Some(encoder) = encoder else { return Poll::Ready(None) };
            if rest.is_empty() {
                match ready!(Pin::new(&mut *body).poll_frame(cx)?) {
                    Some(frame) => *rest = frame.into_data().unwrap_or_default(),
                    None => {
                        let end = self.encoder.take().map(GzEncoder::finish).transpose()?;
                        return Poll::Ready(end.map(|end| Ok(Frame::data(end.into()))));
                    }
                }
            }
            let part = rest.split_to(rest.len().min(PART));
            encoder.write_all(&part)?;
            if rest.is_empty() && !body.is_end_stream() {
                encoder.flush()?;
            }
            let sent = std::mem::take(encoder.get_mut());
            if !sent.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(sent.into()))));
            }
        }
    }
}
