//! A worker that ends by itself.

use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn a_worker_until_empty_runs_the_batch_and_ends() {
    let place = Place::new();
    let ids: Vec<String> = (0..5).map(|n| place.submit(&[&n.to_string()])).collect();
    // Two of them share the batch, and neither leaves before it is done.
    let more = place.worker(&["--until-empty", "--exec", "cat"]);
    let done = place.run(["worker", "--until-empty", "--retry-base", "0", "--exec", "cat"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("no job waits or runs any more: the worker ends"), "{done:?}");
    assert!(ids.iter().all(|id| place.record(id)["status"] == "SUCCESS"));
    assert_eq!(more.wait().0, Some(0));
}

#[test]
fn a_worker_until_empty_tries_a_failed_job_again_before_it_ends() {
    let place = Place::new();
    let id = place.submit(&["1", "--delay", "1ms"]);
    let mut command = place.command(["worker", "--retry-base", "1ms", "--shell", "exit 1"]);
    let output = command.env("HAULAGE_UNTIL_EMPTY", "true").output().expect("run haulage");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let record = place.record(&id);
    assert_eq!((&record["status"], &record["attempt"]), (&json!("ERROR"), &json!(3)));
}

#[test]
fn a_worker_with_max_jobs_takes_no_more() {
    let place = Place::new();
    let ids: Vec<String> = (0..4).map(|n| place.submit(&[&n.to_string()])).collect();
    let done = place.run(["worker", "--json", "--max-jobs", "2", "--concurrency", "4", "--exec", "cat"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary: Value = serde_json::from_str(&done.stdout).expect("a summary");
    assert_eq!((&summary["succeeded"], &summary["released"]), (&json!(2), &json!(0)));
    assert_eq!(
        (&place.record(&ids[1])["status"], &place.record(&ids[2])["attempt"]),
        (&json!("SUCCESS"), &json!(0))
    );
    let done = place.run(["worker", "--max-jobs", "0", "--exec", "cat"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("max_jobs is 0; it is 1 at least"), "{done:?}");
}
