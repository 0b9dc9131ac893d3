//! Jobs whose messages SQS has deleted, as nobody received them in time.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Backend, FailureKind, JobId, NewJob, Producer, Status,
    backend::{Detail, Lookup, Redrive, Severity},
};
use haulage_aws::AwsBackend;
use haulage_servers::{Patience, Stub, stub::Fault};

use crate::{
    helpers::{LONG, TRIES, job, submit, work_off},
    place::{Place, ministack},
    raw,
};

/// Longer than any queue keeps messages.
const LONG_AGO: Duration = Duration::from_secs(15 * 24 * 3600);

/// A job that was submitted long ago, and nobody received its message.
pub(crate) async fn lost(place: &Place, backend: &AwsBackend, job: NewJob) -> JobId {
    let id = submit(backend, job).await;
    raw::lose(place).await;
    age(place, backend, &id).await;
    id
}

/// Makes its record that old.
async fn age(place: &Place, backend: &AwsBackend, id: &JobId) {
    let then = backend.clock().now().before(LONG_AGO).as_micros().to_string();
    let update = place.dynamodb().await.update_item().table_name(&place.table);
    let update = update.key("message_id", AttributeValue::S(id.to_string()));
    let update = update.update_expression("SET due_at = :then, submitted_at = :then");
    update.expression_attribute_values(":then", AttributeValue::N(then)).send().await.expect("an update");
}

/// One that keeps bodies beside their records.
async fn keeping(place: &Place) -> AwsBackend {
    place.builder().await.keep_bodies(true).open().await.expect("a backend")
}

async fn redrive(backend: &AwsBackend) -> Vec<JobId> {
    backend.redrive(Redrive::Lost { limit: 10 }).await.expect("redrive")
}

#[tokio::test]
async fn a_job_whose_message_is_lost_is_sent_again() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = keeping(&place).await;
        let long = NewJob::from_json(haulage::Json::from_stored(format!("\"{}\"", "x".repeat(2000))));
        let ids = [lost(&place, &backend, job(1)).await, lost(&place, &backend, long).await];
        let waits = submit(&backend, job(3)).await;
        let found = backend.check().await.expect("check");
        let found = found.iter().find(|finding| finding.check == "lost messages").expect("it is looked for");
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.message.ends_with("in time: 2"), "{}", found.message);

        let mut sent = redrive(&backend).await;
        sent.sort();
        let mut expected = ids.to_vec();
        expected.sort();
        assert_eq!(sent, expected, "on {}", place.queue);
        assert_eq!(redrive(&backend).await, [], "once");
        let found = backend.check().await.expect("check");
        let found = found.iter().find(|finding| finding.check == "lost messages").expect("it is looked for");
        assert_eq!(found.severity, Severity::Ok, "{}", found.message);
        assert_eq!(raw::count(&place, &place.queue).await, 3);

        let mut done = work_off(&backend).await;
        done.sort();
        expected.push(waits);
        expected.sort();
        assert_eq!(done, expected, "on {}", place.queue);
        raw::assert_drained(&place, &place.queue).await;
    }
}

#[tokio::test]
async fn a_wait_for_a_job_whose_message_is_lost_is_not_for_nothing() {
    let place = Place::fifo().await;
    let id = lost(&place, &place.open().await, job(1)).await;
    let producer = Producer::new(Arc::new(place.open().await));
    let ids = [id.clone()];
    let wait = tokio::spawn(async move { producer.wait_all(&ids, Some(LONG)).await });
    assert_eq!(work_off(&place.open().await).await, [id]);
    assert_eq!(wait.await.expect("joins").expect("the job")[0].status, Status::Success);
}

#[tokio::test]
async fn jobs_of_a_group_whose_messages_are_lost_come_back_in_their_order() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(lost(&place, &backend, job(n).group("g")).await);
    }
    let turned: Vec<_> = ids.iter().rev().cloned().collect();
    backend.get(turned, Detail::Status).await.expect("get");
    assert_eq!(work_off(&backend).await, ids);
    raw::assert_drained(&place, &place.queue).await;
}

#[tokio::test]
async fn a_message_that_could_not_be_sent_again_is_sent_at_the_next_look() {
    let place = Place::standard().await;
    let id = lost(&place, &place.open().await, job(1)).await;
    let stub = Stub::start(ministack(), 7);
    let reader = place.through(stub.url()).open().await;
    (0..TRIES).for_each(|_| stub.fail_next("SendMessageBatch", Fault::Error));
    let look = async || reader.get(vec![id.clone()], Detail::Status).await.expect("get");
    let mut patience = Patience::new(None);
    while raw::count(&place, &place.queue).await == 0 {
        assert!(!patience.is_over(stub.calls().get("SendMessageBatch").copied()), "nobody sends it");
        look().await;
    }
    assert!(stub.is_through(), "what was planned has happened");
    assert_eq!(work_off(&reader).await, std::slice::from_ref(&id));
}

#[tokio::test]
async fn nothing_is_sent_to_a_queue_that_is_gone() {
    let place = Place::fifo().await;
    let id = lost(&place, &place.open().await, job(1)).await;
    raw::delete_queue(&place).await;
    let stub = Stub::start(ministack(), 7);
    let reader = place.through(stub.url()).builder().await.queue_optional().open().await.expect("a table");
    let found = reader.get(vec![id], Detail::Status).await.expect("get");
    assert!(matches!(&found[..], [Lookup::Found(record)] if record.status == Status::Submitted), "{found:?}");
    drop(reader);
    assert!(!stub.calls().contains_key("SendMessageBatch"), "{:?}", stub.calls());
}

#[tokio::test]
async fn a_job_that_cannot_be_sent_again_ends() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let long = NewJob::from_json(haulage::Json::from_stored(format!("\"{}\"", "x".repeat(2000))));
    // Its body is gone with its message; or it was kept, and somebody has deleted that.
    let alone = lost(&place, &backend, long.clone()).await;
    let kept = lost(&place, &keeping(&place).await, long).await;
    let dynamodb = place.dynamodb().await;
    let at = raw::item(&place, &kept).await["body_at"].as_s().expect("text").replace("item:", "");
    let delete = dynamodb.delete_item().table_name(&place.table).key("message_id", AttributeValue::S(at));
    delete.send().await.expect("deleted");
    assert_eq!(redrive(&backend).await, []);
    for id in [alone, kept] {
        let kind = &raw::item(&place, &id).await["error_kind"];
        assert_eq!(*kind, AttributeValue::S("message_lost".to_owned()));
    }
    assert_eq!(FailureKind::from_name("message_lost"), FailureKind::MessageLost);
    assert_eq!(raw::count(&place, &place.queue).await, 0);
}

/// Somebody has deleted a named queue with jobs in it.
#[tokio::test]
async fn a_queue_that_is_gone_hides_no_lost_job_of_others() {
    let place = Place::fifo().await;
    place.make_queue("bulk").await;
    let backend = keeping(&place).await;
    let stranded = submit(&backend, job(1).queue("bulk".parse().expect("a name"))).await;
    age(&place, &backend, &stranded).await;
    let queue =
        place.sqs().await.get_queue_url().queue_name(place.named("bulk")).send().await.expect("a URL");
    let delete = place.sqs().await.delete_queue().set_queue_url(queue.queue_url);
    delete.send().await.expect("deleted");
    let id = lost(&place, &backend, job(2)).await;
    // It is not remembered where that queue was.
    let backend = keeping(&place).await;
    let found = backend.check().await.expect("check");
    let found = found.iter().find(|finding| finding.check == "lost messages").expect("it is looked for");
    assert!(
        found.message.contains("in time: 1; besides, jobs wait in a queue that is gone: 1 in bulk"),
        "{}",
        found.message
    );
    assert_eq!(redrive(&backend).await, [id]);
    let error = backend.redrive(Redrive::Lost { limit: 10 }).await.expect_err("the other is left");
    assert!(error.to_string().contains("1 in bulk; make it again"), "{error}");
    assert_eq!(crate::helpers::record(&backend, &stranded).await.status, Status::Submitted);
}
