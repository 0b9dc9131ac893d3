//! What a health check found.

use serde::{Deserialize, Serialize};

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
}
