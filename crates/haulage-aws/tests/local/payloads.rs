//! Bodies and results: where they go, and what is said where they cannot.

use haulage::{
    Backend, Error, FailureKind, Json, NewJob, Status,
    backend::{Outcome, PurgeQuery},
};

use crate::{
    hands::{LONG, job, record, settle, submit, take},
    place::{Place, bucket, ministack, sdk},
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
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let body = document(30_000);
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
    assert!(kept.iter().all(|key| key.starts_with("haulage/45d/")), "{kept:?}");
    let query = PurgeQuery { status: Status::Success, older_than: std::time::Duration::ZERO };
    assert_eq!(backend.purge(query).await.expect("purge"), 1);
    assert_eq!(of_queue(objects().await), Vec::<String>::new());
}

#[tokio::test]
async fn a_result_of_a_lost_claim_leaves_nothing() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    submit(&backend, job(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, Outcome::Release).await.expect("the holder");
    let late = settle(&backend, &claimed.key, Outcome::Success(document(100_000))).await;
    assert!(matches!(late, Err(Error::LostClaim { .. })), "{late:?}");
    assert!(!objects().await.iter().any(|key| key.contains(&place.queue)));
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

#[tokio::test]
async fn a_body_that_is_gone_ends_its_job() {
    let place = Place::fifo().await;
    let backend = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let id = submit(&backend, NewJob::from_json(document(100_000))).await;
    let key = objects().await.into_iter().find(|key| key.contains(&place.queue)).expect("an object");
    let config = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    let delete = aws_sdk_s3::Client::from_conf(config).delete_object().bucket(bucket().await).key(key);
    delete.send().await.expect("delete");
    assert_eq!(crate::hands::claim(&backend, LONG).await, []);
    let lookup =
        backend.get(vec![id.clone()], haulage::backend::Detail::Result).await.expect("get").remove(0);
    let record = lookup.into_record(&id).expect("a record");
    assert_eq!(
        (record.status, record.error.map(|e| e.kind)),
        (Status::Error, Some(FailureKind::InvalidBody))
    );
}

#[tokio::test]
async fn a_consumer_without_the_bucket_leaves_the_job_to_others() {
    let place = Place::fifo().await;
    let full = place.builder().await.bucket(bucket().await).open().await.expect("a backend");
    let id = submit(&full, NewJob::from_json(document(100_000))).await;
    let poor = place.open().await;
    let wanted = crate::hands::request(LONG, std::time::Duration::from_secs(2));
    let error = poor.claim(wanted).await.expect_err("no bucket").to_string();
    assert!(error.contains("add bucket="), "{error}");
    assert_eq!(take(&full, LONG).await.key.attempt, 1, "no attempt was used up");
    assert_eq!(record(&full, &id).await.attempt, 1);
}
