//! The verbs of [`haulage::Backend`], for the backend of this crate; see [`crate::protocol`].

use std::{sync::Arc, time::Duration};

use haulage::{
    Error, JobId, NewJob, QueueName, Result,
    backend::{Cancellation, ClaimRequest, Detail, Heartbeat, ListQuery, Lookup, Purge, Redrive},
};
use hyper::{HeaderMap, StatusCode, body::Bytes};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    Api,
    call_table::{Answered, CallId, Fingerprint},
    caller::Caller,
    calls::{NewCall, Sent, Start},
    keys::Identity,
    reply::{self, Handled, Reply},
    request::{self, Request},
    watch::signal,
    webhooks,
};
use crate::{
    Problem,
    problem::MEDIA_TYPE,
    protocol::{self, Answer, HasSignals, Hello, Stop, Stopped},
};

/// How much more than the largest body or result a request may have: the rest of it.
pub(super) const BESIDE: usize = 16 << 20;
/// How long a claim waits here; whoever wants to wait for longer asks again, before a proxy on the way loses patience.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How many records with results are in memory at a time, for one request.
const LOOK_UPS: usize = 16;
/// How many ids one look-up takes.
const MOST_IDS: usize = 10_000;
/// The least time between two signals of one kind.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(2);
/// A line comes that often, so that a connection that is dead is known to be.
const ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn hello(api: Arc<Api>, _: Request) -> Handled {
    let backend = &api.backend;
    let signals = backend.signals();
    let hello = Hello {
        protocol: protocol::VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: backend.name().to_owned(),
        capabilities: api.capabilities(),
        signals: HasSignals {
            outcomes: signals.outcomes.is_some(),
            cancels: signals.cancels.is_some(),
            scanned: signals.scanned.is_some(),
        },
        gzip: true,
        now: backend.clock().now(),
    };
    Ok(reply::json(StatusCode::OK, &hello))
}

/// A line for each thing that has happened, as long as somebody listens.
pub(super) async fn signals(api: Arc<Api>, _: Request) -> Handled {
    let (sender, reply) = reply::stream(StatusCode::OK, "text/plain; charset=utf-8");
    let mut signals = api.backend.signals();
    let stopping = api.stopping.clone();
    tokio::spawn(async move {
        let mut line = "\n".to_owned();
        loop {
            if sender.send(line).await.is_err() {
                return;
            }
            let began = Instant::now();
            line = tokio::select! {
                () = signal(&mut signals.outcomes) => "outcomes\n".to_owned(),
                () = signal(&mut signals.cancels) => "cancels\n".to_owned(),
                () = signal(&mut signals.scanned) => {
                    let scanned = signals.scanned.as_mut().map_or(0, |scanned| *scanned.borrow_and_update());
                    format!("scanned {scanned}\n")
                }
                () = tokio::time::sleep(ALIVE) => "\n".to_owned(),
                () = stopping.cancelled() => return,
                () = sender.gone() => return,
            };
            tokio::time::sleep_until(began + BETWEEN_SIGNALS).await;
        }
    });
    Ok(reply)
}

pub(super) async fn submit(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "submit", |api, who, jobs: Vec<NewJob>, start| async move {
        if start.is_doubtful && jobs.iter().any(|job| job.idempotency_key.is_none()) {
            let remedy = "submit them again; jobs with an idempotency key are not submitted twice";
            return Err(unknown("accepted these jobs").remedy(remedy));
        }
        who.need_queues(jobs.iter().map(|job| &job.spec.queue))?;
        jobs.iter().try_for_each(|job| webhooks::check(&api, job.spec.webhook.as_ref()))?;
        let submitted = api.submit(&who, jobs).await?;
        let answer = |submitted: Result<_, Problem>| submitted.map_or_else(Answer::Error, Answer::Ok);
        Ok(submitted.into_iter().map(answer).collect::<Vec<_>>())
    })
    .await
}

/// The answer to a repeat which cannot tell whether it is one, where making it twice would matter.
fn unknown(whether: &str) -> Problem {
    let detail = format!("the server cannot tell any more whether it had {whether}");
    Problem::new(503, protocol::UNKNOWN_CALL, "This call is not known", detail)
}

pub(super) async fn claim(api: Arc<Api>, mut request: Request) -> Handled {
    let (call, bytes) = call(&api, &mut request, "claim").await?;
    // It may be made again under its id for other jobs.
    let call = NewCall { what: Fingerprint { body: None, ..call.what }, ..call };
    let claim: ClaimRequest = request::decode(&bytes)?;
    request.who.need_queues(claim.queues.names())?;
    let wait = claim.wait.min(LONGEST_WAIT);
    let (calls, id) = (api.calls.clone(), call.id.clone());
    let work = move |start: Start| async move {
        let claim = named(claim, &id, &start).wait(wait);
        match api.backend.claim(claim, start.stop).await {
            // Ask again, for as long as it takes: this is how a restart goes unnoticed.
            Ok(jobs) if jobs.is_empty() && api.stopping.is_cancelled() => failed(&super::stopping()),
            Ok(jobs) => {
                let claims = jobs.iter().map(|job| job.key.clone()).collect();
                Answered { claims, ..answered(&jobs) }
            }
            Err(error) => failed(&error.into()),
        }
    };
    Ok(give(calls.run(call, work).await?))
}

/// The claim under the id of its call, by which the store knows it again where this server does not.
/// The id is of its key's own: nobody asks for the jobs of another's request.
pub(super) fn named(mut claim: ClaimRequest, id: &CallId, start: &Start) -> ClaimRequest {
    claim.again = start.is_repeat;
    claim.id = Some(format!("{}/{}", id.key, id.id));
    claim
}

pub(super) async fn stop(api: Arc<Api>, mut request: Request) -> Handled {
    let stop: Stop = read(&api, &mut request).await?;
    let id = CallId { key: request.who.id.clone(), id: stop.call };
    let known = api.calls.stop(&id, stop.give_back).await?;
    Ok(reply::json(StatusCode::OK, &Stopped { known }))
}

pub(super) async fn heartbeat(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, beats: Vec<Heartbeat>| async move {
        need_jobs(&api, &who, beats.iter().map(|beat| &beat.key.id)).await?;
        Ok(api.backend.heartbeat(beats).await?)
    })
    .await
}

/// Looks records up; those with results a few at a time, however many are asked for.
pub(super) async fn get(api: Arc<Api>, mut request: Request) -> Handled {
    #[derive(serde::Deserialize)]
    struct Get {
        ids: Vec<JobId>,
        detail: Detail,
        #[serde(default)]
        peek: bool,
    }
    let Get { mut ids, detail, peek } = read(&api, &mut request).await?;
    if ids.len() > MOST_IDS {
        let detail = format!("a look-up of {} ids, and {MOST_IDS} are allowed", ids.len());
        return Err(request::invalid("ids", detail));
    }
    let who = request.who;
    let look = {
        let (api, who) = (Arc::clone(&api), Arc::clone(&who));
        move |ids: Vec<JobId>| {
            let (api, who) = (Arc::clone(&api), Arc::clone(&who));
            async move {
                let backend = &api.backend;
                let found =
                    if peek { backend.peek(ids, detail).await } else { backend.get(ids, detail).await };
                found.map(|found| found.into_iter().map(|found| visible(&who, found)).collect::<Vec<_>>())
            }
        }
    };
    if detail == Detail::Status || ids.len() <= LOOK_UPS {
        return Ok(reply::json(StatusCode::OK, &look(ids).await?));
    }
    let mut rest = ids.split_off(LOOK_UPS);
    let first = look(ids).await?;
    let (sender, reply) = reply::stream(StatusCode::OK, reply::JSON);
    tokio::spawn(async move {
        let mut found = first;
        let mut before = "[";
        loop {
            for found in found {
                let Ok(json) = serde_json::to_string(&found) else {
                    return sender.cut("a record has no JSON form".into());
                };
                if sender.send(format!("{before}{json}")).await.is_err() {
                    return;
                }
                before = ",";
            }
            if rest.is_empty() {
                let _ = sender.send("]").await;
                return;
            }
            let more = rest.split_off(rest.len().min(LOOK_UPS));
            found = match look(std::mem::replace(&mut rest, more)).await {
                Ok(found) => found,
                Err(error) => return sender.cut(error.to_string()),
            };
        }
    });
    Ok(reply)
}

/// What a key may see of a record: all of it, or nothing.
pub(super) fn visible(who: &Identity, lookup: Lookup) -> Lookup {
    match &lookup {
        Lookup::Found(record) if who.need_queues([&record.spec.queue]).is_err() => Lookup::Missing,
        _ => lookup,
    }
}

pub(super) async fn cancel(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "cancel", |api, who, ids: Vec<JobId>, _| async move {
        need_jobs(&api, &who, ids.iter()).await?;
        let answers = api.backend.cancel(ids.clone()).await?;
        let cancelled = ids.iter().zip(&answers);
        let cancelled =
            cancelled.filter(|(_, answer)| matches!(answer, Cancellation::Done | Cancellation::Requested));
        api.audit(&who, "cancel", cancelled.map(|(id, _)| id));
        Ok(answers)
    })
    .await
}

pub(super) async fn list(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, query: ListQuery| async move {
        confine_list(&who, query.queue.as_ref())?;
        if query.limit > protocol::MOST_LISTED {
            let detail = format!("a list of {}, and {} are allowed", query.limit, protocol::MOST_LISTED);
            return Err(request::invalid("limit", detail));
        }
        Ok(api.backend.list(query).await?)
    })
    .await
}

/// A key for some queues names one of them.
pub(super) fn confine_list(who: &Identity, queue: Option<&QueueName>) -> Result<(), Problem> {
    match queue {
        Some(queue) => who.need_queues([queue]),
        None => who.need_all_queues(),
    }
}

pub(super) async fn redrive(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "redrive", |api, who, what: Redrive, start| async move {
        match &what {
            Redrive::Dead { queue, .. } => confine_list(&who, queue.as_ref())?,
            Redrive::Jobs(ids) => need_jobs(&api, &who, ids.iter()).await?,
            Redrive::Lost { .. } => who.need_all_queues()?,
        }
        if start.is_doubtful {
            // Of what it brought back, some may be dead letters again, and others have become some.
            let remedy = "look at the dead letters that are left, and redrive those that you mean";
            return Err(unknown("redriven them").remedy(remedy));
        }
        let redriven = api.backend.redrive(what).await?;
        api.audit(&who, "redrive", redriven.iter());
        Ok(redriven)
    })
    .await
}

pub(super) async fn purge(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "purge", |api, who, what: Purge, _| async move {
        let mut named = Vec::new();
        match &what {
            Purge::Status { queue, .. } => confine_list(&who, queue.as_ref())?,
            Purge::Jobs(ids) => {
                need_jobs(&api, &who, ids.iter()).await?;
                named.clone_from(ids);
            }
        }
        let shown = format!("{what:?}");
        let purged = api.backend.purge(what).await?;
        match named.is_empty() {
            true => api.audit_what(&who, "purge", &shown),
            false => api.audit(&who, "purge", named.iter()),
        }
        Ok(purged)
    })
    .await
}

pub(super) async fn set_paused(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "set_paused", |api, who, (queue, paused): (QueueName, bool), _| async move {
        api.set_paused(&who, queue, paused).await
    })
    .await
}

pub(super) async fn stats(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, (): ()| async move { Ok(api.stats(&who).await?) }).await
}

pub(super) async fn backlog(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, (): ()| async move { Ok(api.backlog(&who).await?) }).await
}

pub(super) async fn whole_read(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, _, (): ()| async move { Ok(api.backend.whole_read().await?) }).await
}

pub(super) async fn ping(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, _, (): ()| async move { Ok(api.backend.ping().await?) }).await
}

pub(super) async fn check(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, (): ()| async move {
        who.need_all_queues()?;
        Ok(api.backend.check().await?)
    })
    .await
}

/// A key for some queues touches jobs of theirs alone: no others are there.
pub(super) async fn need_jobs(
    api: &Api,
    who: &Identity,
    ids: impl Iterator<Item = &JobId>,
) -> Result<(), Problem> {
    if who.confined_to().is_none() {
        return Ok(());
    }
    let ids: Vec<JobId> = ids.cloned().collect();
    let found = api.backend.get(ids.clone(), Detail::Status).await?;
    let other = ids.into_iter().zip(found).find_map(|(id, found)| match found {
        Lookup::Found(record) if who.need_queues([&record.spec.queue]).is_err() => Some(id),
        _ => None,
    });
    other.map_or(Ok(()), |id| Err(Error::NotFound(id).into()))
}

/// Reads what a verb is given.
pub(super) async fn read<T: DeserializeOwned>(api: &Api, request: &mut Request) -> Result<T, Problem> {
    request::decode(&request.read(api.max_body.saturating_add(BESIDE)).await?)
}

/// A call that may be made as often as it comes.
pub(super) async fn every_time<T, R, F>(
    api: Arc<Api>,
    mut request: Request,
    verb: impl FnOnce(Arc<Api>, Arc<Caller>, T) -> F,
) -> Handled
where
    T: DeserializeOwned,
    R: Serialize,
    F: Future<Output = Result<R, Problem>>,
{
    let asked = read(&api, &mut request).await?;
    Ok(reply::json(StatusCode::OK, &verb(api, request.who, asked).await?))
}

/// A call that is made once, however often it comes.
pub(super) async fn once<T, R, F>(
    api: Arc<Api>,
    mut request: Request,
    name: &'static str,
    verb: impl FnOnce(Arc<Api>, Arc<Caller>, T, Start) -> F,
) -> Handled
where
    T: DeserializeOwned,
    R: Serialize,
    F: Future<Output = Result<R, Problem>> + Send + 'static,
{
    let (call, bytes) = call(&api, &mut request, name).await?;
    let asked = request::decode(&bytes)?;
    let work = |start| {
        let verb = verb(Arc::clone(&api), request.who, asked, start);
        async move {
            match verb.await {
                Ok(answer) => answered(&answer),
                Err(problem) => failed(&problem),
            }
        }
    };
    Ok(give(api.calls.run(call, work).await?))
}

/// Reads a call that changes something, and its body.
pub(super) async fn call(
    api: &Api,
    request: &mut Request,
    verb: &'static str,
) -> Result<(NewCall, Bytes), Problem> {
    let Some(id) = request.header(protocol::CALL).filter(|id| is_id(id)) else {
        let detail = "this call needs an id of its own, of 1 to 64 of the characters A-Z a-z 0-9 -";
        return Err(request::invalid(protocol::CALL, detail));
    };
    let id = CallId { key: request.who.id.clone(), id: id.to_owned() };
    let sent = match request.header(protocol::BEGAN) {
        None => Sent::Never,
        Some(began) if began == api.instance => Sent::Here,
        Some(_) => Sent::Elsewhere,
    };
    let bytes = request.read(api.max_body.saturating_add(BESIDE)).await?;
    let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let what = Fingerprint { verb, body: hash.as_ref().try_into().ok() };
    Ok((NewCall { id, what, sent }, bytes))
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Takes note of which answers have arrived; any request may say that.
pub(super) fn received(api: &Api, who: &Identity, headers: &HeaderMap) {
    let received = headers.get(protocol::RECEIVED).and_then(|received| received.to_str().ok());
    let ids = received.unwrap_or_default().split(',').map(str::trim).filter(|id| is_id(id));
    api.calls.received(ids.map(|id| CallId { key: who.id.clone(), id: id.to_owned() }));
}

pub(super) fn answered<T: Serialize>(answer: &T) -> Answered {
    match serde_json::to_vec(answer) {
        Ok(body) => {
            Answered { status: StatusCode::OK, kind: reply::JSON, body: body.into(), claims: Arc::new([]) }
        }
        Err(error) => failed(&Error::from(error).into()),
    }
}

pub(super) fn failed(problem: &Problem) -> Answered {
    Answered {
        status: StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        kind: MEDIA_TYPE,
        body: serde_json::to_vec(problem).unwrap_or_default().into(),
        claims: Arc::new([]),
    }
}

pub(super) fn give(answered: Answered) -> Reply {
    let Answered { status, kind, body, .. } = answered;
    reply::bytes(status, kind, body)
}
