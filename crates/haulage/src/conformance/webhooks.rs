//! What is to be told to webhooks.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    Case,
    trial::{LONG, Trial, TrialEnd, error, fail, job, jobs, json, retry, success},
};
use crate::{
    Backend, Error, JobId, NewJob, Status, Webhook, WebhookEvent,
    backend::{
        ClaimedDelivery, Deliveries, Delivery, DeliveryOutcome, DeliveryQuery, DeliveryRequest,
        DeliverySettlement, Outcome, Purge, RedriveDeliveries, Settlement,
    },
};

pub(super) const CASES: &[Case] = &[
    Case::new("webhooks: a store without them refuses such a job", &[1], |t| Box::pin(refused(t)))
        .needs(no_webhooks),
    Case::new("webhooks: each end is told once, with the record", &[2], |t| Box::pin(ends(t)))
        .needs(webhooks),
    Case::new("webhooks: the end of a job that nobody runs is told", &[2], |t| Box::pin(ends_unrun(t)))
        .needs(webhooks),
    Case::new("webhooks: the end of a job whose worker is lost is told", &[2, 6], |t| Box::pin(lost(t)))
        .needs(webhooks),
    Case::new("webhooks: a failed attempt is told where another follows", &[2], |t| Box::pin(failures(t)))
        .needs(webhooks),
    Case::new("webhooks: what changes nothing tells nothing", &[3], |t| Box::pin(nothing(t))).needs(webhooks),
    Case::new("webhooks: a large result is left out", &[10], |t| Box::pin(large(t))).needs(webhooks),
    Case::new("webhooks: a delivery is one claimer's for its lease", &[5], |t| Box::pin(leases(t)))
        .needs(webhooks),
    Case::new("webhooks: a delivery is told again until it is dead", &[7], |t| Box::pin(again(t)))
        .needs(webhooks),
    Case::new("webhooks: dead deliveries are redriven", &[4], |t| Box::pin(redriven(t))).needs(webhooks),
    Case::new("webhooks: a slow host holds up no other", &[8], |t| Box::pin(hosts(t))).needs(webhooks),
    Case::new("webhooks: many slow hosts hold up no other", &[8], |t| Box::pin(many_hosts(t)))
        .needs(webhooks),
    Case::new("webhooks: a delivery outlives a record that expires", &[11], |t| Box::pin(outlives(t)))
        .needs(webhooks),
    Case::new("webhooks: nothing is told of a job that is purged", &[2], |t| Box::pin(purged(t)))
        .needs(webhooks),
    Case::new("webhooks: what is shown has no secret", &[1], |t| Box::pin(shown(t))).needs(webhooks),
];

pub(super) fn webhooks(backend: &dyn Backend) -> Option<&'static str> {
    (!backend.capabilities().webhooks).then_some("has no webhooks")
}

fn no_webhooks(backend: &dyn Backend) -> Option<&'static str> {
    backend.capabilities().webhooks.then_some("has webhooks")
}

pub(super) const URL: &str = "https://hooks.example/haulage?token=secret";

/// A job that tells of everything.
pub(super) fn telling(body: u64) -> NewJob {
    job(body).webhook(Webhook::new(URL).events(WebhookEvent::ALL))
}

fn outbox<'a>(t: &'a Trial<'_>) -> &'a dyn Deliveries {
    t.backend.deliveries().expect("it declares webhooks")
}

fn request(t: &Trial<'_>) -> DeliveryRequest {
    DeliveryRequest { max: 100, per_host: 100, in_flight: BTreeMap::new(), lease: t.ticks(LONG) }
}

pub(super) async fn claim(t: &Trial<'_>) -> Vec<ClaimedDelivery> {
    outbox(t).claim_deliveries(request(t)).await.expect("claim").deliveries
}

/// Claims what is to be told, and says that it was; it comes as kind and body.
pub(super) async fn told(t: &Trial<'_>) -> Vec<(WebhookEvent, Value)> {
    let claimed = claim(t).await;
    let done = claimed.iter().map(|claimed| settlement(claimed, DeliveryOutcome::Done)).collect();
    let settled = outbox(t).settle_deliveries(done).await.expect("settle");
    assert!(settled.iter().all(|settled| *settled), "{claimed:?}");
    let told = claimed.into_iter().map(|ClaimedDelivery { delivery, body, .. }| {
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["type"], delivery.event.kind());
        assert_eq!(body["data"]["id"], delivery.job.as_str());
        (delivery.event, body)
    });
    told.collect()
}

fn settlement(claimed: &ClaimedDelivery, outcome: DeliveryOutcome) -> DeliverySettlement {
    let Delivery { id, tries, .. } = claimed.delivery.clone();
    DeliverySettlement { id, tries, outcome }
}

pub(super) async fn settle(t: &Trial<'_>, claimed: &ClaimedDelivery, outcome: DeliveryOutcome) -> bool {
    outbox(t).settle_deliveries(vec![settlement(claimed, outcome)]).await.expect("settle").remove(0)
}

async fn list(t: &Trial<'_>, query: DeliveryQuery) -> Vec<Delivery> {
    outbox(t).list_deliveries(query).await.expect("list")
}

pub(super) async fn all(t: &Trial<'_>) -> Vec<Delivery> {
    list(t, DeliveryQuery::new(100)).await
}

async fn refused(t: &Trial<'_>) {
    assert!(t.backend.deliveries().is_none());
    let refused = t.backend.submit(vec![job(1), telling(2)]).await.expect_err("refused");
    assert!(matches!(&refused, Error::Invalid(why) if why.starts_with("webhook ")), "{refused}");
    t.assert_idle().await;
}

async fn ends(t: &Trial<'_>) {
    for end in TrialEnd::ALL {
        let id =
            t.end(telling(1).metadata("team", "vision").result_ttl(Duration::from_secs(3600)), end).await;
        let mut told = told(t).await;
        assert_eq!(told.len(), 1, "{end:?}: {told:?}");
        let (event, body) = told.remove(0);
        assert_eq!(event, WebhookEvent::Ended);
        let data = &body["data"];
        let record = t.record(&id).await;
        assert_eq!((&data["status"], record.status), (&end.status().as_str().into(), end.status()));
        assert_eq!(body["timestamp"], serde_json::to_value(record.finished_at).expect("JSON"));
        assert_eq!((&data["attempt"], &data["metadata"]["team"]), (&1.into(), &"vision".into()));
        assert_eq!(data["dead"], end == TrialEnd::Dead);
        let result = (end == TrialEnd::Success).then(|| Value::from(7));
        assert_eq!(data.get("result"), result.as_ref(), "{end:?}");
        assert_eq!(data["error"].is_null(), end == TrialEnd::Success, "{end:?}");
        assert!(data.get("body").is_none());
        assert!(self::told(t).await.is_empty(), "once");
        if end != TrialEnd::Success {
            // A redriven job ends again.
            let first = list(t, DeliveryQuery::new(10)).await;
            assert_eq!(first, []);
            assert_eq!(t.redrive(&[&id]).await, [id]);
            let claimed = t.take().await;
            t.finish(&claimed.key, success(8)).await;
            assert_eq!(self::told(t).await.len(), 1);
        }
    }
}

async fn ends_unrun(t: &Trial<'_>) {
    let waits = t.submit(telling(1)).await;
    t.backend.cancel(vec![waits]).await.expect("cancel");
    let (event, body) = told(t).await.pop().expect("the cancel is told");
    assert_eq!((event, &body["data"]["status"]), (WebhookEvent::Ended, &"CANCELLED".into()));

    let late = t.submit(telling(2).start_within(t.ticks(3))).await;
    t.pass(4).await;
    assert_eq!(t.status(&late).await, Status::Error);
    let (_, body) = told(t).await.pop().expect("that it has expired is told");
    assert_eq!(body["data"]["error"]["kind"], "expired");
    let finished_at = serde_json::to_value(t.record(&late).await.finished_at).expect("JSON");
    assert_eq!(body["data"]["finished_at"], finished_at);
    assert!(told(t).await.is_empty(), "once");
}

async fn lost(t: &Trial<'_>) {
    let id = t.submit(telling(1).max_attempts(2)).await;
    t.take_for(4).await;
    let second = t.retake_as(4, t.request().lease(t.ticks(4))).await;
    assert_eq!(second.key.attempt, 2);
    let (event, body) = told(t).await.pop().expect("the loss is told");
    assert_eq!((event, &body["data"]["status"]), (WebhookEvent::AttemptFailed, &"SUBMITTED".into()));
    assert_eq!(body["data"]["error"]["kind"], "worker_lost");
    t.abandon(4).await;
    t.assert_idle().await;
    assert_eq!(t.status(&id).await, Status::Error);
    let told = told(t).await;
    assert!(matches!(&told[..], [(WebhookEvent::Ended, body)] if body["data"]["dead"] == true), "{told:?}");
}

async fn failures(t: &Trial<'_>) {
    let first = t.start(telling(1).max_attempts(2)).await;
    t.finish(&first.key, retry("not yet")).await;
    let told_of = told(t).await;
    assert!(matches!(&told_of[..], [(WebhookEvent::AttemptFailed, _)]), "{told_of:?}");
    let data = &told_of[0].1["data"];
    assert_eq!((&data["status"], &data["attempt"]), (&"SUBMITTED".into(), &1.into()));
    assert_eq!(data["error"]["message"], "not yet");
    // What is given back has not failed, whatever the reason.
    let put_off = Outcome::Release { after: Duration::ZERO, reason: Some("later".into()), begun: false };
    for outcome in [Outcome::release(), put_off] {
        let given_back = t.take().await;
        t.finish(&given_back.key, outcome).await;
        assert!(told(t).await.is_empty());
    }
    let last = t.take().await;
    t.finish(&last.key, retry("never")).await;
    let told_of = told(t).await;
    assert!(matches!(&told_of[..], [(WebhookEvent::Ended, _)]), "the end tells of it: {told_of:?}");
    // Who does not want to know is not told.
    let quiet = t.start(job(2).webhook(Webhook::new(URL).events([WebhookEvent::AttemptFailed]))).await;
    t.finish(&quiet.key, success(1)).await;
    let other = t.start(job(3).webhook(Webhook::new(URL))).await;
    t.finish(&other.key, retry("not yet")).await;
    assert!(told(t).await.is_empty());
}

async fn nothing(t: &Trial<'_>) {
    t.submit_all(jobs(2)).await;
    for outcome in [success(1), fail("no")] {
        let claimed = t.take().await;
        t.finish(&claimed.key, outcome).await;
    }
    let id = t.submit(telling(1).idempotency_key("k")).await;
    let again = t.backend.submit(vec![telling(1).idempotency_key("k")]).await.expect("submit").remove(0);
    assert!(again.is_ok_and(|again| again.duplicate && again.id == id));
    let first = t.take_for(4).await;
    let second = t.retake(4).await;
    told(t).await;
    t.assert_lost(&first.key).await;
    assert!(told(t).await.is_empty(), "a settle that is refused tells nothing");
    t.finish(&second.key, success(1)).await;
    assert_eq!(told(t).await.len(), 1);
    t.assert_lost(&second.key).await;
    assert!(told(t).await.is_empty());
}

async fn large(t: &Trial<'_>) {
    for (bytes, sent) in [(Webhook::MAX_RESULT_BYTES, true), (Webhook::MAX_RESULT_BYTES + 1, false)] {
        let claimed = t.start(telling(1)).await;
        let result = json(&format!("\"{}\"", "x".repeat(bytes - 2)));
        t.finish(&claimed.key, Outcome::Success(result)).await;
        let (_, body) = told(t).await.pop().expect("the end is told");
        assert_eq!(body["data"]["status"], "SUCCESS");
        assert_eq!(body["data"].get("result").is_some(), sent, "{bytes} bytes");
    }
}

async fn ended(t: &Trial<'_>, url: &str) -> JobId {
    let id = t.submit(job(1).webhook(Webhook::new(url))).await;
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    id
}

async fn leases(t: &Trial<'_>) {
    ended(t, URL).await;
    let short = DeliveryRequest { lease: t.ticks(4), ..request(t) };
    let claimed =
        outbox(t).claim_deliveries(short).await.expect("claim").deliveries.pop().expect("it is due");
    assert_eq!(claimed.delivery.tries, 1);
    let other = outbox(t).claim_deliveries(request(t)).await.expect("claim");
    assert_eq!(other.deliveries, [], "it is in somebody's hands");
    assert!(other.next.is_some(), "it may be due again");
    t.pass(5).await;
    let again = claim(t).await.pop().expect("its lease is over");
    assert_eq!((again.delivery.tries, &again.delivery.id), (2, &claimed.delivery.id), "the same delivery");
    assert_eq!((&again.body, again.since), (&claimed.body, claimed.since));
    let dead = DeliveryOutcome::Dead { error: "no".into() };
    for stale in [DeliveryOutcome::Done, dead] {
        assert!(!settle(t, &claimed, stale).await, "this try is over");
    }
    assert_eq!(all(t).await[0].dead_at, None);
    assert!(settle(t, &again, DeliveryOutcome::Done).await);
    assert_eq!(all(t).await, []);
    assert!(!settle(t, &again, DeliveryOutcome::Done).await, "it is gone");
}

async fn again(t: &Trial<'_>) {
    let job = ended(t, URL).await;
    t.pass(5).await;
    let before = t.now();
    let first = claim(t).await.pop().expect("it is due");
    t.assert_near(Some(first.since), before, Duration::ZERO);
    let before = t.now();
    let later = DeliveryOutcome::Again { after: t.ticks(10), error: "HTTP 503".into() };
    assert!(settle(t, &first, later).await);
    assert_eq!(claim(t).await, [], "it waits");
    let waits = all(t).await.pop().expect("it is kept");
    assert_eq!((waits.tries, waits.error.as_deref(), waits.dead_at), (1, Some("HTTP 503"), None));
    t.assert_near(waits.due_at, before, t.ticks(10));
    t.pass(11).await;
    let second = claim(t).await.pop().expect("it is due again");
    assert_eq!((second.delivery.tries, second.since), (2, first.since));
    let dead = DeliveryOutcome::Dead { error: "HTTP 410".into() };
    assert!(settle(t, &second, dead).await);
    t.pass(100).await;
    assert_eq!(claim(t).await, [], "it is dead");
    let dead =
        list(t, DeliveryQuery { dead: true, ..DeliveryQuery::new(10) }).await.pop().expect("it is listed");
    assert_eq!((dead.due_at, dead.error.as_deref()), (None, Some("HTTP 410")));
    assert!(dead.dead_at.is_some());
    assert_eq!((&dead.job, dead.event), (&job, WebhookEvent::Ended));
}

async fn kill(t: &Trial<'_>) -> Vec<String> {
    let claimed = claim(t).await;
    for claimed in &claimed {
        assert!(settle(t, claimed, DeliveryOutcome::Dead { error: "no".into() }).await);
    }
    claimed.into_iter().map(|claimed| claimed.delivery.id).collect()
}

async fn redriven(t: &Trial<'_>) {
    for _ in 0..3 {
        ended(t, URL).await;
    }
    let ids = kill(t).await;
    assert_eq!(ids.len(), 3);
    let alive = ended(t, URL).await;
    let first = claim(t).await.pop().expect("the one that lives");
    assert_eq!(first.delivery.job, alive);
    t.pass(2).await;
    let wanted = vec![ids[1].clone(), first.delivery.id.clone(), "msg_none".to_owned()];
    let before = t.now();
    let redriven =
        outbox(t).redrive_deliveries(RedriveDeliveries::Deliveries(wanted)).await.expect("redrive");
    assert_eq!(redriven, [ids[1].clone()], "only what is dead");
    let back = claim(t).await.pop().expect("it is due at once");
    assert_eq!((&back.delivery.id, back.delivery.tries), (&ids[1], 2));
    t.assert_near(Some(back.since), before, Duration::ZERO);
    assert!(settle(t, &back, DeliveryOutcome::Dead { error: "no".into() }).await);
    let by = t.now();
    t.pass(1).await;
    let dead = |limit, by| RedriveDeliveries::Dead { limit, queue: None, by };
    let two = outbox(t).redrive_deliveries(dead(2, by)).await.expect("redrive");
    assert_eq!(two, [ids[0].clone(), ids[2].clone()], "the oldest first");
    assert_eq!(kill(t).await.len(), 2);
    let rest = outbox(t).redrive_deliveries(dead(10, by)).await.expect("redrive");
    assert_eq!(rest, [ids[1].clone()], "what has died again since is not meant");
    let bulk = RedriveDeliveries::Dead { limit: 10, queue: "bulk".parse().ok(), by: t.now() };
    assert!(outbox(t).redrive_deliveries(bulk).await.expect("redrive").is_empty(), "of no other queue");
}

async fn hosts(t: &Trial<'_>) {
    const SLOW: &str = "https://SLOW.example/a";
    for _ in 0..5 {
        ended(t, SLOW).await;
    }
    ended(t, "https://quick.example/").await;
    ended(t, "https://slow.example:8443/").await;
    let few = DeliveryRequest { per_host: 2, ..request(t) };
    let claimed = outbox(t).claim_deliveries(few.clone()).await.expect("claim").deliveries;
    let of = |url: &str| claimed.iter().filter(|claimed| claimed.delivery.url == url).count();
    assert_eq!((claimed.len(), of(SLOW)), (4, 2), "{claimed:?}");
    let busy = DeliveryRequest { in_flight: [("slow.example".to_owned(), 1)].into(), ..few.clone() };
    let claimed = outbox(t).claim_deliveries(busy).await.expect("claim").deliveries;
    assert_eq!(claimed.len(), 1, "those that are under way count: {claimed:?}");
    let one = DeliveryRequest { max: 1, in_flight: [("slow.example".to_owned(), 1)].into(), ..few.clone() };
    ended(t, "https://later.example/").await;
    let claimed = outbox(t).claim_deliveries(one).await.expect("claim").deliveries;
    assert_eq!(claimed[0].delivery.url, "https://later.example/", "whoever has nothing under way is next");
    let busy = DeliveryRequest { in_flight: [("slow.example".to_owned(), 2)].into(), ..few };
    assert_eq!(outbox(t).claim_deliveries(busy).await.expect("claim").deliveries, []);
    let one = DeliveryRequest { max: 1, ..request(t) };
    assert_eq!(outbox(t).claim_deliveries(one).await.expect("claim").deliveries.len(), 1);
    assert_eq!(claim(t).await.len(), 1, "each has been somebody's");
}

async fn many_hosts(t: &Trial<'_>) {
    for host in ["a", "b", "c"] {
        for _ in 0..3 {
            ended(t, &format!("https://{host}.example/")).await;
        }
    }
    let few = DeliveryRequest { max: 4, ..request(t) };
    let claimed = outbox(t).claim_deliveries(few).await.expect("claim").deliveries;
    let mut hosts: Vec<_> = claimed.iter().map(|claimed| claimed.delivery.url.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    assert_eq!((claimed.len(), hosts.len()), (4, 3), "one of each first: {claimed:?}");
}

async fn outlives(t: &Trial<'_>) {
    let id = t.submit(job(1).webhook(Webhook::new(URL)).result_ttl(t.ticks(1))).await;
    t.backend.cancel(vec![id.clone()]).await.expect("cancel");
    t.pass(3).await;
    assert!(t.lookup(&id).await.into_record(&id).is_err(), "its record has expired");
    let told = told(t).await;
    assert!(
        matches!(&told[..], [(WebhookEvent::Ended, body)] if body["data"]["status"] == "CANCELLED"),
        "{told:?}"
    );
}

async fn purged(t: &Trial<'_>) {
    let gone = ended(t, URL).await;
    let stays = ended(t, URL).await;
    assert_eq!(t.backend.purge(Purge::Jobs(vec![gone])).await.expect("purge"), 1);
    let left: Vec<_> = all(t).await.into_iter().map(|delivery| delivery.job).collect();
    assert_eq!(left, [stays]);
}

async fn shown(t: &Trial<'_>) {
    let queue: crate::QueueName = "Team_7-bulk".parse().expect("a name");
    let webhook = Webhook::new(URL).events([WebhookEvent::Ended, WebhookEvent::AttemptFailed]);
    let id = t.submit(job(1).queue(queue.clone()).webhook(webhook.clone())).await;
    let record = serde_json::to_string(&t.record(&id).await).expect("JSON");
    assert!(!record.contains("secret") && record.contains("https://hooks.example/haulage?…"), "{record}");
    let claimed = t.take_as(t.request().queues(queue.clone(), 0)).await;
    assert_eq!(claimed.spec.webhook, Some(webhook), "options travel whole");
    let settlement = Settlement::new(claimed.key, Outcome::Fail(error("no")));
    t.backend.settle(vec![settlement]).await.expect("settle").remove(0).expect("settled");
    let listed = all(t).await.pop().expect("its end is to be told");
    assert_eq!((listed.url.as_str(), &listed.queue), ("https://hooks.example/haulage?…", &queue));
    let of_queue = DeliveryQuery { queue: Some(queue), ..DeliveryQuery::new(10) };
    assert_eq!(list(t, of_queue).await.len(), 1);
    let of_others = DeliveryQuery { queue: Some(Default::default()), ..DeliveryQuery::new(10) };
    assert_eq!(list(t, of_others).await, []);
    let of_job = DeliveryQuery { job: Some(id), ..DeliveryQuery::new(10) };
    assert_eq!(list(t, of_job).await.len(), 1);
    assert_eq!(list(t, DeliveryQuery::one(&listed.id)).await, [listed]);
    assert_eq!(claim(t).await[0].delivery.url, URL, "whoever tells it needs all of it");
}
