//! A backend that fails for a while.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Consumer, Context, Failure, Job, NewJob, Producer, Status,
    consumer::{Event, Summary},
    memory::MemoryBackend,
};

use tokio::{sync::Notify, time::Instant};

use crate::support::{Faulty, Mode, Running, Verb, manual_clock, s};

type Answer<T = ()> = Result<T, Failure>;

#[tokio::test]
async fn claims_that_fail_are_made_again() {
    for mode in [Mode::Fails, Mode::Panics] {
        let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
        backend.set(Verb::Claim, mode);
        let builder = Consumer::builder(backend.clone());
        let running = Running::start(builder.handler(async |job: Job<u8>, _| Answer::Ok(job.body)));
        let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
        backend.called(Verb::Claim, 3).await;
        assert_eq!(job.status().await.expect("status"), Status::Submitted);
        backend.set(Verb::Claim, Mode::Works);
        assert_eq!(job.result::<u8>(None).await.expect("result"), 1);
        assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
    }
}

#[tokio::test]
async fn a_consumer_that_cannot_claim_stops_at_once() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    backend.set(Verb::Claim, Mode::Fails);
    let running =
        Running::start(Consumer::builder(backend.clone()).handler(async |_: Job<()>, _| Answer::Ok(())));
    backend.called(Verb::Claim, 2).await;
    assert_eq!(running.stop().await, Summary::default());
}

/// Not even where a backend joins the two in one call.
#[tokio::test]
async fn claims_that_fail_keep_no_result_from_being_recorded() {
    for joins_claims in [false, true] {
        for mode in [Mode::Fails, Mode::Panics] {
            let backend = Faulty::with(MemoryBackend::with_clock(manual_clock()), |can| {
                can.joins_claims = joins_claims;
            });
            let gate = Arc::new(Notify::new());
            let open = gate.clone();
            let handler = move |job: Job<u8>, _| {
                let open = open.clone();
                async move {
                    open.notified().await;
                    Answer::Ok(job.body)
                }
            };
            let builder = Consumer::builder(backend.clone()).concurrency(1);
            let mut running = Running::start(builder.handler(handler));
            let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
            running.started(1).await;
            backend.set(Verb::Claim, mode);
            gate.notify_one();
            assert_eq!(job.result::<u8>(None).await.expect("result"), 1);
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_settle_takes_the_next_claim_along_where_that_costs_no_more() {
    for joins_claims in [false, true] {
        let backend = Faulty::with(MemoryBackend::with_clock(manual_clock()), |can| {
            can.joins_claims = joins_claims;
        });
        let jobs = (0..3).map(|n| NewJob::new(&n).expect("body")).collect();
        Producer::new(backend.clone()).submit_many(jobs).await.expect("submit");
        let builder = Consumer::builder(backend.clone()).concurrency(1);
        let mut running = Running::start(builder.handler(async |_: Job<u8>, _| Answer::Ok(())));
        for _ in 0..3 {
            assert!(matches!(running.ending().await, Event::Succeeded { attempt: 1, .. }));
        }
        assert_eq!(backend.joined(), if joins_claims { 3 } else { 0 });
        running.stop().await;
    }
}

#[tokio::test]
async fn while_one_settle_is_under_way_the_next_batch_gathers() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    backend.set(Verb::Settle, Mode::Hangs);
    let producer = Producer::new(backend.clone());
    let builder = Consumer::builder(backend.clone()).concurrency(20);
    let mut running = Running::start(builder.handler(async |_: Job<u8>, _| Answer::Ok(())));
    producer.submit(&0).await.expect("submit");
    backend.called(Verb::Settle, 1).await;
    let jobs = (1..20).map(|n| NewJob::new(&n).expect("body")).collect();
    producer.submit_many(jobs).await.expect("submit");
    running.started(20).await;
    // Rounds of heartbeats, so that the engine has had time to see the answers.
    for round in 1..=3 {
        backend.clock().advance(s(10));
        backend.answered(Verb::Heartbeat, round).await;
    }
    backend.set(Verb::Settle, Mode::Works);
    for _ in 0..20 {
        assert!(matches!(running.ending().await, Event::Succeeded { attempt: 1, .. }));
    }
    let sizes: Vec<_> = backend.calls(Verb::Settle).iter().map(|call| call.items).collect();
    assert_eq!(sizes[0], 1);
    assert!(sizes.len() <= 5, "{sizes:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_settle_that_takes_long_holds_up_no_more_than_the_backend_says() {
    let backend = Faulty::with(MemoryBackend::with_clock(manual_clock()), |can| can.settles_at_once = 2);
    backend.set(Verb::Settle, Mode::Hangs);
    let producer = Producer::new(backend.clone());
    let builder = Consumer::builder(backend.clone()).concurrency(3);
    let mut running = Running::start(builder.handler(async |_: Job<u8>, _| Answer::Ok(())));
    for calls in 1..=2 {
        producer.submit(&calls).await.expect("submit");
        backend.called(Verb::Settle, calls).await;
    }
    producer.submit(&3).await.expect("submit");
    running.started(3).await;
    for round in 1..=3 {
        backend.clock().advance(s(10));
        backend.answered(Verb::Heartbeat, round).await;
    }
    assert_eq!(backend.count(Verb::Settle), 2);
    backend.set(Verb::Settle, Mode::Works);
    for _ in 0..3 {
        assert!(matches!(running.ending().await, Event::Succeeded { attempt: 1, .. }));
    }
    running.stop().await;
}

#[tokio::test]
async fn an_outcome_that_is_refused_holds_up_no_other() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    backend.take_no_failures();
    let producer = Producer::new(backend.clone());
    let handler =
        async |job: Job<u8>, _| if job.body == 0 { Err(Failure::fatal("bad")) } else { Answer::Ok(()) };
    let mut running = Running::start(Consumer::builder(backend.clone()).concurrency(2).handler(handler));
    producer.submit(&0).await.expect("submit");
    backend.called(Verb::Settle, 3).await;
    // With its waits in between, fifty would take 110 s.
    let begun = Instant::now();
    for _ in 0..50 {
        producer.submit(&1).await.expect("submit");
        assert!(matches!(running.ending().await, Event::Succeeded { attempt: 1, .. }));
    }
    assert!(begun.elapsed() < s(60), "{:?}", begun.elapsed());
    running.shutdown.stop_now();
    let expected = Summary { succeeded: 50, lost: 1, ..Summary::default() };
    assert_eq!(running.finish().await, expected);
}

/// In real time, as an answer that does not come is.
#[tokio::test]
async fn a_heartbeat_that_gets_no_answer_is_not_waited_for_for_ever() {
    let backend = Faulty::new(MemoryBackend::new());
    backend.set(Verb::Heartbeat, Mode::Hangs);
    let builder = Consumer::builder(backend.clone()).lease(Duration::from_millis(900));
    let mut running =
        Running::start(builder.handler(async |_: Job<()>, _| -> Answer { std::future::pending().await }));
    Producer::new(backend.clone()).submit(&()).await.expect("submit");
    running.started(1).await;
    backend.called(Verb::Heartbeat, 2).await;
    backend.set(Verb::Heartbeat, Mode::Works);
    running.shutdown.stop_now();
    running.finish().await;
}

#[tokio::test]
async fn progress_is_not_lost_with_a_heartbeat_that_failed() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    backend.set(Verb::Heartbeat, Mode::Fails);
    let running = Running::start(Consumer::builder(backend.clone()).handler(
        async |_: Job<()>, context: Context| -> Answer {
            context.set_progress(0.5, None);
            std::future::pending().await
        },
    ));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    backend.answered(Verb::Heartbeat, 1).await;
    backend.set(Verb::Heartbeat, Mode::Works);
    backend.answered(Verb::Heartbeat, 2).await;
    let progress = job.record().await.expect("record").progress.expect("progress");
    assert_eq!(progress.fraction, 0.5);
    running.shutdown.stop_now();
    running.finish().await;
}

/// In real time: the pauses between tries are, and the time for the last of them.
#[tokio::test]
async fn a_result_that_could_not_be_recorded_is_tried_quickly_before_the_end() {
    let mut summaries = Vec::new();
    // A machine under load may stand still for that time.
    while summaries.len() < 3 {
        let summary = stopped_after_an_outage().await;
        if summary == (Summary { succeeded: 1, ..Summary::default() }) {
            return;
        }
        summaries.push(summary);
    }
    panic!("it was never recorded: {summaries:?}");
}

async fn stopped_after_an_outage() -> Summary {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    backend.set(Verb::Settle, Mode::Fails);
    let builder = Consumer::builder(backend.clone()).shutdown_grace_period(s(0));
    let running = Running::start(builder.handler(async |_: Job<()>, _| Answer::Ok(())));
    Producer::new(backend.clone()).submit(&()).await.expect("submit");
    // By now the pause is longer than the end may take.
    backend.answered(Verb::Settle, 6).await;
    backend.set(Verb::Settle, Mode::Works);
    running.stop().await
}
