//! The queues of one store: that of its URL, and those that are named.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use aws_sdk_sqs::Client;
use haulage::{Error, QueueName, Result};
use tokio::sync::Mutex as AsyncMutex;
use tracing::debug;

use crate::{
    config::Config,
    queue_name::{in_sqs, of_sqs, prefix},
    services::{
        deleter::Deleter,
        fault::fault,
        queue::{MAX_RETENTION, Queue, Receipt},
    },
};

/// For how long each queue keeps messages, by its name in SQS, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retentions(Arc<RwLock<HashMap<String, Duration>>>);

impl Retentions {
    fn note(&self, queue: &Queue) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(queue.name.clone(), queue.retention);
    }

    /// That of a queue of this name; the longest that SQS has, where it is not known:
    /// records are to outlive their messages.
    pub(crate) fn of(&self, queue: &str) -> Duration {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(queue).copied().unwrap_or(MAX_RETENTION)
    }

    /// The longest of all that are in use here.
    pub(crate) fn longest(&self) -> Duration {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.values().max().copied().unwrap_or(MAX_RETENTION)
    }
}

/// The queues of a store. A named one is looked up when it is first needed.
#[derive(Debug)]
pub(crate) struct Queues {
    client: Client,
    config: Config,
    default: Arc<Queue>,
    named: AsyncMutex<HashMap<QueueName, Arc<Queue>>>,
    deleters: Mutex<HashMap<QueueName, Deleter>>,
    retentions: Retentions,
}

impl Queues {
    pub(crate) fn new(client: Client, config: Config, default: Queue) -> Self {
        let retentions = Retentions::default();
        retentions.note(&default);
        let (named, deleters) = (AsyncMutex::default(), Mutex::default());
        Self { client, config, default: Arc::new(default), named, deleters, retentions }
    }

    /// The queue of the URL.
    pub(crate) fn default(&self) -> &Arc<Queue> {
        &self.default
    }

    /// The name of the store, which is that of its default queue.
    pub(crate) fn store(&self) -> &str {
        self.config.queue_name()
    }

    pub(crate) fn retentions(&self) -> &Retentions {
        &self.retentions
    }

    /// The queue of this name.
    pub(crate) async fn get(&self, name: &QueueName) -> Result<Arc<Queue>> {
        if name.is_default() {
            self.default.present()?;
            return Ok(self.default.clone());
        }
        let mut named = self.named.lock().await;
        if let Some(queue) = named.get(name) {
            return Ok(queue.clone());
        }
        let queue = Queue::open(self.client.clone(), &self.config, name).await;
        let queue = Arc::new(queue.map_err(|error| match error {
            Error::Config(_) => Error::Config(format!(
                "the queue {name} is {} in SQS, and does not exist in this region and account; \
                 make it with `haulage queue create --queue {name}`",
                in_sqs(self.store(), name).unwrap_or_default()
            )),
            other => other,
        })?);
        self.retentions.note(&queue);
        named.insert(name.clone(), queue.clone());
        Ok(queue)
    }

    /// The queue that SQS has under this name, if it is one of this store.
    pub(crate) async fn by_sqs_name(&self, name: &str) -> Result<Option<Arc<Queue>>> {
        match of_sqs(name) {
            (store, queue) if store == self.store() => self.get(&queue).await.map(Some),
            _ => Ok(None),
        }
    }

    /// The names of all queues that there are, the default one first; that one alone, where
    /// the others may not be listed.
    pub(crate) async fn all(&self) -> Vec<QueueName> {
        let named = names(&self.client, self.store()).await.unwrap_or_else(|error| {
            // `doctor` says so.
            debug!(%error, "named queues are left out, as they cannot be listed");
            Vec::new()
        });
        std::iter::once(QueueName::default()).chain(named).collect()
    }

    /// Deletes a message soon; at once where others of its group wait for that.
    pub(crate) fn delete(&self, queue: &Arc<Queue>, receipt: Receipt, at_once: bool) {
        let mut deleters = self.deleters.lock().unwrap_or_else(PoisonError::into_inner);
        let deleter =
            deleters.entry(queue.named.clone()).or_insert_with(|| Deleter::start(Queue::clone(queue)));
        deleter.delete(receipt, at_once);
    }

    /// Deletes what is left, and waits for that a while.
    pub(crate) fn close(&self) {
        let deleters = std::mem::take(&mut *self.deleters.lock().unwrap_or_else(PoisonError::into_inner));
        deleters.values().for_each(Deleter::begin_to_close);
        deleters.values().for_each(Deleter::close);
    }
}

/// The named queues of a store, as SQS lists them.
pub(crate) async fn names(client: &Client, store: &str) -> Result<Vec<QueueName>> {
    let prefix = prefix(store);
    let pages = client.list_queues().queue_name_prefix(&prefix).max_results(1000).into_paginator();
    let urls: Vec<String> = pages
        .items()
        .send()
        .try_collect()
        .await
        .map_err(|e| fault(format_args!("list the queues {prefix}…"), e))?;
    let mut names: Vec<QueueName> = urls
        .iter()
        .filter_map(|url| url.rsplit('/').next())
        .map(of_sqs)
        .filter_map(|(of, name)| (of == store && !name.is_default()).then_some(name))
        .collect();
    names.sort();
    Ok(names)
}

/// Sorts what is of several queues by these, each in its order.
pub(crate) fn by_queue<T>(items: impl IntoIterator<Item = (Arc<Queue>, T)>) -> Vec<(Arc<Queue>, Vec<T>)> {
    let mut sorted: Vec<(Arc<Queue>, Vec<T>)> = Vec::new();
    for (queue, item) in items {
        match sorted.iter_mut().find(|(other, _)| other.named == queue.named) {
            Some((_, items)) => items.push(item),
            None => sorted.push((queue, vec![item])),
        }
    }
    sorted
}
