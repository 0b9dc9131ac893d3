//! What tells one state of something from another, for an `ETag` and for whoever watches.

use haulage::{Record, Status};
use hyper::header::IF_NONE_MATCH;
use ring::digest::{SHA256, digest};

use super::request::Request;
use crate::protocol::hex;

/// Tells one state of a job from another. Heartbeats move its lease on, which is nothing new to
/// anybody.
pub(super) fn mark(record: &Record) -> String {
    let mut state = record.clone();
    if record.status == Status::InProgress {
        state.due_at = None;
    }
    (state.body, state.result) = (None, None);
    (state.attempts, state.checkpoint) = (Vec::new(), None);
    fingerprint(&serde_json::to_vec(&state).unwrap_or_default())
}

/// The same, and its checkpoint, where the record came with it: a worker replaces that whenever it likes.
pub(super) fn mark_with_checkpoint(record: &Record) -> String {
    match &record.checkpoint {
        Some(checkpoint) => format!("{}-{}", mark(record), fingerprint(checkpoint.as_str().as_bytes())),
        None => mark(record),
    }
}

pub(super) fn fingerprint(bytes: &[u8]) -> String {
    hex(&digest(&SHA256, bytes).as_ref()[..12])
}

/// Whether `If-None-Match` names this tag.
pub(super) fn matches(request: &Request, tag: &str) -> bool {
    let tags = request.header(IF_NONE_MATCH).unwrap_or_default().split(',');
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    tags.into_iter().any(|given| bare(given) == bare(tag))
}
