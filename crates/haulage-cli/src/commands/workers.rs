//! `haulage workers`

use haulage::{
    Status, Timestamp,
    backend::{Holder, ListQuery, holders},
};

use super::whole_read;
use crate::{
    exit::Result,
    output::{brief, sanitized_line},
    session::Session,
};

/// Show which workers hold jobs now, and which are not ready
///
/// For each its name, how many jobs it holds, for how long it has held the oldest of them, and when
/// the first of its leases ends, unless it heartbeats. Of a worker that is not ready, why and for how
/// long. One that is ready and has no job is not shown: nothing is known of it. On AWS the whole table
/// is read, and only workers that hold jobs are known.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage workers\n  haulage workers --json | jq -r 'select(.unready) | .worker'"
)]
pub(crate) struct Args {}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let backend = session.existing().await?;
        // As many as all workers together have slots, so no more than fit.
        let query = ListQuery::new().status(Status::InProgress).limit(usize::MAX);
        let held = whole_read::all(output, &*backend, backend.list(query)).await?;
        let workers = holders(&held, backend.unready_workers().await?);
        if output.json {
            return workers.iter().try_for_each(|worker| output.json(worker));
        }
        if workers.is_empty() {
            output.talk("no worker holds a job");
            return Ok(());
        }
        let now = backend.clock().now();
        let rows: Vec<_> = workers.iter().map(|worker| row(worker, now)).collect();
        let columns = if workers.iter().any(|worker| worker.unready.is_some()) { 5 } else { 4 };
        output.text(&output.table(&["WORKER", "JOBS", "OLDEST", "LEASE", "NOT READY"][..columns], &rows))
    }
}

fn row(holder: &Holder, now: Timestamp) -> Vec<String> {
    let oldest = holder.oldest_started_at.map(|start| brief(now.since(start)));
    let lease = holder.lease_until.map(|end| match now < end {
        true => format!("ends in {}", brief(end.since(now))),
        false => format!("ended {} ago", brief(now.since(end))),
    });
    let unready = holder.unready.as_ref().map(|unready| {
        let time = brief(now.since(unready.since));
        format!("for {time}: {}", sanitized_line(&unready.reason))
    });
    vec![
        sanitized_line(&holder.worker),
        holder.jobs.to_string(),
        oldest.unwrap_or_default(),
        lease.unwrap_or_default(),
        unready.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use haulage::{Record, backend::Unready};

    use super::*;

    #[test]
    fn a_worker_is_shown_with_its_oldest_job_the_first_lease_that_ends_and_what_it_lacks() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let record = |worker: &str, started, due| {
            let mut record = Record::new("x".into(), haulage::JobSpec::default(), at(0));
            record.status = Status::InProgress;
            record.worker = Some(worker.to_owned());
            (record.started_at, record.due_at) = (Some(at(started)), Some(at(due)));
            record
        };
        let held = [record("b", 10, 40), record("a", 100, 130), record("b", 5, 190)];
        let unready = |reason| Unready::new(["gpu".parse().expect("a name")], reason, at(40));
        let unready = [("a", "no device"), ("c", "refused\nagain")]
            .map(|(worker, reason)| (worker.to_owned(), unready(reason)));
        let found = holders(&held, BTreeMap::from(unready));
        let rows: Vec<_> = found.iter().map(|holder| row(holder, at(100))).collect();
        assert_eq!(
            rows,
            [
                ["a", "1", "0s", "ends in 30s", "for 1m: no device"],
                ["b", "2", "1m", "ended 1m ago", ""],
                ["c", "0", "", "", "for 1m: refused again"],
            ]
        );
    }
}
