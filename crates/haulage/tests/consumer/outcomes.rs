//! How handlers end, and what is recorded of it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use haulage::{
    Consumer, Context, Failure, FailureKind, Job, JobError, JobId, Json, NewJob, Producer, RetryPolicy,
    Status,
    consumer::{Event, Summary},
    memory::MemoryBackend,
    shutdown::Shutdown,
};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};

use crate::support::{Faulty, Running, Verb, manual_clock, s, soon};

type Answer<T = ()> = Result<T, Failure>;

fn memory() -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::new())
}

#[tokio::test]
async fn success_is_recorded_and_told() {
    let backend = memory();
    let builder = Consumer::builder(backend.clone()).worker_name("w-1");
    let mut running =
        Running::start(builder.handler(async |job: Job<u32>, _| Answer::Ok(json!([job.body, null]))));
    let job = Producer::new(backend).submit(&7).await.expect("submit");
    let id = job.id().clone();
    assert_eq!(running.next().await, Event::Claimed { id: id.clone(), attempt: 1 });
    assert_eq!(running.next().await, Event::Started { id: id.clone(), attempt: 1 });
    assert!(matches!(running.next().await, Event::Succeeded { id: done, attempt: 1, .. } if done == id));
    let record = job.record().await.expect("record");
    assert_eq!((record.status, record.attempt), (Status::Success, 1));
    assert_eq!(record.worker.as_deref(), Some("w-1"));
    assert_eq!(record.result.expect("result").as_str(), "[7,null]");
    assert_eq!(running.stop().await, Summary { succeeded: 1, ..Summary::default() });
}

/// As the kernel of Linux knows it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_consumer_without_a_name_is_called_after_its_host_and_process() {
    let backend = memory();
    let running =
        Running::start(Consumer::builder(backend.clone()).handler(async |_: Job<()>, _| Answer::Ok(())));
    let job = Producer::new(backend).submit(&()).await.expect("submit");
    job.result::<()>(None).await.expect("result");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host has a name");
    let name = format!("{}:{}", host.trim(), std::process::id());
    assert_eq!(job.record().await.expect("record").worker, Some(name));
    running.stop().await;
}

#[test]
fn an_event_tells_its_job_and_attempt() {
    let id = JobId::new("a");
    for event in [Event::Started { id: id.clone(), attempt: 3 }, Event::Lost { id: id.clone(), attempt: 3 }] {
        assert_eq!((event.id(), event.attempt()), (&id, 3));
    }
}

#[tokio::test]
async fn a_body_taken_as_text_arrives_exactly() {
    let backend = memory();
    let builder = Consumer::builder(backend.clone());
    let running = Running::start(builder.handler(async |job: Job<Json>, _| Answer::Ok(job.body)));
    let text = r#"{"z": 1e400, "a": 18446744073709551616, "a": "é"}"#;
    let body = Json::parse(text).expect("JSON");
    let job = Producer::new(backend).submit_job(NewJob::from_json(body)).await.expect("submit");
    let result: Json = job.result(Some(s(300))).await.expect("result");
    assert_eq!(result.as_str(), text);
    running.stop().await;
}

#[tokio::test]
async fn a_handler_names_its_own_delay() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |job: Job<bool>, context: Context| {
        if job.body && context.attempt() == 1 {
            return Err(Failure::retry_after("busy", s(60)));
        }
        Ok(context.attempt())
    }));
    let producer = Producer::new(backend);
    let job = producer.submit(&true).await.expect("submit");
    let error = JobError::new(FailureKind::Handler, "busy");
    let event = running.ending().await;
    assert!(
        matches!(&event, Event::Retried { error: e, delay, .. } if (e, *delay) == (&error, s(60))),
        "{event:?}"
    );
    assert_eq!((event.id(), event.attempt()), (job.id(), 1));
    let record = job.record().await.expect("record");
    assert_eq!((record.status, record.error), (Status::Submitted, Some(error)));
    assert_eq!(record.due_at, Some(clock.now().after(s(60))));

    // Another job goes through, so the consumer has looked: it is not yet time.
    clock.advance(s(59));
    let other = producer.submit(&false).await.expect("submit");
    assert!(matches!(running.ending().await, Event::Succeeded { id, attempt: 1, .. } if id == *other.id()));
    assert_eq!(job.status().await.expect("status"), Status::Submitted);

    clock.advance(s(1));
    assert!(matches!(running.ending().await, Event::Succeeded { id, attempt: 2, .. } if id == *job.id()));
    assert_eq!(running.stop().await, Summary { succeeded: 2, retried: 1, ..Summary::default() });
}

#[tokio::test]
async fn the_last_attempt_makes_a_dead_letter() {
    let backend = memory();
    let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy::immediate());
    let mut running = Running::start(builder.handler(async |_: Job<Value>, context: Context| {
        let last = if context.is_last_attempt() { "last" } else { "more to come" };
        Answer::<()>::Err(Failure::retry(format!("attempt {}: {last}", context.attempt())))
    }));
    let job = NewJob::new(&()).expect("body").max_attempts(2);
    let job = Producer::new(backend).submit_job(job).await.expect("submit");
    let Event::Retried { error, delay, .. } = running.ending().await else { panic!("a retry") };
    assert_eq!((error.message.as_str(), delay), ("attempt 1: more to come", s(0)));
    let Event::Failed { error, attempt, .. } = running.ending().await else { panic!("the end") };
    assert_eq!((error.message.as_str(), attempt), ("attempt 2: last", 2));
    let record = job.record().await.expect("record");
    assert_eq!((record.status, record.dead), (Status::Error, true));
    assert_eq!(running.stop().await, Summary { retried: 1, failed: 1, ..Summary::default() });
}

#[tokio::test]
async fn the_policy_gives_the_delay_where_the_handler_does_not() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy { base: s(10), cap: s(1000) });
    let mut running =
        Running::start(builder.handler(async |_: Job<()>, _| Answer::<()>::Err(Failure::retry("not yet"))));
    let job = NewJob::new(&()).expect("body").max_attempts(4);
    Producer::new(backend).submit_job(job).await.expect("submit");
    for most in [10, 20, 40] {
        let Event::Retried { delay, .. } = running.ending().await else { panic!("a retry") };
        assert!(delay <= s(most), "{delay:?} <= {most} s");
        clock.advance(delay);
    }
    assert!(matches!(running.ending().await, Event::Failed { .. }));
    running.stop().await;
}

#[derive(Debug)]
struct Wrapped(std::num::ParseIntError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read the number")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn some_errors_are_not_worth_a_retry() {
    let backend = memory();
    let builder = Consumer::builder(backend.clone())
        .retry_policy(RetryPolicy::immediate())
        .non_retryable::<std::num::ParseIntError>()
        .non_retryable_if(|error| error.to_string().contains("never"));
    let mut running = Running::start(builder.handler(async |job: Job<String>, _| {
        match &*job.body {
            "fatal" => return Err(Failure::fatal("will not do")),
            "never" | "again" => return Err(std::io::Error::other(job.body).into()),
            number => number.parse::<i64>().map_err(Wrapped)?,
        };
        Ok(())
    }));
    let producer = Producer::new(backend);
    for (body, message) in [
        ("fatal", "will not do"),
        ("never", "never"),
        ("x", "cannot read the number: invalid digit found in string"),
    ] {
        let job = producer.submit(body).await.expect("submit");
        let Event::Failed { error, attempt: 1, .. } = running.ending().await else { panic!("{body}") };
        assert_eq!((error.kind, error.message.as_str()), (FailureKind::Handler, message));
        let record = job.record().await.expect("record");
        assert_eq!((record.status, record.attempt, record.dead), (Status::Error, 1, false));
    }
    let job = producer.submit_job(NewJob::new("again").expect("body").max_attempts(2)).await.expect("submit");
    assert!(matches!(running.ending().await, Event::Retried { .. }));
    assert!(matches!(running.ending().await, Event::Failed { attempt: 2, .. }));
    assert!(job.record().await.expect("record").dead);
    running.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    for blocking in [false, true] {
        let backend = memory();
        let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy::immediate());
        let mut running = Running::start(if blocking {
            builder.blocking_handler(|job: Job<u32>, context: Context| {
                assert!(context.attempt() > 1, "no {} today", job.body);
                Answer::Ok(())
            })
        } else {
            builder.handler(async |job: Job<u32>, context: Context| {
                assert!(context.attempt() > 1, "no {} today", job.body);
                Answer::Ok(())
            })
        });
        Producer::new(backend).submit(&5).await.expect("submit");
        let Event::Retried { error, .. } = running.ending().await else { panic!("a retry") };
        assert_eq!(error, JobError::new(FailureKind::Panic, "the handler panicked: no 5 today"));
        assert!(matches!(running.ending().await, Event::Succeeded { attempt: 2, .. }));
        running.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_fails_for_good() {
    let backend = memory();
    let builder = Consumer::builder(backend.clone());
    let mut running = Running::start(builder.handler(async |job: Job<u8>, _| Answer::Ok(job.body)));
    Producer::new(backend).submit("x").await.expect("submit");
    let Event::Failed { error, attempt: 1, .. } = running.ending().await else { panic!("a failure") };
    assert_eq!(error.kind, FailureKind::InvalidBody);
    assert!(error.message.starts_with("the body does not fit the handler: invalid type: string"), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_fails_for_good() {
    let backend = Arc::new(MemoryBackend::new().max_payload(100));
    let builder = Consumer::builder(backend.clone()).retry_policy(RetryPolicy::immediate());
    let mut running = Running::start(
        builder.handler(async |_: Job<()>, _| Answer::Ok(HashMap::from([((1, 2), "keys are no strings")]))),
    );
    let producer = Producer::new(backend.clone());
    producer.submit(&()).await.expect("submit");
    let Event::Failed { error, .. } = running.ending().await else { panic!("a failure") };
    assert_eq!(error.kind, FailureKind::InvalidResult);
    assert!(error.message.contains("no JSON form: key must be a string"), "{error}");
    running.stop().await;

    let builder = Consumer::builder(backend);
    let mut running =
        Running::start(builder.handler(async |job: Job<usize>, _| Answer::Ok("x".repeat(job.body))));
    let job = producer.submit(&200).await.expect("submit");
    let Event::Failed { error, .. } = running.ending().await else { panic!("a failure") };
    assert_eq!(error.kind, FailureKind::InvalidResult);
    assert!(error.message.contains("202 bytes, and 100 are allowed"), "{error}");
    assert_eq!(job.record().await.expect("record").error, Some(error));
    running.stop().await;
}

#[tokio::test]
async fn the_context_tells_all_about_the_attempt() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let submitted = clock.now();
    let builder = Consumer::builder(backend.clone());
    let job = NewJob::new(&())
        .expect("body")
        .request_id("r-1")
        .group("g")
        .metadata("tenant", "acme")
        .max_attempts(1)
        .timeout(s(90));
    let job = Producer::new(backend).submit_job(job).await.expect("submit");
    clock.advance(s(5));
    let id = job.id().clone();
    let started = clock.now();
    let running = Running::start(builder.handler(move |job: Job<()>, context: Context| {
        let id = id.clone();
        async move {
            assert_eq!((&job.id, context.job_id()), (&id, &id));
            assert_eq!(context.request_id(), "r-1");
            assert_eq!((context.attempt(), context.max_attempts(), context.is_last_attempt()), (1, 1, true));
            assert_eq!(context.metadata().get("tenant").map(String::as_str), Some("acme"));
            assert_eq!(context.group(), Some("g"));
            assert_eq!((context.submitted_at(), context.deadline()), (submitted, Some(started.after(s(90)))));
            assert!(!context.is_cancelled());
            Answer::Ok(format!("{context:?}"))
        }
    }));
    let shown: String = job.result(None).await.expect("every assertion held");
    assert!(shown.contains("request_id: \"r-1\", attempt: 1"), "{shown}");
    running.stop().await;
}

#[tokio::test]
async fn progress_reaches_the_producer_while_the_job_runs() {
    let backend = Faulty::new(MemoryBackend::with_clock(manual_clock()));
    let builder = Consumer::builder(backend.clone());
    let go_on = Arc::new(Semaphore::new(0));
    let gate = go_on.clone();
    let running = Running::start(builder.handler(move |_: Job<()>, context: Context| {
        let gate = gate.clone();
        async move {
            context.set_progress(0.25, "loading".to_owned());
            gate.acquire().await.expect("open").forget();
            context.set_progress(7.5, None);
            gate.acquire().await.expect("open").forget();
            Answer::Ok(())
        }
    }));
    let job = Producer::new(backend.clone()).submit(&()).await.expect("submit");
    backend.answered(Verb::Heartbeat, 1).await;
    let progress = job.progress().await.expect("record").expect("progress");
    assert_eq!((progress.fraction, progress.message.as_deref()), (0.25, Some("loading")));
    go_on.add_permits(1);
    backend.answered(Verb::Heartbeat, 2).await;
    let progress = job.progress().await.expect("record").expect("progress");
    assert_eq!((progress.fraction, progress.message), (1.0, None));
    go_on.add_permits(1);
    job.result::<()>(None).await.expect("result");
    running.stop().await;
    assert_eq!(backend.count(Verb::Heartbeat), 2, "no news, no heartbeat before it is due");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrency_is_reached_and_never_exceeded() {
    const CONCURRENCY: usize = 7;
    for blocking in [false, true] {
        let backend = memory();
        let builder = Consumer::builder(backend.clone()).concurrency(CONCURRENCY);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inside, peak) = (now.clone(), most.clone());
        let enter = move || peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
        // Each waits for six others, so only seven at once get anywhere.
        let running = Running::start(if blocking {
            let barrier = std::sync::Barrier::new(CONCURRENCY);
            builder.blocking_handler(move |_: Job<usize>, _| {
                enter();
                barrier.wait();
                now.fetch_sub(1, SeqCst);
                Answer::Ok(())
            })
        } else {
            let barrier = Arc::new(Barrier::new(CONCURRENCY));
            builder.handler(move |_: Job<usize>, _| {
                enter();
                let (barrier, now) = (barrier.clone(), now.clone());
                async move {
                    barrier.wait().await;
                    now.fetch_sub(1, SeqCst);
                    Answer::Ok(())
                }
            })
        });
        let producer = Producer::new(backend);
        let jobs = (0..CONCURRENCY * 30).map(|n| NewJob::new(&n).expect("body")).collect();
        let jobs = producer.submit_many(jobs).await.expect("submit");
        let ids: Vec<_> = jobs.iter().map(|job| job.id().clone()).collect();
        soon(producer.wait_all(&ids, None)).await.expect("all done");
        assert_eq!(most.load(SeqCst), CONCURRENCY);
        assert_eq!(running.stop().await.succeeded, ids.len() as u64);
    }
}

#[tokio::test]
async fn a_hook_that_panics_is_no_harm() {
    let backend = memory();
    let consumer = Consumer::builder(backend.clone())
        .handler(async |job: Job<u8>, _| Answer::Ok(job.body))
        .on_event(|event| panic!("{event:?}"))
        .build()
        .expect("settings");
    let shutdown = Shutdown::new();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    let producer = Producer::new(backend);
    for n in 0..3 {
        let job = producer.submit(&n).await.expect("submit");
        assert_eq!(job.result::<u8>(Some(s(300))).await.expect("result"), n);
    }
    shutdown.stop();
    assert_eq!(soon(running).await.expect("no panic").succeeded, 3);
}

#[tokio::test]
async fn settings_out_of_range_are_refused() {
    let builder = || Consumer::builder(memory());
    let with_handler = || builder().handler(async |_: Job<()>, _| Answer::Ok(()));
    let batch = |size, wait| {
        builder().batch_handler(size, wait, async |jobs: Vec<(Job<()>, Context)>| {
            jobs.iter().map(|_| Answer::Ok(())).collect()
        })
    };
    for (refused, why) in [
        (builder(), "has no handler"),
        (with_handler().concurrency(0), "concurrency is 0"),
        (batch(0, s(1)), "max_batch_size is 0"),
        (batch(1, s(1_000_000_000)), "batch_timeout is longer"),
        (with_handler().lease(s(0)), "lease is 0ns"),
        (with_handler().lease(s(1_000_000_000)), "the memory backend allows"),
        (with_handler().heartbeat_interval(s(30)), "must be shorter than the lease, 30s"),
        (with_handler().claim_wait(s(0)), "claim_wait is 0ns"),
        (with_handler().max_jobs(0), "max_jobs is 0"),
        (with_handler().worker_name(""), "worker_name"),
        (with_handler().worker_name("x".repeat(NewJob::MAX_LABEL_BYTES + 1)), "worker_name"),
    ] {
        let error = refused.build().expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    let longest = NewJob::MAX_DURATION;
    for taken in [
        batch(1, longest),
        with_handler().lease(longest),
        with_handler().claim_wait(Duration::from_millis(1)),
        with_handler().shutdown_grace_period(longest),
        with_handler().worker_name("x".repeat(NewJob::MAX_LABEL_BYTES)),
    ] {
        taken.build().expect("it is just in range");
    }
    let shown = format!("{:?}", with_handler().build().expect("defaults are in range"));
    assert!(shown.contains("handler: async, concurrency: 1"), "{shown}");
}
