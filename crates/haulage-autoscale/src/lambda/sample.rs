//! One sample of all pairs.

use futures_util::future::{join_all, join3};
use haulage_autoscale::{Metrics, Observation, QueueDepth, Service};
use tokio::time::{Duration, Instant};

use crate::{
    data,
    event::Pair,
    failure::Failure,
    limit::Limit,
    measured::{Known, Measured},
    queue, service,
    services::Services,
};

/// How long all reads may take, and then all puts: with both, a sample is through
/// before the next of six in a minute.
const PHASE: Duration = Duration::from_secs(4);

/// Reads all pairs, and puts the metrics of those that could be read; there is
/// an answer for each, in their order. A pair that could not be read has no
/// metrics: alarms know what to do without data, and not with wrong data.
pub(crate) async fn sample(
    services: &Services,
    pairs: &[Pair],
    known: &mut Known,
    deadline: Instant,
) -> Vec<Result<(), Failure>> {
    let now = Instant::now();
    // Where time is short, half of it is for the puts.
    let reads = Limit::until(now + PHASE.min(deadline.saturating_duration_since(now) / 2));
    let (measured, counts, depths) = join3(
        known.read(&services.cloudwatch, pairs, &reads),
        service::counts(&services.ecs, pairs, &reads),
        join_all(pairs.iter().map(|pair| queue::depth(&services.sqs, pair, &reads))),
    )
    .await;
    let read: Vec<Result<(&Pair, Metrics), Failure>> = pairs
        .iter()
        .zip(measured)
        .zip(depths.into_iter().zip(counts))
        .map(|((pair, measured), (depth, count))| Ok((pair, metrics(pair, measured?, depth?, count?))))
        .collect();
    let good: Vec<_> = read.iter().flatten().copied().collect();
    let puts = Limit::until(deadline.min(Instant::now() + PHASE));
    let mut put = data::put(&services.cloudwatch, &good, &puts).await.into_iter();
    read.into_iter()
        .map(|read| read.and_then(|_| put.next().expect("an answer for each that was put")))
        .collect()
}

fn metrics(pair: &Pair, measured: Measured, queue: QueueDepth, service: Service) -> Metrics {
    let job_time = measured.beside(pair.job_seconds);
    Observation { queue, service, slots: pair.slots_per_task, job_time, busy: measured.busy() }
        .metrics(pair.target_seconds)
}
