//! The program itself, on its runtime API and local servers in place of AWS.

use std::{
    path::Path,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use haulage_servers::{Lambda, Microburst, Server, lambda::Told, microburst::Rule, ministack_for_scaling};
use serde_json::{Value, json};

/// One for all tests: each has clusters and queues of its own.
static AWS: LazyLock<Server> = LazyLock::new(ministack_for_scaling);

/// As Terraform has it.
const TIME: Duration = Duration::from_secs(59);

fn lambda<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Lambda {
    let variables = [("AWS_ENDPOINT_URL", AWS.url())].into_iter().chain(variables);
    Lambda::start(Path::new(env!("CARGO_BIN_EXE_haulage-autoscale")), variables)
}

fn event(pairs: &[&Value]) -> Value {
    json!({ "samples_per_minute": 1, "pairs": pairs })
}

/// A pair of a queue with so many messages and a service with so many tasks,
/// which is its own cluster.
fn pair(name: &str, messages: u32, tasks: u32) -> Value {
    let queue = AWS.call("AmazonSQS.CreateQueue", &json!({ "QueueName": name }));
    for number in 0..messages {
        AWS.call(
            "AmazonSQS.SendMessage",
            &json!({ "QueueUrl": queue["QueueUrl"], "MessageBody": number.to_string() }),
        );
    }
    AWS.call(
        "AmazonEC2ContainerServiceV20141113.CreateService",
        &json!({ "cluster": name, "serviceName": "worker", "taskDefinition": "task", "desiredCount": tasks }),
    );
    pair_of(name, &queue["QueueUrl"])
}

fn pair_of(name: &str, queue_url: &Value) -> Value {
    json!({
        "cluster": name, "service": "worker", "queue_name": name, "queue_url": queue_url,
        "slots_per_task": 2, "job_seconds": 60, "target_seconds": 60, "dashboard": true,
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs()
}

fn dimensions(name: &str) -> Value {
    json!([
        { "Name": "ClusterName", "Value": name },
        { "Name": "ServiceName", "Value": "worker" },
        { "Name": "QueueName", "Value": name },
    ])
}

fn points(name: &str, metric: &str) -> Vec<Value> {
    let answer = AWS.call(
        "GraniteServiceVersion20100801.GetMetricStatistics",
        &json!({
            "Namespace": "Haulage", "MetricName": metric, "Dimensions": dimensions(name), "Period": 3600,
            "Statistics": ["Sum", "SampleCount"], "StartTime": now() - 3600, "EndTime": now() + 60,
        }),
    );
    answer["Datapoints"].as_array().expect("data points").clone()
}

/// What was put of a metric.
fn put(name: &str, metric: &str) -> Vec<f64> {
    points(name, metric)
        .iter()
        .inspect(|point| assert_eq!(point["SampleCount"], 1.0, "put once"))
        .map(|point| point["Sum"].as_f64().expect("a number"))
        .collect()
}

fn put_sum(name: &str, metric: &str) -> f64 {
    points(name, metric).iter().map(|point| point["Sum"].as_f64().expect("a number")).sum()
}

fn failed((_, told): (std::time::Instant, Told)) -> (String, String) {
    let Told::Error(error) = told else { panic!("not failed: {told:?}") };
    let text = |name: &str| error[name].as_str().expect("a text").to_owned();
    (text("errorType"), text("errorMessage"))
}

/// The lines of the log, of this level.
fn lines(log: &[String], level: &str) -> Vec<Value> {
    let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    lines.filter(|line| line["level"] == level).collect()
}

#[test]
fn the_metrics_of_several_pairs_arrive() {
    let (busy, asleep) = (pair("busy", 10, 2), pair("asleep", 3, 0));
    let lambda = lambda([]);
    let (_, answer) = lambda.invoke(&event(&[&busy, &asleep]), TIME);
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 2 })));
    for (metric, of_busy, of_asleep) in [
        ("BacklogSeconds", 150.0, 90.0),
        ("RequiredTasks", 5.0, 2.0),
        ("ScaleOutTo", 5.0, 2.0),
        ("ScaleInTo", 1_000_000.0, 1_000_000.0),
        ("CapacityDemand", 100.0, 100.0),
        ("RunningTasks", 2.0, 0.0),
    ] {
        assert_eq!(
            (put("busy", metric), put("asleep", metric)),
            (vec![of_busy], vec![of_asleep]),
            "{metric}"
        );
    }
    let log = lambda.stop();
    let lines = lines(&log, "INFO");
    assert_eq!((lines.len(), log.len()), (1, 1), "one line a sample: {log:?}");
    assert_eq!((&lines[0]["put"], &lines[0]["failed"]), (&json!(2), &json!(0)));
}

/// A pair whose desired count is set, to four tasks at most.
fn direct_pair(name: &str, messages: u32, tasks: u32) -> Value {
    let mut pair = pair(name, messages, tasks);
    pair["direct"] = json!({ "min_tasks": 1, "max_tasks": 4, "scale_in_window_seconds": 30 });
    pair
}

fn desired(name: &str) -> Value {
    let services = AWS.call(
        "AmazonEC2ContainerServiceV20141113.DescribeServices",
        &json!({ "cluster": name, "services": ["worker"] }),
    );
    services["services"][0]["desiredCount"].clone()
}

/// As if somebody had looked so many seconds ago.
fn put_required(name: &str, tasks: f64, ago: u64) {
    let datum = json!({
        "MetricName": "RequiredTasks", "Dimensions": dimensions(name), "Unit": "Count",
        "Value": tasks, "Timestamp": now() - ago, "StorageResolution": 1,
    });
    AWS.call(
        "GraniteServiceVersion20100801.PutMetricData",
        &json!({ "Namespace": "Haulage", "MetricData": [datum] }),
    );
}

#[test]
fn the_desired_count_is_set_out_and_what_this_half_minute_required_is_kept() {
    let pair = direct_pair("direct", 10, 2);
    let lambda = lambda([]);
    let look = || assert!(matches!(lambda.invoke(&event(&[&pair]), TIME).1, Told::Answer(_)));
    look();
    assert_eq!(desired("direct"), json!(4), "five are required, and four are the most");
    AWS.call("AmazonSQS.PurgeQueue", &json!({ "QueueUrl": pair["queue_url"] }));
    look();
    assert_eq!(desired("direct"), json!(4), "nobody knows of the half minute before");
    put_required("direct", 3.0, 45);
    look();
    assert_eq!(desired("direct"), json!(4), "it is known, and the first look was within it");
    let scaled: Vec<_> =
        lines(&lambda.stop(), "INFO").into_iter().filter(|line| line["message"] == "scaled").collect();
    let [scaled] = scaled.as_slice() else { panic!("one change: {scaled:?}") };
    assert_eq!((&scaled["from"], &scaled["to"]), (&json!(2), &json!(4)));
    for metric in ["RequiredTasks", "RunningTasks", "BacklogSeconds"] {
        assert!(!points("direct", metric).is_empty(), "{metric}");
    }
    assert_eq!(points("direct", "ScaleOutTo"), [] as [Value; 0]);
}

#[test]
fn without_a_dashboard_what_only_that_shows_is_not_put() {
    let mut pairs = [direct_pair("bare-direct", 3, 1), pair("bare-alarms", 3, 1)];
    pairs.iter_mut().for_each(|pair| pair["dashboard"] = json!(false));
    let [direct, alarms] = &pairs;
    let lambda = lambda([]);
    let (_, answer) = lambda.invoke(&event(&[direct, alarms]), TIME);
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 2 })));
    for name in ["bare-direct", "bare-alarms"] {
        assert_eq!(put(name, "RequiredTasks").len(), 1);
        for metric in ["RunningTasks", "BacklogSeconds"] {
            assert_eq!(points(name, metric), [] as [Value; 0], "{name}: {metric}");
        }
    }
    assert_eq!(put("bare-alarms", "ScaleOutTo").len(), 1);
}

#[test]
fn the_desired_count_is_set_in_to_what_an_earlier_minute_required() {
    let pair = direct_pair("direct-in", 0, 4);
    put_required("direct-in", 3.0, 45);
    let lambda = lambda([]);
    let (_, answer) = lambda.invoke(&event(&[&pair]), TIME);
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 1 })));
    assert_eq!(desired("direct-in"), json!(3));
}

#[test]
fn a_queue_that_is_gone_is_told_and_hides_no_other_pair() {
    let good = pair("beside-gone", 1, 1);
    let url = json!(format!("{}/000000000000/gone", AWS.url()));
    let gone = pair_of("gone", &url);
    let lambda = lambda([]);
    let (kind, message) = failed(lambda.invoke(&event(&[&gone, &good]), TIME));
    assert_eq!(kind, "PairsFailed");
    assert!(
        message.starts_with("1 of 2 pairs failed: gone/worker/gone (sqs:GetQueueAttributes"),
        "{message}"
    );
    assert_eq!(put("beside-gone", "RequiredTasks"), [1.0]);
    assert_eq!(put("gone", "RequiredTasks"), [0.0; 0]);
    let errors = lines(&lambda.stop(), "ERROR");
    let queue = errors.iter().find(|line| line["operation"] == "sqs:GetQueueAttributes").expect("a line");
    assert_eq!(queue["pair"], "gone/worker/gone");
    assert!(queue["advice"].as_str().is_some_and(|text| text.contains("queue_url is wrong")), "{queue}");
}

#[test]
fn what_is_denied_is_told_with_the_action_to_allow() {
    let pair = pair("denied", 1, 1);
    let proxy = Microburst::start(AWS.url());
    let start = || lambda([("AWS_ENDPOINT_URL_ECS", proxy.url())]);
    // The proxy's first call takes seconds, and a sample does not wait so long.
    let _ = start().invoke(&event(&[&pair]), TIME);
    proxy.set(&[Rule::error("ecs", "AccessDeniedException", 400, 1.0)]);
    let lambda = start();
    let (_, message) = failed(lambda.invoke(&event(&[&pair]), TIME));
    assert!(message.contains("ecs:DescribeServices: AccessDeniedException"), "{message}");
    // What comes right is right in the next invocation.
    proxy.set(&[]);
    let (_, answer) = lambda.invoke(&event(&[&pair]), TIME);
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 1 })));
    let errors = lines(&lambda.stop(), "ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        errors[0]["advice"],
        "allow ecs:DescribeServices to the role of this Lambda; terraform apply does"
    );
}

#[test]
fn an_event_that_makes_no_sense_is_refused_with_what_would() {
    let pair = pair("sensible", 0, 1);
    let lambda = lambda([]);
    let (kind, message) = failed(lambda.invoke(&json!({ "samples_per_minute": 4, "pair": [] }), TIME));
    assert_eq!(kind, "BadEvent");
    assert!(message.contains("unknown field `pair`, expected `samples_per_minute` or `pairs`"), "{message}");
    let (_, answer) = lambda.invoke(&event(&[&pair]), TIME);
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 1 })));
    let errors = lines(&lambda.stop(), "ERROR");
    assert!(errors[0]["advice"].as_str().is_some_and(|text| text.contains("slots_per_task")), "{errors:?}");
}

#[test]
fn the_time_that_jobs_took_counts_beside_the_estimate() {
    let pair = pair("measured", 10, 1);
    let datum = json!({
        "MetricName": "JobSeconds", "Dimensions": dimensions("measured"), "Unit": "Seconds",
        "Values": [100.0, 140.0], "Counts": [15.0, 15.0], "Timestamp": now() - 600,
    });
    AWS.call(
        "GraniteServiceVersion20100801.PutMetricData",
        &json!({ "Namespace": "Haulage", "MetricData": [datum] }),
    );
    let (_, answer) = lambda([]).invoke(&event(&[&pair]), TIME);
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 1 })));
    // 30 jobs of 120 s weigh as much as the 60 s that were expected: 90 s, in two slots.
    assert_eq!(put("measured", "BacklogSeconds"), [450.0]);
}

/// Ten received messages, which nobody works on: hidden, as for a retry.
#[test]
fn jobs_that_are_hidden_hold_one_task() {
    let pair = pair("hidden", 10, 4);
    let batch = json!({
        "QueueUrl": pair["queue_url"], "MaxNumberOfMessages": 10, "VisibilityTimeout": 600,
    });
    let received = AWS.call("AmazonSQS.ReceiveMessage", &batch);
    assert_eq!(received["Messages"].as_array().map(Vec::len), Some(10));
    let lambda = lambda([]);
    let look = |nth: &str| {
        let (_, answer) = lambda.invoke(&event(&[&pair]), TIME);
        assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 1 })), "{nth}");
    };
    look("first");
    // Two slots in each of four tasks: that many may be at work, for all that is known.
    assert_eq!(put_sum("hidden", "RequiredTasks"), 4.0);
    let busy = |value: f64, ago: u64| {
        json!({
            "MetricName": "BusySlots", "Dimensions": dimensions("hidden"), "Unit": "Count",
            "Value": value, "Timestamp": now() - ago,
        })
    };
    AWS.call(
        "GraniteServiceVersion20100801.PutMetricData",
        &json!({ "Namespace": "Haulage", "MetricData": [busy(0.5, 120), busy(0.0, 180), busy(2.0, 1200)] }),
    );
    look("second");
    // Half a slot of each is two jobs, for which one task is enough.
    assert_eq!(put_sum("hidden", "RequiredTasks"), 4.0 + 1.0);
}

/// Two received messages, which nobody works on, and two idle tasks, as alarms see them.
#[test]
fn jobs_that_stay_hidden_hold_no_task_with_alarms_either() {
    let pair = pair("resting", 2, 2);
    let batch = json!({
        "QueueUrl": pair["queue_url"], "MaxNumberOfMessages": 10, "VisibilityTimeout": 600,
    });
    let received = AWS.call("AmazonSQS.ReceiveMessage", &batch);
    assert_eq!(received["Messages"].as_array().map(Vec::len), Some(2));
    let idle = json!({
        "MetricName": "BusySlots", "Dimensions": dimensions("resting"), "Unit": "Count",
        "Value": 0.0, "Timestamp": now() - 120,
    });
    AWS.call(
        "GraniteServiceVersion20100801.PutMetricData",
        &json!({ "Namespace": "Haulage", "MetricData": [idle] }),
    );
    let lambda = lambda([]);
    let look = || assert!(matches!(lambda.invoke(&event(&[&pair]), TIME).1, Told::Answer(_)));
    look();
    assert_eq!(put("resting", "ScaleInTo"), [1.0], "they may have begun just now");
    for ago in [190, 110, 40] {
        put_required("resting", 1.0, ago);
    }
    look();
    assert_eq!(put_sum("resting", "ScaleInTo"), 1.0 + 0.0, "as much was in flight for three minutes");
    assert_eq!(put_sum("resting", "RequiredTasks"), 1.0 + 3.0 * 1.0 + 1.0, "which is still known then");
}

#[test]
fn it_ends_before_lambda_would_end_it_and_tells_what_is_left_out() {
    let pair = pair("short", 0, 1);
    let event = json!({ "samples_per_minute": 6, "pairs": [pair] });
    // The second look would be after 10 s, and so is left out.
    let lambda = lambda([]);
    let (_, answer) = lambda.invoke(&event, Duration::from_secs(8));
    assert_eq!(answer, Told::Answer(json!({ "samples": 1, "pairs": 1 })));
    let warnings = lines(&lambda.stop(), "WARN");
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    assert_eq!((&warning["left_out"], &warning["samples_per_minute"]), (&json!(5), &json!(6)));
    assert!(warning["advice"].as_str().is_some_and(|text| text.contains("timeout to 59 s")), "{warning}");
}
