//! The workers that are not ready.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{
    fault::Fault,
    tx::{Tx, micros},
};
use crate::{Error, Timestamp, backend::Unready};

pub(super) fn set(tx: &mut Tx<'_>, worker: &str, unready: Option<&Unready>) -> Result<(), Fault> {
    let now = tx.now.as_micros();
    // Whoever was killed does not take it back.
    let forgotten = now - micros(Unready::KEPT);
    tx.execute(
        "DELETE FROM unready WHERE worker = ?1 OR told_at <= ?2 OR told_at > ?3",
        params![worker, forgotten, now],
    )?;
    if let Some(Unready { queues, reason, since }) = unready {
        let queues = serde_json::to_string(queues).map_err(Error::from)?;
        tx.execute(
            "INSERT INTO unready (worker, queues, reason, since, told_at) SELECT ?1, ?2, ?3, ?4, ?5
             WHERE (SELECT count(*) FROM unready) < ?6",
            params![worker, queues, reason, since.as_micros(), now, Unready::MOST as i64],
        )?;
    }
    Ok(())
}

pub(super) fn known(connection: &Connection, now: Timestamp) -> Result<BTreeMap<String, Unready>, Fault> {
    let mut select =
        connection.prepare_cached("SELECT worker, queues, reason, since, told_at FROM unready")?;
    let mut rows = select.query([])?;
    let mut known = BTreeMap::new();
    while let Some(row) = rows.next()? {
        if Unready::is_kept(Timestamp::from_micros(row.get("told_at")?), now) {
            let queues = serde_json::from_str(&row.get::<_, String>("queues")?).map_err(Error::from)?;
            let (reason, since) = (row.get("reason")?, Timestamp::from_micros(row.get("since")?));
            known.insert(row.get("worker")?, Unready { queues, reason, since });
        }
    }
    Ok(known)
}
