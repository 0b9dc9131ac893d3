//! Queues, numbers and workers.

use std::{collections::BTreeMap, sync::Arc};

use haulage::{
    QueueName, Status,
    backend::{Backlog, ListQuery, QueueBacklog, Stats, holders},
};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{
    Api,
    caller::Caller,
    keys::Identity,
    reply::{self, Handled},
    request::{Request, invalid},
    to_the_end,
};
use crate::Problem;

/// How many jobs in progress are read to find the workers that hold them.
const MOST_HELD: usize = 10_000;

pub(super) async fn list(api: Arc<Api>, request: Request) -> Handled {
    // Where the records would have to be read, what the queues count by themselves.
    let queues = if api.backend.capabilities().cheap_looks {
        json!(api.stats(&request.who).await?.queues)
    } else {
        json!(api.backlog(&request.who).await?.queues)
    };
    Ok(reply::json(StatusCode::OK, &json!({ "queues": queues })))
}

pub(super) async fn pause(api: Arc<Api>, request: Request) -> Handled {
    paused(set_paused(&api, &request, true).await?, true)
}

pub(super) async fn resume(api: Arc<Api>, request: Request) -> Handled {
    paused(set_paused(&api, &request, false).await?, false)
}

fn paused((queue, changed): (QueueName, bool), paused: bool) -> Handled {
    Ok(reply::json(StatusCode::OK, &json!({ "queue": queue, "paused": paused, "changed": changed })))
}

/// Pauses the queue that the path names, or lets it go on; tells which, and whether it was otherwise.
pub(super) async fn set_paused(
    api: &Arc<Api>,
    request: &Request,
    paused: bool,
) -> Result<(QueueName, bool), Problem> {
    let queue = QueueName::new(request.part("queue")).map_err(|error| invalid("queue", error.to_string()))?;
    let changed = api.set_paused(&request.who, queue.clone(), paused).await?;
    Ok((queue, changed))
}

pub(super) async fn stats(api: Arc<Api>, request: Request) -> Handled {
    let exact = request.query.flag("exact")? || api.backend.capabilities().cheap_looks;
    Ok(match exact {
        true => reply::json(StatusCode::OK, &api.stats(&request.who).await?),
        false => reply::json(StatusCode::OK, &api.backlog(&request.who).await?),
    })
}

pub(super) async fn scale(api: Arc<Api>, request: Request) -> Handled {
    let backlog = api.backlog(&request.who).await?;
    let numbers = |visible: u64, delayed: u64, in_progress: u64| -> Value {
        let unfinished = visible + delayed + in_progress;
        json!({ "visible": visible, "delayed": delayed, "in_progress": in_progress,
            "ready": visible + in_progress, "unfinished": unfinished })
    };
    let answer = match request.query.parsed::<QueueName>("queue")? {
        Some(queue) => {
            request.who.need_queues([&queue])?;
            // A queue that nobody has used is empty.
            let QueueBacklog { visible, delayed, in_progress, is_paused, .. } =
                backlog.queues.get(&queue).cloned().unwrap_or_default();
            // What is paused needs nobody.
            numbers(if is_paused { 0 } else { visible }, delayed, in_progress)
        }
        None => numbers(backlog.visible, backlog.delayed, backlog.in_progress),
    };
    Ok(reply::json(StatusCode::OK, &answer))
}

pub(super) async fn workers(api: Arc<Api>, request: Request) -> Handled {
    request.who.need_all_queues()?;
    let query = ListQuery::new().status(Status::InProgress).limit(MOST_HELD);
    let held = api.backend.list(query).await?;
    let unready = api.unready_workers(&request.who).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "workers": holders(&held, unready) })))
}

impl Api {
    /// The numbers of the queues that the key is for.
    pub(super) async fn stats(&self, who: &Identity) -> haulage::Result<Stats> {
        let stats = self.backend.stats().await?;
        let Some(own) = who.confined_to() else { return Ok(stats) };
        let mut confined = Stats::default();
        for (queue, of_it) in only(stats.queues, own) {
            confined.add(queue, of_it);
        }
        Ok(confined)
    }

    /// The same at the least cost.
    pub(super) async fn backlog(&self, who: &Identity) -> haulage::Result<Backlog> {
        let backlog = self.backend.backlog().await?;
        let Some(own) = who.confined_to() else { return Ok(backlog) };
        let mut confined = Backlog::default();
        for (queue, of_it) in only(backlog.queues, own) {
            confined.add(queue, of_it);
        }
        Ok(confined)
    }

    pub(super) async fn set_paused(
        self: &Arc<Self>,
        who: &Arc<Caller>,
        queue: QueueName,
        paused: bool,
    ) -> Result<bool, Problem> {
        who.need_queues([&queue])?;
        let (api, who) = (Arc::clone(self), Arc::clone(who));
        to_the_end(async move {
            let changed = api.backend.set_paused(queue.clone(), paused).await?;
            api.audit_what(&who, if paused { "pause" } else { "resume" }, queue.as_str());
            Ok(changed)
        })
        .await
    }
}

fn only<T>(queues: BTreeMap<QueueName, T>, own: &[QueueName]) -> impl Iterator<Item = (QueueName, T)> {
    queues.into_iter().filter(|(queue, _)| own.contains(queue))
}
