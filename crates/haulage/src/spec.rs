//! What is fixed at submit, besides the body.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Unexpected, Visitor},
};

use crate::{Error, Metadata, NewJob, QueueName, Webhook, seconds};

/// What is fixed at submit, besides the body. It goes with the job wherever that
/// goes: [`NewJob`], [`Claimed`](crate::backend::Claimed) and
/// [`Record`](crate::Record) have all of it.
///
/// As JSON it has what is not the default, and times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct JobSpec {
    /// See [`NewJob::queue`].
    #[serde(skip_serializing_if = "QueueName::is_default")]
    pub queue: QueueName,
    /// See [`NewJob::task`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// See [`NewJob::request_id`]. Of a claim and a record, it is the job's id where
    /// the caller gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// See [`NewJob::group`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// See [`NewJob::max_attempts`].
    #[serde(deserialize_with = "attempts", skip_serializing_if = "is_default_attempts")]
    pub max_attempts: u32,
    /// See [`NewJob::timeout`].
    #[serde(with = "seconds::option", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// See [`NewJob::start_within`].
    #[serde(with = "seconds::option", skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Duration>,
    /// See [`NewJob::result_ttl`].
    #[serde(with = "seconds", skip_serializing_if = "is_default_ttl")]
    pub result_ttl: Duration,
    /// See [`NewJob::drop_body`].
    #[serde(skip_serializing_if = "is_false")]
    pub drop_body: bool,
    /// See [`NewJob::metadata`].
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// See [`NewJob::webhook`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// Reads a whole number, also where it is written like `3.0`, as some languages do with all numbers.
fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from 1 to {}", u32::MAX)
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u32, E> {
            u32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u32, E> {
            u32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<u32, E> {
            let whole = number as u32;
            match f64::from(whole) == number {
                true => Ok(whole),
                false => Err(E::invalid_value(Unexpected::Float(number), &self)),
            }
        }
    }

    deserializer.deserialize_any(Whole)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
const fn is_default_attempts(attempts: &u32) -> bool {
    *attempts == NewJob::DEFAULT_MAX_ATTEMPTS
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
pub(crate) const fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_default_ttl(ttl: &Duration) -> bool {
    *ttl == NewJob::DEFAULT_RESULT_TTL
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            queue: QueueName::default(),
            task: None,
            request_id: None,
            group: None,
            max_attempts: NewJob::DEFAULT_MAX_ATTEMPTS,
            timeout: None,
            start_within: None,
            result_ttl: NewJob::DEFAULT_RESULT_TTL,
            drop_body: false,
            metadata: Metadata::new(),
            webhook: None,
        }
    }
}

impl JobSpec {
    /// Whether nothing of it was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every option against its range.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] that names the option and its range.
    pub fn validate(&self) -> Result<(), Error> {
        if self.max_attempts == 0 {
            return Err(Error::Invalid("max_attempts is 0; a job needs 1 attempt at least".into()));
        }
        check_duration("timeout", self.timeout.unwrap_or_default())?;
        check_duration("start_within", self.start_within.unwrap_or_default())?;
        check_duration("result_ttl", self.result_ttl)?;
        for (name, limit) in [("timeout", self.timeout), ("start_within", self.start_within)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(Error::Invalid(format!("{name} is 0; leave it out for no limit")));
            }
        }
        check_name("task", self.task.as_deref())?;
        check_name("request_id", self.request_id.as_deref())?;
        check_name("group", self.group.as_deref())?;
        for (key, value) in &self.metadata {
            check_size("a metadata key", key, NewJob::MAX_LABEL_BYTES)?;
            check_size(&format!("metadata {key:?}"), value, NewJob::MAX_METADATA_BYTES)?;
        }
        self.webhook.as_ref().map_or(Ok(()), Webhook::validate)
    }
}

pub(crate) fn check_duration(name: &str, duration: Duration) -> Result<(), Error> {
    if duration > NewJob::MAX_DURATION {
        return Err(Error::Invalid(format!("{name} is longer than 366 days")));
    }
    Ok(())
}

pub(crate) fn check_name(name: &str, value: Option<&str>) -> Result<(), Error> {
    match value {
        Some("") => Err(Error::Invalid(format!("{name} is empty; leave it out instead"))),
        Some(value) => check_size(name, value, NewJob::MAX_LABEL_BYTES),
        None => Ok(()),
    }
}

pub(crate) fn check_size(name: &str, value: &str, limit: usize) -> Result<(), Error> {
    let size = value.len();
    if size > limit {
        return Err(Error::Invalid(format!("{name} has {size} bytes, and {limit} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json_it_has_what_is_not_the_default() {
        let spec = JobSpec::default();
        assert_eq!(serde_json::to_string(&spec).expect("JSON"), "{}");
        let spec = JobSpec {
            queue: "bulk".parse().expect("a name"),
            task: Some("embed".into()),
            request_id: Some("r-1".into()),
            group: Some("user-1".into()),
            max_attempts: 5,
            timeout: Some(Duration::from_secs(600)),
            start_within: Some(Duration::from_secs(60)),
            result_ttl: Duration::from_micros(1_500_001),
            drop_body: true,
            metadata: [("team".to_owned(), "vision".to_owned())].into(),
            webhook: Some(Webhook::new("https://a.example")),
        };
        let json = serde_json::to_string(&spec).expect("JSON");
        assert_eq!(
            json,
            r#"{"queue":"bulk","task":"embed","request_id":"r-1","group":"user-1","max_attempts":5,"timeout":600,"start_within":60,"result_ttl":1.500001,"drop_body":true,"metadata":{"team":"vision"},"webhook":{"url":"https://a.example","events":["ended"]}}"#
        );
        assert_eq!(serde_json::from_str::<JobSpec>(&json).expect("a spec"), spec);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for json in
            [r#"{"timeout":-1}"#, r#"{"timeout":"1"}"#, r#"{"result_ttl":1e40}"#, r#"{"result_ttl":null}"#]
        {
            assert!(serde_json::from_str::<JobSpec>(json).is_err(), "{json}");
        }
        let spec: JobSpec =
            serde_json::from_str(r#"{"timeout":"5m","start_within":"1h 30m","result_ttl":60}"#)
                .expect("a spec");
        assert_eq!(
            (spec.timeout, spec.start_within),
            (Some(Duration::from_secs(300)), Some(Duration::from_secs(5400)))
        );
        assert_eq!(spec.result_ttl, Duration::from_secs(60));
        let spec: JobSpec = serde_json::from_str(r#"{"max_attempts":5.0}"#).expect("a spec");
        assert_eq!(spec.max_attempts, 5);
        for json in [
            r#"{"max_attempts":1.5}"#,
            r#"{"max_attempts":-1}"#,
            r#"{"max_attempts":-1.0}"#,
            r#"{"max_attempts":4294967296}"#,
            r#"{"max_attempts":4294967296.0}"#,
            r#"{"max_attempts":"1"}"#,
        ] {
            let error = serde_json::from_str::<JobSpec>(json).expect_err(json).to_string();
            assert!(error.contains("expected a whole number from 1 to 4294967295"), "{error}");
        }
        let later = r#"{"timeout":null,"a_later_option":1}"#;
        assert!(serde_json::from_str::<JobSpec>(later).expect("a spec").is_default());
    }
}
