//! What a message of the queue says: which job it is for.
//!
//! The record decides what becomes of a job; a message is an envelope that lets a
//! consumer look. Its body is the job's body, so that people can read it and
//! other programs can write it; the options are in one message attribute.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use base64::{Engine, engine::general_purpose::STANDARD};
use haulage::{Error, JobId, JobSpec, Json, NewJob, QueueName, Result, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    config::Config,
    random,
    schema::{
        body::{Body, Packed, Place, beside_record, body_item},
        object_retention::{keep_days, object_key},
        raw::{self, Raw},
    },
};

/// The message attribute that holds everything but the body.
pub(crate) const ATTRIBUTE: &str = "haulage";

/// How large the options of a job, labels included, may be, in bytes: they are
/// part of the message and of the record.
pub(crate) const MAX_OPTIONS: usize = 32 << 10;

/// Everything that a message says of its job.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// Names the job before it has an id: SQS gives that with the send.
    pub(crate) token: String,
    /// The job, where it is not the one with the message's own id. That alone
    /// says nothing: ids are in logs and answers, and whoever may send can name one.
    pub(crate) id: Option<JobId>,
    /// What the job's record has been given with its first message, and only
    /// those know who have read one of the two.
    pub(crate) proof: String,
    pub(crate) submitted_at: Timestamp,
    /// Not to be claimed before.
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) spec: JobSpec,
    /// The item that says which job has the idempotency key.
    pub(crate) key: Option<String>,
    /// Puts the job back to work if it ended so.
    pub(crate) redrive: Option<Ending>,
    /// In a dead-letter queue, which several queues may share: where it is from, as SQS calls that.
    pub(crate) queue: Option<String>,
    /// The queue of the store in which it is to wait, where it is sent to another one.
    pub(crate) bound_for: Option<QueueName>,
    pub(crate) body: Body,
}

/// One of the ends that a job has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) attempt: u32,
    /// A job that was redriven may end with the same attempt once more.
    pub(crate) at: Timestamp,
}

/// A message that is no job.
#[derive(Debug)]
pub(crate) struct Poison {
    /// Why not.
    pub(crate) reason: String,
    /// It is of a later version of Haulage, whose consumers know what it is.
    pub(crate) is_newer: bool,
    /// It asks for nothing, and is a test of whoever sends.
    pub(crate) is_nothing: bool,
    /// What can be said about it all the same.
    pub(crate) envelope: Envelope,
    /// The message as it is, for somebody to look at.
    pub(crate) body: String,
    pub(crate) options: Option<String>,
    /// Its plain attributes.
    pub(crate) plain: HashMap<String, String>,
}

/// The attribute's JSON; what is a default is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    v: u8,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<JobId>,
    /// Nothing is the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    submitted_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(flatten)]
    spec: JobSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redrive: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// How the message's body is encoded; nothing is plain JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
    /// Where the body is besides; nothing is "in the record".
    #[serde(skip_serializing_if = "Option::is_none")]
    body_at: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    /// JSON with characters that SQS refuses, in Base64.
    Base64,
    /// Compressed, in Base64.
    Zstd,
    /// The body is an object of the bucket; the message holds its address.
    Object,
}

impl Envelope {
    /// For a job that is being submitted.
    pub(crate) fn new(job: &NewJob, config: &Config, now: Timestamp) -> Result<Self> {
        let token = random::token();
        let days = keep_days(job.delay, job.spec.result_ttl);
        let object = |name: &str| object_key(days, config.queue_name(), &token, name);
        let envelope = Self {
            id: None,
            submitted_at: now,
            not_before: (!job.delay.is_zero()).then(|| now.after(job.delay)),
            spec: job.spec.clone(),
            key: job.idempotency_key.as_deref().map(|key| key_item(config, key)),
            redrive: None,
            queue: None,
            bound_for: None,
            body: Body::place(&job.body, config, &token, object),
            proof: token.clone(),
            token,
        };
        let size = envelope.options().len();
        if size > MAX_OPTIONS {
            return Err(Error::Invalid(format!(
                "request id, group and metadata take {size} bytes together, and {MAX_OPTIONS} are allowed on AWS"
            )));
        }
        Ok(envelope)
    }

    pub(crate) fn due_at(&self) -> Timestamp {
        self.not_before.unwrap_or(self.submitted_at)
    }

    fn encoding(&self) -> Option<Encoding> {
        match (&self.body.place, &self.body.packed) {
            (Place::Object(_), _) => Some(Encoding::Object),
            (_, Some(Packed::Zstd(_))) => Some(Encoding::Zstd),
            (_, Some(Packed::Plain(json))) if !json.as_str().chars().all(is_allowed) => {
                Some(Encoding::Base64)
            }
            _ => None,
        }
    }

    /// The text of the message attribute.
    pub(crate) fn options(&self) -> String {
        // The queue that a message is in says it.
        let mut spec = self.spec.clone();
        spec.queue = QueueName::default();
        let wire = Wire {
            v: 1,
            token: self.token.clone(),
            id: self.id.clone(),
            proof: (self.proof != self.token).then(|| self.proof.clone()),
            submitted_at: self.submitted_at.as_micros(),
            not_before: self.not_before.map(Timestamp::as_micros),
            spec,
            key: self.key.clone(),
            redrive: self.redrive.map(|ending| ending.attempt),
            ended_at: self.redrive.map(|ending| ending.at.as_micros()),
            queue: self.queue.clone(),
            encoding: self.encoding(),
            body_at: self.body.place.to_text(),
        };
        // Control characters are escaped already; these two SQS refuses as well.
        let json = serde_json::to_string(&wire).expect("strings and numbers");
        json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    }

    /// The text of the message body.
    pub(crate) fn message_body(&self) -> String {
        match (self.encoding(), &self.body.packed, &self.body.place) {
            (Some(Encoding::Object), _, Place::Object(key)) => format!("\"s3:{key}\""),
            (None, Some(Packed::Plain(json)), _) => json.as_str().to_owned(),
            (_, Some(packed), _) => STANDARD.encode(packed.bytes()),
            (_, None, _) => "null".to_owned(),
        }
    }

    /// What a message says that was received for this store, in this queue of it.
    pub(crate) fn read(
        message: &Message,
        config: &Config,
        queue: &QueueName,
    ) -> std::result::Result<Self, Box<Poison>> {
        let (store, body) = (config.queue_name(), message.body().unwrap_or_default());
        let attribute = message.message_attributes().and_then(|all| all.get(ATTRIBUTE));
        let options = attribute.and_then(MessageAttributeValue::string_value);
        let sent = system(message, &MessageSystemAttributeName::SentTimestamp)
            .filter(|millis| *millis >= 0)
            .map(|millis| Timestamp::from_micros(millis.saturating_mul(1000)));
        let id = message.message_id().unwrap_or_default();

        let (wire, mistake) = match options.map(serde_json::from_str::<Wire>) {
            Some(Ok(wire)) if wire.v > 1 => {
                let of = wire.v;
                (
                    wire,
                    Some(format!("it has format {of}, of a later version of Haulage; update this consumer")),
                )
            }
            Some(Ok(wire)) => (wire, None),
            Some(Err(e)) => {
                (Wire::default(), Some(format!("the message attribute `{ATTRIBUTE}` is broken: {e}")))
            }
            // Somebody else's message: its body is a job with all defaults.
            None => (Wire::default(), None),
        };
        let is_newer = wire.v > 1;
        let (wire, place, mistake) = match wire.check(store, sent) {
            Ok(place) => (wire, place, mistake),
            // Nothing of it may reach a record or a key.
            Err(why) => {
                let bare = Wire { encoding: wire.encoding, ..Wire::default() };
                (
                    bare,
                    Place::Record,
                    mistake.or(Some(format!("the message attribute `{ATTRIBUTE}` is refused: {why}"))),
                )
            }
        };
        let foreign = wire.token.is_empty();
        let mut envelope = Self {
            // What others send has an id that everybody may know.
            proof: match wire.proof {
                Some(proof) => proof,
                None if foreign => random::token(),
                None => wire.token.clone(),
            },
            token: if foreign { id.to_owned() } else { wire.token },
            id: wire.id,
            submitted_at: if foreign {
                sent.unwrap_or(Timestamp::from_micros(0))
            } else {
                Timestamp::from_micros(wire.submitted_at)
            },
            not_before: wire.not_before.map(Timestamp::from_micros),
            spec: wire.spec,
            key: wire.key,
            redrive: wire
                .redrive
                .map(|attempt| Ending { attempt, at: Timestamp::from_micros(wire.ended_at.unwrap_or(0)) }),
            queue: wire.queue,
            bound_for: None,
            body: Body { packed: None, place },
        };
        // What another program has sent; unless it says how to read it, as we do.
        let is_raw = foreign && mistake.is_none() && wire.encoding.is_none();
        let (mut raw, mut is_nothing) = (None, false);
        let mut mistake = mistake;
        if is_raw {
            match raw::read(message, envelope.spec.clone(), config) {
                Ok(Raw::Job { job, queue: bound_for }) => {
                    if !job.delay.is_zero() {
                        envelope.not_before = Some(envelope.submitted_at.after(job.delay));
                    }
                    envelope.key =
                        job.idempotency_key.as_deref().map(|key| key_item(config, key)).or(envelope.key);
                    envelope.spec = job.spec;
                    envelope.bound_for = bound_for.filter(|bound_for| bound_for != queue);
                    raw = Some(job.body);
                }
                Ok(Raw::Nothing) => is_nothing = true,
                Err(why) => {
                    // Whoever waits for the job by what its metadata says is told of the mistake.
                    envelope.spec.metadata = raw::metadata(message);
                    mistake = Some(why);
                }
            }
        }
        if foreign && envelope.spec.group.is_none() {
            // What others send is in a group of SQS, which is kept in order.
            let group = system_text(message, &MessageSystemAttributeName::MessageGroupId);
            envelope.spec.group = group.map(str::to_owned);
        }
        // Submits check them; others may write what no record can hold.
        let refused = envelope.spec.validate().err();
        if refused.is_some() {
            envelope.spec = JobSpec::default();
        }
        envelope.spec.queue = queue.clone();
        let mistake =
            mistake.or_else(|| Some(format!("the message attribute `{ATTRIBUTE}` is refused: {}", refused?)));
        let packed = match (mistake, wire.encoding) {
            (Some(mistake), _) => Err(mistake),
            (None, Some(Encoding::Object)) => Ok(None),
            (None, Some(encoding)) => STANDARD
                .decode(body)
                .map_err(|e| e.to_string())
                .and_then(|bytes| {
                    Packed::from_bytes(bytes, matches!(encoding, Encoding::Zstd)).map_err(|e| e.to_string())
                })
                .map(Some)
                .map_err(|e| format!("the message's body is broken: {e}")),
            (None, None) if is_nothing => Err("it is a test of whoever sends".to_owned()),
            (None, None) => Ok(Some(Packed::Plain(raw.take().unwrap_or_else(|| Json::from_stored(body))))),
        };
        let poison = |reason, envelope| {
            let (body, options) = (body.to_owned(), options.map(str::to_owned));
            let plain = raw::attributes(message);
            Err(Box::new(Poison { reason, is_newer, is_nothing, envelope, body, options, plain }))
        };
        match packed {
            Ok(packed) => {
                if foreign && envelope.id.is_none() && packed.as_ref().is_some_and(|p| p.size() > 512) {
                    envelope.body.place = beside_record(config, &envelope.proof);
                }
                envelope.body.packed = packed;
                Ok(envelope)
            }
            Err(reason) => poison(reason, envelope),
        }
    }

    /// The same for a job whose record keeps this proof. Of what others send, each reader
    /// draws a proof, and names a large body by it; there it lies under the first one.
    pub(crate) fn speaking_for(&self, id: JobId, proof: String) -> Self {
        let mut same = Self { id: Some(id), proof, ..self.clone() };
        let key = body_item(&self.proof);
        match &self.body.place {
            Place::Item(at) if *at == key => same.body.place = Place::Item(body_item(&same.proof)),
            Place::Message(at) if *at == key => same.body.place = Place::Message(body_item(&same.proof)),
            _ => {}
        }
        same
    }

    /// The SQS group, in which messages are kept in order: that of the job, or
    /// one that it has for itself. SQS takes it, whatever a message called it.
    pub(crate) fn sqs_group(&self) -> String {
        let group = self.spec.group.as_ref().unwrap_or(&self.token);
        // Amazon SQS API Reference, SendMessage: 128 alphanumeric characters and punctuation.
        if (1..=128).contains(&group.len()) && group.chars().all(|c| c.is_ascii_graphic()) {
            return group.clone();
        }
        hash(group)
    }
}

/// How much later than its message a job may say that it was submitted, as
/// clocks differ.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

impl Wire {
    /// Whether what it names can be its own, and where its body is. What is
    /// refused here would be a key, a place or a moment that no submit has written.
    fn check(&self, store: &str, sent: Option<Timestamp>) -> std::result::Result<Place, String> {
        // Without a token, it is somebody else's message.
        let token = Some(&self.token).filter(|token| !token.is_empty());
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
        let Some(text) = &self.body_at else { return Ok(Place::Record) };
        let own = [token, self.proof.as_ref()];
        let own = |place: &Place| own.into_iter().flatten().any(|token| place.is_of(store, token));
        Place::from_text(text).filter(own).ok_or_else(|| "its body is at a place that is not its own".into())
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

/// A number among the attributes that SQS adds to a message.
pub(crate) fn system(message: &Message, name: &MessageSystemAttributeName) -> Option<i64> {
    system_text(message, name)?.parse().ok()
}

/// The same for any of them.
pub(crate) fn system_text<'a>(message: &'a Message, name: &MessageSystemAttributeName) -> Option<&'a str> {
    message.attributes()?.get(name).map(String::as_str)
}

/// The key of the item that says which job has an idempotency key.
fn key_item(config: &Config, key: &str) -> String {
    format!("key#{}#{}", config.queue_name(), hash(key))
}

/// The key of the item that says which of several messages with one token is the job.
pub(crate) fn token_item(token: &str) -> String {
    format!("token#{token}")
}

pub(crate) fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether SQS takes this character (API Reference, SendMessage, MessageBody).
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The attributes of a message, as a send takes them.
pub(crate) fn attributes(envelope: &Envelope) -> HashMap<String, MessageAttributeValue> {
    let value = MessageAttributeValue::builder().data_type("String").string_value(envelope.options()).build();
    value.map(|value| HashMap::from([(ATTRIBUTE.to_owned(), value)])).unwrap_or_default()
}

#[cfg(test)]
mod tests;
