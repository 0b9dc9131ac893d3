//! What work costs in flushes of the disk, which is what a small job costs.

use haulage::{Consumer, Failure, Job, Producer};

use super::{Store, job, support::Running};

#[tokio::test]
async fn a_worker_with_one_slot_fills_it_by_the_flush_that_freed_it() {
    const JOBS: u64 = 100;
    let store = Store::new().await;
    let producer = Producer::new(store.backend.clone());
    let jobs = producer.submit_many(vec![job("small"); JOBS as usize]).await.expect("submit");
    let flushes = store.disk.flushes();
    let before = *flushes.borrow();
    let builder = Consumer::builder(store.backend.clone()).concurrency(1);
    let running = Running::start(builder.handler(async |_: Job<String>, _| Ok::<_, Failure>(1)));
    for job in &jobs {
        assert_eq!(job.result::<u32>(None).await.expect("result"), 1);
    }
    let flushed = *flushes.borrow() - before;
    running.stop().await;
    // One for the first claim; others for heartbeats, where the machine is slow.
    assert!(flushed < JOBS * 5 / 4, "{flushed} flushes for {JOBS} jobs");
}
