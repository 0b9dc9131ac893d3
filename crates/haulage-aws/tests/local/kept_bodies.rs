//! Bodies that only their message has (`keep_bodies=false`).

use std::{iter, sync::Arc, time::Duration};

use haulage::{
    Backend, Error, JobId, Json, NewJob, Producer, Status,
    backend::{Outcome, Purge, Redrive},
};
use haulage_aws::{AwsBackend, Compression};
use haulage_servers::{Stub, stub::Fault};

use crate::{
    delivery::with_id,
    helpers::{LONG, TRIES, claim, record, retry, settle, submit, success, take, work_off},
    place::{MAX_RECEIVES, Place, ministack},
    raw,
};

fn body() -> Json {
    Json::from_stored(format!("\"{}\"", "x".repeat(4096)))
}

async fn open(place: &Place) -> AwsBackend {
    place.builder().await.keep_bodies(false).open().await.expect("a backend")
}

/// How many items there are beside the records.
async fn items(place: &Place) -> usize {
    let scan = place.dynamodb().await.scan().table_name(&place.table).send().await.expect("a scan");
    let key = |item: &std::collections::HashMap<_, aws_sdk_dynamodb::types::AttributeValue>| {
        item["message_id"].as_s().expect("a key").starts_with("body#")
    };
    scan.items().iter().filter(|item| key(item)).count()
}

#[tokio::test]
async fn a_job_that_succeeds_leaves_no_copy_of_its_body() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = open(&place).await;
        let id = submit(&backend, NewJob::from_json(body())).await;
        assert_eq!(record(&backend, &id).await.body, None, "its message has it");
        let claimed = take(&backend, LONG).await;
        assert_eq!(claimed.body, body());
        settle(&backend, &claimed.key, retry()).await.expect("the holder");
        let claimed = take(&backend, LONG).await;
        assert_eq!(claimed.body, body());
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let done = record(&backend, &id).await;
        assert_eq!((done.status, done.body), (Status::Success, None));
        assert_eq!(items(&place).await, 0);
    }
}

#[tokio::test]
async fn a_small_body_is_in_the_record_all_the_same() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let small = Json::from_stored(format!("\"{}\"", "x".repeat(500)));
    let id = submit(&backend, NewJob::from_json(small.clone())).await;
    assert_eq!(record(&backend, &id).await.body, Some(small));
}

#[tokio::test]
async fn a_job_that_fails_keeps_its_body_and_can_be_put_back_to_work() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let error = haulage::JobError::new(haulage::FailureKind::Handler, "no");
    for (outcome, dead) in [(retry(), true), (Outcome::Fail(error), false), (Outcome::Cancelled, false)] {
        let id = submit(&backend, NewJob::from_json(body()).max_attempts(1)).await;
        let claimed = take(&backend, LONG).await;
        settle(&backend, &claimed.key, outcome).await.expect("the holder");
        let ended = record(&backend, &id).await;
        assert_eq!((ended.dead, ended.body), (dead, Some(body())));
        assert_eq!(backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive"), [id]);
        let claimed = take(&backend, LONG).await;
        assert_eq!(claimed.body, body());
        settle(&backend, &claimed.key, success()).await.expect("the holder");
    }
}

#[tokio::test]
async fn a_purge_deletes_the_body_that_is_beside_the_record() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let id = submit(&backend, NewJob::from_json(body()).max_attempts(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    assert_eq!(items(&place).await, 1, "a dead letter keeps it");
    assert_eq!(backend.purge(Purge::Jobs(vec![id])).await.expect("purge"), 1);
    assert_eq!(items(&place).await, 0);
}

#[tokio::test]
async fn a_job_that_was_cancelled_has_its_body_once_a_consumer_has_seen_its_message() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let id = submit(&backend, NewJob::from_json(body())).await;
    backend.cancel(vec![id.clone()]).await.expect("cancel");
    let refused = backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect_err("no body");
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
    assert!(refused.to_string().contains("keep_bodies=false"), "{refused}");
    assert_eq!(record(&backend, &id).await.status, Status::Cancelled, "nothing has become of it");
    assert_eq!(claim(&backend, LONG).await, []);
    assert_eq!(record(&backend, &id).await.body, Some(body()));
    assert_eq!(backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive"), [id]);
    assert_eq!(take(&backend, LONG).await.body, body());
}

/// On a FIFO queue a message shows before its job is due, and is dropped by whoever sees it.
#[tokio::test]
async fn a_delayed_job_that_was_cancelled_has_its_body_once_a_consumer_has_seen_its_message() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let id = submit(&backend, NewJob::from_json(body()).delay(LONG)).await;
    backend.cancel(vec![id.clone()]).await.expect("cancel");
    assert_eq!(claim(&backend, LONG).await, []);
    raw::assert_drained(&place, &place.queue).await;
    assert_eq!(record(&backend, &id).await.body, Some(body()));
    assert_eq!(backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive"), [id]);
    assert_eq!(take(&backend, LONG).await.body, body());
}

/// Whoever reads a message of another program draws a proof for it, and names the body by that.
#[tokio::test]
async fn a_job_of_another_program_that_fails_keeps_its_body_where_its_record_says() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let id = JobId::from(raw::send_text(&place, body().as_str()).await);
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, Outcome::Cancelled).await.expect("the holder");
    assert_eq!(record(&backend, &id).await.body, Some(body()));
    assert_eq!(backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive"), [id]);
    assert_eq!(take(&backend, LONG).await.body, body());
}

/// A job whose message SQS has moved, as nobody came to anything with it.
async fn moved(place: &Place, backend: &AwsBackend) -> JobId {
    let id = submit(backend, NewJob::from_json(body())).await;
    for _ in 0..=MAX_RECEIVES {
        raw::receive(place, &place.queue, 0).await;
    }
    assert_eq!(raw::count(place, &place.dead).await, 1, "SQS has moved it");
    id
}

#[tokio::test]
async fn a_dead_letter_whose_message_sqs_has_moved_can_be_redriven() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let id = moved(&place, &backend).await;
    backend.cancel(vec![id.clone()]).await.expect("cancel");
    assert_eq!(backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive"), [id]);
    assert_eq!(take(&backend, LONG).await.body, body());
}

/// A job whose worker is gone, and at which somebody looked: nobody who ended it had its message.
async fn found_dead(place: &Place, backend: &AwsBackend) -> JobId {
    let id = submit(backend, NewJob::from_json(body()).max_attempts(1)).await;
    take(backend, Duration::from_secs(2)).await;
    let looks = Producer::new(Arc::new(place.open().await));
    let dead = looks.job(id.clone()).wait(Some(Duration::from_secs(60))).await.expect("it is ended");
    assert_eq!((dead.status, dead.dead), (Status::Error, true));
    assert_eq!(record(backend, &id).await.body, None);
    id
}

#[tokio::test]
async fn a_dead_letter_that_cannot_go_back_yet_keeps_back_nothing_that_sqs_has_moved() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let moved = moved(&place, &backend).await;
    found_dead(&place, &backend).await;
    let all = || backend.redrive(Redrive::Dead { limit: 10, queue: None, after: None });
    assert_eq!(all().await.expect("redrive").as_slice(), std::slice::from_ref(&moved));
    let error = all().await.expect_err("nothing else");
    assert!(error.to_string().contains("cannot be redriven yet"), "{error}");
    assert_eq!(work_off(&backend).await, [moved]);
}

#[tokio::test]
async fn a_job_that_was_found_dead_has_its_body_once_a_consumer_has_seen_its_message() {
    let place = Place::fifo().await;
    let backend = open(&place).await;
    let id = found_dead(&place, &backend).await;
    assert_eq!(claim(&backend, LONG).await, []);
    assert_eq!(record(&backend, &id).await.body, Some(body()));
}

/// The messages that SQS has moved stay as they are, too: nothing could be said of them.
#[tokio::test]
async fn dead_letters_that_cannot_be_listed_are_an_error_and_nothing_is_done() {
    let place = Place::fifo().await;
    moved(&place, &open(&place).await).await;
    let stub = Stub::start(ministack(), 1);
    let backend = open(&place.through(stub.url())).await;
    (0..TRIES).for_each(|_| stub.fail_next("Query", Fault::Error));
    let all = || backend.redrive(Redrive::Dead { limit: 10, queue: None, after: None });
    let error = all().await.expect_err("no list");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(stub.calls().get("ReceiveMessage"), None);
    assert!(stub.is_through(), "what was planned has happened");
    assert_eq!(all().await.expect("redrive").len(), 1);
}

/// What nobody can read is not stored for later, or the record could not be shown.
#[tokio::test]
async fn a_body_that_is_broken_is_not_kept() {
    let place = Place::fifo().await;
    let builder = place.builder().await.keep_bodies(false).compression(Compression::Zstd);
    let backend = builder.open().await.expect("a backend");
    // Which is in its message alone, however small it becomes.
    let mut random = fastrand::Rng::with_seed(7);
    let body: String = iter::repeat_with(|| random.alphanumeric()).take(4096).collect();
    let id = submit(&backend, NewJob::from_json(Json::from_stored(format!("\"{body}\"")))).await;
    let mut message = with_id(&raw::receive(&place, &place.queue, 300).await.remove(0), &id);
    message.body = Some("aGVsbG8=".into());
    raw::resend(&place, &place.queue, &message).await;
    assert_eq!(claim(&backend, LONG).await, []);
    let failed = record(&backend, &id).await;
    let error = failed.error.expect("an error");
    assert!(error.message.contains("cannot be read: "), "{error}");
    assert_eq!((failed.status, failed.attempt, failed.body), (Status::Error, 1, None));
}
