//! `get`: records by id, 100 a call.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use haulage::{
    Error, JobId, Result, Status,
    backend::{Detail, Lookup},
};

use crate::{
    schema::item::Row,
    services::{store::Store, table::PARALLEL},
};

/// With reads that are not `latest`, it may be a moment old, for half the price. What is
/// not there then, or has ended in a way that a redrive leads out of, is asked for once
/// more: it may have been written since.
pub(crate) async fn get(store: &Store, ids: Vec<JobId>, detail: Detail, latest: bool) -> Result<Vec<Lookup>> {
    let keys = || ids.iter().map(ToString::to_string);
    let mut found = if latest { HashMap::new() } else { store.table.peek_many(keys()).await? };
    let is_doubtful = |id: &String| {
        found.get(id).cloned().and_then(Row::of).is_none_or(|row| {
            matches!(row.status(), None | Some(Status::Error | Status::Cancelled))
                || row.is_expired(store.now())
        })
    };
    let doubtful: Vec<String> = keys().filter(is_doubtful).collect();
    if !doubtful.is_empty() {
        found.extend(store.table.get_many(doubtful, None).await?);
    }
    let rows = found.into_iter().filter_map(|(key, item)| Some((key, Row::of(item)?)));
    let lookups: HashMap<String, Lookup> = stream::iter(rows.collect::<Vec<_>>())
        .map(|(key, row)| async move { (key, lookup(store, row, detail).await) })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    Ok(ids
        .iter()
        .map(|id| lookups.get(id.as_str()).cloned().unwrap_or_else(|| unrecorded(store, id)))
        .collect())
}

/// What there is to say of an id without a record. SQS gives out ids before
/// there is one, and whoever receives the message makes it.
fn unrecorded(store: &Store, id: &JobId) -> Lookup {
    if let Some(record) = store.unrecorded.get(id).and_then(|row| row.record(store.now())) {
        return Lookup::Found(record);
    }
    if is_message_id(id.as_str()) {
        Lookup::Unrecorded { within: store.retentions.longest() }
    } else {
        Lookup::Missing
    }
}

/// Whether SQS may have given out this id: it has the form of a UUID.
fn is_message_id(id: &str) -> bool {
    id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

async fn lookup(store: &Store, row: Row, detail: Detail) -> Lookup {
    if row.status().is_none() {
        return Lookup::Missing;
    }
    if row.is_expired(store.now()) {
        return Lookup::Expired;
    }
    let Some(row) = store.seen(row).await else { return Lookup::Missing };
    let Some(record) = row.record(store.now()) else { return Lookup::Missing };
    if record.is_expired(store.now()) {
        return Lookup::Expired;
    }
    // A document that cannot be had concerns those who ask for this job only.
    match store.show(&row, record, detail).await {
        Ok(record) => Lookup::Found(record),
        Err(error) => Lookup::Incomplete {
            for_good: !matches!(error, Error::Unavailable { .. }),
            message: error.to_string(),
        },
    }
}
