//! What came of a run of the suite.

/// What came of a run of the suite.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The cases that passed.
    pub passed: Vec<&'static str>,
    /// The cases that the backend cannot run, with the reason.
    pub skipped: Vec<(&'static str, &'static str)>,
    /// The cases that failed, with what went wrong.
    pub failed: Vec<(String, String)>,
}

impl Report {
    #[allow(clippy::print_stderr)] // a test's output
    pub(super) fn fail(&mut self, case: &str, message: String) {
        eprintln!("FAILED {case}: {}", message.lines().next().unwrap_or_default());
        self.failed.push((case.to_owned(), message));
    }

    /// Prints how many cases passed, were skipped and failed.
    ///
    /// # Panics
    ///
    /// If a case failed, or none was run.
    #[allow(clippy::print_stdout)] // a test's output
    pub fn assert_ok(&self) {
        let (passed, skipped, failed) = (self.passed.len(), self.skipped.len(), self.failed.len());
        println!("conformance: {passed} passed, {skipped} skipped, {failed} failed");
        for (case, reason) in &self.skipped {
            println!("  skipped {case}: {reason}");
        }
        let failures: Vec<_> = self.failed.iter().map(|(case, why)| format!("\n{case}\n  {why}")).collect();
        assert!(failures.is_empty(), "{failed} of the cases failed:{}", failures.concat());
        assert!(passed > 0, "no case was run");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the rule\n  broken")]
    fn names_what_failed() {
        let mut report = Report::default();
        report.fail("the rule", "broken".into());
        report.assert_ok();
    }

    #[test]
    #[should_panic(expected = "no case was run")]
    fn nothing_run_is_a_failure() {
        Report { skipped: vec![("a case", "a reason")], ..Report::default() }.assert_ok();
    }
}
