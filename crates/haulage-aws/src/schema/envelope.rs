//! What a message of the queue says: which job it is for.
//!
//! The record decides what becomes of a job; a message is an envelope that lets a
//! consumer look. Its body is the job's body, so that people can read it and
//! other programs can write it; the options are in one message attribute.

use std::collections::HashMap;

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use base64::{Engine, engine::general_purpose::STANDARD};
use haulage::{Error, JobId, JobSpec, Json, NewJob, QueueName, Result, Timestamp};
use sha2::{Digest, Sha256};

use crate::{
    config::Config,
    random,
    schema::{
        body::{Body, DocumentPlace, Packed, beside_record, body_key},
        object_retention::{keep_days, object_key},
        raw::{self, Raw},
        wire::{ATTRIBUTE, Encoding, Wire},
    },
};

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
    pub(crate) came_from: Option<String>,
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

/// What a message has in its body.
enum Content {
    /// The body of a job; nothing where the attribute says where it is.
    Job(Option<Packed>),
    /// Nothing to do.
    Nothing,
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
            came_from: None,
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
            (DocumentPlace::Object(_), _) => Some(Encoding::Object),
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
            queue: self.came_from.clone(),
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
            (Some(Encoding::Object), _, DocumentPlace::Object(key)) => format!("\"s3:{key}\""),
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
        let text = message.body().unwrap_or_default();
        let attribute = message.message_attributes().and_then(|all| all.get(ATTRIBUTE));
        let options = attribute.and_then(MessageAttributeValue::string_value);
        let sent = system(message, &MessageSystemAttributeName::SentTimestamp)
            .filter(|millis| *millis >= 0)
            .map(|millis| Timestamp::from_micros(millis.saturating_mul(1000)));

        let (wire, place, mistake) = Wire::read(options, config.queue_name(), sent);
        let (encoding, is_newer, is_foreign) = (wire.encoding, wire.is_newer(), wire.is_foreign());
        let mut envelope = Self::written(wire, place, message.message_id().unwrap_or_default(), sent);
        let content = match (mistake, encoding) {
            (Some(mistake), _) => Err(mistake),
            (None, Some(encoding)) => encoding.decode(text).map(Content::Job),
            // What another program has sent; unless it says how to read it, as we do.
            (None, None) if is_foreign => envelope.take_raw(message, config, queue),
            (None, None) => Ok(Content::Job(Some(Packed::Plain(Json::from_stored(text))))),
        };
        if is_foreign && envelope.spec.group.is_none() {
            // What others send is in a group of SQS, which is kept in order.
            let group = system_text(message, &MessageSystemAttributeName::MessageGroupId);
            envelope.spec.group = group.map(str::to_owned);
        }
        // Submits check them; others may write what no record can hold.
        let content = match envelope.spec.validate() {
            Ok(()) => content,
            Err(why) => {
                envelope.spec = JobSpec::default();
                content.and(Err(format!("the message attribute `{ATTRIBUTE}` is refused: {why}")))
            }
        };
        envelope.spec.queue = queue.clone();
        let (reason, is_nothing) = match content {
            Ok(Content::Job(packed)) => {
                let is_large = packed.as_ref().is_some_and(|packed| packed.size() > 512);
                if is_foreign && envelope.id.is_none() && is_large {
                    envelope.body.place = beside_record(config, &envelope.proof);
                }
                envelope.body.packed = packed;
                return Ok(envelope);
            }
            Ok(Content::Nothing) => ("it is a test of whoever sends".to_owned(), true),
            Err(reason) => (reason, false),
        };
        let (body, options) = (text.to_owned(), options.map(str::to_owned));
        let plain = raw::attributes(message);
        Err(Box::new(Poison { reason, is_newer, is_nothing, envelope, body, options, plain }))
    }

    /// What the attribute says, of the message with this id.
    fn written(wire: Wire, place: DocumentPlace, id: &str, sent: Option<Timestamp>) -> Self {
        let micros = Timestamp::from_micros;
        let is_foreign = wire.is_foreign();
        Self {
            // What others send has an id that everybody may know.
            proof: match wire.proof {
                Some(proof) => proof,
                None if is_foreign => random::token(),
                None => wire.token.clone(),
            },
            token: if is_foreign { id.to_owned() } else { wire.token },
            id: wire.id,
            submitted_at: if is_foreign { sent.unwrap_or(micros(0)) } else { micros(wire.submitted_at) },
            not_before: wire.not_before.map(micros),
            spec: wire.spec,
            key: wire.key,
            redrive: wire.redrive.map(|attempt| Ending { attempt, at: micros(wire.ended_at.unwrap_or(0)) }),
            came_from: wire.queue,
            bound_for: None,
            body: Body { packed: None, place },
        }
    }

    /// Adds what a message of another program asks for, and gives its body.
    fn take_raw(
        &mut self,
        message: &Message,
        config: &Config,
        queue: &QueueName,
    ) -> std::result::Result<Content, String> {
        match raw::read(message, self.spec.clone(), config) {
            Ok(Raw::Job { job, queue: bound_for }) => {
                if !job.delay.is_zero() {
                    self.not_before = Some(self.submitted_at.after(job.delay));
                }
                if let Some(key) = &job.idempotency_key {
                    self.key = Some(key_item(config, key));
                }
                self.spec = job.spec;
                self.bound_for = bound_for.filter(|bound_for| bound_for != queue);
                Ok(Content::Job(Some(Packed::Plain(job.body))))
            }
            Ok(Raw::Nothing) => Ok(Content::Nothing),
            Err(why) => {
                // Whoever waits for the job by what its metadata says is told of the mistake.
                self.spec.metadata = raw::metadata(message);
                Err(why)
            }
        }
    }

    /// The same for a job whose record keeps this proof. Of what others send, each reader
    /// draws a proof, and names a large body by it; there it lies under the first one.
    pub(crate) fn speaking_for(&self, id: JobId, proof: String) -> Self {
        let mut same = Self { id: Some(id), proof, ..self.clone() };
        let key = body_key(&self.proof);
        match &self.body.place {
            DocumentPlace::Item(at) if *at == key => {
                same.body.place = DocumentPlace::Item(body_key(&same.proof));
            }
            DocumentPlace::Message(at) if *at == key => {
                same.body.place = DocumentPlace::Message(body_key(&same.proof));
            }
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
