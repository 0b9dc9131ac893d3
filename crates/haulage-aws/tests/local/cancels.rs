//! Running jobs that another process cancels.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haulage::{
    Backend, Consumer, Context, Error, Job, Json, Producer, Status,
    backend::{Cancellation, HeartbeatStatus},
    shutdown::Shutdown,
};
use haulage_aws::AwsBackend;
use haulage_servers::Stub;
use tokio::time::timeout;

use crate::{
    helpers::{LONG, beat, claim, job, settle, submit, success, take},
    place::{Place, ministack},
};

/// Longer than the pause between two looks, on a machine that is busy.
const HEARD: Duration = Duration::from_secs(20);

/// Waits for the signal that tells a worker to send heartbeats now.
async fn is_told(cancels: &mut tokio::sync::watch::Receiver<u64>) -> bool {
    timeout(HEARD, cancels.changed()).await.is_ok_and(|changed| changed.is_ok())
}

async fn cancel(place: &Place, claimed: &haulage::backend::Claimed) {
    let answers = place.open().await.cancel(vec![claimed.key.id.clone()]).await.expect("cancel");
    assert_eq!(answers, [Cancellation::Requested]);
}

#[tokio::test]
async fn a_holder_hears_of_them_long_before_its_next_heartbeat() {
    let place = Place::fifo().await;
    let (holder, other) = (place.open().await, place.open().await);
    for n in [1, 2] {
        submit(&holder, job(n)).await;
    }
    let (claimed, others) = (take(&holder, LONG).await, take(&other, LONG).await);
    let mut told = [&holder, &other].map(|backend: &AwsBackend| backend.signals().cancels.expect("a signal"));
    for signal in &mut told {
        signal.mark_unchanged();
    }
    let began = Instant::now();
    cancel(&place, &claimed).await;
    assert!(is_told(&mut told[0]).await, "nothing was heard in {:?}", began.elapsed());
    assert!(matches!(beat(&holder, &claimed.key, LONG).await, HeartbeatStatus::CancelRequested(_)));
    assert!(!told[1].has_changed().expect("a signal"), "it is no job of this one");
    settle(&holder, &claimed.key, success()).await.expect("the holder");
    // One cancel is heard of once; a later one as well.
    cancel(&place, &others).await;
    assert!(is_told(&mut told[1]).await);
    assert!(!told[0].has_changed().expect("a signal"));
    // Whoever has let go of all its jobs, and takes another, hears again.
    submit(&holder, job(3)).await;
    let third = take(&holder, LONG).await;
    cancel(&place, &third).await;
    assert!(is_told(&mut told[0]).await);
}

/// A worker is told by its engine, too.
#[tokio::test]
async fn a_handler_is_cancelled_long_before_its_next_heartbeat() {
    let place = Place::standard().await;
    let backend = Arc::new(place.open().await);
    let (started, mut starts) = tokio::sync::mpsc::channel(1);
    let consumer = Consumer::builder(backend.clone())
        .lease(LONG)
        .heartbeat_interval(LONG / 3)
        .handler(move |_: Job<Json>, context: Context| {
            let started = started.clone();
            async move {
                started.send(()).await.expect("the test waits");
                context.cancelled().await;
                Err::<u64, _>(Error::Config("it was told to stop".into()))
            }
        })
        .build()
        .expect("a consumer");
    let id = submit(&*backend, job(1)).await;
    let shutdown = Shutdown::new();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    starts.recv().await.expect("it runs");
    place.open().await.cancel(vec![id.clone()]).await.expect("cancel");
    let ended = Producer::new(backend.clone()).wait_all(&[id], Some(HEARD * 2)).await;
    let ended = ended.expect("it ends long before a heartbeat");
    assert_eq!(ended[0].status, Status::Cancelled);
    shutdown.stop();
    running.await.expect("no panic");
}

#[tokio::test]
async fn a_process_that_holds_no_job_does_not_look() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    submit(&backend, job(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, success()).await.expect("the holder");
    let looks = || stub.calls().get("GetItem").copied().unwrap_or(0);
    // Each of these waits for longer than it is between two looks, and may itself look for pauses.
    assert_eq!(claim(&backend, LONG).await, []);
    let before = looks();
    assert_eq!(claim(&backend, LONG).await, []);
    assert!(looks() <= before + 1, "{} looks", looks() - before);
}
