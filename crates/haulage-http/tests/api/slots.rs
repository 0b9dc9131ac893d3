//! What the page of workers tells of slots that do not work.

use std::time::Duration;

use haulage::backend::{Outcome, Settlement, Update};

use crate::client::Site;

#[tokio::test]
async fn slots_that_give_jobs_back_are_named_beside_the_workers() {
    let site = Site::new().await;
    let client = site.client();
    client.submit(r#"{"body": 1}"#).await;
    let reason = Some("slot 3, GPU 1: CUDA error: <device> lost".into());
    let outcome = Outcome::Release { after: Duration::ZERO, reason, begun: true };
    let update = Update::default().slot("slot 3, GPU 1".to_owned());
    let settlement = Settlement::new(site.claim().await.key, outcome).update(update);
    site.backend.settle(vec![settlement]).await.expect("settle").remove(0).expect("it is held");
    let said =
        "slot 3, GPU 1 of worker worker-1 gave back a job within an hour: CUDA error: &lt;device&gt; lost";
    // A page does not wait for long for what the check finds.
    while !client.read("/workers").await.contains(said) {}
}
