//! What was required in the minutes before, from the metric itself.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::{Client, error::SdkError, primitives::DateTime, types::StatusCode};
use futures_util::future::join_all;
use haulage_autoscale::{History, RequiredTasks};

use crate::{
    event::Pair,
    failure::Failure,
    limit::Limit,
    measured::{self, query},
};

const CALL: &str = measured::CALL;

/// Seconds of a data point, as close as six looks a minute: the metric is of
/// high resolution, which CloudWatch keeps for three hours ("Metrics
/// retention"), and an hour is the most that is asked for.
const PERIOD: u32 = 10;

/// Queries in one call, which may have 500; an answer has 100,800 points at most
/// (CloudWatch API Reference, "GetMetricData"), and these have 370 each.
const BATCH: usize = 250;

/// Looks: when each was, in seconds of Unix time, and the most that it required.
pub(crate) type Looks = Vec<(u64, u64)>;

/// The looks at each pair in so many seconds before `now`, and the one before
/// those. What was put last may not be among them yet.
pub(crate) async fn read(
    cloudwatch: &Client,
    pairs: &[(&Pair, u64)],
    now: u64,
    limit: &Limit,
) -> Vec<Result<Looks, Failure>> {
    let calls = pairs.chunks(BATCH).map(|batch| async move {
        match limit.within(CALL, read_batch(cloudwatch, batch, now)).await {
            Ok(looks) => looks,
            Err(failure) => vec![Err(failure); batch.len()],
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

async fn read_batch(
    cloudwatch: &Client,
    pairs: &[(&Pair, u64)],
    now: u64,
) -> Result<Vec<Result<Looks, Failure>>, Failure> {
    let mut looks = vec![Ok(Looks::new()); pairs.len()];
    let queries = pairs.iter().enumerate().map(|(at, (pair, _))| {
        query(pair, format!("required_{at}"), RequiredTasks::NAME, PERIOD as i32, "Maximum")
    });
    let back = pairs.iter().map(|(_, back)| *back).max().unwrap_or_default() + History::LOOKS_APART;
    let start = now.saturating_sub(back) / u64::from(PERIOD) * u64::from(PERIOD);
    let moment = |seconds| DateTime::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let mut pages = cloudwatch
        .get_metric_data()
        .set_metric_data_queries(Some(queries.collect()))
        .start_time(moment(start))
        // The end is not among what it brings, and this second is.
        .end_time(moment(now + 1))
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error: SdkError<_>| Failure::of_call(CALL, &error))?;
        for result in page.metric_data_results() {
            let at = result.id().and_then(|id| id.strip_prefix("required_")).and_then(|at| at.parse().ok());
            let Some(entry) = at.and_then(|at: usize| looks.get_mut(at)) else { continue };
            if let Some(code @ (StatusCode::InternalError | StatusCode::Forbidden)) = result.status_code() {
                *entry = Err(Failure::of_result(CALL, code, result));
            }
            if let Ok(looks) = entry {
                let points = result.timestamps().iter().zip(result.values());
                looks.extend(points.filter_map(|(at, required)| {
                    Some((u64::try_from(at.secs()).ok()?, required.ceil() as u64))
                }));
            }
        }
    }
    Ok(looks)
}
