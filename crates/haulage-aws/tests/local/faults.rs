//! Answers that are lost, batches that fail in part, calls that are refused:
//! each at the moment at which it hurts.

use std::time::Duration;

use haulage::{
    Backend, Error, Status,
    backend::{Detail, HeartbeatStatus, Lookup},
};
use haulage_aws::AwsBackend;
use haulage_servers::{Microburst, Patience, Stub, microburst::Rule, stub::Fault};

use crate::{
    helpers::{
        LONG, TRIES, beat, claim, job, record, retry, settle, submit, success, take, work_off, work_off_with,
    },
    place::{Place, ministack},
    raw,
};

/// A place, a proxy in front of it, and a backend that goes through the proxy.
struct Setting {
    place: Place,
    stub: Stub,
    backend: AwsBackend,
}

async fn setting(place: Place) -> Setting {
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    Setting { place, stub, backend }
}

/// Both kinds of queue.
async fn settings() -> [Setting; 2] {
    [setting(Place::fifo().await).await, setting(Place::standard().await).await]
}

/// Everything that was submitted runs once, and nothing else does.
async fn assert_all_run_once(setting: &Setting, ids: &[haulage::JobId]) {
    // A second message of a job that is running shows again after its lease.
    let mut done = work_off_with(&setting.backend, Duration::from_secs(3)).await;
    let mut ids = ids.to_vec();
    done.sort();
    ids.sort();
    assert_eq!(done, ids, "on {}", setting.place.queue);
    let stats = setting.backend.stats().await.expect("stats");
    assert_eq!((stats.success, stats.unfinished()), (ids.len() as u64, 0), "on {}", setting.place.queue);
    raw::assert_drained(&setting.place, &setting.place.queue).await;
    assert!(setting.stub.is_through(), "what was planned has happened");
}

async fn submit_many(backend: &AwsBackend, count: u64) -> Vec<haulage::JobId> {
    let answers = backend.submit((0..count).map(job).collect()).await.expect("submit");
    answers.into_iter().map(|answer| answer.expect("accepted").id).collect()
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_is_one_job() {
    for setting in settings().await {
        for fault in [Fault::LostAnswer, Fault::ErrorAfter, Fault::Reset, Fault::Throttle, Fault::LostPart] {
            setting.stub.fail_next("SendMessageBatch", fault);
        }
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.extend(submit_many(&setting.backend, 12).await);
        }
        assert_all_run_once(&setting, &ids).await;
    }
}

#[tokio::test]
async fn a_consumer_that_is_faster_than_the_second_try_decides() {
    // A standard queue gives the second try another id. The first message is
    // worked on before the submit knows of it.
    let setting = setting(Place::standard().await).await;
    setting.stub.fail_next("SendMessageBatch", Fault::LostAnswer);
    let other = setting.place.open().await;
    let (id, done) = tokio::join!(submit(&setting.backend, job(1)), async {
        let claimed = take(&other, LONG).await;
        settle(&other, &claimed.key, success()).await.expect("the holder");
        claimed.key.id
    });
    assert_eq!(work_off(&setting.backend).await, []);
    assert_eq!(id, done, "the submit answers with the job that runs");
    assert_eq!(record(&other, &id).await.status, Status::Success);
    raw::assert_drained(&setting.place, &setting.place.queue).await;
}

#[tokio::test]
async fn batches_that_fail_in_part_are_completed() {
    for setting in settings().await {
        setting.stub.fail_next("SendMessageBatch", Fault::Part);
        for fault in [Fault::Part, Fault::LostPart, Fault::Part] {
            setting.stub.fail_next("BatchExecuteStatement", fault);
        }
        let ids = submit_many(&setting.backend, 30).await;
        for _ in 0..2 {
            setting.stub.fail_next("BatchGetItem", Fault::Part);
        }
        let found = setting.backend.get(ids.clone(), Detail::Full).await.expect("get");
        assert!(found.iter().all(|lookup| matches!(lookup, Lookup::Found(_))), "{found:?}");
        for fault in [Fault::Part, Fault::LostPart] {
            setting.stub.fail_next("DeleteMessageBatch", fault);
        }
        assert_all_run_once(&setting, &ids).await;
    }
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_one_claim() {
    for fault in [Fault::LostAnswer, Fault::ErrorAfter, Fault::Error, Fault::Throttle] {
        let setting = setting(Place::fifo().await).await;
        let id = submit(&setting.backend, job(1)).await;
        setting.stub.fail_next("UpdateItem", fault);
        let claimed = take(&setting.backend, LONG).await;
        assert_eq!((&claimed.key.id, claimed.key.attempt), (&id, 1), "{fault:?}");
        assert_eq!(record(&setting.backend, &id).await.attempt, 1, "{fault:?}");
        assert!(setting.stub.is_through());
    }
}

#[tokio::test]
async fn a_claim_that_has_no_answer_at_all_is_found_in_the_record() {
    let setting = setting(Place::fifo().await).await;
    let id = submit(&setting.backend, job(1).max_attempts(1)).await;
    setting.stub.fail_next("UpdateItem", Fault::LostAnswer);
    for _ in 1..TRIES {
        setting.stub.fail_next("UpdateItem", Fault::Error);
    }
    let claimed = take(&setting.backend, LONG).await;
    assert_eq!((&claimed.key.id, claimed.key.attempt), (&id, 1));
    assert!(setting.stub.is_through());
    settle(&setting.backend, &claimed.key, success()).await.expect("the holder");
}

#[tokio::test]
async fn a_table_that_is_away_for_longer_than_a_lease_takes_no_job_from_its_holder() {
    for setting in settings().await {
        let id = submit(&setting.backend, job(1).max_attempts(1)).await;
        let lease = Duration::from_secs(3);
        let claimed = take(&setting.backend, lease).await;
        let beats = || async {
            let beat = haulage::backend::Heartbeat::new(claimed.key.clone(), lease);
            setting.backend.heartbeat(vec![beat]).await
        };
        let away = std::time::Instant::now();
        while away.elapsed() < 2 * lease {
            // How many tries a call makes depends on how it fails.
            (0..TRIES).for_each(|_| setting.stub.fail_next("UpdateItem", Fault::Reset));
            let error = beats().await.expect_err("nobody answers");
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        }
        (0..TRIES).for_each(|_| setting.stub.fail_next("UpdateItem", Fault::Reset));
        settle(&setting.backend, &claimed.key, success()).await.expect_err("nobody answers");
        while !setting.stub.is_through() {
            let _ = beats().await;
        }
        // It is back, and nobody else has taken the job.
        assert!(matches!(beat(&setting.backend, &claimed.key, lease).await, HeartbeatStatus::Held(_)));
        assert_eq!(
            settle(&setting.backend, &claimed.key, success()).await.expect("the holder"),
            Status::Success
        );
        let record = record(&setting.backend, &id).await;
        assert_eq!((record.status, record.attempt), (Status::Success, 1), "on {}", setting.place.queue);
    }
}

#[tokio::test]
async fn a_slow_queue_does_not_hold_up_heartbeats() {
    let setting = setting(Place::fifo().await).await;
    submit(&setting.backend, job(1)).await;
    let lease = Duration::from_secs(12);
    let claimed = take(&setting.backend, lease).await;
    setting.stub.fail_next("ChangeMessageVisibilityBatch", Fault::Slow(60_000));
    let began = std::time::Instant::now();
    assert!(matches!(beat(&setting.backend, &claimed.key, lease).await, HeartbeatStatus::Held(_)));
    assert!(began.elapsed() < Duration::from_secs(40), "after {:?}", began.elapsed());
    assert!(setting.stub.is_through());
    // The same for the table, where the answer counts: the lease has what it had.
    setting.stub.fail_next("UpdateItem", Fault::Slow(60_000));
    let beat = haulage::backend::Heartbeat::new(claimed.key, lease);
    let began = std::time::Instant::now();
    let error = setting.backend.heartbeat(vec![beat]).await.expect_err("no answer");
    assert!(error.to_string().contains("has not answered within 3s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(40), "after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_receive_whose_answer_is_lost_costs_no_attempt() {
    let setting = setting(Place::fifo().await).await;
    let id = submit(&setting.backend, job(1).max_attempts(1)).await;
    setting.stub.fail_next("ReceiveMessage", Fault::LostAnswer);
    let claimed = take(&setting.backend, Duration::from_secs(3)).await;
    assert_eq!((claimed.key.id, claimed.key.attempt), (id, 1));
}

#[tokio::test]
async fn a_settle_whose_answer_is_lost_is_one_outcome() {
    for fault in [Fault::LostAnswer, Fault::ErrorAfter] {
        let setting = setting(Place::fifo().await).await;
        let id = submit(&setting.backend, job(1)).await;
        for (outcome, status) in [(retry(), Status::Submitted), (success(), Status::Success)] {
            let claimed = take(&setting.backend, LONG).await;
            setting.stub.fail_next("UpdateItem", fault);
            let settled = settle(&setting.backend, &claimed.key, outcome).await;
            assert_eq!(settled.expect("the holder"), status, "{fault:?}");
            assert_eq!(record(&setting.backend, &id).await.status, status);
            assert!(matches!(
                settle(&setting.backend, &claimed.key, success()).await,
                Err(Error::LostClaim { .. })
            ));
        }
        raw::assert_drained(&setting.place, &setting.place.queue).await;
    }
}

#[tokio::test]
async fn a_settle_that_is_repeated_knows_its_own_work() {
    let setting = setting(Place::fifo().await).await;
    let id = submit(&setting.backend, job(1)).await;
    let claimed = take(&setting.backend, LONG).await;
    // It is written, and no answer comes, as often as the SDK tries.
    setting.stub.fail_next("UpdateItem", Fault::LostAnswer);
    for _ in 1..TRIES {
        setting.stub.fail_next("UpdateItem", Fault::Error);
    }
    let answer = settle(&setting.backend, &claimed.key, success()).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    assert_eq!(record(&setting.backend, &id).await.status, Status::Success);
    assert_eq!(settle(&setting.backend, &claimed.key, success()).await.expect("its own"), Status::Success);
    raw::assert_drained(&setting.place, &setting.place.queue).await;
}

#[tokio::test]
async fn one_failure_leaves_the_others_their_leases() {
    let setting = setting(Place::standard().await).await;
    submit_many(&setting.backend, 2).await;
    let lease = Duration::from_secs(60);
    let mut claimed = Vec::new();
    while claimed.len() < 2 {
        claimed.extend(claim(&setting.backend, lease).await);
    }
    // One call fails as often as the SDK tries, the other one time less.
    for _ in 1..2 * TRIES {
        setting.stub.fail_next("UpdateItem", Fault::Error);
    }
    let beats = claimed.iter().map(|claimed| {
        let key = claimed.key.clone();
        haulage::backend::Heartbeat::new(key, LONG)
    });
    let statuses = setting.backend.heartbeat(beats.collect()).await.expect("heartbeat");
    let kept: Vec<bool> = claimed
        .iter()
        .zip(&statuses)
        .map(|(claimed, status)| match status {
            HeartbeatStatus::Held(until) => *until == claimed.lease_until,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(kept.contains(&true) && kept.contains(&false), "{statuses:?}");
    assert!(setting.stub.is_through());

    for _ in 1..2 * TRIES {
        setting.stub.fail_next("UpdateItem", Fault::Error);
    }
    let settlements = claimed.iter().map(|claimed| {
        let key = claimed.key.clone();
        haulage::backend::Settlement::new(key, success())
    });
    let answers = setting.backend.settle(settlements.collect()).await.expect("settle");
    let done = answers.iter().filter(|answer| matches!(answer, Ok(Status::Success))).count();
    let failed = answers.iter().filter(|answer| matches!(answer, Err(Error::Unavailable { .. }))).count();
    assert_eq!((done, failed), (1, 1), "{answers:?}");
}

#[tokio::test]
async fn a_delete_that_fails_is_made_up_for() {
    let setting = setting(Place::fifo().await).await;
    let id = submit(&setting.backend, job(1)).await;
    let claimed = take(&setting.backend, Duration::from_secs(2)).await;
    for _ in 0..TRIES {
        setting.stub.fail_next("DeleteMessageBatch", Fault::Error);
    }
    settle(&setting.backend, &claimed.key, success()).await.expect("the holder");
    let before = record(&setting.backend, &id).await;
    // It shows again, and is seen to be over.
    assert_eq!(claim(&setting.backend, LONG).await, []);
    raw::assert_drained(&setting.place, &setting.place.queue).await;
    assert_eq!(record(&setting.backend, &id).await, before);
    assert!(setting.stub.is_through());
}

#[tokio::test]
async fn a_message_that_shows_too_early_is_left_to_the_holder() {
    for setting in settings().await {
        let id = submit(&setting.backend, job(1)).await;
        let claimed = take(&setting.backend, Duration::from_secs(2)).await;
        // The lease is extended, the message's time is not.
        for _ in 0..5 {
            setting.stub.fail_next("ChangeMessageVisibilityBatch", Fault::Error);
        }
        assert!(matches!(beat(&setting.backend, &claimed.key, LONG).await, HeartbeatStatus::Held(_)));
        let other = setting.place.open().await;
        assert_eq!(claim(&other, LONG).await, [], "the lease is live");
        // The other consumer has handed over its receipt, with which this one goes on.
        assert!(matches!(beat(&setting.backend, &claimed.key, LONG).await, HeartbeatStatus::Held(_)));
        settle(&setting.backend, &claimed.key, success()).await.expect("the holder");
        raw::assert_drained(&setting.place, &setting.place.queue).await;
        let record = record(&setting.backend, &id).await;
        assert_eq!((record.status, record.attempt), (Status::Success, 1));
    }
}

#[tokio::test]
async fn a_table_that_fails_leaves_the_message_for_later() {
    let setting = setting(Place::fifo().await).await;
    let id = submit(&setting.backend, job(1).max_attempts(1)).await;
    for _ in 0..TRIES {
        setting.stub.fail_next("UpdateItem", Fault::Error);
    }
    let error = setting
        .backend
        .claim(crate::helpers::request(LONG, Duration::from_secs(1)), Default::default())
        .await;
    assert!(matches!(error, Err(Error::Unavailable { .. })), "{error:?}");
    let claimed = take(&setting.backend, LONG).await;
    assert_eq!((claimed.key.id, claimed.key.attempt), (id, 1), "no attempt was used up");
}

#[tokio::test]
async fn a_submit_whose_record_is_late_succeeds_once() {
    for setting in settings().await {
        for _ in 0..3 * TRIES {
            setting.stub.fail_next("BatchExecuteStatement", Fault::Error);
        }
        let ids = submit_many(&setting.backend, 3).await;
        assert!(setting.stub.is_through(), "the insert was repeated");
        let other = setting.place.open().await;
        for id in &ids {
            assert_eq!(record(&other, id).await.status, Status::Submitted);
        }
        assert_all_run_once(&setting, &ids).await;
    }
}

/// The job is in the queue, and a submit that fails would be made again.
#[tokio::test]
async fn a_submit_without_a_record_succeeds_and_is_waited_for() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let through = place.through(stub.url());
    let builder = through.builder().await.record_patience(Duration::ZERO);
    let producer = builder.open().await.expect("a backend");
    for _ in 0..100 * TRIES {
        stub.fail_next("BatchExecuteStatement", Fault::Error);
    }
    let id = submit(&producer, job(41).request_id("r-1").max_attempts(7).metadata("tenant", "acme")).await;
    let seen = record(&producer, &id).await;
    assert_eq!((seen.status, seen.request_id()), (Status::Submitted, "r-1"), "whoever has sent it knows");
    let consumer = place.open().await;
    let lookups = consumer.get(vec![id.clone()], Detail::Status).await.expect("get");
    assert!(matches!(lookups[..], [Lookup::Unrecorded { .. }]), "{lookups:?}");
    let elsewhere = haulage::Producer::new(std::sync::Arc::new(place.open().await));
    let ids = [id.clone()];
    let wait = tokio::spawn(async move { elsewhere.wait_all(&ids, Some(LONG)).await });

    let claimed = take(&consumer, LONG).await;
    assert_eq!(claimed.key.id, id);
    let made = record(&consumer, &id).await;
    assert_eq!((made.status, made.attempt, made.spec.max_attempts), (Status::InProgress, 1, 7));
    assert_eq!((made.request_id(), made.spec.metadata.len()), ("r-1", 1));
    assert_eq!(made.body.expect("the body").as_str(), "41");
    assert_eq!(
        record(&producer, &id).await.status,
        Status::InProgress,
        "the record goes before what was sent"
    );
    settle(&consumer, &claimed.key, success()).await.expect("the holder");
    let done = wait.await.expect("joins").expect("the job");
    assert_eq!(done[0].status, Status::Success);
}

#[tokio::test]
async fn what_others_send_can_be_waited_for_before_it_has_a_record() {
    let place = Place::standard().await;
    let id = haulage::JobId::from(raw::send_text(&place, "41").await);
    let producer = haulage::Producer::new(std::sync::Arc::new(place.open().await));
    let ids = [id.clone()];
    let wait = tokio::spawn(async move { producer.wait_all(&ids, Some(LONG)).await });
    assert_eq!(work_off(&place.open().await).await, [id]);
    assert_eq!(wait.await.expect("joins").expect("the job")[0].status, Status::Success);
}

#[tokio::test]
async fn a_proxy_that_fails_a_third_of_all_calls_loses_nothing() {
    for place in [Place::fifo().await, Place::standard().await] {
        let proxy = Microburst::start(ministack());
        let backend = place.through(proxy.url()).open().await;
        let rules: Vec<Rule> = ["sqs", "dynamodb"]
            .into_iter()
            .flat_map(|service| {
                let throttle = if service == "sqs" { "RequestThrottled" } else { "ThrottlingException" };
                [
                    Rule::error(service, throttle, 400, 0.08),
                    Rule::error(service, "InternalServerError", 500, 0.08),
                    Rule::slow(service, 50, 200, 0.08),
                    Rule::reset(service, 0.05),
                    Rule::lost_answer(service, 0.05),
                ]
            })
            .collect();
        proxy.set(&rules);
        let (mut ids, mut refused) = (Vec::new(), 0);
        while ids.len() < 60 {
            for answer in backend.submit((0..10).map(job).collect()).await.expect("submit") {
                match answer {
                    Ok(job) => ids.push(job.id),
                    // It may run all the same: an answer of SQS was lost too often.
                    Err(_) => refused += 1,
                }
            }
        }
        // What happened is looked up past the proxy.
        let sure = place.open().await;
        let mut done = std::collections::HashSet::new();
        let mut patience = Patience::new(0);
        while !all_succeeded(&sure, &ids).await {
            assert!(!patience.is_over(done.len()), "{} of {} jobs are done", done.len(), ids.len());
            let request = crate::helpers::request(Duration::from_secs(5), Duration::from_secs(2));
            for claimed in backend.claim(request, Default::default()).await.unwrap_or_default() {
                // A settle that fails is made again, as a consumer does.
                let answer = loop {
                    match settle(&backend, &claimed.key, success()).await {
                        Err(Error::Unavailable { .. }) => continue,
                        answer => break answer,
                    }
                };
                match answer {
                    Ok(status) => {
                        assert_eq!(status, Status::Success);
                        assert!(done.insert(claimed.key.id.clone()), "{} ended twice", claimed.key.id);
                    }
                    // The calls took longer than the lease; it is claimed again.
                    Err(Error::LostClaim { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(proxy.fired() > 20, "{} faults", proxy.fired());
        proxy.set(&[]);
        let stats = backend.stats().await.expect("stats");
        let (least, most) = (ids.len() as u64, ids.len() as u64 + refused);
        assert!((least..=most).contains(&stats.success), "{least} to {most} of {stats:?}");
    }
}

async fn all_succeeded(backend: &AwsBackend, ids: &[haulage::JobId]) -> bool {
    let lookups = backend.get(ids.to_vec(), Detail::Status).await.expect("get");
    lookups.iter().all(|lookup| matches!(lookup, Lookup::Found(record) if record.status == Status::Success))
}
