//! What is around a job that waits.

use std::{sync::Arc, time::Duration};

use haulage::{
    JobId, QueueName, Record, Status,
    backend::{ListQuery, QueueStats},
};

use super::{Ahead, Around, start::start};
use crate::{
    Problem,
    server::{Api, jobs::find, keys::Identity},
};

/// Of how many jobs that wait the order is looked at.
const MOST_ORDERED: u64 = 1000;
/// How many jobs that have ended tell how long one takes.
const MOST_MEASURED: usize = 50;
/// Two looks at a queue that nobody seems to serve are so far apart: a worker that is between two jobs looks idle
/// to one of them.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// What is around a job that waits, as far as that costs little.
pub(in crate::server) async fn around(
    api: &Arc<Api>,
    who: &Identity,
    record: &Record,
) -> Result<Around, Problem> {
    let mut around = Around::default();
    if record.status != Status::Submitted {
        return Ok(around);
    }
    let queue = &record.spec.queue;
    if !api.backend.capabilities().cheap_looks {
        let backlog = api.backlog(who).await?;
        around.is_paused = backlog.queues.get(queue).is_some_and(|of| of.is_paused);
        return Ok(around);
    }
    let stats = api.stats(who).await?;
    let of = stats.queues.get(queue).cloned().unwrap_or_default();
    around.is_paused = of.is_paused;
    if let (None, Some(group)) = (record.due_at, &record.spec.group) {
        around.earlier = earlier(api, who, record, group).await?;
        return Ok(around);
    }
    if around.is_paused || record.due_at.is_some_and(|due| due > api.backend.clock().now()) {
        return Ok(around);
    }
    around.is_served = Some(true);
    if of.in_progress == 0 {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let now = api.stats(who).await?;
        if now.unserved(&stats).any(|(name, _)| name == queue) {
            around.is_served = Some(false);
            around.unready = api.unready_workers(who).await?;
            around.unready.retain(|_, unready| unready.queues.contains(queue));
        }
    }
    around.ahead = ahead(api, who, record, &of).await?;
    if let Some(ahead) = around.ahead {
        around.start =
            start(ahead, of.in_progress, &lately(api, who, queue).await?, api.backend.clock().now());
    }
    Ok(around)
}

/// The job of the group that runs, or else the last one that was submitted before this.
async fn earlier(
    api: &Arc<Api>,
    who: &Identity,
    record: &Record,
    group: &str,
) -> Result<Option<(JobId, Status)>, Problem> {
    let of_group =
        |status| ListQuery::new().queue(record.spec.queue.clone()).group(group).status(status).limit(1);
    let mut submitted = of_group(Status::Submitted);
    submitted.before = Some(record.id.clone());
    for query in [of_group(Status::InProgress), submitted] {
        if let Some(job) = find(api, who, query).await?.pop() {
            return Ok(Some((job.id, job.status)));
        }
    }
    Ok(None)
}

/// How many jobs of its queue are due before it.
async fn ahead(
    api: &Arc<Api>,
    who: &Identity,
    record: &Record,
    of: &QueueStats,
) -> Result<Option<Ahead>, Problem> {
    let others = of.due.saturating_sub(1);
    let waiting = of.due + of.delayed + of.blocked;
    if others > 0 && waiting > MOST_ORDERED {
        return Ok(Some(Ahead::AtMost(others)));
    }
    let limit = usize::try_from(MOST_ORDERED).unwrap_or(usize::MAX);
    let query = ListQuery::new().queue(record.spec.queue.clone()).status(Status::Submitted).limit(limit);
    let own = (record.due_at, &record.id);
    let jobs = find(api, who, query).await?;
    let before = jobs.iter().filter(|job| job.due_at.is_some() && (job.due_at, &job.id) < own);
    Ok(Some(Ahead::Exactly(before.count() as u64)))
}

/// How long the last jobs of a queue ran.
async fn lately(api: &Arc<Api>, who: &Identity, queue: &QueueName) -> Result<Vec<Duration>, Problem> {
    let query = ListQuery::new().queue(queue.clone()).status(Status::Success).limit(MOST_MEASURED);
    let jobs = find(api, who, query).await?;
    Ok(jobs.iter().filter_map(|job| Some(job.finished_at?.since(job.started_at?))).collect())
}
