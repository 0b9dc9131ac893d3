//! Messages that come twice, too late, from elsewhere, or for too long.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Backend, FailureKind, JobId, Progress, Status,
    backend::{Cancellation, Heartbeat, HeartbeatStatus, Lookup},
};
use haulage_aws::ScaleInProtection;

use crate::{
    helpers::{LONG, beat, claim, job, record, request, retry, settle, submit, success, take, work_off},
    place::{MAX_RECEIVES, Place},
    raw,
};

#[tokio::test]
async fn a_second_delivery_runs_nothing() {
    for place in [Place::fifo().await, Place::standard().await] {
        let (one, other) = (place.open().await, place.open().await);
        let id = submit(&one, job(1)).await;
        // The message itself, and two more like it, as SQS may deliver them.
        let message = raw::receive(&place, &place.queue, 0).await.remove(0);
        let copy = with_id(&message, &id);
        raw::resend(&place, &place.queue, &copy).await;
        let claimed = take(&one, LONG).await;
        assert_eq!(claimed.key.id, id);
        assert_eq!(claim(&other, LONG).await, [], "its lease is live");
        assert!(matches!(beat(&one, &claimed.key, LONG).await, HeartbeatStatus::Held(_)));
        settle(&one, &claimed.key, success()).await.expect("the holder");
        let before = record(&one, &id).await;

        raw::resend(&place, &place.queue, &copy).await;
        assert_eq!(claim(&other, LONG).await, [], "it is over");
        assert_eq!(record(&one, &id).await, before);
    }
}

/// The message as a copy for the job that it made.
pub(crate) fn with_id(message: &aws_sdk_sqs::types::Message, id: &JobId) -> aws_sdk_sqs::types::Message {
    let mut message = message.clone();
    let attributes = message.message_attributes.as_mut().expect("attributes");
    let options = attributes.get_mut("haulage").expect("ours");
    let text = options.string_value.take().expect("text");
    options.string_value = Some(format!("{{\"id\":\"{id}\",{}", &text[1..]));
    message
}

#[tokio::test]
async fn a_job_outlives_the_time_that_sqs_hides_a_message() {
    tokio::join!(outlives(Place::fifo().await), outlives(Place::standard().await));
}

async fn outlives(place: Place) {
    // What takes 12 hours on AWS takes 12 seconds here, with a lease that no machine under load outlasts.
    let (limit, lease) = (Duration::from_secs(12), Duration::from_secs(6));
    let open = || async { place.builder().await.visibility_limit(limit).open().await.expect("a backend") };
    let (holder, other) = (open().await, Arc::new(open().await));
    let id = submit(&holder, job(1).max_attempts(1)).await;
    let claimed = take(&holder, lease).await;
    // Somebody else waits for work all the while.
    let wanted = request(lease, Duration::from_secs(90));
    let stop = tokio_util::sync::CancellationToken::new();
    let waiting = tokio::spawn({
        let (other, stop) = (other.clone(), stop.clone());
        async move { other.claim(wanted, stop).await.expect("claim") }
    });
    let progress = Some(Progress { fraction: 0.5, message: Some("half".into()) });
    for n in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let key = claimed.key.clone();
        let beat = Heartbeat::new(key, lease)
            .update(haulage::backend::Update::default().progress(progress.clone().filter(|_| n == 2)));
        let status = holder.heartbeat(vec![beat]).await.expect("heartbeat")[0];
        assert!(matches!(status, HeartbeatStatus::Held(_)), "after {n} s: {status:?}");
    }
    let running = record(&holder, &id).await;
    assert_eq!((running.status, running.attempt, running.progress), (Status::InProgress, 1, progress));
    settle(&holder, &claimed.key, success()).await.expect("the holder");
    let done = record(&holder, &id).await;
    assert_eq!((&done.id, done.status, done.attempt), (&id, Status::Success, 1));
    stop.cancel();
    assert_eq!(waiting.await.expect("a claim"), [], "nobody else ran it");
    work_off(&place.open().await).await;
    raw::assert_drained(&place, &place.queue).await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_takes_nothing_away() {
    for wrong in [600_000_000, -600_000_000] {
        let place = Place::fifo().await;
        let right = place.open().await;
        let other = place.builder().await.clock_off_by(wrong).open().await.expect("a backend");
        let id = submit(&other, job(1)).await;
        let submitted = record(&right, &id).await.submitted_at;
        let now = right.clock().now();
        let off = submitted.since(now).max(now.since(submitted));
        assert!(off < Duration::from_secs(120), "{wrong}: off by {off:?}");
        let claimed = take(&right, Duration::from_secs(20)).await;
        assert_eq!(claim(&other, LONG).await, [], "{wrong}: the lease is live");
        assert_eq!(record(&other, &id).await.status, Status::InProgress, "{wrong}");
        assert!(matches!(beat(&right, &claimed.key, LONG).await, HeartbeatStatus::Held(_)), "{wrong}");
        settle(&right, &claimed.key, success()).await.expect("the holder");
    }
}

#[tokio::test]
async fn what_others_send_is_a_job_if_it_is_json() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let long = format!("\"{}\"", "x".repeat(2000));
        let id = JobId::from(raw::send_text(&place, &long).await);
        let claimed = take(&backend, LONG).await;
        assert_eq!((&claimed.key.id, claimed.body.as_str()), (&id, long.as_str()));
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let done = record(&backend, &id).await;
        assert_eq!((done.status, done.body), (Status::Success, None), "its message alone had it");

        let id = JobId::from(raw::send_text(&place, "hello").await);
        assert_eq!(claim(&backend, LONG).await, []);
        let dead = record(&backend, &id).await;
        let error = dead.error.expect("why");
        assert_eq!((dead.status, error.kind), (Status::Error, FailureKind::InvalidBody));
        assert!(error.message.contains("not JSON"), "{error}");
        raw::assert_drained(&place, &place.queue).await;
        assert_eq!(raw::count(&place, &place.dead).await, 1, "for somebody to look at");
    }
}

#[tokio::test]
async fn a_message_that_comes_too_late_to_start_its_job_runs_nothing() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let limit = Duration::from_millis(10);
        let id = submit(&backend, job(1).start_within(limit)).await;
        // Whoever submitted it did not live to write the record.
        let delete = place.dynamodb().await.delete_item().table_name(&place.table);
        delete.key("message_id", AttributeValue::S(id.to_string())).send().await.expect("deleted");
        tokio::time::sleep(limit).await;
        assert_eq!(claim(&backend, LONG).await, []);
        let late = record(&backend, &id).await;
        assert_eq!((late.status, late.dead, late.counted()), (Status::Error, false, 0));
        assert_eq!(late.error.map(|error| error.kind), Some(FailureKind::Expired));
        raw::assert_drained(&place, &place.queue).await;
    }
}

#[tokio::test]
async fn what_a_later_version_sends_is_left_to_it() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1)).await;
    let mut message = raw::receive(&place, &place.queue, 300).await.remove(0);
    let options = message.message_attributes.as_mut().expect("attributes").get_mut("haulage").expect("ours");
    options.string_value = options.string_value.take().map(|text| text.replacen("\"v\":1", "\"v\":2", 1));
    raw::resend(&place, &place.queue, &message).await;
    let error = backend
        .claim(request(LONG, Duration::from_secs(1)), Default::default())
        .await
        .expect_err("not this version");
    assert!(error.to_string().contains("update this consumer"), "{error}");
    assert_eq!(record(&backend, &id).await.status, Status::Submitted);
    assert_eq!(raw::count(&place, &place.queue).await, 2, "both are still there");
}

#[tokio::test]
async fn dead_letters_are_copied_and_come_back() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let die = async || {
            let claimed = take(&backend, LONG).await;
            assert_eq!(settle(&backend, &claimed.key, retry()).await.expect("the holder"), Status::Error);
            claimed.key.id
        };
        let id = submit(&backend, job(1).max_attempts(1)).await;
        assert_eq!(die().await, id);
        assert_eq!(raw::count(&place, &place.dead).await, 1);
        // Other tools can move it back, which is a redrive.
        let copy = raw::receive(&place, &place.dead, 0).await.remove(0);
        raw::resend(&place, &place.queue, &copy).await;
        assert_eq!(die().await, id);
        assert_eq!(record(&backend, &id).await.attempt, 2);
        assert_eq!(raw::count(&place, &place.dead).await, 2, "one for each time");
        // The same once more changes nothing: that death is history.
        raw::resend(&place, &place.queue, &copy).await;
        assert_eq!(claim(&backend, LONG).await, []);

        let redriven = backend.redrive(haulage::backend::Redrive::dead(10)).await.expect("redrive");
        assert_eq!(redriven, std::slice::from_ref(&id));
        let claimed = take(&backend, LONG).await;
        assert_eq!((&claimed.key.id, claimed.key.attempt, claimed.counted), (&id, 3, 1));
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        raw::assert_drained(&place, &place.dead).await;
        raw::assert_drained(&place, &place.queue).await;
    }
}

#[tokio::test]
async fn a_dead_letter_that_is_purged_leaves_no_copy_to_an_alarm() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let [gone, stays] =
        [submit(&backend, job(1).max_attempts(1)).await, submit(&backend, job(2).max_attempts(1)).await];
    for _ in [&gone, &stays] {
        let claimed = take(&backend, LONG).await;
        assert_eq!(settle(&backend, &claimed.key, retry()).await.expect("the holder"), Status::Error);
    }
    assert_eq!(raw::count(&place, &place.dead).await, 2);
    assert_eq!(backend.purge(haulage::backend::Purge::Jobs(vec![gone])).await.expect("purge"), 1);
    assert_eq!(raw::count(&place, &place.dead).await, 1, "that of the other");
}

#[tokio::test]
async fn what_sqs_has_moved_away_comes_back_with_a_redrive() {
    let place = Place::standard().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1)).await;
    // Consumers that die before they come to anything.
    for _ in 0..=MAX_RECEIVES {
        raw::receive(&place, &place.queue, 0).await;
    }
    assert_eq!(raw::count(&place, &place.dead).await, 1);
    assert_eq!(claim(&backend, LONG).await, []);
    let redriven = backend.redrive(haulage::backend::Redrive::dead(10)).await.expect("redrive");
    assert_eq!(redriven, std::slice::from_ref(&id));
    assert_eq!(work_off(&backend).await, [id]);
    raw::assert_drained(&place, &place.dead).await;
}

#[tokio::test]
async fn a_message_is_replaced_before_sqs_moves_it_away() {
    for place in [Place::fifo().await, Place::standard().await] {
        let backend = place.open().await;
        let id = submit(&backend, job(1)).await;
        for _ in 1..MAX_RECEIVES {
            assert_eq!(raw::receive(&place, &place.queue, 0).await.len(), 1);
        }
        // The last receive that SQS allows; and this consumer dies.
        let lost = take(&backend, Duration::from_secs(3)).await;
        assert_eq!(lost.key.id, id);
        let next = take(&backend, LONG).await;
        assert_eq!((&next.key.id, next.key.attempt), (&id, 2));
        settle(&backend, &next.key, success()).await.expect("the holder");
        work_off(&backend).await;
        raw::assert_drained(&place, &place.queue).await;
        assert_eq!(raw::count(&place, &place.dead).await, 0);
    }
}

#[tokio::test]
async fn jobs_that_follow_in_a_group_go_on_without_another_receive() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let jobs = (0..6).map(|n| job(n).group("g")).collect();
    let ids: Vec<_> =
        backend.submit(jobs).await.expect("submit").into_iter().map(|job| job.expect("ok").id).collect();
    for id in &ids[..3] {
        let claimed = claim(&backend, Duration::from_secs(5)).await;
        let [claimed] = &claimed[..] else { panic!("one of a group: {claimed:?}") };
        assert_eq!(claimed.key.id, *id);
        // What follows stays hidden as long as this one is held.
        assert!(matches!(
            beat(&backend, &claimed.key, Duration::from_secs(10)).await,
            HeartbeatStatus::Held(_)
        ));
        settle(&backend, &claimed.key, success()).await.expect("the holder");
    }
    // One that is given back takes the rest with it, for others.
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, haulage::backend::Outcome::release()).await.expect("the holder");
    let other = place.open().await;
    for id in &ids[3..] {
        let claimed = take(&other, LONG).await;
        assert_eq!(claimed.key.id, *id);
        settle(&other, &claimed.key, success()).await.expect("the holder");
    }
    raw::assert_drained(&place, &place.queue).await;
}

#[tokio::test]
async fn a_backend_that_ends_gives_back_what_it_has_not_begun() {
    let place = Place::fifo().await;
    let first = place.open().await;
    let jobs = (0..3).map(|n| job(n).group("g")).collect();
    let ids: Vec<_> =
        first.submit(jobs).await.expect("submit").into_iter().map(|job| job.expect("ok").id).collect();
    let claimed = claim(&first, LONG).await.remove(0);
    settle(&first, &claimed.key, success()).await.expect("the holder");
    drop(first);
    assert_eq!(take(&place.open().await, LONG).await.key.id, ids[1]);
}

#[tokio::test]
async fn a_worker_that_stops_gives_back_what_it_has_not_begun() {
    let place = Place::fifo().await;
    let first = place.open().await;
    let jobs = (0..4).map(|n| job(n).group("g")).collect();
    let ids: Vec<_> =
        first.submit(jobs).await.expect("submit").into_iter().map(|job| job.expect("ok").id).collect();
    let running = claim(&first, LONG).await.remove(0);
    first.drain().await.expect("drain");
    // Its backend lives on, and so does its last job.
    settle(&first, &running.key, success()).await.expect("the holder");
    let second = place.open().await;
    let claimed = take(&second, LONG).await;
    assert_eq!(claimed.key.id, ids[1], "the job after the last one of the first worker");
    settle(&second, &claimed.key, success()).await.expect("the holder");
    // What waits for its turn when the worker stops.
    second.drain().await.expect("drain");
    assert_eq!(take(&first, LONG).await.key.id, ids[2]);
}

#[tokio::test]
async fn a_key_whose_submit_lost_it_makes_no_job() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1).idempotency_key("k")).await;
    let message = raw::receive(&place, &place.queue, 0).await.remove(0);
    // A second message with the same key and another token: its submit died
    // after another one had taken the key over.
    let mut orphan = message.clone();
    let attributes = orphan.message_attributes.as_mut().expect("attributes");
    let options = attributes.get_mut("haulage").expect("ours");
    let text = options.string_value.take().expect("text");
    options.string_value = Some(text.replacen("\"token\":\"", "\"token\":\"x", 1));
    raw::resend(&place, &place.queue, &orphan).await;
    assert_eq!(work_off(&backend).await, [id]);
    raw::assert_drained(&place, &place.queue).await;
    assert_eq!(backend.stats().await.expect("stats").success, 1);
}

#[tokio::test]
async fn a_message_that_other_tools_have_moved_is_of_the_job_with_its_key() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1).idempotency_key("k")).await;
    let message = raw::receive(&place, &place.queue, 300).await.remove(0);
    // A move from queue to queue gives it another id.
    raw::resend(&place, &place.queue, &message).await;
    assert_eq!(work_off(&backend).await, [id]);
}

#[tokio::test]
async fn a_purged_job_does_not_come_back() {
    let place = Place::standard().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1)).await;
    let message = raw::receive(&place, &place.queue, 0).await.remove(0);
    let copy = with_id(&message, &id);
    let query = haulage::backend::Purge::status(Status::Submitted, Duration::ZERO);
    assert_eq!(backend.purge(query).await.expect("purge"), 1);
    raw::resend(&place, &place.queue, &copy).await;
    assert_eq!(claim(&backend, LONG).await, []);
    let lookup = backend.get(vec![id.clone()], haulage::backend::Detail::Full).await.expect("get").remove(0);
    assert_eq!(lookup, Lookup::Missing);
    assert_eq!(backend.cancel(vec![id]).await.expect("cancel"), [Cancellation::Missing]);
}

#[tokio::test]
async fn without_the_protection_that_is_required_nothing_is_started() {
    let place = Place::fifo().await;
    let careful =
        place.builder().await.ecs_protection(ScaleInProtection::Require).open().await.expect("a backend");
    let id = submit(&careful, job(1)).await;
    for _ in 0..5 {
        let error = careful
            .claim(request(LONG, Duration::from_secs(1)), Default::default())
            .await
            .expect_err("not on ECS");
        assert!(error.to_string().contains("ECS_AGENT_URI is not set"), "{error}");
    }
    // SQS counts receives, and moves away what was received too often.
    assert_eq!(careful.usage().sqs.get("ReceiveMessage"), Some(&1));
    let before = record(&careful, &id).await;
    assert_eq!((before.status, before.attempt), (Status::Submitted, 0));
    // Others get it soon.
    assert_eq!(take(&place.open().await, LONG).await.key.attempt, 1);
}
