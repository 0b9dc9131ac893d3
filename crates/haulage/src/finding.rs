//! What a health check found.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{QueueName, Timestamp, backend::Unready};

/// Of so many workers that are not ready, a health check tells.
const MOST_UNREADY: usize = 10;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Problem,
}

/// One line of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was checked.
    pub check: String,
    /// What was found.
    pub message: String,
    /// How to mend it, where there is something to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// A check that passed.
    pub fn ok(check: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, check: check.into(), message: message.into(), remedy: None }
    }

    /// A check that found something, and what to do about it.
    pub fn bad(
        severity: Severity,
        check: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity, check: check.into(), message: message.into(), remedy: Some(remedy.into()) }
    }

    /// What there is to say of workers that are not ready: of those that have not been for longest.
    pub fn unready(workers: &BTreeMap<String, Unready>, now: Timestamp) -> Vec<Self> {
        let mut workers: Vec<_> = workers.iter().collect();
        workers.sort_by_key(|(_, unready)| unready.since);
        let finding = |(worker, Unready { queues, reason, since }): (&String, &Unready)| {
            let queues: Vec<_> = queues.iter().map(QueueName::as_str).collect();
            let time = Duration::from_secs(now.since(*since).as_secs());
            Self::bad(
                Severity::Warning,
                "workers",
                // What others say must not look like another finding.
                format!(
                    "worker {worker} of {} {} has not been ready for {}: {reason}",
                    if queues.len() == 1 { "the queue" } else { "the queues" },
                    queues.join(", "),
                    humantime::format_duration(time)
                )
                .replace(char::is_control, " "),
                "fix what it says is wrong; it tries again by itself, and takes jobs as soon as it is ready",
            )
        };
        workers.into_iter().take(MOST_UNREADY).map(finding).collect()
    }

    /// How long a delivery to a webhook is due before that is worth a warning.
    pub const UNTOLD: Duration = Duration::from_secs(600);

    /// What there is to say of so many deliveries to webhooks that have been due for [`Self::UNTOLD`], and of so
    /// many that are dead. Whoever counts to a limit and no further says that there are `most` at least.
    pub fn webhooks(overdue: u64, dead: u64, most: Option<u64>) -> Vec<Self> {
        let counted = |count: u64, one: &str, several: &str| match count {
            1 => format!("1 {one}"),
            count if Some(count) == most => format!("at least {count} {several}"),
            count => format!("{count} {several}"),
        };
        let warning = |message, remedy| Self::bad(Severity::Warning, "webhooks", message, remedy);
        let waited = humantime::format_duration(Self::UNTOLD);
        let mut findings = Vec::new();
        if overdue > 0 {
            let have = counted(overdue, "webhook delivery has been", "webhook deliveries have been");
            findings.push(warning(
                format!("{have} overdue for more than {waited}"),
                "start `haulage serve --webhook-secret-file FILE`, or see the log of the one that runs",
            ));
        }
        if dead > 0 {
            findings.push(warning(
                counted(dead, "webhook delivery is dead", "webhook deliveries are dead"),
                "see `haulage webhook list --dead`; fix the cause, then `haulage webhook redrive --all`",
            ));
        }
        findings
    }
}
