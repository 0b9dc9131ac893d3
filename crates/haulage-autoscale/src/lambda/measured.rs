//! What the tasks have measured: how long jobs took, and how many slots were busy.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::{
    Client,
    error::SdkError,
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StatusCode},
};
use futures_util::future::join_all;
use haulage_autoscale::{BUSY_OVER, BusySlots, Estimate, JobSeconds, MEASURED_OVER, NAMESPACE};

use crate::{event::Pair, failure::Failure, limit::Limit};

pub(crate) const CALL: &str = "cloudwatch:GetMetricData";

/// Queries in one call (CloudWatch API Reference, "GetMetricData"); a pair has
/// three. They have some 500 points, so that a whole batch fits into an answer
/// of 100,800.
const BATCH: usize = 500 / 3;

/// Seconds of a data point of how long jobs took.
const PERIOD: i32 = 300;
/// And of how many slots were busy: a task publishes that once a minute.
const BUSY_PERIOD: i32 = 60;

/// What was published of one pair.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// Sum of the time that jobs took.
    seconds: f64,
    jobs: f64,
    /// In the busiest minute of late, the average of the tasks.
    busy: Option<f64>,
}

impl Measured {
    /// Beside what was configured.
    pub(crate) fn beside(self, configured: JobSeconds) -> Estimate {
        Estimate::configured(configured).with_measured(self.seconds / self.jobs, self.jobs as u64)
    }

    /// None, where no task has published any.
    pub(crate) fn busy(self) -> Option<BusySlots> {
        self.busy.and_then(|busy| BusySlots::new(busy).ok())
    }
}

/// What is known of each pair. It is read once, as it changes slowly and is paid
/// for, and again at the next sample where it could not be read. Until then a
/// pair has no metrics: with the configured time in place of the measured one,
/// it would be scaled one way and back.
#[derive(Debug)]
pub(crate) struct Known(Vec<Option<Measured>>);

impl Known {
    /// Nothing yet, of so many pairs.
    pub(crate) fn none_of(pairs: usize) -> Self {
        Self(vec![None; pairs])
    }

    /// What is known of each of these pairs, and is read before where it is not.
    pub(crate) async fn read(
        &mut self,
        cloudwatch: &Client,
        pairs: &[Pair],
        limit: &Limit,
    ) -> Vec<Result<Measured, Failure>> {
        let unknown: Vec<&Pair> =
            pairs.iter().zip(&self.0).filter(|(_, known)| known.is_none()).map(|(pair, _)| pair).collect();
        let mut read = measured(cloudwatch, &unknown, SystemTime::now(), limit).await.into_iter();
        let each = self.0.iter_mut().map(|known| match *known {
            Some(measured) => Ok(measured),
            None => {
                let measured = read.next().expect("an answer for each that was asked for")?;
                Ok(*known.insert(measured))
            }
        });
        each.collect()
    }
}

/// What the tasks of each pair published before `now`: the jobs that ended
/// within [`MEASURED_OVER`], and the slots that were busy within
/// [`BUSY_OVER`]. Of a pair that has not published any, there are none.
///
/// Sum and number rather than a mean of means, as periods have more jobs or fewer.
async fn measured(
    cloudwatch: &Client,
    pairs: &[&Pair],
    now: SystemTime,
    limit: &Limit,
) -> Vec<Result<Measured, Failure>> {
    let calls = pairs.chunks(BATCH).map(|batch| async move {
        match limit.within(CALL, read(cloudwatch, batch, now)).await {
            Ok(measured) => measured,
            Err(failure) => vec![Err(failure); batch.len()],
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

async fn read(
    cloudwatch: &Client,
    pairs: &[&Pair],
    now: SystemTime,
) -> Result<Vec<Result<Measured, Failure>>, Failure> {
    let mut measured = vec![Ok(Measured::default()); pairs.len()];
    let queries = pairs.iter().enumerate().flat_map(|(at, pair)| {
        let job_seconds =
            |id, statistic| query(pair, format!("{id}_{at}"), JobSeconds::NAME, PERIOD, statistic);
        [
            job_seconds("seconds", "Sum"),
            job_seconds("jobs", "SampleCount"),
            query(pair, format!("busy_{at}"), BusySlots::NAME, BUSY_PERIOD, "Average"),
        ]
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
                add(entry, result, now);
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

/// A query of a metric of this pair.
pub(crate) fn query(pair: &Pair, id: String, name: &str, period: i32, statistic: &str) -> MetricDataQuery {
    let dimensions =
        pair.dimensions().map(|(name, value)| Dimension::builder().name(name).value(value).build());
    let metric = Metric::builder()
        .namespace(NAMESPACE)
        .metric_name(name)
        .set_dimensions(Some(dimensions.to_vec()))
        .build();
    let stat = MetricStat::builder().metric(metric).period(period).stat(statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

fn add(entry: &mut Result<Measured, Failure>, result: &MetricDataResult, now: SystemTime) {
    if let Some(code @ (StatusCode::InternalError | StatusCode::Forbidden)) = result.status_code() {
        // With one of the three cut short, the others would mislead.
        *entry = Err(Failure::of_result(CALL, code, result));
    }
    let Ok(measured) = entry else { return };
    let sum = || result.values().iter().sum::<f64>();
    match result.id().and_then(|id| id.split_once('_')).map(|(what, _)| what) {
        Some("seconds") => measured.seconds += sum(),
        Some("jobs") => measured.jobs += sum(),
        Some("busy") => {
            let since = DateTime::from(now - Duration::from_secs_f64(BUSY_OVER));
            let points = result.timestamps().iter().zip(result.values());
            let late = points.filter(|(at, _)| **at >= since).map(|(_, value)| *value);
            measured.busy = late.chain(measured.busy).reduce(f64::max);
        }
        _ => {}
    }
}
