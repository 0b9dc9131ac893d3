//! Permissions, probed one by one, by calls that change nothing.
//!
//! A call that AWS refuses for another reason than the caller's permissions has
//! passed them. Policies may distinguish more finely than a probe can: by item,
//! by object or by condition.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, KeysAndAttributes,
};
use aws_sdk_sqs::error::SdkError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use haulage::backend::{Finding, Severity};

use crate::{fault::is_denied, inner::Inner, item::name};

/// A key that no record has.
const NOBODY: &str = "doctor#probe";
/// The key of the object that the probe of the bucket writes and deletes.
const OBJECT: &str = "haulage/doctor/probe";

/// Who needs a permission.
const PRODUCER: &str = "producers";
const CONSUMER: &str = "consumers";
const BOTH: &str = "producers and consumers";
const OPERATOR: &str = "operators (list, stats, purge, redrive)";

pub(super) async fn probe(inner: &Inner) -> Vec<Finding> {
    let mut findings = sqs(inner).await;
    findings.extend(dynamodb(inner).await);
    findings.extend(s3(inner).await);
    findings
}

/// What an answer says about a permission.
fn verdict<T, E>(
    action: &str,
    on: &str,
    who: &str,
    answer: std::result::Result<T, SdkError<E, HttpResponse>>,
) -> Finding
where
    E: ProvideErrorMetadata,
{
    let check = format!("may {action}");
    match answer {
        Ok(_) => Finding::ok(check, format!("on {on}")),
        Err(SdkError::ServiceError(error)) => match error.err().code().unwrap_or_default() {
            code if is_denied(code) => denied(check, action, on, who),
            code if [
                "InvalidClientTokenId",
                "UnrecognizedClientException",
                "ExpiredToken",
                "ExpiredTokenException",
            ]
            .contains(&code) =>
            {
                Finding::bad(
                    Severity::Problem,
                    check,
                    format!("the credentials are not valid ({code})"),
                    "renew them: AWS_ACCESS_KEY_ID and the like, the profile, or the role",
                )
            }
            _ => Finding::ok(check, format!("on {on}")),
        },
        Err(error) => Finding::bad(
            Severity::Problem,
            check,
            format!("the service cannot be reached: {error}"),
            "check the network, the region and AWS_ENDPOINT_URL",
        ),
    }
}

fn denied(check: String, action: &str, on: &str, who: &str) -> Finding {
    Finding::bad(
        Severity::Problem,
        check,
        format!("denied on {on}; {who} need it"),
        format!("allow {action} on {on}"),
    )
}

async fn sqs(inner: &Inner) -> Vec<Finding> {
    let (sqs, queue) = (inner.queue.client(), &inner.queue);
    let (on, url) = (format!("queue {}", queue.name), &queue.url);
    let bogus = "haulage-doctor";
    let mut findings = vec![
        verdict("sqs:GetQueueAttributes", &on, BOTH, sqs.get_queue_attributes().queue_url(url).send().await),
        // An empty batch sends nothing.
        verdict(
            "sqs:SendMessage",
            &on,
            BOTH,
            sqs.send_message_batch().queue_url(url).set_entries(Some(Vec::new())).send().await,
        ),
        // No message is received; should the server take 0 for 1, it shows again at once.
        verdict(
            "sqs:ReceiveMessage",
            &on,
            CONSUMER,
            sqs.receive_message().queue_url(url).max_number_of_messages(0).visibility_timeout(0).send().await,
        ),
        verdict(
            "sqs:DeleteMessage",
            &on,
            CONSUMER,
            sqs.delete_message().queue_url(url).receipt_handle(bogus).send().await,
        ),
        verdict(
            "sqs:ChangeMessageVisibility",
            &on,
            CONSUMER,
            sqs.change_message_visibility()
                .queue_url(url)
                .receipt_handle(bogus)
                .visibility_timeout(0)
                .send()
                .await,
        ),
    ];
    if let Some(dead) = &queue.dead {
        let on = "the dead-letter queue";
        let send = sqs.send_message_batch().queue_url(dead).set_entries(Some(Vec::new())).send().await;
        findings.push(verdict("sqs:SendMessage", on, CONSUMER, send));
        let bogus = sqs.delete_message().queue_url(dead).receipt_handle(bogus).send().await;
        findings.push(verdict("sqs:DeleteMessage", on, "operators (redrive)", bogus));
    }
    findings
}

async fn dynamodb(inner: &Inner) -> Vec<Finding> {
    let (dynamodb, table) = (inner.table.client(), inner.table.name());
    let on = format!("table {table}");
    let key = || AttributeValue::S(NOBODY.to_owned());
    let exists = "attribute_exists(message_id)";
    let get = dynamodb.get_item().table_name(table).key(name::ID, key()).send().await;
    let mut findings = vec![verdict("dynamodb:GetItem", &on, BOTH, get)];
    let keys = KeysAndAttributes::builder().keys(HashMap::from([(name::ID.to_owned(), key())])).build();
    if let Ok(keys) = keys {
        let call = dynamodb.batch_get_item().request_items(table, keys).send().await;
        findings.push(verdict("dynamodb:BatchGetItem", &on, PRODUCER, call));
    }
    let update = dynamodb
        .update_item()
        .table_name(table)
        .key(name::ID, key())
        .update_expression("SET op = :op")
        .expression_attribute_values(":op", key())
        .condition_expression(exists)
        .send()
        .await;
    findings.push(verdict("dynamodb:UpdateItem", &on, BOTH, update));
    findings.push(insert(inner, &on).await);
    let delete = dynamodb.delete_item().table_name(table).key(name::ID, key()).condition_expression(exists);
    findings.push(verdict("dynamodb:DeleteItem", &on, OPERATOR, delete.send().await));
    let scan = dynamodb.scan().table_name(table).limit(1).send().await;
    findings.push(verdict("dynamodb:Scan", &on, OPERATOR, scan));
    findings
}

/// An insert whose key has the wrong type, which no table takes.
async fn insert(inner: &Inner, on: &str) -> Finding {
    let (action, table) = ("dynamodb:PartiQLInsert", inner.table.name());
    let check = format!("may {action}");
    let statement = BatchStatementRequest::builder()
        .statement(format!("INSERT INTO \"{table}\" VALUE {{'{}': ?}}", name::ID))
        .parameters(AttributeValue::N("0".into()))
        .build();
    let Ok(statement) = statement else { return Finding::ok(check, "not probed") };
    let answer = inner.table.client().batch_execute_statement().statements(statement).send().await;
    if let Ok(output) = &answer {
        let code = output.responses().first().and_then(|r| r.error()).and_then(|error| error.code());
        if code == Some(&BatchStatementErrorCodeEnum::AccessDenied) {
            return denied(check, action, on, PRODUCER);
        }
    }
    verdict(action, on, PRODUCER, answer)
}

async fn s3(inner: &Inner) -> Vec<Finding> {
    let Some(bucket) = &inner.bucket else { return Vec::new() };
    let (s3, name) = (bucket.client(), bucket.name());
    let on = format!("objects of bucket {name}");
    let put = s3.put_object().bucket(name).key(OBJECT).body(Vec::from(*b"{}").into()).send().await;
    let wrote = put.is_ok();
    let mut findings = vec![verdict("s3:PutObject", &on, BOTH, put)];
    let get = s3.get_object().bucket(name).key(OBJECT).send().await;
    let mut read = verdict("s3:GetObject", &on, BOTH, get);
    if !wrote && read.severity == Severity::Problem {
        read.message += "; or the probe's object is missing, which is not told apart without s3:ListBucket";
    }
    findings.push(read);
    let delete = s3.delete_object().bucket(name).key(OBJECT).send().await;
    findings.push(verdict("s3:DeleteObject", &on, OPERATOR, delete));
    findings
}
