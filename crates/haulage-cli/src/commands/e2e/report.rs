//! What is told of the checks: to people, to programs, and in JUnit's form.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use haulage::JobId;
use serde_json::json;

use super::checks::{Check, Outcome};
use crate::{
    exit::{Code, Exit, Result},
    output::{Output, sanitized_line},
};

/// What a check came to.
#[derive(Debug)]
struct CheckReport {
    check: Check,
    outcome: Outcome,
    took: Duration,
}

/// All of them, told one by one.
#[derive(Debug)]
pub(super) struct Reports {
    output: Output,
    began: Instant,
    ended: Vec<CheckReport>,
}

impl Reports {
    pub(super) fn new(output: Output) -> Self {
        Self { output, began: Instant::now(), ended: Vec::new() }
    }

    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tells of a check that has ended.
    pub(super) fn add(&mut self, check: Check, job: Option<&JobId>, outcome: Outcome) -> Result {
        let took = self.took();
        let outcome = match (outcome, job) {
            (Outcome::Failed(message), Some(job)) => Outcome::Failed(format!("job {job}: {message}")),
            (outcome, _) => outcome,
        };
        let (shown, name, message) = outcome.words();
        let told = if self.output.json {
            self.output.json(&json!({
                "check": check.name(), "outcome": name, "message": message, "job": job,
                "seconds": took.as_secs_f64(),
            }))
        } else {
            let (gap, message) = (9 - shown.len(), sanitized_line(message));
            self.output.line(format_args!(
                "{}{:gap$}{:<12} {message}",
                self.output.paint(shown),
                "",
                check.name()
            ))
        };
        self.ended.push(CheckReport { check, outcome, took });
        told
    }

    /// How many passed, failed, and were left out.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        self.ended.iter().fold((0, 0, 0), |(passed, failed, left), report| match report.outcome {
            Outcome::Passed(_) => (passed + 1, failed, left),
            Outcome::Failed(_) => (passed, failed + 1, left),
            Outcome::LeftOut(_) => (passed, failed, left + 1),
        })
    }

    pub(super) fn summary(&self) -> String {
        let (passed, failed, left) = self.counts();
        format!("{passed} passed, {failed} failed, {left} left out")
    }

    /// The same for programs that read JUnit's reports.
    pub(super) fn junit(&self, mut file: File) -> Result {
        file.write_all(self.xml().as_bytes())
            .map_err(|error| Exit::new(Code::Failure, format!("cannot write JUnit's report: {error}")))
    }

    fn xml(&self) -> String {
        let (_, failed, left) = self.counts();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"haulage e2e\" tests=\"{}\" \
             failures=\"{failed}\" errors=\"0\" skipped=\"{left}\" time=\"{:.3}\">\n",
            self.ended.len(),
            self.took().as_secs_f64()
        );
        for CheckReport { check, outcome, took } in &self.ended {
            let (name, time) = (check.name(), took.as_secs_f64());
            let _ = write!(xml, "<testcase classname=\"haulage.e2e\" name=\"{name}\" time=\"{time:.3}\">");
            let _ = match outcome {
                Outcome::Passed(message) => write!(xml, "<system-out>{}</system-out>", escaped(message)),
                Outcome::Failed(message) => write!(xml, "<failure message=\"{}\"/>", escaped(message)),
                Outcome::LeftOut(message) => write!(xml, "<skipped message=\"{}\"/>", escaped(message)),
            };
            xml.push_str("</testcase>\n");
        }
        xml + "</testsuite>\n</testsuites>\n"
    }
}

/// Text for XML, without the characters that it cannot have.
fn escaped(text: &str) -> String {
    let allowed = |c: &char| !matches!(c, '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}');
    let text: String = sanitized_line(text).chars().filter(allowed).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::LogFormat;

    #[test]
    fn what_a_handler_said_does_not_break_the_report() {
        let mut reports = Reports::new(Output::plain(LogFormat::Text));
        let said = "<b> & \"c\" \u{1b}[31m\0\u{ffff}";
        reports.ended.push(CheckReport {
            check: Check::Failing,
            outcome: Outcome::Failed(said.to_owned()),
            took: Duration::from_millis(1500),
        });
        let xml = reports.xml();
        assert!(xml.contains("tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{xml}");
        assert!(xml.contains("<failure message=\"&lt;b&gt; &amp; &quot;c&quot; \"/>"), "{xml}");
    }
}
