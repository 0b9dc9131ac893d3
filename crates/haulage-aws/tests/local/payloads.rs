//! Bodies and results: where they go, and what is said where they cannot.

use std::{io, iter};

use haulage::{
    Backend, Error, FailureKind, Json, NewJob, Status,
    backend::{ClaimKey, Detail, Heartbeat, HeartbeatStatus, Lookup, Outcome, Purge, Update},
};
use haulage_aws::Compression;
use haulage_servers::{Stub, stub::Fault};

use crate::{
    helpers::{LONG, TRIES, claim, job, record, retry, settle, submit, success, take},
    place::{Place, bucket, ministack, sdk},
    raw,
};

fn document(bytes: usize) -> Json {
    Json::from_stored(format!("\"{}\"", "x".repeat(bytes - 2)))
}

async fn objects() -> Vec<String> {
    let config = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    let list = aws_sdk_s3::Client::from_conf(config).list_objects_v2().bucket(bucket().await).send().await;
    list.expect("a list").contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
}

#[tokio::test]
async fn small_ones_never_touch_the_bucket() {
    let place = Place::fifo().await;
    let builder = place.builder().await.bucket(bucket().await).keep_bodies(true);
    let backend = builder.open().await.expect("a backend");
    let body = document(8_000);
    let id = submit(&backend, NewJob::from_json(body.clone())).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, Outcome::Success(body.clone())).await.expect("the holder");
    let done = record(&backend, &id).await;
    assert_eq!((done.body, done.result), (Some(body.clone()), Some(body)));
    assert!(backend.usage().s3.is_empty(), "{:?}", backend.usage().s3);
}

#[tokio::test]
async fn large_ones_are_deleted_with_their_record() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let body = document(300_000);
    submit(&backend, NewJob::from_json(body.clone())).await;
    let claimed = take(&backend, LONG).await;
    assert_eq!(claimed.body, body);
    settle(&backend, &claimed.key, Outcome::Success(body)).await.expect("the holder");
    let of_queue =
        |keys: Vec<String>| keys.into_iter().filter(|key| key.contains(&place.queue)).collect::<Vec<_>>();
    let kept = of_queue(objects().await);
    assert_eq!(kept.len(), 2, "{kept:?}");
    // The lifecycle rules of the bucket go by this.
    let under = |prefix| kept.iter().filter(|key| key.starts_with(prefix)).count();
    assert_eq!((under("haulage/45d/"), under("haulage/8d/")), (1, 1), "body and result: {kept:?}");
    let query = Purge::status(Status::Success, std::time::Duration::ZERO);
    assert_eq!(backend.purge(query).await.expect("purge"), 1);
    assert_eq!(of_queue(objects().await), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_is_dropped_is_gone_and_a_second_message_of_its_submit_is_dropped_as_well() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
        for key in [None, Some("once")] {
            let mut job = NewJob::from_json(document(300_000)).drop_body();
            job.idempotency_key = key.map(str::to_owned);
            let id = submit(&backend, job).await;
            if key.is_some() {
                let message = raw::receive(&place, &place.queue, 0).await.remove(0);
                raw::resend(&place, &place.queue, &message).await;
            }
            let claimed = take(&backend, LONG).await;
            assert_eq!(claimed.key.id, id, "{key:?} on {}", place.queue);
            settle(&backend, &claimed.key, success()).await.expect("the holder");
            let done = record(&backend, &id).await;
            assert_eq!((done.status, done.body), (Status::Success, None));
            let left = objects().await.into_iter().filter(|key| key.contains(&place.queue));
            assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
            assert_eq!(claim(&backend, LONG).await, [], "it is over");
            raw::assert_drained(&place, &place.queue).await;
            assert_eq!(raw::count(&place, &place.dead).await, 0);
        }
    }
}

/// Who reads somebody else's bucket of this name is told so, and nothing is written there.
#[tokio::test]
async fn s3_is_told_with_each_call_whose_bucket_it_is() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let builder = place.through(stub.url()).builder().await.endpoint(stub.url());
    let builder = builder.bucket(bucket().await).bucket_owner(OWNER);
    let backend = builder.open().await.expect("a backend");
    let body = document(300_000);
    submit(&backend, NewJob::from_json(body.clone())).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, Outcome::Success(body)).await.expect("the holder");
    backend.purge(Purge::Jobs(vec![claimed.key.id])).await.expect("purge");
    backend.check().await.expect("findings");
    let expected = ["DELETE", "GET", "GET ?lifecycle", "HEAD", "PUT"];
    let expected = expected.map(|call| (call.to_owned(), Some(OWNER.to_owned()))).into();
    assert_eq!(stub.bucket_owners(), expected);
}

/// The account that ministack is.
const OWNER: &str = "000000000000";

#[tokio::test]
async fn a_result_of_a_lost_claim_leaves_nothing() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    submit(&backend, job(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, Outcome::release()).await.expect("the holder");
    let late = settle(&backend, &claimed.key, Outcome::Success(document(100_000))).await;
    assert!(matches!(late, Err(Error::LostClaim { .. })), "{late:?}");
    assert!(!objects().await.iter().any(|key| key.contains(&place.queue)));
}

#[tokio::test]
async fn a_result_that_is_gone_concerns_its_job_alone() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(submit(&backend, job(1)).await);
        let claimed = take(&backend, LONG).await;
        settle(&backend, &claimed.key, Outcome::Success(document(100_000))).await.expect("the holder");
    }
    let of_first = |key: &String| key.contains(&place.queue) && key.contains(ids[0].as_str());
    let key = objects().await.into_iter().find(of_first).expect("its result");
    let config = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    s3.delete_object().bucket(bucket().await).key(&key).send().await.expect("a delete");

    let backend = std::sync::Arc::new(backend);
    let producer = haulage::Producer::new(backend.clone());
    let lookups = backend.get(ids.clone(), haulage::backend::Detail::Result).await.expect("get");
    let [Lookup::Incomplete { message, for_good: true }, Lookup::Found(_)] = &lookups[..] else {
        panic!("{lookups:?}")
    };
    assert!(message.contains("is gone") && message.contains(ids[0].as_str()), "{message}");
    // A wait for it ends, and one for the other has its result.
    let error = producer.wait_all(&ids[..1], None).await.expect_err("no result");
    assert!(matches!(error, Error::Config(_)), "{error}");
    producer.wait_all(&ids[1..], None).await.expect("the other");
}

#[tokio::test]
async fn a_body_that_another_consumer_cannot_see_leaves_the_job_alone() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let id = submit(&backend, NewJob::from_json(document(300_000))).await;
    let message = crate::raw::receive(&place, &place.queue, 0).await.remove(0);
    let claimed = take(&backend, LONG).await;
    // Its message comes a second time, to a consumer that looks into another bucket.
    crate::raw::resend(&place, &place.queue, &crate::delivery::with_id(&message, &id)).await;
    let other = place.builder().await.bucket(other_bucket().await).open().await.expect("a backend");
    assert_eq!(crate::helpers::claim(&other, LONG).await, []);
    assert_eq!(crate::raw::count(&place, &place.queue).await, 2, "both messages are still there");
    settle(&backend, &claimed.key, crate::helpers::success()).await.expect("the holder");
    assert_eq!(record(&backend, &id).await.status, Status::Success);
}

async fn other_bucket() -> &'static str {
    let name = "haulage-test-other";
    let config = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    let _ = aws_sdk_s3::Client::from_conf(config).create_bucket().bucket(name).send().await;
    name
}

#[tokio::test]
async fn a_long_progress_is_cut() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1)).await;
    let claimed = take(&backend, LONG).await;
    let progress = Some(haulage::Progress { fraction: 0.5, message: Some("ä".repeat(300_000)) });
    let beat = haulage::backend::Heartbeat::new(claimed.key.clone(), LONG)
        .update(haulage::backend::Update::default().progress(progress));
    let status = backend.heartbeat(vec![beat]).await.expect("heartbeat")[0];
    assert!(matches!(status, haulage::backend::HeartbeatStatus::Held(_)), "{status:?}");
    let progress = record(&backend, &id).await.progress.expect("progress");
    assert_eq!((progress.fraction, progress.message.map(|text| text.len())), (0.5, Some(4096)));
    let limit = backend.capabilities().max_payload;
    settle(&backend, &claimed.key, Outcome::Success(document(limit))).await.expect("the holder");
    assert_eq!(record(&backend, &id).await.status, Status::Success);
}

#[tokio::test]
async fn limits_are_told_with_what_to_do() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let limit = backend.capabilities().max_payload;
    let error = backend.submit(vec![NewJob::from_json(document(limit + 1))]).await.expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("bucket=") && error.to_string().contains("350000"), "{error}");

    let id = submit(&backend, NewJob::from_json(document(limit))).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, Outcome::Success(document(limit + 1))).await.expect("the holder");
    let failed = record(&backend, &id).await.error.expect("why");
    assert_eq!(failed.kind, FailureKind::InvalidResult);
    assert!(failed.message.contains("bucket="), "{failed}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket("no-such-bucket").open().await.expect("a backend");
    let error = backend.submit(vec![NewJob::from_json(document(100_000))]).await.expect_err("no bucket");
    assert!(error.to_string().contains("bucket no-such-bucket: it does not exist"), "{error}");
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 0, "nothing is stored");

    // The job has run; what it has computed cannot be kept, and the record says so.
    let id = submit(&backend, job(1)).await;
    let claimed = take(&backend, LONG).await;
    let settled = settle(&backend, &claimed.key, Outcome::Success(document(100_000))).await;
    assert_eq!(settled.expect("the holder"), Status::Error);
    let failed = record(&backend, &id).await.error.expect("why");
    assert!(failed.message.contains("no-such-bucket"), "{failed}");
}

/// A body that cannot be had is the end of the attempt that was to run it, and is not read again and again.
#[tokio::test]
async fn a_body_that_is_gone_broken_or_huge_ends_its_job() {
    let place = Place::fifo().await;
    let builder = place.builder().await.bucket(bucket().await).compression(Compression::Zstd);
    let backend = builder.open().await.expect("a backend");
    let config = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    let huge = zstd::encode_all(io::Read::take(io::repeat(b'1'), (256 << 20) + 1), 1).expect("packed");
    for (instead, why) in [
        (None, "is gone"),
        (Some(b"hello".to_vec()), "Unknown frame descriptor"),
        (Some(huge), "larger than 268435456 bytes when it is unpacked"),
    ] {
        let mut random = fastrand::Rng::with_seed(7);
        let body: String = iter::repeat_with(|| random.alphanumeric()).take(100_000).collect();
        let id = submit(&backend, NewJob::from_json(Json::from_stored(format!("\"{body}\"")))).await;
        let key = objects().await.into_iter().find(|key| key.contains(&place.queue)).expect("an object");
        match instead {
            None => drop(s3.delete_object().bucket(bucket().await).key(key).send().await.expect("delete")),
            Some(bytes) => {
                let put = s3.put_object().bucket(bucket().await).key(&key).body(bytes.into());
                put.send().await.expect("put");
            }
        }
        assert_eq!(crate::helpers::claim(&backend, LONG).await, []);
        let lookup = backend.get(vec![id.clone()], Detail::Result).await.expect("get").remove(0);
        let record = lookup.into_record(&id).expect("a record");
        let error = record.error.expect("an error");
        assert_eq!((record.status, record.attempt, error.kind), (Status::Error, 1, FailureKind::InvalidBody));
        assert_eq!(record.worker.as_deref(), Some("tester"));
        assert!(error.message.contains(why), "{error}");
        backend.purge(Purge::Jobs(vec![id])).await.expect("purge");
    }
    raw::assert_drained(&place, &place.queue).await;
}

#[tokio::test]
async fn a_consumer_without_the_bucket_leaves_the_job_to_others() {
    let place = Place::fifo().await;
    let full = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let id = submit(&full, NewJob::from_json(document(100_000))).await;
    let poor = place.open().await;
    let wanted = crate::helpers::request(LONG, std::time::Duration::from_secs(2));
    let error = poor.claim(wanted, Default::default()).await.expect_err("no bucket").to_string();
    assert!(error.contains("add bucket="), "{error}");
    assert_eq!(take(&full, LONG).await.key.attempt, 1, "no attempt was used up");
    assert_eq!(record(&full, &id).await.attempt, 1);
}

/// Each heartbeat is paid for by what it writes.
#[tokio::test]
async fn a_large_checkpoint_is_beside_the_record_and_goes_with_the_job() {
    let place = Place::fifo().await;
    let items = async || {
        let scan = place.dynamodb().await.scan().table_name(&place.table).consistent_read(true);
        let items = scan.send().await.expect("scan").items.unwrap_or_default();
        let kept = items
            .iter()
            .filter(|item| item["message_id"].as_s().is_ok_and(|id| id.starts_with("checkpoint#")));
        kept.filter(|item| item.contains_key("body")).count()
    };
    let of_queue = async || {
        let objects = objects().await;
        objects.into_iter().filter(|key| key.contains(&place.queue) && key.contains("checkpoint-")).count()
    };
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let id = submit(&backend, job(1).max_attempts(9)).await;
    let claimed = take(&backend, LONG).await;
    let say = async |key: &ClaimKey, checkpoint: &Json| {
        let update = Update::default().checkpoint(checkpoint.clone()).expect("it fits");
        let beat = Heartbeat::new(key.clone(), LONG).update(update);
        backend.heartbeat(vec![beat]).await.expect("heartbeat");
    };
    for size in [5_000, 6_000] {
        say(&claimed.key, &document(size)).await;
        let record = record(&backend, &id).await;
        assert_eq!(record.checkpoint, Some(document(size)));
        assert!(!raw::item(&place, &id).await.contains_key("checkpoint"), "it is elsewhere");
    }
    // The next attempt has it, and leaves one that is larger still.
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    let claimed = take(&backend, LONG).await;
    assert_eq!(claimed.checkpoint, Some(document(6_000)));
    say(&claimed.key, &document(50_000)).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    assert_eq!((items().await, of_queue().await), (0, 1), "what it was before is gone");
    let claimed = take(&backend, LONG).await;
    assert_eq!(claimed.checkpoint, Some(document(50_000)));
    settle(&backend, &claimed.key, success()).await.expect("the holder");
    assert_eq!(record(&backend, &id).await.checkpoint, None);
    assert_eq!((items().await, of_queue().await), (0, 0));
}

/// A lease does not hang on where checkpoints are.
#[tokio::test]
async fn a_checkpoint_that_cannot_be_stored_yet_costs_no_lease_and_is_not_lost() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let through = place.through(stub.url());
    let backend = through.open().await;
    let id = submit(&backend, job(1)).await;
    let claimed = take(&backend, LONG).await;
    let beat = |update| Heartbeat::new(claimed.key.clone(), LONG).update(update);
    (0..TRIES).for_each(|_| stub.fail_next("BatchExecuteStatement", Fault::Error));
    let update = Update::default().checkpoint(document(5_000)).expect("it fits");
    let held = backend.heartbeat(vec![beat(update)]).await.expect("heartbeat");
    assert!(matches!(held[0], HeartbeatStatus::Held(_)), "{held:?}");
    assert_eq!(record(&backend, &id).await.checkpoint, None);
    backend.heartbeat(vec![beat(Update::default())]).await.expect("heartbeat");
    assert_eq!(record(&backend, &id).await.checkpoint, Some(document(5_000)));
}
