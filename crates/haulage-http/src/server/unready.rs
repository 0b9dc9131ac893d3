//! The workers that are not ready, as they say themselves.

use std::{collections::BTreeMap, sync::Arc};

use haulage::backend::Unready;

use super::{Api, backend::every_time, keys::Identity, reply::Handled, request::Request};

pub(super) async fn set_verb(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, (worker, unready): (String, Option<Unready>)| async move {
        let queues = unready.iter().flat_map(|unready| &unready.queues);
        who.need_queues(queues)?;
        if who.confined_to().is_some()
            && let Some(known) = api.backend.unready_workers().await?.get(&worker)
        {
            // A worker of other queues, which only has the same name.
            who.need_queues(&known.queues)?;
        }
        Ok(api.backend.set_unready(worker, unready).await?)
    })
    .await
}

pub(super) async fn list_verb(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, (): ()| async move { Ok(api.unready_workers(&who).await?) }).await
}

impl Api {
    /// Those that serve queues which the key is for, and these queues of theirs.
    pub(super) async fn unready_workers(&self, who: &Identity) -> haulage::Result<BTreeMap<String, Unready>> {
        let mut workers = self.backend.unready_workers().await?;
        if let Some(own) = who.confined_to() {
            workers.retain(|_, unready| {
                unready.queues.retain(|queue| own.contains(queue));
                !unready.queues.is_empty()
            });
        }
        Ok(workers)
    }
}
