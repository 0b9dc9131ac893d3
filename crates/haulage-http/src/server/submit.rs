//! Submitting jobs.

use std::{sync::Arc, time::Duration};

use haulage::{Error, NewJob, backend::Submitted};
use hyper::{StatusCode, header::LOCATION};

use super::{
    Api, LONGEST_WAIT,
    caller::Caller,
    jobs::{self, Ended, LOOK_AGAIN},
    keys::Scope,
    reply::{self, Reply},
    request::{Request, invalid},
    submission::{self, KEY, OPTIONS},
    to_the_end, upload,
};
use crate::Problem;

const KEY_HEADER: &str = "idempotency-key";

pub(super) async fn submit(api: Arc<Api>, mut request: Request) -> Result<Reply, Problem> {
    match request.kind().as_str() {
        "application/json" => {}
        "application/jsonl" | "application/x-ndjson" | "application/jsonlines" => {
            return upload::upload(api, request);
        }
        kind => {
            let detail = match kind {
                "" => "the request does not say what its body is".to_owned(),
                kind => format!("the body is {kind}"),
            };
            return Err(Problem::new(415, "media_type", "The body is not JSON", detail)
                .field("content-type")
                .remedy("send `Content-Type: application/json`, or application/jsonl for many jobs"));
        }
    }
    let wait = wait(&request)?;
    let text = request.read(api.max_body.saturating_add(OPTIONS)).await?;
    let mut job = submission::job(&text)?;
    if let Some(key) = header_key(&request)? {
        if job.idempotency_key.as_ref().is_some_and(|other| *other != key) {
            return Err(invalid(KEY, "the header Idempotency-Key and the body name different keys"));
        }
        job.idempotency_key = Some(key);
    }
    submission::check(&api, &request.who, &job)?;
    let submitted = api.submit(&request.who, vec![job]).await?.pop();
    let submitted = submitted.unwrap_or_else(|| Err(submission::no_answer().into()))?;
    request.room = None;
    let location = format!("/v1/jobs/{}", submitted.id);
    // Who may not look at results does not get them this way either.
    let wait = wait.filter(|_| request.who.may(&[Scope::Read]));
    let ended = match wait {
        Some(wait) => jobs::ended(&api, &request.who, &submitted.id, wait).await?,
        None => Ended::NotYet,
    };
    let mut answer = match ended {
        Ended::Over(record) => reply::json(StatusCode::OK, &*record),
        // What was submitted is submitted, also where this server has to end.
        Ended::NotYet | Ended::Stopping => {
            let mut answer = reply::json(StatusCode::ACCEPTED, &submitted);
            reply::retry_after(&mut answer, LOOK_AGAIN);
            answer
        }
    };
    reply::header(&mut answer, LOCATION, &location);
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs());
        reply::header(&mut answer, hyper::header::HeaderName::from_static("preference-applied"), &applied);
    }
    Ok(answer)
}

/// The idempotency key that a header names. One that cannot be read, or is one of two, is refused: without
/// it, a repeat would be another job.
fn header_key(request: &Request) -> Result<Option<String>, Problem> {
    let mut keys = request.headers.get_all(KEY_HEADER).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(invalid(KEY, "the header Idempotency-Key is given twice"));
    }
    let key = std::str::from_utf8(key.as_bytes())
        .map_err(|_| invalid(KEY, "the header Idempotency-Key is not valid UTF-8"))?;
    // The draft of the header has it in quotes, and most clients leave them out.
    Ok(Some(key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key).to_owned()))
}

impl Api {
    /// Submits jobs for whoever asks, all that may be. The queues are theirs. For want of room, only the last ones
    /// are refused.
    pub(super) async fn submit(
        self: &Arc<Self>,
        who: &Arc<Caller>,
        mut jobs: Vec<NewJob>,
    ) -> Result<Vec<Result<Submitted, Problem>>, Problem> {
        self.capabilities().check_submit(&jobs)?;
        let (api, who) = (Arc::clone(self), Arc::clone(who));
        to_the_end(async move {
            let given: Vec<_> = jobs.iter().map(|job| job.idempotency_key.clone()).collect();
            jobs.iter_mut().for_each(|job| who.sign(job));
            let admitted = api.pressure.admit(&*api.backend, &jobs).await?;
            let refused = jobs.split_off(admitted.count).len();
            let mut submitted = match jobs.is_empty() {
                true => Vec::new(),
                false => api.backend.submit(jobs).await?,
            };
            api.pressure.accepted(&admitted, &submitted);
            for (answer, given) in submitted.iter_mut().zip(given) {
                if let (Err(Error::IdempotencyConflict { key, .. }), Some(given)) = (answer, given) {
                    *key = given;
                }
            }
            api.audit(&who, "submit", submitted.iter().flatten().map(|submitted| &submitted.id));
            let mut answers: Vec<_> =
                submitted.into_iter().map(|answer| answer.map_err(Problem::from)).collect();
            if let Some(refusal) = admitted.refusal {
                answers.extend(std::iter::repeat_n(Err(refusal), refused));
            }
            Ok(answers)
        })
        .await
    }
}

/// For how long `Prefer: wait=…` asks to wait.
fn wait(request: &Request) -> Result<Option<Duration>, Problem> {
    let preferences = request.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = preferences.flat_map(|value| value.split([',', ';']));
    let Some(seconds) = preferences.find_map(|preference| preference.trim().strip_prefix("wait=")) else {
        return Ok(None);
    };
    let seconds = seconds.trim_matches('"').parse::<u64>();
    let seconds =
        seconds.map_err(|_| invalid("prefer", "Prefer: wait=… is not a whole number of seconds"))?;
    Ok(Some(Duration::from_secs(seconds).min(LONGEST_WAIT)))
}
