//! One look at all pairs.

use futures_util::{
    future::join,
    stream::{self, StreamExt as _},
};
use haulage_autoscale::{Metrics, Observation, QueueDepth, Service};

use crate::{data, event::Pair, failure::Failure, measured::Measured, queue, service, services::Services};

/// Queues that are asked for at once: each such call opens a connection, and
/// its TLS handshake takes its time on the sliver of a CPU that a small Lambda has.
const AT_ONCE: usize = 16;

/// Reads all pairs, and puts the metrics of those that could be read; there is
/// an answer for each, in their order. A pair that could not be read has no
/// metrics: alarms know what to do without data, and not with wrong data.
pub(crate) async fn look(
    services: &Services,
    pairs: &[Pair],
    measured: &[Result<Measured, Failure>],
) -> Vec<Result<(), Failure>> {
    let depths =
        stream::iter(pairs).map(|pair| queue::depth(&services.sqs, pair)).buffered(AT_ONCE).collect();
    let (depths, counts): (Vec<_>, _) = join(depths, service::counts(&services.ecs, pairs)).await;
    let read: Vec<Result<(&Pair, Metrics), Failure>> = pairs
        .iter()
        .zip(measured)
        .zip(depths.into_iter().zip(counts))
        .map(|((pair, measured), (depth, count))| {
            Ok((pair, metrics(pair, measured.clone()?, depth?, count?)))
        })
        .collect();
    let good: Vec<_> = read.iter().flatten().copied().collect();
    let mut put = data::put(&services.cloudwatch, &good).await.into_iter();
    read.into_iter()
        .map(|read| read.and_then(|_| put.next().expect("an answer for each that was put")))
        .collect()
}

fn metrics(pair: &Pair, measured: Measured, queue: QueueDepth, service: Service) -> Metrics {
    let job_time = measured.beside(pair.job_seconds);
    Observation { queue, service, slots: pair.slots_per_task, job_time, busy: measured.busy() }
        .metrics(pair.target_seconds)
}
