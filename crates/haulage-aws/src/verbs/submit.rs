//! `submit`: the message first, since it gives the job its id; then the record.
//!
//! If we die between the two, or the table is away, nothing is lost: the consumer
//! that receives the message makes the record.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures_util::future::join_all;
use haulage::{Error, JobId, NewJob, Result, Timestamp, backend::Submitted};

use crate::{
    delivery::deduplication::{self, Owner, Wanted},
    schema::{envelope::Envelope, item},
    services::{queue::Queue, queues::by_queue, send::Sent, table::pause},
    state::{Inner, Shared},
};

/// What is known of a job's submit so far.
enum Reservation {
    /// Its message is to be sent, or has been.
    Mine,
    /// An earlier job has its key.
    Other(JobId),
    /// An earlier job with another body, of this hash, has its key.
    Conflict(JobId, String),
    /// The same as that of an earlier job of this call.
    SameAs(usize),
}

pub(crate) async fn submit(inner: Shared, jobs: Vec<NewJob>) -> Result<Vec<Result<Submitted>>> {
    inner.capabilities.check_submit(&jobs).map_err(|error| inner.store.hint_at_bucket(error))?;
    let queues = queues_of(&inner, &jobs).await?;
    let first = inner.moments(jobs.len());
    let at = |n: usize| Timestamp::from_micros(first.as_micros() + i64::try_from(n).unwrap_or(0));
    let envelopes: Vec<Envelope> = jobs
        .iter()
        .enumerate()
        .map(|(n, job)| Envelope::new(job, &inner.config, at(n)))
        .collect::<Result<_>>()?;
    let keys: Vec<Option<Wanted>> = jobs.iter().map(Wanted::of).collect();
    drop(jobs);

    let dispositions = reserve(&inner, &envelopes, &keys).await?;
    let mine: Vec<usize> =
        (0..envelopes.len()).filter(|n| matches!(dispositions[*n], Reservation::Mine)).collect();
    let of_mine: Vec<&Envelope> = mine.iter().map(|n| &envelopes[*n]).collect();
    if let Err(error) = inner.store_bodies(&of_mine).await {
        free(&inner, &of_mine).await;
        return Err(error);
    }
    let to_send: Vec<Envelope> = of_mine.into_iter().cloned().collect();
    let of_sent: Vec<&Arc<Queue>> = mine.iter().map(|n| &queues[*n]).collect();
    let sent = send(&inner, &of_sent, &to_send).await;
    let named = of_sent.iter().zip(&to_send).zip(sent);
    let named =
        join_all(named.map(|((queue, envelope), sent)| name_job(&inner, queue, envelope, sent))).await;

    let new: Vec<_> = named
        .iter()
        .zip(of_sent.iter().zip(&to_send))
        .filter_map(|(named, sent)| Some((named.as_ref().ok().filter(|job| !job.duplicate)?, sent)))
        .collect();
    let items =
        new.iter().map(|(job, (queue, envelope))| item::submitted(&job.id, envelope, &queue.name)).collect();
    // What was sent will run, whatever becomes of its record.
    let recorded = inner.record(items).await;

    let mut answers: Vec<Option<Result<Submitted>>> = vec![None; envelopes.len()];
    for (n, named) in mine.into_iter().zip(named) {
        answers[n] = Some(match (named, &recorded) {
            (Ok(job), Err(error)) if !job.duplicate => Err(unrecorded(&job.id, error)),
            (named, _) => named,
        });
    }
    let conflict = |n: usize, id: JobId| {
        let key = keys[n].as_ref().map(|wanted| wanted.key.clone()).unwrap_or_default();
        Error::IdempotencyConflict { key, id }
    };
    for (n, disposition) in dispositions.iter().enumerate() {
        match disposition {
            Reservation::Mine => {}
            Reservation::Conflict(id, _) => answers[n] = Some(Err(conflict(n, id.clone()))),
            Reservation::Other(id) => answers[n] = Some(Ok(Submitted { id: id.clone(), duplicate: true })),
            Reservation::SameAs(first) => {
                let hash = |n: usize| keys[n].as_ref().map(|wanted| wanted.body.as_str());
                let (id, body) = match (&dispositions[*first], &answers[*first]) {
                    (Reservation::Conflict(id, body), _) => (id.clone(), Some(body.as_str())),
                    (_, Some(Ok(job))) => (job.id.clone(), hash(*first)),
                    (_, failed) => {
                        answers[n] = failed.clone();
                        continue;
                    }
                };
                let same = hash(n) == body;
                answers[n] =
                    Some(if same { Ok(Submitted { id, duplicate: true }) } else { Err(conflict(n, id)) });
            }
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

/// The queue of each job; all of them are there before anything is stored.
async fn queues_of(inner: &Inner, jobs: &[NewJob]) -> Result<Vec<Arc<Queue>>> {
    let mut queues: Vec<Arc<Queue>> = Vec::with_capacity(jobs.len());
    for job in jobs {
        let queue = match queues.last() {
            Some(last) if last.named == job.spec.queue => last.clone(),
            _ => inner.queues.get(&job.spec.queue).await?,
        };
        check_group(inner, &queue, job)?;
        queues.push(queue);
    }
    Ok(queues)
}

/// Sends each to its queue; the answers are in their order.
async fn send(inner: &Inner, queues: &[&Arc<Queue>], envelopes: &[Envelope]) -> Vec<Result<Sent>> {
    let placed = queues.iter().enumerate().map(|(n, queue)| (Arc::clone(queue), n));
    let sends = by_queue(placed).into_iter().map(|(queue, places)| async move {
        let of_it: Vec<Envelope> = places.iter().map(|n| envelopes[*n].clone()).collect();
        places.into_iter().zip(queue.send(&of_it, inner.now()).await).collect::<Vec<_>>()
    });
    let mut sent: Vec<(usize, Result<Sent>)> = join_all(sends).await.into_iter().flatten().collect();
    sent.sort_by_key(|(n, _)| *n);
    sent.into_iter().map(|(_, sent)| sent).collect()
}

/// A message that waits for longer than SQS keeps it is replaced, and would then
/// be the last of its group.
fn check_group(inner: &Inner, queue: &Queue, job: &NewJob) -> Result<()> {
    let limits = inner.limits(queue);
    let longest = limits.retention.saturating_sub(limits.reserve());
    if queue.fifo && job.spec.group.is_some() && job.delay > longest {
        return Err(Error::Invalid(format!(
            "a job of a group can be delayed by {} at most on queue {}, by its retention",
            humantime::format_duration(longest),
            queue.name
        )));
    }
    Ok(())
}

/// Reserves the idempotency keys, all or none: two submits that wait for each
/// other's would wait for ever.
async fn reserve(inner: &Inner, envelopes: &[Envelope], keys: &[Option<Wanted>]) -> Result<Vec<Reservation>> {
    let since = Instant::now();
    let mut round = 0;
    loop {
        let dispositions = join_all(try_reserve(inner, envelopes, keys)).await;
        let failed = dispositions.iter().find_map(|disposition| disposition.as_ref().err().cloned());
        let busy = dispositions.iter().any(|disposition| matches!(disposition, Ok(None)));
        if failed.is_none() && !busy {
            return dispositions.into_iter().filter_map(Result::transpose).collect();
        }
        let reserved = envelopes
            .iter()
            .zip(&dispositions)
            .filter(|(_, disposition)| matches!(disposition, Ok(Some(Reservation::Mine))));
        free(inner, &reserved.map(|(envelope, _)| envelope).collect::<Vec<_>>()).await;
        if let Some(error) = failed {
            return Err(error);
        }
        // Whoever has one of them sends it, or loses it, in a reservation's time.
        if since.elapsed() > inner.key_patience {
            return Err(Error::Unavailable {
                message: "another submit with the same idempotency key does not end; try again".into(),
                source: None,
            });
        }
        pause(round).await;
        round += 1;
    }
}

/// One try for each; `None` where another submit has the key, and no job yet.
fn try_reserve<'a>(
    inner: &'a Inner,
    envelopes: &'a [Envelope],
    keys: &'a [Option<Wanted>],
) -> Vec<impl Future<Output = Result<Option<Reservation>>> + 'a> {
    let mut first_with: HashMap<&str, usize> = HashMap::new();
    // All are stored before any is sent.
    let bytes = envelopes.iter().filter_map(|envelope| Some(envelope.body.packed.as_ref()?.size())).sum();
    let dispositions = envelopes.iter().enumerate().map(|(n, envelope)| {
        let first = envelope.key.as_deref().map(|key| *first_with.entry(key).or_insert(n));
        async move {
            match (&envelope.key, &keys[n], first) {
                (Some(_), _, Some(first)) if first != n => Ok(Some(Reservation::SameAs(first))),
                (Some(key), Some(wanted), _) => {
                    let owner = deduplication::reserve(inner, key, wanted, &envelope.token, bytes).await?;
                    Ok(owner.map(|owner| match owner {
                        Owner::Me => Reservation::Mine,
                        Owner::Named(id) | Owner::Job(id) => Reservation::Other(id),
                        Owner::Conflict(id, body) => Reservation::Conflict(id, body),
                    }))
                }
                _ => Ok(Some(Reservation::Mine)),
            }
        }
    });
    dispositions.collect()
}

/// Gives back the keys of jobs that were not sent.
async fn free(inner: &Inner, envelopes: &[&Envelope]) {
    let keyed = envelopes.iter().filter_map(|envelope| Some((envelope.key.as_deref()?, &envelope.token)));
    join_all(keyed.map(|(key, token)| deduplication::free(inner, key, token))).await;
}

/// The id of a job whose message was sent.
async fn name_job(
    inner: &Inner,
    queue: &Queue,
    envelope: &Envelope,
    sent: Result<Sent>,
) -> Result<Submitted> {
    // If it was not taken in, its key is free once its reservation is over;
    // freed at once, a message that was taken in after all would be a second job.
    let Sent { id, maybe_twice } = sent?;
    if let Some(key) = &envelope.key {
        return Ok(match deduplication::confirm(inner, key, &envelope.token, &id).await? {
            Owner::Me => Submitted { id, duplicate: false },
            Owner::Named(id) => Submitted { id, duplicate: false },
            Owner::Job(id) | Owner::Conflict(id, _) => Submitted { id, duplicate: true },
        });
    }
    // A FIFO queue takes the second try for the first.
    if maybe_twice && !queue.fifo {
        let id = deduplication::note(inner, &envelope.token, &id).await?;
        return Ok(Submitted { id, duplicate: false });
    }
    Ok(Submitted { id, duplicate: false })
}

/// There is no table. Nobody can run the job before that is mended, and whoever has
/// submitted it has to know.
fn unrecorded(id: &JobId, error: &Error) -> Error {
    Error::Config(format!("job {id} is in the queue, and cannot be recorded or run: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{config::Config, schema::name};

    /// Whoever may submit, may begin a record with these and no others: with a result least of all.
    #[test]
    fn terraform_lets_a_submit_write_what_it_writes() {
        let mut config = Config::new("jobs.fifo");
        config.bucket = Some("payloads".into());
        // In the record, and in the bucket.
        let written: BTreeSet<String> = [1, 100_000]
            .into_iter()
            .flat_map(|length| {
                let job = NewJob::new(&"x".repeat(length))
                    .expect("JSON")
                    .request_id("r-1")
                    .group("g")
                    .metadata(name::TASK_TOKEN, "t")
                    .timeout(std::time::Duration::from_secs(9));
                let envelope = Envelope::new(&job, &config, Timestamp::from_micros(7)).expect("an envelope");
                item::submitted(&"j-1".into(), &envelope, "jobs.fifo").into_keys()
            })
            .collect();
        assert_eq!(written, name::in_terraform("submitted_attributes"));
    }
}
