//! What an invocation comes to.

use lambda_runtime::Diagnostic;
use serde::Serialize;

use crate::{event::Pair, failure::Failure, log};

/// The samples that were taken, and the first failure of each pair.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    samples: u32,
    pairs: &'a [Pair],
    failures: Vec<Option<Failure>>,
}

/// What an invocation answers.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    samples: u32,
    pairs: usize,
}

/// Why an invocation failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failed {
    kind: &'static str,
    message: String,
}

impl<'a> Report<'a> {
    pub(crate) fn new(pairs: &'a [Pair]) -> Self {
        Self { samples: 0, pairs, failures: vec![None; pairs.len()] }
    }

    /// A sample, with an answer for each pair.
    pub(crate) fn looked(&mut self, answers: Vec<Result<(), Failure>>) {
        self.samples += 1;
        for (at, answer) in answers.into_iter().enumerate() {
            if let Err(failure) = answer {
                log::failed(&self.pairs[at], &failure);
                self.failures[at].get_or_insert(failure);
            }
        }
    }

    /// Fails for one pair, too. All that could be put has been put by now, and
    /// an invocation that fails is what the alarm on the Lambda's errors sees.
    pub(crate) fn result(self) -> Result<Summary, Failed> {
        let failed: Vec<_> =
            self.pairs.iter().zip(&self.failures).filter_map(|(pair, f)| Some((pair, f.as_ref()?))).collect();
        if failed.is_empty() {
            return Ok(Summary { samples: self.samples, pairs: self.pairs.len() });
        }
        let names: Vec<_> = failed
            .iter()
            .map(|(pair, failure)| format!("{pair} ({}: {})", failure.operation, failure.code))
            .collect();
        let message = format!(
            "{} of {} pairs failed: {}; the log has a line for each failure, with what to do",
            failed.len(),
            self.pairs.len(),
            names.join(", ")
        );
        Err(Failed { kind: "PairsFailed", message })
    }
}

impl Failed {
    pub(crate) fn bad_event(message: String) -> Self {
        Self { kind: "BadEvent", message }
    }
}

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Self {
        Self { error_type: failed.kind.to_owned(), error_message: failed.message }
    }
}
