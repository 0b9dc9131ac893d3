//! Listing records, newest first.
//!
//! By status, by a queue that has a name, by request id, and by group as far as its jobs are not over, records are found by an
//! index, and by the beginning of the id since ids are in the order of the rows. For all else the rows are read, the newest first, until there are enough.

use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter, types::Value};
use uuid::Uuid;

use super::{fault::Fault, get, id};
use crate::{Error, JobId, QueueName, Record, Status, Timestamp, backend::ListQuery};

/// How many of the newest rows are looked at first. Where too few of them are
/// meant, it depends on how many such records there are whether going on is
/// faster, or sorting those that the indexes have.
const NEAR: i64 = 100_000;

pub(super) fn list(connection: &Connection, query: &ListQuery, now: Timestamp) -> Result<Vec<Record>, Fault> {
    list_near(connection, query, now, NEAR)
}

fn list_near(
    connection: &Connection,
    query: &ListQuery,
    now: Timestamp,
    near: i64,
) -> Result<Vec<Record>, Fault> {
    let mut before = match &query.before {
        None => connection.query_row("SELECT coalesce(max(seq), 0) + 1 FROM job", [], |r| r.get(0))?,
        Some(id) => row_of(connection, id)?,
    };
    let mut sources = Sources::of(query, now);
    if let Some(prefix) = &query.id_prefix {
        sources.beginning_with(connection, prefix)?;
    }
    let search = Search { connection, sources, status: query.status, queue: query.queue.as_ref(), near };
    let mut found = Vec::new();
    loop {
        let limit = query.limit - found.len();
        let rows = search.rows(before, limit)?;
        let records = get::records(connection, &rows, now)?;
        // The queries let through what only the whole record can tell.
        found.extend(records.into_iter().filter(|record| query.matches(record, now)));
        match rows.last() {
            Some(last) if rows.len() == limit && found.len() < query.limit => before = *last,
            _ => return Ok(found),
        }
    }
}

fn row_of(connection: &Connection, id: &JobId) -> Result<i64, Fault> {
    let found = match id::parse(id) {
        Some(id) => connection
            .prepare_cached("SELECT seq FROM job WHERE seq = ?1 AND id = ?2")?
            .query_row(params![id::seq(id), id.as_bytes()], |r| r.get(0))
            .optional()?,
        None => None,
    };
    found.ok_or_else(|| Error::NotFound(id.clone()).into())
}

/// The first row whose id has these milliseconds or more. They never go back.
fn first_row(connection: &Connection, millis: u64) -> rusqlite::Result<i64> {
    let mut next =
        connection.prepare_cached("SELECT seq, id FROM job WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    let rows = connection.query_row("SELECT coalesce(max(seq), 0) + 1 FROM job", [], |r| r.get(0))?;
    let (mut low, mut high): (i64, i64) = (0, rows);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = next
            .query_row([middle], |r| Ok((r.get::<_, i64>(0)?, Uuid::from_bytes(r.get(1)?))))
            .optional()?;
        match found {
            Some((seq, id)) if id::millis_of(id) < millis => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// A way through the rows of the table.
struct Search<'a> {
    connection: &'a Connection,
    sources: Sources,
    status: Option<Status>,
    queue: Option<&'a QueueName>,
    near: i64,
}

impl Search<'_> {
    /// The newest rows before this one that may be meant.
    fn rows(&self, before: i64, limit: usize) -> rusqlite::Result<Vec<i64>> {
        let Sources { indexes, in_order, .. } = &self.sources;
        if !in_order {
            return self.newest(indexes, before, limit);
        }
        if let Some(queue) = self.queue.filter(|queue| !queue.is_default()) {
            return match self.status {
                Some(Status::Submitted) if self.is_rare(Status::Submitted, Some(queue))? => {
                    self.newest(indexes, before, limit)
                }
                _ => self.newest(&["INDEXED BY job_queue WHERE queue IS NOT NULL".to_owned()], before, limit),
            };
        }
        let first = before.saturating_sub(self.near);
        let rows = self.newest(&[format!("NOT INDEXED WHERE seq >= {first}")], before, limit)?;
        if rows.len() >= limit || first <= 1 {
            return Ok(rows);
        }
        if let Some(status) = self.status
            && self.is_rare(status, self.queue)?
        {
            return self.newest(indexes, before, limit);
        }
        self.newest(&["NOT INDEXED WHERE TRUE".to_owned()], before, limit)
    }

    fn newest(&self, sources: &[String], before: i64, limit: usize) -> rusqlite::Result<Vec<i64>> {
        let Sources { meant, values, .. } = &self.sources;
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = Vec::new();
        for source in sources {
            let sql = format!(
                "SELECT seq FROM job {source} AND {meant} AND seq < {before} ORDER BY seq DESC LIMIT {most}"
            );
            let mut statement = self.connection.prepare(&sql)?;
            let found = statement.query_map(params_from_iter(values), |r| r.get::<_, i64>(0))?;
            rows.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.truncate(limit);
        Ok(rows)
    }

    /// Whether most records, of this queue or of all, have another status.
    fn is_rare(&self, status: Status, queue: Option<&QueueName>) -> rusqlite::Result<bool> {
        let column = if status == Status::Success { "success" } else { "submitted" };
        let sql = format!(
            "SELECT 2 * total({column}) < total(submitted + in_progress + success + error + cancelled)
             FROM counts WHERE queue = ?1 OR ?1 IS NULL"
        );
        self.connection.query_row(&sql, [queue.map(QueueName::as_str)], |r| r.get(0))
    }
}

/// Where what is meant is found.
struct Sources {
    /// What is true of such rows.
    meant: String,
    /// The values in it, `?1` and so on.
    values: Vec<Value>,
    /// The indexes that together have all of them, in another order than that of submits.
    indexes: Vec<String>,
    /// Whether many of them are likely to be among the newest rows, which are looked at first then.
    in_order: bool,
}

impl Sources {
    fn of(query: &ListQuery, now: Timestamp) -> Self {
        let (indexes, in_order) = Self::indexes(query);
        let mut sources = Self { meant: meant(query, now), values: Vec::new(), indexes, in_order };
        if let Some(queue) = &query.queue {
            let condition = match queue.to_stored() {
                Some(name) => format!("queue = {}", sources.value(name.to_owned())),
                None => "queue IS NULL".to_owned(),
            };
            sources.and(&condition);
        }
        if let Some(group) = &query.group {
            let group = sources.value(group.clone());
            sources.and(&format!("group_id = {group}"));
            if matches!(query.status, Some(Status::Submitted | Status::InProgress)) && !query.dead {
                sources.only(["INDEXED BY job_group WHERE group_id IS NOT NULL AND status < 2".into()]);
            }
        }
        let task = query.task.as_ref().map(|task| ("task", task));
        for (key, value) in query.metadata.iter().map(|(key, value)| (key.as_str(), value)).chain(task) {
            let label = serde_json::json!({ key: value }).to_string();
            let label = sources.value(label[1..label.len() - 1].to_owned());
            sources.and(&format!("instr(spec, {label}) > 0"));
        }
        if let Some(error) = &query.error {
            let error = sources.value(error.clone());
            let now = now.as_micros();
            sources.and(&format!(
                "(error_kind = {error} OR error_type = {error} OR instr(error, {error}) > 0
                 OR (status = 1 AND due + lease <= {now}))"
            ));
        }
        if let Some(age) = query.older_than {
            sources.and(&format!("submitted_at <= {}", now.before(age).as_micros()));
        }
        if let Some(age) = query.newer_than {
            sources.and(&format!("submitted_at > {}", now.before(age).as_micros()));
        }
        if let Some(request_id) = &query.request_id {
            // One that was not given is the job's id.
            let own = id::parse(&JobId::from(request_id.as_str())).map(id::seq);
            let given = sources.value(request_id.clone());
            sources.and(&format!("coalesce(request_id, {given}) = {given}"));
            let given = format!("INDEXED BY job_request WHERE request_id = {given}");
            let own = own.map(|seq| format!("NOT INDEXED WHERE seq = {seq} AND request_id IS NULL"));
            sources.only([given].into_iter().chain(own));
        }
        sources
    }

    fn beginning_with(&mut self, connection: &Connection, prefix: &str) -> rusqlite::Result<()> {
        let Some((first, last)) = id::range(prefix) else {
            self.and("FALSE");
            return Ok(());
        };
        let from = first_row(connection, id::millis_of(first))?;
        let end = first_row(connection, id::millis_of(last) + 1)?;
        let [first, last] = [first, last].map(|id| self.value(id.as_bytes().to_vec()));
        self.and(&format!("id BETWEEN {first} AND {last}"));
        self.only([format!("NOT INDEXED WHERE seq >= {from} AND seq < {end}")]);
        Ok(())
    }

    fn only(&mut self, indexes: impl IntoIterator<Item = String>) {
        self.indexes = indexes.into_iter().collect();
        self.in_order = false;
    }

    fn and(&mut self, condition: &str) {
        self.meant.push_str(" AND ");
        self.meant.push_str(condition);
    }

    /// The name of a value in the query.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    /// The indexes for a status, and whether the newest rows come first.
    fn indexes(query: &ListQuery) -> (Vec<String>, bool) {
        let waiting = "INDEXED BY job_ready WHERE status = 0 AND due IS NOT NULL";
        let blocked = "INDEXED BY job_group WHERE group_id IS NOT NULL AND status < 2 AND due IS NULL";
        let leased = "INDEXED BY job_leased WHERE status = 1";
        let failed = "INDEXED BY job_failed WHERE status > 2";
        let (indexes, in_order): (&[&str], bool) = match query.status {
            _ if query.dead => (&[failed], false),
            Some(Status::Error | Status::Cancelled) => (&[failed], false),
            Some(Status::InProgress) => (&[leased], false),
            Some(Status::Success) => (&["INDEXED BY job_expiry WHERE expires_at IS NOT NULL"], true),
            Some(Status::Submitted) => (&[waiting, blocked, leased], true),
            None => (&[], true),
        };
        (indexes.iter().map(|index| (*index).to_owned()).collect(), in_order)
    }
}

/// What is true of the rows that have the status and have not expired.
fn meant(query: &ListQuery, now: Timestamp) -> String {
    let now = now.as_micros();
    let abandoned =
        format!("due + lease <= {now} AND NOT cancel_requested AND attempt - uncounted < max_attempts");
    let over = |status: &str| format!("status = {status} AND expires_at > {now}");
    match (query.dead, query.status) {
        (true, None | Some(Status::Error)) => over("3 AND dead"),
        (true, Some(_)) => "FALSE".to_owned(),
        (false, Some(Status::Error)) => over("3"),
        (false, Some(Status::Cancelled)) => over("4"),
        (false, Some(Status::Success)) => over("2"),
        (false, Some(Status::InProgress)) => format!("status = 1 AND NOT ({abandoned})"),
        (false, Some(Status::Submitted)) => format!("(status = 0 OR (status = 1 AND {abandoned}))"),
        (false, None) => format!("(expires_at IS NULL OR expires_at > {now})"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Backend, Clock, NewJob,
        backend::{ClaimRequest, Outcome, Settlement},
        sqlite::SqliteBackend,
    };

    fn job() -> NewJob {
        NewJob::new("x").expect("JSON")
    }

    #[tokio::test]
    async fn jobs_are_found_by_the_beginning_of_their_ids_wherever_the_clock_goes() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("open");
        let mut ids = Vec::new();
        for micros in [0, 1_000, 70_000_000, -400_000_000, -300_000_000, 80_000_000, 81_000_000] {
            clock.set(Timestamp::from_micros(1_800_000_000_000_000 + micros));
            let answers = backend.submit(vec![job(); 4]).await.expect("submit");
            ids.extend(answers.into_iter().map(|answer| answer.expect("a job").id));
        }
        // A gap, at both ends of which there are others.
        let gone = ids.drain(9..12).collect();
        backend.purge(crate::backend::Purge::Jobs(gone)).await.expect("purge");
        for id in &ids {
            for length in 8..=id.as_str().len() {
                let prefix = &id.as_str()[..length];
                let query = ListQuery::new().id_prefix(prefix).limit(100);
                let found = backend.list(query).await.expect("list").into_iter().map(|record| record.id);
                let expected = ids.iter().rev().filter(|id| id.as_str().starts_with(prefix));
                assert!(found.eq(expected.cloned()), "{prefix}");
            }
        }
    }

    #[tokio::test]
    async fn a_list_is_the_same_wherever_its_records_are_among_the_rows() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("open");
        let claim = |lease, max| {
            let request = ClaimRequest::new("one", Duration::from_secs(lease)).max(max);
            backend.claim(request, Default::default())
        };
        // So many that what waits, and what has succeeded, is rare.
        let ids = backend.submit(vec![job(); 100]).await.expect("submit");
        let ids = ids.into_iter().map(|job| job.expect("a job").id).collect();
        backend.cancel(ids).await.expect("cancel");
        for round in 0..3 {
            let short = || job().result_ttl(Duration::from_secs(60));
            let jobs = vec![
                short(),
                job(),
                job(),
                job().max_attempts(1),
                job(),
                job(),
                job().group("g"),
                job().group("g"),
            ];
            backend.submit(jobs).await.expect("submit");
            let claimed = claim(10_000, 4).await.expect("claim");
            let error = || crate::JobError::cancelled();
            let outcomes = [
                Outcome::Success(crate::Json::from_stored("1")),
                Outcome::Success(crate::Json::from_stored("2")),
                Outcome::Cancelled,
                Outcome::Fail(error()),
            ];
            let settlements = claimed
                .iter()
                .zip(outcomes)
                .map(|(claimed, outcome)| Settlement::new(claimed.key.clone(), outcome));
            backend.settle(settlements.collect()).await.expect("settle");
            claim(if round == 2 { 1 } else { 10_000 }, 1).await.expect("claim");
            let delayed = job().delay(Duration::from_secs(1_000));
            backend.submit(vec![delayed]).await.expect("submit");
            clock.advance(Duration::from_secs(30));
        }
        clock.advance(Duration::from_secs(20));
        let every = Status::ALL.into_iter().map(Some).chain([None]);
        for (status, limit) in every.flat_map(|status| [1, 4, usize::MAX].map(|limit| (status, limit))) {
            let query = ListQuery::new().status(status).limit(limit);
            let now = clock.now();
            let [far, close, all] = [0, 5, NEAR].map(|near| {
                let query = query.clone();
                backend.connections.scans.run(move |c| list_near(c, &query, now, near))
            });
            let all = all.await.expect("records");
            assert_eq!(far.await.expect("records"), all, "{status:?}, {limit}: by the indexes");
            assert_eq!(close.await.expect("records"), all, "{status:?}, {limit}: with some of the newest");
            assert!(!all.is_empty() && all.len() <= limit, "{status:?}: {all:?}");
        }
    }
}
