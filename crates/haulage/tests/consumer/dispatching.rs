//! Calls that a program carries out on threads of its own.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
    mpsc,
};

use haulage::{
    Backend, Consumer, Failure, FailureKind, Producer, Status,
    consumer::{Call, Event, Summary},
    memory::MemoryBackend,
};
use serde::{Serialize, Serializer, ser};

use crate::support::{Running, manual_clock, s};

/// A result that says for itself why it has no JSON form.
struct Unfit;

impl Serialize for Unfit {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("NaN is not JSON"))
    }
}

/// A thread that carries calls out, one after the other.
fn thread(work: impl Fn(Call) + Send + 'static) -> mpsc::Sender<Call> {
    let (calls, inbox) = mpsc::channel();
    std::thread::spawn(move || inbox.into_iter().for_each(work));
    calls
}

#[tokio::test]
async fn each_job_of_a_call_has_its_own_answer() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let bodies = ["good", "bad"].map(|body| haulage::NewJob::new(body).expect("body").max_attempts(1));
    let jobs = producer.submit_many(bodies.into()).await.expect("submit");
    let calls = thread(|mut call| {
        let answer = |(job, _): (haulage::Job<haulage::Json>, _)| match job.body.as_str() {
            "\"good\"" => Ok(job.body),
            _ => Err(Failure::retry("no")),
        };
        let answers = call.take_jobs().into_iter().map(answer).collect();
        call.finish(answers);
    });
    let dispatch = move |call| calls.send(call).expect("the thread lives");
    let running = Running::start(Consumer::builder(backend).dispatcher(2, s(0), dispatch));
    assert_eq!(jobs[0].result::<String>(None).await.expect("result"), "good");
    let record = jobs[1].wait(None).await.expect("record");
    assert_eq!(record.error.expect("error").message, "no");
    assert_eq!(running.stop().await, Summary { succeeded: 1, failed: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_and_the_others_are_answered() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let bodies = ["unfit", "fit"].map(|body| haulage::NewJob::new(body).expect("body"));
    let jobs = producer.submit_many(bodies.into()).await.expect("submit");
    let dispatch = |mut call: Call| {
        let bodies: Vec<_> = call.take_jobs().into_iter().map(|(job, _)| job.body).collect();
        let unfit = bodies.iter().position(|body| body.as_str() == "\"unfit\"").expect("both at once");
        call.refuse(unfit, "it is no image");
        call.refuse(1, "there is one job left, whose place is 0");
        call.finish(vec![Ok(bodies[1 - unfit].clone())]);
    };
    let running = Running::start(Consumer::builder(backend).dispatcher(2, s(0), dispatch));
    let error = jobs[0].wait(None).await.expect("record").error.expect("error");
    assert_eq!((error.kind, error.message.as_str()), (FailureKind::InvalidBody, "it is no image"));
    assert_eq!(jobs[1].result::<String>(None).await.expect("result"), "fit");
    assert_eq!(running.stop().await, Summary { succeeded: 1, failed: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_result_without_a_json_form_fails_its_job() {
    let backend = Arc::new(MemoryBackend::new());
    let bodies = ["x", "y"].map(|body| haulage::NewJob::new(body).expect("body"));
    let jobs = Producer::new(backend.clone()).submit_many(bodies.into()).await.expect("submit");
    let dispatch = |call: Call| call.finish(vec![Ok(Unfit), Err(Failure::invalid_result("NaN is not JSON"))]);
    let running = Running::start(Consumer::builder(backend).dispatcher(2, s(0), dispatch));
    for job in jobs {
        let error = job.wait(None).await.expect("record").error.expect("error");
        assert_eq!(error.kind, FailureKind::InvalidResult);
        assert_eq!(error.message, "the handler's result has no JSON form: NaN is not JSON");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_or_panics_gives_its_job_back() {
    let backend = Arc::new(MemoryBackend::with_clock(manual_clock()));
    let job = Producer::new(backend.clone()).submit("x").await.expect("submit");
    let tries = AtomicU32::new(0);
    let dispatch = move |call: Call| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => drop(call),
        1 => panic!("this test's dispatcher panics"),
        _ => call.finish(vec![Ok("third")]),
    };
    let mut running = Running::start(Consumer::builder(backend.clone()).dispatcher(1, s(0), dispatch));
    for _ in 0..2 {
        assert!(matches!(running.ending().await, Event::Released { .. }));
        backend.clock().advance(s(2));
    }
    assert_eq!(job.result::<String>(None).await.expect("result"), "third");
    let record = job.record().await.expect("record");
    assert_eq!((record.status, record.attempt, record.uncounted), (Status::Success, 3, 2));
    while !matches!(running.next().await, Event::Succeeded { .. }) {}
    assert_eq!(running.stop().await, Summary { succeeded: 1, released: 2, ..Summary::default() });
}
