//! Queue and table as other programs see them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use haulage::JobId;

use crate::place::Place;

/// A record as it is written: a look by the backend would end what is overdue.
pub(crate) async fn item(place: &Place, id: &JobId) -> HashMap<String, AttributeValue> {
    let key = AttributeValue::S(id.to_string());
    let get = place.dynamodb().await.get_item().table_name(&place.table).key("message_id", key);
    get.consistent_read(true).send().await.expect("get").item.expect("a record")
}

async fn url(place: &Place, name: &str) -> String {
    let found = place.sqs().await.get_queue_url().queue_name(name).send().await.expect("the queue");
    found.queue_url.expect("its URL")
}

/// Messages that a queue holds, hidden ones included.
pub(crate) async fn count(place: &Place, name: &str) -> u64 {
    use QueueAttributeName::{
        ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
        ApproximateNumberOfMessagesNotVisible,
    };
    let names = [
        ApproximateNumberOfMessages,
        ApproximateNumberOfMessagesDelayed,
        ApproximateNumberOfMessagesNotVisible,
    ];
    let call = place.sqs().await.get_queue_attributes().queue_url(url(place, name).await);
    let output = call.set_attribute_names(Some(names.to_vec())).send().await.expect("attributes");
    let attributes = output.attributes.expect("attributes");
    names.iter().filter_map(|name| attributes.get(name)?.parse::<u64>().ok()).sum()
}

/// Receives all that is visible, and hides it for so many seconds.
pub(crate) async fn receive(place: &Place, name: &str, hide: i32) -> Vec<Message> {
    let call = place.sqs().await.receive_message().queue_url(url(place, name).await);
    let call = call.max_number_of_messages(10).visibility_timeout(hide).wait_time_seconds(2);
    let call = call.message_attribute_names("All").message_system_attribute_names("All".into());
    call.send().await.expect("receive").messages.unwrap_or_default()
}

/// Deletes a message that is visible, as SQS does after its retention.
pub(crate) async fn lose(place: &Place) {
    let message = receive(place, &place.queue, 60).await.remove(0);
    let delete = place.sqs().await.delete_message().queue_url(url(place, &place.queue).await);
    delete.set_receipt_handle(message.receipt_handle).send().await.expect("deleted");
}

/// Sends a message as it was received, as a second delivery of it or a move
/// from queue to queue would bring it.
pub(crate) async fn resend(place: &Place, name: &str, message: &Message) {
    let send = place.sqs().await.send_message().queue_url(url(place, name).await);
    let mut send = send
        .message_body(message.body().unwrap_or_default())
        .set_message_attributes(message.message_attributes.clone());
    if name.ends_with(".fifo") {
        let unique = format!("again-{}", fastrand_u64());
        send = send.message_group_id(&unique).message_deduplication_id(&unique);
    }
    send.send().await.expect("send");
}

/// Sends text that no producer of Haulage has sent.
pub(crate) async fn send_text(place: &Place, text: &str) -> String {
    send_text_to(place, &place.queue, text).await
}

/// The same to this queue.
pub(crate) async fn send_text_to(place: &Place, name: &str, text: &str) -> String {
    let send = place.sqs().await.send_message().queue_url(url(place, name).await).message_body(text);
    let send = match name.ends_with(".fifo") {
        true => send.message_group_id("other").message_deduplication_id(format!("{}", fastrand_u64())),
        false => send,
    };
    send.send().await.expect("send").message_id.expect("its id")
}

/// Sends a body with these options, which need not be what a producer sends.
pub(crate) async fn send_with(place: &Place, options: &serde_json::Value, body: &str) -> String {
    use aws_sdk_sqs::types::MessageAttributeValue;
    let send = place.sqs().await.send_message().queue_url(url(place, &place.queue).await).message_body(body);
    let value = MessageAttributeValue::builder().data_type("String").string_value(options.to_string());
    let send = send.message_attributes("haulage", value.build().expect("a type"));
    let send = match place.queue.ends_with(".fifo") {
        true => send.message_group_id("other").message_deduplication_id(format!("{}", fastrand_u64())),
        false => send,
    };
    send.send().await.expect("send").message_id.expect("its id")
}

fn fastrand_u64() -> u64 {
    fastrand::u64(..)
}

/// Waits until a queue is empty; deletes wait for company a moment.
pub(crate) async fn assert_drained(place: &Place, name: &str) {
    for _ in 0..1_200 {
        if count(place, name).await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{} messages are left in {name}", count(place, name).await);
}

pub(crate) async fn delete_queue(place: &Place) {
    let delete = place.sqs().await.delete_queue().queue_url(url(place, &place.queue).await);
    delete.send().await.expect("deleted");
}

/// How long the queue keeps messages.
pub(crate) async fn set_retention(place: &Place, time: std::time::Duration) {
    let call = place.sqs().await.set_queue_attributes().queue_url(url(place, &place.queue).await);
    let call = call.attributes(QueueAttributeName::MessageRetentionPeriod, time.as_secs().to_string());
    call.send().await.expect("an attribute");
}
