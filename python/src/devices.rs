//! The GPUs of a worker, and whether its slots work: what the command line decides as well.

use std::sync::{Mutex, MutexGuard, PoisonError};

use haulage_cli::devices::{
    gpus,
    health::{self, Disposition, JobEnd, Sign, Verdict},
};
use pyo3::prelude::*;

use crate::errors;

/// The devices that are meant: `all`, or a list of numbers or names.
#[pyfunction]
pub(crate) fn gpu_devices(py: Python<'_>, gpus: &str) -> PyResult<Vec<String>> {
    // A tool may be asked, which takes its time.
    py.detach(|| gpus::devices(gpus)).map_err(|why| errors::invalid(format!("gpus: {why}")))
}

/// What a process of this slot is to have in its environment, before it imports anything.
#[pyfunction]
#[pyo3(signature = (slot, device))]
pub(crate) fn slot_environment(slot: usize, device: Option<&str>) -> Vec<(&'static str, String)> {
    gpus::environment(slot, device)
}

/// A slot, for people.
#[pyfunction]
#[pyo3(signature = (slot, device))]
pub(crate) fn slot_name(slot: usize, device: Option<&str>) -> String {
    gpus::name(slot, device)
}

/// Whether an error says that the device's memory is used up.
#[pyfunction]
pub(crate) fn is_out_of_memory(words: &str) -> bool {
    health::is_out_of_memory(words)
}

/// The slots of one worker, by the device of each; `None` where slots do not differ. For many threads.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Health(Mutex<health::Health>);

impl Health {
    fn lock(&self) -> MutexGuard<'_, health::Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn named(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::GoOn => "go_on",
        Verdict::Replace => "replace",
        Verdict::Quarantine => "quarantine",
    }
}

#[pymethods]
impl Health {
    #[new]
    fn new(devices: Vec<Option<String>>) -> Self {
        Self(Mutex::new(health::Health::new(devices)))
    }

    /// A call has ended in this slot. Of each job: its id, the kind of its answer (`retry_after` where
    /// the handler has said when), and why it failed.
    /// The verdict (`go_on`, `replace` or `quarantine`), the reason for it, and what becomes of each
    /// job: `keep`, `count` or `put_back`.
    #[allow(clippy::needless_pass_by_value, reason = "pyo3 makes it of a list")]
    fn judge(
        &self,
        slot: usize,
        jobs: Vec<(String, String, String)>,
    ) -> (&'static str, String, Vec<&'static str>) {
        let ends: Vec<JobEnd<'_>> = jobs
            .iter()
            .map(|(job, kind, words)| JobEnd {
                job,
                sign: match kind.as_str() {
                    "json" => Sign::Succeeded,
                    "retry" => Sign::Failed,
                    "retry_after" => Sign::Deferred,
                    "broken" => Sign::Broken,
                    _ => Sign::Silent,
                },
                // The traceback below it may name anything.
                words: words.split("\n\n").next().unwrap_or_default(),
            })
            .collect();
        let judgement = self.lock().judge(slot, &ends);
        let dispositions = judgement.dispositions.into_iter().map(|disposition| match disposition {
            Disposition::Keep => "keep",
            Disposition::Count => "count",
            Disposition::PutBack => "put_back",
        });
        (named(judgement.verdict), judgement.reason, dispositions.collect())
    }

    /// The process of this slot does not start.
    fn broke(&self, slot: usize) -> &'static str {
        named(self.lock().broke(slot))
    }

    /// How long to leave a slot that is out of service alone, in seconds.
    fn wait(&self, slot: usize) -> f64 {
        self.lock().wait(slot).as_secs_f64()
    }

    /// A slot is let try again: its first job decides.
    fn back(&self, slot: usize) {
        self.lock().back(slot);
    }

    /// A slot that is out of service was looked at, and does not work.
    fn still_out(&self, slot: usize) {
        self.lock().still_out(slot);
    }

    /// Whether no slot is in service.
    #[getter]
    fn all_out(&self) -> bool {
        self.lock().all_out()
    }
}
