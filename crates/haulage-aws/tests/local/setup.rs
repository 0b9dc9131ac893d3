//! `haulage queue …` and `haulage doctor`, as far as they are the library's.

use haulage::{
    Backend,
    backend::{Finding, Severity},
};
use haulage_aws::{
    AwsBackend, Config,
    setup::{self, Outcome, QueueSettings},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    hands::{LONG, job, settle, submit, success, take},
    place::{Place, ministack, sdk},
    raw,
};

fn outcomes(steps: &[setup::Step]) -> Vec<Outcome> {
    steps.iter().map(|step| step.outcome).collect()
}

fn config(name: &str) -> Config {
    let mut config = Config::new(name);
    config.bucket = Some(format!("bucket-{}", name.trim_end_matches(".fifo")));
    // Local servers have no host names for buckets.
    config.endpoint = Some(ministack().into());
    config
}

#[tokio::test]
async fn makes_everything_that_a_backend_needs() {
    for name in ["setup-1.fifo", "setup-2"] {
        let config = config(name);
        let sdk = Some(sdk(ministack()).await);
        let made = setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
        assert_eq!(outcomes(&made), [Outcome::Created; 4], "{made:?}");

        let bucket = config.bucket.clone().expect("a bucket");
        let open = AwsBackend::builder(name).bucket(bucket).endpoint(ministack());
        let backend = open.sdk_config(sdk.clone().expect("set")).open().await.expect("a backend");
        let id = submit(&backend, job(1)).await;
        let claimed = take(&backend, LONG).await;
        assert_eq!(claimed.key.id, id);
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let findings = backend.check().await.expect("check");
        let bad: Vec<&Finding> = findings.iter().filter(|f| f.severity != Severity::Ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(findings.iter().filter(|f| f.check.starts_with("may ")).count() >= 14, "{findings:#?}");
        drop(backend);

        let again = setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
        assert_eq!(outcomes(&again), [Outcome::Exists; 4]);
        assert!(again.iter().all(|step| step.notes.is_empty()), "nothing differs: {again:?}");
        let mut other = QueueSettings::default();
        other.max_receives = 3;
        let differs = setup::create(&config, &other, sdk.clone()).await.expect("create");
        assert!(differs[1].notes[0].contains("RedrivePolicy is"), "{differs:?}");

        let shown = setup::describe(&config, sdk.clone()).await.expect("describe");
        assert_eq!(outcomes(&shown), [Outcome::Exists; 4]);
        let gone = setup::delete(&config, sdk.clone()).await.expect("delete");
        assert_eq!(outcomes(&gone), [Outcome::Deleted, Outcome::Deleted, Outcome::Deleted, Outcome::Kept]);
        let shown = setup::describe(&config, sdk.clone()).await.expect("describe");
        assert_eq!(outcomes(&shown)[..3], [Outcome::Missing; 3]);
        let again = setup::delete(&config, sdk).await.expect("delete");
        assert_eq!(outcomes(&again)[..3], [Outcome::Missing; 3]);
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let sdk = sdk(ministack()).await;
    let error =
        AwsBackend::builder("no-such-queue.fifo").sdk_config(sdk.clone()).open().await.expect_err("no queue");
    let message = error.to_string();
    assert!(message.contains("no-such-queue.fifo") && message.contains("haulage queue create"), "{message}");

    let place = Place::fifo().await;
    let backend = AwsBackend::builder(&place.queue).table("no-such-table").sdk_config(sdk).open().await;
    let backend = backend.expect("the table is looked for when it is needed");
    let answer = backend.submit(vec![job(1)]).await.expect("sent").remove(0).expect_err("no table");
    assert!(answer.to_string().contains("no-such-table"), "{answer}");
    let findings = backend.check().await.expect("check");
    let table = findings.iter().find(|f| f.check == "table").expect("a finding");
    assert_eq!(table.severity, Severity::Problem, "{table:?}");
    // The job is not lost.
    assert_eq!(raw::count(&place, &place.queue).await, 1);
}

#[tokio::test]
async fn a_bad_set_up_is_found() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let findings = backend.check().await.expect("check");
    let of = |check: &str| findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("{check}"));
    assert_eq!(of("table TTL").severity, Severity::Warning);
    assert!(of("table TTL").remedy.as_deref().is_some_and(|remedy| remedy.contains("expiration")));
    assert_eq!(of("redrive policy").severity, Severity::Ok);
    assert_eq!(of("FIFO throughput").severity, Severity::Warning);
}

/// A server that denies what a name says, and answers everything else with
/// nothing.
async fn denying(operation: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let n = stream.read(&mut buffer).await.unwrap_or(0);
                    if n == 0 {
                        return;
                    }
                    request.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() < length.and_then(|n| n.trim().parse().ok()).unwrap_or(0) {
                        continue;
                    }
                    let denied = head.contains(&format!(".{}\r\n", operation.to_ascii_lowercase()));
                    let (status, answer) = match denied {
                        true => {
                            ("400 Bad Request", "{\"__type\":\"AccessDeniedException\",\"message\":\"no\"}")
                        }
                        false => ("200 OK", "{\"QueueUrl\":\"http://127.0.0.1/q\"}"),
                    };
                    let length = answer.len();
                    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
                    if stream.write_all((head + answer).as_bytes()).await.is_err() {
                        return;
                    }
                    request.clear();
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named() {
    for (operation, check, who) in [
        ("SendMessageBatch", "may sqs:SendMessage", "producers"),
        ("ReceiveMessage", "may sqs:ReceiveMessage", "consumers"),
        ("DeleteMessage", "may sqs:DeleteMessage", "consumers"),
        ("ChangeMessageVisibility", "may sqs:ChangeMessageVisibility", "consumers"),
        ("GetItem", "may dynamodb:GetItem", "producers and consumers"),
        ("BatchGetItem", "may dynamodb:BatchGetItem", "producers"),
        ("UpdateItem", "may dynamodb:UpdateItem", "producers and consumers"),
        ("BatchExecuteStatement", "may dynamodb:PartiQLInsert", "producers"),
        ("DeleteItem", "may dynamodb:DeleteItem", "operators"),
        ("Scan", "may dynamodb:Scan", "operators"),
    ] {
        let sdk = sdk(&denying(operation).await).await;
        let backend = AwsBackend::builder("jobs.fifo").sdk_config(sdk).open().await.expect("a backend");
        let findings = backend.check().await.expect("check");
        let denied: Vec<&Finding> = findings
            .iter()
            .filter(|f| f.severity == Severity::Problem && f.check.starts_with("may "))
            .collect();
        let [denied] = denied[..] else { panic!("{operation}: {denied:#?}") };
        assert_eq!(denied.check, check);
        assert!(denied.message.contains("denied on") && denied.message.contains(who), "{denied:?}");
    }
}
