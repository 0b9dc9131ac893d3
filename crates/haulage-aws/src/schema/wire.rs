//! What the message attribute says, as it is written and as far as it may be believed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use haulage::{JobId, JobSpec, NewJob, Timestamp};
use serde::{Deserialize, Serialize};

use super::body::{DocumentPlace, Packed};

/// The message attribute that holds everything but the body.
pub(crate) const ATTRIBUTE: &str = "haulage";

/// The attribute's JSON; what is a default is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    pub(super) v: u8,
    pub(super) token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<JobId>,
    /// Nothing is the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proof: Option<String>,
    pub(super) submitted_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_before: Option<i64>,
    #[serde(flatten)]
    pub(super) spec: JobSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redrive: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<String>,
    /// How the message's body is encoded; nothing is plain JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<Encoding>,
    /// Where the body is besides; nothing is "in the record".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_at: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    /// JSON with characters that SQS refuses, in Base64.
    Base64,
    /// Compressed, in Base64.
    Zstd,
    /// The body is an object of the bucket; the message holds its address.
    Object,
}

impl Encoding {
    /// The body in this text; nothing where it is elsewhere.
    pub(super) fn decode(self, text: &str) -> Result<Option<Packed>, String> {
        let is_zstd = match self {
            Self::Object => return Ok(None),
            Self::Base64 => false,
            Self::Zstd => true,
        };
        let bytes = STANDARD.decode(text).map_err(|e| e.to_string());
        bytes
            .and_then(|bytes| Packed::from_bytes(bytes, is_zstd).map_err(|e| e.to_string()))
            .map(Some)
            .map_err(|e| format!("the message's body is broken: {e}"))
    }
}

/// How much later than its message a job may say that it was submitted, as
/// clocks differ.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

impl Wire {
    /// What the attribute of a message says, where its body is, and why it is not to be believed.
    pub(super) fn read(
        attribute: Option<&str>,
        store: &str,
        sent: Option<Timestamp>,
    ) -> (Self, DocumentPlace, Option<String>) {
        let (wire, mistake) = match attribute.map(serde_json::from_str::<Self>) {
            Some(Ok(wire)) if wire.is_newer() => {
                let mistake =
                    format!("it has format {}, of a later version of Haulage; update this consumer", wire.v);
                (wire, Some(mistake))
            }
            Some(Ok(wire)) => (wire, None),
            Some(Err(e)) => {
                (Self::default(), Some(format!("the message attribute `{ATTRIBUTE}` is broken: {e}")))
            }
            // Somebody else's message: its body is a job with all defaults.
            None => (Self::default(), None),
        };
        match wire.check(store, sent) {
            Ok(place) => (wire, place, mistake),
            // Nothing of it may reach a record or a key.
            Err(why) => {
                let bare = Self { v: wire.v, encoding: wire.encoding, ..Self::default() };
                let refused = format!("the message attribute `{ATTRIBUTE}` is refused: {why}");
                (bare, DocumentPlace::Record, mistake.or(Some(refused)))
            }
        }
    }

    /// Whether a later version of Haulage has written it.
    pub(super) fn is_newer(&self) -> bool {
        self.v > 1
    }

    /// Whether another program has sent the message.
    pub(super) fn is_foreign(&self) -> bool {
        self.token.is_empty()
    }

    /// Whether what it names can be its own, and where its body is. What is
    /// refused here would be a key, a place or a moment that no submit has written.
    fn check(&self, store: &str, sent: Option<Timestamp>) -> Result<DocumentPlace, String> {
        let token = Some(&self.token).filter(|_| !self.is_foreign());
        for (name, value) in [("token", token), ("proof", self.proof.as_ref())] {
            if value.is_some_and(|value| !is_token(value)) {
                return Err(format!("its {name} is not one that a submit makes"));
            }
        }
        if self.id.as_ref().is_some_and(|id| !is_id(id.as_str())) {
            return Err("it names its job by an id that no job has".into());
        }
        if self.key.as_ref().is_some_and(|key| !is_key_item(key, store)) {
            return Err(format!("its idempotency key is not one of {store}"));
        }
        let submitted_at = Timestamp::from_micros(self.submitted_at);
        if self.submitted_at < 0 || sent.is_some_and(|sent| submitted_at > sent.after(AHEAD)) {
            return Err("it says that it was submitted at a moment that cannot be".into());
        }
        let delay = self.not_before.map(|moment| Timestamp::from_micros(moment).since(submitted_at));
        if delay.is_some_and(|delay| delay > NewJob::MAX_DURATION) {
            return Err("its delay is longer than 366 days".into());
        }
        let Some(text) = &self.body_at else { return Ok(DocumentPlace::Record) };
        let own = [token, self.proof.as_ref()];
        let own = |place: &DocumentPlace| own.into_iter().flatten().any(|token| place.is_of(store, token));
        DocumentPlace::from_text(text)
            .filter(own)
            .ok_or_else(|| "its body is at a place that is not its own".into())
    }
}

/// Whether this can be a token: it is a part of keys, and a group of SQS.
fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic() && c != '#' && c != '/')
}

/// Whether this can be the id of a job. With `#` begin or continue the keys of
/// items that are no records.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.chars().any(|c| c == '#' || c.is_control())
}

fn is_key_item(key: &str, store: &str) -> bool {
    let hash = key.strip_prefix("key#").and_then(|rest| rest.strip_prefix(store)?.strip_prefix('#'));
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}
