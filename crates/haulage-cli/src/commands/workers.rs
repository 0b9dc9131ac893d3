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

/// Show which workers hold jobs now
///
/// For each its name, how many jobs it holds, for how long it has held the oldest of them, and when
/// the first of its leases ends, unless it heartbeats. A worker without a job is not shown: nothing
/// is known of it. On AWS the whole table is read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage workers\n  haulage workers --json | jq -r 'select(.jobs > 8) | .worker'"
)]
pub(crate) struct Args {}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let backend = session.existing().await?;
        // As many as all workers together have slots, so no more than fit.
        let query = ListQuery::new().status(Status::InProgress).limit(usize::MAX);
        let workers = holders(&whole_read::all(output, &*backend, backend.list(query)).await?);
        if output.json {
            return workers.iter().try_for_each(|worker| output.json(worker));
        }
        if workers.is_empty() {
            output.talk("no worker holds a job");
            return Ok(());
        }
        let now = backend.clock().now();
        let rows: Vec<_> = workers.iter().map(|worker| row(worker, now)).collect();
        output.text(&output.table(&["WORKER", "JOBS", "OLDEST", "LEASE"], &rows))
    }
}

fn row(holder: &Holder, now: Timestamp) -> Vec<String> {
    let oldest = holder.oldest_started_at.map(|start| brief(now.since(start)));
    let lease = holder.lease_until.map(|end| match now < end {
        true => format!("ends in {}", brief(end.since(now))),
        false => format!("ended {} ago", brief(now.since(end))),
    });
    vec![
        sanitized_line(&holder.worker),
        holder.jobs.to_string(),
        oldest.unwrap_or_default(),
        lease.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use haulage::Record;

    use super::*;

    #[test]
    fn a_worker_is_shown_with_its_oldest_job_and_the_first_lease_that_ends() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let record = |worker: &str, started, due| {
            let mut record = Record::new("x".into(), haulage::JobSpec::default(), at(0));
            record.status = Status::InProgress;
            record.worker = Some(worker.to_owned());
            (record.started_at, record.due_at) = (Some(at(started)), Some(at(due)));
            record
        };
        let found = holders(&[record("b", 10, 40), record("a", 100, 130), record("b", 5, 190)]);
        let rows: Vec<_> = found.iter().map(|holder| row(holder, at(100))).collect();
        assert_eq!(rows, [["a", "1", "0s", "ends in 30s"], ["b", "2", "1m", "ended 1m ago"]]);
    }
}
