//! How an ended job goes back to work: by a message that says so, and a record that
//! waits again.

use haulage::{Result, Status, Timestamp};

use crate::{
    random,
    schema::{
        body::{Body, DocumentPlace, Packed},
        envelope::Envelope,
        fence::unchanged,
        item::{Row, remember, spelled},
        name,
        update::{Write, moment, number, text},
    },
    services::table::Written,
    state::Inner,
};

pub(crate) fn can_go_back(row: &Row, now: Timestamp) -> bool {
    row.has_failed() && !row.is_expired(now)
}

/// Whether a message asks for this job to go back to work.
pub(crate) fn is_wanted(row: &Row, envelope: &Envelope, now: Timestamp) -> bool {
    envelope.redrive.is_some() && envelope.redrive == row.ending() && can_go_back(row, now)
}

/// Makes the record of an ended job that of one which waits. Tells whether the
/// message with this token is why it waits, or did: a consumer that was faster
/// has done this for the same message.
pub(crate) async fn revive(inner: &Inner, row: &Row, token: &str) -> Result<bool> {
    let mut row = row.clone();
    let mut round = 0;
    loop {
        inner.store.give_up_after(round, &row.id())?;
        round += 1;
        let now = inner.now();
        // The record is about to forget the end of the latest.
        let mut record = row.record(now);
        let latest = record.as_mut().and_then(|record| {
            record.remember(row.past());
            record.attempts.last()
        });
        let write = remember(Write::at(now), latest)
            .set(name::STATUS, spelled(Status::Submitted))
            .set(name::DUE_AT, moment(now))
            .set(name::UNCOUNTED, number(row.attempt()))
            .set(name::LEFT, number(row.count(name::MAX_ATTEMPTS).max(1)))
            .set(name::REDRIVEN_BY, text(token))
            .remove(&[
                name::FINISHED_AT,
                name::EXPIRES_AT,
                name::EXPIRATION,
                name::DEAD_OF,
                name::COPIED,
                name::CANCEL,
            ])
            .remove(&[name::RESULT, name::RESULT_AT]);
        match inner.store.table.write(row.id().as_str(), unchanged(write, &row)).await? {
            Written::Done(_) => return Ok(true),
            // Somebody has noted something else about the same end.
            Written::Refused(Some(other)) if other.ending() == row.ending() && can_go_back(&other, now) => {
                row = other;
            }
            Written::Refused(other) => {
                return Ok(other.is_some_and(|other| other.text(name::REDRIVEN_BY) == Some(token)));
            }
        }
    }
}

/// A new message for a job, from its record; `None` where there is no body for it.
pub(crate) async fn envelope_of(inner: &Inner, row: &Row, proof: String) -> Result<Option<Envelope>> {
    let (place, packed) = match row.body_place() {
        Some(place @ DocumentPlace::Object(_)) => (place, None),
        Some(place) => {
            let Some(body) = inner.store.fetch(&place).await? else { return Ok(None) };
            (place, Some(Packed::new(&body, inner.config.compression)))
        }
        None => match row.0.get(name::BODY).and_then(Packed::from_attribute) {
            Some(packed) => (DocumentPlace::Record, Some(packed)),
            None => return Ok(None),
        },
    };
    Ok(Some(Envelope {
        token: random::token(),
        id: Some(row.id()),
        proof,
        submitted_at: row.moment(name::SUBMITTED_AT).unwrap_or_else(|| inner.now()),
        not_before: None,
        spec: row.spec(),
        key: None,
        redrive: row.ending(),
        came_from: None,
        bound_for: None,
        body: Body { packed, place },
    }))
}
