//! What is kept of queues: their names, whether they are paused, and how many jobs they have.

use std::collections::BTreeMap;

use rusqlite::{
    ToSql, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use super::{fault::Fault, tx::Tx};
use crate::{QueueName, Status};

/// The default queue is stored as NULL, which takes no space in rows and indexes.
impl ToSql for QueueName {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let name = self.to_stored().map_or(ValueRef::Null, |name| ValueRef::Text(name.as_bytes()));
        Ok(ToSqlOutput::Borrowed(name))
    }
}

impl FromSql for QueueName {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str_or_null().map_err(|error| FromSqlError::Other(Box::new(error)))?;
        Ok(Self::stored(name))
    }
}

/// How a transaction changes the counts of each queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    default: Change,
    named: BTreeMap<QueueName, Change>,
}

/// By how much each column of `counts` changes; the first five are the statuses.
pub(super) type Change = [i64; 7];

const DEAD: usize = 5;
const BLOCKED: usize = 6;

impl Counts {
    fn of(&mut self, queue: &QueueName) -> &mut Change {
        if queue.is_default() { &mut self.default } else { self.named.entry(queue.clone()).or_default() }
    }

    pub(super) fn add(&mut self, queue: &QueueName, status: Status, by: i64) {
        self.of(queue)[status as usize] += by;
    }

    pub(super) fn add_dead(&mut self, queue: &QueueName, by: i64) {
        self.of(queue)[DEAD] += by;
    }

    pub(super) fn add_blocked(&mut self, queue: &QueueName, by: i64) {
        self.of(queue)[BLOCKED] += by;
    }

    /// Writes them down. A queue that has no jobs any more is forgotten, so that
    /// names that are made up for a day do not stay for ever.
    pub(super) fn store(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        let named = self.named.iter().map(|(name, change)| (name.as_str(), change));
        for (name, change) in [(QueueName::DEFAULT, &self.default)].into_iter().chain(named) {
            if change.iter().all(|n| *n == 0) {
                continue;
            }
            let c = change;
            let known = tx.execute(
                "UPDATE counts SET submitted = submitted + ?1, in_progress = in_progress + ?2,
                 success = success + ?3, error = error + ?4, cancelled = cancelled + ?5,
                 dead = dead + ?6, blocked = blocked + ?7 WHERE queue = ?8",
                params![c[0], c[1], c[2], c[3], c[4], c[5], c[6], name],
            )?;
            if known == 0 {
                tx.execute(
                    "INSERT INTO counts (queue, submitted, in_progress, success, error, cancelled, dead, blocked)
                     VALUES (?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![c[0], c[1], c[2], c[3], c[4], c[5], c[6], name],
                )?;
            } else if name != QueueName::DEFAULT && change.iter().sum::<i64>() < 0 {
                tx.execute(
                    "DELETE FROM counts WHERE queue = ?1
                     AND submitted + in_progress + success + error + cancelled = 0",
                    [name],
                )?;
            }
        }
        Ok(())
    }
}

/// Pauses a queue, or lets it go on; tells whether that changed anything.
pub(super) fn set_paused(tx: &mut Tx<'_>, queue: &QueueName, paused: bool) -> Result<bool, Fault> {
    let changed = if paused {
        tx.execute(
            "INSERT OR IGNORE INTO paused (queue, since) VALUES (?1, ?2)",
            params![queue.as_str(), tx.now.as_micros()],
        )?
    } else {
        tx.notify_all();
        tx.execute("DELETE FROM paused WHERE queue = ?1", [queue.as_str()])?
    };
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use crate::{Backend, NewJob, backend::Purge, sqlite::SqliteBackend};

    #[tokio::test]
    async fn a_queue_whose_last_record_is_gone_leaves_nothing() {
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
        let job = || NewJob::new("x").expect("JSON").queue("for-a-day".parse().expect("a name"));
        let submitted = backend.submit(vec![job(), job()]).await.expect("submit");
        let ids: Vec<_> = submitted.into_iter().map(|job| job.expect("a job").id).collect();
        backend.cancel(ids.clone()).await.expect("cancel");
        let mut rows = Vec::new();
        for id in ids {
            backend.purge(Purge::Jobs(vec![id])).await.expect("purge");
            rows.push(backend.query("SELECT count(*) FROM counts").await.expect("rows").rows);
        }
        assert_eq!(serde_json::to_string(&rows).expect("JSON"), "[[[2]],[[1]]]");
    }
}
