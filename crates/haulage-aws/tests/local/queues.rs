//! Named queues: each is one of SQS, over one table.

use std::time::{Duration, Instant};

use haulage::{
    Backend, Error, JobId, NewJob, QueueName, Queues, Status,
    backend::{ClaimRequest, Redrive},
};
use haulage_aws::AwsBackend;

use crate::{
    helpers::{LONG, claim, job, record, request, settle, submit, success, work_off},
    place::Place,
    raw::{assert_drained, count, item, receive, send_text_to},
};

fn name(name: &str) -> QueueName {
    QueueName::new(name).expect("a name")
}

fn queues(text: &str) -> Queues {
    text.parse().expect("queues")
}

fn in_queue(queue: &str, body: u64) -> NewJob {
    job(body).queue(name(queue))
}

fn from(served: &str, wait: Duration) -> ClaimRequest {
    request(LONG, wait).queues(queues(served), 0)
}

async fn with_queues(names: &[&str]) -> Place {
    let place = Place::fifo().await;
    for name in names {
        place.make_queue(name).await;
    }
    place
}

/// How many messages of these queues are in somebody's hands.
async fn in_flight(backend: &AwsBackend) -> u64 {
    backend.backlog().await.expect("counts").in_progress
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_named_with_what_makes_it() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let answer = backend.submit(vec![job(1), in_queue("bulk", 2)]).await;
    let Err(Error::Config(message)) = answer else { panic!("{answer:?}") };
    let remedy = format!("{} in SQS", place.named("bulk"));
    assert!(message.contains(&remedy) && message.contains("haulage queue create --queue bulk"), "{message}");
    assert_eq!(claim(&backend, LONG).await.len(), 0, "nothing was sent");
    let answer = backend.submit(vec![in_queue("team.bulk", 1)]).await;
    assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    // It is looked for anew, once it has been made.
    place.make_queue("bulk").await;
    submit(&backend, in_queue("bulk", 1)).await;
}

#[tokio::test]
async fn no_more_messages_are_received_than_there_are_slots() {
    let place = with_queues(&["a", "b", "c"]).await;
    let backend = place.open().await;
    let submits = ["a", "b", "c", "a", "b", "c"].into_iter().map(|queue| in_queue(queue, 1));
    backend.submit(submits.clone().collect()).await.expect("submit");
    for (slots, held) in [(1, 1), (2, 3), (1, 4)] {
        let wait = Duration::from_secs(60);
        let mut here = 0;
        while here < slots {
            let request = from("a,b,c", wait).max(slots - here);
            here += backend.claim(request, Default::default()).await.expect("claim").len();
        }
        assert_eq!(in_flight(&backend).await, held, "a message that no slot is for is hidden from others");
    }
}

/// The others are polled long, too, and what comes goes to the claim that waits.
#[tokio::test]
async fn a_claim_that_waits_hears_of_every_queue() {
    let place = with_queues(&["a", "b", "c"]).await;
    let backend = place.open().await;
    let polls = || backend.usage().sqs.get("ReceiveMessage").copied().unwrap_or(0);
    for (slots, queue) in [(4, "c"), (4, "a"), (1, "c"), (1, "b"), (2, "a")] {
        let request = from("a,b,c", Duration::from_secs(120)).max(slots);
        let waits = backend.claim(request, Default::default());
        let before = polls();
        let submits = async {
            // Not before the claim waits.
            let polled = async {
                while polls() == before {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), polled).await.expect("it polls");
            (submit(&backend, in_queue(queue, 1)).await, Instant::now())
        };
        let (claimed, (id, since)) = tokio::join!(waits, submits);
        let claimed = claimed.expect("claim");
        assert_eq!(claimed.iter().map(|claimed| &claimed.key.id).collect::<Vec<_>>(), [&id]);
        assert_eq!(claimed[0].spec.queue, name(queue));
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
        settle(&backend, &claimed[0].key, success()).await.expect("the holder");
    }
    assert!(polls() < 120, "{} receives for five jobs", polls());
}

#[tokio::test]
async fn a_pause_by_another_process_is_heard_of_within_ten_seconds() {
    let place = with_queues(&["a"]).await;
    let (backend, operator) = (place.open().await, place.open().await);
    // It has looked a moment ago.
    assert_eq!(backend.claim(from("a", Duration::ZERO), Default::default()).await.expect("claim"), []);
    assert!(operator.set_paused(name("a"), true).await.expect("pause"));
    assert!(!operator.set_paused(name("a"), true).await.expect("pause"), "it is already");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let id = submit(&backend, in_queue("a", 1)).await;
    let wait = Duration::from_secs(3);
    assert_eq!(backend.claim(from("a", wait), Default::default()).await.expect("claim"), []);
    assert_eq!(in_flight(&operator).await, 0, "it is not even received");
    assert!(operator.backlog().await.expect("counts").queues[&name("a")].is_paused);
    assert!(operator.set_paused(name("a"), false).await.expect("resume"));
    let wait = Duration::from_secs(60);
    let claimed = backend.claim(from("a", wait), Default::default()).await.expect("claim");
    assert_eq!(claimed[0].key.id, id);
}

#[tokio::test]
async fn what_others_send_is_a_job_of_the_queue_that_it_is_in() {
    let place = with_queues(&["bulk"]).await;
    let backend = place.open().await;
    let id = JobId::from(send_text_to(&place, &place.named("bulk"), "{\"a\": 1}").await);
    let request = from("bulk", Duration::from_secs(60)).max(1);
    let claimed = backend.claim(request, Default::default()).await.expect("claim");
    assert_eq!((&claimed[0].key.id, &claimed[0].spec.queue), (&id, &name("bulk")));
    settle(&backend, &claimed[0].key, success()).await.expect("the holder");
    assert_eq!(record(&backend, &id).await.spec.queue, name("bulk"));
    assert_eq!(item(&place, &id).await["queue"].as_s().expect("text"), &place.named("bulk"));
}

/// Whichever of them SQS has moved it from.
#[tokio::test]
async fn redrive_puts_a_message_back_that_sqs_has_moved_from_a_named_queue() {
    let place = with_queues(&["bulk"]).await;
    let backend = place.open().await;
    let id = submit(&backend, in_queue("bulk", 1)).await;
    // Consumers that die before they come to claim it.
    while count(&place, &place.dead).await == 0 {
        receive(&place, &place.named("bulk"), 0).await;
    }
    let all = || Redrive::Dead { limit: 10, queue: None, after: None };
    let of = |queue| Redrive::Dead { limit: 10, queue: Some(name(queue)), after: None };
    assert_eq!(backend.redrive(of("default")).await.expect("redrive"), [], "it is none of that queue");
    let back = backend.redrive(all()).await.expect("redrive");
    assert_eq!(back, std::slice::from_ref(&id), "and goes where it came from");
    let request = from("bulk", Duration::from_secs(60)).max(1);
    let claimed = backend.claim(request, Default::default()).await.expect("claim");
    assert_eq!(claimed[0].key.id, id);
    assert_eq!(settle(&backend, &claimed[0].key, success()).await.expect("the holder"), Status::Success);
    assert_eq!(work_off(&backend).await, []);
    assert_drained(&place, &place.dead).await;
}
