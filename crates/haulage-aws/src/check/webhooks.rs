//! Is what is to be told to webhooks told?

use haulage::backend::Finding;
use tracing::debug;

use crate::{schema::webhook::dead_of, state::Inner};

/// So many are counted, and no more.
const MOST: usize = 1000;

/// Nothing is said where nothing is wrong, or the index may not be read: that is told elsewhere.
pub(super) async fn check(inner: &Inner) -> Vec<Finding> {
    let (store, table, now) = (inner.queues.store(), &inner.store.table, inner.now());
    let count = async |of: &str, until| match table.deliveries(of, until, MOST, None).await {
        Ok((entries, _)) => entries.iter().filter(|entry| !entry.is_expired(now)).count() as u64,
        Err(error) => {
            debug!(%error, "deliveries were not looked for");
            0
        }
    };
    let overdue = count(store, Some(now.before(Finding::UNTOLD))).await;
    let dead = count(&dead_of(store), None).await;
    Finding::webhooks(overdue, dead, Some(MOST as u64))
}
