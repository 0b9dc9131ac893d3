//! What the services do by themselves: a plain loop of batched send, receive
//! and delete, and three writes a job, at the same concurrency.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry};
use futures_util::future::{join_all, try_join_all};

use super::{super::failed, Place, load::CONCURRENCY};
use crate::{
    bench::actor,
    exit::{Exit, Result},
};

const BATCH: usize = 10;

pub(super) async fn jobs_per_s(place: &Place, jobs: u64) -> Result<f64> {
    let began = Instant::now();
    let body = actor::job().body;
    let batches = AtomicU64::new(jobs / BATCH as u64);
    let lanes = CONCURRENCY / BATCH;
    let take =
        || batches.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    try_join_all((0..lanes).map(|_| async {
        while take() {
            send(place, body.as_str()).await?;
        }
        Ok::<(), Exit>(())
    }))
    .await?;
    let left = AtomicU64::new(jobs / BATCH as u64 * BATCH as u64);
    try_join_all((0..lanes).map(|_| async {
        while left.load(Ordering::SeqCst) > 0 {
            receive(place, &left).await?;
        }
        Ok::<(), Exit>(())
    }))
    .await?;
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

async fn send(place: &Place, body: &str) -> Result<()> {
    let entries = (0..BATCH).map(|n| {
        let token = format!("{:032x}", fastrand::u128(..));
        let mut entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body);
        if place.fifo {
            entry = entry.message_group_id(&token).message_deduplication_id(&token);
        }
        entry.build().expect("id and body are set")
    });
    let call = place.sqs.send_message_batch().queue_url(&place.queue_url);
    let sent = call.set_entries(Some(entries.collect())).send().await.map_err(|e| failed("a send", e))?;
    let writes = sent.successful.iter().map(|sent| write(place, &sent.message_id, "submitted", body));
    join_all(writes).await.into_iter().collect()
}

async fn write(place: &Place, id: &str, status: &str, body: &str) -> Result<()> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let call = place
        .dynamodb
        .update_item()
        .table_name(&place.table)
        .key("message_id", text(id))
        .update_expression("SET #status = :status, #body = :body, #at = :at")
        .expression_attribute_names("#status", "status")
        .expression_attribute_names("#body", "body")
        .expression_attribute_names("#at", "updated_at")
        .set_expression_attribute_values(Some(HashMap::from([
            (":status".to_owned(), text(status)),
            (":body".to_owned(), text(body)),
            (":at".to_owned(), AttributeValue::N("1795600000".to_owned())),
        ])));
    call.send().await.map(drop).map_err(|e| failed("a write", e))
}

async fn receive(place: &Place, left: &AtomicU64) -> Result<()> {
    let call = place.sqs.receive_message().queue_url(&place.queue_url).max_number_of_messages(10);
    let output = call.wait_time_seconds(0).send().await.map_err(|e| failed("a receive", e))?;
    let messages = output.messages.unwrap_or_default();
    let job = async |message: &aws_sdk_sqs::types::Message| {
        let (id, body) = (message.message_id().unwrap_or_default(), message.body().unwrap_or_default());
        write(place, id, "in_progress", body).await?;
        write(place, id, "success", body).await
    };
    join_all(messages.iter().map(job)).await.into_iter().collect::<Result<Vec<_>>>()?;
    let entries = messages.iter().enumerate().map(|(n, message)| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
        entry.receipt_handle(message.receipt_handle().unwrap_or_default()).build().expect("both are set")
    });
    let entries: Vec<_> = entries.collect();
    if !entries.is_empty() {
        let call = place.sqs.delete_message_batch().queue_url(&place.queue_url).set_entries(Some(entries));
        call.send().await.map_err(|e| failed("a delete", e))?;
        left.fetch_sub(messages.len() as u64, Ordering::SeqCst);
    }
    Ok(())
}
