//! What operators do: list, cancel, redrive and purge, whatever some of the records
//! look like.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Backend, Error, JobId, Status,
    backend::{Cancellation, Detail, ListQuery, Lookup, Purge, Redrive},
};
use haulage_aws::AwsBackend;
use haulage_servers::{Stub, stub::Fault};

use crate::{
    helpers::{LONG, TRIES, job, record, retry, settle, submit, take, work_off},
    place::{Place, ministack},
    raw,
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

async fn remove(place: &Place, key: &str, names: &str) {
    let update = place.dynamodb().await.update_item().table_name(&place.table);
    let update = update.key("message_id", AttributeValue::S(key.into()));
    update.update_expression(format!("REMOVE {names}")).send().await.expect("an update");
}

/// The key of the item of the one idempotency key that there is.
async fn key_of_key(place: &Place) -> String {
    let items = place.dynamodb().await.scan().table_name(&place.table).send().await.expect("a scan");
    let mut keys = items.items().iter().filter_map(|item| item["message_id"].as_s().ok());
    keys.find(|key| key.starts_with("key#")).expect("the item of the key").clone()
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
    let key = key_of_key(&place).await;
    remove(&place, &key, "job_id, reserved_until").await;
    let second = tokio::time::timeout(LONG, submit(&backend, job(2).idempotency_key("k"))).await;
    assert_ne!(second.expect("it ends"), first);
    assert_eq!(work_off(&backend).await.len(), 2);
}

#[tokio::test]
async fn a_key_that_its_submit_never_gives_up_holds_up_no_other_for_ever() {
    let place = Place::fifo().await;
    let backend = place.builder().await.key_patience(Duration::from_secs(1)).open().await;
    let backend = backend.expect("a backend");
    let first = submit(&backend, job(1).idempotency_key("k")).await;
    let key = key_of_key(&place).await;
    let in_a_year = backend.clock().now().after(Duration::from_secs(365 * 24 * 3600));
    set(&place, &key, "token", AttributeValue::S("another".into())).await;
    set(&place, &key, "reserved_until", AttributeValue::N(in_a_year.as_micros().to_string())).await;
    remove(&place, &key, "job_id").await;
    let second = backend.submit(vec![job(2).idempotency_key("k"), job(3)]);
    let second = tokio::time::timeout(Duration::from_secs(60), second).await.expect("it ends");
    let error = second.expect_err("another has the key");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("does not end; try again"), "{error}");
    assert_eq!(work_off(&backend).await, [first], "nothing else was sent");
}

/// How often a record that others keep changing is looked at again.
const LOOKS: u64 = 50;

#[tokio::test]
async fn a_record_that_changes_with_every_look_is_given_up_and_stops_no_other() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    let ids = [submit(&backend, job(1)).await, submit(&backend, job(2)).await];
    let updates = || stub.calls().get("UpdateItem").copied().unwrap_or_default();
    let change = || (0..LOOKS).for_each(|_| stub.fail_next("UpdateItem", Fault::Changed));
    let given_up = |error: Error| {
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(&format!("job {}", ids[0])), "{error}");
        assert!(error.to_string().contains("changes with every look"), "{error}");
        assert!(stub.is_through(), "what was planned has happened");
    };
    let before = updates();
    change();
    given_up(backend.cancel(ids.to_vec()).await.expect_err("one of them was not"));
    assert_eq!(updates() - before, LOOKS + 1);
    assert_eq!(record(&backend, &ids[0]).await.status, Status::Submitted);
    assert_eq!(record(&backend, &ids[1]).await.status, Status::Cancelled);

    assert_eq!(backend.cancel(ids[..1].to_vec()).await.expect("cancel"), [Cancellation::Done]);
    let before = updates();
    change();
    given_up(backend.redrive(Redrive::Jobs(ids[..1].to_vec())).await.expect_err("it was not"));
    assert_eq!(updates() - before, LOOKS);
    // Its message has been sent, and a consumer that receives it does the rest.
    assert_eq!(work_off(&backend).await, ids[..1]);
}

#[tokio::test]
async fn a_redrive_clears_more_copies_than_one_look_brings() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let dead = die(&backend, 25).await;
    drop(backend);
    assert_eq!(raw::count(&place, &place.dead).await, 25);
    let backend = place.open().await;
    assert_eq!(backend.redrive(Redrive::dead(100)).await.expect("redrive"), dead);
    assert_eq!(raw::count(&place, &place.dead).await, 0);
    assert_eq!(work_off(&backend).await.len(), 25);
}

/// A look may take so long that what the one before has hidden shows again.
#[tokio::test]
async fn a_redrive_finds_the_copies_behind_messages_that_come_again() {
    for place in [Place::fifo().await, Place::standard().await] {
        // As many as one look brings, and they stay.
        for n in 0..10 {
            raw::send_text_to(&place, &place.dead, &format!("no job of ours, {n}")).await;
        }
        let backend = place.open().await;
        let dead = die(&backend, 5).await;
        drop(backend);
        assert_eq!(raw::count(&place, &place.dead).await, 15);

        let stub = Stub::start(ministack(), 7);
        let builder = place.through(stub.url()).builder().await.copies_hidden(Duration::from_secs(1));
        let backend = builder.open().await.expect("a backend");
        for wait in [0, 1_500] {
            stub.fail_next("ReceiveMessage", Fault::Slow(wait));
        }
        assert_eq!(backend.redrive(Redrive::dead(100)).await.expect("redrive"), dead);
        assert!(stub.is_through(), "what was planned has happened");
        assert_eq!(raw::count(&place, &place.dead).await, 10, "on {}", place.queue);
        let left = raw::receive(&place, &place.dead, 0).await;
        assert_eq!(left.len(), 10, "and they are not hidden on {}", place.queue);
        assert_eq!(work_off(&backend).await.len(), 5);
    }
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
