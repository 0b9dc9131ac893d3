//! States of Step Functions that wait for jobs: see terraform/modules/task_tokens.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    FailureKind, JobError, JobId, Json, NewJob,
    backend::{Claimed, HeartbeatStatus, Outcome},
};
use haulage_aws::{AwsBackend, Compression};
use serde_json::{Value, json};

use crate::{
    helpers::{LONG, beat, claim, settle, submit, take},
    other_programs::send,
    place::{Place, bucket, server},
    raw::item,
};

/// The state machine that answers tokens, and what it is tried on: with the JSONata of
/// Step Functions, by terraform/tests/task_tokens.py.
const MACHINE: &str = "terraform/modules/task_tokens/definition.json";
const RECORDS: &str = "terraform/tests/records.json";
const TOKEN: &str = "AQCEAAAAKgAAAAMAAAAAAAAAAQ==";
const WHOLE: &str = r#"{"n":9223372036854775807,"text":"a \"quote\", ü","null":null}"#;

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).expect(path)
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Fail(JobError::new(kind, message))
}

/// A record in the form that the stream has it in.
fn as_json(item: HashMap<String, AttributeValue>) -> serde_json::Map<String, Value> {
    let values = item.into_iter().filter_map(|(name, value)| {
        let value = match value {
            AttributeValue::S(text) => json!({ "S": text }),
            AttributeValue::N(number) => json!({ "N": number }),
            AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
            AttributeValue::B(_) => json!({ "B": "AA==" }),
            _ => return None,
        };
        Some((name, value))
    });
    values.collect()
}

/// What is the same in each run of this test.
async fn lasting(place: &Place, name: &str, id: &JobId) -> Value {
    const READ: [&str; 8] =
        ["message_id", "status", "queue", "task_token", "result", "result_at", "error", "error_kind"];
    let mut record = as_json(item(place, id).await);
    record.retain(|name, _| READ.contains(&name.as_str()));
    record.insert("message_id".into(), json!({ "S": format!("job {name}") }));
    record.insert("queue".into(), json!({ "S": "jobs.fifo" }));
    if record.contains_key("result_at") {
        record.insert("result_at".into(), json!({ "S": "s3:haulage/result.json" }));
    }
    record.into()
}

async fn with_token(place: &Place, backend: &AwsBackend) -> Claimed {
    send(place, &place.queue, "1", &[("haulage.metadata.task_token", TOKEN)]).await;
    let claimed = take(backend, LONG).await;
    assert_eq!(claimed.spec.metadata.get("task_token").map(String::as_str), Some(TOKEN));
    claimed
}

#[tokio::test]
async fn the_state_machine_is_tried_on_records_as_they_are() {
    let place = Place::fifo().await;
    let plain = place.open().await;
    let builder = place.builder().await.bucket(bucket().await).compression(Compression::None);
    let bucketed = builder.open().await.expect("a backend");
    let packing = place.builder().await.compression(Compression::Zstd).open().await.expect("a backend");
    let document = |bytes| Json::from_stored(format!("\"{}\"", "x".repeat(bytes)));
    let mut records = serde_json::Map::new();
    for (name, backend, outcome) in [
        ("success", &plain, Outcome::Success(Json::from_stored(WHOLE))),
        ("falsy", &plain, Outcome::Success(Json::from_stored("null"))),
        ("in the bucket", &bucketed, Outcome::Success(document(300_000))),
        ("compressed", &packing, Outcome::Success(document(2000))),
        ("error", &plain, failed(FailureKind::Handler, "it broke: \"so\"\n")),
        ("timeout", &plain, failed(FailureKind::Timeout, "it ran for longer than 1 s")),
        ("cancelled", &plain, Outcome::Cancelled),
    ] {
        let claimed = with_token(&place, backend).await;
        settle(backend, &claimed.key, outcome).await.expect("the holder");
        records.insert(name.into(), lasting(&place, name, &claimed.key.id).await);
    }
    let said = [("haulage.metadata.task_token", TOKEN), ("haulage.max_attempts", "0")];
    let id = send(&place, &place.queue, "1", &said).await;
    assert_eq!(claim(&plain, LONG).await, [], "it is not a job");
    records.insert("not a job".into(), lasting(&place, "not a job", &id).await);

    let id = submit(&plain, NewJob::from_json(document(1)).metadata("task_token", TOKEN)).await;
    records.insert("waiting".into(), lasting(&place, "waiting", &id).await);
    let claimed = take(&plain, LONG).await;
    records.insert("running".into(), lasting(&place, "running", &id).await);
    settle(&plain, &claimed.key, Outcome::Cancelled).await.expect("the holder");
    let id = submit(&plain, NewJob::from_json(document(1)).metadata("user", "anna")).await;
    let claimed = take(&plain, LONG).await;
    settle(&plain, &claimed.key, Outcome::Success(Json::from_stored("1"))).await.expect("the holder");
    records.insert("no token".into(), lasting(&place, "no token", &id).await);

    let now = serde_json::to_string_pretty(&records).expect("JSON") + "\n";
    if std::env::var_os("HAULAGE_UPDATE_DOCS").is_some() {
        std::fs::write(file(RECORDS), &now).expect(RECORDS);
    }
    assert_eq!(now, read(RECORDS), "HAULAGE_UPDATE_DOCS=1 writes {RECORDS} anew");
}

fn states(verb: &str, body: &Value) -> Value {
    server().call(&format!("AWSStepFunctions.{verb}"), body)
}

fn make(name: &str, kind: &str, definition: &str) -> Value {
    let role = "arn:aws:iam::000000000000:role/states";
    let made = json!({ "name": name, "type": kind, "definition": definition, "roleArn": role });
    states("CreateStateMachine", &made)["stateMachineArn"].clone()
}

/// What the pipe does with each change of a record.
async fn tell(machine: &Value, place: &Place, id: &JobId) {
    let record = json!([{ "dynamodb": { "NewImage": as_json(item(place, id).await) } }]);
    let execution =
        states("StartSyncExecution", &json!({ "stateMachineArn": machine, "input": record.to_string() }));
    assert_eq!(execution["status"], "SUCCEEDED", "{execution}");
}

async fn end_of(execution: &Value) -> Value {
    loop {
        let told = states("DescribeExecution", &json!({ "executionArn": execution }));
        if told["status"] != "RUNNING" {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The example of docs/deploy.md, as it stands there.
#[tokio::test]
async fn a_state_waits_for_its_job_and_goes_on_with_what_became_of_it() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let page = read("docs/deploy.md");
    let section = page.split("## Step Functions that wait for jobs").nth(1).expect("the section");
    let example = section.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let queue = place.sqs().await.get_queue_url().queue_name(&place.queue).send().await.expect("the queue");
    let url = "https://sqs.eu-central-1.amazonaws.com/123456789012/prod.fifo";
    let example = example.expect("an example").replace(url, &queue.queue_url.expect("its URL"));
    let waiting = make(&place.table, "STANDARD", &example);
    let answering = make(
        &format!("{}-task-tokens", place.table),
        "EXPRESS",
        &read(MACHINE).replace("${partition}", "aws"),
    );
    let start = |name: &str| {
        let started =
            json!({ "stateMachineArn": waiting, "name": name, "input": "{\"audio\": \"s3://in/1.wav\"}" });
        states("StartExecution", &started)["executionArn"].clone()
    };

    let execution = start("well");
    let claimed = take(&backend, LONG).await;
    assert_eq!(claimed.body.as_str(), "{\"audio\": \"s3://in/1.wav\"}");
    assert_eq!((claimed.request_id(), claimed.spec.group.as_deref()), ("well", Some("well")));
    let id = claimed.key.id.clone();
    tell(&answering, &place, &id).await;
    assert!(matches!(beat(&backend, &claimed.key, LONG).await, HeartbeatStatus::Held(_)));
    tell(&answering, &place, &id).await;
    settle(&backend, &claimed.key, Outcome::Success(Json::from_stored(WHOLE))).await.expect("the holder");
    tell(&answering, &place, &id).await;
    let end = end_of(&execution).await;
    assert_eq!(end["status"], "SUCCEEDED", "{end}");
    let output: Value = serde_json::from_str(end["output"].as_str().expect("an output")).expect("JSON");
    assert_eq!(output["n"], json!(i64::MAX), "{output}");
    // The record changes once more, and nobody waits.
    tell(&answering, &place, &id).await;

    let execution = start("badly");
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, failed(FailureKind::Handler, "it broke")).await.expect("the holder");
    tell(&answering, &place, &claimed.key.id).await;
    let end = end_of(&execution).await;
    assert_eq!(
        (&end["status"], &end["error"], &end["cause"]),
        (&json!("FAILED"), &json!("handler"), &json!("it broke"))
    );
}
