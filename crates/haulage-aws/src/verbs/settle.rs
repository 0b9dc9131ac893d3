//! `settle`: the record first, then the message.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use haulage::{
    Error, FailureKind, JobError, Json, Result, Status, Timestamp, Webhook, WebhookEvent,
    backend::{ClaimKey, Outcome, Settlement, Update},
    lifecycle::{self, End, Terms, Transition, Wait},
};
use tracing::warn;

use crate::{
    delivery::checkpoint::Told,
    random,
    schema::{
        body::{DocumentPlace, Packed},
        envelope::Envelope,
        fence::while_held,
        item::{self, Row, begun, remember, spelled, with_error},
        name,
        object_retention::{keep_result_days, object_key},
        update::{Write, moment, text},
    },
    services::{
        queue::Queue,
        table::{PARALLEL, Written},
    },
    state::{
        Inner, Shared,
        in_flight::{Chain, Hold, Received, hidden_behind, with_followers},
    },
};

/// How long the answer waits for the queue.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn settle(inner: Shared, settlements: Vec<Settlement>) -> Result<Vec<Result<Status>>> {
    inner.capabilities.check_settlements(&settlements)?;
    // Two of one claim are settled in their order; all others side by side.
    let mut of_claim: HashMap<ClaimKey, Vec<(usize, Outcome, Update)>> = HashMap::new();
    let count = settlements.len();
    for (place, Settlement { key, outcome, update, .. }) in settlements.into_iter().enumerate() {
        of_claim.entry(key).or_default().push((place, outcome, update));
    }
    let parts: Vec<_> = stream::iter(of_claim)
        .map(|(key, outcomes)| {
            let inner = &inner;
            async move {
                let mut answers = Vec::with_capacity(outcomes.len());
                for (place, outcome, update) in outcomes {
                    answers.push((place, one(inner, &key, outcome, &update).await));
                    inner.in_flight.with(&key, |hold| hold.settling = false);
                }
                answers
            }
        })
        .buffer_unordered(2 * PARALLEL)
        .collect()
        .await;
    let mut answers: Vec<Option<Result<Status>>> = vec![None; count];
    let mut afterwards = Afterwards::default();
    for (place, answer) in parts.into_iter().flatten() {
        // One that fails for now leaves the others their answers.
        answers[place] = Some(match answer {
            Ok(done) => {
                afterwards.extend(done.afterwards);
                done.answer
            }
            Err(error) => Err(error),
        });
    }
    // The records decide; where the queue is slow, they are good all the same.
    let rest = inner.tasks.spawn(afterwards.work_off(inner.clone()));
    let _ = tokio::time::timeout(PATIENCE, rest).await;
    if inner.stopped.load(Ordering::Relaxed) {
        inner.stop_claiming().await;
    }
    Ok(answers.into_iter().flatten().collect())
}

/// The end of one claim.
struct Done {
    answer: Result<Status>,
    afterwards: Afterwards,
}

async fn one(inner: &Shared, key: &ClaimKey, outcome: Outcome, update: &Update) -> Result<Done> {
    let lost = || Error::LostClaim { id: key.id.clone(), attempt: key.attempt };
    let Some(claimed) = claimed(inner, key).await? else {
        return Ok(Done { answer: Err(lost()), afterwards: Afterwards::default() });
    };
    let now = inner.now();
    let stored = store(inner, key, outcome, &claimed, now).await?;
    if matches!(stored, Stored::Ends { .. }) {
        keep_body(inner, key, &claimed).await?;
    }
    let told = match &stored {
        Stored::Success { .. } => Told::without_checkpoint(&update.of_success()),
        _ => match inner.tell(key, claimed.result_ttl(), update).await {
            // Trying on would not help.
            Err(error @ Error::Config(_)) => {
                warn!(%error, job_id = %key.id, "its last checkpoint could not be stored");
                Told::without_checkpoint(update)
            }
            told => told?,
        },
    };
    // Of an attempt that goes back, the record remembers it.
    let told = told.in_slot(inner.in_flight.with(key, |hold| hold.update.slot.clone()).flatten());
    inner.in_flight.with(key, |hold| hold.settling = true);
    let end = |seen: &Row| stored.write(inner, seen, &told, now);
    let seen = tell_last_progress(inner, key, &claimed, &stored, &told, now).await?;
    let mut written = write(inner, key, &seen, stored.result(), end).await?;
    if let Written::Refused(Some(row)) = &written
        && stored.unless_cancelled()
        && row.flag(name::CANCEL)
        && row.is_held_by(key.attempt)
    {
        // Somebody wants it cancelled, and it is not running any more.
        keep_body(inner, key, &claimed).await?;
        let queue = claimed.text(name::QUEUE).unwrap_or_default();
        let cancelled =
            |seen: &Row| told.written(inner.ended(&End::Cancelled, queue, now, seen.result_ttl()));
        written = write(inner, key, &row.clone(), None, cancelled).await?;
    }
    match written {
        Written::Done(row) => {
            // An earlier try, whose answer was lost, may have stored the result elsewhere.
            if let Some(place) = stored.object()
                && place.to_text().as_deref() != row.text(name::RESULT_AT)
            {
                inner.store.delete_documents([place]).await;
            }
            let status = row.status().unwrap_or(Status::Error);
            let dropped = (status == Status::Success && row.spec().drop_body).then(|| row.body_place());
            let earlier = inner.in_flight.with(key, |hold| hold.checkpoint_at.clone());
            let earlier = earlier
                .unwrap_or_else(|| claimed.text(name::CHECKPOINT_AT).and_then(DocumentPlace::from_text));
            let replaced = status == Status::Success || told.has_checkpoint();
            let mut afterwards = let_go(inner, key, row, stored.delay());
            afterwards.dropped.extend(earlier.filter(|_| replaced));
            afterwards.dropped.extend(dropped.flatten());
            Ok(Done { answer: Ok(status), afterwards })
        }
        Written::Refused(_) => {
            inner.store.let_go(stored.object().into_iter().chain(told.place().cloned())).await;
            inner.drop_hold(key);
            Ok(Done { answer: Err(lost()), afterwards: Afterwards::default() })
        }
    }
}

/// Tells a webhook of progress that came with the end of an attempt, unless it is told of the job's end, which is
/// newer. Brings the record as it is then.
async fn tell_last_progress<'a>(
    inner: &Inner,
    key: &ClaimKey,
    claimed: &'a Row,
    stored: &Stored,
    told: &Told,
    now: Timestamp,
) -> Result<Cow<'a, Row>> {
    let overtaken = matches!(stored, Stored::Ends { .. }) && claimed.tells(WebhookEvent::Ended);
    if overtaken || !told.has_progress() || !claimed.tells(WebhookEvent::Progress) {
        return Ok(Cow::Borrowed(claimed));
    }
    let lease = claimed.duration(name::LEASE).unwrap_or_default();
    let write = told.written(Write::at(now));
    let said = inner.store.say(key, Some(claimed.clone()), write, true, lease).await?;
    Ok(match said.written {
        Written::Done(row) => Cow::Owned(row),
        Written::Refused(_) => Cow::Borrowed(claimed),
    })
}

/// The body of a job that ends without success; its message is about to go.
async fn keep_body(inner: &Inner, key: &ClaimKey, claimed: &Row) -> Result<()> {
    match inner.in_flight.with(key, |hold| hold.envelope.clone()) {
        Some(envelope) => inner.keep_body(claimed, &envelope).await,
        None => Ok(()),
    }
}

/// Writes the end of a claim, of which the record was `seen` so. A try whose answer was lost for good is known
/// by the mark that it has left in the record.
async fn write(
    inner: &Inner,
    key: &ClaimKey,
    seen: &Row,
    result: Option<&Json>,
    end: impl Fn(&Row) -> Write,
) -> Result<Written> {
    // Known once, so that of several calls one has settled it.
    let is_ours = |hold: &mut Hold, row: &Row| {
        let known = hold.in_doubt.iter().any(|op| op == row.op());
        hold.in_doubt.retain(|op| op != row.op());
        known
    };
    let mut seen = Cow::Borrowed(seen);
    let mut round = 0;
    loop {
        inner.store.give_up_after(round, &key.id)?;
        round += 1;
        let write = end(&seen);
        let op = write.op.clone();
        match inner.store.change(&seen, while_held(write, key), result).await {
            Ok(Written::Refused(Some(row)))
                if inner.in_flight.with(key, |hold| is_ours(hold, &row)) == Some(true) =>
            {
                return Ok(Written::Done(row));
            }
            // What a webhook is told has to be the record as it is: with its latest progress, or a receipt
            // that somebody has left in it.
            Ok(Written::Refused(Some(row)))
                if row.is_held_by(key.attempt) && row.has_webhook() && row.op() != seen.op() =>
            {
                seen = Cow::Owned(row);
            }
            Err(error) => {
                inner.in_flight.with(key, |hold| hold.in_doubt.push(op));
                return Err(error);
            }
            other => return other,
        }
    }
}

/// The record as it was claimed; as it is, where the claim is not this process's.
async fn claimed(inner: &Inner, key: &ClaimKey) -> Result<Option<Row>> {
    if let Some(row) = inner.in_flight.with(key, |hold| hold.row.clone()) {
        return Ok(Some(row));
    }
    if key.id.as_str().is_empty() {
        return Ok(None);
    }
    let row = inner.store.table.get(key.id.as_str()).await?.and_then(Row::of);
    Ok(row.filter(|row| row.is_held_by(key.attempt)))
}

/// What becomes of the job; its result is stored already, if it is too large for
/// the record.
enum Stored {
    /// `result`: as far as a webhook is told of it.
    Success {
        packed: Packed,
        place: DocumentPlace,
        result: Option<Json>,
    },
    /// `goes_back`: the handler wanted another attempt, and there is none.
    Ends {
        end: End,
        goes_back: bool,
    },
    Waits(Wait),
}

async fn store(
    inner: &Inner,
    key: &ClaimKey,
    outcome: Outcome,
    claimed: &Row,
    now: Timestamp,
) -> Result<Stored> {
    let done = matches!(outcome, Outcome::Success(_));
    let goes_back = matches!(outcome, Outcome::Retry { .. } | Outcome::Release { .. });
    // Whether somebody wants it cancelled, the record says when it is written.
    let terms = Terms { cancel_requested: false, ..claimed.terms(now) };
    Ok(match lifecycle::settle(&terms, outcome, &inner.capabilities) {
        Transition::End(End::Success(result)) => store_result(inner, key, &result, claimed).await?,
        Transition::End(End::Error { mut error, dead }) => {
            if done && inner.store.bucket.is_none() {
                error.message += "; with a bucket (bucket=…), results go to S3";
            }
            Stored::Ends { end: End::Error { error, dead }, goes_back }
        }
        Transition::End(end) => Stored::Ends { end, goes_back },
        Transition::Wait(wait) => Stored::Waits(wait),
    })
}

async fn store_result(inner: &Inner, key: &ClaimKey, result: &Json, claimed: &Row) -> Result<Stored> {
    let packed = Packed::new(result, inner.config.compression);
    let mut place = DocumentPlace::Record;
    if let Some(bucket) = inner.store.bucket.as_ref().filter(|_| packed.size() > inner.config.offload_above) {
        let days = keep_result_days(claimed.result_ttl());
        let end = if packed.is_zstd() { "json.zst" } else { "json" };
        // Another attempt's result must not take its place.
        let name = format!("result-{}-{}.{end}", key.attempt, random::mark());
        let object = object_key(days, inner.queues.store(), key.id.as_str(), &name);
        match bucket.put(&object, &packed).await {
            Ok(()) => place = DocumentPlace::Object(object),
            // Trying on would not help; the job has ended, and its record says how.
            Err(error @ Error::Config(_)) => {
                let message = format!("the result has {} bytes: {error}", packed.size());
                let end = End::failed(JobError::new(FailureKind::InvalidResult, message));
                return Ok(Stored::Ends { end, goes_back: false });
            }
            Err(error) => return Err(error),
        }
    }
    let result = Some(result).filter(|result| result.size() <= Webhook::MAX_RESULT_BYTES).cloned();
    Ok(Stored::Success { packed, place, result })
}

impl Stored {
    fn write(&self, inner: &Inner, claimed: &Row, told: &Told, now: Timestamp) -> Write {
        let (ttl, queue) = (claimed.result_ttl(), claimed.text(name::QUEUE).unwrap_or_default());
        let write = match self {
            Self::Success { packed, place, .. } => {
                let retention = inner.store.retentions.of(queue);
                let mut write = item::succeeded(now, ttl, retention, inner.config.keep_successes)
                    .remove(&[name::CHECKPOINT, name::CHECKPOINT_AT]);
                if claimed.spec().drop_body {
                    // Where it is elsewhere, a purge can still find it.
                    write = write.remove(&[name::BODY]);
                }
                match place.to_text() {
                    Some(at) => write.set(name::RESULT_AT, text(at)),
                    None => write.set(name::RESULT, packed.to_attribute()),
                }
            }
            Self::Ends { end, .. } => inner.ended(end, queue, now, ttl),
            Self::Waits(wait) => back(claimed, wait, told.slot(), now),
        };
        let write = if self.unless_cancelled() {
            write.when("attribute_not_exists(#cancel_requested)")
        } else {
            write
        };
        told.written(write)
    }

    /// What a webhook is told of the result.
    fn result(&self) -> Option<&Json> {
        match self {
            Self::Success { result, .. } => result.as_ref(),
            _ => None,
        }
    }

    /// Whether it is recorded as cancelled where somebody wants that.
    fn unless_cancelled(&self) -> bool {
        match self {
            Self::Waits(_) => true,
            Self::Ends { goes_back, .. } => *goes_back,
            Self::Success { .. } => false,
        }
    }

    fn delay(&self) -> Duration {
        match self {
            Self::Waits(wait) => wait.delay.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }

    /// The result's own object, which nobody needs if the claim was lost.
    fn object(&self) -> Option<DocumentPlace> {
        match self {
            Self::Success { place: place @ DocumentPlace::Object(_), .. } => Some(place.clone()),
            _ => None,
        }
    }
}

/// The write that sends a job back to wait.
fn back(claimed: &Row, wait: &Wait, slot: Option<&str>, now: Timestamp) -> Write {
    let error = wait.error.as_ref();
    let mut attempt = claimed.attempt_over(now, error);
    if let (Some(attempt), Some(slot)) = (&mut attempt, slot) {
        attempt.slot = Some(slot.to_owned());
    }
    let mut write = remember(Write::at(now), attempt.as_ref())
        .set(name::STATUS, spelled(Status::Submitted))
        .set(name::DUE_AT, moment(now.after(wait.delay.unwrap_or_default())))
        .remove(&[name::RECEIPT, name::RECEIVED_AT]);
    if let Some(error) = error {
        write = with_error(write, error);
    }
    if wait.begun {
        write = begun(write, claimed);
    }
    if wait.counts { write } else { write.add(name::UNCOUNTED, 0, 1).add(name::LEFT, 0, 1) }
}

/// Lets go of a job that is settled. What is left to do in the queue comes back.
fn let_go(inner: &Shared, key: &ClaimKey, row: Row, delay: Duration) -> Afterwards {
    let Some(Hold { message, queue, envelope, followers, .. }) = inner.in_flight.remove(key) else {
        return Afterwards::default();
    };
    if !row.is_over() {
        let give_back = match message {
            Some(message) => with_followers(message, delay, followers),
            None => hidden_behind(followers, delay),
        };
        return Afterwards { give_back, ..Afterwards::default() };
    }
    if row.is_dead() {
        let dead_letters = vec![Dead { queue, row, envelope, message, followers }];
        return Afterwards { dead_letters, ..Afterwards::default() };
    }
    over(inner, &envelope, message, followers);
    Afterwards::default()
}

/// The message of a job that is over is deleted, and the rest of its group goes on.
fn over(inner: &Inner, envelope: &Envelope, message: Option<Received>, followers: Chain) {
    if let Some(message) = message {
        let at_once = message.queue.fifo && envelope.spec.group.is_some();
        inner.queues.delete(&message.queue, message.receipt, at_once);
    }
    inner.in_flight.go_on(followers);
}

/// What is left to do when records say how claims ended.
#[derive(Default)]
struct Afterwards {
    /// Messages to show again, and after what time.
    give_back: Vec<(Received, Duration)>,
    dead_letters: Vec<Dead>,
    /// Bodies that nobody needs any more.
    dropped: Vec<DocumentPlace>,
}

/// A dead letter and its message.
struct Dead {
    queue: Arc<Queue>,
    row: Row,
    envelope: Arc<Envelope>,
    message: Option<Received>,
    followers: Chain,
}

impl Afterwards {
    fn extend(&mut self, other: Self) {
        self.give_back.extend(other.give_back);
        self.dead_letters.extend(other.dead_letters);
        self.dropped.extend(other.dropped);
    }

    async fn work_off(self, inner: Shared) {
        let copied =
            self.dead_letters.into_iter().map(async |Dead { queue, row, envelope, message, followers }| {
                // The copy first: if we die in between, whoever receives the message makes it.
                inner.copy_dead(&queue, &row, &envelope).await;
                over(&inner, &envelope, message, followers);
            });
        join(inner.give_back(self.give_back), join_all(copied)).await;
        inner.store.let_go(self.dropped).await;
    }
}
