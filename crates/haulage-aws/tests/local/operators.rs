//! What operators do: list, cancel, redrive and purge, whatever some of the records
//! look like.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Backend, JobId, Status,
    backend::{Cancellation, Detail, ListQuery, Lookup, Purge, Redrive},
};
use haulage_aws::AwsBackend;
use haulage_servers::{Stub, stub::Fault};

use crate::{
    helpers::{LONG, TRIES, job, record, retry, settle, submit, take, work_off},
    place::{Place, ministack},
};

async fn die(backend: &AwsBackend, count: u64) -> Vec<JobId> {
    let mut dead = Vec::new();
    for n in 0..count {
        let id = submit(backend, job(n).max_attempts(1)).await;
        let claimed = take(backend, LONG).await;
        assert_eq!(claimed.key.id, id);
        assert_eq!(settle(backend, &claimed.key, retry()).await.expect("the holder"), Status::Error);
        dead.push(id);
    }
    dead
}

fn ids(records: &[haulage::Record]) -> Vec<JobId> {
    records.iter().map(|record| record.id.clone()).collect()
}

/// Sets an attribute of an item, as another program may.
async fn set(place: &Place, key: &str, name: &str, value: AttributeValue) {
    let update = place.dynamodb().await.update_item().table_name(&place.table);
    update
        .key("message_id", AttributeValue::S(key.into()))
        .update_expression("SET #name = :value")
        .expression_attribute_names("#name", name)
        .expression_attribute_values(":value", value)
        .send()
        .await
        .expect("an update");
}

#[tokio::test]
async fn dead_letters_are_found_without_a_look_at_the_other_records() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let dead = die(&backend, 4).await;
        for n in 0..3 {
            submit(&backend, job(n)).await;
        }
        let before = backend.usage();
        let newest: Vec<JobId> = dead.iter().rev().cloned().collect();
        let list = async |query: ListQuery| ids(&backend.list(query.dead(true)).await.expect("list"));
        assert_eq!(list(ListQuery::new().limit(3)).await, newest[..3]);
        let rest = ListQuery::new().limit(3).before(Some(newest[2].clone()));
        assert_eq!(list(rest).await, newest[3..]);
        assert_eq!(backend.redrive(Redrive::dead(3)).await.expect("redrive"), dead[..3]);
        assert_eq!(list(ListQuery::new()).await, dead[3..]);
        let used = backend.usage().since(&before).dynamodb;
        assert!(!used.contains_key("Scan") && used.contains_key("Query"), "{used:?}");
        assert_eq!(work_off(&backend).await.len(), 6);
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_written_hides_no_other() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    // Its holder was silent for two leases, which whoever looks would note.
    let lost = submit(&backend, job(1).max_attempts(1)).await;
    let lease = Duration::from_secs(1);
    take(&backend, lease).await;
    let waits = submit(&backend, job(2)).await;
    let then = backend.clock().now().before(10 * lease).as_micros().to_string();
    set(&place, lost.as_str(), "due_at", AttributeValue::N(then)).await;

    let stub = Stub::start(ministack(), 7);
    let reader = place.through(stub.url()).open().await;
    let refuse = || (0..TRIES).for_each(|_| stub.fail_next("UpdateItem", Fault::Error));
    refuse();
    let found = reader.get(vec![lost.clone(), waits.clone()], Detail::Status).await.expect("get");
    let status = |lookup: Lookup| match lookup {
        Lookup::Found(record) => record.status,
        other => panic!("{other:?}"),
    };
    let statuses: Vec<_> = found.into_iter().map(status).collect();
    assert_eq!(statuses, [Status::InProgress, Status::Submitted], "as they are");
    refuse();
    assert_eq!(ids(&reader.list(ListQuery::new()).await.expect("list")), [waits.clone(), lost.clone()]);
    refuse();
    let stats = reader.stats().await.expect("stats");
    assert_eq!((stats.in_progress, stats.visible), (1, 1));
    assert!(stub.is_through(), "what was planned has happened");
    // The others are cancelled all the same.
    refuse();
    reader.cancel(vec![lost.clone(), waits.clone()]).await.expect_err("one of them was not");
    assert_eq!(record(&backend, &waits).await.status, Status::Cancelled);
    assert_eq!(record(&backend, &lost).await.status, Status::Error);
}

#[tokio::test]
async fn a_record_that_another_program_has_marked_can_be_cancelled_redriven_and_purged() {
    for mark in [AttributeValue::N("7".into()), AttributeValue::S(String::new())] {
        let place = Place::fifo().await;
        let backend = place.open().await;
        let id = submit(&backend, job(1)).await;
        set(&place, id.as_str(), "op", mark.clone()).await;
        assert_eq!(backend.cancel(vec![id.clone()]).await.expect("cancel"), [Cancellation::Done]);
        set(&place, id.as_str(), "op", mark.clone()).await;
        let redriven = backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive");
        assert_eq!(redriven, std::slice::from_ref(&id));
        set(&place, id.as_str(), "op", mark.clone()).await;
        assert_eq!(backend.purge(Purge::Jobs(vec![id])).await.expect("purge"), 1);
    }
}

#[tokio::test]
async fn a_key_that_nobody_has_is_taken_whatever_its_item_says() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let first = submit(&backend, job(1).idempotency_key("k")).await;
    let items = place.dynamodb().await.scan().table_name(&place.table).send().await.expect("a scan");
    let keys = items.items().iter().filter_map(|item| item["message_id"].as_s().ok());
    let key = keys.clone().find(|key| key.starts_with("key#")).expect("the item of the key").clone();
    let update = place.dynamodb().await.update_item().table_name(&place.table);
    let update = update.key("message_id", AttributeValue::S(key));
    update.update_expression("REMOVE job_id, reserved_until").send().await.expect("an update");
    let second = tokio::time::timeout(LONG, submit(&backend, job(2).idempotency_key("k"))).await;
    assert_ne!(second.expect("it ends"), first);
    assert_eq!(work_off(&backend).await.len(), 2);
}

/// As that of another account has to be.
#[tokio::test]
async fn a_table_can_be_named_by_its_arn() {
    let place = Place::fifo().await;
    let table =
        place.dynamodb().await.describe_table().table_name(&place.table).send().await.expect("it is there");
    let arn = table.table.and_then(|table| table.table_arn).expect("its ARN");
    let backend = place.builder().await.table(arn).open().await.expect("a backend");
    let dead = die(&backend, 2).await;
    let id = submit(&backend, job(3)).await;
    assert_eq!(record(&backend, &id).await.status, Status::Submitted);
    let used = backend.usage().dynamodb;
    assert!(!used.contains_key("BatchExecuteStatement"), "which such a table does not take: {used:?}");
    let listed = backend.list(ListQuery::new().dead(true)).await.expect("list");
    assert_eq!(ids(&listed).len(), dead.len());
    assert_eq!(backend.stats().await.expect("stats").dead, 2);
    assert_eq!(backend.redrive(Redrive::dead(10)).await.expect("redrive").len(), 2);
    assert_eq!(work_off(&backend).await.len(), 3);
    assert_eq!(backend.purge(Purge::status(Status::Success, Duration::ZERO)).await.expect("purge"), 3);
}
