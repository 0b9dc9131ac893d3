//! `get`: records by id, 100 a call.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use haulage::{
    Error, JobId, Result,
    backend::{Detail, Lookup},
};

use crate::{
    inner::{Inner, Shared},
    item::Row,
    table::PARALLEL,
};

pub(crate) async fn get(inner: Shared, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
    let found = inner.table.get_many(ids.iter().map(ToString::to_string), None).await?;
    let rows = found.into_iter().filter_map(|(key, item)| Some((key, Row::of(item)?)));
    let lookups: HashMap<String, Lookup> = stream::iter(rows.collect::<Vec<_>>())
        .map(|(key, row)| {
            let inner = &inner;
            async move { lookup(inner, row, detail).await.map(|lookup| (key, lookup)) }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok(ids.iter().map(|id| lookups.get(id.as_str()).cloned().unwrap_or(Lookup::Missing)).collect())
}

async fn lookup(inner: &Inner, row: Row, detail: Detail) -> Result<Lookup> {
    if row.status().is_none() {
        return Ok(Lookup::Missing);
    }
    if row.is_expired(inner.now()) {
        return Ok(Lookup::Expired);
    }
    let Some(row) = inner.reaped(row).await? else { return Ok(Lookup::Missing) };
    let Some(record) = row.record(inner.now()) else { return Ok(Lookup::Missing) };
    if record.is_expired(inner.now()) {
        return Ok(Lookup::Expired);
    }
    // A document that cannot be had concerns those who ask for this job only.
    Ok(match inner.show(&row, record, detail).await {
        Ok(record) => Lookup::Found(record),
        Err(error) => Lookup::Incomplete {
            for_good: !matches!(error, Error::Unavailable { .. }),
            message: error.to_string(),
        },
    })
}
