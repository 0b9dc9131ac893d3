//! Handing out what is to be told to webhooks, and what becomes of it.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{SqliteBackend, fault::Fault, id, tell::bytes, tx::Tx, writer::Weight};
use crate::{
    Result, Timestamp, WebhookEvent,
    backend::{
        ClaimedDeliveries, ClaimedDelivery, Deliveries, Delivery, DeliveryOutcome, DeliveryQuery,
        DeliveryRequest, DeliverySettlement, RedriveDeliveries,
    },
};

/// Each host at which something is to be told, and since or from when on. It jumps from host to host, so
/// what it takes grows with these, and not with what waits for one that is away.
const HOSTS: &str = "WITH RECURSIVE hosts(host) AS (
         SELECT min(host) FROM delivery INDEXED BY delivery_due WHERE due IS NOT NULL
         UNION ALL
         SELECT (SELECT min(host) FROM delivery INDEXED BY delivery_due
                 WHERE due IS NOT NULL AND host > hosts.host)
         FROM hosts WHERE hosts.host IS NOT NULL)
     SELECT host, (SELECT min(due) FROM delivery INDEXED BY delivery_due
                   WHERE due IS NOT NULL AND host = hosts.host) AS first
     FROM hosts WHERE host IS NOT NULL ORDER BY first";

macro_rules! columns {
    () => {
        "id, job, queue, event, url, created_at, tries, due, dead_at, error"
    };
}

const CLAIM: &str = concat!(
    "UPDATE delivery SET tries = tries + 1, since = ifnull(since, ?2), due = ?4, trying = 1 WHERE seq IN (
         SELECT seq FROM delivery INDEXED BY delivery_due
         WHERE due IS NOT NULL AND host = ?1 AND due <= ?2 ORDER BY due, seq LIMIT ?3)
     RETURNING ",
    columns!(),
    ", since, body, seq"
);

/// What is to be done.
#[derive(Debug, Default)]
struct Looked {
    /// Hosts at which something is due: those with the least under way first, so that no number of slow ones
    /// keeps others waiting, and of these that which has waited longest.
    due: Vec<Due>,
    /// When something will be due at another.
    next: Option<Timestamp>,
    /// Something is due so late that it is from a time when the clock was ahead.
    is_ahead: bool,
}

/// Of a host at which something is due, how many deliveries may be claimed.
#[derive(Debug)]
struct Due {
    host: String,
    room: usize,
}

#[async_trait]
impl Deliveries for SqliteBackend {
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<ClaimedDeliveries> {
        let now = self.clock.now();
        let before = self.deliveries_at.load(Ordering::Relaxed);
        let went_back = now.as_micros() < before;
        // Most looks find nothing, and take nobody's turn.
        let mut looked = self.look(&request, now).await?;
        if went_back || looked.is_ahead {
            // At the first look it is not known.
            let back =
                if before == i64::MAX { Duration::ZERO } else { Timestamp::from_micros(before).since(now) };
            self.connections.writer.run(Weight::default(), move |tx| Ok(tx.cut_deliveries(back)?)).await?;
            looked = self.look(&request, now).await?;
        }
        self.deliveries_at.store(now.as_micros(), Ordering::Relaxed);
        let Looked { due, next, .. } = looked;
        if due.is_empty() {
            return Ok(ClaimedDeliveries { deliveries: Vec::new(), next });
        }
        let weight = Weight { rows: request.max, ..Weight::default() };
        let deliveries =
            self.connections.writer.run(weight, move |tx| Ok(claim(tx, &request, &due)?)).await?;
        Ok(ClaimedDeliveries { deliveries, next })
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        let weight = Weight { rows: settlements.len(), ..Weight::default() };
        let settle = move |tx: &mut Tx<'_>| {
            let settled = settlements.iter().map(|settlement| settle(tx, settlement));
            Ok(settled.collect::<rusqlite::Result<_>>()?)
        };
        self.connections.writer.run(weight, settle).await
    }

    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        self.connections.scans.run(move |c| Ok(list(c, &query)?)).await
    }

    async fn redrive_deliveries(&self, what: RedriveDeliveries) -> Result<Vec<String>> {
        let rows = match &what {
            RedriveDeliveries::Dead { limit, .. } => *limit,
            RedriveDeliveries::Deliveries(ids) => ids.len(),
        };
        self.connections.writer.run(Weight { rows, ..Weight::default() }, move |tx| redrive(tx, what)).await
    }
}

impl SqliteBackend {
    async fn look(&self, request: &DeliveryRequest, now: Timestamp) -> Result<Looked> {
        let request = request.clone();
        self.connections.reader.run(move |connection| Ok(look(connection, &request, now)?)).await
    }
}

fn look(connection: &Connection, request: &DeliveryRequest, now: Timestamp) -> rusqlite::Result<Looked> {
    let mut hosts = connection.prepare_cached(HOSTS)?;
    let hosts = hosts.query_map([], |r| Ok((r.get::<_, String>(0)?, Timestamp::from_micros(r.get(1)?))))?;
    let mut looked = Looked::default();
    for host in hosts {
        let (host, at) = host?;
        looked.is_ahead |= at > now.after(Delivery::LATEST);
        let room = request.per_host.saturating_sub(request.in_flight.get(&host).copied().unwrap_or(0));
        if room == 0 {
            continue;
        }
        if at > now {
            looked.next.get_or_insert(at);
        } else {
            looked.due.push(Due { host, room });
        }
    }
    looked.due.sort_by_key(|due| std::cmp::Reverse(due.room));
    Ok(looked)
}

fn claim(
    tx: &mut Tx<'_>,
    request: &DeliveryRequest,
    hosts: &[Due],
) -> rusqlite::Result<Vec<ClaimedDelivery>> {
    let lease_end = tx.now.after(request.lease).as_micros();
    let mut claimed = Vec::new();
    // One of each host, and then the rest: of many that are slow, none takes the room of others.
    for (most, taken) in [(1, 0), (usize::MAX, 1)] {
        for Due { host, room } in hosts {
            let room = room.saturating_sub(taken).min(most).min(request.max - claimed.len());
            if room == 0 {
                continue;
            }
            let room = i64::try_from(room).unwrap_or(i64::MAX);
            let mut of_host = tx.rows(CLAIM, params![host, tx.now.as_micros(), room, lease_end], |row| {
                let (delivery, body) = (read(row)?, row.get("body")?);
                let since = Timestamp::from_micros(row.get("since")?);
                Ok((row.get::<_, i64>("seq")?, ClaimedDelivery { delivery, since, body }))
            })?;
            // They come in no order.
            of_host.sort_unstable_by_key(|(seq, _)| *seq);
            claimed.extend(of_host.into_iter().map(|(_, claimed)| claimed));
        }
    }
    Ok(claimed)
}

fn settle(tx: &Tx<'_>, settlement: &DeliverySettlement) -> rusqlite::Result<bool> {
    let DeliverySettlement { id, tries, outcome } = settlement;
    let sql = "SELECT seq, job, event FROM delivery WHERE id = ?1 AND tries = ?2 AND due IS NOT NULL";
    let read = |row: &Row<'_>| Ok((row.get(0)?, Uuid::from_bytes(row.get(1)?), row.get(2)?));
    let found: Option<(i64, Uuid, u32)> = tx.row(sql, params![id, tries], read)?;
    let Some((seq, job, event)) = found else { return Ok(false) };
    let is_progress = event == WebhookEvent::Progress.bit();
    match outcome {
        // What is older is not told after it.
        DeliveryOutcome::Done if is_progress => {
            tx.execute(
                "DELETE FROM delivery WHERE job = ?1 AND event = ?2 AND seq <= ?3",
                params![job.as_bytes(), event, seq],
            )?;
            tx.execute(
                "UPDATE job SET told_at = ?3 WHERE seq = ?1 AND id = ?2",
                params![id::seq(job), job.as_bytes(), tx.now.as_micros()],
            )?;
        }
        DeliveryOutcome::Done => {
            tx.execute("DELETE FROM delivery WHERE seq = ?1", [seq])?;
        }
        DeliveryOutcome::Again { after, error } => {
            tx.execute(
                "UPDATE delivery SET due = ?2, error = ?3, trying = 0 WHERE seq = ?1",
                params![seq, tx.now.after(*after).as_micros(), error],
            )?;
            if is_progress {
                give_way(tx, seq)?;
            }
        }
        // Nobody wants any.
        DeliveryOutcome::Dead { .. } if is_progress => {
            tx.execute(
                "UPDATE job SET webhook = webhook & ~?3 WHERE seq = ?1 AND id = ?2",
                params![id::seq(job), job.as_bytes(), event],
            )?;
            tx.execute("DELETE FROM delivery WHERE job = ?1 AND event = ?2", params![job.as_bytes(), event])?;
        }
        DeliveryOutcome::Dead { error } => {
            tx.execute(
                "UPDATE delivery SET due = NULL, dead_at = ?2, error = ?3, trying = 0 WHERE seq = ?1",
                params![seq, tx.now.as_micros(), error],
            )?;
        }
    }
    Ok(true)
}

/// Progress that has not been told is not told any more where there is newer, which takes over its place in
/// time: the receiver may be away. What is known of that by tries of the newer itself stays.
fn give_way(tx: &Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE delivery AS newer SET due = iif(newer.tries > 0, max(newer.due, old.due), old.due),
             tries = max(newer.tries, old.tries), since = min(ifnull(newer.since, old.since), old.since),
             error = ifnull(newer.error, old.error)
         FROM delivery AS old
         WHERE old.seq = ?1 AND newer.job = old.job AND newer.event = old.event AND newer.seq > old.seq
             AND NOT newer.trying",
        [seq],
    )?;
    tx.execute(
        "DELETE FROM delivery AS old WHERE seq = ?1 AND EXISTS (
             SELECT 1 FROM delivery WHERE job = old.job AND event = old.event AND seq > old.seq)",
        [seq],
    )?;
    Ok(())
}

fn list(connection: &Connection, query: &DeliveryQuery) -> rusqlite::Result<Vec<Delivery>> {
    let limit = params![
        i64::try_from(query.limit).unwrap_or(i64::MAX),
        query.queue,
        query.queue.is_none(),
        query.job.as_ref().map(bytes),
        query.id,
        query.dead,
    ];
    macro_rules! select {
        ($from:literal, $order:literal) => {
            concat!(
                "SELECT ",
                columns!(),
                " FROM delivery ",
                $from,
                " AND (?3 OR queue IS ?2) AND (?4 IS NULL OR job = ?4) AND (?5 IS NULL OR id = ?5)",
                " AND (NOT ?6 OR dead_at IS NOT NULL) ORDER BY ",
                $order,
                " DESC LIMIT ?1"
            )
        };
    }
    let sql = match query {
        DeliveryQuery { id: Some(_), .. } => select!("WHERE id = ?5", "seq"),
        DeliveryQuery { job: Some(_), dead: true, .. } => select!("WHERE job = ?4", "dead_at"),
        DeliveryQuery { job: Some(_), .. } => select!("WHERE job = ?4", "seq"),
        DeliveryQuery { dead: true, .. } => {
            select!("INDEXED BY delivery_dead WHERE dead_at IS NOT NULL", "dead_at")
        }
        _ => select!("WHERE TRUE", "seq"),
    };
    connection.prepare_cached(sql)?.query_map(limit, |row| Ok(read(row)?.shown()))?.collect()
}

fn redrive(tx: &mut Tx<'_>, what: RedriveDeliveries) -> Result<Vec<String>, Fault> {
    let ids = match what {
        RedriveDeliveries::Dead { limit, queue, by } => tx.rows(
            "SELECT id FROM delivery INDEXED BY delivery_dead
             WHERE dead_at IS NOT NULL AND dead_at <= ?1 AND (?3 OR queue IS ?2) ORDER BY dead_at LIMIT ?4",
            params![by.as_micros(), queue, queue.is_none(), i64::try_from(limit).unwrap_or(i64::MAX)],
            |r| r.get(0),
        )?,
        RedriveDeliveries::Deliveries(ids) => ids,
    };
    let mut redriven = Vec::new();
    for id in ids {
        let changed = tx.execute(
            "UPDATE delivery SET due = ?2, since = NULL, dead_at = NULL WHERE id = ?1 AND dead_at IS NOT NULL",
            params![id, tx.now.as_micros()],
        )?;
        if changed > 0 {
            redriven.push(id);
        }
    }
    Ok(redriven)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let time =
        |name: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(Timestamp::from_micros));
    let bit: u32 = row.get("event")?;
    let event = WebhookEvent::ALL.into_iter().find(|event| event.bit() == bit);
    Ok(Delivery {
        id: row.get("id")?,
        job: id::show(Uuid::from_bytes(row.get("job")?)),
        queue: row.get("queue")?,
        event: event.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, bit.into()))?,
        url: row.get("url")?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        tries: row.get("tries")?,
        due_at: time("due")?,
        dead_at: time("dead_at")?,
        error: row.get("error")?,
    })
}
