//! Permissions, probed one by one, by calls that change nothing. The one
//! exception is the bucket, to which a small object is written that is deleted
//! again.
//!
//! Policies may distinguish more finely than a probe can: by item, by object or
//! by condition.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum as Code, BatchStatementRequest, KeysAndAttributes,
};
use aws_sdk_sqs::Client as Sqs;
use haulage::backend::Finding;

use super::verdict::{Passed, Probes, Refusal, Who, judge};
use crate::{
    config::Config,
    queue_name::prefix,
    schema::{
        name::{self, DEAD_LETTERS, WEBHOOKS},
        object_retention::{KEEP_DAYS, prefix as objects_of},
    },
    state::Inner,
};

/// A key that no record has.
const NOBODY: &str = "doctor#probe";
/// A receipt that no message has.
const RECEIPT: &str = "haulage-doctor";

/// What SQS says of an empty batch, of a receive of no messages, and of a
/// receipt that it has not given.
const EMPTY: Passed = Passed::ByContent(&["EmptyBatchRequest", "InvalidParameterValue", "MissingParameter"]);
const NONE: Passed = Passed::ByContent(&["ReadCountOutOfRange", "InvalidParameterValue"]);
const BOGUS: Passed =
    Passed::ByContent(&["ReceiptHandleIsInvalid", "InvalidParameterValue", "MessageNotInflight"]);
/// What DynamoDB says where a condition does not hold.
const CONDITION: Passed = Passed::ByCondition(&["ConditionalCheckFailedException"]);

pub(super) async fn probe(inner: &Inner) -> Vec<Finding> {
    let mut findings = queue(inner).await;
    findings.extend(dead_letters(inner).await);
    findings.extend(table(inner).await);
    findings
}

/// An empty batch sends nothing.
async fn may_send(probes: &mut Probes, sqs: &Sqs, url: &str, who: Who) {
    let call = sqs.send_message_batch().queue_url(url).set_entries(Some(Vec::new())).send();
    probes.add("sqs:SendMessage", who, EMPTY, call).await;
}

/// None of these receives, deletes or shows a message.
async fn may_receive(probes: &mut Probes, sqs: &Sqs, url: &str, who: Who) {
    // Should a server take none for one, it shows again at once.
    let call = sqs.receive_message().queue_url(url).max_number_of_messages(0).visibility_timeout(0).send();
    probes.add("sqs:ReceiveMessage", who, NONE, call).await;
    let call = sqs.delete_message().queue_url(url).receipt_handle(RECEIPT).send();
    probes.add("sqs:DeleteMessage", who, BOGUS, call).await;
    let call = sqs.change_message_visibility().queue_url(url).receipt_handle(RECEIPT);
    probes.add("sqs:ChangeMessageVisibility", who, BOGUS, call.visibility_timeout(0).send()).await;
}

async fn queue(inner: &Inner) -> Vec<Finding> {
    let (sqs, queue) = (inner.queues.default().client(), inner.queues.default());
    let mut probes = Probes::of(format!("queue {}", queue.name));
    // A queue that is named by its URL is not looked up.
    if !is_url(&inner.config) {
        let call = sqs.get_queue_url().queue_name(&queue.name).send();
        probes.add("sqs:GetQueueUrl", Who::Both, Passed::Never, call).await;
    }
    let call = sqs.get_queue_attributes().queue_url(&queue.url).send();
    probes.add("sqs:GetQueueAttributes", Who::Both, Passed::Never, call).await;
    // Named ones are found by it.
    let call = sqs.list_queues().queue_name_prefix(prefix(&queue.name)).max_results(1).send();
    probes.add("sqs:ListQueues", Who::Operators, Passed::Never, call).await;
    may_send(&mut probes, sqs, &queue.url, Who::Both).await;
    may_receive(&mut probes, sqs, &queue.url, Who::Consumers).await;
    probes.findings()
}

fn is_url(config: &Config) -> bool {
    config.queue.contains("://")
}

async fn dead_letters(inner: &Inner) -> Vec<Finding> {
    let Some(url) = &inner.queues.default().dead else { return Vec::new() };
    let sqs = inner.queues.default().client();
    let mut probes = Probes::of(format!("queue {}", url.rsplit('/').next().unwrap_or(url)));
    may_send(&mut probes, sqs, url, Who::Consumers).await;
    may_receive(&mut probes, sqs, url, Who::Operators).await;
    probes.findings()
}

async fn table(inner: &Inner) -> Vec<Finding> {
    let (dynamodb, table) = (inner.store.table.client(), inner.store.table.name());
    let mut probes = Probes::of(format!("table {table}"));
    let key = || AttributeValue::S(NOBODY.to_owned());
    let exists = "attribute_exists(message_id)";

    let call = dynamodb.get_item().table_name(table).key(name::ID, key()).send();
    probes.add("dynamodb:GetItem", Who::Both, Passed::Never, call).await;
    if let Ok(keys) = KeysAndAttributes::builder().keys(HashMap::from([(name::ID.to_owned(), key())])).build()
    {
        let call = dynamodb.batch_get_item().request_items(table, keys).send();
        probes.add("dynamodb:BatchGetItem", Who::Both, Passed::Never, call).await;
    }
    // A policy may let producers write the items of idempotency keys, and no records.
    for (permission, who, id) in [
        ("dynamodb:UpdateItem", Who::Consumers, NOBODY.to_owned()),
        ("dynamodb:UpdateItem of idempotency keys", Who::Both, format!("key#{NOBODY}")),
    ] {
        let call = dynamodb
            .update_item()
            .table_name(table)
            .key(name::ID, AttributeValue::S(id))
            .update_expression("SET op = :op")
            .expression_attribute_values(":op", key())
            .condition_expression(exists)
            .send();
        probes.add(permission, who, CONDITION, call).await;
    }
    if inner.config.table_arn().is_some() {
        let call = dynamodb.put_item().table_name(table).item(name::ID, key()).condition_expression(exists);
        probes.add("dynamodb:PutItem", Who::Both, CONDITION, call.send()).await;
    } else {
        probes.judged("dynamodb:PartiQLInsert", Who::Both, insert(inner)).await;
    }
    let call = dynamodb.delete_item().table_name(table).key(name::ID, key()).condition_expression(exists);
    probes.add("dynamodb:DeleteItem", Who::Operators, CONDITION, call.send()).await;
    let call = dynamodb.scan().table_name(table).limit(1).send();
    probes.add("dynamodb:Scan", Who::Operators, Passed::Never, call).await;
    let condition = "dead_of = :queue";
    let call =
        dynamodb.query().table_name(table).index_name(DEAD_LETTERS).key_condition_expression(condition);
    let call = call.expression_attribute_values(":queue", key()).limit(1).send();
    // What it says where the index is not there, which is told elsewhere.
    probes.add("dynamodb:Query", Who::Operators, Passed::ByContent(&["ValidationException"]), call).await;
    // What is told to webhooks is written with what it is about, and found by an index of its own.
    let delivery = AttributeValue::S(format!("webhook#{NOBODY}"));
    let call = dynamodb.put_item().table_name(table).item(name::ID, delivery).condition_expression(exists);
    probes.add("dynamodb:PutItem of deliveries", Who::Webhooks, CONDITION, call.send()).await;
    let call = dynamodb.query().table_name(table).index_name(WEBHOOKS);
    let call = call.key_condition_expression("webhook_of = :queue");
    let call = call.expression_attribute_values(":queue", key()).limit(1).send();
    let content = Passed::ByContent(&["ValidationException"]);
    probes.add("dynamodb:Query of deliveries", Who::Operators, content, call).await;
    probes.findings()
}

/// An insert with an empty key, which no table takes. (A key of the wrong type
/// is one that some local servers write.)
async fn insert(inner: &Inner) -> Result<Option<()>, Refusal> {
    let unclear = |text: &str| Err(Refusal::Unclear(text.to_owned()));
    let statement = BatchStatementRequest::builder()
        .statement(format!("INSERT INTO \"{}\" VALUE {{'{}': ?}}", inner.store.table.name(), name::ID))
        .parameters(AttributeValue::S(String::new()))
        .build();
    let Ok(statement) = statement else { return unclear("the statement cannot be made") };
    let answer = inner.store.table.client().batch_execute_statement().statements(statement).send().await;
    let Some(output) = judge(answer, &["ValidationException"])? else { return Ok(None) };
    // The statements of a batch are refused one by one.
    let Some(error) = output.responses().first().and_then(|response| response.error()) else {
        return Ok(Some(()));
    };
    match error.code() {
        Some(Code::AccessDenied) => Err(Refusal::Denied),
        Some(Code::ResourceNotFound) => Err(Refusal::Missing),
        Some(Code::DuplicateItem | Code::ConditionalCheckFailed) => Ok(Some(())),
        Some(Code::ValidationError) => Ok(None),
        code => unclear(code.map_or("the answer has no code", Code::as_str)),
    }
}

/// What reads, writes and deletes of objects show.
pub(super) async fn bucket(inner: &Inner) -> Vec<Finding> {
    let Some(bucket) = &inner.store.bucket else { return Vec::new() };
    let (s3, name) = (bucket.client(), bucket.name());
    // Under a prefix of ours: it expires, should it stay.
    let object = format!("{}doctor/probe", objects_of(KEEP_DAYS[0]));
    let on = format!("objects under haulage/ in bucket {name}");
    let mut probes = Probes::of(on);
    let mut wrote = false;
    probes
        .judged("s3:PutObject", Who::Both, async {
            let put = s3.put_object().bucket(name).set_expected_bucket_owner(bucket.owner()).key(&object);
            let put = put.body(Vec::from(*b"{}").into()).send().await;
            wrote = put.is_ok();
            judge(put, &[]).map(|made| made.map(drop))
        })
        .await;
    probes
        .judged("s3:GetObject", Who::Both, async {
            let get = s3.get_object().bucket(name).set_expected_bucket_owner(bucket.owner()).key(&object);
            let get = get.send().await;
            match judge(get, &["NoSuchKey"]) {
                // Without s3:ListBucket, S3 says of a missing object that it is denied.
                Err(Refusal::Denied) if !wrote => Err(Refusal::Unclear(
                    "there is no object to read, and S3 may say \"denied\" of one that is missing".into(),
                )),
                // Where it says that there is none, we may know.
                other => other.map(|_| Some(())),
            }
        })
        .await;
    let call = s3.delete_object().bucket(name).set_expected_bucket_owner(bucket.owner()).key(&object).send();
    probes.add("s3:DeleteObject", Who::Operators, Passed::Never, call).await;
    probes.findings()
}
