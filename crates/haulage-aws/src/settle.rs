//! `settle`: the record first, then the message.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use haulage::{
    DEAD_LETTER_TTL, Error, FailureKind, JobError, Json, Result, Status,
    backend::{ClaimKey, Outcome, Settlement},
};
use tracing::warn;

use crate::{
    body::{Packed, Place},
    expr::{Write, moment, nonce, text},
    heartbeat::while_held,
    held::Hold,
    inner::{Inner, Shared},
    item::{End, Row, name, with_error},
    queue::Receipt,
    table::{PARALLEL, Written},
    ticket::keep_days,
};

pub(crate) async fn settle(inner: Shared, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
    // Two of one claim are settled in their order; all others side by side.
    let mut of_claim: HashMap<ClaimKey, Vec<(usize, Outcome)>> = HashMap::new();
    let count = settlements.len();
    for (place, Settlement { key, outcome }) in settlements.into_iter().enumerate() {
        of_claim.entry(key).or_default().push((place, outcome));
    }
    let parts: Vec<_> = stream::iter(of_claim)
        .map(|(key, outcomes)| {
            let inner = &inner;
            async move {
                let mut answers = Vec::with_capacity(outcomes.len());
                for (place, outcome) in outcomes {
                    answers.push((place, one(inner, &key, outcome).await));
                }
                answers
            }
        })
        .buffer_unordered(2 * PARALLEL)
        .collect()
        .await;
    let mut answers: Vec<Option<Result<Status>>> = vec![None; count];
    let mut hide = Vec::new();
    let mut failure = None;
    for (place, answer) in parts.into_iter().flatten() {
        match answer {
            Ok(done) => {
                hide.extend(done.hide);
                answers[place] = Some(done.answer);
            }
            Err(error) => failure = Some(error),
        }
    }
    inner.queue.hide(hide).await;
    match failure {
        // The whole call is repeated then; those that were settled are known by their records.
        Some(error) => Err(error),
        None => Ok(answers.into_iter().flatten().collect()),
    }
}

/// The end of one claim.
struct Done {
    answer: Result<Status>,
    /// Messages to show again, and after what time.
    hide: Vec<(Receipt, Duration)>,
}

async fn one(inner: &Shared, key: &ClaimKey, outcome: Outcome) -> Result<Done> {
    let lost = || Error::LostClaim { id: key.id.clone(), attempt: key.attempt };
    let Some(terms) = terms(inner, key).await? else {
        drop_hold(inner, key).await;
        return Ok(Done { answer: Err(lost()), hide: Vec::new() });
    };
    let stored = store(inner, key, outcome, &terms).await?;
    let now = inner.now();
    let write = while_held(stored.write(inner, &terms, now), key, now);
    let written = inner.table.write(key.id.as_str(), write).await?;
    let written = match written {
        Written::Refused(Some(row))
            if stored.goes_back() && row.flag(name::CANCEL) && row.is_held(key.attempt, now) =>
        {
            // Somebody wants it cancelled, and it is not running any more.
            let write = End::cancelled().write(now, terms.result_ttl, inner.queue.retention);
            inner.table.write(key.id.as_str(), while_held(write, key, now)).await?
        }
        other => other,
    };
    match written {
        Written::Done(row) => {
            let status = row.status().unwrap_or(Status::Error);
            let hide = let_go(inner, key, &row, stored.delay()).await;
            Ok(Done { answer: Ok(status), hide })
        }
        Written::Refused(_) => {
            inner.delete_documents(stored.object()).await;
            drop_hold(inner, key).await;
            Ok(Done { answer: Err(lost()), hide: Vec::new() })
        }
    }
}

/// What has to be known of a job to settle it.
struct Terms {
    result_ttl: Duration,
    attempts_left: u32,
}

/// From the claim; or from the record, where the claim is not this process's.
async fn terms(inner: &Inner, key: &ClaimKey) -> Result<Option<Terms>> {
    let held = |hold: &mut Hold| Terms { result_ttl: hold.result_ttl, attempts_left: hold.attempts_left };
    if let Some(terms) = inner.held.with(key, held) {
        return Ok(Some(terms));
    }
    if key.id.as_str().is_empty() {
        return Ok(None);
    }
    let row = inner.table.get(key.id.as_str()).await?.and_then(Row::of);
    let row = row.filter(|row| row.is_held(key.attempt, inner.now()));
    Ok(row.map(|row| Terms { result_ttl: row.result_ttl(), attempts_left: row.count(name::LEFT) }))
}

/// An outcome whose result is stored already, if it is too large for the record.
enum Stored {
    Success { packed: Packed, place: Place },
    Ends(End),
    Retry { error: JobError, delay: Duration },
    Release,
}

async fn store(inner: &Inner, key: &ClaimKey, outcome: Outcome, terms: &Terms) -> Result<Stored> {
    Ok(match outcome {
        Outcome::Success(result) => match inner.capabilities.check_payload("result", &result) {
            Ok(()) => store_result(inner, key, &result, terms).await?,
            Err(error) => {
                let hint = if inner.bucket.is_none() {
                    "; with a bucket (bucket=…), results go to S3"
                } else {
                    ""
                };
                Stored::Ends(End::failed(JobError::new(FailureKind::InvalidResult, format!("{error}{hint}"))))
            }
        },
        Outcome::Fail(error) => Stored::Ends(End::failed(error)),
        Outcome::Cancelled => Stored::Ends(End::cancelled()),
        Outcome::Retry { error, delay } => Stored::Retry { error, delay },
        Outcome::Release => Stored::Release,
    })
}

async fn store_result(inner: &Inner, key: &ClaimKey, result: &Json, terms: &Terms) -> Result<Stored> {
    let packed = Packed::new(result, inner.config.compression);
    let mut place = Place::Record;
    if let Some(bucket) = inner.bucket.as_ref().filter(|_| packed.size() > inner.config.offload_above) {
        let days = keep_days(Duration::ZERO, terms.result_ttl.max(DEAD_LETTER_TTL));
        let end = if packed.is_zstd() { "json.zst" } else { "json" };
        let queue = &inner.queue.name;
        // Another attempt's result must not take its place.
        let object = format!("haulage/{days}d/{queue}/{}/result-{}-{}.{end}", key.id, key.attempt, nonce());
        match bucket.put(&object, &packed).await {
            Ok(()) => place = Place::Object(object),
            // Trying on would not help; the job has ended, and its record says how.
            Err(error @ Error::Config(_)) => {
                let message = format!("the result has {} bytes: {error}", packed.size());
                return Ok(Stored::Ends(End::failed(JobError::new(FailureKind::InvalidResult, message))));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Stored::Success { packed, place })
}

impl Stored {
    fn write(&self, inner: &Inner, terms: &Terms, now: haulage::Timestamp) -> Write {
        let retention = inner.queue.retention;
        match self {
            Self::Success { packed, place } => {
                let end = End { status: Status::Success, error: None, dead: false };
                let write = end.write(now, terms.result_ttl, retention);
                match place.to_text() {
                    Some(at) => write.set(name::RESULT_AT, text(at)),
                    None => write.set(name::RESULT, packed.to_attribute()),
                }
            }
            Self::Ends(end) => end.write(now, terms.result_ttl, retention),
            Self::Retry { error, .. } if terms.attempts_left == 0 => {
                let write = End::dead(error.clone()).write(now, terms.result_ttl, retention);
                write.when("attribute_not_exists(#cancel_requested)")
            }
            Self::Retry { error, delay } => {
                with_error(back(now, *delay), error).when("attribute_not_exists(#cancel_requested)")
            }
            Self::Release => back(now, Duration::ZERO)
                .add(name::UNCOUNTED, 0, 1)
                .add(name::LEFT, 0, 1)
                .when("attribute_not_exists(#cancel_requested)"),
        }
    }

    /// Whether the job waits for another attempt afterwards, or would have.
    fn goes_back(&self) -> bool {
        matches!(self, Self::Retry { .. } | Self::Release)
    }

    fn delay(&self) -> Duration {
        match self {
            Self::Retry { delay, .. } => *delay,
            _ => Duration::ZERO,
        }
    }

    /// The result's own object, which nobody needs if the claim was lost.
    fn object(self) -> Option<Place> {
        match self {
            Self::Success { place: place @ Place::Object(_), .. } => Some(place),
            _ => None,
        }
    }
}

/// The write that sends a job back to wait.
fn back(now: haulage::Timestamp, delay: Duration) -> Write {
    Write::at(now)
        .set(name::STATUS, text(Status::Submitted.as_str()))
        .set(name::DUE_AT, moment(now.after(delay)))
        .remove(&[name::RECEIPT, name::RECEIVED_AT])
}

/// Lets go of a job that is settled: its message is deleted if the job is over,
/// and shows again if it waits.
async fn let_go(inner: &Shared, key: &ClaimKey, row: &Row, delay: Duration) -> Vec<(Receipt, Duration)> {
    let Some(hold) = inner.held.remove(key) else { return Vec::new() };
    let Hold { receipt, ticket, followers, .. } = hold;
    // Another consumer may have left a newer receipt, of which we were not told.
    let receipt = receipt.into_iter();
    if row.status().is_none_or(Status::is_terminal) {
        if row.flag(name::DEAD) {
            inner.copy_dead(row, &ticket).await;
        }
        let at_once = inner.queue.fifo && ticket.group.is_some();
        receipt.for_each(|receipt| inner.deleter.delete(receipt, at_once));
        inner.held.go_on(followers);
        return Vec::new();
    }
    let mut hide: Vec<_> = receipt.map(|receipt| (receipt, delay)).collect();
    hide.extend(followers.into_iter().map(|message| (message.receipt, Duration::ZERO)));
    hide
}

/// Forgets a claim that is lost. Its message belongs to whoever receives it;
/// what followed it in its group shows again.
async fn drop_hold(inner: &Shared, key: &ClaimKey) {
    if let Some(hold) = inner.held.remove(key)
        && !hold.followers.is_empty()
    {
        warn!(job = %key.id, "its claim was lost; what follows in its group shows again");
        inner.show_again(hold.followers).await;
    }
}
