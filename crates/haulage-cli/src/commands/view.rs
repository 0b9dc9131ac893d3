//! How a record looks to a person.

use std::{fmt::Write as _, time::Duration};

use haulage::{Attempt, FailureKind, JobError, Record, Status, Timestamp};

use crate::output::{
    GAP, Output, brief, brief_or_millis, column_width, columns, cut, sanitized, sanitized_line, span,
    summary_line,
};

/// How much of a note a table shows where it is not limited by a terminal's width.
const NOTE: usize = 60;

/// The narrowest column of notes. Where less is left, they are written below.
const NARROW: usize = 24;

/// Records as a table; for a terminal, no wider than that is.
pub(super) fn table(output: Output, records: &[Record], now: Timestamp, width: Option<usize>) -> String {
    let mut header = vec!["ID", "STATUS", "ATTEMPTS", "AGE", "WAITED", "TOOK"];
    let mut rows: Vec<Vec<String>> = records.iter().map(|record| cells(record, now)).collect();
    if records.iter().any(|record| !record.spec.queue.is_default()) {
        header.insert(2, "QUEUE");
        for (row, record) in rows.iter_mut().zip(records) {
            row.insert(2, record.spec.queue.to_string());
        }
    }
    let notes: Vec<String> = records.iter().map(|record| note(record, now)).collect();
    let taken = |header: &[&str], rows: &[Vec<String>]| -> usize {
        (0..header.len()).map(|n| column_width(header, rows, n) + GAP).sum()
    };
    // An id that is cut is of no use; the durations are what one can do without.
    while width.is_some_and(|width| taken(&header, &rows) > width + GAP) && header.len() > 2 {
        header.pop();
        rows.iter_mut().for_each(|row| row.truncate(header.len()));
    }
    let longest = notes.iter().map(|note| columns(note)).max().unwrap_or(0);
    let left = width.map_or(NOTE, |width| width.saturating_sub(taken(&header, &rows)));
    if left >= NARROW.min(longest) {
        header.push("NOTE");
        for (row, note) in rows.iter_mut().zip(&notes) {
            row.push(cut(note, left).into_owned());
        }
        return output.table(&header, &rows);
    }
    let mut text = String::new();
    let table = output.table(&header, &rows);
    let notes = std::iter::once("").chain(notes.iter().map(String::as_str));
    for (line, note) in table.lines().zip(notes) {
        text.push_str(line);
        text.push('\n');
        if !note.is_empty() {
            let _ = writeln!(text, "  {}", cut(note, width.unwrap_or(NOTE).saturating_sub(2)));
        }
    }
    text
}

/// All of a record's row but its note.
fn cells(record: &Record, now: Timestamp) -> Vec<String> {
    let took = if record.status == Status::InProgress { Some(now) } else { record.finished_at };
    let took = took.zip(record.started_at).map(|(end, start)| brief_or_millis(end.since(start)));
    vec![
        sanitized_line(record.id.as_str()),
        record.status.to_string(),
        attempts(record),
        brief(now.since(record.submitted_at)),
        brief_or_millis(wait(record, now)),
        took.unwrap_or_default(),
    ]
}

/// How long the job has waited, or did wait for its last start.
fn wait(record: &Record, now: Timestamp) -> Duration {
    let end = match record.status {
        Status::Submitted => now,
        _ => record.started_at.or(record.finished_at).unwrap_or(now),
    };
    end.since(record.submitted_at)
}

fn attempts(record: &Record) -> String {
    format!("{}/{}", record.counted(), record.spec.max_attempts)
}

/// What is worth knowing, in a few words.
fn note(record: &Record, now: Timestamp) -> String {
    let error = || record.error.as_ref().map(|error| summary_line(&error.message)).unwrap_or_default();
    match record.status {
        Status::InProgress if record.cancel_requested => "is being cancelled".into(),
        Status::InProgress => progress(record).map(|text| summary_line(&text)).unwrap_or_default(),
        Status::Submitted => [hold(record, now), error()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(": "),
        Status::Error if record.dead => format!("dead letter: {}", error()),
        Status::Error => error(),
        Status::Success | Status::Cancelled => String::new(),
    }
}

/// Why a job that is to run may not start yet; nothing, where it may.
pub(super) fn hold(record: &Record, now: Timestamp) -> String {
    match record.due_at {
        None => "waits for its group".into(),
        Some(due) if due > now => format!("due in {}", brief(due.since(now))),
        Some(_) => String::new(),
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
    match record.status {
        Status::Submitted if record.attempt > 0 => format!("{} since its submit", span(wait(record, now))),
        Status::Submitted => span(wait(record, now)),
        _ if record.attempt > 1 => format!("{} until its last start", span(wait(record, now))),
        _ => span(wait(record, now)),
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
    field("request id", Some(record.request_id().to_owned()));
    let queue = &record.spec.queue;
    field("queue", (!queue.is_default()).then(|| queue.to_string()));
    field("task", record.spec.task.clone());
    field("group", record.spec.group.clone());
    field("timeout", record.spec.timeout.map(brief));
    field("start within", record.spec.start_within.map(brief));
    field("kept for", Some(brief(record.spec.result_ttl)));
    for (key, value) in &record.spec.metadata {
        field("metadata", Some(format!("{key}={value}")));
    }
    field("webhook", record.spec.webhook.as_ref().map(ToString::to_string));
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
    field("slot", record.slot.clone());
    field("progress", progress(record));
    field("cancelling", record.cancel_requested.then(|| "its worker has been asked".into()));
    if let Some(JobError { kind, message, type_name, .. }) = &record.error {
        let name = match kind {
            _ if record.status == Status::Error => "error",
            FailureKind::Released => "given back",
            _ => "last error",
        };
        field(name, Some(message.clone()));
        field("error kind", Some(kind.as_str().to_owned()));
        field("error type", type_name.clone());
    }
    // The latest is told of above.
    if let [earlier @ .., _] = &record.attempts[..] {
        for attempt in earlier {
            field(&format!("attempt {}", attempt.number), Some(attempt_line(attempt)));
        }
    }
    field("checkpoint", record.checkpoint.as_ref().map(ToString::to_string));
    let dropped = record.spec.drop_body && record.status == Status::Success && record.result.is_some();
    let body = record.body.as_ref().map(ToString::to_string);
    field("body", body.or_else(|| dropped.then(|| "deleted after the success (drop_body)".into())));
    field("result", record.result.as_ref().map(ToString::to_string));
    text
}

/// One of the attempts before the latest.
fn attempt_line(attempt: &Attempt) -> String {
    let took = attempt.ended_at.map(|end| format!(", {}", span(end.since(attempt.started_at))));
    let worker = attempt.worker.as_ref().map(|worker| match &attempt.slot {
        Some(slot) => format!(" on {worker}, {slot}"),
        None => format!(" on {worker}"),
    });
    let why = match &attempt.error {
        Some(error) => format!("{}: {}", error.kind.as_str(), summary_line(&error.message)),
        None => "given back".to_owned(),
    };
    format!("{}{}{}: {why}", attempt.started_at, took.unwrap_or_default(), worker.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::LogFormat;

    fn records() -> Vec<Record> {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let record = |id: &str, status, error: Option<&str>| {
            let mut record = Record::new(id.into(), haulage::JobSpec::default(), at(0));
            record.status = status;
            record.attempt = 1;
            record.error = error.map(|text| JobError::new(FailureKind::Handler, text));
            record
        };
        let mut failed = record(
            "0193a1b2-0000-7000-8000-000000000001",
            Status::Error,
            Some("exit code 1: 日本語 is not there\nmore"),
        );
        (failed.started_at, failed.finished_at) = (Some(at(65)), Some(Timestamp::from_micros(65_740_000)));
        let mut running = record("0193a1b2-0000-7000-8000-000000000002", Status::InProgress, None);
        running.started_at = Some(at(100));
        let mut waiting = record("0193a1b2-0000-7000-8000-000000000003", Status::Submitted, None);
        waiting.attempt = 0;
        vec![failed, running, waiting]
    }

    fn shown(width: Option<usize>) -> String {
        let now = Timestamp::from_micros(7_200_000_000);
        table(Output::plain(LogFormat::Text), &records(), now, width)
    }

    #[test]
    fn a_table_tells_how_long_each_job_waited_and_took() {
        let expected = "\
ID                                    STATUS       ATTEMPTS  AGE  WAITED  TOOK   NOTE
0193a1b2-0000-7000-8000-000000000001  ERROR        1/3       2h   1m      740ms  exit code 1: 日本語 is not there
0193a1b2-0000-7000-8000-000000000002  IN_PROGRESS  1/3       2h   1m      1h
0193a1b2-0000-7000-8000-000000000003  SUBMITTED    0/3       2h   2h
";
        assert_eq!(shown(None), expected);
        assert_eq!(shown(Some(200)), expected);
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal() {
        for width in 50..130 {
            let table = shown(Some(width));
            let widest = table.lines().map(columns).max().unwrap_or(0);
            assert!(widest <= width, "{width}:\n{table}");
            assert!(table.contains("0193a1b2-0000-7000-8000-000000000001"), "{width}:\n{table}");
            assert!(table.contains("exit code 1"), "what went wrong is told at {width}:\n{table}");
        }
        let narrow = shown(Some(80));
        assert!(narrow.lines().nth(2) == Some("  exit code 1: 日本語 is not there"), "{narrow}");
        assert!(shown(Some(105)).contains("740ms  exit code 1: 日本語 is…\n"), "{}", shown(Some(105)));
    }
}
