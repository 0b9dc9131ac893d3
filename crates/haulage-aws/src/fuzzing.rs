//! What has to hold for whatever others write: the properties that `fuzz` tries,
//! beside the private parsers that they are about. They panic where one does not hold.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use haulage::{JobId, QueueName, Timestamp};
use serde_json::Value;

use crate::{
    config::Config,
    protection,
    schema::{
        body::{DocumentPlace, Packed},
        envelope::{Envelope, Poison, attributes},
        item::{Row, submitted},
        update::Item,
        wire::ATTRIBUTE,
    },
    services::redrive_policy::RedrivePolicy,
};

/// A moment within the reach of what is tried.
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A message of SQS: its options up to the first line end, its body behind it.
/// Without options it is somebody else's message.
pub fn message(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (options, body) = text.split_once('\n').unwrap_or(("", &text));
    let builder = Message::builder().message_id("m-1").receipt_handle("r").body(body);
    let message = builder
        .attributes(MessageSystemAttributeName::SentTimestamp, body.trim())
        .set_message_attributes((!options.is_empty()).then(|| attribute(options)));
    match Envelope::read(&message.build(), &Config::new("jobs"), &QueueName::default()) {
        Ok(envelope) => {
            let again = rewritten(&envelope);
            assert_eq!(
                format!("{again:?}"),
                format!("{:?}", rewritten(&again)),
                "what was written reads back"
            );
            of_record(&envelope);
        }
        Err(poison) => {
            let Poison { reason, envelope, body: kept, options: kept_options, .. } = *poison;
            assert!(!reason.is_empty());
            assert_eq!(kept, body, "it is there to be looked at");
            assert_eq!(kept_options.unwrap_or_default(), options);
            of_record(&envelope);
        }
    }
}

fn attribute(options: &str) -> std::collections::HashMap<String, MessageAttributeValue> {
    let value = MessageAttributeValue::builder().data_type("String").string_value(options).build();
    std::collections::HashMap::from([(ATTRIBUTE.to_owned(), value.expect("a type"))])
}

/// The envelope after a way through the queue.
fn rewritten(envelope: &Envelope) -> Envelope {
    let message = Message::builder()
        .message_id("m-1")
        .body(envelope.message_body())
        .set_message_attributes(Some(attributes(envelope)));
    match Envelope::read(&message.build(), &Config::new("jobs"), &QueueName::default()) {
        Ok(envelope) => envelope,
        Err(poison) => panic!("what was written is refused: {}", poison.reason),
    }
}

/// The record that an envelope makes says what the envelope says.
fn of_record(envelope: &Envelope) {
    assert!((1..=128).contains(&envelope.sqs_group().len()), "SQS takes the group");
    let id = envelope.id.clone().unwrap_or_else(|| JobId::from("m-1"));
    let record = Row(submitted(&id, envelope, "jobs")).record(NOW).expect("a record");
    assert_eq!(record.id, id);
    let mut spec = envelope.spec.clone();
    spec.request_id.get_or_insert_with(|| id.to_string());
    assert_eq!(record.spec, spec);
    assert_eq!(record.due_at, Some(envelope.due_at()));
}

/// An item of the table, as a JSON object: texts, booleans and `null` are
/// those, an array of one text is a number of DynamoDB.
pub fn item(data: &[u8]) {
    let Ok(Value::Object(fields)) = serde_json::from_slice(data) else { return };
    let value = |value: Value| match value {
        Value::String(text) => AttributeValue::S(text),
        Value::Bool(is) => AttributeValue::Bool(is),
        Value::Null => AttributeValue::Null(true),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::Array(one) => AttributeValue::N(one.iter().filter_map(Value::as_str).collect()),
        Value::Object(_) => AttributeValue::M(Item::new()),
    };
    let item: Item = fields.into_iter().map(|(name, field)| (name, value(field))).collect();
    let Some(row) = Row::of(item) else { return };
    let record = row.record(NOW);
    assert_eq!(record.is_some(), row.status().is_some(), "a record has a status");
    if let Some(record) = record {
        assert!(record.error.is_none_or(|error| !error.kind.as_str().is_empty()));
    }
    let _ = (
        row.lapse(NOW),
        row.late(NOW),
        row.claimed_late(),
        row.past(),
        row.ending(),
        row.is_expired(NOW),
        row.result_ttl(),
    );
    let _ = crate::services::store::places(&row).count();
}

/// How large the documents of [`body`] may be, in bytes.
const MOST: usize = 1 << 20;

/// A stored document: compressed, and as it is.
pub fn body(data: &[u8]) {
    if let Ok(json) = Packed::Zstd(data.to_vec()).unpack(MOST) {
        assert!(json.size() <= MOST, "a document has a limit, however small it was packed");
    }
    if let Ok(packed) = Packed::from_bytes(data.to_vec(), false) {
        let attribute = packed.to_attribute();
        assert_eq!(Packed::from_attribute(&attribute).as_ref(), Some(&packed));
        assert_eq!(packed.unpack(data.len()).expect("it fits").as_str().as_bytes(), data);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(place) = DocumentPlace::from_text(text)
    {
        assert_eq!(place.to_text().as_deref(), Some(text));
    }
}

/// A URL of a queue, and of a table.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for read in [Config::from_url, Config::from_table_url] {
        match read(&text) {
            Ok(config) => {
                assert!(!config.table.is_empty());
                assert!(config.offload_above <= 256 << 10);
            }
            Err(haulage::Error::Config(message)) => assert!(!message.is_empty()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A queue's redrive policy.
pub fn redrive_policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(policy) = RedrivePolicy::parse(text) {
        assert!(policy.arn.ends_with(policy.queue_name()));
        assert!(policy.account().is_none_or(|account| policy.arn.contains(&account)));
    }
}

/// An answer of the ECS agent.
pub fn agent_answer(data: &[u8]) {
    for protect in [true, false] {
        if let Err(why) = protection::understood(data, protect, 200) {
            assert!(!why.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// The seeds, and each of them damaged in some hundred ways: what `make fuzz`
    /// does for longer, and knowing what is covered.
    fn try_seeds(name: &str, property: fn(&[u8])) {
        let mut random = fastrand::Rng::with_seed(1);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
        for seed in fs::read_dir(folder).expect("the seeds") {
            let seed = fs::read(seed.expect("a seed").path()).expect("a seed");
            property(&seed);
            for _ in 0..300 {
                let mut damaged = seed.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..=damaged.len());
                    match random.u8(..4) {
                        0 => damaged.truncate(at),
                        1 => damaged.insert(at, random.choice(*b"\"{}[]:,-019\\ \n\xff").expect("a byte")),
                        2 => {
                            if let Some(byte) = damaged.get_mut(at) {
                                *byte ^= 1 << random.u8(..8);
                            }
                        }
                        _ => {
                            let part = damaged[at / 2..at].to_vec();
                            damaged.splice(at..at, part);
                        }
                    }
                }
                property(&damaged);
            }
        }
    }

    #[test]
    fn whatever_others_wrote_is_read_or_refused() {
        try_seeds("message", super::message);
        try_seeds("item", super::item);
        try_seeds("body", super::body);
        try_seeds("url", super::url);
        try_seeds("redrive_policy", super::redrive_policy);
        try_seeds("agent_answer", super::agent_answer);
    }
}
