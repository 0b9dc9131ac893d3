//! The numbers of `haulage bench --size`, as a table and as JSON.

use serde::Serialize;

use super::{
    Effort, TASKS, TTL,
    bodies::Bodies,
    crowd::{self, Crowd},
    waits::Waits,
};
use crate::bench::report::{Machine, row};

/// A rate, and that of the same without what it is measured beside.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Beside {
    pub(super) per_s: f64,
    pub(super) without_per_s: f64,
    pub(super) ratio: f64,
}

/// What looks at many records take.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Looks {
    pub(super) stats_ms: f64,
    pub(super) list_ms: f64,
    pub(super) doctor_ms: f64,
    pub(super) longest_get_ms: f64,
}

/// What was measured. Rates, ratios and times are medians of the runs.
#[derive(Clone, Debug, Serialize)]
pub(in crate::bench) struct SizeReport {
    pub(super) one_task_beside_expired: Option<Beside>,
    pub(super) tasks_beside_expired: Option<Beside>,
    pub(super) sweep_1m_s: Option<f64>,
    pub(super) expiring_jobs: Option<Beside>,
    pub(super) sweep_behind_s: Option<f64>,
    pub(super) beside_reader: Option<Beside>,
    pub(super) beside_reader_alone: Option<Beside>,
    pub(super) crowd: Option<Crowd>,
    pub(super) waits: Option<Waits>,
    pub(super) bodies: Option<Bodies>,
    pub(super) looks: Option<Looks>,
    expired: i64,
    records: i64,
    jobs_per_run: u64,
    runs: usize,
    settings: Machine,
}

impl SizeReport {
    pub(super) fn new(effort: Effort) -> Self {
        Self {
            one_task_beside_expired: None,
            tasks_beside_expired: None,
            sweep_1m_s: None,
            expiring_jobs: None,
            sweep_behind_s: None,
            beside_reader: None,
            beside_reader_alone: None,
            crowd: None,
            waits: None,
            bodies: None,
            looks: None,
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
        let mut beside = |what: &str, measured: Option<Beside>| {
            let Some(b) = measured else { return };
            let whole = |n: f64| format!("{n:.0}");
            let ratio = format!("{:.0} %", b.ratio * 100.0);
            row(&mut text, what, &whole(b.per_s), &whole(b.without_per_s), &ratio);
        };
        let expired = self.expired;
        beside(&format!("submits beside {expired} expired records, 1 task"), self.one_task_beside_expired);
        beside("  the same from 64 tasks", self.tasks_beside_expired);
        beside(&format!("submits beside a long reader, {TASKS} tasks"), self.beside_reader);
        beside("  the same by SQLite alone", self.beside_reader_alone);
        beside(&format!("jobs/s, records expire after {TTL} s"), self.expiring_jobs);
        let mut line = |what: &str, value: Option<String>, without: Option<String>| {
            if let Some(value) = value {
                row(&mut text, what, &value, &without.unwrap_or_default(), "");
            }
        };
        let seconds = |s: f64| format!("{s:.1} s");
        line("  the sweep is behind by, at the end", self.sweep_behind_s.map(seconds), None);
        line("sweep of 1,000,000 records, nothing else to do", self.sweep_1m_s.map(seconds), None);
        if let Some(crowd) = self.crowd {
            let (workers, per_s) = (crowd::WORKERS, crowd::PER_SECOND);
            let percent = |part: Option<f64>| part.map(|part| format!("{part:.1} %"));
            line(
                &format!("CPU of {workers} idle workers, {per_s} jobs/s not due"),
                percent(crowd.not_due_percent),
                None,
            );
            line(
                &format!("  {per_s} jobs/s run, without: by one worker"),
                percent(crowd.percent),
                percent(crowd.alone_percent),
            );
        }
        if let Some(waits) = self.waits {
            let what = format!("haulage wait, {} results of 4 MiB, resident", waits.results);
            line(&what, waits.resident_mb.map(|mb| format!("{mb:.0} MB")), None);
        }
        let millis = |ms: f64| format!("{ms:.0} ms");
        if let Some(bodies) = self.bodies {
            let what = "longest submit beside 4 MiB bodies: submitted";
            line(what, Some(millis(bodies.submits_ms)), Some(millis(bodies.disk_ms)));
            line("  claimed and settled", Some(millis(bodies.jobs_ms)), None);
            line("  purged", Some(millis(bodies.purge_ms)), None);
        }
        if let Some(looks) = self.looks {
            line(&format!("stats, {} records", self.records), Some(millis(looks.stats_ms)), None);
            line("  list, the slowest", Some(millis(looks.list_ms)), None);
            line("  doctor", Some(millis(looks.doctor_ms)), None);
            line("  longest get beside them", Some(millis(looks.longest_get_ms)), None);
        }
        text.push_str(&self.settings.footer(&format!("{} runs of {} jobs", self.runs, self.jobs_per_run)));
        text
    }
}
