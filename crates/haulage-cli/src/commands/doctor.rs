//! `haulage doctor`

use haulage::backend::{Finding, Severity};

use crate::{
    exit::{Code, Exit, Result},
    output::sanitized,
    session::Session,
};

/// Check the health of the backend, and say how to fix what is wrong
///
/// Ends with exit code 1 where something does not work.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage doctor\n  haulage doctor --json | jq -r \"select(.severity != \\\"ok\\\") | .message\""
)]
pub(crate) struct Args {}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let findings = examine(session).await;
        for finding in &findings {
            if output.json {
                output.json(finding)?;
                continue;
            }
            let severity = match finding.severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Problem => "problem",
            };
            let gap = 8 - severity.len();
            let message = sanitized(&finding.message);
            output.line(format_args!(
                "{}{:gap$} {}: {message}",
                output.paint(severity),
                "",
                finding.check
            ))?;
            if let Some(remedy) = &finding.remedy {
                output.line(format_args!("         → {}", sanitized(remedy)))?;
            }
        }
        if findings.iter().any(|finding| finding.severity == Severity::Problem) {
            return Err(Exit::silent(Code::Failure));
        }
        Ok(())
    }
}

/// A backend that cannot be opened is a finding like any other.
async fn examine(session: &Session) -> Vec<Finding> {
    let problem = |exit: Exit| {
        let (severity, message) = (Severity::Problem, exit.messages.join("; "));
        Finding { severity, check: "open".into(), message, remedy: None }
    };
    let backend = match session.existing().await {
        Ok(backend) => backend,
        Err(exit) => return vec![problem(exit)],
    };
    backend.check().await.unwrap_or_else(|error| vec![problem(error.into())])
}
