//! What becomes of a received message.

use std::time::Duration;

use haulage::{
    Result,
    backend::{ClaimKey, Claimed},
};
use tracing::warn;

use crate::{
    schema::{
        fence::unchanged,
        item::Row,
        name,
        update::{Write, moment, text},
    },
    services::table::Written,
    state::{
        Shared,
        in_flight::{Hold, Received},
    },
};

/// What became of a message.
pub(crate) enum Disposition {
    /// Its job is ours.
    Claimed(Box<(Claimed, Hold)>),
    /// Its job is over, or not this message's: it is deleted.
    Dropped,
    /// It shows again after so long.
    Hidden(Duration),
    /// Its job is in somebody's hands, for so long.
    Held(Duration),
}

/// How long a message is left alone that is in another queue than its job.
const MISPLACED: Duration = Duration::from_secs(300);

/// What becomes of a message whose job is one of another queue: somebody has
/// moved it, or works on a dead-letter queue. It stays for them to move back.
pub(crate) fn misplaced(message: &Received, row: &Row) -> Option<Disposition> {
    let queue = row.text(name::QUEUE).filter(|queue| *queue != message.queue.name)?;
    let here = &message.queue.name;
    warn!(job_id = %message.id, queue, here, "a message is in another queue than its job; move it back there");
    Some(Disposition::Hidden(MISPLACED))
}

/// Leaves the receipt of a message to the holder of its job. `None` where the
/// record is another one by now.
pub(crate) async fn hand_over(
    inner: &Shared,
    message: &Received,
    row: &Row,
    left: Duration,
) -> Result<Option<Disposition>> {
    // The holder may have come by another one, and needs the receipt of that.
    if message.second {
        return Ok(Some(Disposition::Hidden(left)));
    }
    let key = ClaimKey { id: message.id.clone(), attempt: row.attempt() };
    if !inner.in_flight.adopt(&key, &message.receipt, message.received_at) {
        let write = Write::at(inner.now())
            .set(name::RECEIPT, text(&message.receipt))
            .set(name::RECEIVED_AT, moment(message.received_at));
        if let Written::Refused(_) =
            inner.store.table.write(message.id.as_str(), unchanged(write, row)).await?
        {
            return Ok(None);
        }
    }
    Ok(Some(Disposition::Held(left)))
}
