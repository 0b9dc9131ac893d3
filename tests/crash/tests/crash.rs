//! What must hold through kill -9 of anybody at any moment, through processes
//! that are stopped for longer than a lease, and through restarts under load:
//! nothing lost, nothing recorded twice, nothing stuck.
//!
//! `HAULAGE_CRASH_SEED` chooses the moments of the kills, `HAULAGE_CRASH_JOBS`
//! how many jobs (20,000).
#![allow(missing_docs)]

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use haulage::{Backend, JobId, Json, NewJob, Producer, Status, backend::Detail};
use haulage_servers::{Patience, Process};
use support::{CONSUMERS, Kept, PRODUCERS, Place, number, runtime, seed, survives_kills};

#[test]
fn killed_at_random_moments() {
    let jobs = number("HAULAGE_CRASH_JOBS", 20_000);
    survives_kills(&Place::new(), jobs, Duration::from_secs(20));
}

/// What crashes its process, beside jobs that have no attempt to spare.
#[test]
fn a_job_that_crashes_its_worker_takes_no_other_with_it() {
    let place = Place::new();
    let submit = |body: &str, attempts, count| {
        let job = NewJob::from_json(Json::parse(body).expect("JSON")).max_attempts(attempts);
        let answers = runtime().block_on(place.backend.submit(vec![job; count])).expect("submit");
        answers.into_iter().map(|answer| answer.expect("accepted").id).collect::<Vec<_>>()
    };
    let end_of_worker = || place.start(&["consume"]).wait().expect("wait");
    let mut innocent = submit(r#"{"work":500}"#, 2, 8);
    let poison = submit(r#""poison""#, 3, 1).remove(0);
    assert!(!end_of_worker().success(), "it crashes with all nine");
    // New ones, which meet it when it comes back.
    innocent.extend(submit(r#"{"work":500}"#, 1, 8));
    assert!(!end_of_worker().success(), "it crashes with it, and the new ones");
    let mut worker = place.keep(&["consume"]);
    let mut patience = Patience::new(0);
    let record = |id: &JobId| {
        let found =
            runtime().block_on(place.backend.get(vec![id.clone()], Detail::Result)).expect("get").remove(0);
        found.into_record(id).expect("a record")
    };
    loop {
        worker.tend();
        let unfinished = runtime().block_on(place.backend.stats()).expect("stats").unfinished();
        if unfinished == 0 {
            break;
        }
        assert!(!patience.is_over(unfinished), "stuck with {unfinished} jobs");
        thread::sleep(Duration::from_millis(20));
    }
    let ends: Vec<_> = innocent.iter().map(|id| record(id).status).collect();
    assert_eq!(ends, [Status::Success; 16]);
    let poison = record(&poison);
    assert!(poison.dead && poison.attempt == 3, "{poison:?}");
}

/// As a suspended machine, a paused container or a debugger does it.
#[test]
fn stopped_for_longer_than_a_lease_at_random_moments() {
    const EACH: u64 = 2_000;
    let mut random = seed();
    let place = Place::new();
    let mut actors: Vec<Kept<'_>> = (0..PRODUCERS)
        .map(|name| place.keep(&["produce", &name.to_string(), &EACH.to_string(), "plain"]))
        .chain((0..CONSUMERS).map(|_| place.keep(&["consume"])))
        .collect();
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(random.u64(50..300)));
        actors.iter_mut().for_each(Kept::tend);
        // The lease is 2 s.
        let stopped: Vec<_> = actors.iter().filter(|actor| !actor.done && random.bool()).collect();
        stopped.iter().for_each(|actor| actor.child.signal(libc::SIGSTOP));
        thread::sleep(Duration::from_millis(random.u64(100..3_500)));
        stopped.iter().for_each(|actor| actor.child.signal(libc::SIGCONT));
    }
    let mut patience = Patience::new(0);
    while actors.iter().any(|actor| actor.args[0] == "produce" && !actor.done) {
        assert!(!patience.is_over(place.noted()), "the producers do not get on");
        thread::sleep(Duration::from_millis(50));
        actors.iter_mut().for_each(Kept::tend);
    }
    place.drain();
    let records = place.verify(EACH * PRODUCERS);
    assert!(records.iter().all(|r| r.status == Status::Success), "nobody's job failed");
}

/// What one process has submitted or ended, another hears of at once, and not
/// when it looks by itself.
#[test]
fn processes_wake_each_other() {
    let place = Place::new();
    let _consumer = place.keep(&["consume"]);
    let producer = Producer::new(place.backend.clone());
    let runtime = runtime();
    let nine = || {
        let mut times = runtime.block_on(async {
            let mut times = Vec::new();
            for _ in 0..9 {
                let began = Instant::now();
                let job = producer.submit(&"nothing").await.expect("submit");
                job.result::<u32>(Some(Duration::from_secs(300))).await.expect("result");
                times.push(began.elapsed());
            }
            times
        });
        times.sort();
        times
    };
    // By itself, each of the two looks every one to two seconds. A machine may be under load for some.
    let times: Vec<_> =
        (0..3).map(|_| nine()).take_while(|nine| nine[4] >= Duration::from_millis(400)).collect();
    assert!(times.len() < 3, "{times:?}");
}

#[test]
fn sigterm_under_load_runs_nothing_twice() {
    const EACH: u64 = 2_000;
    let place = Place::new();
    let mut producers: Vec<Process> = (0..PRODUCERS)
        .map(|name| place.start(&["produce", &name.to_string(), &EACH.to_string(), "plain"]))
        .collect();
    // A lease so long that no machine under load outlasts it: nobody is killed here.
    let consume = || place.start(&["consume", "300"]);
    let mut consumers: Vec<Process> = (0..CONSUMERS).map(|_| consume()).collect();
    for round in 0..10 {
        thread::sleep(Duration::from_millis(150));
        let consumer = &mut consumers[round % CONSUMERS];
        place.await_ready(consumer);
        consumer.signal(libc::SIGTERM);
        assert!(consumer.wait().expect("wait").success(), "a graceful stop exits 0");
        *consumer = consume();
    }
    for producer in &mut producers {
        assert!(producer.wait().expect("wait").success());
    }
    place.drain();
    for consumer in &mut consumers {
        place.await_ready(consumer);
        consumer.signal(libc::SIGTERM);
        assert!(consumer.wait().expect("wait").success());
    }
    let records = place.verify(EACH * PRODUCERS);
    assert!(records.iter().all(|r| r.status == Status::Success));
    // Every handler had time to finish within the grace period.
    let starts = place.starts();
    assert_eq!(starts.len() as u64, EACH * PRODUCERS, "each job was started exactly once");
}
