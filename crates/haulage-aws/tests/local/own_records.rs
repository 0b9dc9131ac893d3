//! Records of a program's own, beside the jobs of a queue.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Backend, Error, FailureKind, JobError, JobId, Json, NewJob, Status,
    backend::{Cancellation, ListQuery, Lookup, Outcome, Purge, Redrive},
};
use haulage_aws::{OwnRecord, Records, Refusal};
use serde_json::{Value, json};

use crate::{
    helpers::{LONG, claim, record, request, settle, submit, success, take},
    place::{Place, bucket, ministack, sdk},
    raw,
    records::{DAY, found, look, put},
};

/// In 2026 and in 2100, in seconds.
const LONG_AGO: u64 = 1_767_225_600;
const NEVER: u64 = 4_102_444_800;

async fn records(place: &Place) -> Records {
    place.builder().await.open_records().await.expect("a table")
}

/// A record as the programs of the compatible kind write it.
async fn put_foreign(place: &Place, id: &str, status: &str, expiration: u64) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = place.dynamodb().await.put_item().table_name(&place.table);
    put.item("message_id", text(id))
        .item("status", text(status))
        .item("request_id", text("r-1"))
        .item("updated_at", AttributeValue::N("1735689600".into()))
        .item("expiration", AttributeValue::N(expiration.to_string()))
        .send()
        .await
        .expect("an item");
}

#[tokio::test]
async fn nothing_that_is_done_to_jobs_is_done_to_them() {
    let place = Place::fifo().await;
    let (backend, records) = (place.open().await, records(&place).await);
    let all = [
        ("waits", OwnRecord::Submitted, Status::Submitted),
        ("runs", OwnRecord::InProgress, Status::InProgress),
        ("failed", OwnRecord::Error("no".into()), Status::Error),
    ];
    for (id, own, status) in all {
        assert_eq!(put(&records, id, own, DAY).await, Ok(()));
        let before = found(&records, id).await;
        let ids = vec![JobId::from(id)];
        assert_eq!(backend.cancel(ids.clone()).await.expect("cancel"), [Cancellation::Missing], "{id}");
        assert_eq!(backend.redrive(Redrive::Jobs(ids.clone())).await.expect("redrive"), [], "{id}");
        let after = ListQuery::new().before(ids[0].clone());
        let listed = backend.list(after).await;
        assert!(matches!(&listed, Err(Error::NotFound(of)) if *of == ids[0]), "{listed:?}");
        assert_eq!(found(&records, id).await, before);
        assert_eq!(before.status, status);
    }
    assert_eq!(backend.redrive(Redrive::dead(10)).await.expect("redrive"), []);
}

#[tokio::test]
async fn one_whose_time_is_over_does_not_die() {
    let place = Place::fifo().await;
    let (backend, records) = (place.open().await, records(&place).await);
    assert_eq!(put(&records, "mine", OwnRecord::InProgress, Duration::ZERO).await, Ok(()));
    put_foreign(&place, "theirs", "in_progress", LONG_AGO).await;
    for (id, cancel) in [("mine", true), ("theirs", true), ("mine", false), ("theirs", false)] {
        let ids = vec![JobId::from(id)];
        if cancel {
            assert_eq!(backend.cancel(ids).await.expect("cancel"), [Cancellation::Missing]);
        } else {
            assert_eq!(backend.redrive(Redrive::Jobs(ids)).await.expect("redrive"), []);
        }
    }
    for id in ["mine", "theirs"] {
        assert!(matches!(look(&records, id).await, Lookup::Expired), "{id}");
        assert_eq!(put(&records, id, OwnRecord::Submitted, DAY).await, Ok(()));
        assert_eq!(found(&records, id).await.status, Status::Submitted);
    }
}

/// The programs from before Haulage take a status that they do not know for an error,
/// and a time that is not in seconds for one that cannot be read.
#[tokio::test]
async fn other_programs_can_read_the_records_of_jobs() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let seconds = || SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let began = seconds();
    let read = async |id: &JobId| {
        let mut item = raw::item(&place, id).await;
        let mut number =
            |name: &str| -> Option<u64> { item.remove(name)?.as_n().expect("a number").parse().ok() };
        let (updated_at, expiration) = (number("updated_at").expect("a moment"), number("expiration"));
        assert!((began..=seconds()).contains(&updated_at), "{updated_at} is not since {began}");
        let text = |name: &str| item.get(name).map(|value| value.as_s().expect("text").clone());
        (text("status").expect("a status"), text("result"), text("request_id"), expiration)
    };
    let request = Some("r-1".to_owned());
    let id = submit(&backend, NewJob::from_json(Json::from_stored("1")).request_id("r-1")).await;
    let (status, result, request_id, _) = read(&id).await;
    assert_eq!((status.as_str(), result, request_id), ("submitted", None, request.clone()));
    let claimed = take(&backend, LONG).await;
    assert_eq!(read(&id).await, ("in_progress".to_owned(), None, request.clone(), None));
    let done = Outcome::Success(Json::from_stored(r#"{"n":[1]}"#));
    settle(&backend, &claimed.key, done).await.expect("the holder");
    let (status, result, request_id, expiration) = read(&id).await;
    assert_eq!((status.as_str(), result.as_deref(), request_id), ("success", Some(r#"{"n":[1]}"#), request));
    let kept = expiration.expect("a time to live") - began;
    assert!((NewJob::DEFAULT_RESULT_TTL.as_secs()..30 * 86_400).contains(&kept), "{kept} s");
}

/// What the client of the package from before Haulage makes of an item: its result, or why it cannot read it.
fn read_as_before(item: &HashMap<String, AttributeValue>) -> Result<Value, &'static str> {
    let text = |name: &str| item.get(name).map(|value| value.as_s().expect("text").as_str());
    let seconds = |name: &str| {
        item.get(name).map(|value| value.as_n().expect("a number").parse::<f64>().expect("a number"))
    };
    if !["submitted", "in_progress", "success", "error"].contains(&text("status").ok_or("no status")?) {
        return Err("an unknown status");
    }
    // Of a moment after the year 9999 there is no `datetime`.
    if [seconds("updated_at").ok_or("no moment")?, seconds("expiration").unwrap_or(0.0)]
        .iter()
        .any(|moment| !(0.0..253_402_300_800.0).contains(moment))
    {
        return Err("no moment in seconds");
    }
    let Some(result) = text("result") else { return Err("no result") };
    let result: Value = serde_json::from_str(result).map_err(|_| "a result that is not JSON")?;
    if text("error").is_some() {
        return Err("a result and an error");
    }
    if seconds("expiration").is_some() {
        return Err("a result that expires");
    }
    Ok(result)
}

/// `keep_successes` is for that client, as long as it reads a table that Haulage writes.
#[tokio::test]
async fn successes_that_are_kept_can_be_read_by_the_package_from_before() {
    let place = Place::fifo().await;
    for keep in [false, true] {
        let builder = async || place.builder().await.keep_successes(keep);
        let backend = builder().await.open().await.expect("a backend");
        let records = builder().await.open_records().await.expect("a table");
        let expected = if keep { Ok(json!({"n": [1]})) } else { Err("a result that expires") };
        let result = Json::from_stored(r#"{"n":[1]}"#);

        // Its own producer has written a record before the message came, with an `expiration`.
        let message = JobId::from(raw::send_text(&place, "1").await);
        put_foreign(&place, message.as_str(), "submitted", NEVER).await;
        let job = submit(&backend, NewJob::from_json(Json::from_stored("1"))).await;
        for _ in [&message, &job] {
            let claimed = take(&backend, LONG).await;
            settle(&backend, &claimed.key, Outcome::Success(result.clone())).await.expect("the holder");
        }
        let own = JobId::from(format!("own-{keep}"));
        assert_eq!(put(&records, own.as_str(), OwnRecord::InProgress, DAY).await, Ok(()));
        assert_eq!(put(&records, own.as_str(), OwnRecord::Success(result), DAY).await, Ok(()));
        for id in [message, job, own] {
            assert_eq!(read_as_before(&raw::item(&place, &id).await), expected, "{id}");
            // To Haulage, it has the end that it had.
            assert!(found(&records, id.as_str()).await.expires_at.is_some(), "{id}");
        }

        // What failed is deleted in time.
        let failed = submit(&backend, NewJob::from_json(Json::from_stored("1"))).await;
        let claimed = take(&backend, LONG).await;
        let error = JobError::new(FailureKind::Handler, "no");
        settle(&backend, &claimed.key, Outcome::Fail(error)).await.expect("the holder");
        assert!(raw::item(&place, &failed).await.contains_key("expiration"));
    }
    // A purge finds those that DynamoDB leaves, and lets it delete them.
    let backend = place.open().await;
    let purge = Purge::Status { status: Status::Success, older_than: Duration::ZERO, queue: None };
    backend.purge(purge).await.expect("a purge");
    assert_eq!(backend.stats().await.expect("stats").success, 0);
}

#[tokio::test]
async fn a_message_with_its_id_makes_it_the_record_of_that_job() {
    for place in [Place::fifo().await, Place::standard().await] {
        let (backend, records) = (place.open().await, records(&place).await);
        let body = format!("\"{}\"", "x".repeat(2000));
        let all = [
            Ok((OwnRecord::Submitted, DAY)),
            Ok((OwnRecord::InProgress, DAY)),
            Ok((OwnRecord::Submitted, Duration::ZERO)),
            // As the package from before Haulage writes them.
            Err("submitted"),
            Err("in_progress"),
        ];
        for own in &all {
            let id = JobId::from(raw::send_text(&place, &body).await);
            match own.clone() {
                Ok((own, ttl)) => {
                    let written = records.put(id.clone(), own, Some("r-1".into()), ttl).await;
                    assert_eq!(written.expect("put"), Ok(()));
                }
                Err(status) => put_foreign(&place, id.as_str(), status, NEVER).await,
            }
            let claimed = take(&backend, LONG).await;
            assert_eq!((&claimed.key.id, claimed.key.attempt, claimed.counted), (&id, 1, 1), "{own:?}");
            assert_eq!((claimed.request_id(), claimed.body.as_str()), ("r-1", body.as_str()));
            // From now on its consumer alone writes it, and whatever concerns jobs concerns it.
            assert_eq!(put(&records, id.as_str(), OwnRecord::InProgress, DAY).await, Err(Refusal::Job));
            assert_eq!(
                backend.cancel(vec![id.clone()]).await.expect("cancel"),
                [Cancellation::Requested],
                "{own:?}"
            );
            settle(&backend, &claimed.key, success()).await.expect("the holder");
            let done = record(&backend, &id).await;
            assert_eq!((done.status, done.request_id()), (Status::Success, "r-1"));
            assert_eq!(done.body, None, "its message alone had it");
        }
        assert_eq!(backend.stats().await.expect("stats").success, all.len() as u64);
        raw::assert_drained(&place, &place.queue).await;
    }
}

#[tokio::test]
async fn a_job_whose_record_could_not_be_written_takes_over_what_stands_for_it() {
    for place in [Place::fifo().await, Place::standard().await] {
        let (backend, records) = (place.open().await, records(&place).await);
        let options = |job: NewJob| job.max_attempts(1).request_id("r-2").result_ttl(2 * DAY);
        let id = submit(&backend, options(NewJob::from_json(Json::from_stored("[1]")))).await;
        let delete = place.dynamodb().await.delete_item().table_name(&place.table);
        let delete = delete.key("message_id", AttributeValue::S(id.to_string()));
        delete.send().await.expect("a delete");
        assert_eq!(put(&records, id.as_str(), OwnRecord::Submitted, DAY).await, Ok(()));
        let claimed = take(&backend, LONG).await;
        assert_eq!((&claimed.key.id, claimed.spec.max_attempts), (&id, 1));
        assert_eq!(claimed.request_id(), "r-2");
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let done = record(&backend, &id).await;
        let kept = done.expires_at.expect("an end").since(done.finished_at.expect("an end"));
        assert_eq!(kept, 2 * DAY);
    }
}

#[tokio::test]
async fn a_message_of_one_that_is_over_is_done_with() {
    for place in [Place::fifo().await, Place::standard().await] {
        let (backend, records) = (place.open().await, records(&place).await);
        let id = JobId::from(raw::send_text(&place, "1").await);
        let own = OwnRecord::Success(Json::from_stored("2"));
        assert_eq!(put(&records, id.as_str(), own, DAY).await, Ok(()));
        let before = found(&records, id.as_str()).await;
        assert_eq!(claim(&backend, LONG).await, []);
        assert_eq!(found(&records, id.as_str()).await, before);
        raw::assert_drained(&place, &place.queue).await;
    }
}

#[tokio::test]
async fn a_message_with_its_id_that_cannot_run_is_recorded_as_an_error() {
    let place = Place::fifo().await;
    let bucket = bucket().await;
    let backend = place.builder().await.bucket(bucket).open().await.expect("a backend");
    let records = records(&place).await;
    let no_json = JobId::from(raw::send_text(&place, "hello").await);
    // Its record is of the program from before, which leaves no mark.
    let unmarked = JobId::from(raw::send_text(&place, "hello again").await);
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let put_item = place.dynamodb().await.put_item().table_name(&place.table);
    let put_item = put_item.item("message_id", text(unmarked.as_str())).item("status", text("submitted"));
    put_item.send().await.expect("an item");
    // Its body is in the bucket, and then is gone; so is its record.
    let large = Json::from_stored(format!("\"{}\"", "x".repeat(100_000)));
    let no_body = submit(&backend, NewJob::from_json(large)).await;
    let config = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    let list = s3.list_objects_v2().bucket(bucket).send().await.expect("a list");
    let mut keys = list.contents().iter().filter_map(|object| object.key());
    let key = keys.find(|key| key.contains(&place.queue)).expect("an object");
    s3.delete_object().bucket(bucket).key(key).send().await.expect("a delete");
    let delete = place.dynamodb().await.delete_item().table_name(&place.table);
    let delete = delete.key("message_id", AttributeValue::S(no_body.to_string()));
    delete.send().await.expect("a delete");

    for id in [&no_json, &no_body] {
        assert_eq!(put(&records, id.as_str(), OwnRecord::InProgress, DAY).await, Ok(()));
    }
    let claimed =
        backend.claim(request(LONG, Duration::from_secs(4)), Default::default()).await.expect("claim");
    assert_eq!(claimed, []);
    for id in [no_json, no_body, unmarked] {
        let record = found(&records, id.as_str()).await;
        let kind = record.error.map(|error| error.kind);
        assert_eq!((record.status, kind), (Status::Error, Some(FailureKind::InvalidBody)), "{id}");
        assert_eq!(put(&records, id.as_str(), OwnRecord::Submitted, DAY).await, Err(Refusal::Job));
    }
    raw::assert_drained(&place, &place.queue).await;
    assert_eq!(backend.stats().await.expect("stats").error, 3);
}
