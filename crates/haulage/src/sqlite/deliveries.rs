//! Handing out what is to be told to webhooks, and what becomes of it.

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
    "UPDATE delivery SET tries = tries + 1, since = ifnull(since, ?2), due = ?4 WHERE seq IN (
         SELECT seq FROM delivery INDEXED BY delivery_due
         WHERE due IS NOT NULL AND host = ?1 AND due <= ?2 ORDER BY due, seq LIMIT ?3)
     RETURNING ",
    columns!(),
    ", since, body, seq"
);

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
        // Most looks find nothing, and take nobody's turn.
        let (wanted, next) = {
            let request = request.clone();
            let look = move |connection: &Connection| Ok(look(connection, &request, now)?);
            self.connections.reader.run(look).await?
        };
        if wanted.is_empty() {
            return Ok(ClaimedDeliveries { deliveries: Vec::new(), next });
        }
        let weight = Weight { rows: request.max, ..Weight::default() };
        let deliveries =
            self.connections.writer.run(weight, move |tx| Ok(claim(tx, &request, &wanted)?)).await?;
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

/// The hosts at which something is due: those with the least under way first, so that no number of slow ones
/// keeps others waiting, and of these that which has waited longest. And when something will be due at another.
fn look(
    connection: &Connection,
    request: &DeliveryRequest,
    now: Timestamp,
) -> rusqlite::Result<(Vec<Due>, Option<Timestamp>)> {
    let mut hosts = connection.prepare_cached(HOSTS)?;
    let hosts = hosts.query_map([], |r| Ok((r.get::<_, String>(0)?, Timestamp::from_micros(r.get(1)?))))?;
    let (mut due, mut next) = (Vec::new(), None);
    for host in hosts {
        let (host, at) = host?;
        let room = request.per_host.saturating_sub(request.in_flight.get(&host).copied().unwrap_or(0));
        if room == 0 {
            continue;
        }
        if at > now {
            next = Some(at);
            break;
        }
        due.push(Due { host, room });
    }
    due.sort_by_key(|due| std::cmp::Reverse(due.room));
    Ok((due, next))
}

fn claim(
    tx: &mut Tx<'_>,
    request: &DeliveryRequest,
    hosts: &[Due],
) -> rusqlite::Result<Vec<ClaimedDelivery>> {
    let lease_end = tx.now.after(request.lease).as_micros();
    let mut claimed = Vec::new();
    for Due { host, room } in hosts {
        let room = (*room).min(request.max - claimed.len());
        if room == 0 {
            break;
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
    Ok(claimed)
}

fn settle(tx: &Tx<'_>, settlement: &DeliverySettlement) -> rusqlite::Result<bool> {
    let DeliverySettlement { id, tries, outcome } = settlement;
    let changed = match outcome {
        DeliveryOutcome::Done => tx.execute(
            "DELETE FROM delivery WHERE id = ?1 AND tries = ?2 AND due IS NOT NULL",
            params![id, tries],
        )?,
        DeliveryOutcome::Again { after, error } => tx.execute(
            "UPDATE delivery SET due = ?3, error = ?4 WHERE id = ?1 AND tries = ?2 AND due IS NOT NULL",
            params![id, tries, tx.now.after(*after).as_micros(), error],
        )?,
        DeliveryOutcome::Dead { error } => tx.execute(
            "UPDATE delivery SET due = NULL, dead_at = ?3, error = ?4
             WHERE id = ?1 AND tries = ?2 AND due IS NOT NULL",
            params![id, tries, tx.now.as_micros(), error],
        )?,
    };
    Ok(changed > 0)
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
        ($from:literal) => {
            concat!(
                "SELECT ",
                columns!(),
                " FROM delivery ",
                $from,
                " AND (?3 OR queue IS ?2) AND (?4 IS NULL OR job = ?4) AND (?5 IS NULL OR id = ?5)",
                " AND (NOT ?6 OR dead_at IS NOT NULL) ORDER BY seq DESC LIMIT ?1"
            )
        };
    }
    let sql = match query {
        DeliveryQuery { id: Some(_), .. } => select!("WHERE id = ?5"),
        DeliveryQuery { job: Some(_), .. } => select!("WHERE job = ?4"),
        DeliveryQuery { dead: true, .. } => select!("INDEXED BY delivery_dead WHERE dead_at IS NOT NULL"),
        _ => select!("WHERE TRUE"),
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
