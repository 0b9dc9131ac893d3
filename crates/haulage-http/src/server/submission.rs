//! A job, as it is sent to be submitted.

use std::{borrow::Cow, collections::HashSet, fmt, time::Duration};

use haulage::{Error, JobSpec, Json, NewJob};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor, value::MapDeserializer},
};
use serde_json::value::RawValue;

use super::{Api, keys::Identity, request::invalid, webhooks};
use crate::Problem;

/// How much more than its body a submission may have: its options.
pub(super) const OPTIONS: usize = 256 << 10;

const METADATA: &str = "metadata";
/// What a submission has that is no part of the spec.
const BODY: &str = "body";
const DELAY: &str = "delay";
pub(super) const KEY: &str = "idempotency_key";
const WINDOW: &str = "idempotency_window";
const NAMES: [&str; 4] = [BODY, DELAY, KEY, WINDOW];
/// The fields of a [`JobSpec`].
const SPEC: [&str; 11] = [
    "queue",
    "task",
    "request_id",
    "group",
    "max_attempts",
    "timeout",
    "start_within",
    "result_ttl",
    "drop_body",
    METADATA,
    "webhook",
];

/// A job, from what was sent for it.
pub(super) fn job(text: &[u8]) -> Result<NewJob, Problem> {
    fields(text).map_err(Problem::cut)
}

fn fields(text: &[u8]) -> Result<NewJob, Problem> {
    let Fields { fields, unknown } =
        serde_json::from_slice(text).map_err(|error| Problem::from(Error::from(error)))?;
    if let Some(name) = unknown {
        let names: Vec<_> = NAMES.into_iter().chain(SPEC).collect();
        return Err(invalid(&name, format!("there is no field {name:?}"))
            .remedy(format!("the fields are {}", names.join(", "))));
    }
    let mut job = None;
    let mut rest = Vec::new();
    for (name, value) in &fields {
        match &**name {
            BODY => job = Some(NewJob::from_json(Json::from_stored(value.get()))),
            METADATA => {
                serde_json::from_str::<Labels>(value.get())
                    .map_err(|error| invalid(name, format!("{name}: {}", without_place(&error))))?;
                rest.push((METADATA, *value));
            }
            DELAY | KEY | WINDOW => {}
            name => rest.push((name, *value)),
        }
    }
    let Some(mut job) = job else {
        return Err(invalid(BODY, "there is no body").remedy("give the job a body, null if it needs none"));
    };
    let spec = MapDeserializer::<_, serde_json::Error>::new(rest.iter().copied());
    job.spec = JobSpec::deserialize(spec).map_err(|error| {
        // Which of them it was.
        let wrong = rest.iter().find(|field| {
            JobSpec::deserialize(MapDeserializer::<_, serde_json::Error>::new(std::iter::once(**field)))
                .is_err()
        });
        let (name, _) = wrong.copied().unwrap_or(("spec", RawValue::NULL));
        invalid(name, format!("{name}: {}", without_place(&error)))
    })?;
    for (name, value) in &fields {
        let wrong = |error: serde_json::Error| invalid(name, format!("{name}: {}", without_place(&error)));
        match &**name {
            DELAY => job.delay = seconds(value).map_err(wrong)?,
            WINDOW => job.idempotency_window = seconds(value).map_err(wrong)?,
            KEY => job.idempotency_key = serde_json::from_str(value.get()).map_err(wrong)?,
            _ => {}
        }
    }
    Ok(job)
}

/// A time, in the forms that the times of a spec have.
fn seconds(value: &RawValue) -> Result<Duration, serde_json::Error> {
    let spec = MapDeserializer::<_, serde_json::Error>::new(std::iter::once(("result_ttl", value)));
    JobSpec::deserialize(spec).map(|spec| spec.result_ttl)
}

/// What is wrong with one value; the place would be one within it.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The fields of an object, as they are written. None may be given twice.
#[derive(Default)]
struct Fields<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The first that a job does not have. Of others nothing is kept: there may be any number.
    unknown: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the job's body, like {\"body\": …}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = Fields::default();
                while let Some(Name(name)) = map.next_key()? {
                    if !NAMES.iter().chain(&SPEC).any(|known| *known == name) {
                        map.next_value::<IgnoredAny>()?;
                        read.unknown.get_or_insert(name);
                        continue;
                    }
                    if read.fields.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(serde::de::Error::custom(format!("the field {name:?} is given twice")));
                    }
                    read.fields.push((name, map.next_value()?));
                }
                Ok(read)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

/// Labels of which none is given twice: in a map, the last one would count.
struct Labels;

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut names = HashSet::new();
                while let Some((Name(name), IgnoredAny)) = map.next_entry()? {
                    if let Some(name) = names.replace(name) {
                        return Err(serde::de::Error::custom(format!("the label {name:?} is given twice")));
                    }
                }
                Ok(Labels)
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Checks a job before it goes to the store.
pub(super) fn check(api: &Api, who: &Identity, job: &NewJob) -> Result<(), Problem> {
    job.validate().map_err(|error| named(&error))?;
    webhooks::check(api, job.spec.webhook.as_ref())?;
    api.capabilities().check_payload("body", &job.body)?;
    who.need_queues([&job.spec.queue])
}

/// What is said of a job for which there is no answer.
pub(super) fn no_answer() -> Error {
    Error::Unavailable { message: "the store did not answer for the job".into(), source: None }
}

/// The problem of an option that is out of its range: such messages begin with its name.
fn named(error: &Error) -> Problem {
    let problem = Problem::from(error);
    let field = SPEC.into_iter().chain([DELAY, KEY, WINDOW]).find(|field| problem.detail.starts_with(field));
    match field {
        Some(field) => problem.field(field),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_has_all_options_of_a_job_and_no_others() {
        let all = r#"{"body": {"b":1,"a":[ ]}, "queue": "bulk", "task": "embed", "request_id": "r-1",
            "group": "g", "max_attempts": 5, "timeout": "5m", "start_within": 60.5, "result_ttl": 3600,
            "drop_body": true, "metadata": {"team": "vision"}, "webhook": "https://a.example", "delay": "1s", "idempotency_key": "k",
            "idempotency_window": "1h"}"#;
        let job = job(all.as_bytes()).expect("a job");
        assert_eq!(job.body.as_str(), r#"{"b":1,"a":[ ]}"#);
        assert_eq!((job.spec.queue.as_str(), job.spec.timeout), ("bulk", Some(Duration::from_secs(300))));
        assert_eq!((job.delay, job.idempotency_window), (Duration::from_secs(1), Duration::from_secs(3600)));
        assert_eq!(job.idempotency_key.as_deref(), Some("k"));
        // Whoever adds an option adds it here.
        let written = serde_json::to_value(&job.spec).expect("JSON");
        let mut names: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut known = SPEC.to_vec();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
        let plain = self::job(br#"{"body":null}"#).expect("a job");
        assert!(plain.spec.is_default() && plain.body.as_str() == "null");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field, says) in [
            (r#"{"body":1,"que":"x"}"#, "que", "there is no field"),
            (r#"{"queue":"x"}"#, "body", "there is no body"),
            (r#"{"body":1,"queue":"two words"}"#, "queue", "is not the name of a queue"),
            (r#"{"body":1,"timeout":"soon"}"#, "timeout", "write it like"),
            (r#"{"body":1,"queue":"x","delay":-1}"#, "delay", "not a number of seconds"),
            (r#"{"body":1,"metadata":{"a":1}}"#, "metadata", "expected a string"),
            (r#"{"body":1,"max_attempts":"3"}"#, "max_attempts", "expected a whole number"),
            (
                r#"{"body":1,"webhook":{"url":"https://a.example","events":["end"]}}"#,
                "webhook",
                "expected one of `ended`",
            ),
        ] {
            let problem = job(text.as_bytes()).expect_err(text);
            assert_eq!(problem.field.as_deref(), Some(field), "{text}: {problem:?}");
            assert!(problem.detail.contains(says), "{text}: {problem:?}");
        }
        let twice = job(br#"{"body":1,"body":2}"#).expect_err("twice");
        assert!(twice.detail.contains("is given twice"), "{twice:?}");
        assert_eq!(job(b"[1]").expect_err("no object").name(), "invalid_json");
        let late = NewJob::new(&1).expect("JSON").max_attempts(0).validate().expect_err("refused");
        assert_eq!(named(&late).field.as_deref(), Some("max_attempts"));
    }

    #[test]
    fn any_number_of_unknown_fields_is_refused_in_no_time() {
        let many: String = (0..300_000).map(|n| format!("\"a{n}\":0,")).collect();
        let began = std::time::Instant::now();
        let refused = job(format!("{{{many}\"body\":1}}").as_bytes()).expect_err("refused");
        assert_eq!(refused.field.as_deref(), Some("a0"));
        // Each compared with all before it, they would take minutes.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
