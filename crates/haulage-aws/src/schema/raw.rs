//! Messages of other programs: a body, and what there is to say of it in plain attributes.
//!
//! Whoever may send can write anything there: it is held to what a submit takes.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::Message;
use haulage::{JobSpec, Json, Metadata, NewJob, QueueName};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Config, RawBodies, duration};

/// With what the names of these attributes begin.
pub(crate) const PREFIX: &str = "haulage.";

/// With what those begin that are entries of the job's metadata.
const METADATA: &str = "haulage.metadata.";

/// What another program asks for.
#[derive(Debug)]
pub(crate) enum Raw {
    Job {
        job: Box<NewJob>,
        /// The queue in which it is to wait, where that is not the one that it is in.
        queue: Option<QueueName>,
    },
    /// Nothing: it is a test of whoever sends.
    Nothing,
}

/// The plain attributes of a message, by their whole names.
pub(crate) fn attributes(message: &Message) -> HashMap<String, String> {
    let all = message.message_attributes().into_iter().flatten();
    all.filter(|(name, _)| name.starts_with(PREFIX))
        .filter_map(|(name, value)| Some((name.clone(), value.string_value()?.to_owned())))
        .collect()
}

/// The metadata in the attributes of a message, also where the rest of it is no job.
pub(crate) fn metadata(message: &Message) -> Metadata {
    let all = attributes(message).into_iter();
    all.filter_map(|(name, value)| Some((name.strip_prefix(METADATA)?.to_owned(), value))).collect()
}

/// What a message asks for that has these options besides; or why it is no job.
pub(crate) fn read(message: &Message, spec: JobSpec, config: &Config) -> Result<Raw, String> {
    let mut body = message.body().unwrap_or_default().to_owned();
    let mut said = attributes(message);
    if config.unwrap.sns
        && let Ok(notification) = serde_json::from_str::<Notification>(&body)
        && notification.kind == "Notification"
    {
        let also = notification.attributes.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        said.extend(also.map(|(name, attribute)| (name, attribute.value)));
        body = notification.message;
    }
    let document = match s3_event(&body).filter(|_| config.unwrap.s3) {
        Some(Event::Object(object)) => {
            Json::parse(&object.to_string()).map_err(|e| format!("the event of S3 is broken: {e}"))?
        }
        Some(Event::Test) => return Ok(Raw::Nothing),
        None if config.raw_bodies == RawBodies::Text => {
            Json::encode(&body).map_err(|e| format!("the message's body is broken: {e}"))?
        }
        None => Json::parse(&body).map_err(|e| format!("the message's body is not JSON: {e}"))?,
    };
    let mut job = NewJob::from_json(document).spec(spec);
    let mut queue = None;
    for (name, value) in said {
        if let Some(key) = name.strip_prefix(METADATA) {
            job.spec.metadata.insert(key.to_owned(), value);
            continue;
        }
        let wrong = |what: &str| format!("the message attribute `{name}` is `{value}`, and should be {what}");
        match &name[PREFIX.len()..] {
            "delay" => {
                let seconds = value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
                let delay = seconds.or_else(|| duration("delay", &value).ok());
                job.delay = delay.ok_or_else(|| wrong("a number of seconds, or a time like 15m"))?;
            }
            "key" => job.idempotency_key = Some(value),
            "request_id" => job.spec.request_id = Some(value),
            "task" => job.spec.task = Some(value),
            "max_attempts" => {
                job.spec.max_attempts = value.parse().map_err(|_| wrong("a whole number from 1"))?;
            }
            "queue" => queue = Some(QueueName::new(&value).map_err(|e| e.to_string())?),
            // Of a later version, or a mistake that is better told than passed over.
            _ => {
                return Err(format!(
                    "the message attribute `{name}` is not known; there are {PREFIX}delay, key, request_id, \
                     max_attempts, queue, task and metadata.KEY"
                ));
            }
        }
    }
    job.validate().map_err(|e| format!("a message attribute is refused: {e}"))?;
    Ok(Raw::Job { job: Box::new(job), queue })
}

/// What SNS puts around a message that it does not deliver raw (Amazon SNS Developer
/// Guide, "Amazon SNS message formats").
#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "MessageAttributes", default)]
    attributes: HashMap<String, Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    #[serde(rename = "Value")]
    value: String,
}

enum Event {
    Object(Value),
    Test,
}

/// What S3 tells of an object, or of itself when it is set up (Amazon S3 User Guide,
/// "Event message structure"). One that tells of several objects is left as it is.
fn s3_event(body: &str) -> Option<Event> {
    let event: Value = serde_json::from_str(body).ok()?;
    if event.get("Event").is_some_and(|event| event == "s3:TestEvent") {
        return Some(Event::Test);
    }
    let [record] = event.get("Records")?.as_array()?.as_slice() else { return None };
    if record.get("eventSource")? != "aws:s3" {
        return None;
    }
    let object = record.pointer("/s3/object")?;
    // Keys are encoded as in forms.
    let key = haulage::url::decode(&object.get("key")?.as_str()?.replace('+', " ")).ok()?;
    let mut told = json!({
        "event": record.get("eventName")?,
        "bucket": record.pointer("/s3/bucket/name")?,
        "key": key,
    });
    for (name, of) in [("size", "size"), ("etag", "eTag"), ("version_id", "versionId")] {
        if let Some(value) = object.get(of) {
            told[name] = value.clone();
        }
    }
    Some(Event::Object(told))
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::types::MessageAttributeValue;

    use super::*;

    fn message(body: &str, attributes: &[(&str, &str)]) -> Message {
        let mut message = Message::builder().message_id("m-1").body(body);
        for (name, value) in attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(*value);
            message = message.message_attributes(*name, value.build().expect("a type"));
        }
        message.build()
    }

    fn read_as(url: &str, body: &str, attributes: &[(&str, &str)]) -> Result<Raw, String> {
        let config = Config::from_url(url).expect("a URL");
        read(&message(body, attributes), JobSpec::default(), &config)
    }

    fn body_of(raw: Result<Raw, String>) -> String {
        match raw.expect("a job") {
            Raw::Job { job, .. } => job.body.as_str().to_owned(),
            Raw::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn plain_attributes_are_options() {
        let said = [
            ("haulage.delay", "90"),
            ("haulage.key", "order-7"),
            ("haulage.request_id", "r-7"),
            ("haulage.max_attempts", "5"),
            ("haulage.queue", "bulk"),
            ("haulage.task", "embed"),
            ("haulage.metadata.user", "anna"),
            ("haulage.metadata.task_token", "AQCI..."),
            ("another", "thing"),
        ];
        let raw = read_as("sqs://jobs.fifo", "[1]", &said).expect("a job");
        let Raw::Job { job, queue } = raw else { panic!("{raw:?}") };
        let expected = NewJob::from_json(Json::from_stored("[1]"))
            .delay(Duration::from_secs(90))
            .idempotency_key("order-7")
            .request_id("r-7")
            .max_attempts(5)
            .task("embed")
            .metadata("user", "anna")
            .metadata("task_token", "AQCI...");
        assert_eq!((*job, queue), (expected, Some(QueueName::new("bulk").expect("a name"))));
        for (text, delay) in [("0.5", 500), ("2m", 120_000)] {
            let raw = read_as("sqs://jobs", "1", &[("haulage.delay", text)]).expect("a job");
            let Raw::Job { job, .. } = raw else { panic!("{raw:?}") };
            assert_eq!(job.delay, Duration::from_millis(delay));
        }
    }

    #[test]
    fn what_no_submit_takes_is_refused_with_the_attribute() {
        let long = "x".repeat(1025);
        for (name, value, why) in [
            ("haulage.delay", "soon", "`haulage.delay` is `soon`, and should be a number of seconds"),
            ("haulage.delay", "-1", "should be a number of seconds"),
            ("haulage.delay", "1e300", "should be a number of seconds"),
            ("haulage.delay", "400d", "delay is longer than 366 days"),
            ("haulage.max_attempts", "0", "max_attempts is 0"),
            ("haulage.max_attempts", "3.5", "a whole number from 1"),
            ("haulage.key", "", "idempotency_key is empty"),
            ("haulage.request_id", long.as_str(), "request_id"),
            ("haulage.task", "", "task is empty"),
            ("haulage.metadata.user", "x".repeat(2049).as_str(), "metadata \"user\" has 2049 bytes"),
            ("haulage.queue", "two words", "is not the name of a queue"),
            ("haulage.dealy", "1", "`haulage.dealy` is not known; there are haulage.delay, key"),
        ] {
            let error = read_as("sqs://jobs", "1", &[(name, value)]).expect_err(name);
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn text_is_a_job_where_that_is_asked_for() {
        assert!(read_as("sqs://jobs", "hello", &[]).expect_err("no job").contains("is not JSON"));
        let text = |body| body_of(read_as("sqs://jobs?raw_bodies=text", body, &[]));
        assert_eq!((text("hello"), text("[1]")), ("\"hello\"".into(), "\"[1]\"".into()), "always text");
    }

    #[test]
    fn what_sns_and_s3_put_around_is_taken_off_where_that_is_asked_for() {
        let notification = json!({
            "Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:eu-central-1:1:t",
            "Message": "{\"n\": 1}",
            "MessageAttributes": {
                "haulage.request_id": { "Type": "String", "Value": "r-1" },
                "other": { "Type": "String", "Value": "x" },
            },
        })
        .to_string();
        let raw = read_as("sqs://jobs?unwrap=sns", &notification, &[]).expect("a job");
        let Raw::Job { job, .. } = raw else { panic!("{raw:?}") };
        assert_eq!((job.body.as_str(), job.spec.request_id.as_deref()), ("{\"n\": 1}", Some("r-1")));
        assert_eq!(body_of(read_as("sqs://jobs", &notification, &[])), notification, "as it is");

        let record = json!({
            "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": { "name": "in" },
                "object": { "key": "a+b%2Fc%C3%A4.png", "size": 7, "eTag": "e", "sequencer": "0" },
            },
        });
        let event = json!({ "Records": [record] }).to_string();
        let told = body_of(read_as("sqs://jobs?unwrap=s3", &event, &[]));
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let expected = json!({ "event": "ObjectCreated:Put", "bucket": "in", "key": "a b/cä.png", "size": 7, "etag": "e" });
        assert_eq!(told, expected);
        let two = json!({ "Records": [record, record] }).to_string();
        assert_eq!(body_of(read_as("sqs://jobs?unwrap=s3", &two, &[])), two);
        let around = json!({ "Type": "Notification", "Message": event }).to_string();
        let both = body_of(read_as("sqs://jobs?unwrap=sns,s3", &around, &[]));
        assert_eq!(serde_json::from_str::<Value>(&both).expect("JSON"), expected);
        let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "in" }).to_string();
        assert_eq!(body_of(read_as("sqs://jobs?unwrap=s3", &test, &[])), "nothing");
    }
}
