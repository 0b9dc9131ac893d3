//! Single jobs, and lists of them.

use std::{sync::Arc, time::Duration};

use haulage::{
    Error, JobId, Record, Status,
    backend::{Cancellation, Detail, ListQuery, Lookup, Purge},
};
use hyper::{
    StatusCode,
    body::Bytes,
    header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Api, LONGEST_WAIT,
    backend::{confine_list, need_jobs, visible},
    caller::Caller,
    keys::Identity,
    reply::{self, Handled},
    request::{Query, Request, invalid},
    stopping,
    tag::{fingerprint, mark_with_checkpoint, matches},
    to_the_end,
};
use crate::{Problem, protocol::MOST_LISTED};

/// How soon it is worth to ask again for a result.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What came of a wait.
pub(super) enum Ended {
    Over(Box<Record>),
    NotYet,
    /// The server ends.
    Stopping,
}

/// Waits for a job to be over, which is there for whoever asks. All waits share their looks.
pub(super) async fn ended(api: &Api, who: &Identity, id: &JobId, wait: Duration) -> Result<Ended, Problem> {
    let job = api.producer.job(id.clone());
    tokio::select! {
        ended = job.wait(Some(wait)) => match ended {
            Ok(record) => {
                let record = visible(who, Lookup::Found(record)).into_record(id)?;
                Ok(Ended::Over(Box::new(record)))
            }
            Err(Error::TimedOut(_)) => Ok(Ended::NotYet),
            Err(error) => Err(error.into()),
        },
        () = api.stopping.cancelled() => Ok(Ended::Stopping),
    }
}

/// What is known of the job that the path names.
pub(super) async fn record(api: &Api, request: &Request, detail: Detail) -> Result<Record, Problem> {
    look_up(api, &request.who, &JobId::from(request.part("id")), detail).await
}

async fn look_up(api: &Api, who: &Identity, id: &JobId, detail: Detail) -> Result<Record, Problem> {
    let found = api.backend.get(vec![id.clone()], detail).await?.pop().unwrap_or(Lookup::Missing);
    Ok(visible(who, found).into_record(id)?)
}

fn wait(request: &Request) -> Result<Option<Duration>, Problem> {
    Ok(request.query.duration("wait")?.map(|wait| wait.min(LONGEST_WAIT)))
}

pub(super) async fn get(api: Arc<Api>, request: Request) -> Handled {
    let (wait, full) = (wait(&request)?, request.query.flag("body")?);
    let detail = if full { Detail::Full } else { Detail::Result };
    let mut found = record(&api, &request, detail).await?;
    let tag = |record: &Record| format!("W/\"{}\"", mark_with_checkpoint(record));
    if let Some(wait) = wait.filter(|_| !found.status.is_terminal()) {
        if request.headers.contains_key(IF_NONE_MATCH) {
            if matches(&request, &tag(&found)) {
                let mut changes = api.watches.watch(&found);
                let changed = tokio::time::timeout(wait, changes.changed());
                tokio::select! {
                    _ = changed => {}
                    () = api.stopping.cancelled() => return Err(stopping()),
                }
                found = record(&api, &request, detail).await?;
            }
        } else {
            match ended(&api, &request.who, &found.id, wait).await? {
                Ended::Over(record) if !full => found = *record,
                Ended::Over(_) | Ended::NotYet => found = record(&api, &request, detail).await?,
                Ended::Stopping => return Err(stopping()),
            }
        }
    }
    let tag = tag(&found);
    let mut answer = match matches(&request, &tag) {
        true => reply::bytes(StatusCode::NOT_MODIFIED, reply::JSON, Bytes::new()),
        false => reply::json(StatusCode::OK, &found),
    };
    reply::header(&mut answer, ETAG, &tag);
    Ok(answer)
}

pub(super) async fn result(api: Arc<Api>, request: Request) -> Handled {
    let wait = wait(&request)?;
    let mut found = record(&api, &request, Detail::Result).await?;
    if let Some(wait) = wait.filter(|_| !found.status.is_terminal()) {
        match ended(&api, &request.who, &found.id, wait).await? {
            Ended::Over(record) => found = *record,
            Ended::NotYet => {}
            Ended::Stopping => return Err(stopping()),
        }
    }
    match found.into_result() {
        Ok(result) => part(&request, Bytes::copy_from_slice(result.as_str().as_bytes())),
        Err(error @ Error::NotFinished { .. }) => {
            let problem = Problem { status: 202, ..error.into() };
            let mut answer = reply::problem(&problem);
            reply::retry_after(&mut answer, LOOK_AGAIN);
            Ok(answer)
        }
        Err(error) => Err(error.into()),
    }
}

/// A result, or the part of it that was asked for.
fn part(request: &Request, whole: Bytes) -> Handled {
    let tag = format!("\"{}\"", fingerprint(&whole));
    let size = whole.len();
    let mut answer = if matches(request, &tag) {
        reply::bytes(StatusCode::NOT_MODIFIED, reply::JSON, Bytes::new())
    } else {
        // A part of what it was is no part of what it is.
        let is_same = request.header(IF_RANGE).is_none_or(|given| given == tag);
        match range(request.header(RANGE).filter(|_| is_same), size) {
            Range::All => reply::bytes(StatusCode::OK, reply::JSON, whole),
            Range::Part(first, last) => {
                let mut part =
                    reply::bytes(StatusCode::PARTIAL_CONTENT, reply::JSON, whole.slice(first..=last));
                reply::header(&mut part, CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
                part
            }
            Range::None => {
                let detail = format!("the result has {size} bytes");
                let problem = Problem::new(416, "range", "There is no such part", detail).field("range");
                let mut refusal = reply::problem(&problem);
                reply::header(&mut refusal, CONTENT_RANGE, &format!("bytes */{size}"));
                refusal
            }
        }
    };
    reply::header(&mut answer, ETAG, &tag);
    reply::header(&mut answer, ACCEPT_RANGES, "bytes");
    Ok(answer)
}

#[derive(Debug, PartialEq)]
enum Range {
    All,
    /// From the first byte to the last.
    Part(usize, usize),
    None,
}

/// What `Range` asks for. What is not understood, or several parts, is the whole (RFC 9110, 14.2).
fn range(header: Option<&str>, size: usize) -> Range {
    let Some((first, last)) = header.and_then(|header| header.strip_prefix("bytes=")?.split_once('-')) else {
        return Range::All;
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    match (first.trim(), number(first), last.trim(), number(last)) {
        ("", _, _, Some(count)) if count > 0 && size > 0 => Range::Part(size.saturating_sub(count), size - 1),
        ("", _, _, Some(_)) => Range::None,
        (_, Some(first), _, Some(last)) if last < first => Range::All,
        (_, Some(first), "", _) if first < size => Range::Part(first, size - 1),
        (_, Some(first), _, Some(last)) if first < size => Range::Part(first, last.min(size - 1)),
        (_, Some(_), "", _) | (_, Some(_), _, Some(_)) => Range::None,
        _ => Range::All,
    }
}

pub(super) async fn list(api: Arc<Api>, request: Request) -> Handled {
    #[derive(Serialize)]
    struct Page {
        jobs: Vec<Record>,
        /// What to give as `before` for the next one.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<JobId>,
    }
    let query = list_query(&request.query)?;
    confine_list(&request.who, query.queue.as_ref())?;
    let limit = query.limit;
    let jobs = api.backend.list(query).await?;
    let next = jobs.last().filter(|_| jobs.len() == limit).map(|last| last.id.clone());
    Ok(reply::json(StatusCode::OK, &Page { jobs, next }))
}

/// Which jobs are asked for.
pub(super) fn list_query(asked: &Query) -> Result<ListQuery, Problem> {
    let mut query = ListQuery::new().dead(asked.flag("dead")?);
    query.status = asked.parsed("status")?;
    query.queue = asked.parsed("queue")?;
    let text = |name: &str| asked.get(name).map(str::to_owned);
    query.task = text("task");
    query.group = text("group");
    query.request_id = text("request_id");
    query.error = text("error");
    query.id_prefix = text("id_prefix");
    query.older_than = asked.duration("older_than")?;
    query.newer_than = asked.duration("newer_than")?;
    query.before = asked.get("before").map(JobId::from);
    for (key, value) in asked.beginning("metadata.") {
        query.metadata.insert(key.to_owned(), value.to_owned());
    }
    query.limit = asked.parsed("limit")?.unwrap_or(query.limit);
    if !(1..=MOST_LISTED).contains(&query.limit) {
        return Err(invalid(
            "limit",
            format!("limit is {}; it is a number from 1 to {MOST_LISTED}", query.limit),
        ));
    }
    Ok(query)
}

pub(super) async fn cancel(api: Arc<Api>, request: Request) -> Handled {
    let id = JobId::from(request.part("id"));
    let (status, said) = match cancel_job(&api, &request.who, &id).await? {
        Cancellation::Done => (StatusCode::OK, "done"),
        _ => (StatusCode::ACCEPTED, "requested"),
    };
    Ok(reply::json(status, &json!({ "id": id, "cancellation": said })))
}

/// Cancels a job, or asks its worker to; whatever else comes of it is a problem.
pub(super) async fn cancel_job(
    api: &Arc<Api>,
    who: &Arc<Caller>,
    id: &JobId,
) -> Result<Cancellation, Problem> {
    need_jobs(api, who, std::iter::once(id)).await?;
    let cancelled = {
        let (api, who, id) = (Arc::clone(api), Arc::clone(who), id.clone());
        to_the_end(async move {
            let cancellation = api.producer.cancel(&id).await?;
            if matches!(cancellation, Cancellation::Done | Cancellation::Requested) {
                api.audit(&who, "cancel", std::iter::once(&id));
            }
            Ok(cancellation)
        })
    };
    match cancelled.await? {
        Cancellation::TooLate(status) => {
            let detail = format!("job {id} is {status} already");
            let problem = Problem::new(409, "too_late", "The job is over", detail);
            Err(Problem { id: Some(id.clone()), job_status: Some(status), ..problem })
        }
        Cancellation::Missing => Err(Error::NotFound(id.clone()).into()),
        done => Ok(done),
    }
}

pub(super) async fn redrive(api: Arc<Api>, request: Request) -> Handled {
    let id = JobId::from(request.part("id"));
    redrive_job(&api, &request.who, &id).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "id": id, "status": Status::Submitted })))
}

/// Puts a job back to work.
pub(super) async fn redrive_job(api: &Arc<Api>, who: &Arc<Caller>, id: &JobId) -> Result<(), Problem> {
    need_jobs(api, who, std::iter::once(id)).await?;
    let (api, who, id) = (Arc::clone(api), Arc::clone(who), id.clone());
    to_the_end(async move {
        match api.producer.redrive(&id).await {
            Ok(()) => {
                api.audit(&who, "redrive", std::iter::once(&id));
                Ok(())
            }
            Err(Error::Invalid(detail)) => {
                let status = look_up(&api, &who, &id, Detail::Status).await?.status;
                let problem = match status {
                    // Its body is gone, or it has ended since.
                    Status::Error | Status::Cancelled => {
                        let detail = format!("job {id} could not be put back to work; its body may be gone");
                        Problem::new(409, "not_redriven", "The job was not put back to work", detail)
                    }
                    _ => Problem::new(409, "not_failed", "The job has not failed", detail),
                };
                Err(Problem { id: Some(id), job_status: Some(status), ..problem })
            }
            Err(error) => Err(error.into()),
        }
    })
    .await
}

pub(super) async fn delete(api: Arc<Api>, request: Request) -> Handled {
    delete_job(&api, &request.who, &JobId::from(request.part("id"))).await?;
    Ok(reply::bytes(StatusCode::NO_CONTENT, reply::JSON, Bytes::new()))
}

/// Deletes a job for good, unless it runs.
pub(super) async fn delete_job(api: &Arc<Api>, who: &Arc<Caller>, id: &JobId) -> Result<(), Problem> {
    let id = look_up(api, who, id, Detail::Status).await?.id;
    let deleted = {
        let (api, who, id) = (Arc::clone(api), Arc::clone(who), id.clone());
        to_the_end(async move {
            let deleted = api.backend.purge(Purge::Jobs(vec![id.clone()])).await?;
            if deleted > 0 {
                api.audit(&who, "delete", std::iter::once(&id));
            }
            Ok(deleted)
        })
    };
    if deleted.await? == 0 {
        // It began to run meanwhile, or ran before.
        let status = look_up(api, who, &id, Detail::Status).await?.status;
        let detail = format!("job {id} is {status}, and cannot be deleted yet");
        let problem = Problem::new(409, "in_progress", "The job is running", detail)
            .remedy(format!("cancel it first: POST /v1/jobs/{id}/cancel"));
        return Err(Problem { id: Some(id), job_status: Some(status), ..problem });
    }
    Ok(())
}

/// Records, the newest first, of the queues that the key is for.
pub(super) async fn find(api: &Arc<Api>, who: &Identity, query: ListQuery) -> Result<Vec<Record>, Problem> {
    let (None, Some(own)) = (&query.queue, who.confined_to()) else {
        confine_list(who, query.queue.as_ref())?;
        return Ok(api.backend.list(query).await?);
    };
    let mut found = Vec::new();
    for queue in own {
        found.extend(api.backend.list(query.clone().queue(queue.clone())).await?);
    }
    found.sort_by(|a, b| (b.submitted_at, &b.id).cmp(&(a.submitted_at, &a.id)));
    found.truncate(query.limit);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_what_there_is() {
        for (header, expected) in [
            (None, Range::All),
            (Some("bytes=0-3"), Range::Part(0, 3)),
            (Some("bytes=4-"), Range::Part(4, 9)),
            (Some("bytes=4-400"), Range::Part(4, 9)),
            (Some("bytes=-3"), Range::Part(7, 9)),
            (Some("bytes=-300"), Range::Part(0, 9)),
            (Some("bytes=10-"), Range::None),
            (Some("bytes=10-12"), Range::None),
            (Some("bytes=-0"), Range::None),
            (Some("bytes=3-1"), Range::All),
            (Some("bytes=0-1,3-4"), Range::All),
            (Some("lines=0-1"), Range::All),
            (Some("bytes=x-y"), Range::All),
        ] {
            assert_eq!(range(header, 10), expected, "{header:?}");
        }
    }
}
