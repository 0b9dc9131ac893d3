//! What users test their handlers with.

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Clock, Context, Error, Failure, FailureKind, Job, NewJob, Producer, Status, Timestamp,
    testing::{MemoryBackend, TestContext, run_until_empty},
};

fn backend() -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::with_clock(Clock::manual(Timestamp::from_micros(1_800_000_000_000_000))))
}

#[tokio::test]
async fn a_context_has_all_that_the_job_says() {
    let job = NewJob::new(&"cat.png").expect("a body");
    let job = job.max_attempts(2).timeout(Duration::from_secs(60)).metadata("user", "anna").group("g");
    let test = TestContext::builder(job).attempt(2).job_id("job-7").build();
    let (got, context) = (test.job::<String>().expect("a text"), test.context());
    assert_eq!((got.id.as_str(), got.body.as_str()), ("job-7", "cat.png"));
    assert_eq!((context.attempt(), context.max_attempts(), context.is_last_attempt()), (2, 2, true));
    assert_eq!((context.request_id(), context.group()), ("job-7", Some("g")));
    assert_eq!(context.metadata()["user"], "anna");
    assert_eq!(context.deadline(), Some(context.submitted_at().after(Duration::from_secs(60))));
    assert!(matches!(test.job::<u32>(), Err(Error::InvalidJson { .. })));
}

#[tokio::test]
async fn a_handler_that_waits_for_its_end_is_told() {
    let test = TestContext::builder(NewJob::new(&0).expect("a body")).build();
    let context = test.context();
    let waits = tokio::spawn(async move { context.cancelled().await });
    test.cancel();
    waits.await.expect("it was told");
    assert!(test.context().is_cancelled());
}

#[tokio::test]
async fn a_checkpoint_of_the_attempt_before_is_not_what_this_one_left() {
    let job = NewJob::new(&0).expect("a body");
    let test = TestContext::builder(job).attempt(2).last_checkpoint(&7).expect("it is small").build();
    assert_eq!(test.context().last_checkpoint().expect("it is given").as_str(), "7");
    assert_eq!((test.checkpoint(), test.progress()), (None, None));
}

#[tokio::test]
async fn jobs_run_to_their_ends_in_the_callers_task() {
    let backend = backend();
    let producer = Producer::new(backend.clone());
    let calls = std::cell::RefCell::new(Vec::new());
    let handler = |job: Job<String>, context: Context| {
        // Borrowed from the test, and bound to its thread.
        calls.borrow_mut().push((job.body.clone(), context.attempt()));
        let producer = &producer;
        async move {
            match (job.body.as_str(), context.attempt()) {
                ("parent", _) => drop(producer.submit("child").await?),
                ("late", 1) => return Err(Failure::retry_after("not yet", Duration::from_secs(3600))),
                ("off", 1) => return Err(Failure::snooze(Duration::from_secs(7200))),
                ("bad", _) => return Err(Failure::fatal("no use")),
                _ => {}
            }
            Ok(context.attempt())
        }
    };
    for body in ["off", "late", "parent", "bad"] {
        producer.submit(body).await.expect("submit");
    }
    producer.submit(&7).await.expect("submit");
    let records = run_until_empty(&backend, handler).await.expect("they end");
    let ends: Vec<_> =
        records.iter().map(|r| (r.body.as_ref().expect("a body").as_str(), r.status, r.uncounted)).collect();
    assert_eq!(
        ends,
        [
            ("\"parent\"", Status::Success, 0),
            ("\"bad\"", Status::Error, 0),
            ("7", Status::Error, 0),
            ("\"child\"", Status::Success, 0),
            ("\"late\"", Status::Success, 0),
            ("\"off\"", Status::Success, 1),
        ]
    );
    assert_eq!(records[2].error.as_ref().expect("why").kind, FailureKind::InvalidBody);
    let called = calls.borrow().iter().filter(|(body, _)| body == "late").count();
    assert_eq!(called, 2);
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 0);
}

#[tokio::test]
async fn what_an_attempt_leaves_is_there_for_the_next() {
    let backend = backend();
    Producer::new(backend.clone()).submit(&3).await.expect("submit");
    let records = run_until_empty(&backend, async |job: Job<u32>, context: Context| {
        let done: u32 = context.last_checkpoint().map_or(Ok(0), |done| done.decode())?;
        context.checkpoint(&(done + 1))?;
        if done < job.body - 1 { Err(Failure::snooze(Duration::from_secs(1))) } else { Ok(done) }
    });
    let records = records.await.expect("it ends");
    assert_eq!(records[0].result.as_ref().expect("a result").as_str(), "2");
}

#[tokio::test]
async fn a_job_that_is_always_put_off_is_an_error_and_no_endless_loop() {
    let backend = backend();
    Producer::new(backend.clone()).submit(&1).await.expect("submit");
    let calls = std::cell::Cell::new(0);
    let never = async |_: Job<u32>, _: Context| {
        calls.set(calls.get() + 1);
        Err::<(), _>(Failure::not_ready("no GPU"))
    };
    let error = run_until_empty(&backend, never).await.expect_err("it never ends");
    assert!(error.to_string().contains("has come back 1000 times and does not end"), "{error}");
    assert_eq!(calls.get(), 1000);
}

#[tokio::test]
async fn jobs_of_a_paused_queue_stay() {
    let backend = backend();
    Producer::new(backend.clone()).submit(&1).await.expect("submit");
    backend.set_paused(Default::default(), true).await.expect("pause");
    let records = run_until_empty(&backend, async |job: Job<u32>, _: Context| Ok::<_, Failure>(job.body));
    assert_eq!(records.await.expect("nothing to do").len(), 0);
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 1);
}
