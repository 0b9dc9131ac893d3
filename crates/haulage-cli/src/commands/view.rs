//! How a record looks to a person.

use std::fmt::Write as _;

use haulage::{FailureKind, JobError, Record, Status, Timestamp};

use crate::output::{Output, brief, sanitized, sanitized_line, span, summary_line};

/// How much of a note a table shows.
const NOTE: usize = 60;

/// Records as a table.
pub(super) fn table(output: Output, records: &[Record], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            vec![
                sanitized_line(record.id.as_str()),
                record.status.to_string(),
                attempts(record),
                brief(now.since(record.submitted_at)),
                note(record, now),
            ]
        })
        .collect();
    output.table(&["ID", "STATUS", "ATTEMPTS", "AGE", "NOTE"], &rows)
}

fn attempts(record: &Record) -> String {
    format!("{}/{}", record.counted(), record.max_attempts)
}

/// What is worth knowing, in a few words.
fn note(record: &Record, now: Timestamp) -> String {
    let error = || record.error.as_ref().map(|error| summary_line(&error.message, NOTE)).unwrap_or_default();
    match record.status {
        Status::InProgress if record.cancel_requested => "is being cancelled".into(),
        Status::InProgress => progress(record).map(|text| summary_line(&text, NOTE)).unwrap_or_default(),
        Status::Submitted => {
            let wait = match record.due_at {
                None => "waits for its group".into(),
                Some(due) if due > now => format!("due in {}", brief(due.since(now))),
                Some(_) => String::new(),
            };
            [wait, error()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
        }
        Status::Error if record.dead => format!("dead letter: {}", error()),
        Status::Error => error(),
        Status::Success | Status::Cancelled => String::new(),
    }
}

fn progress(record: &Record) -> Option<String> {
    let progress = record.progress.as_ref()?;
    let percent = progress.fraction * 100.0;
    Some(match &progress.message {
        Some(message) => format!("{percent:.0}%: {}", sanitized(message)),
        None => format!("{percent:.0}%"),
    })
}

/// How long the job waited for its start, the last one where it was tried again.
fn waited(record: &Record, now: Timestamp) -> String {
    match record.started_at {
        Some(started) if record.attempt > 1 => {
            format!("{} until its last start", span(started.since(record.submitted_at)))
        }
        Some(started) => span(started.since(record.submitted_at)),
        None => span(record.finished_at.unwrap_or(now).since(record.submitted_at)),
    }
}

/// How long the last attempt took, or has taken so far.
fn took(record: &Record, now: Timestamp) -> Option<String> {
    let started = record.started_at?;
    match record.status {
        Status::InProgress => Some(format!("{} so far", span(now.since(started)))),
        _ => Some(span(record.finished_at?.since(started))),
    }
}

/// Everything about one record, a line each.
pub(super) fn details(output: Output, record: &Record, now: Timestamp) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let value = sanitized(&value).replace('\n', "\n              ");
            let _ = writeln!(text, "{name:<13} {}", output.paint(value.trim_end()));
        }
    };
    let moment = |time: Timestamp| {
        if time > now {
            format!("{time} (in {})", brief(time.since(now)))
        } else {
            format!("{time} ({} ago)", brief(now.since(time)))
        }
    };
    let waits = record.status == Status::Submitted;
    field("id", Some(record.id.to_string()));
    field("status", Some(record.status.to_string()));
    field("dead letter", record.dead.then(|| "yes".into()));
    field("attempts", Some(attempts(record).replace('/', " of ")));
    field("request id", Some(record.request_id.clone()));
    field("group", record.group.clone());
    for (key, value) in &record.metadata {
        field("metadata", Some(format!("{key}={value}")));
    }
    field("submitted", Some(moment(record.submitted_at)));
    field("due", record.due_at.filter(|_| waits).map(moment));
    field("waits for", (waits && record.due_at.is_none()).then(|| "an earlier job of its group".into()));
    field("started", record.started_at.map(moment));
    field("lease until", record.due_at.filter(|_| record.status == Status::InProgress).map(moment));
    field("finished", record.finished_at.map(moment));
    field("waited", Some(waited(record, now)));
    field("took", took(record, now));
    field("expires", record.expires_at.map(moment));
    field("worker", record.worker.clone());
    field("progress", progress(record));
    field("cancelling", record.cancel_requested.then(|| "its worker has been asked".into()));
    if let Some(JobError { kind, message, .. }) = &record.error {
        let name = match kind {
            _ if record.status == Status::Error => "error",
            FailureKind::Released => "given back",
            _ => "last error",
        };
        field(name, Some(message.clone()));
        field("error kind", Some(kind.as_str().to_owned()));
    }
    field("body", record.body.as_ref().map(ToString::to_string));
    field("result", record.result.as_ref().map(ToString::to_string));
    text
}
