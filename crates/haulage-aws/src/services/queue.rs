//! The SQS queue: sends, receives, visibility, deletes, all in batches.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::timeout::TimeoutConfig,
    error::SdkError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        Message, MessageSystemAttributeName, QueueAttributeName,
    },
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures_util::future::join_all;
use haulage::{Error, QueueName, Result};
use tracing::{debug, warn};

use crate::{
    config::Config,
    queue_name::in_sqs,
    random,
    schema::{raw::PREFIX, wire::ATTRIBUTE},
    services::{
        fault::{fault, is_denied, is_missing, may_pass},
        redrive_policy::RedrivePolicy,
        table::{chunks_of, pause},
    },
};

/// Amazon SQS API Reference: entries of one batch, messages of one receive.
pub(crate) const MAX_BATCH: usize = 10;
/// The same: the longest visibility timeout.
pub(crate) const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);
/// The longest that SQS keeps a message (Amazon SQS Developer Guide, "Amazon SQS message quotas").
pub(crate) const MAX_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);
/// The longest long poll.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(20);
/// How often a call, or what a batch left undone, is tried again.
pub(crate) const MAX_ROUNDS: u32 = 6;

/// Where a receipt is good, and for what.
pub(crate) type Receipt = String;

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    client: Client,
    /// What the store calls it.
    pub(crate) named: QueueName,
    /// What SQS calls it.
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) fifo: bool,
    /// How long SQS keeps a message.
    pub(crate) retention: Duration,
    /// After how many receives SQS moves a message to the dead-letter queue.
    pub(crate) max_receives: Option<i64>,
    /// The dead-letter queue.
    pub(crate) dead: Option<String>,
    /// Why there is only its name.
    absent: Option<Error>,
}

/// Seconds as SQS counts them, never too few.
pub(crate) fn whole_seconds(duration: Duration) -> i32 {
    let whole = duration.min(MAX_VISIBILITY);
    let seconds = whole.as_secs() + u64::from(whole.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

impl Queue {
    /// Looks a queue of the store up.
    pub(crate) async fn open(client: Client, config: &Config, named: &QueueName) -> Result<Self> {
        let name = in_sqs(config.queue_name(), named)?;
        let url = match config.queue.rsplit_once('/') {
            Some((place, _)) if config.queue.contains("://") => format!("{place}/{name}"),
            _ => {
                let found = client.get_queue_url().queue_name(&name).send().await;
                let found = found.map_err(|e| fault(format_args!("find queue {name}"), e))?;
                found.queue_url.unwrap_or_default()
            }
        };
        let mut queue = Self { named: named.clone(), name, ..Self::unknown(client, config, url) };
        let call = queue
            .client
            .get_queue_attributes()
            .queue_url(&queue.url)
            .attribute_names(QueueAttributeName::All);
        match call.send().await {
            Ok(output) => queue.take_in(&output.attributes.unwrap_or_default()).await,
            Err(error) if error.code().is_some_and(is_denied) => {
                warn!(
                    queue = queue.name,
                    "sqs:GetQueueAttributes is denied: messages that SQS is about to move or delete are not \
                     replaced, and dead letters are in the table only"
                );
            }
            Err(error) => {
                return Err(fault(format_args!("read the attributes of queue {}", queue.name), error));
            }
        }
        Ok(queue)
    }

    /// One of which nothing is known, and nothing can be asked, for this reason.
    pub(crate) fn absent(client: Client, config: &Config, why: Error) -> Self {
        Self { absent: Some(why), ..Self::unknown(client, config, String::new()) }
    }

    fn unknown(client: Client, config: &Config, url: String) -> Self {
        Self {
            client,
            named: QueueName::default(),
            name: config.queue_name().to_owned(),
            url,
            fifo: config.is_fifo(),
            // For as long as we do not know: records are to outlive their messages.
            retention: MAX_RETENTION,
            max_receives: None,
            dead: None,
            absent: None,
        }
    }

    /// For what cannot be done without it.
    pub(crate) fn present(&self) -> Result<()> {
        self.absent.clone().map_or(Ok(()), Err)
    }

    async fn take_in(&mut self, attributes: &HashMap<QueueAttributeName, String>) {
        let number = |name| attributes.get(&name).and_then(|text| text.parse::<u64>().ok());
        if let Some(seconds) = number(QueueAttributeName::MessageRetentionPeriod) {
            self.retention = Duration::from_secs(seconds);
        }
        let Some(redrive) =
            attributes.get(&QueueAttributeName::RedrivePolicy).and_then(|t| RedrivePolicy::parse(t))
        else {
            return;
        };
        self.max_receives = Some(redrive.max_receives);
        // The queue may be another account's, and so its dead-letter queue is.
        let call = self.client.get_queue_url().queue_name(redrive.queue_name());
        match call.set_queue_owner_aws_account_id(redrive.account()).send().await {
            Ok(found) => self.dead = found.queue_url,
            Err(error) => {
                let error = fault(format_args!("find dead-letter queue {}", redrive.arn), error);
                warn!(%error, "dead letters are recorded in the table only");
            }
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Receives up to `max` messages, 10 at most, and hides them for
    /// `visibility`. Waits up to `wait` for the first.
    pub(crate) async fn receive(
        &self,
        url: &str,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Message>> {
        let wait = wait.min(MAX_WAIT);
        let patient = aws_sdk_sqs::config::Builder::new().timeout_config(
            TimeoutConfig::builder().operation_attempt_timeout(wait + Duration::from_secs(10)).build(),
        );
        let max = i32::try_from(max.min(MAX_BATCH)).unwrap_or(1);
        let call = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(max)
            .visibility_timeout(whole_seconds(visibility))
            .wait_time_seconds(whole_seconds(wait))
            .message_attribute_names(ATTRIBUTE)
            // All that begin so (Amazon SQS API Reference, ReceiveMessage).
            .message_attribute_names(format!("{PREFIX}*"))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .message_system_attribute_names(MessageSystemAttributeName::DeadLetterQueueSourceArn)
            // If the answer is lost, a second try brings the same messages.
            .set_receive_request_attempt_id(self.fifo.then(random::mark))
            .customize()
            .config_override(patient)
            .send();
        let output = call.await.map_err(|e| fault(format_args!("receive from queue {}", self.name), e))?;
        Ok(output.messages.unwrap_or_default())
    }

    /// Hides messages for so long from now on, or shows them at once. Where
    /// that fails, a message shows when its present time is over; what is then
    /// made of it is the record's to say.
    pub(crate) async fn hide(&self, messages: Vec<(Receipt, Duration)>) {
        let chunks = chunks_of(messages, MAX_BATCH);
        join_all(chunks.into_iter().map(|chunk| self.hide_chunk(chunk))).await;
    }

    /// The same for messages that go back: of a group, the first must not be the
    /// last to show.
    pub(crate) async fn hide_in_order(&self, messages: Vec<(Receipt, Duration)>) {
        if !self.fifo {
            return self.hide(messages).await;
        }
        for chunk in chunks_of(messages, MAX_BATCH) {
            self.hide_chunk(chunk).await;
        }
    }

    /// Shows messages of another queue again, such as the dead-letter queue.
    pub(crate) async fn show_in(&self, url: &str, receipts: Vec<Receipt>) {
        let other = Self { url: url.to_owned(), ..self.clone() };
        other.hide(receipts.into_iter().map(|receipt| (receipt, Duration::ZERO)).collect()).await;
    }

    async fn hide_chunk(&self, mut left: Vec<(Receipt, Duration)>) {
        for round in 0..=MAX_ROUNDS {
            if round > 0 {
                pause(round).await;
            }
            let entries = left.iter().enumerate().map(|(at, (receipt, time))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(at.to_string())
                    .receipt_handle(receipt)
                    .visibility_timeout(whole_seconds(*time))
                    .build()
                    .expect("id and receipt are set")
            });
            let call = self.client.change_message_visibility_batch().queue_url(&self.url);
            match call.set_entries(Some(entries.collect())).send().await {
                Ok(output) => left = again(output.failed, left, "change the visibility of a message"),
                Err(error) => {
                    let error = fault(format_args!("change visibility in queue {}", self.name), error);
                    warn!(%error, "messages show again when their present time is over");
                    return;
                }
            }
            if left.is_empty() {
                return;
            }
        }
    }

    /// Deletes messages. One that stays is deleted when it shows again, as its
    /// record says that its job is over.
    pub(crate) async fn delete(&self, url: &str, receipts: Vec<Receipt>) {
        let chunks = chunks_of(receipts, MAX_BATCH);
        join_all(chunks.into_iter().map(|chunk| self.delete_chunk(url, chunk))).await;
    }

    async fn delete_chunk(&self, url: &str, mut left: Vec<Receipt>) {
        for round in 0..=MAX_ROUNDS {
            if round > 0 {
                pause(round).await;
            }
            let entries = left.iter().enumerate().map(|(at, receipt)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(at.to_string())
                    .receipt_handle(receipt)
                    .build()
                    .expect("id and receipt are set")
            });
            let call = self.client.delete_message_batch().queue_url(url);
            match call.set_entries(Some(entries.collect())).send().await {
                Ok(output) => left = again(output.failed, left, "delete a message"),
                Err(error) => {
                    let error = fault(format_args!("delete from queue {}", self.name), error);
                    warn!(%error, "the messages are deleted when they show again");
                    return;
                }
            }
            if left.is_empty() {
                return;
            }
        }
    }
}

/// What a batch left undone and is worth another try.
fn again<T>(failed: Vec<BatchResultErrorEntry>, all: Vec<T>, what: &str) -> Vec<T> {
    let mut keep = vec![false; all.len()];
    for entry in failed {
        let said = entry.message.unwrap_or_default();
        // A receipt that is no longer good is nothing to try again with.
        if !entry.sender_fault || may_pass(&entry.code) {
            if let Some(place) = entry.id.parse::<usize>().ok().filter(|at| *at < keep.len()) {
                keep[place] = true;
            }
        } else {
            debug!(code = entry.code, said, "cannot {what}");
        }
    }
    all.into_iter().zip(keep).filter_map(|(item, keep)| keep.then_some(item)).collect()
}

/// Whether an error says that the queue is not there.
pub(crate) fn is_gone<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code().is_some_and(is_missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_seconds_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (100_000_000, 43_200)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
