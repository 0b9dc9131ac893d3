//! Jobs that other programs send, and what they say of them: see docs/aws-messages.md.

use std::time::Duration;

use aws_sdk_sqs::types::MessageAttributeValue;
use haulage::{
    Backend, FailureKind, JobId, QueueName, Status,
    backend::{ClaimRequest, Claimed, Detail, Lookup},
};
use haulage_aws::{AwsBackend, RawBodies, Unwrap};

use crate::{
    helpers::{LONG, claim, record, request, settle, success, take, work_off},
    place::Place,
    raw::{assert_drained, count, item, receive},
};

pub(crate) async fn send(place: &Place, name: &str, body: &str, attributes: &[(&str, &str)]) -> JobId {
    let sqs = place.sqs().await;
    let url = sqs.get_queue_url().queue_name(name).send().await.expect("the queue").queue_url;
    let mut send = sqs.send_message().set_queue_url(url).message_body(body);
    for (name, value) in attributes {
        let value = MessageAttributeValue::builder().data_type("String").string_value(*value);
        send = send.message_attributes(*name, value.build().expect("a type"));
    }
    if name.ends_with(".fifo") {
        let unique = fastrand::u64(..).to_string();
        send = send.message_group_id(&unique).message_deduplication_id(&unique);
    }
    JobId::from(send.send().await.expect("sent").message_id.expect("its id"))
}

async fn take_from(backend: &AwsBackend, queue: &str) -> Claimed {
    let queue = QueueName::new(queue).expect("a name");
    let request: ClaimRequest = request(LONG, Duration::from_secs(120)).max(1).queues(queue, 0);
    backend.claim(request, Default::default()).await.expect("claim").pop().expect("a job")
}

#[tokio::test]
async fn plain_attributes_are_the_options_of_the_job() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let said = [
            ("haulage.request_id", "r-1"),
            ("haulage.max_attempts", "7"),
            ("haulage.task", "embed"),
            ("haulage.delay", "3"),
            ("unrelated", "x"),
        ];
        let since = backend.clock().now();
        let id = send(&place, &place.queue, "{\"n\": 1}", &said).await;
        let claimed = take(&backend, LONG).await;
        assert_eq!(claimed.key.id, id);
        assert!(backend.clock().now().since(since) >= Duration::from_secs(2), "SQS counts whole seconds");
        let spec = &claimed.spec;
        assert_eq!((spec.request_id.as_deref(), spec.task.as_deref()), (Some("r-1"), Some("embed")));
        assert_eq!(spec.max_attempts, 7);
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let record = record(&backend, &id).await;
        assert_eq!((record.status, record.spec.max_attempts), (Status::Success, 7));
    }
}

#[tokio::test]
async fn one_of_several_messages_with_a_key_is_the_job() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let key = [("haulage.key", "order-7")];
        let mut ids = Vec::new();
        for body in ["1", "1", "2"] {
            ids.push(send(&place, &place.queue, body, &key).await);
        }
        let done = work_off(&backend).await;
        assert_eq!(done.len(), 1, "{done:?}");
        assert!(ids.contains(&done[0]));
        assert_drained(&place, &place.queue).await;
        assert_eq!(count(&place, &place.dead).await, 0, "the others are dropped");
        // It is the same key that a submit has.
        let job = crate::helpers::job(1).idempotency_key("order-7");
        let answer = backend.submit(vec![job]).await.expect("submit").remove(0);
        match answer {
            Ok(same) => assert_eq!((same.id, same.duplicate), (done[0].clone(), true)),
            Err(haulage::Error::IdempotencyConflict { id, .. }) => assert_eq!(id, done[0]),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_message_for_another_queue_is_sent_on() {
    for place in [Place::fifo().await, Place::standard().await] {
        place.make_queue("bulk").await;
        let backend = place.open().await;
        let large = format!("\"{}\"", "x".repeat(2000));
        for body in ["[1]", &large] {
            let said = [("haulage.queue", "bulk"), ("haulage.request_id", "r-2")];
            let id = send(&place, &place.queue, body, &said).await;
            assert_eq!(claim(&backend, LONG).await, [], "it is no job of this queue");
            assert_drained(&place, &place.queue).await;
            assert_eq!(item(&place, &id).await["queue"].as_s().expect("text"), &place.named("bulk"));
            let claimed = take_from(&backend, "bulk").await;
            assert_eq!((&claimed.key.id, claimed.body.as_str()), (&id, body));
            assert_eq!(claimed.spec.request_id.as_deref(), Some("r-2"));
            settle(&backend, &claimed.key, success()).await.expect("the holder");
            assert_drained(&place, &place.named("bulk")).await;
        }
    }
}

#[tokio::test]
async fn what_no_submit_takes_is_recorded_and_kept_as_it_was() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = send(&place, &place.queue, "1", &[("haulage.max_attempts", "0")]).await;
    assert_eq!(claim(&backend, LONG).await, []);
    let record = record(&backend, &id).await;
    let error = record.error.expect("an error");
    assert_eq!((record.status, error.kind), (Status::Error, FailureKind::InvalidBody));
    assert!(error.message.contains("max_attempts is 0"), "{error:?}");
    let kept = receive(&place, &place.dead, 0).await.remove(0);
    let attributes = kept.message_attributes.expect("attributes");
    assert_eq!(attributes["haulage.max_attempts"].string_value(), Some("0"));
}

#[tokio::test]
async fn bodies_are_read_as_the_url_says() {
    let place = Place::standard().await;
    let mut unwrap = Unwrap::default();
    (unwrap.sns, unwrap.s3) = (true, true);
    let builder = place.builder().await.raw_bodies(RawBodies::Text).unwrap(unwrap);
    let backend = builder.open().await.expect("a backend");
    send(&place, &place.queue, "hello", &[]).await;
    let claimed = take(&backend, LONG).await;
    assert_eq!(claimed.body.as_str(), "\"hello\"");
    settle(&backend, &claimed.key, success()).await.expect("the holder");
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"in"}"#;
    let id = send(&place, &place.queue, test, &[]).await;
    assert_eq!(claim(&backend, LONG).await, []);
    assert_drained(&place, &place.queue).await;
    let found = backend.get(vec![id], Detail::Status).await.expect("get").remove(0);
    assert!(matches!(found, Lookup::Unrecorded { .. }), "{found:?}");
}
