//! `get`: records by id, 100 a call.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use haulage::{
    Error, JobId, Result,
    backend::{Detail, Lookup},
};

use crate::{item::Row, store::Store, table::PARALLEL};

pub(crate) async fn get(store: &Store, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
    let found = store.table.get_many(ids.iter().map(ToString::to_string), None).await?;
    let rows = found.into_iter().filter_map(|(key, item)| Some((key, Row::of(item)?)));
    let lookups: HashMap<String, Lookup> = stream::iter(rows.collect::<Vec<_>>())
        .map(|(key, row)| async move { Ok::<_, Error>((key, lookup(store, row, detail).await?)) })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(ids.iter().map(|id| lookups.get(id.as_str()).cloned().unwrap_or(Lookup::Missing)).collect())
}

async fn lookup(store: &Store, row: Row, detail: Detail) -> Result<Lookup> {
    if row.status().is_none() {
        return Ok(Lookup::Missing);
    }
    if row.is_expired(store.now()) {
        return Ok(Lookup::Expired);
    }
    let Some(row) = store.reaped(row).await? else { return Ok(Lookup::Missing) };
    let Some(record) = row.record(store.now()) else { return Ok(Lookup::Missing) };
    if record.is_expired(store.now()) {
        return Ok(Lookup::Expired);
    }
    // A document that cannot be had concerns those who ask for this job only.
    Ok(match store.show(&row, record, detail).await {
        Ok(record) => Lookup::Found(record),
        Err(error) => Lookup::Incomplete {
            for_good: !matches!(error, Error::Unavailable { .. }),
            message: error.to_string(),
        },
    })
}
