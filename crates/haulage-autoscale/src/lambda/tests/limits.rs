//! What AWS does not answer, and what there is no time for.

use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::{PLENTY, asks_for, error, fake::Answer, fake::Call, fake::Fake, pair, run, seconds};

/// Pairs of queues with these names and numbers.
fn pairs(name: &str, number: usize) -> Vec<Value> {
    (0..number).map(|n| pair("c", "s", &format!("{name}-{n}."))).collect()
}

fn asks_for_one_of(call: &Call, name: &str) -> bool {
    call.operation == "GetQueueAttributes" && call.has(name)
}

#[tokio::test(start_paused = true)]
async fn looks_that_would_begin_too_late_are_left_out() {
    let fake = Fake::new(|_| None);
    run(&fake, 6, &[pair("c", "s", "q")], Duration::from_secs(25)).await.expect("what there was time for");
    assert_eq!(seconds(&fake.calls("PutMetricData")), [0, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn no_look_is_left_out_of_those_that_terraform_allows() {
    for samples in [1, 2, 3, 4, 6] {
        let fake = Fake::new(|_| None);
        run(&fake, samples, &[pair("c", "s", "q")], PLENTY).await.expect("a good minute");
        assert_eq!(fake.calls("PutMetricData").len(), samples as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_without_time_for_any_look_fails() {
    let fake = Fake::new(|_| Some(Answer::Never));
    let message = error(run(&fake, 4, &[pair("c", "s", "q")], Duration::ZERO).await);
    assert!(message.contains("1 of 1 pairs failed") && message.contains("Deadline"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_is_told_and_hides_no_other() {
    let fake = Fake::new(|call| asks_for(call, "silent").then_some(Answer::Never));
    let pairs = [pair("c", "s", "good"), pair("c", "s", "silent"), pair("c", "s2", "good")];
    let message = error(run(&fake, 6, &pairs, PLENTY).await);
    assert!(
        message.starts_with("1 of 3 pairs failed: c/s/silent (sqs:GetQueueAttributes: Deadline)"),
        "{message}"
    );
    let puts = fake.calls("PutMetricData");
    assert_eq!(puts.len(), 6, "at each sample");
    assert!(puts.iter().all(|put| put.has("good") && !put.has("silent")));
    assert_eq!(
        seconds(&fake.calls("GetQueueAttributes")),
        [0, 10, 20, 30, 40, 50].map(|at| [at; 3]).concat()
    );
}

#[tokio::test(start_paused = true)]
async fn services_that_are_not_told_of_hide_no_others() {
    let fake = Fake::new(|call| (call.body["cluster"] == "silent").then_some(Answer::Never));
    let message = error(run(&fake, 1, &[pair("silent", "s", "q"), pair("c", "s", "q")], PLENTY).await);
    assert!(
        message.starts_with("1 of 2 pairs failed: silent/s/q (ecs:DescribeServices: Deadline)"),
        "{message}"
    );
    assert_eq!(fake.calls("PutMetricData").len(), 1);
}

/// A role that may not see one of ten is refused all; then each is asked for alone.
#[tokio::test(start_paused = true)]
async fn one_service_of_ten_that_is_not_told_of_hides_no_others() {
    let fake = Fake::new(|call| {
        let names = call.body["services"].as_array().filter(|names| names.contains(&"silent".into()))?;
        Some(if names.len() == 1 { Answer::Never } else { Answer::Bad(400, "AccessDeniedException") })
    });
    let message = error(run(&fake, 1, &[pair("c", "silent", "q"), pair("c", "s", "q")], PLENTY).await);
    assert!(message.starts_with("1 of 2 pairs failed: c/silent/q"), "{message}");
    assert_eq!(fake.calls("PutMetricData").len(), 1);
}

/// The others are those of another call: 166 pairs are in one.
#[tokio::test(start_paused = true)]
async fn measured_times_that_do_not_come_hide_no_others_and_are_read_again() {
    let fake = Fake::new(|call| {
        (call.operation == "GetMetricData" && call.has("q-0.") && call.at.as_secs() < 30)
            .then_some(Answer::Never)
    });
    let message = error(run(&fake, 2, &pairs("q", 167), PLENTY).await);
    assert!(message.starts_with("166 of 167 pairs failed: "), "{message}");
    assert!(message.contains("q-0. (cloudwatch:GetMetricData: Deadline)"), "{message}");
    let puts = fake.calls("PutMetricData");
    assert_eq!(puts.iter().map(|put| put.has("q-0.")).collect::<Vec<_>>(), [false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn many_silent_queues_before_others_do_not_keep_them_from_being_read() {
    let fake = Fake::new(|call| asks_for_one_of(call, "silent").then_some(Answer::Never));
    let pairs = [pairs("silent", 84), pairs("good", 16)].concat();
    let message = error(run(&fake, 1, &pairs, PLENTY).await);
    assert!(message.starts_with("84 of 100 pairs failed: ") && !message.contains("good"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn slow_queues_are_waited_for_and_hold_up_no_others() {
    let fake =
        Fake::new(|call| asks_for_one_of(call, "slow").then_some(Answer::Slow(Duration::from_secs(3))));
    run(&fake, 1, &[pairs("slow", 16), pairs("good", 84)].concat(), PLENTY).await.expect("a good minute");
    let asked = fake.calls("GetQueueAttributes");
    assert!(asked.iter().all(|call| call.at < Duration::from_secs(1)), "{asked:?}");
    assert_eq!(seconds(&fake.calls("PutMetricData")), [3]);
}

#[tokio::test(start_paused = true)]
async fn metrics_that_are_not_taken_in_time_hide_no_others_and_hold_up_no_look() {
    let fake =
        Fake::new(|call| (call.operation == "PutMetricData" && call.has("q-0.")).then_some(Answer::Never));
    let message = error(run(&fake, 6, &pairs("q", 101), PLENTY).await);
    assert!(message.starts_with("100 of 101 pairs failed: "), "{message}");
    assert!(message.contains("q-0. (cloudwatch:PutMetricData: Deadline)"), "{message}");
    assert!(!message.contains("q-100."), "{message}");
    let begun: Vec<_> = fake.calls("DescribeServices").iter().map(|call| call.at.as_secs()).collect();
    assert_eq!(begun, [0, 10, 20, 30, 40, 50]);
}

#[tokio::test(start_paused = true)]
async fn the_last_look_ends_in_time_and_puts_what_it_has() {
    let fake = Fake::new(|call| asks_for(call, "silent").then_some(Answer::Never));
    let start = Instant::now();
    let time = Duration::from_secs(33);
    error(run(&fake, 2, &[pair("c", "s", "silent"), pair("c", "s", "good")], time).await);
    assert!(start.elapsed() < time, "{:?}", start.elapsed());
    assert_eq!(fake.calls("PutMetricData").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_answers_it_ends_in_time() {
    let start = Instant::now();
    let time = Duration::from_secs(33);
    error(run(&Fake::new(|_| Some(Answer::Never)), 2, &[pair("c", "s", "q")], time).await);
    assert!(start.elapsed() < time, "{:?}", start.elapsed());
}
