//! The examples of docs/aws-messages.md, as they stand there.

use std::{path::PathBuf, process::Command};

use haulage::backend::Claimed;
use haulage_aws::Unwrap;
use serde_json::{Value, json};

use crate::{
    helpers::{LONG, take},
    place::{Place, ministack, server},
};

/// What all of them send.
const BODY: &str = "{\"prompt\": \"a red bicycle\"}";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The blocks of a section in this language, about the queue of this place.
fn examples(place: &Place, section: &str, language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/aws-messages.md")).expect("the page");
    let section = page.split(section).nth(1).expect("the section").split("\n#").next().expect("its text");
    let begin = format!("```{language}\n");
    let blocks: Vec<String> = (section.split(&begin).skip(1))
        .map(|block| {
            let block = block.split("```").next().expect("its end");
            let block = block.replace("eu-central-1", "us-east-1").replace("123456789012", "000000000000");
            let queue = if place.queue.ends_with(".fifo") { "jobs.fifo" } else { "jobs" };
            assert!(block.contains(queue) || block.contains("statusCode"), "{block}");
            block.replace(queue, &place.queue)
        })
        .collect();
    assert!(!blocks.is_empty(), "no example in {language}");
    blocks
}

/// What a program of those that are installed beside the local server prints.
async fn run(program: &'static str, args: Vec<String>) -> String {
    let tools = root().join(".tools/ministack/bin");
    assert!(tools.join("aws").exists(), "the aws CLI is not installed; run `make tools`");
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new(program);
    command
        .args(args)
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_ENDPOINT_URL", ministack())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local");
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("joins");
    let ran = ran.expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

async fn sh(code: &str) -> String {
    // Of SQS, the first version of the CLI takes the endpoint from here only.
    let aws = r#"aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }"#;
    run("sh", vec!["-euc".into(), format!("{aws}\n{code}")]).await
}

/// The job that an example has made.
async fn made(place: &Place) -> Claimed {
    let claimed = take(&place.open().await, LONG).await;
    assert_eq!(claimed.body.as_str(), BODY);
    claimed
}

/// The same, with the id that the sender was told, and its options.
async fn made_with_options(place: &Place, id: &str) {
    let claimed = made(place).await;
    assert_eq!(claimed.key.id.as_str(), id);
    let spec = &claimed.spec;
    let said = (spec.request_id.as_deref(), spec.group.as_deref(), spec.max_attempts);
    assert_eq!(said, (Some("order-7"), Some("user-1"), 5));
}

#[tokio::test]
async fn boto3_sends_a_job() {
    let place = Place::fifo().await;
    let code = examples(&place, "# Jobs from other programs", "python").remove(0);
    // boto3 is botocore with a client like this.
    let boto3 = "import sys, types, botocore.session\n\
                 sys.modules['boto3'] = types.SimpleNamespace(client=botocore.session.get_session().create_client)\n";
    let id = run("python", vec!["-c".into(), format!("{boto3}{code}")]).await;
    made_with_options(&place, &id).await;
}

#[tokio::test]
async fn the_aws_cli_sends_a_job() {
    let place = Place::fifo().await;
    let id = sh(&examples(&place, "### The aws CLI", "sh")[0]).await;
    made_with_options(&place, &id).await;
}

#[tokio::test]
async fn a_rule_of_eventbridge_sends_a_job() {
    let place = Place::fifo().await;
    let targets: Value = serde_json::from_str(&examples(&place, "### EventBridge", "json")[0]).expect("JSON");
    let pattern = json!({ "source": [place.table] }).to_string();
    server().call("AWSEvents.PutRule", &json!({ "Name": place.table, "EventPattern": pattern }));
    let put = server().call("AWSEvents.PutTargets", &json!({ "Rule": place.table, "Targets": targets }));
    assert_eq!(put["FailedEntryCount"], 0, "{put}");
    let event = json!({ "Source": place.table, "DetailType": "order", "Detail": BODY });
    server().call("AWSEvents.PutEvents", &json!({ "Entries": [event] }));
    assert_eq!(made(&place).await.spec.group.as_deref(), Some("orders"));
}

/// Makes an API of the integration and its response, and calls it: twice well, and once without a key.
const CALL_API: &str = r#"
import json, os, sys, urllib.request
import botocore.session

integration, response = map(json.loads, sys.argv[1:3])
api = botocore.session.get_session().create_client("apigateway")
name = api.create_rest_api(name="jobs")["id"]
above = api.get_resources(restApiId=name)["items"][0]["id"]
resource = api.create_resource(restApiId=name, parentId=above, pathPart="jobs")["id"]
method = {"restApiId": name, "resourceId": resource, "httpMethod": "POST"}
api.put_method(**method, authorizationType="NONE")
api.put_method_response(**method, statusCode="202")
api.put_integration(**method, **integration)
api.put_integration_response(**method, **response)
api.create_deployment(restApiId=name, stageName="v1")
url = f"{os.environ['AWS_ENDPOINT_URL']}/restapis/{name}/v1/_user_request_/jobs"
for query in "?key=order-7%2B8", "?key=order-9", "":
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + query, sys.argv[3].encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            print(answer.status, json.load(answer)["id"])
    except urllib.error.HTTPError as refused:
        print(refused.code)
"#;

#[tokio::test]
async fn a_method_of_api_gateway_sends_a_job() {
    let place = Place::fifo().await;
    let mut args = vec!["-c".to_owned(), CALL_API.to_owned()];
    args.extend(examples(&place, "### API Gateway", "json"));
    args.push(BODY.to_owned());
    let said = run("python", args).await;
    let backend = place.open().await;
    let first = take(&backend, LONG).await;
    let second = take(&backend, LONG).await;
    assert_eq!(said, format!("202 {}\n202 {}\n500", first.key.id, second.key.id));
    for (claimed, key) in [(&first, "order-7+8"), (&second, "order-9")] {
        assert_eq!(claimed.body.as_str(), BODY);
        assert_eq!(claimed.spec.group.as_deref(), Some(key));
    }
    let again = crate::helpers::job(1).idempotency_key("order-7+8");
    let answer = haulage::Backend::submit(&backend, vec![again]).await.expect("submit").remove(0);
    let Err(haulage::Error::IdempotencyConflict { id, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(id, first.key.id, "the key is the job's");
}

#[tokio::test]
async fn a_topic_of_sns_sends_a_job() {
    let raw = "--attributes RawMessageDelivery=true";
    for is_raw in [true, false] {
        let place = Place::standard().await;
        let code = examples(&place, "### SNS", "sh").remove(0);
        assert!(code.contains("orders") && code.contains(raw), "{code}");
        let code = code.replace("orders", &place.table);
        let code = if is_raw { code } else { code.replace(raw, "") };
        let mut unwrap = Unwrap::default();
        unwrap.sns = !is_raw;
        sh(&code).await;
        let backend = place.builder().await.unwrap(unwrap).open().await.expect("a backend");
        let claimed = take(&backend, LONG).await;
        assert_eq!((claimed.body.as_str(), claimed.request_id()), (BODY, "order-7"), "raw: {is_raw}");
    }
}
