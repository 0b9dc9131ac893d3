//! What is to be told to webhooks: who may tell it, and what becomes of it.
//!
//! The index says what is due, a little late; an update of the item, on the condition that it is still what the
//! index says, decides whose it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{StreamExt, stream};
use haulage::{
    JobId, Result, Timestamp,
    backend::{
        ClaimedDeliveries, ClaimedDelivery, Delivery, DeliveryOutcome, DeliveryQuery, DeliveryRequest,
        DeliverySettlement, RedriveDeliveries,
    },
};
use tracing::warn;

use crate::{
    schema::{
        fence::unchanged,
        item::Row,
        name,
        update::{Write, moment, text},
        webhook::{
            DELIVERY, Entry, JOB, SINCE, TRIES, TRYING, WEBHOOK_OF, dead_of, is_progress, is_try, key,
        },
    },
    services::table::{PARALLEL, Written},
    state::{Inner, Shared},
};

/// How many entries of the index a look reads first: what costs no more than to find nothing.
const FIRST_PAGE: usize = 16;
/// And how many at once where more are due.
const PAGE: usize = 250;
/// How many pages one look reads. The next goes on behind them, so no backlog keeps others waiting for good.
const PAGES: usize = 5;

pub(crate) async fn claim(inner: Shared, request: DeliveryRequest) -> Result<ClaimedDeliveries> {
    let now = inner.now();
    let (due, next) = look(&inner, &request, now).await?;
    let tries = stream::iter(chosen(due, &request)).map(|entry| take(&inner, &request, entry, now));
    let taken: Vec<Result<Option<ClaimedDelivery>>> = tries.buffered(PARALLEL).collect().await;
    let (mut deliveries, mut failure) = (Vec::new(), None);
    for taken in taken {
        match taken {
            Ok(claimed) => deliveries.extend(claimed),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if deliveries.is_empty() => return Err(error),
        Some(error) => warn!(%error, "not all deliveries that are due could be claimed"),
        None => {}
    }
    Ok(ClaimedDeliveries { deliveries, next })
}

/// What is due and may be claimed, as far as one look sees; and when another one will be due.
async fn look(
    inner: &Inner,
    request: &DeliveryRequest,
    now: Timestamp,
) -> Result<(Vec<Entry>, Option<Timestamp>)> {
    let mut from = inner.deliveries_from().take();
    let (mut due, mut next) = (Vec::new(), None);
    let mut of_host: HashMap<String, usize> = HashMap::new();
    let mut limit = FIRST_PAGE;
    for _ in 0..PAGES {
        let (entries, last) =
            inner.store.table.deliveries(inner.queues.store(), None, limit, from.take()).await?;
        let mut all_seen = last.is_none();
        for entry in entries {
            let under_way = request.in_flight.get(&entry.host).copied().unwrap_or(0);
            let count = of_host.entry(entry.host.clone()).or_insert(under_way);
            if entry.due > now {
                all_seen = true;
                if under_way < request.per_host {
                    next = Some(entry.due);
                    break;
                }
            } else if *count < request.per_host && !entry.is_expired(now) {
                *count += 1;
                due.push(entry);
            }
        }
        if all_seen {
            return Ok((due, next));
        }
        from = last;
        // Each host is to have a turn.
        if due.iter().map(|entry| &entry.host).collect::<HashSet<_>>().len() >= request.max {
            break;
        }
        limit = PAGE;
    }
    *inner.deliveries_from() = from;
    Ok((due, next))
}

/// Those of hosts with the least under way first, and one of each before there are more of any: no number of slow
/// ones keeps others waiting.
fn chosen(mut due: Vec<Entry>, request: &DeliveryRequest) -> Vec<Entry> {
    due.sort_by_key(|entry| (request.in_flight.get(&entry.host).copied().unwrap_or(0), entry.due));
    let mut seen = HashSet::new();
    let (first, rest): (Vec<_>, Vec<_>) = due.into_iter().partition(|entry| seen.insert(entry.host.clone()));
    first.into_iter().chain(rest).take(request.max).collect()
}

/// Takes hold of one, unless somebody else has.
async fn take(
    inner: &Inner,
    request: &DeliveryRequest,
    entry: Entry,
    now: Timestamp,
) -> Result<Option<ClaimedDelivery>> {
    let write = Write::at(now)
        .add(TRIES, 0, 1)
        .keep(SINCE, moment(now))
        .set(name::DUE_AT, moment(now.after(request.lease)))
        .set(TRYING, AttributeValue::Bool(true))
        .when("#webhook_of = :store AND #due_at = :seen")
        .bind("store", text(inner.queues.store()))
        .bind("seen", moment(entry.due));
    match inner.store.table.write(&entry.key, write).await? {
        Written::Done(row) => Ok(row.claimed_delivery()),
        Written::Refused(_) => Ok(None),
    }
}

pub(crate) async fn settle(inner: Shared, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
    let settled = stream::iter(settlements).map(|settlement| settle_one(&inner, settlement));
    let settled: Vec<Result<bool>> = settled.buffered(PARALLEL).collect().await;
    settled.into_iter().collect()
}

async fn settle_one(inner: &Inner, settlement: DeliverySettlement) -> Result<bool> {
    let Some(key) = key(&settlement.id) else { return Ok(false) };
    if is_progress(&settlement.id) {
        return settle_progress(inner, &key, settlement).await;
    }
    let DeliverySettlement { id, tries, outcome } = settlement;
    let (now, store) = (inner.now(), inner.queues.store());
    let write = is_try(Write::at(now), store, &id, tries);
    let write = match outcome {
        DeliveryOutcome::Done => return inner.store.table.delete_if(&key, write).await,
        DeliveryOutcome::Again { after, error } => {
            let write = write.set(name::DUE_AT, moment(now.after(after))).set(name::ERROR, text(error));
            write.remove(&[TRYING])
        }
        DeliveryOutcome::Dead { error } => write
            .set(WEBHOOK_OF, text(dead_of(store)))
            .set(name::DUE_AT, moment(now))
            .set(name::ERROR, text(error))
            .remove(&[TRYING]),
    };
    Ok(matches!(inner.store.table.write(&key, write).await?, Written::Done(_)))
}

/// Of progress, newer may have come meanwhile.
async fn settle_progress(inner: &Inner, key: &str, settlement: DeliverySettlement) -> Result<bool> {
    for round in 0.. {
        let ours = |row: &Row| row.text(WEBHOOK_OF) == Some(inner.queues.store());
        let Some(row) = inner.store.table.get(key).await?.map(Row).filter(ours) else { return Ok(false) };
        inner.store.give_up_after(round, &JobId::from(row.text(JOB).unwrap_or_default()))?;
        let Some(write) = row.settled(settlement.clone(), inner.now()) else { return Ok(false) };
        if let Written::Done(_) = inner.store.table.write(key, unchanged(write, &row)).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) async fn list(inner: Shared, query: DeliveryQuery) -> Result<Vec<Delivery>> {
    let (now, store) = (inner.now(), inner.queues.store());
    let dead = dead_of(store);
    let mut keys = Vec::new();
    if let Some(id) = &query.id {
        keys.extend(key(id));
    } else {
        // The newest so far, however many there are in all.
        let mut newest = BTreeMap::new();
        let places = [Some(store).filter(|_| !query.dead), Some(dead.as_str())];
        for of in places.into_iter().flatten() {
            let mut from = None;
            loop {
                let (entries, last) = inner.store.table.deliveries(of, None, usize::MAX, from).await?;
                for entry in entries.into_iter().filter(|entry| is_meant(&query, entry, now)) {
                    // A dead one is due when it died.
                    newest.insert((if query.dead { entry.due } else { entry.created_at }, entry.key), ());
                    if newest.len() > query.limit {
                        newest.pop_first();
                    }
                }
                if last.is_none() {
                    break;
                }
                from = last;
            }
        }
        keys.extend(newest.into_keys().map(|(_, key)| key));
    }
    let rows = inner.store.table.get_many(keys, None).await?.into_values().map(Row);
    let ours = rows.filter(|row| row.text(WEBHOOK_OF).is_some_and(|of| of == store || of == dead));
    let found = ours
        .flat_map(|row| row.deliveries())
        .filter(|delivery| query.matches(delivery) && delivery.created_at.after(Delivery::KEPT) > now);
    let mut found: Vec<Delivery> = found.map(Delivery::shown).collect();
    let place = |delivery: &Delivery| delivery.dead_at.filter(|_| query.dead).unwrap_or(delivery.created_at);
    found.sort_by(|a, b| (place(b), &b.id).cmp(&(place(a), &a.id)));
    found.truncate(query.limit);
    Ok(found)
}

fn is_meant(query: &DeliveryQuery, entry: &Entry, now: Timestamp) -> bool {
    let of_job = query.job.as_ref().is_none_or(|job| entry.job == *job);
    of_job && query.queue.as_ref().is_none_or(|queue| entry.queue == *queue) && !entry.is_expired(now)
}

pub(crate) async fn redrive(inner: Shared, what: RedriveDeliveries) -> Result<Vec<String>> {
    let (limit, queue, by) = match what {
        RedriveDeliveries::Dead { limit, queue, by } => (limit, queue, by),
        RedriveDeliveries::Deliveries(ids) => {
            // That of progress is named by more than its key.
            let named = stream::iter(ids).map(|id| redrive_one(&inner, key(&id), Some(id)));
            return some(named.buffered(PARALLEL).collect().await);
        }
    };
    let (dead, now) = (dead_of(inner.queues.store()), inner.now());
    let (mut redriven, mut from): (Vec<Result<Option<String>>>, _) = (Vec::new(), None);
    // The index may still have some that were redriven a moment ago: those do not count.
    let done = |redriven: &[Result<Option<String>>]| {
        redriven.iter().filter(|one| matches!(one, Ok(Some(_)))).count()
    };
    while done(&redriven) < limit {
        let page = inner.store.table.deliveries(&dead, Some(by), PAGE, from).await;
        let (entries, last) = match page {
            Ok(page) => page,
            Err(error) => {
                redriven.push(Err(error));
                break;
            }
        };
        let meant = entries.into_iter().filter(|entry| {
            queue.as_ref().is_none_or(|queue| entry.queue == *queue) && !entry.is_expired(now)
        });
        let some =
            meant.take(limit - done(&redriven)).map(|entry| redrive_one(&inner, Some(entry.key), None));
        redriven.extend(stream::iter(some.collect::<Vec<_>>()).buffered(PARALLEL).collect::<Vec<_>>().await);
        from = last;
        if from.is_none() {
            break;
        }
    }
    some(redriven)
}

/// Those that were redriven are told; whoever asks for more is told of the failure.
fn some(redriven: Vec<Result<Option<String>>>) -> Result<Vec<String>> {
    let (mut ids, mut failure) = (Vec::new(), None);
    for redriven in redriven {
        match redriven {
            Ok(id) => ids.extend(id),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if ids.is_empty() => Err(error),
        Some(error) => {
            warn!(%error, "not all dead deliveries were redriven");
            Ok(ids)
        }
        None => Ok(ids),
    }
}

async fn redrive_one(inner: &Inner, key: Option<String>, id: Option<String>) -> Result<Option<String>> {
    let Some(key) = key else { return Ok(None) };
    let (now, store) = (inner.now(), inner.queues.store());
    let mut write = Write::at(now)
        .set(WEBHOOK_OF, text(store))
        .set(name::DUE_AT, moment(now))
        .remove(&[SINCE])
        .when("#webhook_of = :dead AND #created_at > :old")
        .bind("dead", text(dead_of(store)))
        .bind("old", moment(now.before(Delivery::KEPT)));
    if let Some(id) = id {
        write = write.when("#delivery = :id").bind("id", text(id));
    }
    Ok(match inner.store.table.write(&key, write).await? {
        Written::Done(row) => row.text(DELIVERY).map(str::to_owned),
        Written::Refused(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haulage::QueueName;

    use super::*;

    #[test]
    fn hosts_with_the_least_under_way_come_first() {
        let now = Timestamp::from_micros(0).after(Duration::from_secs(60));
        let entry = |host: &str, age: u64| Entry {
            key: format!("{host} {age}"),
            due: now.before(Duration::from_secs(age)),
            host: host.to_owned(),
            job: JobId::from("j"),
            queue: QueueName::default(),
            created_at: now,
        };
        let due =
            vec![entry("slow", 9), entry("slow", 8), entry("quick", 7), entry("quick", 6), entry("other", 5)];
        let in_flight = BTreeMap::from([("slow".to_owned(), 3), ("other".to_owned(), 1)]);
        let request = DeliveryRequest { max: 4, per_host: 8, in_flight, lease: Duration::from_secs(60) };
        let keys: Vec<_> = chosen(due, &request).into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["quick 7", "other 5", "slow 9", "quick 6"]);
    }
}
