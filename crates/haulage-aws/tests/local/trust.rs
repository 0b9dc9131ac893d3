//! Messages of somebody who may send to the queue, and to nothing else.

use std::time::Duration;

use haulage::{
    Backend, FailureKind, JobId, Json, NewJob, Status,
    backend::{Outcome, Redrive},
};
use serde_json::json;

use crate::{
    delivery::with_id,
    helpers::{LONG, claim, job, record, retry, settle, submit, success, take, work_off},
    place::{MAX_RECEIVES, Place, bucket, ministack},
    raw,
};

#[tokio::test]
async fn a_message_that_names_a_job_runs_and_ends_nothing_in_its_name() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let id = submit(&backend, job(1)).await;
        let message = raw::receive(&place, &place.queue, 4).await.remove(0);
        // Its id is known, as ids are; what its message said is not.
        for options in [
            json!({ "v": 1, "token": "t", "id": id }),
            json!({ "v": 1, "token": "", "id": id }),
            json!({ "v": 1, "token": "t", "id": id, "proof": "p", "redrive": 1, "ended_at": 1 }),
            json!({ "v": 1, "token": "t", "id": id, "encoding": "base64" }),
            json!({ "v": 1, "token": "t", "id": id, "encoding": "object", "body_at": "item:body#t" }),
        ] {
            raw::send_with(&place, &options, "\"!!!\"").await;
        }
        let claimed = take(&backend, LONG).await;
        let left = (&claimed.key.id, claimed.key.attempt, claimed.body.as_str());
        assert_eq!(left, (&id, 1, "1"), "on {}", place.queue);
        // Nor does one find who holds it, or what becomes of it.
        raw::send_with(&place, &json!({ "v": 1, "token": "t", "id": id }), "2").await;
        assert_eq!(claim(&backend, LONG).await, []);
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let done = record(&backend, &id).await;
        assert_eq!(
            (done.status, done.attempt, done.body),
            (Status::Success, 1, Some(Json::from_stored("1")))
        );
        // What was received beside it shows again, and is deleted.
        drop(message);
        work_off(&backend).await;
        raw::assert_drained(&place, &place.queue).await;
        assert_eq!(raw::count(&place, &place.dead).await, 6, "they are there to be looked at");
    }
}

#[tokio::test]
async fn a_message_that_proves_its_job_is_as_good_as_the_first() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let id = submit(&backend, job(1)).await;
        let message = raw::receive(&place, &place.queue, 300).await.remove(0);
        raw::resend(&place, &place.queue, &with_id(&message, &id)).await;
        assert_eq!(work_off(&backend).await, [id], "on {}", place.queue);
    }
}

#[tokio::test]
async fn a_message_in_another_queue_runs_no_job_of_this_one() {
    let here = Place::standard().await;
    let there = Place { table: here.table.clone(), ..Place::standard().await };
    let (backend, other) = (here.open().await, there.open().await);
    let id = submit(&backend, job(1)).await;
    let message = raw::receive(&here, &here.queue, 0).await.remove(0);
    // Somebody has moved it, and it proves what it says.
    raw::resend(&there, &there.queue, &with_id(&message, &id)).await;
    assert_eq!(claim(&other, LONG).await, []);
    assert_eq!(record(&backend, &id).await.status, Status::Submitted);
    assert_eq!(raw::count(&there, &there.queue).await, 1, "it can be moved back");
    assert_eq!(work_off(&backend).await, [id]);
}

#[tokio::test]
async fn a_message_reads_no_body_but_its_own() {
    let place = Place::standard().await;
    let open = async || {
        let builder = place.builder().await.bucket(bucket().await).keep_bodies(true);
        builder.open().await.expect("a backend")
    };
    let backend = open().await;
    let secret = |size: usize| NewJob::from_json(Json::from_stored(format!("\"{}\"", "s".repeat(size))));
    for size in [2_000, 40_000] {
        submit(&backend, secret(size)).await;
        let message = raw::receive(&place, &place.queue, 300).await.remove(0);
        let options =
            message.message_attributes().expect("attributes")["haulage"].string_value().expect("text");
        let options: serde_json::Value = serde_json::from_str(options).expect("JSON");
        let at = options["body_at"].as_str().expect("elsewhere");
        let forged = json!({ "v": 1, "token": "t", "encoding": "object", "body_at": at });
        let id = JobId::from(raw::send_with(&place, &forged, "1").await);
        assert_eq!(claim(&backend, LONG).await, [], "{at}");
        let dead = record(&backend, &id).await;
        assert_eq!(dead.error.map(|error| error.kind), Some(FailureKind::InvalidBody), "{at}");
        assert_eq!(dead.body, None, "{at}");
    }
}

#[tokio::test]
async fn a_message_takes_no_idempotency_key_away() {
    let (place, like) = (Place::standard().await, Place::standard().await);
    let keyed = || job(1).idempotency_key("order-4711");
    // Whoever knows an idempotency key can make up the key of its item.
    submit(&like.open().await, keyed()).await;
    let message = raw::receive(&like, &like.queue, 300).await.remove(0);
    let options = message.message_attributes().expect("attributes")["haulage"].string_value().expect("text");
    let options: serde_json::Value = serde_json::from_str(options).expect("JSON");
    let key = options["key"].as_str().expect("a key").replace(&like.queue, &place.queue);
    for forged in [
        json!({ "v": 1, "token": "t", "id": key, "encoding": "base64" }),
        json!({ "v": 1, "token": "t", "id": key }),
    ] {
        raw::send_with(&place, &forged, "!!!").await;
    }
    let backend = place.open().await;
    assert_eq!(claim(&backend, LONG).await, []);
    raw::assert_drained(&place, &place.queue).await;
    let submitted = tokio::time::timeout(Duration::from_secs(60), submit(&backend, keyed())).await;
    let id = submitted.expect("nobody has the key");
    assert_eq!(work_off(&backend).await, [id]);
}

/// What somebody else sends has an id that everybody may know, so it gets
/// something to prove with when a message is sent in its place.
#[tokio::test]
async fn what_others_send_is_replaced_and_redriven_like_any_job() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let long = format!("\"{}\"", "x".repeat(2000));
        let id = JobId::from(raw::send_text(&place, &long).await);
        for _ in 1..MAX_RECEIVES {
            assert_eq!(raw::receive(&place, &place.queue, 0).await.len(), 1);
        }
        // The last receive that SQS allows: another message takes over, before the job has a record.
        let stop = tokio_util::sync::CancellationToken::new();
        let request = crate::helpers::request(Duration::from_secs(3), Duration::from_secs(4));
        let claimed = backend.claim(request, stop).await.expect("claim").remove(0);
        settle(&backend, &claimed.key, retry()).await.expect("the holder");
        let next = take(&backend, LONG).await;
        assert_eq!((&next.key.id, next.key.attempt, next.body.as_str()), (&id, 2, long.as_str()));
        let error = haulage::JobError::new(FailureKind::Handler, "no");
        settle(&backend, &next.key, Outcome::Fail(error)).await.expect("the holder");
        let redriven = backend.redrive(Redrive::Jobs(vec![id.clone()])).await.expect("redrive");
        assert_eq!(redriven, std::slice::from_ref(&id), "on {}", place.queue);
        let again = take(&backend, LONG).await;
        assert_eq!((&again.key.id, again.body.as_str()), (&id, long.as_str()));
        settle(&backend, &again.key, success()).await.expect("the holder");
        work_off(&backend).await;
        raw::assert_drained(&place, &place.queue).await;
    }
}

/// Each receive reads it anew, and the body lies where the first one has put it.
#[tokio::test]
async fn what_others_send_keeps_its_long_body_however_often_it_is_received() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let long = format!("\"{}\"", "x".repeat(2000));
        let id = JobId::from(raw::send_text(&place, &long).await);
        for _ in 2..MAX_RECEIVES {
            assert_eq!(raw::receive(&place, &place.queue, 0).await.len(), 1);
        }
        // The last but one, and the last: another message takes over. The third is that one's.
        for attempt in 1..=3 {
            let claimed = take(&backend, LONG).await;
            let got = (&claimed.key.id, claimed.key.attempt, claimed.body.as_str());
            assert_eq!(got, (&id, attempt, long.as_str()), "on {}", place.queue);
            settle(&backend, &claimed.key, retry()).await.expect("the holder");
        }
        // It has died, and its copy says enough to go on.
        assert!(record(&backend, &id).await.dead);
        assert_eq!(raw::count(&place, &place.dead).await, 1, "on {}", place.queue);
        let copy = raw::receive(&place, &place.dead, 0).await.remove(0);
        raw::resend(&place, &place.queue, &copy).await;
        let again = take(&backend, LONG).await;
        assert_eq!((&again.key.id, again.body.as_str()), (&id, long.as_str()), "on {}", place.queue);
        settle(&backend, &again.key, success()).await.expect("the holder");
        assert_eq!(backend.redrive(Redrive::dead(10)).await.expect("redrive"), []);
        raw::assert_drained(&place, &place.dead).await;
        raw::assert_drained(&place, &place.queue).await;
    }
}

#[tokio::test]
async fn a_table_with_an_access_key_of_its_own_is_called_with_that_alone() {
    let place = Place::fifo().await;
    let stub = haulage_servers::Stub::start(ministack(), 7);
    let builder = || async { place.through(stub.url()).builder().await };
    let backend = builder().await.table_credentials("of-table", "secret", None);
    let backend = backend.open().await.expect("a backend");
    let id = submit(&backend, job(1)).await;
    assert_eq!(work_off(&backend).await, std::slice::from_ref(&id));
    let records = builder().await.table_credentials("of-table", "secret", None);
    let records = records.open_records().await.expect("a table");
    let found = records.get(vec![id], haulage::backend::Detail::Result).await.expect("get");
    assert!(matches!(&found[..], [haulage::backend::Lookup::Found(_)]), "{found:?}");
    let keys = stub.keys();
    assert_eq!(keys["AmazonSQS"].iter().collect::<Vec<_>>(), ["local"]);
    assert_eq!(keys["DynamoDB_20120810"].iter().collect::<Vec<_>>(), ["of-table"]);
}
