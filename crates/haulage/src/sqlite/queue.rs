//! What is kept of queues: their names, and whether they are paused.

use rusqlite::{
    ToSql, params,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use super::{fault::Fault, tx::Tx};
use crate::QueueName;

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
