//! What SQS knows of a queue.

use aws_sdk_sqs::{Client, types::QueueAttributeName};
use futures_util::future::try_join_all;
use haulage_autoscale::QueueDepth;

use crate::{event::Pair, failure::Failure, limit::Limit};

const CALL: &str = "sqs:GetQueueAttributes";

/// The counts of a pair's queues together; none, where one of them is not to be had.
pub(crate) async fn depth(sqs: &Client, pair: &Pair, limit: &Limit) -> Result<QueueDepth, Failure> {
    let urls = [&pair.queue_url].into_iter().chain(&pair.more_queue_urls);
    let depths = try_join_all(urls.map(|url| depth_of(sqs, url, limit))).await?;
    let sum = |count: fn(&QueueDepth) -> u64| depths.iter().map(count).fold(0, u64::saturating_add);
    Ok(QueueDepth {
        visible: sum(|depth| depth.visible),
        in_flight: sum(|depth| depth.in_flight),
        delayed: sum(|depth| depth.delayed),
    })
}

async fn depth_of(sqs: &Client, url: &str, limit: &Limit) -> Result<QueueDepth, Failure> {
    use QueueAttributeName as Name;
    let call = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(Name::ApproximateNumberOfMessages)
        .attribute_names(Name::ApproximateNumberOfMessagesNotVisible)
        .attribute_names(Name::ApproximateNumberOfMessagesDelayed);
    let call = async { call.send().await.map_err(|error| Failure::of_call(CALL, &error)) };
    let answer = limit.within(CALL, call).await?;
    let count = |name: Name| {
        let count = answer.attributes().and_then(|all| all.get(&name)).and_then(|text| text.parse().ok());
        count.ok_or_else(|| Failure::new(CALL, "UnreadableAnswer", format!("there is no number in {name}")))
    };
    Ok(QueueDepth {
        visible: count(Name::ApproximateNumberOfMessages)?,
        in_flight: count(Name::ApproximateNumberOfMessagesNotVisible)?,
        delayed: count(Name::ApproximateNumberOfMessagesDelayed)?,
    })
}
