//! Which queues are paused: an item of the table says so for all of a store's.
//!
//! Whoever claims looks at it, at most once in [`LOOK_EVERY`]; so a pause that another
//! process makes holds after that time, and a resumed queue goes on after it.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{QueueName, Result};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::{
    schema::{
        name,
        update::{Item, text},
    },
    services::{fault::fault, table::Table},
};

/// For how long a look is good.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The attribute that names them.
const QUEUES: &str = "queues";

#[derive(Debug, Default)]
struct Seen {
    paused: HashSet<QueueName>,
    at: Option<Instant>,
}

/// The pauses of one store.
#[derive(Debug)]
pub(crate) struct Pauses {
    key: String,
    seen: Mutex<Seen>,
    /// Changes when this process has paused or resumed a queue.
    pub(crate) changed: watch::Sender<()>,
}

impl Pauses {
    pub(crate) fn of(store: &str) -> Self {
        Self { key: format!("paused#{store}"), seen: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paused queues, as they were [`LOOK_EVERY`] ago or later. Where the table does
    /// not answer, what was known last holds on.
    pub(crate) async fn known(&self, table: &Table) -> HashSet<QueueName> {
        {
            let seen = self.seen();
            if seen.at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
                return seen.paused.clone();
            }
        }
        if let Err(error) = self.note(Instant::now(), table.hint(&self.key).await) {
            warn!(%error, "which queues are paused could not be looked at");
        }
        self.seen().paused.clone()
    }

    /// The same as they are now.
    pub(crate) async fn look(&self, table: &Table) -> Result<HashSet<QueueName>> {
        self.note(Instant::now(), table.get(&self.key).await)
    }

    /// Notes what a look has brought that began then.
    fn note(&self, began: Instant, item: Result<Option<Item>>) -> Result<HashSet<QueueName>> {
        let paused = item?.as_ref().map(names).unwrap_or_default();
        let mut seen = self.seen();
        // What was set meanwhile is newer.
        if seen.at.is_none_or(|at| at <= began) {
            *seen = Seen { paused: paused.clone(), at: Some(began) };
        }
        Ok(paused)
    }

    /// Pauses a queue, or lets it go on; tells whether that changed anything.
    pub(crate) async fn set(&self, table: &Table, queue: &QueueName, paused: bool) -> Result<bool> {
        let verb = if paused { "ADD" } else { "DELETE" };
        let set = AttributeValue::Ss(vec![queue.to_string()]);
        let call = table
            .client()
            .update_item()
            .table_name(table.name())
            .key(name::ID, text(&self.key))
            .update_expression(format!("{verb} #queues :queue"))
            .expression_attribute_names("#queues", QUEUES)
            .expression_attribute_values(":queue", set)
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld)
            .send();
        let before = call.await.map_err(|e| fault(format_args!("write to table {}", table.name()), e))?;
        let before = before.attributes.as_ref().map(names).unwrap_or_default();
        let was_paused = before.contains(queue);
        let mut seen = self.seen();
        *seen = Seen { paused: before, at: Some(Instant::now()) };
        if paused {
            seen.paused.insert(queue.clone());
        } else {
            seen.paused.remove(queue);
        }
        drop(seen);
        self.changed.send_replace(());
        Ok(was_paused != paused)
    }
}

/// What an item says; a name that is none is nobody's.
fn names(item: &Item) -> HashSet<QueueName> {
    let names = item.get(QUEUES).and_then(|value| value.as_ss().ok());
    names.into_iter().flatten().filter_map(|name| QueueName::new(name).ok()).collect()
}
