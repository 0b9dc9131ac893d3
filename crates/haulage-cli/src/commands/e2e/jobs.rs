//! The jobs that a handler is tested with.

use std::{path::Path, time::Duration};

use haulage::{Json, NewJob, QueueName};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::checks::Check;
use crate::{
    exit::{Exit, Result},
    input,
};

/// How many bytes a large body has.
const LARGE: usize = 1_000_000;
/// What it is filled with: text, to a handler that takes text.
const FILLING: &str = "haulage ";
/// For how long the job that is cancelled would wait. No longer: on a FIFO queue its
/// message may stay for as long, and hold a task.
const FAR_OFF: Duration = Duration::from_secs(60);
/// How long records stay that could not be deleted.
const KEPT: Duration = Duration::from_secs(3600);
/// The label that all these jobs have; its value is the check.
pub(super) const LABEL: &str = "haulage-e2e";

/// Bodies for a handler that this program knows nothing of.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Jobs {
    #[serde(deserialize_with = "given")]
    pub(super) body: Option<Json>,
    #[serde(deserialize_with = "given")]
    pub(super) result: Option<Json>,
    pub(super) fill: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) slow_body: Option<Json>,
    #[serde(deserialize_with = "given")]
    pub(super) failing_body: Option<Json>,
    #[serde(skip)]
    pub(super) queue: QueueName,
}

/// `null` is a body like any other.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(value).map(Some)
}

impl Jobs {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = input::document(&input::file(path)?, &name)?;
        serde_json::from_str(text.as_str()).map_err(|error| {
            Exit::usage(format!(
                "{name} is not a file of jobs: {error}; write a JSON object with body and, where you have them, \
                 result, fill, slow_body and failing_body"
            ))
        })
    }

    /// Refuses what no check could begin with.
    pub(super) fn check(&self) -> Result {
        if self.body.is_none() {
            return Err(Exit::usage("there is no body; give one with which your handler succeeds by --body"));
        }
        self.large().map(drop).or_else(|why| if self.fill.is_some() { Err(Exit::usage(why)) } else { Ok(()) })
    }

    /// The job for a check, or why there is none.
    pub(super) fn job(&self, check: Check) -> Result<NewJob, String> {
        let body = match check {
            Check::Small | Check::Duplicate | Check::Cancelled => {
                self.body.clone().ok_or("no --body is given")?
            }
            Check::Large => self.large()?,
            Check::Slow | Check::Stopped => self.slow_body.clone().ok_or("no --slow-body is given")?,
            Check::Failing | Check::DeadLetter => {
                self.failing_body.clone().ok_or("no --failing-body is given")?
            }
        };
        let mut job = NewJob::from_json(body);
        job.spec.queue = self.queue.clone();
        job.spec.result_ttl = KEPT;
        job.spec.metadata = [(LABEL.to_owned(), check.name())].into_iter().collect();
        match check {
            Check::Failing => job.spec.max_attempts = 2,
            Check::DeadLetter => job.spec.max_attempts = 1,
            Check::Cancelled => job.delay = FAR_OFF,
            _ => {}
        }
        Ok(job)
    }

    fn large(&self) -> Result<Json, String> {
        let field =
            self.fill.as_deref().ok_or("no --fill is given: the field of the body that may be long")?;
        let body = self.body.as_ref().ok_or("no --body is given")?;
        let mut object: Map<String, Value> = body
            .decode()
            .map_err(|_| format!("the body is not an object, so it has no field `{field}` to fill"))?;
        let names = object.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let Some(value) = object.get_mut(field) else {
            return Err(format!("the body has no field `{field}` to fill; it has {names}"));
        };
        let missing = LARGE.saturating_sub(body.size());
        *value = Value::String(FILLING.repeat(missing.div_ceil(FILLING.len())));
        Json::encode(&object).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Jobs {
        serde_json::from_str(text).expect("jobs")
    }

    #[test]
    fn a_large_body_is_one_megabyte_in_the_field_that_is_named() {
        let jobs = jobs(r#"{"body": {"text": "a", "n": 1}, "fill": "text"}"#);
        let body = jobs.large().expect("a body");
        assert!((LARGE..LARGE + 100).contains(&body.size()), "{}", body.size());
        let value: Value = body.decode().expect("JSON");
        assert_eq!(value["n"], 1);
    }

    #[test]
    fn null_is_a_body() {
        assert_eq!(jobs(r#"{"body": null}"#).job(Check::Small).expect("a job").body.as_str(), "null");
    }

    #[test]
    fn what_is_not_given_is_said() {
        let jobs = jobs(r#"{"body": 1}"#);
        for (check, part) in
            [(Check::Large, "--fill"), (Check::Stopped, "--slow-body"), (Check::DeadLetter, "--failing-body")]
        {
            let why = jobs.job(check).expect_err("no job");
            assert!(why.contains(part), "{why}");
        }
    }
}
