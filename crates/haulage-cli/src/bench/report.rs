//! The numbers, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    Effort, FEW, MANY,
    actor::{self, BODY_BYTES},
    pipeline::TASKS,
};

/// What was measured. Every rate is a median of the runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PipelineReport {
    pub(super) jobs_per_s: f64,
    pub(super) floor_jobs_per_s: f64,
    pub(super) jobs_ratio: f64,
    pub(super) turns_jobs_per_s: f64,
    pub(super) turns_jobs_ratio: f64,
    pub(super) single_submit_per_s: f64,
    pub(super) floor_submit_per_s: f64,
    pub(super) submit_ratio: f64,
    pub(super) one_by_one_per_s: f64,
    pub(super) one_by_one_ratio: f64,
    pub(super) turns_one_by_one_per_s: f64,
    pub(super) turns_one_by_one_ratio: f64,
    pub(super) one_slot_per_s: f64,
    pub(super) one_slot_ratio: f64,
    pub(super) turns_one_slot_per_s: f64,
    pub(super) turns_one_slot_ratio: f64,
    pub(super) pickup_p50_ms: f64,
    pub(super) pickup_p99_ms: f64,
    pub(super) roundtrip_p50_ms: f64,
    pub(super) jobs_per_s_backlog_1m: f64,
    pub(super) backlog_ratio: f64,
    pub(super) idle_cpu_percent: Option<f64>,
    pub(super) idle_rss_mb: Option<f64>,
    pub(super) cold_start_ms: f64,
    pub(super) cpu_burn_seconds: Option<u64>,
    pub(super) cpu_burn_lapses: Option<u32>,
    pub(super) fdatasync_per_s: f64,
    pub(super) settings: Settings,
}

/// On what, and on how large jobs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    haulage: &'static str,
    sqlite: &'static str,
    profile: &'static str,
    os: &'static str,
    arch: &'static str,
    cores: usize,
    synchronous: &'static str,
    body_bytes: usize,
}

impl Machine {
    pub(super) fn this() -> Self {
        Self {
            haulage: env!("CARGO_PKG_VERSION"),
            sqlite: rusqlite::version(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            synchronous: "FULL",
            body_bytes: BODY_BYTES,
        }
    }

    /// What stands below the table, with what is special to it.
    pub(super) fn footer(&self, rest: &str) -> String {
        let mut text = format!(
            "\nhaulage {} ({}), SQLite {}, {}-{}, {} cores; synchronous={}, bodies and results of {} bytes, {rest}\n",
            self.haulage,
            self.profile,
            self.sqlite,
            self.os,
            self.arch,
            self.cores,
            self.synchronous,
            self.body_bytes,
        );
        if self.profile == "debug" {
            text.push_str("This is a debug build: its numbers say little; use `cargo run --release`.\n");
        }
        text
    }
}

/// One line of a table.
pub(super) fn row(text: &mut String, what: &str, value: &str, floor: &str, ratio: &str) {
    let _ = writeln!(text, "{what:<52}{value:>14}{floor:>14}{ratio:>8}");
}

/// Under which conditions.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    #[serde(flatten)]
    machine: Machine,
    bulk_submit: u64,
    submit_tasks: u64,
    concurrency: usize,
    runs: usize,
    jobs_per_run: u64,
    latency_samples: usize,
    waiting_few: u64,
    waiting_many: u64,
}

impl Settings {
    pub(super) fn of(effort: Effort) -> Self {
        Self {
            machine: Machine::this(),
            bulk_submit: actor::BATCH,
            submit_tasks: TASKS,
            concurrency: actor::CONCURRENCY,
            runs: effort.runs,
            jobs_per_run: effort.jobs,
            latency_samples: effort.samples,
            waiting_few: FEW,
            waiting_many: MANY,
        }
    }
}

impl PipelineReport {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |what: &str, value: String, floor: String, ratio: String| {
            row(&mut text, what, &value, &floor, &ratio);
        };
        let whole = |n: f64| format!("{n:.0}");
        let percent = |n: f64| format!("{:.0} %", n * 100.0);
        let millis = |n: f64| format!("{n:.2} ms");
        let none = String::new;
        row("", "measured".into(), "floor".into(), "ratio".into());
        row(
            "submit → run → result stored, jobs/s",
            whole(self.jobs_per_s),
            whole(self.floor_jobs_per_s),
            percent(self.jobs_ratio),
        );
        row(
            "  of two connections that take turns",
            whole(self.jobs_per_s),
            whole(self.turns_jobs_per_s),
            percent(self.turns_jobs_ratio),
        );
        row(
            "  the same with 1,000,000 jobs waiting",
            whole(self.jobs_per_s_backlog_1m),
            whole(self.jobs_per_s),
            percent(self.backlog_ratio),
        );
        row(
            "single submits from 64 tasks, acknowledged/s",
            whole(self.single_submit_per_s),
            whole(self.floor_submit_per_s),
            percent(self.submit_ratio),
        );
        row(
            "submitted and run one after the other, jobs/s",
            whole(self.one_by_one_per_s),
            whole(self.fdatasync_per_s),
            percent(self.one_by_one_ratio),
        );
        row(
            "  of two connections that take turns",
            whole(self.one_by_one_per_s),
            whole(self.turns_one_by_one_per_s),
            percent(self.turns_one_by_one_ratio),
        );
        row(
            "run one after the other, jobs/s",
            whole(self.one_slot_per_s),
            whole(self.fdatasync_per_s),
            percent(self.one_slot_ratio),
        );
        row(
            "  of one connection that commits each",
            whole(self.one_slot_per_s),
            whole(self.turns_one_slot_per_s),
            percent(self.turns_one_slot_ratio),
        );
        row("pickup by an idle worker, p50", millis(self.pickup_p50_ms), none(), none());
        row("pickup by an idle worker, p99", millis(self.pickup_p99_ms), none(), none());
        row("submit and wait, round trip, p50", millis(self.roundtrip_p50_ms), none(), none());
        row("worker process, start to first claim", millis(self.cold_start_ms), none(), none());
        let unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
        row("idle worker, CPU", unknown(self.idle_cpu_percent.map(|n| format!("{n:.2} %"))), none(), none());
        row("idle worker, resident", unknown(self.idle_rss_mb.map(|n| format!("{n:.1} MB"))), none(), none());
        if let (Some(seconds), Some(lapses)) = (self.cpu_burn_seconds, self.cpu_burn_lapses) {
            let what = format!("handler burning CPU for {seconds} s, lapses of its 5 s lease");
            row(&what, lapses.to_string(), none(), none());
        }
        row("the disk, fdatasync/s", whole(self.fdatasync_per_s), none(), none());
        let s = &self.settings;
        text.push_str(&s.machine.footer(&format!(
            "bulk submits of {}, {} at once; {} runs of {} jobs",
            s.bulk_submit, s.concurrency, s.runs, s.jobs_per_run,
        )));
        text
    }
}

/// The middle of some measurements; 0 where there are none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value below which this part of the measurements lies.
pub(super) fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(((last as f64) * part).round() as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&mut values), 3.0);
        assert_eq!(percentile(&mut values, 0.99), 5.0);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}
