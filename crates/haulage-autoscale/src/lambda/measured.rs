//! How long jobs took, as the tasks measured it.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::{
    Client,
    error::SdkError,
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StatusCode},
};
use futures_util::future::join_all;
use haulage_autoscale::{Estimate, JobSeconds, MEASURED_OVER, NAMESPACE};

use crate::{event::Pair, failure::Failure};

const CALL: &str = "cloudwatch:GetMetricData";

/// Queries in one call (CloudWatch API Reference, "GetMetricData"); a pair has two.
const BATCH: usize = 500 / 2;

/// Seconds. Some 70 points for each query, so that a whole batch fits into an
/// answer of 100,800.
const PERIOD: i32 = 300;

/// Sum of the seconds, and number of the jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    seconds: f64,
    jobs: f64,
}

impl Measured {
    /// Beside what was configured.
    pub(crate) fn beside(self, configured: JobSeconds) -> Estimate {
        Estimate::configured(configured).with_measured(self.seconds / self.jobs, self.jobs as u64)
    }
}

/// The jobs of each pair that ended before `now`, within [`MEASURED_OVER`]. Of
/// a pair that has not published any, there are none.
///
/// Sum and number rather than a mean of means, as periods have more jobs or fewer.
pub(crate) async fn measured(
    cloudwatch: &Client,
    pairs: &[Pair],
    now: SystemTime,
) -> Vec<Result<Measured, Failure>> {
    let calls = pairs.chunks(BATCH).map(|batch| async move {
        match read(cloudwatch, batch, now).await {
            Ok(measured) => measured,
            Err(failure) => vec![Err(failure); batch.len()],
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

async fn read(
    cloudwatch: &Client,
    pairs: &[Pair],
    now: SystemTime,
) -> Result<Vec<Result<Measured, Failure>>, Failure> {
    let mut measured = vec![Ok(Measured::default()); pairs.len()];
    let queries = pairs.iter().enumerate().flat_map(|(at, pair)| {
        [query(pair, format!("seconds_{at}"), "Sum"), query(pair, format!("jobs_{at}"), "SampleCount")]
    });
    let mut pages = cloudwatch
        .get_metric_data()
        .set_metric_data_queries(Some(queries.collect()))
        .start_time(start(now))
        .end_time(DateTime::from(now))
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error: SdkError<_>| Failure::of_call(CALL, &error))?;
        for result in page.metric_data_results() {
            let at =
                result.id().and_then(|id| id.rsplit_once('_')).and_then(|(_, at)| at.parse::<usize>().ok());
            if let Some(entry) = at.and_then(|at| measured.get_mut(at)) {
                add(entry, result);
            }
        }
    }
    Ok(measured)
}

/// Aligned to the period, so that each of its points is whole.
fn start(now: SystemTime) -> DateTime {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = now.saturating_sub(Duration::from_secs_f64(MEASURED_OVER)).as_secs() as i64;
    DateTime::from_secs(start - start % i64::from(PERIOD))
}

fn query(pair: &Pair, id: String, statistic: &str) -> MetricDataQuery {
    let dimensions =
        pair.dimensions().map(|(name, value)| Dimension::builder().name(name).value(value).build());
    let metric = Metric::builder()
        .namespace(NAMESPACE)
        .metric_name(JobSeconds::NAME)
        .set_dimensions(Some(dimensions.to_vec()))
        .build();
    let stat = MetricStat::builder().metric(metric).period(PERIOD).stat(statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

fn add(measured: &mut Result<Measured, Failure>, result: &MetricDataResult) {
    match (result.status_code(), measured.as_mut()) {
        // With one of the two cut short, the mean would be wrong.
        (Some(code @ (StatusCode::InternalError | StatusCode::Forbidden)), _) => {
            let why = result.messages().iter().filter_map(|message| message.value()).collect::<Vec<_>>();
            *measured = Err(Failure::new(CALL, code.as_str(), why.join("; ")));
        }
        (_, Ok(measured)) => {
            let sum: f64 = result.values().iter().sum();
            let of_jobs = result.id().is_some_and(|id| id.starts_with("jobs"));
            *if of_jobs { &mut measured.jobs } else { &mut measured.seconds } += sum;
        }
        (_, Err(_)) => {}
    }
}
