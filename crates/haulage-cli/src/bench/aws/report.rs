//! The numbers of a run on AWS, as a table and as JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use haulage_aws::Usage;
use serde::Serialize;

use super::costs::Costs;

/// What was measured. Rates are medians of the runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AwsReport {
    pub(super) jobs_per_s: f64,
    pub(super) floor_jobs_per_s: f64,
    pub(super) jobs_ratio: f64,
    pub(super) sqs_requests_per_job: f64,
    pub(super) dynamodb_requests_per_job: f64,
    pub(super) write_units_per_job: f64,
    pub(super) usd_per_million_jobs: f64,
    pub(super) usd_per_million_jobs_standard: f64,
    pub(super) batch_gets_per_1000_waits: u64,
    pub(super) idle_requests_per_20_s: f64,
    pub(super) requests_per_heartbeat_interval: f64,
    pub(super) requests_of_one_long_job_per_20_s: f64,
    pub(super) cancel_heard_s: f64,
    pub(super) costs: Costs,
    pub(super) by_operation: Requests,
    pub(super) prices_region: &'static str,
    pub(super) prices_as_of: &'static str,
    pub(super) concurrency: usize,
    pub(super) jobs_per_run: u64,
    pub(super) runs: usize,
}

/// Requests per job, by operation.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Requests(BTreeMap<String, f64>);

impl Requests {
    pub(super) fn new(usage: &Usage, jobs: u64) -> Self {
        let named = |service: &'static str| {
            move |(name, count): (&String, &u64)| (format!("{service}:{name}"), *count as f64 / jobs as f64)
        };
        let all = usage.sqs.iter().map(named("sqs")).chain(usage.dynamodb.iter().map(named("dynamodb")));
        Self(all.collect())
    }
}

impl AwsReport {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<58} {value}");
        };
        row("jobs/s, bulk submit and busy queue, FIFO", format!("{:.0}", self.jobs_per_s));
        row("  floor: batched send, receive, delete, three writes", format!("{:.0}", self.floor_jobs_per_s));
        row("  of the floor", format!("{:.0} %", self.jobs_ratio * 100.0));
        row("SQS requests a job", format!("{:.3}", self.sqs_requests_per_job));
        row("DynamoDB requests a job", format!("{:.3}", self.dynamodb_requests_per_job));
        for (operation, count) in &self.by_operation.0 {
            row(&format!("  {operation}"), format!("{count:.3}"));
        }
        row("DynamoDB write units a job", format!("{:.2}", self.write_units_per_job));
        let prices = format!("list prices of {}, {}", self.prices_region, self.prices_as_of);
        row(&format!("dollars a million jobs, FIFO ({prices})"), format!("{:.2}", self.usd_per_million_jobs));
        row("dollars a million jobs, standard queue", format!("{:.2}", self.usd_per_million_jobs_standard));
        row("BatchGetItem calls a poll of 1,000 waits", self.batch_gets_per_1000_waits.to_string());
        row("requests of an idle consumer in 20 s", format!("{:.2}", self.idle_requests_per_20_s));
        row(
            "requests a long job and heartbeat interval, of 100 in a process",
            format!("{:.2}", self.requests_per_heartbeat_interval),
        );
        row(
            "requests of a process with one long job in 20 s",
            format!("{:.0}", self.requests_of_one_long_job_per_20_s),
        );
        row("seconds until a running job hears of a cancel", format!("{:.1}", self.cancel_heard_s));
        row(
            "jobs a run, runs, concurrency",
            format!("{}, {}, {}", self.jobs_per_run, self.runs, self.concurrency),
        );
        self.costs.table(&mut text);
        text
    }
}
