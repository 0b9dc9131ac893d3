//! What handlers leave for the next attempt.

use std::{sync::Arc, time::Duration};

use haulage::{
    Consumer, Context, Error, Failure, Job, Json, Producer, RetryPolicy, Status,
    backend::{Detail, Update},
    memory::MemoryBackend,
};
use serde_json::json;

use crate::support::{Faulty, Mode, Running, Verb, manual_clock, s};

type Answer<T = ()> = Result<T, Failure>;

/// Works on a job in steps, and fails after the first one.
async fn in_steps(_: Job<()>, context: Context) -> Answer<u32> {
    let step: u32 = match context.last_checkpoint() {
        Some(checkpoint) => checkpoint.decode().expect("a number"),
        None => 0,
    };
    context.checkpoint(&(step + 1)).expect("it is small");
    assert_eq!(context.last_checkpoint(), Some(Json::encode(&(step + 1)).expect("JSON")));
    if step == 2 { Ok(step) } else { Err(Failure::retry("killed in the middle")) }
}

#[tokio::test]
async fn the_next_attempt_goes_on_where_the_last_one_ended() {
    let backend = Arc::new(MemoryBackend::new());
    let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy::immediate());
    let running = Running::start(builder.handler(in_steps));
    let job = Producer::new(backend).submit(&()).await.expect("submit");
    let record = job.wait(Some(Duration::from_secs(60))).await.expect("the end");
    assert_eq!((record.status, record.attempt, record.checkpoint), (Status::Success, 3, None));
    running.stop().await;
}

#[tokio::test]
async fn a_checkpoint_goes_with_the_end_of_the_attempt_though_no_heartbeat_got_through() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    backend.set(Verb::Heartbeat, Mode::Stalls);
    let gone = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&gone);
    let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy { base: s(60), cap: s(60) });
    let mut running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let wait = Arc::clone(&wait);
        async move {
            context.checkpoint("half").expect("it is small");
            wait.notified().await;
            Answer::<()>::Err(Failure::retry("after all"))
        }
    }));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    // It was on its way with this one.
    backend.called(Verb::Heartbeat, 1).await;
    gone.notify_one();
    running.ending().await;
    let record = haulage::Backend::get(&*backend, vec![job.id().clone()], Detail::Full).await.expect("get");
    let record = record.into_iter().next().expect("an answer").into_record(job.id()).expect("a record");
    assert_eq!(record.checkpoint.expect("a checkpoint").as_str(), "\"half\"");
    running.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_a_checkpoint_is_told_where_it_is_left() {
    let backend = Arc::new(MemoryBackend::new());
    let running = Running::start(Consumer::builder(backend.clone()).handler(
        async |_: Job<()>, context: Context| -> Answer<serde_json::Value> {
            let error = context.checkpoint(&"x".repeat(Update::MAX_CHECKPOINT)).expect_err("too large");
            assert!(matches!(error, Error::TooLarge { what: "checkpoint", .. }), "{error}");
            Ok(json!({ "last": context.last_checkpoint(), "error": error.to_string() }))
        },
    ));
    let job = Producer::new(backend).submit(&()).await.expect("submit");
    let record = job.wait(Some(Duration::from_secs(60))).await.expect("the end");
    let result: serde_json::Value = record.result.expect("a result").decode().expect("JSON");
    assert_eq!(result["last"], serde_json::Value::Null);
    assert!(result["error"].as_str().is_some_and(|error| error.contains("65536")), "{result}");
    running.stop().await;
}
