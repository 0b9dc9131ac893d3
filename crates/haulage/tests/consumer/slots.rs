//! Slots that are taken out of service.

use std::{sync::Arc, time::Duration};

use haulage::{
    Consumer, Context, Failure, Job, NewJob, Producer, Status,
    consumer::{Call, Event},
    memory::MemoryBackend,
    metrics::{Labels, WorkerState},
};
use tokio::sync::mpsc;

use crate::support::{Running, manual_clock, s, soon};

/// A handler says in which slot it runs.
#[tokio::test]
async fn slots_that_have_names_are_told_apart_in_the_metrics() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let handler = async |job: Job<String>, context: Context| {
        context.set_slot(format!("slot {}", job.body));
        if job.body == "b" { Err(Failure::fatal("no")) } else { Ok(()) }
    };
    let mut running = Running::start(Consumer::builder(backend).concurrency(2).handler(handler));
    running.slots.set_names(["slot a", "slot b"].map(str::to_owned));
    running.slots.quarantine(1, "CUDA error: device lost");
    for body in ["a", "b", "c"] {
        producer.submit(&body).await.expect("submit");
        running.ending().await;
    }
    let (meter, _) = (running.meter.clone(), running.stop().await);
    let page = meter.snapshot().prometheus(&Labels::of("memory://"));
    for (slot, success, error, quarantined) in [("slot a", 1, 0, 0), ("slot b", 0, 1, 1)] {
        for (outcome, count) in [("success", success), ("error", error), ("lost", 0)] {
            let labels = format!("store=\"memory\",slot=\"{slot}\",outcome=\"{outcome}\"");
            assert!(page.contains(&format!("haulage_slot_jobs_total{{{labels}}} {count}\n")), "{page}");
        }
        let line = format!("haulage_slot_out_of_service{{store=\"memory\",slot=\"{slot}\"}} {quarantined}\n");
        assert!(page.contains(&line), "{page}");
    }
    assert!(!page.contains("slot c"), "only those that have names, of which there are few: {page}");
}

/// Two slots whose calls come here, and jobs for them.
#[tokio::test]
async fn slots_that_are_out_of_service_take_no_jobs_until_they_are_back() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let producer = Producer::new(backend.clone());
    let (sender, mut calls) = mpsc::unbounded_channel::<Call>();
    let builder = Consumer::builder(backend)
        .concurrency(2)
        .dispatcher(1, Duration::ZERO, move |call| drop(sender.send(call)));
    let mut running = Running::start(builder);
    let (slots, meter) = (running.slots.clone(), running.meter.clone());
    let jobs = (0..4).map(|n| NewJob::new(&n).expect("body").max_attempts(1)).collect();
    let jobs = producer.submit_many(jobs).await.expect("submit");
    running.started(2).await;
    let first = soon(calls.recv()).await.expect("a call");
    let second = soon(calls.recv()).await.expect("a call");

    slots.quarantine(1, "CUDA error: device lost");
    first.finish(vec![Ok(1)]);
    assert!(matches!(running.ending().await, Event::Succeeded { .. }));
    assert!(calls.try_recv().is_err(), "the other slot has its call, and this one is out of service");
    slots.quarantine(0, "CUDA error: device lost");
    second.finish(vec![Ok(2)]);
    assert!(matches!(running.ending().await, Event::Succeeded { .. }));
    soon(async {
        while meter.snapshot().state != WorkerState::NotReady || meter.snapshot().busy > 0 {
            tokio::time::sleep(s(1) / 1000).await;
        }
    })
    .await;
    let seen = meter.snapshot();
    assert_eq!((seen.quarantined, seen.quarantines), (2, 2));
    assert_eq!(seen.reason.as_deref(), Some("CUDA error: device lost"));
    let page = seen.prometheus(&Labels::of("memory://"));
    assert!(page.contains("haulage_slots_quarantined{store=\"memory\"} 2\n"), "{page}");
    slots.set_stuck(1);
    soon(async {
        while meter.snapshot().stuck != 1 {
            tokio::time::sleep(s(1) / 1000).await;
        }
    })
    .await;
    let page = meter.snapshot().prometheus(&Labels::of("memory://"));
    assert!(page.contains("haulage_calls_stuck{store=\"memory\"} 1\n"), "{page}");
    // Whatever was claimed meanwhile is given back, and its attempt does not count.
    for job in &jobs[2..] {
        soon(async {
            while job.status().await.expect("a record") != Status::Submitted {
                tokio::time::sleep(s(1) / 1000).await;
            }
        })
        .await;
    }

    slots.restore(0);
    for n in 3..=4 {
        soon(calls.recv()).await.expect("a call").finish(vec![Ok(n)]);
    }
    for job in jobs {
        assert!(soon(job.result::<u32>(None)).await.is_ok());
    }
    assert_eq!(running.stop().await.succeeded, 4);
}
