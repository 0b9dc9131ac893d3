//! What SQS knows of a queue.

use aws_sdk_sqs::{Client, types::QueueAttributeName};
use haulage_autoscale::QueueDepth;

use crate::{event::Pair, failure::Failure, limit::Limit};

const CALL: &str = "sqs:GetQueueAttributes";

/// The counts of a pair's queue.
pub(crate) async fn depth(sqs: &Client, pair: &Pair, limit: &Limit) -> Result<QueueDepth, Failure> {
    use QueueAttributeName as Name;
    let call = sqs
        .get_queue_attributes()
        .queue_url(&pair.queue_url)
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
