//! Results of many jobs: few are in memory at a time, and none holds up the others.

use std::time::Duration;

use haulage::{Error, Json, Producer, Status, backend::Outcome, memory::MemoryBackend};

use crate::{
    claim, ids, jobs, settle, success,
    support::{Faulty, Mode, Verb, manual_clock, soon},
};

#[tokio::test]
async fn a_wait_for_many_large_results_has_few_of_them_in_memory() {
    const COUNT: usize = 64;
    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let ids = ids(&producer.submit_many(jobs(COUNT)).await.expect("submit"));
    let keys = claim(&*backend, COUNT).await;
    let large = Json::encode(&"x".repeat(1 << 20)).expect("JSON");
    settle(&*backend, keys, Outcome::Success(large.clone())).await;
    for timeout in [Some(Duration::ZERO), None] {
        let mut told = Vec::new();
        let each = |index, record: haulage::Record| told.push((index, record.result == Some(large.clone())));
        soon(producer.wait_each(&ids, timeout, each)).await.expect("all are over");
        told.sort_unstable();
        assert_eq!(told, (0..COUNT).map(|index| (index, true)).collect::<Vec<_>>());
        let most = backend.most_result_bytes() >> 20;
        assert!(most <= 16, "{most} MiB were looked up at once");
    }
}

#[tokio::test]
async fn many_small_results_come_in_few_look_ups_and_outlive_an_outage() {
    const COUNT: usize = 5000;
    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let ids = ids(&producer.submit_many(jobs(COUNT)).await.expect("submit"));
    let keys = claim(&*backend, COUNT).await;
    settle(&*backend, keys, success()).await;
    let mut told = 0;
    let each = |_, record: haulage::Record| {
        assert!(record.result.is_some(), "{record:?}");
        told += 1;
        if told == COUNT / 2 {
            backend.set(Verb::Get, Mode::Fails);
        }
    };
    let recovers = async {
        while backend.failures() == 0 {
            tokio::task::yield_now().await;
        }
        backend.set(Verb::Get, Mode::Works);
    };
    let (waited, ()) = soon(async { tokio::join!(producer.wait_each(&ids, None, each), recovers) }).await;
    waited.expect("all are over");
    assert_eq!(told, COUNT);
    assert!(backend.count(Verb::Get) < COUNT / 10, "{} look-ups", backend.count(Verb::Get));
}

#[tokio::test]
async fn a_result_that_cannot_be_had_for_now_holds_up_no_other() {
    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let ids = ids(&producer.submit_many(jobs(5)).await.expect("submit"));
    let keys = claim(&*backend, 5).await;
    settle(&*backend, keys[..4].to_vec(), success()).await;
    backend.keep_back(Some(ids[1].clone()));

    // Whoever does not wait is told what there is, and why not all.
    let mut told = Vec::new();
    let each = |index, _| told.push(index);
    let error = soon(producer.wait_each(&ids[..4], Some(Duration::ZERO), each)).await.expect_err("not all");
    assert!(matches!(&error, Error::Unavailable { message, .. } if message.contains("bucket")), "{error}");
    told.sort_unstable();
    assert_eq!(told, [0, 2, 3]);

    // Whoever waits hears of the others, also of what comes later, and of it at last.
    let (send, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let waits = producer.wait_each(&ids, None, move |index, _| send.send(index).expect("somebody listens"));
    let later = async {
        for _ in 0..3 {
            assert!(heard.recv().await.is_some_and(|index| index != 1));
        }
        settle(&*backend, keys[4..].to_vec(), success()).await;
        assert_eq!(heard.recv().await, Some(4));
        backend.keep_back(None);
        assert_eq!(heard.recv().await, Some(1));
    };
    let (waited, ()) = soon(async { tokio::join!(waits, later) }).await;
    waited.expect("all are over");

    // And one whose time is up says why.
    backend.keep_back(Some(ids[1].clone()));
    let error = soon(producer.wait_each(&ids, Some(Duration::from_millis(300)), |_, _| {})).await;
    assert!(error.expect_err("not all").to_string().contains("bucket"));
}

#[tokio::test]
async fn what_is_over_is_told_before_an_error_ends_the_wait() {
    let backend = Faulty::new(MemoryBackend::new());
    let producer = Producer::new(backend.clone());
    let mut ids = ids(&producer.submit_many(jobs(3)).await.expect("submit"));
    let keys = claim(&*backend, 3).await;
    settle(&*backend, keys, success()).await;
    ids.insert(0, "no-such-job".into());
    let mut told = Vec::new();
    let error = soon(producer.wait_each(&ids, Some(Duration::ZERO), |index, _| told.push(index))).await;
    assert!(matches!(error, Err(Error::NotFound(_))), "{error:?}");
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3]);
}

#[tokio::test]
async fn a_wait_whose_time_is_up_while_a_result_is_on_its_way_has_all_or_says_so() {
    let clock = manual_clock();
    let backend = Faulty::without_signals(MemoryBackend::with_clock(clock.clone()));
    let producer = Producer::new(backend.clone());
    let ids = ids(&producer.submit_many(jobs(2)).await.expect("submit"));
    let keys = claim(&*backend, 2).await;
    settle(&*backend, keys[..1].to_vec(), success()).await;
    let waiting = {
        let ids = ids.clone();
        tokio::spawn(async move { producer.wait_all(&ids, Some(Duration::from_secs(10))).await })
    };
    // It is known that the first is over, and its result does not come.
    backend.answered(Verb::Get, 1).await;
    backend.set(Verb::Get, Mode::Hangs);
    backend.called(Verb::Get, 2).await;
    settle(&*backend, keys[1..].to_vec(), success()).await;
    clock.advance(Duration::from_secs(11));
    backend.called(Verb::Get, 3).await;
    backend.set(Verb::Get, Mode::Works);
    let records = soon(waiting).await.expect("joins").expect("both are over");
    let found: Vec<_> = records.iter().map(|record| (&record.id, record.result.is_some())).collect();
    assert_eq!(found, [(&ids[0], true), (&ids[1], true)]);
}

#[tokio::test]
async fn status_and_progress_need_no_result() {
    let backend = Faulty::new(MemoryBackend::new());
    let job = Producer::new(backend.clone()).submit(&1).await.expect("submit");
    settle(&*backend, claim(&*backend, 1).await, success()).await;
    backend.keep_back(Some(job.id().clone()));
    let error = job.record().await.expect_err("its result is out of reach");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert_eq!(job.status().await.expect("status"), Status::Success);
    assert_eq!(job.progress().await.expect("progress"), None);
}
