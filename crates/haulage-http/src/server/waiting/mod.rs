//! Why a job waits, in one sentence, and when it is likely to start.

mod around;
mod start;

use std::{collections::BTreeMap, fmt, sync::Arc};

use haulage::{
    FailureKind, JobId, QueueName, Record, Status, Timestamp,
    backend::{Detail, Unready},
};
use hyper::StatusCode;
use serde::Serialize;

pub(super) use self::around::around;
use self::start::Start;
use super::{
    Api, jobs,
    reply::{self, Handled},
    request::Request,
};

/// What is known of what is around a job. What is not known is left out of the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// Whether its queue is paused.
    pub(super) is_paused: bool,
    /// Whether somebody takes jobs from its queue.
    pub(super) is_served: Option<bool>,
    /// Where nobody does: the workers of its queue that are not ready.
    pub(super) unready: BTreeMap<String, Unready>,
    /// How many jobs of its queue are due before it.
    pub(super) ahead: Option<Ahead>,
    /// When it is likely to start.
    pub(super) start: Option<Start>,
    /// The job of its group that has to be over first.
    pub(super) earlier: Option<(JobId, Status)>,
}

/// How many are before a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    Exactly(u64),
    AtMost(u64),
}

/// Why a job waits. Shown as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Its queue is paused; and it may not be due either.
    Paused { queue: QueueName, until: Option<Timestamp> },
    /// An earlier job of its group is not over.
    Group { group: String, earlier: Option<(JobId, Status)> },
    /// It was submitted with a delay.
    Delayed { until: Timestamp },
    /// An attempt failed, and the next one is not due yet.
    Retry { counted: u32, max_attempts: u32, until: Timestamp },
    /// A worker gave it back, and it is not due again yet.
    GivenBack { reason: String, until: Timestamp },
    /// Nobody takes jobs from its queue, and so many workers of it are not ready, of which this one has not been
    /// for longest.
    NotReady { queue: QueueName, workers: usize, worker: String, reason: String, since: Timestamp },
    /// Nobody takes jobs from its queue. Here and below: why the last worker that had it gave it back.
    Unserved { queue: QueueName, given_back: Option<String> },
    /// Others are before it, or none is.
    Turn { queue: QueueName, ahead: Ahead, start: Option<Start>, given_back: Option<String> },
    /// It is due, and more is not known.
    Due { given_back: Option<String> },
}

/// Why this job waits; `None` where it does not.
pub(super) fn waiting(record: &Record, around: &Around, now: Timestamp) -> Option<Waiting> {
    if record.status != Status::Submitted {
        return None;
    }
    let queue = record.spec.queue.clone();
    let until = record.due_at.filter(|due| *due > now);
    if around.is_paused {
        return Some(Waiting::Paused { queue, until });
    }
    if let (None, Some(group)) = (record.due_at, &record.spec.group) {
        return Some(Waiting::Group { group: group.clone(), earlier: around.earlier.clone() });
    }
    let released = record.error.as_ref().filter(|error| error.kind == FailureKind::Released);
    let given_back = released.map(|error| error.message.clone());
    if let Some(until) = until {
        return Some(match (given_back, &record.error) {
            (Some(reason), _) => Waiting::GivenBack { reason, until },
            (None, Some(_)) if record.counted() > 0 => {
                let max_attempts = record.spec.max_attempts;
                Waiting::Retry { counted: record.counted(), max_attempts, until }
            }
            _ => Waiting::Delayed { until },
        });
    }
    if around.is_served == Some(false) {
        let workers = around.unready.len();
        if let Some((worker, Unready { reason, since, .. })) =
            around.unready.iter().min_by_key(|(_, unready)| unready.since)
        {
            let (worker, reason, since) = (worker.clone(), reason.clone(), *since);
            return Some(Waiting::NotReady { queue, workers, worker, reason, since });
        }
        return Some(Waiting::Unserved { queue, given_back });
    }
    Some(match around.ahead {
        Some(ahead) => Waiting::Turn { queue, ahead, start: around.start, given_back },
        None => Waiting::Due { given_back },
    })
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { queue, until: None } => write!(f, "The queue {queue} is paused."),
            Self::Paused { queue, until: Some(until) } => {
                write!(f, "The queue {queue} is paused, and the job is not due before {}.", moment(*until))
            }
            Self::Group { group, earlier: None } => {
                write!(f, "An earlier job of the group {group} is not over yet.")
            }
            Self::Group { group, earlier: Some((id, status)) } => {
                write!(f, "An earlier job of the group {group} is not over yet: {id} is {status}.")
            }
            Self::Delayed { until } => write!(f, "It was delayed, and is due at {}.", moment(*until)),
            Self::Retry { counted, max_attempts, until } => write!(
                f,
                "Attempt {counted} of {max_attempts} failed, and the next one is due at {}.",
                moment(*until)
            ),
            Self::GivenBack { reason, until } => {
                write!(f, "A worker gave it back, and it is due again at {}: {reason}", moment(*until))
            }
            Self::NotReady { queue, workers: 1, worker, reason, since } => write!(
                f,
                "No worker seems to take jobs from the queue {queue}: {worker}, which serves it, has not been ready \
                 since {}: {reason}",
                moment(*since)
            ),
            Self::NotReady { queue, workers, worker, reason, since } => write!(
                f,
                "No worker seems to take jobs from the queue {queue}: {workers} that serve it are not ready, \
                 {worker} since {}: {reason}",
                moment(*since)
            ),
            Self::Unserved { queue, .. } => write!(
                f,
                "No worker seems to take jobs from the queue {queue}: none of its jobs is running. Either there is no \
                 worker for it, or none is ready: one that is not says why in its log, and at /ready."
            ),
            Self::Turn { queue, ahead, start, .. } => {
                match ahead {
                    Ahead::Exactly(0) => {
                        write!(
                            f,
                            "It is the next job of the queue {queue}, and waits for a worker with a free slot."
                        )
                    }
                    Ahead::Exactly(1) => write!(f, "One other job of the queue {queue} is due before it."),
                    Ahead::Exactly(count) => {
                        write!(f, "{count} other jobs of the queue {queue} are due before it.")
                    }
                    Ahead::AtMost(count) => {
                        write!(f, "Up to {count} other jobs of the queue {queue} are due before it.")
                    }
                }?;
                match start {
                    None => Ok(()),
                    Some(Start { earliest, latest }) => write!(
                        f,
                        " At the pace of the last ones, it starts between {} and {}.",
                        moment(*earliest),
                        moment(*latest)
                    ),
                }
            }
            Self::Due { .. } => f.write_str("It is due, and no worker has taken it yet."),
        }?;
        match self {
            Self::Unserved { given_back: Some(reason), .. }
            | Self::Turn { given_back: Some(reason), .. }
            | Self::Due { given_back: Some(reason) } => {
                write!(f, " The last worker that had it gave it back: {reason}")
            }
            _ => Ok(()),
        }
    }
}

impl Waiting {
    /// For programs.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Paused { .. } => "paused",
            Self::Group { .. } => "group",
            Self::Delayed { .. } => "delayed",
            Self::Retry { .. } => "retry",
            Self::GivenBack { .. } => "given_back",
            Self::NotReady { .. } => "not_ready",
            Self::Unserved { .. } => "unserved",
            Self::Turn { .. } => "turn",
            Self::Due { .. } => "due",
        }
    }
}

/// Why a job waits, as the API says it.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    id: JobId,
    status: Status,
    #[serde(flatten)]
    why: Option<Why>,
}

#[derive(Debug, Serialize)]
struct Why {
    reason: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_is_exact: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Start>,
}

impl Answer {
    fn of(record: &Record, around: &Around, now: Timestamp) -> Self {
        let why = waiting(record, around, now).map(|waiting| {
            let (ahead, start) = match waiting {
                Waiting::Turn { ahead, start, .. } => (Some(ahead), start),
                _ => (None, None),
            };
            Why {
                reason: waiting.reason(),
                text: waiting.to_string(),
                ahead: ahead.map(|(Ahead::Exactly(count) | Ahead::AtMost(count))| count),
                ahead_is_exact: ahead.map(|ahead| matches!(ahead, Ahead::Exactly(_))),
                start,
            }
        });
        Self { id: record.id.clone(), status: record.status, why }
    }
}

pub(super) async fn answer(api: Arc<Api>, request: Request) -> Handled {
    let record = jobs::record(&api, &request, Detail::Status).await?;
    let around = around(&api, &request.who, &record).await?;
    Ok(reply::json(StatusCode::OK, &Answer::of(&record, &around, api.backend.clock().now())))
}

/// A moment for people, to the second.
pub(super) fn moment(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} UTC", text.get(..19).unwrap_or(&text).replace('T', " "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haulage::{JobError, JobSpec};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn record() -> Record {
        let mut spec = JobSpec::default();
        spec.queue = "bulk".parse().expect("a name");
        spec.max_attempts = 3;
        Record::new("job-2".into(), spec, NOW)
    }

    fn said(record: &Record, around: &Around) -> String {
        waiting(record, around, NOW).map(|waiting| waiting.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_does_not_wait_has_no_reason() {
        let around = Around { is_paused: true, ..Around::default() };
        for status in [Status::InProgress, Status::Success, Status::Error, Status::Cancelled] {
            let mut record = record();
            record.status = status;
            assert_eq!(waiting(&record, &around, NOW), None, "{status}");
        }
    }

    #[test]
    fn a_paused_queue_comes_first() {
        let around = Around { is_paused: true, is_served: Some(false), ..Around::default() };
        assert_eq!(said(&record(), &around), "The queue bulk is paused.");
        let mut later = record();
        later.due_at = Some(NOW.after(Duration::from_secs(60)));
        let expected = "The queue bulk is paused, and the job is not due before 2027-01-15 08:01:00 UTC.";
        assert_eq!(said(&later, &around), expected);
    }

    #[test]
    fn a_group_names_the_job_that_is_before() {
        let mut record = record();
        record.due_at = None;
        record.spec.group = Some("anna".into());
        let mut around = Around { is_served: Some(false), ..Around::default() };
        assert_eq!(said(&record, &around), "An earlier job of the group anna is not over yet.");
        around.earlier = Some(("job-1".into(), Status::InProgress));
        let expected = "An earlier job of the group anna is not over yet: job-1 is IN_PROGRESS.";
        assert_eq!(said(&record, &around), expected);
    }

    #[test]
    fn what_is_not_due_says_until_when_and_why() {
        let mut record = record();
        record.due_at = Some(NOW.after(Duration::from_secs(1)));
        let around = Around { is_served: Some(false), ..Around::default() };
        assert_eq!(said(&record, &around), "It was delayed, and is due at 2027-01-15 08:00:01 UTC.");
        record.attempt = 1;
        record.error = Some(JobError::new(FailureKind::Timeout, "too slow"));
        let expected = "Attempt 1 of 3 failed, and the next one is due at 2027-01-15 08:00:01 UTC.";
        assert_eq!(said(&record, &around), expected);
        record.uncounted = 1;
        record.error = Some(JobError::released("the model is loading"));
        let expected =
            "A worker gave it back, and it is due again at 2027-01-15 08:00:01 UTC: the model is loading";
        assert_eq!(said(&record, &around), expected);
        // Due now is due, and what the worker said is not forgotten.
        record.due_at = Some(NOW);
        for (is_served, ahead, begins) in [
            (Some(false), None, "No worker seems"),
            (Some(true), Some(Ahead::Exactly(7)), "7 other jobs"),
            (None, None, "It is due, and no worker"),
        ] {
            let said = said(&record, &Around { is_served, ahead, ..Around::default() });
            let gave_back = " The last worker that had it gave it back: the model is loading";
            assert!(said.starts_with(begins) && said.ends_with(gave_back), "{said}");
        }
        record.error = Some(JobError::new(FailureKind::Timeout, "too slow"));
        assert!(said(&record, &around).ends_with("and at /ready."), "a failure is on the page anyway");
    }

    #[test]
    fn what_is_due_waits_for_a_worker_or_its_turn() {
        let around = |is_served, ahead| Around { is_served, ahead, ..Around::default() };
        let said = |is_served, ahead| said(&record(), &around(is_served, ahead));
        let unserved = "No worker seems to take jobs from the queue bulk: none of its jobs is running. Either there is no \
                        worker for it, or none is ready: one that is not says why in its log, and at /ready.";
        assert_eq!(said(Some(false), Some(Ahead::Exactly(7))), unserved);
        for (ahead, expected) in [
            (None, "It is due, and no worker has taken it yet."),
            (
                Some(Ahead::Exactly(0)),
                "It is the next job of the queue bulk, and waits for a worker with a free slot.",
            ),
            (Some(Ahead::Exactly(1)), "One other job of the queue bulk is due before it."),
            (Some(Ahead::Exactly(7)), "7 other jobs of the queue bulk are due before it."),
            (Some(Ahead::AtMost(70)), "Up to 70 other jobs of the queue bulk are due before it."),
        ] {
            assert_eq!(said(None, ahead), expected);
            assert_eq!(said(Some(true), ahead), expected);
        }
        let start = start::start(Ahead::Exactly(7), 2, &[Duration::from_secs(10); 9], NOW);
        let around =
            Around { is_served: Some(true), ahead: Some(Ahead::Exactly(7)), start, ..Around::default() };
        let expected = "7 other jobs of the queue bulk are due before it. At the pace of the last ones, it starts \
                        between 2027-01-15 08:00:37 UTC and 2027-01-15 08:00:42 UTC.";
        assert_eq!(self::said(&record(), &around), expected);
        let answer = serde_json::to_value(Answer::of(&record(), &around, NOW)).expect("JSON");
        assert_eq!(answer["reason"], "turn");
        assert_eq!((&answer["ahead"], &answer["ahead_is_exact"]), (&7.into(), &true.into()));
    }

    #[test]
    fn where_nobody_takes_jobs_a_worker_that_is_not_ready_says_why() {
        let unready = |reason, ago| {
            Unready::new(["bulk".parse().expect("a name")], reason, NOW.before(Duration::from_secs(ago)))
        };
        let mut around =
            Around { is_served: Some(false), ahead: Some(Ahead::Exactly(7)), ..Around::default() };
        around.unready.insert("b:1".into(), unready("connection refused", 60));
        let mut record = record();
        // What it gave the job back for is the same, if not older.
        record.error = Some(JobError::released("connection refused"));
        let one = "No worker seems to take jobs from the queue bulk: b:1, which serves it, has not been ready since \
                   2027-01-15 07:59:00 UTC: connection refused";
        assert_eq!(said(&record, &around), one);
        let answer = serde_json::to_value(Answer::of(&record, &around, NOW)).expect("JSON");
        assert_eq!((&answer["reason"], &answer["text"]), (&"not_ready".into(), &one.into()));
        around.unready.insert("a:1".into(), unready("no device", 1));
        around.unready.insert("c:1".into(), unready("the model is loading", 61));
        let three = "No worker seems to take jobs from the queue bulk: 3 that serve it are not ready, c:1 since \
                     2027-01-15 07:58:59 UTC: the model is loading";
        assert_eq!(said(&record, &around), three);
        // Some are ready.
        around.is_served = Some(true);
        record.error = None;
        assert_eq!(said(&record, &around), "7 other jobs of the queue bulk are due before it.");
    }

    #[test]
    fn a_job_that_does_not_wait_has_a_status_and_no_reason() {
        let mut record = record();
        record.status = Status::Success;
        let answer = serde_json::to_value(Answer::of(&record, &Around::default(), NOW)).expect("JSON");
        assert_eq!(answer, serde_json::json!({ "id": "job-2", "status": "SUCCESS" }));
    }
}
