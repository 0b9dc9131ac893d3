//! Records without a queue, and a look whether the queue answers.

use std::time::Duration;

use haulage::{
    Backend, JobError, JobId, Json, Record, Status,
    backend::{Detail, Lookup, Outcome},
};
use haulage_aws::{AwsBackend, OwnRecord, Records, Refusal};
use haulage_servers::{Stub, stub::Fault};

use crate::{
    doctor::recording,
    helpers::{LONG, job, settle, submit, take},
    place::{Place, sdk},
};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn look(records: &Records, id: &str) -> Lookup {
    records.get(vec![JobId::from(id)], Detail::Result).await.expect("get").remove(0)
}

pub(crate) async fn found(records: &Records, id: &str) -> Record {
    match look(records, id).await {
        Lookup::Found(record) => record,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn put(records: &Records, id: &str, own: OwnRecord, ttl: Duration) -> Result<(), Refusal> {
    records.put(JobId::from(id), own, None, ttl).await.expect("put")
}

#[tokio::test]
async fn one_goes_from_submitted_to_its_end_and_stays() {
    let place = Place::fifo().await;
    let records = place.builder().await.open_records().await.expect("a table");
    assert!(matches!(look(&records, "mine").await, Lookup::Missing));
    let id = JobId::from("mine");
    let first = records.put(id, OwnRecord::Submitted, Some("r-1".into()), DAY).await.expect("put");
    assert_eq!(first, Ok(()));
    assert_eq!(
        put(&records, "mine", OwnRecord::Submitted, DAY).await,
        Err(Refusal::Exists(Status::Submitted))
    );
    assert_eq!(put(&records, "mine", OwnRecord::InProgress, DAY).await, Ok(()));
    assert_eq!(found(&records, "mine").await.status, Status::InProgress);
    let result = Json::from_stored("[null]".to_owned());
    assert_eq!(put(&records, "mine", OwnRecord::Success(result.clone()), DAY).await, Ok(()));
    let late = put(&records, "mine", OwnRecord::Error("late".into()), DAY).await;
    assert_eq!(late, Err(Refusal::Exists(Status::Success)));
    let record = found(&records, "mine").await;
    assert_eq!(record.request_id(), "r-1");
    assert_eq!((record.status, record.result, record.error), (Status::Success, Some(result), None));
    assert!(record.expires_at > record.finished_at && record.finished_at.is_some());
    // It needs none before it.
    assert_eq!(put(&records, "other", OwnRecord::Error("no".into()), DAY).await, Ok(()));
    assert_eq!(found(&records, "other").await.error.expect("an error").message, "no");
    // No queue's job: neither counted nor listed.
    let stats = place.open().await.stats().await.expect("stats");
    assert_eq!((stats.success, stats.error, stats.unfinished()), (0, 0, 0));
}

#[tokio::test]
async fn one_that_has_expired_is_made_anew() {
    let place = Place::fifo().await;
    let records = place.builder().await.open_records().await.expect("a table");
    for (id, own) in [("waits", OwnRecord::Submitted), ("runs", OwnRecord::InProgress)] {
        let old = OwnRecord::Error("old".into());
        let first = records.put(JobId::from(id), old, Some("r-old".into()), Duration::ZERO).await;
        assert_eq!(first.expect("put"), Ok(()));
        assert!(matches!(look(&records, id).await, Lookup::Expired));
        let between = format!("after-{id}");
        assert_eq!(put(&records, &between, OwnRecord::Submitted, DAY).await, Ok(()));
        let between = found(&records, &between).await.submitted_at;
        assert_eq!(put(&records, id, own.clone(), DAY).await, Ok(()));
        let record = found(&records, id).await;
        assert_eq!((&record.error, record.finished_at, record.request_id()), (&None, None, id));
        assert!(record.submitted_at >= between, "{own:?}: {}", record.submitted_at);
        // From here on it keeps them.
        assert_eq!(put(&records, id, OwnRecord::Error("no".into()), DAY).await, Ok(()));
        assert_eq!(found(&records, id).await.submitted_at, record.submitted_at);
    }
}

#[tokio::test]
async fn a_long_error_is_cut_like_a_jobs() {
    let place = Place::fifo().await;
    let records = place.builder().await.open_records().await.expect("a table");
    let traceback = format!("{}ValueError: no", "ä".repeat(300_000));
    assert_eq!(put(&records, "mine", OwnRecord::Error(traceback), DAY).await, Ok(()));
    let message = found(&records, "mine").await.error.expect("an error").message;
    assert!(message.len() <= JobError::MAX_BYTES && message.ends_with("äValueError: no"), "{message}");
}

#[tokio::test]
async fn those_of_jobs_are_read_and_never_written() {
    let place = Place::fifo().await;
    let (backend, records) =
        (place.open().await, place.builder().await.open_records().await.expect("a table"));
    let id = submit(&backend, job(4)).await;
    assert_eq!(found(&records, id.as_str()).await.status, Status::Submitted);
    for own in [OwnRecord::Submitted, OwnRecord::InProgress, OwnRecord::Error("no".into())] {
        assert_eq!(put(&records, id.as_str(), own, DAY).await, Err(Refusal::Job));
    }
    let claimed = take(&backend, LONG).await;
    let result = Json::from_stored("8".to_owned());
    settle(&backend, &claimed.key, Outcome::Success(result.clone())).await.expect("the holder");
    let record = found(&records, id.as_str()).await;
    assert_eq!((record.status, record.result), (Status::Success, Some(result)));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_no_refusal() {
    let place = Place::fifo().await;
    let stub = Stub::start(&place.dynamodb_url, 1);
    let records = place.through(stub.url()).builder().await.open_records().await.expect("a table");
    stub.fail_next("UpdateItem", Fault::LostAnswer);
    assert_eq!(put(&records, "mine", OwnRecord::Submitted, DAY).await, Ok(()));
    assert_eq!(found(&records, "mine").await.status, Status::Submitted);
}

#[tokio::test]
async fn a_ping_asks_the_queue_and_the_table() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    backend.ping().await.expect("both are there");
    let sqs = place.sqs().await;
    sqs.delete_queue().queue_url(backend.queue_url()).send().await.expect("deleted");
    let error = backend.ping().await.expect_err("the queue is gone").to_string();
    assert!(error.contains(&format!("reach queue {}", place.queue)), "{error}");
}

#[tokio::test]
async fn whoever_looks_again_and_again_asks_for_what_costs_half() {
    let (url, calls) = recording(&[]).await;
    let backend = AwsBackend::builder("jobs").sdk_config(sdk(&url).await).open().await.expect("a backend");
    let reads = async |peek: bool| {
        calls.lock().expect("no test panics with it").clear();
        let ids = vec![JobId::from("no-such-job")];
        let found = match peek {
            true => backend.peek(ids, Detail::Status).await.expect("peek"),
            false => backend.get(ids, Detail::Status).await.expect("get"),
        };
        assert_eq!(found, [Lookup::Missing]);
        let calls = calls.lock().expect("no test panics with it").clone();
        let reads = calls.iter().filter(|(operation, _)| operation == "BatchGetItem");
        reads.map(|(_, body)| body.contains(r#""ConsistentRead":true"#)).collect::<Vec<_>>()
    };
    assert_eq!(reads(false).await, [true]);
    // What does not seem to be there is asked for once more, as it is now.
    assert_eq!(reads(true).await, [false, true]);
}
