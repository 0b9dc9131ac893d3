//! An invocation, on an AWS in this process.

mod direct;
mod fake;
mod limits;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use self::fake::{Answer, Call, Fake, service};
use crate::{
    event::Event,
    report::{Failed, Summary},
    schedule,
};

const PLENTY: Duration = Duration::from_secs(58);

fn pair(cluster: &str, service: &str, queue: &str) -> Value {
    json!({
        "cluster": cluster, "service": service, "queue_name": queue,
        "queue_url": format!("https://sqs.us-east-1.amazonaws.com/1/{queue}"),
        "slots_per_task": 1, "job_seconds": 60, "target_seconds": 60,
    })
}

async fn run(fake: &Fake, samples: u32, pairs: &[Value], time: Duration) -> Result<Summary, Failed> {
    let event = Event::read(&json!({ "samples_per_minute": samples, "pairs": pairs })).expect("an event");
    schedule::run(&event, &fake.services(), Instant::now() + time).await.result()
}

fn error(result: Result<Summary, Failed>) -> String {
    result.expect_err("an error").to_string()
}

fn seconds(calls: &[Call]) -> Vec<u64> {
    calls.iter().map(|call| call.at.as_secs()).collect()
}

fn asks_for(call: &Call, queue: &str) -> bool {
    call.body["QueueUrl"].as_str().is_some_and(|url| url.ends_with(queue))
}

#[tokio::test(start_paused = true)]
async fn looks_are_even_over_the_minute_and_the_first_is_at_once() {
    let fake = Fake::new(|_| None);
    let summary = run(&fake, 4, &[pair("c", "s", "q")], PLENTY).await.expect("a good minute");
    assert_eq!(serde_json::to_value(&summary).expect("JSON"), json!({ "samples": 4, "pairs": 1 }));
    for operation in ["GetQueueAttributes", "DescribeServices", "PutMetricData"] {
        assert_eq!(seconds(&fake.calls(operation)), [0, 15, 30, 45], "{operation}");
    }
    assert_eq!(seconds(&fake.calls("GetMetricData")), [0], "once, since it is paid for");
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_fails_hides_no_other() {
    let fake = Fake::new(|call| {
        asks_for(call, "gone").then_some(Answer::Bad(400, "com.amazonaws.sqs#QueueDoesNotExist"))
    });
    let pairs = [pair("c", "s", "good"), pair("c", "s", "gone"), pair("c", "s2", "good2")];
    let message = error(run(&fake, 1, &pairs, PLENTY).await);
    assert_eq!(
        message,
        "1 of 3 pairs failed: c/s/gone (sqs:GetQueueAttributes: QueueDoesNotExist); the log has a line for \
         each failure, with what to do"
    );
    assert_eq!(fake.calls("PutMetricData").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_could_be_read_nothing_is_put() {
    let fake = Fake::new(|call| asks_for(call, "gone").then_some(Answer::Bad(403, "AccessDeniedException")));
    let message = error(run(&fake, 1, &[pair("c", "s", "gone")], PLENTY).await);
    assert!(message.contains("1 of 1 pairs failed") && message.contains("AccessDenied"), "{message}");
    assert!(fake.calls("PutMetricData").is_empty());
}

#[tokio::test(start_paused = true)]
async fn services_are_asked_for_by_tens_of_a_cluster_and_once_each() {
    let fake = Fake::new(|_| None);
    let mut pairs: Vec<_> = (0..23).map(|n| pair("large", &format!("s{n}"), &format!("q{n}"))).collect();
    pairs.push(pair("large", "s0", "another-queue"));
    pairs.push(pair("small", "s0", "q"));
    run(&fake, 1, &pairs, PLENTY).await.expect("a good minute");
    let mut sizes: Vec<_> = fake.calls("DescribeServices").iter().map(size).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3, 10, 10]);
    assert_eq!(fake.calls("PutMetricData").len(), 1);
}

fn size(call: &Call) -> usize {
    call.body["services"].as_array().expect("services").len()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_the_role_may_not_see_hides_no_other() {
    let fake = Fake::new(|call| {
        let of_it = call.body["services"].as_array().is_some_and(|names| names.contains(&json!("secret")));
        of_it.then_some(Answer::Bad(400, "AccessDeniedException"))
    });
    let pairs = [pair("c", "open", "q"), pair("c", "secret", "q")];
    let message = error(run(&fake, 1, &pairs, PLENTY).await);
    assert!(
        message.starts_with("1 of 2 pairs failed: c/secret/q (ecs:DescribeServices: AccessDenied"),
        "{message}"
    );
    assert_eq!(fake.calls("PutMetricData").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn services_that_are_gone_are_told_from_those_that_are_there() {
    let fake = Fake::new(|call| {
        (call.operation == "DescribeServices").then(|| {
            Answer::Good(json!({
                "services": [service(&"here".into(), "ACTIVE"), service(&"deleted".into(), "INACTIVE"),
                             service(&"going".into(), "DRAINING")],
                "failures": [{ "arn": "arn:aws:ecs:us-east-1:1:service/c/missing", "reason": "MISSING" }],
            }))
        })
    });
    let names = ["here", "deleted", "going", "missing"];
    let message = error(run(&fake, 1, &names.map(|name| pair("c", name, "q")), PLENTY).await);
    assert!(message.contains("2 of 4 pairs failed"), "{message}");
    assert!(message.contains("c/deleted/q (ecs:DescribeServices: INACTIVE)"), "{message}");
    assert!(message.contains("c/missing/q (ecs:DescribeServices: MISSING)"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn many_pairs_are_put_and_measured_in_few_calls() {
    let fake = Fake::new(|_| None);
    let pairs: Vec<_> = (0..251).map(|n| pair("c", "s", &format!("q{n}"))).collect();
    run(&fake, 1, &pairs, PLENTY).await.expect("a good minute");
    assert_eq!(fake.calls("PutMetricData").len(), 3);
    assert_eq!(fake.calls("GetMetricData").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_measured_times_nothing_is_put_and_they_are_read_again() {
    let fake = Fake::new(|call| {
        (call.operation == "GetMetricData" && call.at.as_secs() < 20)
            .then_some(Answer::Bad(403, "AccessDenied"))
    });
    let message = error(run(&fake, 4, &[pair("c", "s", "q")], PLENTY).await);
    assert!(message.contains("c/s/q (cloudwatch:GetMetricData: AccessDenied)"), "{message}");
    assert_eq!(seconds(&fake.calls("GetMetricData")), [0, 15, 30]);
    assert_eq!(seconds(&fake.calls("PutMetricData")), [30, 45]);
}

#[tokio::test(start_paused = true)]
async fn a_pair_whose_times_cannot_be_read_hides_no_other_nor_is_it_put() {
    let fake = Fake::new(|call| {
        (call.operation == "GetMetricData").then(|| {
            let result = |id: &str, status: &str| json!({ "Id": id, "StatusCode": status, "Values": [], "Timestamps": [] });
            Answer::Good(json!({ "MetricDataResults": [
                result("seconds_0", "Complete"), result("jobs_0", "Forbidden"), result("busy_1", "Complete"),
            ] }))
        })
    });
    let message = error(run(&fake, 1, &[pair("c", "s", "q"), pair("c", "s", "q2")], PLENTY).await);
    assert!(
        message.starts_with("1 of 2 pairs failed: c/s/q (cloudwatch:GetMetricData: Forbidden)"),
        "{message}"
    );
    assert_eq!(fake.calls("PutMetricData").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pair_whose_metrics_are_refused_hides_no_other() {
    let fake = Fake::new(|call| {
        (call.operation == "PutMetricData" && call.has("odd"))
            .then_some(Answer::Bad(400, "InvalidParameterValueException"))
    });
    let pairs = [pair("c", "s", "q"), pair("c", "s", "odd"), pair("c", "s", "q2")];
    let message = error(run(&fake, 1, &pairs, PLENTY).await);
    assert!(
        message.starts_with(
            "1 of 3 pairs failed: c/s/odd (cloudwatch:PutMetricData: InvalidParameterValueException)"
        ),
        "{message}"
    );
    let puts = fake.calls("PutMetricData");
    let taken: Vec<_> = puts.iter().filter(|put| !put.has("odd")).collect();
    assert_eq!((puts.len(), taken.len()), (4, 2), "all, then each alone");
}

#[tokio::test(start_paused = true)]
async fn metrics_that_are_not_taken_are_told() {
    let fake = Fake::new(|call| {
        (call.operation == "PutMetricData").then_some(Answer::Bad(400, "ThrottlingException"))
    });
    let message = error(run(&fake, 2, &[pair("c", "s", "q"), pair("c", "s", "q2")], PLENTY).await);
    assert!(message.contains("2 of 2 pairs failed"), "{message}");
    assert!(message.contains("cloudwatch:PutMetricData: ThrottlingException"), "{message}");
    assert_eq!(seconds(&fake.calls("PutMetricData")), [0, 30], "the next sample tries again");
}
