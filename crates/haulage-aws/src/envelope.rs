//! What a message of the queue says: which job it is for.
//!
//! The record decides what becomes of a job; a message is an envelope that lets a
//! consumer look. Its body is the job's body, so that people can read it and
//! other programs can write it; the options are in one message attribute.

use std::collections::HashMap;

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use base64::{Engine, engine::general_purpose::STANDARD};
use haulage::{Error, JobId, JobSpec, Json, NewJob, Result, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    body::{Body, Packed, Place},
    config::Config,
    object_retention::{keep_days, object_key},
    update::nonce,
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
    /// The job, where it is not the one with the message's own id.
    pub(crate) id: Option<JobId>,
    pub(crate) submitted_at: Timestamp,
    /// Not to be claimed before.
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) spec: JobSpec,
    /// The item that says which job has the idempotency key.
    pub(crate) key: Option<String>,
    /// Puts the job back to work if it ended so.
    pub(crate) redrive: Option<Ending>,
    /// In a dead-letter queue, which several queues may share: where it is from.
    pub(crate) queue: Option<String>,
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
    /// What can be said about it all the same.
    pub(crate) envelope: Envelope,
    /// The message as it is, for somebody to look at.
    pub(crate) body: String,
    pub(crate) options: Option<String>,
}

/// The attribute's JSON; what is a default is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    v: u8,
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<JobId>,
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
        let token = nonce() + &nonce();
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
            body: Body::place(&job.body, config, &token, object),
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
        let wire = Wire {
            v: 1,
            token: self.token.clone(),
            id: self.id.clone(),
            submitted_at: self.submitted_at.as_micros(),
            not_before: self.not_before.map(Timestamp::as_micros),
            spec: self.spec.clone(),
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

    /// What a received message says.
    pub(crate) fn read(message: &Message) -> std::result::Result<Self, Box<Poison>> {
        let body = message.body().unwrap_or_default();
        let attribute = message.message_attributes().and_then(|all| all.get(ATTRIBUTE));
        let options = attribute.and_then(MessageAttributeValue::string_value);
        let sent = system(message, &MessageSystemAttributeName::SentTimestamp).unwrap_or(0);
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
        let foreign = wire.token.is_empty();
        let place = wire.body_at.as_deref().map_or(Some(Place::Record), Place::from_text);
        let mut envelope = Self {
            token: if foreign { id.to_owned() } else { wire.token },
            id: wire.id,
            submitted_at: Timestamp::from_micros(if foreign {
                sent.saturating_mul(1000)
            } else {
                wire.submitted_at
            }),
            not_before: wire.not_before.map(Timestamp::from_micros),
            spec: wire.spec,
            key: wire.key,
            redrive: wire
                .redrive
                .map(|attempt| Ending { attempt, at: Timestamp::from_micros(wire.ended_at.unwrap_or(0)) }),
            queue: wire.queue,
            body: Body { packed: None, place: place.clone().unwrap_or(Place::Record) },
        };
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
            (None, None) if foreign => Json::parse(body)
                .map(|json| Some(Packed::Plain(json)))
                .map_err(|e| format!("the message's body is not JSON: {e}")),
            (None, None) => Ok(Some(Packed::Plain(Json::from_stored(body)))),
        };
        let poison = |reason, envelope| {
            let (body, options) = (body.to_owned(), options.map(str::to_owned));
            Err(Box::new(Poison { reason, is_newer, envelope, body, options }))
        };
        match (packed, place) {
            (Ok(packed), Some(_)) => {
                if foreign && packed.as_ref().is_some_and(|p| p.size() > 512) {
                    envelope.body.place = Place::Item(format!("body#{}", envelope.token));
                }
                envelope.body.packed = packed;
                Ok(envelope)
            }
            (Err(reason), _) => poison(reason, envelope),
            (_, None) => poison("the message names an unknown place for its body".into(), envelope),
        }
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
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(envelope: &Envelope) -> Message {
        Message::builder()
            .message_id("m-1")
            .body(envelope.message_body())
            .set_message_attributes(Some(attributes(envelope)))
            .build()
    }

    fn round_trip(job: &NewJob, config: &Config) -> (Envelope, Envelope) {
        let envelope = Envelope::new(job, config, Timestamp::from_micros(1_000_000)).expect("an envelope");
        assert!(
            envelope.options().chars().all(is_allowed) && envelope.message_body().chars().all(is_allowed)
        );
        let read = Envelope::read(&message(&envelope)).expect("no poison");
        (envelope, read)
    }

    #[test]
    fn everything_comes_back() {
        let job = NewJob::from_json(Json::parse("[\"\u{ffff}\"]").expect("JSON"))
            .request_id("r \u{ffff}\u{1}")
            .group("g '1'")
            .delay(Duration::from_secs(3))
            .max_attempts(9)
            .timeout(Duration::from_millis(1500))
            .result_ttl(Duration::ZERO)
            .metadata("ключ", "値\n🚲\u{fffe}")
            .idempotency_key("k");
        let (sent, read) = round_trip(&job, &Config::new("jobs.fifo"));
        assert_eq!(format!("{sent:?}"), format!("{read:?}"));
        assert_eq!(read.body.packed.expect("a body").unpack(100).expect("JSON"), job.body);
        assert_eq!(sent.sqs_group().len(), 64);
    }

    #[test]
    fn the_default_is_small_and_readable() {
        let job = NewJob::from_json(Json::parse("{\"number\": 4}").expect("JSON"));
        let (sent, read) = round_trip(&job, &Config::new("jobs"));
        assert_eq!(sent.message_body(), "{\"number\": 4}");
        assert!(sent.options().len() < 100, "{}", sent.options());
        assert_eq!(format!("{sent:?}"), format!("{read:?}"));
    }

    #[test]
    fn objects_are_named_by_address() {
        let mut config = Config::new("jobs.fifo");
        config.bucket = Some("payloads".into());
        let job = NewJob::from_json(Json::from_stored(format!("\"{}\"", "x".repeat(40_000))));
        let envelope = Envelope::new(&job, &config, Timestamp::from_micros(0)).expect("an envelope");
        assert!(
            envelope.message_body().starts_with("\"s3:haulage/45d/jobs.fifo/"),
            "{}",
            envelope.message_body()
        );
        let read = Envelope::read(&message(&envelope)).expect("no poison");
        assert_eq!((read.body.packed, read.body.place), (None, envelope.body.place));
    }

    #[test]
    fn other_messages_are_jobs_if_they_are_json() {
        let plain = |body: &str| Message::builder().message_id("m-2").body(body).build();
        let envelope = Envelope::read(&plain("{\"a\":1}")).expect("a job");
        assert_eq!((envelope.token.as_str(), envelope.spec.max_attempts), ("m-2", 3));
        let poison = Envelope::read(&plain("hello")).expect_err("no job");
        assert!(poison.reason.contains("not JSON"), "{}", poison.reason);
    }

    fn with_options(options: &serde_json::Value) -> Message {
        let value = MessageAttributeValue::builder().data_type("String").string_value(options.to_string());
        let message = Message::builder().message_id("m-3").body("1");
        message.message_attributes(ATTRIBUTE, value.build().expect("a type")).build()
    }

    #[test]
    fn options_that_no_submit_takes_make_a_message_no_job() {
        for (option, value, why) in [
            ("result_ttl", serde_json::json!(1e18), "result_ttl is longer than 366 days"),
            ("timeout", serde_json::json!(0), "timeout is 0"),
            ("max_attempts", serde_json::json!(0), "max_attempts is 0"),
            ("group", serde_json::json!(""), "group is empty"),
        ] {
            let message = with_options(&serde_json::json!({ "v": 1, "token": "t", option: value }));
            let poison = Envelope::read(&message).expect_err("no job");
            assert!(poison.reason.contains(why), "{}", poison.reason);
            assert!(poison.envelope.spec.is_default(), "a record can hold it");
            let later = with_options(&serde_json::json!({ "v": 2, "token": "t", option: value }));
            let poison = Envelope::read(&later).expect_err("no job of ours");
            assert!(poison.is_newer && poison.envelope.spec.is_default());
        }
    }

    /// Or no message could be sent in place of one with an odd token or group.
    #[test]
    fn sqs_takes_the_group_of_any_message() {
        let long = "x".repeat(129);
        for (token, group) in
            [("t", Some("🚲")), ("t", Some("g 1")), ("a b", None), (&long, None), ("t", Some(&long))]
        {
            let message = with_options(&serde_json::json!({ "v": 1, "token": token, "group": group }));
            let group = Envelope::read(&message).expect("a job").sqs_group();
            assert!(
                (1..=128).contains(&group.len()) && group.chars().all(|c| c.is_ascii_graphic()),
                "{group}"
            );
        }
    }

    #[test]
    fn too_many_labels_are_refused() {
        let mut job = NewJob::from_json(Json::from_stored("1"));
        for n in 0..40 {
            job = job.metadata(format!("k{n}"), "x".repeat(1000));
        }
        let error =
            Envelope::new(&job, &Config::new("jobs"), Timestamp::from_micros(0)).expect_err("too much");
        assert!(error.to_string().contains("32768"), "{error}");
    }
}
