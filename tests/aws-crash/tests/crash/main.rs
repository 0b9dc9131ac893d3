//! What must hold through kill -9 of consumers at any moment while one call in
//! twenty fails: nothing lost, nothing recorded twice, nothing stuck.
//!
//! `HAULAGE_CRASH_SEED` chooses the moments of the kills and the failures.
#![allow(clippy::print_stderr, missing_docs)]

mod run;
#[cfg(feature = "soak")]
mod soak;

use std::time::{Duration, Instant};

use haulage::Backend as _;
use haulage_servers::Patience;

use self::run::{Actor, FAILURES, Run, WORKERS, clear, number, verify};

/// Kills workers until all jobs are over; then lets others clear the queue.
async fn crash(queue: &str, jobs: u64) {
    let run = Run::start(queue, None).await;
    run.stub.fail_at_random(FAILURES);
    let mut workers: Vec<Actor> = Vec::new();
    let began = Instant::now();
    let mut patience = Patience::new((0, false));
    let (mut ends, mut acknowledged) = (0_usize, None);
    let submits = run.submit(0..jobs);
    tokio::pin!(submits);
    let calm = run.calm().await;
    let mut random = run.random.clone();
    loop {
        while workers.len() < WORKERS {
            // Longer after many: on a machine under load, a worker gets little done in these.
            let life = Duration::from_millis(random.u64(500..4_000)) * (1 + ends as u32 / 40);
            workers.push(Actor::start(&run, life));
        }
        tokio::select! {
            ids = &mut submits, if acknowledged.is_none() => acknowledged = Some(ids),
            // A kill has no signal but the clock.
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        workers.retain_mut(|worker| !worker.gone());
        ends += WORKERS - workers.len();
        let progress = (run.stub.ends().len(), acknowledged.is_some());
        assert!(!patience.is_over(progress), "stuck: {:?}\n{}", calm.stats().await, run.said());
        // To count reads the whole table, which would keep it from the workers.
        let all_ended = progress == (jobs as usize, true);
        if all_ended && ends >= 10 && calm.stats().await.expect("stats").unfinished() == 0 {
            break;
        }
    }
    let acknowledged = acknowledged.expect("submitted");
    run.stub.fail_at_random(0.0);
    clear(&run, workers).await;
    verify(&run, &calm, &acknowledged, jobs).await;
    let faults = run.stub.faults();
    assert!(faults > jobs / 20, "{faults} calls failed");
    eprintln!(
        "{jobs} jobs, {ends} ends of workers, {faults} failed calls, {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn nothing_is_lost_or_recorded_twice() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(crash("crash.fifo", number("HAULAGE_CRASH_JOBS", 2_000)));
    runtime.block_on(crash("crash", number("HAULAGE_CRASH_JOBS", 2_000) / 4));
}
