//! The numbers of `haulage bench --size`, as a table and as JSON.

use serde::Serialize;

use super::{Effort, TASKS, TTL};
use crate::bench::report::{Machine, row};

/// A rate, and that of the same without what it is measured beside.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Beside {
    pub(super) per_s: f64,
    pub(super) without_per_s: f64,
    pub(super) ratio: f64,
}

/// What was measured. Rates, ratios and times are medians of the runs.
#[derive(Clone, Debug, Serialize)]
pub(in crate::bench) struct Report {
    pub(super) one_task_beside_expired: Beside,
    pub(super) tasks_beside_expired: Beside,
    pub(super) beside_reader: Beside,
    pub(super) sweep_1m_s: f64,
    pub(super) expiring_jobs: Beside,
    pub(super) sweep_behind_s: f64,
    pub(super) stats_ms: f64,
    pub(super) list_ms: f64,
    pub(super) doctor_ms: f64,
    pub(super) longest_get_ms: f64,
    expired: i64,
    records: i64,
    jobs_per_run: u64,
    runs: usize,
    settings: Machine,
}

impl Report {
    pub(super) fn new(effort: Effort) -> Self {
        Self {
            one_task_beside_expired: Beside::default(),
            tasks_beside_expired: Beside::default(),
            beside_reader: Beside::default(),
            sweep_1m_s: 0.0,
            expiring_jobs: Beside::default(),
            sweep_behind_s: 0.0,
            stats_ms: 0.0,
            list_ms: 0.0,
            doctor_ms: 0.0,
            longest_get_ms: 0.0,
            expired: effort.expired,
            records: effort.records,
            jobs_per_run: effort.jobs,
            runs: effort.runs,
            settings: Machine::this(),
        }
    }

    pub(in crate::bench) fn table(&self) -> String {
        let mut text = String::new();
        row(&mut text, "", "measured", "without", "ratio");
        let mut beside = |what: &str, b: Beside| {
            let whole = |n: f64| format!("{n:.0}");
            let ratio = format!("{:.0} %", b.ratio * 100.0);
            row(&mut text, what, &whole(b.per_s), &whole(b.without_per_s), &ratio);
        };
        let expired = self.expired;
        beside(&format!("submits beside {expired} expired records, 1 task"), self.one_task_beside_expired);
        beside("  the same from 64 tasks", self.tasks_beside_expired);
        beside(&format!("submits beside a long reader, {TASKS} tasks"), self.beside_reader);
        beside(&format!("jobs/s, records expire after {TTL} s"), self.expiring_jobs);
        let mut line = |what: &str, value: String| row(&mut text, what, &value, "", "");
        line("  the sweep is behind by, at the end", format!("{:.2} s", self.sweep_behind_s));
        line("sweep of 1,000,000 records, nothing else to do", format!("{:.1} s", self.sweep_1m_s));
        line(&format!("stats, {} records", self.records), format!("{:.0} ms", self.stats_ms));
        line("  list, the slowest", format!("{:.0} ms", self.list_ms));
        line("  doctor", format!("{:.0} ms", self.doctor_ms));
        line("  longest get beside them", format!("{:.0} ms", self.longest_get_ms));
        text.push_str(&self.settings.footer(&format!("{} runs of {} jobs", self.runs, self.jobs_per_run)));
        text
    }
}
