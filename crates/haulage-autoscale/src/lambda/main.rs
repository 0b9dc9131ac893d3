//! The Lambda that scales services, or puts the metrics which do. `schedule::run` is all
//! of it that knows no Lambda; docs/scaling.md says what it reads and puts.

mod data;
mod event;
mod failure;
mod history;
mod limit;
mod log;
mod measured;
mod queue;
mod report;
mod sample;
mod scale;
mod schedule;
mod service;
mod services;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::Instant;

use self::{
    event::Event,
    report::{Failed, Summary},
    services::Services,
};

/// How long before Lambda would end it an invocation ends by itself, so that
/// what it found is still told.
const MARGIN: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let services = Services::from_env().await;
    lambda_runtime::run(service_fn(|event| handle(event, &services))).await
}

async fn handle(event: LambdaEvent<Value>, services: &Services) -> Result<Summary, Failed> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let deadline = Instant::now() + left.saturating_sub(MARGIN);
    let event = Event::read(&event.payload).map_err(|error| {
        log::refused(&error);
        Failed::bad_event(error.to_string())
    })?;
    schedule::run(&event, services, deadline).await.result()
}
