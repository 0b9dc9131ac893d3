//! One sample of all pairs.

use futures_util::future::{join, join_all, join3};
use haulage_autoscale::{Observation, QueueDepth, Service};
use tokio::time::{Duration, Instant};

use crate::{
    data,
    event::Pair,
    failure::Failure,
    limit::Limit,
    measured::{Known, Measured},
    queue,
    scale::Histories,
    service,
    services::Services,
};

/// How long all reads may take, and then all that is done about them: with both, a sample is through
/// before the next of six in a minute.
const PHASE: Duration = Duration::from_secs(4);

/// Reads all pairs, and scales those that could be read and puts their metrics;
/// there is an answer for each, in their order. A pair that could not be read is
/// left as it is and has no metrics: alarms know what to do without data, and not
/// with wrong data.
pub(crate) async fn sample(
    services: &Services,
    pairs: &[Pair],
    known: &mut Known,
    histories: &mut Histories,
    deadline: Instant,
) -> Vec<Result<(), Failure>> {
    let now = Instant::now();
    // Where time is short, half of it is for the rest.
    let reads = Limit::until(now + PHASE.min(deadline.saturating_duration_since(now) / 2));
    let (measured, counts, depths) = join3(
        known.read(&services.cloudwatch, pairs, &reads),
        service::counts(&services.ecs, pairs, &reads),
        join_all(pairs.iter().map(|pair| queue::depth(&services.sqs, pair, &reads))),
    )
    .await;
    let read: Vec<Result<Observation, Failure>> = pairs
        .iter()
        .zip(measured)
        .zip(depths.into_iter().zip(counts))
        .map(|((pair, measured), (depth, count))| Ok(observation(pair, measured?, depth?, count?)))
        .collect();
    let seen: Vec<_> = read.iter().map(|read| read.as_ref().ok().copied()).collect();
    let rest = Limit::until(deadline.min(Instant::now() + PHASE));
    let idle = histories.idle(services, pairs, &seen).await;
    let good: Vec<_> = pairs
        .iter()
        .zip(&seen)
        .zip(&idle)
        .filter_map(|((pair, seen), idle)| {
            let metrics = (*seen)?.metrics(pair.target_seconds);
            Some((pair, if matches!(idle, Ok(true)) { metrics.of_idle() } else { metrics }))
        })
        .collect();
    let (scaled, put) =
        join(histories.scale(services, pairs, &seen, &rest), data::put(&services.cloudwatch, &good, &rest))
            .await;
    let mut put = put.into_iter();
    read.into_iter()
        .zip(scaled.into_iter().zip(idle))
        .map(|(read, (scaled, idle))| {
            read.and_then(|_| {
                let put = put.next().expect("an answer for each that was put");
                scaled.and(put).and(idle.map(drop))
            })
        })
        .collect()
}

fn observation(pair: &Pair, measured: Measured, queue: QueueDepth, service: Service) -> Observation {
    let job_time = measured.beside(pair.job_seconds);
    let seen = Observation { queue, service, slots: pair.slots_per_task, job_time, busy: measured.busy() };
    seen.after(pair.slots_before, pair.target_seconds)
}
