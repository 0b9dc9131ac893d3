//! Jobs that wait for a message which SQS has deleted: nobody received it in
//! time. The record has all that is needed to send another one.
//!
//! A message is as old as its job is due, or younger. So once the retention has
//! passed since then, it is gone, or somebody replaces it again and again; a
//! second message does no harm, since the record decides.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    time::Duration,
};

use futures_util::TryStreamExt;
use haulage::{
    Error, FailureKind, JobError, JobId, QueueName, Record, Result, Status, Timestamp,
    backend::{Finding, Lookup, Severity},
    lifecycle::End,
};
use tracing::{debug, info, warn};

use crate::{
    delivery::revival::envelope_of,
    schema::{
        fence::unchanged,
        item::{Row, sort, spelled},
        name,
        update::{Write, moment},
    },
    services::{
        scan::{OF_STORE, OUTLINE},
        table::Written,
    },
    state::{Inner, Shared},
};

/// How many pages of the table a check reads, of a megabyte each: more than that
/// is for who asks for it.
const CHECK_PAGES: usize = 64;

/// How many jobs are remembered for which a message was sent.
const MOST_SEEN: usize = 10_000;

/// Sends another message for the jobs that have lost theirs, up to so many,
/// oldest first. One that cannot be sent ends as an error.
pub(crate) async fn redrive(inner: &Inner, limit: usize) -> Result<Vec<JobId>> {
    let Overdue { mut rows, gone, .. } = overdue(inner, usize::MAX).await?;
    sort(&mut rows);
    let mut failure = stranded(&gone).map(|what| Error::Config(format!("{what}; {REMEDY}")));
    let mut sent = Vec::new();
    // One after the other, as they may be of one group.
    for row in rows {
        if sent.len() >= limit {
            break;
        }
        // As it is now: the table was read as it was a moment ago.
        let row = match inner.store.jobs(vec![row.id()]).await {
            Ok(mut rows) => rows.pop().filter(|row| has_lost(inner, row)),
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        let Some(row) = row else { continue };
        match send(inner, &row).await {
            Ok(true) => sent.push(row.id()),
            Ok(false) => {}
            Err(error) => {
                warn!(%error, job_id = %row.id(), "its message is lost, and another one could not be sent");
                let passes = matches!(error, Error::Unavailable { .. });
                failure = Some(error);
                // The others would fail as well, each after its tries.
                if passes {
                    break;
                }
            }
        }
    }
    match failure {
        Some(error) if sent.is_empty() => Err(error),
        Some(error) => {
            warn!(%error, "not all lost messages were sent again");
            Ok(sent)
        }
        None => Ok(sent),
    }
}

/// How many there are, for whoever checks the queue. Nothing is said where it
/// may not be looked at: that is told elsewhere.
pub(crate) async fn check(inner: &Inner) -> Option<Finding> {
    const CHECK: &str = "lost messages";
    let Overdue { rows, gone, whole } = match overdue(inner, CHECK_PAGES).await {
        Ok(found) => found,
        Err(error) => {
            debug!(%error, "lost messages were not looked for");
            return None;
        }
    };
    let among = if whole { "" } else { "; the table is large, and only a part of it was looked at" };
    let stranded = stranded(&gone);
    Some(match (rows.len(), stranded) {
        (0, None) => Finding::ok(CHECK, format!("no job waits for a message that is gone{among}")),
        (0, Some(what)) => Finding::bad(Severity::Warning, CHECK, format!("{what}{among}"), REMEDY),
        (count, stranded) => Finding::bad(
            Severity::Warning,
            CHECK,
            format!(
                "jobs that wait for a message that SQS has deleted, as nobody received it in time: {count}{}{among}",
                stranded.map(|what| format!("; besides, {what}: {REMEDY}")).unwrap_or_default()
            ),
            "send them again with `haulage dead redrive --lost`; if work may wait for so long, lengthen the \
             queue's retention",
        ),
    })
}

/// Whoever looks at such a job, or waits for it, sends another message behind the
/// caller's back: so no wait is for nothing.
pub(crate) fn notice(inner: &Shared, lookups: &[Lookup]) {
    if inner.queues.default().present().is_err() {
        return;
    }
    let (now, longest) = (inner.now(), inner.store.retentions.longest());
    let mut seen = inner.lost_seen();
    if seen.len() >= MOST_SEEN {
        seen.retain(|_, at| at.after(longest) >= now);
    }
    let mut lost = Vec::new();
    for lookup in lookups {
        let Lookup::Found(record) = lookup else { continue };
        // What was sent then may be gone as well, a retention later.
        let is_fresh = seen.get(&record.id).is_none_or(|at| at.after(longest) < now);
        if is_lost(inner, record, now) && is_fresh && seen.len() < MOST_SEEN {
            seen.insert(record.id.clone(), now);
            lost.push(record.id.clone());
        }
    }
    drop(seen);
    if lost.is_empty() {
        return;
    }
    let inner = inner.clone();
    inner.tasks.clone().spawn(async move {
        // One after the other, oldest first, as they may be of one group.
        let rows = inner.store.jobs(lost.clone()).await.unwrap_or_else(|error| {
            warn!(%error, jobs = lost.len(), "messages are lost, and others could not be sent");
            Vec::new()
        });
        let mut unsent: HashSet<JobId> = lost.into_iter().collect();
        for row in rows.iter().filter(|row| has_lost(&inner, row)) {
            match send(&inner, row).await {
                Ok(true) => {
                    unsent.remove(&row.id());
                    info!(job_id = %row.id(), "its message was lost; another one was sent");
                }
                Ok(false) => {}
                Err(error) => {
                    warn!(%error, job_id = %row.id(), "its message is lost, and another one could not be sent");
                }
            }
        }
        // The next look tries again.
        inner.lost_seen().retain(|id, _| !unsent.contains(id));
    });
}

/// The message of a job that waits is gone, whatever has become of it since.
fn is_lost(inner: &Inner, record: &Record, now: Timestamp) -> bool {
    record.status == Status::Submitted
        && record.due_at.is_some_and(|due| due.after(inner.retention_of(&record.spec.queue)) < now)
}

/// The same, where no other message was sent since.
fn has_lost(inner: &Inner, row: &Row) -> bool {
    let now = inner.now();
    let sent = row.moment(name::RESENT_AT);
    row.is_job()
        && row.record(now).is_some_and(|record| is_lost(inner, &record, now))
        && sent.is_none_or(|sent| sent.after(inner.retention_of(&row.queue())) < now)
}

/// Sends another message; tells whether it was. Where there is no body any more,
/// that ends the job.
async fn send(inner: &Inner, row: &Row) -> Result<bool> {
    let Some(proof) = inner.store.proof(row).await? else { return Ok(false) };
    let row = match row.text(name::PROOF) {
        Some(_) => row.clone(),
        // Its record is another one, now that it has one.
        None => match inner.store.table.get(row.id().as_str()).await?.and_then(Row::of) {
            Some(row) => row,
            None => return Ok(false),
        },
    };
    let now = inner.now();
    let Some(envelope) = envelope_of(inner, &row, proof).await? else {
        let why = "the queue has deleted its message, as nobody received it in time, and its body is gone";
        let end = End::failed(JobError::new(FailureKind::MessageLost, why));
        let queue = row.text(name::QUEUE).unwrap_or_default();
        let write = inner.ended(&end, queue, now, row.result_ttl());
        inner.store.change(&row, unchanged(write, &row), None).await?;
        return Ok(false);
    };
    let queue = inner.queues.get(&row.queue()).await?;
    if let Some(sent) = queue.send(&[envelope], now).await.pop() {
        sent?;
    }
    // If we die before this, somebody sends one more.
    let write = Write::at(now).set(name::RESENT_AT, moment(now));
    match inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await? {
        Written::Done(_) => Ok(true),
        Written::Refused(other) => Ok(other.is_some_and(|other| !other.is_over())),
    }
}

/// The least retention that a queue can have (Amazon SQS API Reference,
/// SetQueueAttributes).
const LEAST_RETENTION: Duration = Duration::from_secs(60);

/// What to do about jobs whose queue is gone.
const REMEDY: &str = "make it again with `haulage queue create --queue NAME`, or cancel them";

/// The jobs of a store that have lost their messages.
#[derive(Default)]
struct Overdue {
    rows: Vec<Row>,
    /// How many wait in queues that are gone, which do not tell for how long they kept a message.
    gone: BTreeMap<QueueName, u64>,
    /// Whether the whole table was looked at.
    whole: bool,
}

/// Says how many jobs wait where no queue is.
fn stranded(gone: &BTreeMap<QueueName, u64>) -> Option<String> {
    let mut of_each = gone.iter().map(|(queue, count)| format!("{count} in {queue}"));
    let first = of_each.next()?;
    Some(format!(
        "jobs wait in a queue that is gone: {}",
        of_each.fold(first, |all, next| format!("{all}, {next}"))
    ))
}

/// Those jobs, as far as they are in so many pages of the table.
async fn overdue(inner: &Inner, most_pages: usize) -> Result<Overdue> {
    let filter = format!("{OF_STORE} AND (#status = :waits OR #status = :runs) AND #due_at < :gone");
    let gone = inner.now().before(LEAST_RETENTION);
    let mut values = HashMap::from([
        (":waits".to_owned(), spelled(Status::Submitted)),
        (":runs".to_owned(), spelled(Status::InProgress)),
        (":gone".to_owned(), moment(gone)),
    ]);
    values.extend(inner.of_store());
    let names = format!("{OUTLINE}, #resent_at");
    let mut pages = pin!(inner.store.table.scan_pages(&filter, values, &names, inner.counting()));
    let mut found = Overdue::default();
    for _ in 0..most_pages {
        let Some(page) = pages.try_next().await? else {
            found.whole = true;
            break;
        };
        for row in page.into_iter().filter(|row| inner.is_ours(row)) {
            // Which says for how long it keeps messages.
            let queue = row.queue();
            let is_gone = found.gone.contains_key(&queue)
                || match inner.queues.get(&queue).await {
                    Ok(_) => false,
                    Err(Error::Config(_)) => true,
                    Err(error) => return Err(error),
                };
            if is_gone {
                *found.gone.entry(queue).or_default() += 1;
                continue;
            }
            // A claim that was abandoned is noted before: its job waits again, or is over.
            found.rows.extend(inner.store.seen(row).await.filter(|row| has_lost(inner, row)));
        }
    }
    Ok(found)
}
