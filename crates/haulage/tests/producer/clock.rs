//! Waits go by the clock, and not by what it is set to.

use std::time::Duration;

use haulage::{Clock, Error, Producer, memory::MemoryBackend};
use tokio::task::JoinSet;

use crate::{
    claim, jobs, s, settle, success,
    support::{Faulty, Verb, manual_clock, soon},
};

/// Moves the clock on in small steps, each once the waiting thread has had time
/// to see the one before.
async fn pass(clock: &Clock, seconds: u64, time: Duration) {
    for _ in 0..seconds * 20 {
        clock.advance(Duration::from_millis(50));
        tokio::time::sleep(time).await;
    }
}

/// The time for a step of [`pass`].
const STEP: Duration = Duration::from_micros(200);

/// Tries it until it holds. A machine under load may keep the waiting thread from a step, or
/// from many; so there is more time for each from try to try.
async fn holds_in_time(mut holds: impl AsyncFnMut(Duration) -> Result<(), String>) {
    let mut said = Vec::new();
    for longer in [1, 5, 20, 40] {
        match holds(STEP * longer).await {
            Ok(()) => return,
            Err(not) => said.push(not),
        }
    }
    panic!("{said:#?}");
}

#[tokio::test]
async fn a_wait_takes_no_longer_because_the_clock_was_set_back() {
    for signals in [false, true] {
        let clock = manual_clock();
        let memory = MemoryBackend::with_clock(clock.clone());
        let backend = if signals { Faulty::new(memory) } else { Faulty::without_signals(memory) };
        let handle = Producer::new(backend.clone()).submit(&"job").await.expect("submit");
        let looks = {
            let _wait = tokio::spawn(async move { handle.result::<String>(None).await });
            backend.answered(Verb::Get, 1).await;
            pass(&clock, 30, STEP).await;
            backend.count(Verb::Get)
        };
        clock.set(clock.now().before(s(3600)));
        // Half of that time at most, which is real time enough for the waiting thread.
        for _ in 0..60 {
            pass(&clock, 30, STEP).await;
            if backend.count(Verb::Get) > looks {
                break;
            }
        }
        assert!(backend.count(Verb::Get) > looks, "with signals: {signals}");
    }
}

#[tokio::test]
async fn a_wait_for_a_job_without_a_record_goes_on_as_long_as_one_may_come() {
    holds_in_time(async |step| {
        let clock = manual_clock();
        let backend = Faulty::without_signals(MemoryBackend::with_clock(clock.clone()));
        backend.records_come_late(s(60));
        let producer = Producer::new(backend.clone());
        let wait = tokio::spawn(async move { producer.wait_all(&["a-job".into()], None).await });
        backend.answered(Verb::Get, 1).await;
        pass(&clock, 50, step).await;
        assert!(!wait.is_finished(), "its message may still come");
        pass(&clock, 20, step).await;
        let Ok(ended) = tokio::time::timeout(s(2), wait).await else {
            return Err("it waits for what does not come any more".into());
        };
        let ended = ended.expect("joins");
        assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_wait_ends_after_its_time_whatever_the_clock_is_set_to() {
    for ahead in [true, false] {
        holds_in_time(async |step| {
            let clock = manual_clock();
            let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
            let handle = Producer::new(backend.clone()).submit(&"job").await.expect("submit");
            let wait = tokio::spawn(async move { handle.result::<String>(Some(s(60))).await });
            backend.answered(Verb::Get, 1).await;
            let now = clock.now();
            clock.set(if ahead { now.after(s(3600)) } else { now.before(s(3600)) });
            pass(&clock, 30, step).await;
            assert!(!wait.is_finished(), "half of its time has passed; ahead: {ahead}");
            pass(&clock, 31, step).await;
            let Ok(ended) = tokio::time::timeout(s(2), wait).await else {
                return Err(format!("its time has passed; ahead: {ahead}"));
            };
            let ended = ended.expect("joins");
            assert!(matches!(ended, Err(Error::TimedOut(_))), "{ended:?}");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn without_a_signal_the_pauses_grow_and_waits_fall_into_step() {
    holds_in_time(async |step| {
        let clock = manual_clock();
        let backend = Faulty::without_signals(MemoryBackend::with_clock(clock.clone()));
        let producer = Producer::new(backend.clone());
        let handles = producer.submit_many(jobs(2)).await.expect("submit");
        let mut waits = JoinSet::new();
        for handle in handles {
            let seen = backend.count(Verb::Get);
            waits.spawn(async move { handle.result::<String>(None).await });
            backend.answered(Verb::Get, seen + 1).await;
            pass(&clock, 3, step).await;
        }
        pass(&clock, 60, step).await;
        let calls = backend.calls(Verb::Get);
        if calls.len() < 3 {
            return Err(format!("{calls:?}"));
        }
        for (earlier, later) in [(&calls[0], &calls[1]), (&calls[1], &calls[2])] {
            assert!(later.at.since(earlier.at) >= Duration::from_millis(15));
        }
        let late: Vec<_> = calls.iter().filter(|call| clock.now().since(call.at) < s(30)).collect();
        if !(5..=8).contains(&late.len()) {
            return Err(format!("one each four seconds or so: {late:?}"));
        }
        if late.iter().any(|call| call.items != 2) {
            return Err(format!("both in one: {late:?}"));
        }
        assert!(calls.len() < 50, "{} looks", calls.len());
        settle(&*backend, claim(&*backend, 2).await, success()).await;
        let told = async {
            while let Some(result) = soon(waits.join_next()).await {
                assert_eq!(result.expect("join").expect("result"), "done");
            }
        };
        let began = clock.now();
        tokio::select! {
            () = told => {}
            () = async { loop { pass(&clock, 1, step).await } } => unreachable!("time does not end"),
        }
        match clock.now().since(began) <= s(7) {
            true => Ok(()),
            false => Err(format!("told after {:?}", clock.now().since(began))),
        }
    })
    .await;
}
