//! The checks, and when they pass.

use std::time::Duration;

use clap::ValueEnum as _;
use haulage::{Json, Record, Status};
use serde_json::Value;

use crate::output::{span, summary_line};

/// How a check ended, and what there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed(String),
    Failed(String),
    LeftOut(String),
}

impl Outcome {
    /// In words for people and for programs, with what there is to say.
    pub(super) fn words(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Passed(message) => ("passed", "passed", message),
            Self::Failed(message) => ("failed", "failed", message),
            Self::LeftOut(message) => ("left out", "left_out", message),
        }
    }
}

/// What is checked, each with a job of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Check {
    Small,
    Large,
    Slow,
    Failing,
    DeadLetter,
    Duplicate,
    Cancelled,
    Stopped,
}

impl Check {
    pub(super) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether what became of the job is what should have; `seen` are the
    /// statuses in which it was seen, and the last of them is the end.
    pub(super) fn judge(self, record: &Record, seen: &[Status], result: Option<&Json>) -> Outcome {
        let way = seen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ");
        let error = record.error.as_ref().map(|error| summary_line(&error.message)).unwrap_or_default();
        let wanted = match self {
            Self::Failing | Self::DeadLetter => Status::Error,
            Self::Cancelled | Self::Stopped => Status::Cancelled,
            _ => Status::Success,
        };
        if record.status != wanted {
            let why = match (self, record.status) {
                (_, Status::Error) => error,
                (Self::Stopped, Status::Success) => {
                    "it ran to its end: its handler ignores a cancel, or was done before \
                     it was told; give a longer --slow-body, or leave this out by --skip stopped"
                        .to_owned()
                }
                (Self::Failing | Self::DeadLetter, Status::Success) => {
                    "give a --failing-body with which the handler fails".to_owned()
                }
                _ => "somebody else has changed it".to_owned(),
            };
            return Outcome::Failed(format!("{way} instead of {wanted}: {why}"));
        }
        match self {
            Self::Small | Self::Duplicate if !same(record.result.as_ref(), result) => {
                let (is, wanted) = (record.result.as_ref().map(Json::as_str), result.map(Json::as_str));
                let (is, wanted) = (is.unwrap_or("none"), wanted.unwrap_or("none"));
                Outcome::Failed(format!("the result is {} instead of {}", summary_line(is), summary_line(wanted)))
            }
            Self::Slow if !seen.contains(&Status::InProgress) => Outcome::Failed(format!(
                "{way}: it was over before it was seen to run; give a longer --slow-body"
            )),
            Self::Failing if error.is_empty() => Outcome::Failed("its record does not say why".to_owned()),
            Self::Failing => {
                Outcome::Passed(format!("{way} at attempt {}: {error}", record.attempt))
            }
            // It was not tried again, as its handler wanted.
            Self::DeadLetter if !record.dead => Outcome::LeftOut(
                "the handler fails this body for good, and such a job is not a dead letter; give a --failing-body \
                 with which it fails in a way that is retried"
                    .to_owned(),
            ),
            Self::Cancelled if record.attempt > 0 => Outcome::Failed(format!("{way}: a worker had claimed it")),
            _ => Outcome::Passed(way),
        }
    }

    /// Why the job is not over when the time is.
    pub(super) fn late(self, record: Option<&Record>, url: &str, limit: Duration) -> String {
        let limit = span(limit);
        let Some(record) = record else {
            return format!("its record could not be read within {limit}");
        };
        match record.status {
            Status::Submitted if record.attempt == 0 => format!(
                "no worker has claimed it within {limit}; check that one serves {url} and has a free slot: its log, \
                 and on AWS the events of the service, say why not; where tasks take long to start, raise --timeout"
            ),
            Status::Submitted => {
                let error = record.error.as_ref().map(|error| summary_line(&error.message));
                let error = error.map(|error| format!(": {error}")).unwrap_or_default();
                format!("after {limit} it waits for a retry, after attempt {}{error}", record.attempt)
            }
            Status::InProgress => {
                let worker = record.worker.as_deref().unwrap_or("a worker");
                format!("it still runs after {limit}, on {worker}; give a shorter job, or raise --timeout")
            }
            status => format!("it is {status}, and its outcome could not be read within {limit}"),
        }
    }
}

/// Whether the result is the one that was given, if one was.
fn same(result: Option<&Json>, wanted: Option<&Json>) -> bool {
    let value = |json: &Json| json.decode::<Value>().ok();
    wanted.is_none() || result.and_then(value) == wanted.and_then(value)
}
