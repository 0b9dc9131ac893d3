//! The same for half an hour, with most bodies and results in a bucket, and with outages: of SQS, of DynamoDB, of
//! S3, or of all of them, for longer than a lease, in which calls are refused, break off, or are made and their
//! answers lost.
//!
//! `HAULAGE_SOAK_MINUTES` says for how long, of which each kind of queue has one half.

use std::time::{Duration, Instant};

use haulage::Backend as _;
use haulage_servers::{Patience, stub::Fault};

use crate::run::{Actor, FAILURES, Run, WORKERS, clear, number, verify};

/// Longer than the four seconds of a lease.
const OUTAGE: std::ops::Range<u64> = 6_000..15_000;
/// Between two of them.
const CALM: std::ops::Range<u64> = 10_000..40_000;
/// So many jobs are submitted at a time, once no more than that are left.
const PORTION: u64 = 300;

/// What happens in an outage, and of which services: the beginning of their names.
const OUTAGES: [(&str, Fault); 12] = [
    ("AmazonSQS", Fault::Reset),
    ("AmazonSQS", Fault::Throttle),
    ("AmazonSQS", Fault::LostAnswer),
    ("DynamoDB", Fault::Reset),
    ("DynamoDB", Fault::Throttle),
    ("DynamoDB", Fault::LostAnswer),
    ("S3", Fault::Reset),
    ("S3", Fault::Throttle),
    ("S3", Fault::LostAnswer),
    ("", Fault::Reset),
    ("", Fault::Error),
    ("", Fault::LostAnswer),
];

async fn soak(queue: &str, time: Duration) {
    let run = Run::start(queue, Some("soak-bodies")).await;
    run.stub.fail_at_random(FAILURES);
    let calm = run.calm().await;
    let mut random = run.random.clone();
    let began = Instant::now();
    let (mut workers, mut acknowledged) = (Vec::new(), Vec::new());
    let (mut ends, mut outages, mut jobs) = (0, 0_usize, 0);
    // Whether one is there, and until when it is so.
    let (mut is_out, mut until) = (false, began + Duration::from_millis(random.u64(CALM)));
    let mut submits = Box::pin(run.submit(0..PORTION));
    let mut is_submitting = true;
    let mut patience = Patience::new((0, 0));
    while began.elapsed() < time {
        while workers.len() < WORKERS {
            workers.push(Actor::start(&run, Duration::from_millis(random.u64(1_000..60_000))));
        }
        if until <= Instant::now() {
            is_out = !is_out;
            // Each in its turn, so that all have been there after a while.
            run.stub.outage(is_out.then(|| OUTAGES[outages % OUTAGES.len()]));
            outages += usize::from(is_out);
            until = Instant::now() + Duration::from_millis(random.u64(if is_out { OUTAGE } else { CALM }));
        }
        tokio::select! {
            ids = &mut submits, if is_submitting => {
                acknowledged.extend(ids);
                jobs += PORTION;
                is_submitting = false;
            }
            // Neither a kill nor an outage has a signal but the clock.
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        let ended = run.stub.ends().len() as u64;
        if !is_submitting && jobs - ended.min(jobs) < PORTION {
            submits = Box::pin(run.submit(jobs..jobs + PORTION));
            is_submitting = true;
        }
        let before = workers.len();
        workers.retain_mut(|worker: &mut Actor| !worker.gone());
        ends += before - workers.len();
        assert!(
            !patience.is_over((ended, acknowledged.len())),
            "stuck: {:?}\n{}",
            calm.stats().await,
            run.said()
        );
    }
    run.stub.outage(None);
    run.stub.fail_at_random(0.0);
    if is_submitting {
        acknowledged.extend(submits.await);
        jobs += PORTION;
    }
    let mut patience = Patience::new(0);
    // Of these looks, each reads the whole table.
    while calm.stats().await.expect("stats").unfinished() > 0 {
        while workers.len() < WORKERS {
            workers.push(Actor::start(&run, time));
        }
        workers.retain_mut(|worker: &mut Actor| !worker.gone());
        assert!(!patience.is_over(run.stub.ends().len()), "stuck: {:?}\n{}", calm.stats().await, run.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    clear(&run, workers).await;
    verify(&run, &calm, &acknowledged, jobs).await;
    assert!(outages > 0 && ends > 0, "{outages} outages, {ends} ends of workers");
    eprintln!(
        "{queue}: {} jobs, {ends} ends of workers, {outages} outages, {} failed calls, {:.0} s",
        acknowledged.len(),
        run.stub.faults(),
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn nothing_is_lost_or_recorded_twice_for_half_an_hour() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let half = Duration::from_secs(number("HAULAGE_SOAK_MINUTES", 30) * 30);
    runtime.block_on(soak("soak.fifo", half));
    runtime.block_on(soak("soak", half));
}
