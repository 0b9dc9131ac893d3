//! What is to come in order, and soon.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{Backend, backend::Redrive};
use haulage_servers::{Patience, Stub, stub::Fault};

use crate::{
    helpers::{LONG, TRIES, claim, job, record, request, settle, submit, success, take, work_off},
    place::{Place, ministack},
    raw,
};

#[tokio::test]
async fn a_consumer_that_stops_leaves_no_message_hidden_that_its_poll_still_brings() {
    for comes_meanwhile in [true, false] {
        let place = Place::standard().await;
        let stub = Stub::start(ministack(), 7);
        let idle = Arc::new(place.through(stub.url()).open().await);
        let stop = tokio_util::sync::CancellationToken::new();
        let polling = tokio::spawn({
            let (idle, stop) = (idle.clone(), stop.clone());
            async move { idle.claim(request(LONG, Duration::from_secs(6)), stop).await }
        });
        let mut patience = Patience::new(0);
        while !stub.calls().contains_key("ReceiveMessage") {
            assert!(!patience.is_over(0), "it polls");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        assert_eq!(polling.await.expect("joins").expect("claim"), []);
        let other = place.open().await;
        let id = if comes_meanwhile {
            let (drained, id) = tokio::join!(idle.drain(), submit(&other, job(1)));
            drained.expect("drain");
            drop(idle);
            id
        } else {
            // SQS hands it to whoever asked first, gone or not.
            idle.drain().await.expect("drain");
            drop(idle);
            submit(&other, job(1)).await
        };
        let claimed = claim(&other, LONG).await;
        assert_eq!(claimed.first().map(|claimed| &claimed.key.id), Some(&id), "others have it at once");
    }
}

#[tokio::test]
async fn jobs_of_a_group_stay_in_order_when_a_batch_of_messages_fails() {
    for fault in [Fault::Error, Fault::Throttle, Fault::LostAnswer] {
        let place = Place::fifo().await;
        let stub = Stub::start(ministack(), 7);
        let backend = place.through(stub.url()).open().await;
        stub.fail_next("SendMessageBatch", fault);
        let jobs = (0..25).map(|n| job(n).group("g")).collect();
        let answers = backend.submit(jobs).await.expect("submit");
        let ids: Vec<_> = answers.into_iter().map(|answer| answer.expect("accepted").id).collect();
        assert!(stub.is_through());
        let mut done = Vec::new();
        while done.len() < ids.len() {
            let claimed = take(&backend, LONG).await;
            settle(&backend, &claimed.key, success()).await.expect("the holder");
            done.push(claimed.key.id);
        }
        assert_eq!(done, ids, "{fault:?}");
    }
}

#[tokio::test]
async fn what_follows_a_batch_of_its_group_that_fails_for_good_is_not_sent() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    // The first batch fails as often as it is sent; those after it would be taken.
    (0..=6).for_each(|_| stub.fail_next("SendMessageBatch", Fault::Error));
    let answers = backend.submit((0..25).map(|n| job(n).group("g")).collect()).await.expect("submit");
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!((stub.is_through(), stub.calls()["SendMessageBatch"]), (true, 7));
    assert_eq!(raw::count(&place, &place.queue).await, 0);
}

#[tokio::test]
async fn a_short_outage_of_the_table_hides_no_job_for_long_however_often_it_was_received() {
    for place in [Place::fifo().await, Place::standard().await] {
        let stub = Stub::start(ministack(), 7);
        let backend = place.through(stub.url()).open().await;
        let id = submit(&backend, job(1)).await;
        // As a job is that was retried and given back often.
        for _ in 0..7 {
            assert_eq!(raw::receive(&place, &place.queue, 0).await.len(), 1);
        }
        (0..TRIES).for_each(|_| stub.fail_next("UpdateItem", Fault::Error));
        let failed = backend.claim(request(LONG, Duration::from_secs(10)), Default::default()).await;
        failed.expect_err("an outage");
        let began = std::time::Instant::now();
        assert_eq!(take(&backend, LONG).await.key.id, id, "on {}", place.queue);
        assert!(began.elapsed() < Duration::from_secs(60), "after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_dead_letter_has_one_copy() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let id = submit(&backend, job(1).max_attempts(1)).await;
        // This worker dies; another one notices.
        take(&place.open().await, Duration::from_secs(2)).await;
        let mut patience = Patience::new(0);
        while raw::item(&place, &id).await["status"] != AttributeValue::S("error".to_owned()) {
            assert!(!patience.is_over(0), "nobody notices");
            assert_eq!(claim(&backend, LONG).await, []);
        }
        assert!(record(&backend, &id).await.dead);
        raw::assert_drained(&place, &place.queue).await;
        drop(backend);
        assert_eq!(raw::count(&place, &place.dead).await, 1, "on {}", place.queue);
        let backend = place.open().await;
        let redriven = backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive");
        assert_eq!(redriven, std::slice::from_ref(&id));
        assert_eq!(work_off(&backend).await, [id]);
    }
}
