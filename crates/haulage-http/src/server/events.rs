//! What becomes of a job, as server-sent events.

use std::{sync::Arc, time::Duration};

use haulage::{
    Error, Record, Status,
    backend::{Detail, Lookup},
};
use hyper::{StatusCode, body::Bytes};
use serde_json::json;

use super::{
    Api,
    caller::Caller,
    jobs::record,
    reply::{self, Gone, Reply, Sender},
    request::Request,
    tag::mark,
};
use crate::Problem;

/// A comment comes that often, so that no proxy takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(15);

/// When to look again, where the store is out of reach.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn events(api: Arc<Api>, request: Request) -> Result<Reply, Problem> {
    let record = record(&api, &request, Detail::Status).await?;
    let seen = request.header("last-event-id").map(str::to_owned);
    if record.status.is_terminal() && seen.as_ref() == Some(&mark(&record)) {
        // There will be no other. A browser comes back after each answer but this one.
        return Ok(reply::bytes(StatusCode::NO_CONTENT, reply::JSON, Bytes::new()));
    }
    let (sender, reply) = reply::stream(StatusCode::OK, "text/event-stream");
    tokio::spawn(async move {
        // Nobody reads any more, or the server ends: a client that wants more comes back by itself.
        let _ = tell(&api, &request.who, record, seen, &sender).await;
    });
    Ok(reply)
}

async fn tell(
    api: &Api,
    who: &Caller,
    mut record: Record,
    mut seen: Option<String>,
    sender: &Sender,
) -> Result<(), Gone> {
    let mut watch = api.watches.watch(&record);
    let mut before: Option<Record> = None;
    loop {
        let id = mark(&record);
        if seen.as_ref() != Some(&id) {
            let is_progress = before.as_ref().is_some_and(|before| state(before) == state(&record));
            let event = if is_progress { "progress" } else { "status" };
            let data = serde_json::to_string(&record).unwrap_or_default();
            sender.send(format!("id: {id}\nevent: {event}\ndata: {data}\n\n")).await?;
        }
        if record.status.is_terminal() {
            return Ok(());
        }
        seen = Some(id);
        before = Some(record.clone());
        loop {
            tokio::select! {
                () = watch.changed() => break,
                () = tokio::time::sleep(ALIVE) => {
                    if !api.still_knows(who) {
                        return Ok(());
                    }
                    sender.send(":\n\n").await?;
                }
                () = api.stopping.cancelled() => return sender.send("retry: 1000\n\n").await,
                () = sender.gone() => return Err(Gone),
            }
        }
        // Whoever has no key any more is refused where they come back.
        if !api.still_knows(who) {
            return Ok(());
        }
        record = loop {
            let found = api.backend.get(vec![record.id.clone()], Detail::Status).await;
            let found = found.map(|mut found| found.pop().unwrap_or(Lookup::Missing));
            match found.and_then(|found| found.into_record(&record.id)) {
                Ok(record) => break record,
                Err(error @ (Error::NotFound(_) | Error::Expired(_))) => {
                    let data = json!({ "problem": Problem::from(&error) });
                    return sender.send(format!("event: gone\ndata: {data}\n\n")).await;
                }
                // The change that was may have been the last: nothing would tell of it again.
                Err(_) => tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = api.stopping.cancelled() => return sender.send("retry: 1000\n\n").await,
                    () = sender.gone() => return Err(Gone),
                },
            }
        };
    }
}

/// What is more than progress.
fn state(record: &Record) -> (Status, u32, bool) {
    (record.status, record.attempt, record.cancel_requested)
}
