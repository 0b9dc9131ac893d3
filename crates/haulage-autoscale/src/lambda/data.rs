//! What is put into CloudWatch.

use aws_sdk_cloudwatch::{
    Client,
    types::{Dimension, MetricDatum, StandardUnit},
};
use futures_util::future::join_all;
use haulage_autoscale::{
    BacklogSeconds, CapacityDemand, Metrics, NAMESPACE, RequiredTasks, ScaleInTo, ScaleOutTo,
};

use crate::{event::Pair, failure::Failure, limit::Limit};

const CALL: &str = "cloudwatch:PutMetricData";

/// Pairs in one call, of six metrics each at most: 1,000 metrics and 1 MB are the
/// limits (CloudWatch API Reference, "PutMetricData"), and the names of a pair
/// may be long.
const BATCH: usize = 100;

/// Seconds that a data point stands for.
const STANDARD: i32 = 60;
const HIGH: i32 = 1;

/// Puts the metrics of each pair; there is an answer for each, in their order.
///
/// Where a call for several is refused for what is in it, each is put alone:
/// CloudWatch takes all of a call or none.
pub(crate) async fn put(
    cloudwatch: &Client,
    metrics: &[(&Pair, Metrics)],
    limit: &Limit,
) -> Vec<Result<(), Failure>> {
    let calls = metrics.chunks(BATCH).map(|batch| async move {
        match put_batch(cloudwatch, batch, limit).await {
            Err(failure) if batch.len() > 1 && failure.is_invalid() => {
                join_all(batch.chunks(1).map(|pair| put_batch(cloudwatch, pair, limit))).await
            }
            answer => vec![answer; batch.len()],
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

async fn put_batch(cloudwatch: &Client, batch: &[(&Pair, Metrics)], limit: &Limit) -> Result<(), Failure> {
    let data = batch.iter().flat_map(|(pair, metrics)| data(pair, metrics)).collect();
    let call = cloudwatch.put_metric_data().namespace(NAMESPACE).set_metric_data(Some(data));
    let call = async { call.send().await.map(drop).map_err(|error| Failure::of_call(CALL, &error)) };
    limit.within(CALL, call).await
}

/// The metrics of a pair, with units and resolutions that the alarms and
/// policies of `terraform/modules/scaling_alarms` ask for: what they act on, what the
/// next invocation reads, and for a dashboard what people look at. Each is paid for.
fn data(pair: &Pair, metrics: &Metrics) -> Vec<MetricDatum> {
    let dimensions =
        pair.dimensions().map(|(name, value)| Dimension::builder().name(name).value(value).build());
    let datum = |name: &str, unit, value: f64, resolution| {
        MetricDatum::builder()
            .metric_name(name)
            .set_dimensions(Some(dimensions.to_vec()))
            .unit(unit)
            .value(value)
            .storage_resolution(resolution)
            .build()
    };
    use StandardUnit::{Count, Percent, Seconds};
    let mut data = vec![datum(RequiredTasks::NAME, Count, metrics.required_tasks.get() as f64, HIGH)];
    if pair.dashboard {
        data.extend([
            datum(BacklogSeconds::NAME, Seconds, metrics.backlog_seconds.get(), STANDARD),
            datum(Metrics::RUNNING_TASKS, Count, f64::from(metrics.running_tasks), STANDARD),
        ]);
    }
    if pair.direct.is_none() {
        data.extend([
            // Its alarm has a period of 10 s.
            datum(ScaleOutTo::NAME, Count, metrics.scale_out_to.get() as f64, HIGH),
            datum(ScaleInTo::NAME, Count, metrics.scale_in_to.get() as f64, STANDARD),
            datum(CapacityDemand::NAME, Percent, metrics.capacity_demand.get(), STANDARD),
        ]);
    }
    data
}

#[cfg(test)]
mod tests {
    use haulage_autoscale::{Estimate, Observation, QueueDepth, Service};
    use serde_json::{Value, json};

    use super::*;
    use crate::event::Event;

    fn put(direct: Value, dashboard: bool) -> Vec<(String, f64, String, i32)> {
        let event = Event::read(&json!({ "samples_per_minute": 1, "pairs": [{
            "cluster": "prod", "service": "worker", "queue_name": "jobs.fifo", "queue_url": "https://sqs/1/jobs.fifo",
            "slots_per_task": 2, "job_seconds": 60, "target_seconds": 300, "direct": direct, "dashboard": dashboard,
        }] }));
        let event = event.expect("an event");
        let [pair] = event.pairs.as_slice() else { panic!("one pair") };
        let metrics = Observation {
            queue: QueueDepth { visible: 32, in_flight: 2, delayed: 0 },
            service: Service { running: 1, pending: 1, desired: 2, deploying: false },
            slots: pair.slots_per_task,
            job_time: Estimate::configured(pair.job_seconds),
            busy: None,
        }
        .metrics(pair.target_seconds);
        let told = data(pair, &metrics).into_iter().map(|datum| {
            let dimensions =
                datum.dimensions().iter().map(|d| (d.name().expect("a name"), d.value().expect("a value")));
            assert_eq!(
                dimensions.collect::<Vec<_>>(),
                [("ClusterName", "prod"), ("ServiceName", "worker"), ("QueueName", "jobs.fifo")]
            );
            let unit = datum.unit().expect("a unit").as_str().to_owned();
            let name = datum.metric_name().expect("a name").to_owned();
            (name, datum.value().expect("a value"), unit, datum.storage_resolution().expect("a resolution"))
        });
        told.collect()
    }

    fn expected<const N: usize>(data: [(&str, f64, &str, i32); N]) -> Vec<(String, f64, String, i32)> {
        data.map(|(name, value, unit, every)| (name.to_owned(), value, unit.to_owned(), every)).into()
    }

    #[test]
    fn names_units_and_resolutions_are_those_that_alarms_ask_for() {
        assert_eq!(
            put(Value::Null, true),
            expected([
                ("RequiredTasks", 4.0, "Count", 1),
                ("BacklogSeconds", 510.0, "Seconds", 60),
                ("RunningTasks", 1.0, "Count", 60),
                ("ScaleOutTo", 4.0, "Count", 1),
                ("ScaleInTo", 1_000_000.0, "Count", 60),
                ("CapacityDemand", 100.0, "Percent", 60),
            ])
        );
    }

    #[test]
    fn no_metric_is_put_that_nothing_reads() {
        let direct = json!({ "min_tasks": 0, "max_tasks": 10, "scale_in_window_seconds": 120 });
        assert_eq!(put(direct.clone(), false), expected([("RequiredTasks", 4.0, "Count", 1)]));
        assert_eq!(
            put(direct, true),
            expected([
                ("RequiredTasks", 4.0, "Count", 1),
                ("BacklogSeconds", 510.0, "Seconds", 60),
                ("RunningTasks", 1.0, "Count", 60),
            ])
        );
        assert_eq!(
            put(Value::Null, false),
            expected([
                ("RequiredTasks", 4.0, "Count", 1),
                ("ScaleOutTo", 4.0, "Count", 1),
                ("ScaleInTo", 1_000_000.0, "Count", 60),
                ("CapacityDemand", 100.0, "Percent", 60),
            ])
        );
    }
}
