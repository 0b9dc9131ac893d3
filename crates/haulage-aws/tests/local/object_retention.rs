//! Messages that SQS would move, delete, or show too early: none of their jobs
//! is lost.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Backend, Error, JobId, Status,
    backend::{ClaimKey, Outcome, Redrive},
};
use haulage_servers::{Stub, stub::Fault};

use crate::{
    helpers::{LONG, TRIES, claim, job, record, request, retry, settle, submit, success, take, work_off},
    place::{MAX_RECEIVES, Place, ministack},
    raw,
};

#[tokio::test]
async fn a_job_that_never_had_a_record_outlives_its_message() {
    for place in [Place::fifo().await, Place::standard().await] {
        let stub = Stub::start(ministack(), 1);
        let backend = place.through(stub.url()).open().await;
        let fail = |operation: &str| (0..TRIES).for_each(|_| stub.fail_next(operation, Fault::Error));
        let id = submit(&backend, job(7)).await;
        // Whoever submitted it did not live to write the record.
        let delete = place.dynamodb().await.delete_item().table_name(&place.table);
        delete.key("message_id", AttributeValue::S(id.to_string())).send().await.expect("deleted");
        for _ in 1..MAX_RECEIVES {
            assert_eq!(raw::receive(&place, &place.queue, 0).await.len(), 1);
        }
        // The last receive that SQS allows, and the table is out of reach.
        fail("UpdateItem");
        (0..2).for_each(|_| fail("GetItem"));
        let error = backend
            .claim(request(LONG, Duration::from_secs(1)), Default::default())
            .await
            .expect_err("no table");
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        let claimed = take(&backend, LONG).await;
        assert!(stub.is_through());
        assert_eq!((claimed.body.as_str(), claimed.key.attempt), ("7", 1), "on {}", place.queue);
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        raw::assert_drained(&place, &place.queue).await;
        assert_eq!(raw::count(&place, &place.dead).await, 0);
    }
}

#[tokio::test]
async fn a_group_is_not_moved_away() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let ids = [submit(&backend, job(1).group("g")).await, submit(&backend, job(2).group("g")).await];
    // What follows is received with the first, and each receive counts.
    for _ in 1..MAX_RECEIVES {
        assert_eq!(raw::receive(&place, &place.queue, 0).await.len(), 2);
    }
    let claimed = claim(&backend, LONG).await.remove(0);
    assert_eq!(claimed.key.id, ids[0]);
    settle(&backend, &claimed.key, Outcome::release()).await.expect("the holder");
    assert_eq!(work_off(&backend).await, ids);
    raw::assert_drained(&place, &place.queue).await;
    assert_eq!(raw::count(&place, &place.dead).await, 0);
}

#[tokio::test]
async fn no_message_is_hidden_for_longer_than_sqs_allows() {
    for place in [Place::fifo().await, Place::standard().await] {
        let stub = Stub::start(ministack(), 1);
        let backend = place.through(stub.url()).open().await;
        let long = Duration::from_secs(13 * 3600);
        submit(&backend, job(1).delay(long)).await;
        submit(&backend, job(2)).await;
        let claimed = take(&backend, LONG).await;
        let error = haulage::JobError::new(haulage::FailureKind::Handler, "much later");
        settle(&backend, &claimed.key, Outcome::Retry { error, delay: long }).await.expect("the holder");
        assert_eq!(claim(&backend, Duration::from_secs(1)).await, []);
        assert_eq!(stub.hidden_too_long(), 0, "on {}", place.queue);
        assert!(stub.calls().get("ChangeMessageVisibilityBatch").is_some_and(|calls| *calls > 0));
    }
}

#[tokio::test]
async fn messages_of_others_keep_the_order_of_their_group() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    for n in ["1", "2"] {
        raw::send_text(&place, n).await;
    }
    for n in ["1", "2"] {
        let claimed = claim(&backend, LONG).await;
        let [claimed] = &claimed[..] else { panic!("one of a group: {claimed:?}") };
        assert_eq!(claimed.body.as_str(), n);
        settle(&backend, &claimed.key, success()).await.expect("the holder");
    }
}

#[tokio::test]
async fn an_old_copy_does_not_revive_a_job_that_ended_another_way() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let id = submit(&backend, job(1).max_attempts(1)).await;
        let claimed = take(&backend, LONG).await;
        settle(&backend, &claimed.key, retry()).await.expect("the holder");
        let copy = raw::receive(&place, &place.dead, 0).await.remove(0);
        assert_eq!(
            backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive"),
            std::slice::from_ref(&id)
        );
        // It ends with the same attempt once more, by somebody's wish.
        backend.cancel(vec![id.clone()]).await.expect("cancel");
        raw::resend(&place, &place.queue, &copy).await;
        assert_eq!(claim(&backend, LONG).await, []);
        assert_eq!(record(&backend, &id).await.status, Status::Cancelled);
    }
}

#[tokio::test]
async fn a_redrive_leaves_alone_what_is_of_other_queues() {
    for fifo in [true, false] {
        let make = || async { if fifo { Place::fifo().await } else { Place::standard().await } };
        let copies = if fifo { 1 } else { 12 };
        let (ours, other) = (make().await, make().await);
        let backend = other.open().await;
        // A dead letter of the other queue, and one that SQS has moved.
        submit(&backend, job(1).max_attempts(1)).await;
        let claimed = take(&backend, LONG).await;
        settle(&backend, &claimed.key, retry()).await.expect("the holder");
        submit(&backend, job(2)).await;
        for message in [
            raw::receive(&other, &other.dead, 0).await.remove(0),
            raw::receive(&other, &other.queue, 0).await.remove(0),
        ] {
            // More than one receive brings; a FIFO queue takes each once.
            for _ in 0..copies {
                raw::resend(&ours, &ours.dead, &message).await;
            }
        }
        let backend = ours.open().await;
        assert_eq!(backend.redrive(Redrive::dead(10)).await.expect("redrive"), []);
        assert_eq!(raw::count(&ours, &ours.dead).await, 2 * copies, "on {}", ours.queue);
        assert_eq!(raw::count(&ours, &ours.queue).await, 0);
    }
}

#[tokio::test]
async fn a_redrive_counts_what_a_consumer_was_faster_with() {
    let place = Place::standard().await;
    let stub = Stub::start(ministack(), 1);
    let (slow, fast) = (place.through(stub.url()).open().await, place.open().await);
    let id = submit(&fast, job(1).max_attempts(1)).await;
    let claimed = take(&fast, LONG).await;
    settle(&fast, &claimed.key, retry()).await.expect("the holder");
    stub.fail_next("UpdateItem", Fault::Slow(3000));
    let (redriven, claimed) = tokio::join!(slow.redrive(Redrive::Jobs(vec![id.clone()])), take(&fast, LONG));
    assert_eq!(redriven.expect("redrive"), std::slice::from_ref(&id));
    assert_eq!((&claimed.key.id, claimed.key.attempt), (&id, 2));
    assert_eq!(record(&fast, &id).await.status, Status::InProgress);
}

#[tokio::test]
async fn a_record_that_lacks_what_we_write_is_no_trap() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let ids = [submit(&backend, job(1)).await, submit(&backend, job(2)).await];
    for (id, what) in ids.iter().zip(["REMOVE op, due_at", "REMOVE op, due_at, attempts_left"]) {
        let write = place.dynamodb().await.update_item().table_name(&place.table);
        let write = write.key("message_id", AttributeValue::S(id.to_string())).update_expression(what);
        write.send().await.expect("an update");
    }
    assert_eq!(work_off(&backend).await, ids[..1]);
    assert_eq!(record(&backend, &ids[1]).await.status, Status::Error, "it has no attempts to take");
    raw::assert_drained(&place, &place.queue).await;
}

#[tokio::test]
async fn a_group_is_not_delayed_for_longer_than_its_messages_are_kept() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    // SQS keeps messages for 4 days unless told otherwise.
    let days = |n: u64| Duration::from_secs(n * 24 * 3600);
    submit(&backend, job(1).group("g").delay(days(2))).await;
    submit(&backend, job(1).delay(days(30))).await;
    let error = backend.submit(vec![job(1).group("g").delay(days(4))]).await.expect_err("too long");
    assert!(error.to_string().contains("can be delayed by 3days at most"), "{error}");
}

#[tokio::test]
async fn submits_that_want_each_others_keys_do_not_wait_for_each_other() {
    let place = Place::standard().await;
    let (one, other) = (place.open().await, place.open().await);
    for n in 0..10 {
        let keyed = |end: &str| job(n).idempotency_key(format!("{n}{end}"));
        let ids = |answers: Vec<haulage::Result<haulage::backend::Submitted>>| {
            let mut ids: Vec<_> = answers.into_iter().map(|job| job.expect("accepted").id).collect();
            ids.sort();
            ids
        };
        let began = std::time::Instant::now();
        let (a, b) = tokio::join!(
            one.submit(vec![keyed("a"), keyed("b")]),
            other.submit(vec![keyed("b"), keyed("a")])
        );
        assert_eq!(ids(a.expect("submit")), ids(b.expect("submit")));
        assert!(began.elapsed() < Duration::from_secs(20), "a reservation alone lasts 30 s");
    }
    assert_eq!(work_off(&one).await.len(), 20);
}

/// The first of two jobs of a group, whose messages reach the end of the
/// shortest retention of SQS while it runs; and the ids of both.
async fn outlived(place: &Place, holder: &dyn Backend, other: &dyn Backend) -> (ClaimKey, [JobId; 2]) {
    let retention = Duration::from_secs(60);
    let ids = [submit(holder, job(1).group("g")).await, submit(holder, job(2).group("g")).await];
    let lease = Duration::from_secs(6);
    let claimed = claim(holder, lease).await.remove(0);
    let end = std::time::Instant::now() + retention + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        let status = crate::helpers::beat(holder, &claimed.key, lease).await;
        assert!(matches!(status, haulage::backend::HeartbeatStatus::Held(_)), "{status:?}");
        // Nothing of the group is handed out meanwhile.
        let wanted = request(lease, Duration::from_secs(2));
        assert_eq!(other.claim(wanted, Default::default()).await.expect("claim"), [], "on {}", place.queue);
    }
    (claimed.key, ids)
}

async fn short_lived() -> Place {
    let place = Place::fifo().await;
    raw::set_retention(&place, Duration::from_secs(60)).await;
    place
}

#[tokio::test]
async fn a_job_whose_message_expires_while_it_runs_outlives_its_holder() {
    let place = short_lived().await;
    let (holder, other) = (place.open().await, place.open().await);
    let (_, ids) = outlived(&place, &holder, &other).await;
    drop(holder);
    assert_eq!(work_off(&other).await, ids);
    assert_eq!(record(&other, &ids[0]).await.attempt, 2);
}

#[tokio::test]
async fn a_job_whose_message_expires_while_it_runs_can_be_given_back() {
    let place = short_lived().await;
    let (holder, other) = (place.open().await, place.open().await);
    let (key, ids) = outlived(&place, &holder, &other).await;
    settle(&holder, &key, Outcome::release()).await.expect("the holder");
    let mut done = work_off(&other).await;
    done.sort();
    let mut ids = ids.to_vec();
    ids.sort();
    assert_eq!(done, ids);
}

#[tokio::test]
async fn a_redriven_job_that_sqs_moves_away_comes_back() {
    let place = Place::standard().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1).max_attempts(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    let ids = std::slice::from_ref(&id);
    assert_eq!(backend.redrive(Redrive::dead(10)).await.expect("redrive"), ids);
    // Consumers that die before they come to anything.
    for _ in 0..=MAX_RECEIVES {
        raw::receive(&place, &place.queue, 0).await;
    }
    assert_eq!(raw::count(&place, &place.queue).await, 0);
    assert_eq!(backend.redrive(Redrive::dead(10)).await.expect("redrive"), ids);
    assert_eq!(work_off(&backend).await, ids);
    raw::assert_drained(&place, &place.dead).await;
}
