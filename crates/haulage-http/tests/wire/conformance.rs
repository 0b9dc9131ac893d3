//! The backend passes the suite that the store behind the server passes, every case of it.

use haulage::conformance;

use tokio::sync::Mutex;

use crate::place::Wire;

/// One suite at a time: each has races of many clients, which take all of a small machine.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What is for stores that have less than the one behind.
const SKIPPED: [(&str, &str); 1] = [("webhooks: a store without them refuses such a job", "has webhooks")];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    let _alone = ALONE.lock().await;
    let report = conformance::run(&Wire::new(0.0)).await;
    report.assert_ok();
    assert_eq!(report.skipped, SKIPPED, "the store behind passes all others");
}

#[test]
fn agrees_with_the_model() {
    conformance::run_model(&Wire::new(0.0), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms_while_connections_break() {
    let _alone = ALONE.lock().await;
    let wire = Wire::new(0.05);
    let report = conformance::run(&wire).await;
    report.assert_ok();
    assert_eq!(report.skipped, SKIPPED);
    assert!(wire.faults() > 0, "nothing went wrong");
}

#[test]
fn agrees_with_the_model_while_connections_break() {
    conformance::run_model(&Wire::new(0.05), 8);
}
