//! What goes wrong, as a problem document (RFC 9457), and back.
//!
//! There is one form for people with `curl`, for programs in any language, and for
//! the backend of this crate, which makes the same [`Error`] of it that the server had.

use std::time::Duration;

use haulage::{Error, JobError, JobId, Status, with_causes};
use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What precedes the name of each kind of problem, so that it is a URI.
const SCHEME: &str = "haulage:";

/// A problem document. What does not apply is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The kind of problem, as in `haulage:not_found`: for programs to tell them apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Which part of the request is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The job that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<JobId>,
    /// Where that job is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_status: Option<Status>,
    /// Why that job failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// The attempt that has lost its claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The idempotency key that another body has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The size of what is too large, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The limit that was passed, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The line of a mistake in JSON, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Its column, in bytes, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{SCHEME}{kind}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            ..Self::default()
        }
    }

    /// A part of a request that is not valid.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(422, "invalid", "A part of the request is not valid", detail)
    }

    /// The name of its kind.
    pub(crate) fn name(&self) -> &str {
        self.kind.strip_prefix(SCHEME).unwrap_or(&self.kind)
    }

    #[must_use]
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with no more than so much of what the client has sent: it may be anything, and is told
    /// for each line of an upload.
    #[must_use]
    pub(crate) fn cut(mut self) -> Self {
        /// In bytes.
        const FIELD: usize = 100;
        const DETAIL: usize = 1000;
        let cut = |text: &mut String, most: usize| {
            if text.len() > most {
                text.truncate(text.floor_char_boundary(most));
                text.push('…');
            }
        };
        cut(&mut self.detail, DETAIL);
        if let Some(field) = &mut self.field {
            cut(field, FIELD);
        }
        self
    }

    /// The error that it was made of. One of a kind that this version does not know is
    /// told apart by its status: whether trying again may help.
    pub(crate) fn into_error(self) -> Error {
        let kind = self.name().to_owned();
        let Self {
            detail,
            remedy,
            field,
            id,
            job_status,
            error,
            attempt,
            key,
            size,
            limit,
            line,
            column,
            status,
            ..
        } = self;
        let message = match &remedy {
            Some(remedy) => format!("{detail}; {remedy}"),
            None => detail.clone(),
        };
        match (kind.as_str(), id, error, job_status) {
            ("invalid_json", ..) => {
                let (line, column) = (line.unwrap_or(0), column.unwrap_or(0));
                let place = format!(" at line {line} column {column}");
                let message = detail.strip_suffix(&place).unwrap_or(&detail).to_owned();
                Error::InvalidJson { line, column, message }
            }
            ("too_large", ..) => {
                let known = ["body", "result", "checkpoint"];
                let what = known.into_iter().find(|what| field.as_deref() == Some(what));
                Error::TooLarge {
                    what: what.unwrap_or("request"),
                    size: size.unwrap_or(0),
                    limit: limit.unwrap_or(0),
                    hint: remedy.unwrap_or_default(),
                }
            }
            ("idempotency_conflict", Some(id), ..) => {
                Error::IdempotencyConflict { key: key.unwrap_or_default(), id }
            }
            ("not_found", Some(id), ..) => Error::NotFound(id),
            ("expired", Some(id), ..) => Error::Expired(id),
            ("lost_claim", Some(id), ..) => Error::LostClaim { id, attempt: attempt.unwrap_or(0) },
            ("job_cancelled", Some(id), ..) => Error::JobCancelled(id),
            ("job_failed", Some(id), Some(error), _) => Error::JobFailed { id, error },
            ("not_finished", Some(id), _, Some(status)) => Error::NotFinished { id, status },
            ("config" | "unauthorized" | "forbidden" | "not_supported", ..) => Error::Config(message),
            _ if status == 429 || status >= 500 => Error::Unavailable { message, source: None },
            _ => Error::Invalid(message),
        }
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let detail = with_causes(error);
        match error {
            Error::InvalidJson { line, column, .. } => Self {
                line: Some(*line).filter(|line| *line > 0),
                column: Some(*column).filter(|column| *column > 0),
                ..Self::new(400, "invalid_json", "The JSON is not what was expected", detail)
            },
            Error::Invalid(_) => Self::invalid(detail),
            Error::TooLarge { what, size, limit, hint } => Self {
                size: Some(*size),
                limit: Some(*limit),
                ..Self::new(413, "too_large", "Too large", detail).field(*what).remedy(hint)
            },
            Error::IdempotencyConflict { key, id } => Self {
                id: Some(id.clone()),
                key: Some(key.clone()),
                ..Self::new(
                    422,
                    "idempotency_conflict",
                    "The idempotency key was used with another body",
                    detail,
                )
                .remedy("a new job needs a new key")
            },
            Error::NotFound(id) => {
                Self { id: Some(id.clone()), ..Self::new(404, "not_found", "There is no such job", detail) }
            }
            Error::Expired(id) => {
                Self { id: Some(id.clone()), ..Self::new(410, "expired", "The record has expired", detail) }
            }
            Error::LostClaim { id, attempt } => Self {
                id: Some(id.clone()),
                attempt: Some(*attempt),
                ..Self::new(409, "lost_claim", "The attempt lost its claim", detail)
            },
            Error::JobFailed { id, error } => Self {
                id: Some(id.clone()),
                job_status: Some(Status::Error),
                error: Some(error.clone()),
                ..Self::new(409, "job_failed", "The job failed", detail)
            },
            Error::JobCancelled(id) => Self {
                id: Some(id.clone()),
                job_status: Some(Status::Cancelled),
                ..Self::new(409, "job_cancelled", "The job was cancelled", detail)
            },
            Error::NotFinished { id, status } => Self {
                id: Some(id.clone()),
                job_status: Some(*status),
                ..Self::new(409, "not_finished", "The job has not ended yet", detail)
            },
            Error::TimedOut(_) => Self::new(504, "timed_out", "The wait timed out", detail),
            Error::Config(_) => Self::new(500, "config", "The server is not set up for this", detail),
            _ => Self::new(503, "unavailable", "The store is out of reach, or refuses to work", detail),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// How long to wait before a request is made again, where the answer says so.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use haulage::FailureKind;

    use super::*;

    #[test]
    fn every_error_comes_back_as_it_was() {
        let id = || JobId::from("job-1");
        let job_error = JobError::new(FailureKind::Timeout, "too slow");
        let errors = [
            Error::InvalidJson { line: 2, column: 5, message: "expected value".into() },
            Error::InvalidJson { line: 0, column: 0, message: "a map with keys".into() },
            Error::Invalid("timeout is longer than 366 days".into()),
            Error::TooLarge { what: "body", size: 10, limit: 5, hint: "keep it elsewhere".into() },
            Error::IdempotencyConflict { key: "order-4711".into(), id: id() },
            Error::NotFound(id()),
            Error::Expired(id()),
            Error::LostClaim { id: id(), attempt: 3 },
            Error::JobFailed { id: id(), error: job_error },
            Error::JobCancelled(id()),
            Error::NotFinished { id: id(), status: Status::InProgress },
            Error::Config("no such table".into()),
            Error::Unavailable { message: "the disk is full".into(), source: None },
        ];
        for error in errors {
            let document = serde_json::to_string(&Problem::from(&error)).expect("JSON");
            let problem: Problem = serde_json::from_str(&document).expect("a problem");
            assert_eq!(format!("{:?}", problem.into_error()), format!("{error:?}"), "{document}");
        }
    }

    #[test]
    fn what_a_later_version_says_is_told_apart_by_its_status() {
        let of = |status| Problem::new(status, "a_later_one", "", "why").into_error();
        assert!(matches!(of(503), Error::Unavailable { .. }));
        assert!(matches!(of(429), Error::Unavailable { .. }));
        assert!(matches!(of(422), Error::Invalid(_)));
        assert!(matches!(Problem::new(401, "unauthorized", "", "").into_error(), Error::Config(_)));
    }
}
