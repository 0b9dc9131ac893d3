//! `backlog` and `whole_read`: what a look costs little to know, and what a look at
//! everything costs.

use std::collections::BTreeSet;

use aws_sdk_sqs::types::QueueAttributeName::{
    self, ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
    ApproximateNumberOfMessagesNotVisible,
};
use futures_util::future::try_join_all;
use haulage::{
    Result,
    backend::{Backlog, QueueBacklog, WholeRead},
};

use crate::{services::fault::fault, state::Shared};

const COUNTS: [QueueAttributeName; 3] =
    [ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed, ApproximateNumberOfMessagesNotVisible];

/// The queues' own counts: a request to list the named ones, and one for each queue and
/// dead-letter queue.
pub(crate) async fn backlog(inner: Shared) -> Result<Backlog> {
    let named = inner.queues.all().await.into_iter();
    let queues = try_join_all(named.map(|name| {
        let inner = inner.clone();
        async move { inner.queues.get(&name).await }
    }))
    .await?;
    let dead: BTreeSet<&str> = queues.iter().filter_map(|queue| queue.dead.as_deref()).collect();
    let of_dead = try_join_all(dead.into_iter().map(|url| counts(&inner, url)));
    let of_queues = try_join_all(queues.iter().map(|queue| counts(&inner, &queue.url)));
    let (of_queues, of_dead) = futures_util::try_join!(of_queues, of_dead)?;
    let paused = inner.pauses.known(&inner.store.table).await;
    let mut backlog = Backlog::default();
    for (queue, [visible, delayed, hidden]) in queues.iter().zip(of_queues) {
        let mut of_it = QueueBacklog::default();
        (of_it.visible, of_it.delayed, of_it.in_progress) = (visible, delayed, hidden);
        of_it.is_paused = paused.contains(&queue.named);
        backlog.add(queue.named.clone(), of_it);
    }
    backlog.dead = of_dead.iter().flatten().sum();
    Ok(backlog)
}

async fn counts(inner: &Shared, url: &str) -> Result<[u64; 3]> {
    let call = inner.queues.default().client().get_queue_attributes().queue_url(url);
    let output = call.set_attribute_names(Some(COUNTS.to_vec())).send().await;
    let queue = url.rsplit('/').next().unwrap_or(url);
    let output = output.map_err(|e| fault(format_args!("read the counts of queue {queue}"), e))?;
    let attributes = output.attributes.unwrap_or_default();
    Ok(COUNTS.map(|name| attributes.get(&name).and_then(|text| text.parse().ok()).unwrap_or(0)))
}

/// What DynamoDB reads for half a unit where it need not be the latest.
const UNIT: u64 = 4096;
/// A read unit on demand in us-east-1, in US dollars ("Amazon DynamoDB pricing for
/// on-demand capacity", June 2026).
const DOLLARS_A_UNIT: f64 = 0.125e-6;

/// The table as DynamoDB has counted it in the last six hours, which costs nothing.
pub(crate) async fn whole_read(inner: Shared) -> Result<Option<WholeRead>> {
    let table = inner.store.table.name();
    let found = inner.store.table.client().describe_table().table_name(table).send().await;
    let found = found.map_err(|e| fault(format_args!("describe table {table}"), e))?;
    let count = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    let described = found.table.as_ref();
    let mut read = WholeRead::new(format!("table {table}"));
    read.items = count(described.and_then(|table| table.item_count()));
    read.bytes = count(described.and_then(|table| table.table_size_bytes()));
    read.dollars = read.bytes.div_ceil(UNIT) as f64 / 2.0 * DOLLARS_A_UNIT;
    read.price = "on demand, in us-east-1".into();
    Ok(Some(read))
}
