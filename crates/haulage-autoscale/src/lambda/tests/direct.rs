//! Services whose desired count is set.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use serde_json::{Value, json};

use super::{PLENTY, error, fake::Answer, fake::Call, fake::Fake, pair, run, seconds};

/// A pair of a service of 0 to 50 tasks.
fn direct(service: &str, window: u32) -> Value {
    let mut pair = pair("c", service, "q");
    pair["direct"] = json!({ "min_tasks": 0, "max_tasks": 50, "scale_in_window_seconds": window });
    pair
}

/// A service with so many desired tasks, until that is changed, and a queue with so many jobs.
fn aws(jobs: u64, desired: u64, respond: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static) -> Fake {
    let desired = Arc::new(AtomicU64::new(desired));
    Fake::new(move |call| {
        respond(call).or_else(|| match call.operation.as_str() {
            "UpdateService" => {
                desired.store(call.body["desiredCount"].as_u64().expect("a count"), Ordering::Relaxed);
                None
            }
            "DescribeServices" => {
                Some(Answer::Good(services(call, desired.load(Ordering::Relaxed), json!([]))))
            }
            "GetQueueAttributes" => Some(Answer::Good(json!({ "Attributes": {
                "ApproximateNumberOfMessages": jobs.to_string(),
                "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0",
            } }))),
            _ => None,
        })
    })
}

fn services(call: &Call, desired: u64, deployments: Value) -> Value {
    let names = call.body["services"].as_array().expect("names").iter();
    let services: Vec<_> = names
        .map(|name| {
            json!({
                "serviceName": name, "status": "ACTIVE", "runningCount": desired, "pendingCount": 0,
                "desiredCount": desired, "deployments": deployments,
            })
        })
        .collect();
    json!({ "services": services, "failures": [] })
}

/// What was required, so many seconds ago.
fn required(looks: &[(u64, u64)]) -> Answer {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    let at: Vec<_> = looks.iter().map(|(ago, _)| json!({ "$seconds": now - ago })).collect();
    let values: Vec<_> = looks.iter().map(|(_, required)| required).collect();
    Answer::Good(json!({ "MetricDataResults": [
        { "Id": "required_0", "StatusCode": "Complete", "Timestamps": at, "Values": values },
    ] }))
}

fn asks_for_the_past(call: &Call) -> bool {
    call.operation == "GetMetricData" && call.has("RequiredTasks") && call.has("Maximum")
}

/// When counts were set, and to what.
fn set(fake: &Fake) -> Vec<(u64, u64)> {
    let calls = fake.calls("UpdateService");
    calls
        .iter()
        .map(|call| (call.at.as_secs(), call.body["desiredCount"].as_u64().expect("a count")))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_is_set_to_what_it_requires_once_and_nothing_else_is_changed() {
    let fake = aws(13, 1, |_| None);
    run(&fake, 4, &[direct("s", 120)], PLENTY).await.expect("a good minute");
    let calls = fake.calls("UpdateService");
    assert_eq!(
        calls.iter().map(|call| &call.body).collect::<Vec<_>>(),
        [&json!({ "cluster": "c", "service": "s", "desiredCount": 13 })]
    );
    assert!(!fake.calls("GetMetricData").iter().any(asks_for_the_past), "nobody needs to know");
}

#[tokio::test(start_paused = true)]
async fn alarms_have_their_services_to_themselves() {
    let fake = aws(13, 1, |_| None);
    run(&fake, 4, &[pair("c", "s", "q")], PLENTY).await.expect("a good minute");
    assert_eq!(set(&fake), []);
}

#[tokio::test(start_paused = true)]
async fn what_it_has_seen_in_this_minute_is_enough_for_a_short_window() {
    let fake = aws(0, 20, |_| None);
    run(&fake, 4, &[direct("s", 30)], PLENTY).await.expect("a good minute");
    assert_eq!(set(&fake), [(30, 0)]);
    let asked: Vec<_> = fake.calls("GetMetricData").into_iter().filter(asks_for_the_past).collect();
    assert_eq!(seconds(&asked), [0, 15], "as long as it does not know by itself");
}

#[tokio::test(start_paused = true)]
async fn what_was_required_in_earlier_minutes_is_kept_for_the_window() {
    let past = [(130, 18), (100, 3), (70, 7), (40, 2), (10, 0)];
    let fake = aws(0, 20, move |call| asks_for_the_past(call).then(|| required(&past)));
    run(&fake, 4, &[direct("s", 110)], PLENTY).await.expect("a good minute");
    // 18 is of the last look before the window, which tells of its beginning.
    assert_eq!(set(&fake), [(0, 18), (15, 7)]);
    let asked: Vec<_> = fake.calls("GetMetricData").into_iter().filter(asks_for_the_past).collect();
    assert_eq!(seconds(&asked), [0], "once, since it is paid for");
}

#[tokio::test(start_paused = true)]
async fn with_a_gap_in_its_past_a_service_stays() {
    let fake = aws(0, 20, |call| asks_for_the_past(call).then(|| required(&[(500, 0), (100, 0)])));
    run(&fake, 1, &[direct("s", 300)], PLENTY).await.expect("a good minute");
    assert_eq!(set(&fake), []);
}

#[tokio::test(start_paused = true)]
async fn a_past_that_cannot_be_read_is_told_and_nothing_goes_in() {
    let deny = |call: &Call| asks_for_the_past(call).then_some(Answer::Bad(403, "AccessDenied"));
    let fake = aws(0, 20, deny);
    let message = error(run(&fake, 2, &[direct("s", 300)], PLENTY).await);
    assert!(
        message.starts_with("1 of 1 pairs failed: c/s/q (cloudwatch:GetMetricData: AccessDenied)"),
        "{message}"
    );
    assert_eq!(set(&fake), []);
    assert_eq!(fake.calls("PutMetricData").len(), 2, "what is seen is put at any rate");
}

/// With a target that allows waiting, it would like to know for how long jobs
/// have waited.
#[tokio::test(start_paused = true)]
async fn a_past_that_does_not_come_keeps_no_service_from_going_out() {
    let mut patient = direct("s", 300);
    patient["target_seconds"] = json!(600);
    let known: fn() -> Answer = || required(&[(130, 0), (60, 1), (10, 1)]);
    let late: fn() -> Answer = || Answer::Never;
    for (answer, expected) in [(known, vec![]), (late, vec![(2, 2)])] {
        let fake = aws(11, 1, move |call| asks_for_the_past(call).then(answer));
        drop(run(&fake, 1, std::slice::from_ref(&patient), PLENTY).await);
        assert_eq!(set(&fake), expected);
    }
}

/// Three jobs in flight and three tasks, which publish so many busy slots, and what was
/// required before.
fn in_flight(busy: Option<f64>, past: &'static [(u64, u64)]) -> Fake {
    aws(0, 3, move |call| match call.operation.as_str() {
        "GetQueueAttributes" => Some(Answer::Good(json!({ "Attributes": {
            "ApproximateNumberOfMessages": "0",
            "ApproximateNumberOfMessagesNotVisible": "3", "ApproximateNumberOfMessagesDelayed": "0",
        } }))),
        "GetMetricData" if asks_for_the_past(call) => Some(required(past)),
        "GetMetricData" => busy.map(published),
        _ => None,
    })
}

/// The busy slots of a task, a minute ago.
fn published(busy: f64) -> Answer {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
    Answer::Good(json!({ "MetricDataResults": [{
        "Id": "busy_0", "StatusCode": "Complete", "Timestamps": [{ "$seconds": now - 60 }], "Values": [busy],
    }] }))
}

#[tokio::test(start_paused = true)]
async fn jobs_that_stay_hidden_hold_no_task_once_as_much_was_in_flight_for_the_window() {
    // The look before the three minutes tells of their beginning.
    const SAME: &[(u64, u64)] = &[(200, 3), (120, 3), (40, 3)];
    for (busy, past, window, expected) in [
        (Some(0.0), SAME, 120, vec![(0, 0)]),
        // They run, as one of three tasks says.
        (Some(0.4), SAME, 120, vec![]),
        // No task says anything.
        (None, SAME, 120, vec![]),
        // One of them may have begun within the three minutes.
        (Some(0.0), &[(200, 3), (120, 2), (40, 3)], 120, vec![]),
        (Some(0.0), &[(120, 3), (40, 3)], 120, vec![]),
        // The window is longer than what is known.
        (Some(0.0), SAME, 600, vec![]),
    ] {
        let fake = in_flight(busy, past);
        run(&fake, 1, &[direct("s", window)], PLENTY).await.expect("a good minute");
        assert_eq!(set(&fake), expected, "{busy:?} {past:?} {window}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_ecs_replaces_tasks_none_goes_in() {
    let old = json!([{ "status": "PRIMARY" }, { "status": "ACTIVE" }]);
    let over = json!([{ "status": "PRIMARY", "rolloutState": "IN_PROGRESS" }, { "status": "INACTIVE" }]);
    for (deployments, expected) in [(old, vec![]), (over, vec![(40, 0)])] {
        let fake = aws(0, 20, move |call| {
            (call.operation == "DescribeServices")
                .then(|| Answer::Good(services(call, 20, deployments.clone())))
        });
        run(&fake, 3, &[direct("s", 30)], PLENTY).await.expect("a good minute");
        assert_eq!(set(&fake), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_the_role_may_not_change_hides_no_other() {
    let fake = aws(13, 1, |call| {
        (call.operation == "UpdateService" && call.body["service"] == "secret")
            .then_some(Answer::Bad(400, "AccessDeniedException"))
    });
    let message = error(run(&fake, 1, &[direct("secret", 60), direct("s", 60)], PLENTY).await);
    assert!(
        message.starts_with("1 of 2 pairs failed: c/secret/q (ecs:UpdateService: AccessDenied"),
        "{message}"
    );
    let set: Vec<_> = fake.calls("UpdateService").iter().map(|call| call.body["service"].clone()).collect();
    assert!(set.contains(&json!("s")), "{set:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_hangs_hides_no_other_and_is_tried_again() {
    let fake = aws(13, 1, |call| match call.operation.as_str() {
        "UpdateService" if call.body["service"] == "silent" => Some(Answer::Never),
        "DescribeServices" => Some(Answer::Good(services(call, 1, json!([])))),
        _ => None,
    });
    let message = error(run(&fake, 2, &[direct("silent", 60), direct("s", 60)], PLENTY).await);
    assert!(
        message.starts_with("1 of 2 pairs failed: c/silent/q (ecs:UpdateService: Deadline)"),
        "{message}"
    );
    assert_eq!(set(&fake), [(0, 13), (0, 13), (30, 13), (30, 13)]);
}

/// Three queues of seven jobs each.
#[tokio::test(start_paused = true)]
async fn what_waits_in_all_queues_of_a_service_counts() {
    let fake = aws(7, 0, |_| None);
    let mut several = direct("s", 60);
    several["more_queue_urls"] = json!(["https://sqs/1/q--bulk", "https://sqs/1/q--nightly"]);
    run(&fake, 1, &[several.clone()], PLENTY).await.expect("a good minute");
    assert_eq!(set(&fake), [(0, 21)]);
    // With a queue that is not to be had, nobody knows what is required.
    let fake = aws(7, 0, |call| {
        let gone = call.operation == "GetQueueAttributes" && call.has("q--bulk");
        gone.then_some(Answer::Bad(400, "com.amazonaws.sqs#QueueDoesNotExist"))
    });
    let failed = error(run(&fake, 1, &[several], PLENTY).await);
    assert!(failed.contains("QueueDoesNotExist"), "{failed}");
    assert_eq!(set(&fake), []);
}

/// Of seven jobs, four have a slot in the service before it.
#[tokio::test(start_paused = true)]
async fn a_service_after_another_is_set_to_what_that_leaves() {
    let fake = aws(7, 0, |_| None);
    let mut second = direct("s2", 60);
    second["slots_before"] = json!(4);
    run(&fake, 1, &[second], PLENTY).await.expect("a good minute");
    assert_eq!(set(&fake), [(0, 3)]);
}
