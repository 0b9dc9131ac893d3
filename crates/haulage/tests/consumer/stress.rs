//! Everything at once: consumers that come and go, a backend that fails now and
//! then, handlers that do whatever they like.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use haulage::{
    Backend, Consumer, Context, Failure, Job, JobId, NewJob, Producer, RetryPolicy,
    backend::Stats,
    consumer::{ConsumerBuilder, Summary},
    memory::MemoryBackend,
    shutdown::Shutdown,
};
use tokio::task::JoinSet;

use crate::support::{Faulty, Mode, Verb, s, soon};

const JOBS: u64 = 1500;

/// The jobs whose handlers wait until somebody cancels them.
static TO_CANCEL: Mutex<BTreeSet<JobId>> = Mutex::new(BTreeSet::new());

fn to_cancel() -> std::sync::MutexGuard<'static, BTreeSet<JobId>> {
    TO_CANCEL.lock().expect("nobody panics with it")
}

fn millis(most: u64) -> Duration {
    Duration::from_millis(fastrand::u64(0..=most))
}

fn whatever(job: u64, context: &Context) -> Result<u64, Failure> {
    context.set_progress(0.5, None);
    match fastrand::u8(0..20) {
        0 => Err(Failure::retry("again")),
        1 => Err(Failure::retry_after("later", millis(30))),
        2 => Err(Failure::fatal("no more")),
        3 => Err(Failure::cancelled()),
        4 => panic!("just so"),
        // Rarely, as they take a second.
        5 if fastrand::u8(0..8) == 0 => Err(Failure::snooze(s(0))),
        6 if fastrand::u8(0..8) == 0 => Err(Failure::not_ready("down")),
        _ => Ok(job),
    }
}

async fn work(job: Job<u64>, context: Context) -> Result<u64, Failure> {
    match fastrand::u8(0..10) {
        0 => tokio::time::sleep(millis(60)).await,
        1 => {
            to_cancel().insert(job.id.clone());
            context.cancelled().await;
        }
        2 => tokio::task::yield_now().await,
        _ => {}
    }
    whatever(job.body, &context)
}

async fn batch(jobs: Vec<(Job<u64>, Context)>) -> Vec<Result<u64, Failure>> {
    tokio::time::sleep(millis(20)).await;
    if fastrand::u8(0..10) == 0 {
        return Vec::new();
    }
    jobs.into_iter().map(|(job, context)| whatever(job.body, &context)).collect()
}

fn blocking(job: Job<u64>, context: Context) -> Result<u64, Failure> {
    std::thread::sleep(millis(10));
    whatever(job.body, &context)
}

fn builder(backend: Arc<dyn Backend>) -> ConsumerBuilder {
    let builder = Consumer::builder(backend)
        .concurrency(fastrand::usize(1..20))
        .lease(Duration::from_millis(200))
        .shutdown_grace_period(millis(50))
        .cancel_grace_period(millis(20))
        .retry_policy(RetryPolicy { base: Duration::from_millis(5), cap: Duration::from_millis(20) });
    match fastrand::u8(0..4) {
        0 => builder.blocking_handler(blocking),
        1 => builder.batch_handler(fastrand::usize(1..6), millis(10), batch),
        _ => builder.handler(work),
    }
}

/// One consumer after the other, each stopped in some way.
async fn consumers(backend: Arc<dyn Backend>, over: Arc<AtomicBool>) -> Summary {
    let mut total = Summary::default();
    while !over.load(SeqCst) {
        let shutdown = Shutdown::new();
        let consumer = builder(backend.clone()).build().expect("settings");
        let running = tokio::spawn(consumer.run(shutdown.clone()));
        tokio::time::sleep(millis(250)).await;
        match fastrand::bool() {
            true => shutdown.stop(),
            false => shutdown.stop_now(),
        }
        let Summary { succeeded, retried, failed, cancelled, released, lost } =
            soon(running).await.expect("no panic");
        total.succeeded += succeeded;
        total.retried += retried;
        total.failed += failed;
        total.cancelled += cancelled;
        total.released += released;
        total.lost += lost;
    }
    total
}

async fn faults(backend: Arc<Faulty>, over: Arc<AtomicBool>) {
    while !over.load(SeqCst) {
        let verbs = [Verb::Claim, Verb::Heartbeat, Verb::Settle, Verb::Get];
        let verb = verbs[fastrand::usize(0..verbs.len())];
        let modes = [Mode::Fails, Mode::Hangs, Mode::Works];
        backend.set(verb, modes[fastrand::usize(0..modes.len())]);
        tokio::time::sleep(millis(40)).await;
        backend.set(verb, Mode::Works);
        tokio::time::sleep(millis(40)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_and_every_ending_is_counted() {
    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let over = Arc::new(AtomicBool::new(false));
    let new = (0..JOBS).map(|n| {
        let job = NewJob::new(&n).expect("body").max_attempts(50);
        if n % 3 == 0 { job.timeout(Duration::from_millis(30)) } else { job }
    });
    let handles = producer.submit_many(new.collect()).await.expect("submit");
    let mut running = JoinSet::new();
    for _ in 0..3 {
        running.spawn(consumers(backend.clone(), over.clone()));
    }
    let meddling = tokio::spawn(faults(backend.clone(), over.clone()));
    for handle in handles.iter().step_by(10) {
        handle.cancel().await.expect("cancel");
    }
    let ids: Vec<_> = handles.iter().map(|handle| handle.id().clone()).collect();
    // Those that wait to be cancelled need somebody who does it. No others are: how many of
    // them would be in progress by then depends on the machine.
    let ended = producer.wait_all(&ids, Some(s(300)));
    let cancelling = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let waiting = std::mem::take(&mut *to_cancel());
            for id in waiting {
                producer.job(id).cancel().await.expect("cancel");
            }
        }
    };
    let records = tokio::select! {
        records = ended => records.expect("all jobs end"),
        () = cancelling => unreachable!("it goes on for ever"),
    };
    over.store(true, SeqCst);
    let mut total = Summary::default();
    while let Some(summary) = running.join_next().await {
        let summary = summary.expect("no panic");
        total.succeeded += summary.succeeded;
        total.failed += summary.failed;
        total.cancelled += summary.cancelled;
        total.lost += summary.lost;
    }
    meddling.await.expect("no panic");
    let stats: Stats = backend.stats().await.expect("stats");
    assert_eq!(records.len() as u64, JOBS);
    assert_eq!(stats.success + stats.error + stats.cancelled, JOBS);
    // A settle whose answer came too late for its consumer, at the end of a
    // shutdown, is recorded but counted as lost.
    let range = |counted: u64, recorded: u64| counted <= recorded && recorded <= counted + total.lost;
    assert!(range(total.succeeded, stats.success), "{total:?} {stats:?}");
    assert!(stats.success > JOBS / 2, "{stats:?}");
}
