//! `haulage doctor`, as far as it is the library's: on a local server, which
//! denies nothing, and on one that refuses what a test says.

use std::sync::{Arc, Mutex};

use aws_sdk_sqs::types::MessageSystemAttributeName::ApproximateReceiveCount;
use haulage::{
    Backend,
    backend::{Finding, Severity},
};
use haulage_aws::AwsBackend;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    place::{Place, sdk},
    raw,
};

/// What is refused, and with what code: operations of SQS and DynamoDB by name,
/// those of S3 as `GET /bucket/key`.
type Rules = &'static [(&'static str, &'static str)];

/// A server that refuses what the rules say, and answers everything else with
/// nothing.
async fn refusing(rules: Rules) -> String {
    recording(rules).await.0
}

/// The calls that it was sent: each operation of SQS and DynamoDB, and what it was to do.
type Calls = Arc<Mutex<Vec<(String, String)>>>;

/// The same, with what it is sent.
pub(crate) async fn recording(rules: Rules) -> (String, Calls) {
    let calls = Calls::default();
    let sent = calls.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, rules, sent.clone()));
        }
    });
    (url, calls)
}

async fn serve(mut stream: TcpStream, rules: Rules, sent: Calls) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            lines.filter(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
        };
        if body.len() < header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0) {
            continue;
        }
        let target = header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let line = head.split("HTTP/").next().unwrap_or_default();
        let path = line.split('?').next().unwrap_or_default().trim().trim_end_matches('/');
        let operation = target.unwrap_or_default().to_owned();
        sent.lock().expect("no test panics with it").push((operation, body.to_owned()));
        let answer = answer(target, path, rules);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        request.clear();
    }
}

fn answer(target: Option<&str>, path: &str, rules: Rules) -> String {
    let operation = target.unwrap_or(path);
    let code = rules.iter().find(|(refused, _)| *refused == operation).map(|(_, code)| *code);
    let (status, body) = match (code, target) {
        (None, Some(_)) => ("200 OK", "{\"QueueUrl\":\"http://127.0.0.1/q\"}".to_owned()),
        (None, None) => ("200 OK", "<LifecycleConfiguration/>".to_owned()),
        (Some("PermanentRedirect"), _) => ("301 Moved\r\nx-amz-bucket-region: eu-west-1", String::new()),
        (Some(code), Some(_)) => ("400 Bad Request", format!("{{\"__type\":\"{code}\",\"message\":\"no\"}}")),
        (Some("NoSuchKey"), None) => ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>".into()),
        (Some(code), None) => ("403 Forbidden", format!("<Error><Code>{code}</Code></Error>")),
    };
    // The answer to a HEAD has a length and no body.
    let length = body.len();
    let body = if path.starts_with("HEAD ") { "" } else { &body };
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The findings, where these things are refused.
async fn check(rules: Rules, bucket: Option<&str>) -> Vec<Finding> {
    let url = refusing(rules).await;
    let mut backend = AwsBackend::builder("jobs.fifo").endpoint(&url).sdk_config(sdk(&url).await);
    if let Some(bucket) = bucket {
        backend = backend.bucket(bucket);
    }
    backend.open().await.expect("a backend").check().await.expect("check")
}

#[track_caller]
fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("no {check} in {findings:#?}"))
}

#[tokio::test]
async fn a_bad_set_up_is_found() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let findings = backend.check().await.expect("check");
    assert_eq!(of(&findings, "table TTL").severity, Severity::Warning);
    assert!(of(&findings, "table TTL").remedy.as_deref().is_some_and(|remedy| remedy.contains("expiration")));
    assert_eq!(of(&findings, "redrive policy").severity, Severity::Ok);
    assert_eq!(of(&findings, "FIFO throughput").severity, Severity::Warning);
    assert!(of(&findings, "table").message.contains("paid on demand"), "{findings:#?}");
    // Twice: for the queue, and for its dead-letter queue.
    for action in ["SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"] {
        let check = format!("may sqs:{action}");
        let found: Vec<_> = findings.iter().filter(|f| f.check == check).collect();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found.iter().all(|f| f.message.starts_with("not denied on queue ")), "{found:#?}");
    }
    let table = format!("on table {}", place.table);
    let of_deliveries = ["PutItem of deliveries", "Query of deliveries"];
    for action in
        ["GetItem", "BatchGetItem", "UpdateItem", "DeleteItem", "Scan", "Query"].iter().chain(&of_deliveries)
    {
        assert_eq!(of(&findings, &format!("may dynamodb:{action}")).message, table);
    }
    assert_eq!(of(&findings, "may dynamodb:PartiQLInsert").message, format!("not denied {table}"));
}

#[tokio::test]
async fn probes_change_nothing() {
    for place in [Place::fifo().await, Place::standard().await] {
        raw::send_text(&place, "1").await;
        let findings = place.open().await.check().await.expect("check");
        assert!(findings.iter().any(|f| f.check == "may dynamodb:Scan"), "to its end: {findings:#?}");
        let [message] = &raw::receive(&place, &place.queue, 30).await[..] else { panic!("one message") };
        let received = message.attributes().and_then(|a| a.get(&ApproximateReceiveCount)).expect("a count");
        assert_eq!(received, "1", "nobody has received it before");
        assert_eq!(raw::count(&place, &place.dead).await, 0);
        let items = place.dynamodb().await.scan().table_name(&place.table).send().await.expect("scan");
        assert_eq!(items.items(), [], "nothing is written");
    }
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named() {
    use Severity::{Problem, Warning};
    let cases: [(Rules, &str, &str, Severity); 12] = [
        (
            &[("SendMessageBatch", "AccessDeniedException")],
            "may sqs:SendMessage",
            "producers and consumers",
            Problem,
        ),
        (&[("ReceiveMessage", "AccessDenied")], "may sqs:ReceiveMessage", "consumers", Problem),
        (&[("DeleteMessage", "AccessDenied")], "may sqs:DeleteMessage", "consumers", Problem),
        (
            &[("ChangeMessageVisibility", "AccessDenied")],
            "may sqs:ChangeMessageVisibility",
            "consumers",
            Problem,
        ),
        (&[("GetItem", "AccessDeniedException")], "may dynamodb:GetItem", "producers and consumers", Problem),
        (&[("BatchGetItem", "AccessDeniedException")], "may dynamodb:BatchGetItem", "producers", Problem),
        (&[("UpdateItem", "AccessDeniedException")], "may dynamodb:UpdateItem", "consumers", Problem),
        (
            &[("BatchExecuteStatement", "AccessDeniedException")],
            "may dynamodb:PartiQLInsert",
            "producers",
            Problem,
        ),
        (&[("DeleteItem", "AccessDeniedException")], "may dynamodb:DeleteItem", "operators", Warning),
        (&[("Scan", "AccessDeniedException")], "may dynamodb:Scan", "operators", Warning),
        (&[("Query", "AccessDeniedException")], "may dynamodb:Query", "operators", Warning),
        (
            &[("PutItem", "AccessDeniedException")],
            "may dynamodb:PutItem of deliveries",
            "with webhooks",
            Warning,
        ),
    ];
    for (rules, name, who, severity) in cases {
        let findings = check(rules, None).await;
        // The same action, on something else.
        let of_keys = |f: &&Finding| {
            f.check.ends_with("of idempotency keys") || f.check.ends_with("Query of deliveries")
        };
        let denied = findings.iter().filter(|f| f.severity != Severity::Ok && f.check.starts_with("may "));
        let (keys, denied): (Vec<_>, Vec<_>) = denied.partition(of_keys);
        // Producers may be let in to these, and to no record.
        assert_eq!(keys.iter().any(|f| f.message.contains("producers")), name == "may dynamodb:UpdateItem");
        let [denied] = denied[..] else { panic!("{rules:?}: {denied:#?}") };
        assert_eq!((denied.check.as_str(), denied.severity), (name, severity));
        assert!(denied.message.contains("is denied on") && denied.message.contains(who), "{denied:?}");
        assert!(denied.remedy.as_deref().is_some_and(|remedy| remedy.starts_with("allow ")), "{denied:?}");
    }
}

#[tokio::test]
async fn what_shows_nothing_is_not_taken_for_allowed() {
    let findings = check(&[("UpdateItem", "ThrottlingException")], None).await;
    let throttled = of(&findings, "may dynamodb:UpdateItem");
    assert_eq!(throttled.severity, Severity::Warning);
    assert!(throttled.message.starts_with("not checked: "), "{throttled:?}");
    assert_eq!(of(&findings, "may dynamodb:Scan").severity, Severity::Ok, "others are probed all the same");

    // What is true of all calls is said once.
    let findings = check(&[("GetItem", "ResourceNotFoundException")], None).await;
    let missing = of(&findings, "may dynamodb:GetItem");
    assert!(missing.message.starts_with("not checked: table jobs does not exist"), "{missing:?}");
    assert_eq!(findings.iter().filter(|f| f.check.starts_with("may dynamodb:")).count(), 1, "{findings:#?}");

    let findings = check(&[("SendMessageBatch", "SignatureDoesNotMatch")], None).await;
    let signed = of(&findings, "may sqs:SendMessage");
    assert_eq!(signed.severity, Severity::Problem);
    assert!(signed.message.contains("does not accept the credentials"), "{signed:?}");
    assert!(!findings.iter().any(|f| f.check == "may sqs:ReceiveMessage"), "{findings:#?}");

    let findings = check(&[("SendMessageBatch", "KMS.AccessDeniedException")], None).await;
    let remedy = of(&findings, "may sqs:SendMessage").remedy.as_deref().unwrap_or_default();
    assert!(remedy.contains("kms:GenerateDataKey"), "{remedy}");
}

#[tokio::test]
async fn roles_that_may_not_look_are_no_problem() {
    let findings = check(
        &[("DescribeTable", "AccessDeniedException"), ("DescribeTimeToLive", "AccessDeniedException")],
        None,
    )
    .await;
    for check in ["table", "table TTL"] {
        let finding = of(&findings, check);
        assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
        assert!(finding.message.starts_with("not checked: dynamodb:Describe"), "{finding:?}");
        assert!(finding.message.ends_with("only this check needs it"), "{finding:?}");
    }
}

#[tokio::test]
async fn what_a_bucket_denies_is_named() {
    let cases: [(Rules, &str, Severity, &str); 6] = [
        (&[("HEAD /payloads", "AccessDenied")], "bucket", Severity::Warning, "s3:ListBucket is denied"),
        (&[("HEAD /payloads", "PermanentRedirect")], "bucket", Severity::Problem, "is in eu-west-1"),
        (
            &[("GET /payloads", "AccessDenied")],
            "bucket lifecycle",
            Severity::Warning,
            "not checked: s3:GetLif",
        ),
        (
            &[("PUT /payloads/haulage/2d/doctor/probe", "AccessDenied")],
            "may s3:PutObject",
            Severity::Problem,
            "producers and consumers need it",
        ),
        (
            &[("GET /payloads/haulage/2d/doctor/probe", "AccessDenied")],
            "may s3:GetObject",
            Severity::Problem,
            "s3:GetObject is denied",
        ),
        (
            &[
                ("PUT /payloads/haulage/2d/doctor/probe", "AccessDenied"),
                ("GET /payloads/haulage/2d/doctor/probe", "AccessDenied"),
            ],
            "may s3:GetObject",
            Severity::Warning,
            "not checked: there is no object to read",
        ),
    ];
    for (rules, name, severity, part) in cases {
        let findings = check(rules, Some("payloads")).await;
        let finding = of(&findings, name);
        assert_eq!(finding.severity, severity, "{rules:?}: {finding:?}");
        assert!(finding.message.contains(part), "{rules:?}: {finding:?}");
    }
    let gone: Rules = &[("GET /payloads/haulage/2d/doctor/probe", "NoSuchKey")];
    assert_eq!(of(&check(gone, Some("payloads")).await, "may s3:GetObject").severity, Severity::Ok);
    let delete: Rules = &[("DELETE /payloads/haulage/2d/doctor/probe", "AccessDenied")];
    let findings = check(delete, Some("payloads")).await;
    assert_eq!(of(&findings, "may s3:DeleteObject").severity, Severity::Warning);
}
