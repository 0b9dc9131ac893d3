//! What a producer promises: submits that are exact about what was accepted,
//! and waits that share their polls.

mod clock;
mod results;
#[path = "../support/mod.rs"]
mod support;

use std::{sync::Arc, time::Duration};

use haulage::{
    Backend, Error, FailureKind, JobError, JobHandle, JobId, Json, NewJob, Producer, Status,
    backend::{Cancellation, ClaimKey, ClaimRequest, Outcome, Settlement},
    memory::MemoryBackend,
};
use support::{Faulty, Mode, Verb, manual_clock, s, soon};
use tokio::task::JoinSet;

fn jobs(count: usize) -> Vec<NewJob> {
    (0..count).map(|n| NewJob::new(&n).expect("body")).collect()
}

fn ids(handles: &[JobHandle]) -> Vec<JobId> {
    handles.iter().map(|handle| handle.id().clone()).collect()
}

async fn claim(backend: &dyn Backend, max: usize) -> Vec<ClaimKey> {
    let request = ClaimRequest::new("test", s(30)).max(max);
    backend
        .claim(request, Default::default())
        .await
        .expect("claim")
        .into_iter()
        .map(|claimed| claimed.key)
        .collect()
}

async fn settle(backend: &dyn Backend, keys: Vec<ClaimKey>, outcome: Outcome) {
    let settlements = keys.into_iter().map(|key| Settlement::new(key, outcome.clone())).collect();
    for answer in backend.settle(settlements).await.expect("settle") {
        answer.expect("settle");
    }
}

fn success() -> Outcome {
    Outcome::Success(Json::encode("done").expect("JSON"))
}

#[tokio::test]
async fn a_handle_tells_where_its_job_is() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let job = producer.submit(&1).await.expect("submit");
    let rebuilt = producer.job(job.id().as_str());
    assert!(!job.is_duplicate() && !rebuilt.is_duplicate());
    let error = rebuilt.try_result::<String>().await.expect_err("too early");
    assert!(matches!(error, Error::NotFinished { status: Status::Submitted, .. }), "{error}");
    let keys = claim(&*backend, 1).await;
    assert_eq!(rebuilt.status().await.expect("status"), Status::InProgress);
    assert_eq!(rebuilt.progress().await.expect("record"), None);
    settle(&*backend, keys, success()).await;
    assert_eq!(rebuilt.try_result::<String>().await.expect("result"), "done");
    let error = rebuilt.try_result::<u8>().await.expect_err("another type");
    assert!(matches!(error, Error::InvalidJson { .. }), "{error}");
}

#[tokio::test]
async fn the_ways_a_job_can_end_are_told_apart() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let failed = producer.submit(&1).await.expect("submit");
    let error = JobError::new(FailureKind::Handler, "no such file");
    settle(&*backend, claim(&*backend, 1).await, Outcome::Fail(error.clone())).await;
    match failed.result::<()>(None).await {
        Err(Error::JobFailed { id, error: e }) => assert_eq!((&id, e), (failed.id(), error)),
        other => panic!("{other:?}"),
    }
    let cancelled = producer.submit(&2).await.expect("submit");
    assert_eq!(cancelled.cancel().await.expect("cancel"), Cancellation::Done);
    let error = cancelled.result::<()>(None).await.expect_err("cancelled");
    assert!(matches!(error, Error::JobCancelled(_)), "{error}");
    assert_eq!(cancelled.wait(None).await.expect("a record all the same").status, Status::Cancelled);
}

#[tokio::test]
async fn redrive_is_for_jobs_that_did_not_succeed() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let job = producer.submit(&1).await.expect("submit");
    let error = job.redrive().await.expect_err("it waits").to_string();
    assert!(error.contains("is SUBMITTED; only a job in ERROR or CANCELLED"), "{error}");
    job.cancel().await.expect("cancel");
    job.redrive().await.expect("redrive");
    settle(&*backend, claim(&*backend, 1).await, success()).await;
    assert!(matches!(job.redrive().await, Err(Error::Invalid(_))));
    let nobody = producer.job("nobody");
    assert!(matches!(nobody.redrive().await, Err(Error::NotFound(_))));
    assert!(matches!(nobody.cancel().await, Err(Error::NotFound(_))));
    assert!(matches!(nobody.status().await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_job() {
    let producer = Producer::new(Arc::new(MemoryBackend::new()));
    let job = || NewJob::new(&1).expect("body").idempotency_key("k");
    let first = producer.submit_job(job()).await.expect("submit");
    let again = producer.submit_job(job()).await.expect("submit");
    assert_eq!((first.id(), first.is_duplicate()), (again.id(), false));
    assert!(again.is_duplicate());
}

#[tokio::test]
async fn many_jobs_go_in_few_calls_and_stay_in_order() {
    let backend = Faulty::with(MemoryBackend::new(), |can| can.max_submit = 10);
    let handles = Producer::new(backend.clone()).submit_many(jobs(25)).await.expect("submit");
    let sizes: Vec<_> = backend.calls(Verb::Submit).iter().map(|call| call.items).collect();
    assert_eq!(sizes, [10, 10, 5]);
    let keys = claim(&*backend, 100).await;
    assert_eq!(keys.into_iter().map(|key| key.id).collect::<Vec<_>>(), ids(&handles));

    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    producer.submit_many(jobs(9_000)).await.expect("submit");
    let large = (0..5).map(|_| NewJob::new(&"x".repeat(7 << 18)).expect("body")).collect();
    producer.submit_many(large).await.expect("submit");
    producer.submit_many(Vec::new()).await.expect("nothing is no mistake");
    let sizes: Vec<_> = backend.calls(Verb::Submit).iter().map(|call| call.items).collect();
    assert_eq!(sizes, [4_000, 4_000, 1_000, 2, 2, 1]);
}

#[tokio::test]
async fn nothing_is_submitted_where_one_job_is_wrong() {
    let backend = Faulty::new(MemoryBackend::new().max_payload(10));
    let producer = Producer::new(backend.clone());
    let mut new = jobs(5000);
    new[4711] = new[4711].clone().max_attempts(0);
    let error = producer.submit_many(new).await.expect_err("one is wrong");
    assert_eq!((error.index, error.accepted.len()), (4711, 0));
    assert!(error.to_string().starts_with("job 4711 was not accepted: max_attempts is 0"), "{error}");
    let error = producer.submit_many(vec![NewJob::new("0123456789").expect("body")]).await;
    assert!(matches!(error.expect_err("too large").error, Error::TooLarge { size: 12, limit: 10, .. }));
    assert_eq!(backend.count(Verb::Submit), 0);
}

#[tokio::test]
async fn what_was_accepted_before_a_failure_is_told() {
    let backend = Faulty::with(MemoryBackend::new(), |can| can.max_submit = 4);
    let producer = Producer::new(backend.clone());
    backend.refuse("6");
    let error = producer.submit_many(jobs(12)).await.expect_err("one is refused");
    assert_eq!((error.index, error.accepted.len()), (6, 6));
    let later: Vec<_> = error.accepted_later.iter().map(|(index, _)| *index).collect();
    assert_eq!(later, [7]);
    let accepted = ids(&error.accepted).into_iter().chain([error.accepted_later[0].1.id().clone()]);
    let claimed = claim(&*backend, 100).await.into_iter().map(|key| key.id);
    assert_eq!(claimed.collect::<Vec<_>>(), accepted.collect::<Vec<_>>());
    assert_eq!(backend.count(Verb::Submit), 2, "nothing more is tried");

    backend.set(Verb::Submit, Mode::Fails);
    let error = producer.submit_many(jobs(3)).await.expect_err("out of order");
    assert_eq!((error.index, error.accepted.len(), error.accepted_later.len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_waits_share_their_polls() {
    const COUNT: usize = 5000;
    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let handles = producer.submit_many(jobs(COUNT)).await.expect("submit");
    let mut waits = JoinSet::new();
    // How many of them there are at the first look depends on the machine, so that comes when
    // all are there.
    backend.set(Verb::Get, Mode::Hangs);
    for handle in handles {
        waits.spawn(async move { handle.result::<String>(Some(s(300))).await });
    }
    soon(async {
        while !format!("{producer:?}").contains(&format!("jobs: {COUNT}")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    backend.set(Verb::Get, Mode::Works);
    let keys = claim(&*backend, COUNT).await;
    for chunk in keys.chunks(100) {
        settle(&*backend, chunk.to_vec(), success()).await;
    }
    while let Some(result) = soon(waits.join_next()).await {
        assert_eq!(result.expect("join").expect("result"), "done");
    }
    let calls = backend.calls(Verb::Get);
    assert!(calls.len() < COUNT / 10, "{} look-ups for {COUNT} waits", calls.len());
    assert!(calls.iter().all(|call| call.items <= 1000));
    assert!(format!("{producer:?}").contains("jobs: 0"), "nothing is left behind: {producer:?}");
}

#[tokio::test]
async fn each_job_is_told_of_as_it_ends() {
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let mut ids = ids(&producer.submit_many(jobs(3)).await.expect("submit"));
    ids.push(ids[0].clone());
    let mut keys = claim(&*backend, 3).await;
    keys.reverse();
    let mut seen = Vec::new();
    let (told, mut next) = tokio::sync::mpsc::unbounded_channel();
    let wait = producer.wait_each(&ids, Some(s(300)), |index, record| {
        seen.push((index, record.status));
        told.send(index).expect("the test listens");
    });
    let work = async {
        for key in keys {
            let id = key.id.clone();
            settle(&*backend, vec![key], success()).await;
            while ids[next.recv().await.expect("an index")] != id {}
        }
    };
    let (waited, ()) = tokio::join!(wait, work);
    waited.expect("all are over");
    assert_eq!(seen.iter().map(|(index, _)| *index).take(2).collect::<Vec<_>>(), [2, 1]);
    let mut last: Vec<_> = seen[2..].iter().map(|(index, _)| *index).collect();
    last.sort_unstable();
    assert_eq!(last, [0, 3], "an id that is there twice is told of twice");
    let records = producer.wait_all(&ids, None).await.expect("records");
    assert_eq!(records.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), ids);
    assert!(producer.wait_all(&[], None).await.expect("nothing to wait for").is_empty());
}

#[tokio::test]
async fn a_job_that_is_not_there_is_told_at_once() {
    let clock = manual_clock();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let producer = Producer::new(backend.clone());
    let error = soon(producer.job("nobody").wait(None)).await.expect_err("there is no such job");
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    let job = producer.submit(&1).await.expect("submit");
    let both = [job.id().clone(), JobId::from("nobody")];
    let error = soon(producer.wait_all(&both, None)).await.expect_err("one of them is not there");
    assert!(matches!(error, Error::NotFound(id) if id.as_str() == "nobody"));
    settle(&*backend, claim(&*backend, 1).await, success()).await;
    clock.advance(NewJob::DEFAULT_RESULT_TTL);
    let error = soon(job.wait(None)).await.expect_err("its time is over");
    assert!(matches!(error, Error::Expired(_)), "{error}");
}

#[tokio::test]
async fn a_wait_ends_at_its_deadline() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let producer = Producer::new(backend.clone());
    let job = producer.submit(&1).await.expect("submit");
    let wait = tokio::spawn({
        let job = job.clone();
        async move { job.wait(Some(s(30))).await }
    });
    backend.answered(Verb::Get, 1).await;
    clock.advance(s(29));
    // The look that comes without being asked for: it is still waiting.
    backend.answered(Verb::Get, 2).await;
    assert!(!wait.is_finished());
    clock.advance(s(1));
    let error = soon(wait).await.expect("join").expect_err("time is up");
    assert!(matches!(error, Error::TimedOut(after) if after == s(30)), "{error}");
    assert!(format!("{producer:?}").contains("jobs: 0"), "{producer:?}");

    // A wait without any time looks once, on its own.
    let looks = backend.count(Verb::Get);
    let error = job.wait(Some(s(0))).await.expect_err("it is not over");
    assert!(matches!(error, Error::TimedOut(_)), "{error}");
    settle(&*backend, claim(&*backend, 1).await, success()).await;
    assert_eq!(job.wait(Some(s(0))).await.expect("it is over").status, Status::Success);
    assert_eq!(backend.count(Verb::Get), looks + 2);
}

#[tokio::test]
async fn a_dead_worker_does_not_leave_a_wait_hanging() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let job = NewJob::new(&1).expect("body").max_attempts(1);
    let job = Producer::new(backend.clone()).submit_job(job).await.expect("submit");
    assert_eq!(claim(&*backend, 1).await.len(), 1);
    let wait = tokio::spawn(async move { job.wait(None).await });
    backend.answered(Verb::Get, 1).await;
    // Another lease beyond its end, in case that it only slept; and some notice. Time goes on:
    // nothing tells when a wait has begun to sleep by it.
    let time = async {
        loop {
            clock.advance(s(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let record = tokio::select! {
        record = soon(wait) => record.expect("join").expect("record"),
        () = time => unreachable!("time does not end"),
    };
    assert_eq!(record.error.expect("error").kind, FailureKind::WorkerLost);
}

#[tokio::test]
async fn a_wait_outlives_an_outage() {
    for mode in [Mode::Fails, Mode::Panics] {
        let backend = Faulty::new(MemoryBackend::new());
        let producer = Producer::new(backend.clone());
        let job = producer.submit(&1).await.expect("submit");
        backend.set(Verb::Get, mode);
        let wait = tokio::spawn(async move { job.result::<String>(Some(s(300))).await });
        backend.called(Verb::Get, 3).await;
        settle(&*backend, claim(&*backend, 1).await, success()).await;
        backend.set(Verb::Get, Mode::Works);
        assert_eq!(soon(wait).await.expect("join").expect("result"), "done");
    }
}

#[tokio::test]
async fn a_wait_that_never_reached_the_backend_says_so() {
    let clock = manual_clock();
    let backend = Faulty::new(MemoryBackend::with_clock(clock.clone()));
    let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
    backend.set(Verb::Get, Mode::Fails);
    let wait = tokio::spawn(async move { job.wait(Some(s(5))).await });
    backend.answered(Verb::Get, 2).await;
    clock.advance(s(5));
    let error = soon(wait).await.expect("join").expect_err("out of order");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[test]
fn a_wait_is_tied_to_no_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let backend = Arc::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let first = runtime();
    let job = first.block_on(async {
        let job = producer.submit(&1).await.expect("submit");
        let error = job.wait(Some(Duration::from_millis(20))).await.expect_err("nobody works");
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
        job
    });
    // The first runtime is still there, but nobody drives it any more.
    runtime().block_on(async {
        let work = async { settle(&*backend, claim(&*backend, 1).await, success()).await };
        let (result, ()) = tokio::join!(soon(job.result::<String>(None)), work);
        assert_eq!(result.expect("result"), "done");
    });
    drop(first);
}

#[tokio::test]
async fn waits_that_are_dropped_leave_nothing_behind() {
    let backend = Faulty::new(MemoryBackend::new());
    let weak = Arc::downgrade(&backend);
    let producer = Producer::new(backend.clone());
    let handles = producer.submit_many(jobs(100)).await.expect("submit");
    let all = ids(&handles);
    {
        let waits = [producer.wait_all(&all, None), producer.wait_all(&all[..50], None)];
        let mut waits = std::pin::pin!(both(waits));
        tokio::select! {
            () = backend.answered(Verb::Get, 1) => {}
            () = &mut waits => panic!("nobody works"),
        }
        assert!(format!("{producer:?}").contains("jobs: 100"), "{producer:?}");
    }
    assert!(format!("{producer:?}").contains("jobs: 0"), "{producer:?}");
    // Nor does an idle thread keep the backend.
    drop((handles, producer, backend));
    soon(async {
        while weak.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn both<F: Future>(waits: [F; 2]) {
    let [one, other] = waits;
    tokio::join!(one, other);
}
