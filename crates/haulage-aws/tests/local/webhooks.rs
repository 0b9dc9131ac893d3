//! What is told to webhooks, and written with what it is about.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, CreateGlobalSecondaryIndexAction, DeleteGlobalSecondaryIndexAction,
    GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, Projection, ProjectionType, PutRequest,
    ScalarAttributeType, WriteRequest,
};
use haulage::{
    Backend, JobId, Json, NewJob, Progress, Status, Webhook, WebhookEvent,
    backend::{
        ClaimedDelivery, Delivery, DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement,
        Heartbeat, HeartbeatStatus, Outcome, Purge, Severity, Update,
    },
};
use haulage_aws::{AwsBackend, Compression};
use haulage_servers::{Stub, stub::Fault};
use serde_json::Value;

use crate::{
    helpers::{LONG, TRIES, beat, claim, job, record, retry, settle, submit, success, take},
    lost::lost,
    place::{Place, bucket, ministack},
    raw,
};

type Item = HashMap<String, AttributeValue>;

const URL: &str = "https://hooks.example/haulage";

/// A job that tells of everything.
fn telling(body: u64) -> NewJob {
    job(body).webhook(Webhook::new(URL).events(WebhookEvent::ALL))
}

fn request() -> DeliveryRequest {
    DeliveryRequest { max: 100, per_host: 100, in_flight: BTreeMap::new(), lease: LONG }
}

async fn claim_deliveries(backend: &AwsBackend) -> Vec<ClaimedDelivery> {
    let deliveries = backend.deliveries().expect("webhooks");
    deliveries.claim_deliveries(request()).await.expect("claim").deliveries
}

/// What is to be told, which is told then.
async fn told(backend: &AwsBackend) -> Vec<(WebhookEvent, Value)> {
    let claimed = claim_deliveries(backend).await;
    let settlements = claimed.iter().map(|ClaimedDelivery { delivery, .. }| {
        let (id, tries) = (delivery.id.clone(), delivery.tries);
        DeliverySettlement { id, tries, outcome: DeliveryOutcome::Done }
    });
    let deliveries = backend.deliveries().expect("webhooks");
    let settled = deliveries.settle_deliveries(settlements.collect()).await.expect("settle");
    assert!(settled.iter().all(|settled| *settled), "{claimed:?}");
    claimed.into_iter().map(|c| (c.delivery.event, serde_json::from_str(&c.body).expect("JSON"))).collect()
}

async fn listed(backend: &AwsBackend) -> Vec<Delivery> {
    let deliveries = backend.deliveries().expect("webhooks");
    deliveries.list_deliveries(DeliveryQuery::new(10_000)).await.expect("list")
}

async fn tell(backend: &AwsBackend, claimed: &haulage::backend::ClaimKey, fraction: f64) {
    let update = Update::default().progress(Progress { fraction, message: None });
    let beat = Heartbeat::new(claimed.clone(), LONG).update(update);
    let status = backend.heartbeat(vec![beat]).await.expect("heartbeat")[0];
    assert!(matches!(status, HeartbeatStatus::Held(_)), "{status:?}");
}

/// Makes the index of deliveries anew, with a key of this kind.
async fn remake_index(place: &Place, kind: ScalarAttributeType) {
    let update = async |change: GlobalSecondaryIndexUpdate| {
        let attribute = |name, kind: &ScalarAttributeType| {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind.clone());
            attribute.build().expect("an attribute")
        };
        let update = place.dynamodb().await.update_table().table_name(&place.table);
        let update = update.attribute_definitions(attribute("webhook_of", &kind));
        let update = update.attribute_definitions(attribute("due_at", &ScalarAttributeType::N));
        update.global_secondary_index_updates(change).send().await.expect("an update");
    };
    let delete = DeleteGlobalSecondaryIndexAction::builder().index_name("webhooks").build().expect("a name");
    update(GlobalSecondaryIndexUpdate::builder().delete(delete).build()).await;
    let key =
        |name, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("a key");
    let create = CreateGlobalSecondaryIndexAction::builder()
        .index_name("webhooks")
        .key_schema(key("webhook_of", KeyType::Hash))
        .key_schema(key("due_at", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::All).build());
    let create = create.build().expect("an index");
    update(GlobalSecondaryIndexUpdate::builder().create(create).build()).await;
}

#[tokio::test]
async fn an_end_and_what_is_told_of_it_are_written_together_or_not_at_all() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, telling(1)).await;
    let waits = submit(&backend, telling(2)).await;
    let claimed = take(&backend, LONG).await;
    // Items with the name of a store in it are refused, and records have none.
    remake_index(&place, ScalarAttributeType::N).await;
    settle(&backend, &claimed.key, success()).await.expect_err("it cannot be told");
    backend.cancel(vec![waits.clone()]).await.expect_err("it cannot be told");
    assert_eq!(record(&backend, &id).await.status, Status::InProgress, "so it has not ended");
    assert_eq!(record(&backend, &waits).await.status, Status::Submitted);
    remake_index(&place, ScalarAttributeType::S).await;
    assert_eq!(listed(&backend).await, []);
    assert_eq!(settle(&backend, &claimed.key, success()).await.expect("the holder"), Status::Success);
    backend.cancel(vec![waits]).await.expect("cancel");
    assert_eq!(told(&place.open().await).await.len(), 2, "another process finds them");
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_told_once() {
    for lost in [
        vec![Fault::LostAnswer],
        vec![Fault::ErrorAfter],
        vec![Fault::Throttle],
        // It is made again under another token, and knows its own work by its mark.
        vec![Fault::LostAnswer, Fault::Conflict],
        // As often as the SDK tries: whoever settles has to do it again.
        [vec![Fault::LostAnswer], vec![Fault::Error; TRIES - 1]].concat(),
    ] {
        let place = Place::fifo().await;
        let stub = Stub::start(ministack(), 7);
        let backend = place.through(stub.url()).open().await;
        let id = submit(&backend, telling(1).max_attempts(2)).await;
        for (outcome, status, event) in [
            (retry(), Status::Submitted, WebhookEvent::AttemptFailed),
            (success(), Status::Success, WebhookEvent::Ended),
        ] {
            let claimed = take(&backend, LONG).await;
            lost.iter().for_each(|fault| stub.fail_next("TransactWriteItems", *fault));
            let mut settled = settle(&backend, &claimed.key, outcome.clone()).await;
            if lost.len() == TRIES {
                settled.expect_err("no answer");
                settled = settle(&backend, &claimed.key, outcome).await;
            }
            assert_eq!(settled.expect("the holder"), status, "{lost:?}");
            assert!(stub.is_through(), "what was planned has happened");
            let told = told(&backend).await;
            assert!(matches!(&told[..], [(of, _)] if *of == event), "{lost:?}: {told:?}");
        }
        assert_eq!(stub.ends().get(id.as_str()), Some(&1), "{lost:?}");
        raw::assert_drained(&place, &place.queue).await;
    }
}

/// Of two writes of one item at once, DynamoDB refuses one where one is a transaction.
#[tokio::test]
async fn a_conflict_of_transactions_is_waited_for() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    submit(&backend, telling(1)).await;
    let conflicts = |operation: &str| (0..2).for_each(|_| stub.fail_next(operation, Fault::Conflict));
    conflicts("UpdateItem");
    let claimed = take(&backend, LONG).await;
    conflicts("TransactWriteItems");
    assert_eq!(settle(&backend, &claimed.key, success()).await.expect("the holder"), Status::Success);
    conflicts("UpdateItem");
    conflicts("DeleteItem");
    assert_eq!(told(&backend).await.len(), 1);
    assert!(stub.is_through(), "what was planned has happened");
}

#[tokio::test]
async fn what_is_told_is_the_record_as_it_is_written() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, telling(1).request_id("r-1").metadata("team", "vision")).await;
    let first = take(&backend, LONG).await;
    settle(&backend, &first.key, retry()).await.expect("the holder");
    told(&backend).await;
    let claimed = take(&backend, LONG).await;
    tell(&backend, &claimed.key, 0.5).await;
    // Another process notes something, which this one does not know of.
    place.open().await.cancel(vec![id.clone()]).await.expect("cancel");
    settle(&backend, &claimed.key, success()).await.expect("the holder");
    let told = told(&backend).await;
    let [(WebhookEvent::Ended, body)] = &told[..] else { panic!("{told:?}") };
    let mut expected = serde_json::to_value(record(&backend, &id).await).expect("JSON");
    for left_out in ["body", "attempts"] {
        expected.as_object_mut().expect("an object").remove(left_out);
    }
    assert_eq!(body["data"], expected, "with the error of the first attempt, and what was said since");
    assert_eq!(
        (&expected["cancel_requested"], &expected["progress"]["fraction"]),
        (&true.into(), &0.5.into())
    );
    assert_eq!(expected["error"]["message"], "not yet");
}

#[tokio::test]
async fn a_small_result_is_told_wherever_it_is_kept() {
    let place = Place::fifo().await;
    let builder = place.builder().await.bucket(bucket().await).offload_above(1000);
    let backend = builder.compression(Compression::Zstd).open().await.expect("a backend");
    let result: String = (0..6000).map(|_| fastrand::alphanumeric()).collect();
    for result in [result.as_str(), &"x".repeat(6000)] {
        let id = submit(&backend, telling(1)).await;
        let claimed = take(&backend, LONG).await;
        let json = Json::parse(&format!("\"{result}\"")).expect("JSON");
        settle(&backend, &claimed.key, Outcome::Success(json)).await.expect("the holder");
        let item = raw::item(&place, &id).await;
        let plain = matches!(item.get("result"), Some(AttributeValue::S(_)));
        assert!(!plain, "it is compressed or elsewhere: {item:?}");
        let (_, body) = told(&backend).await.pop().expect("its end is told");
        assert_eq!(body["data"]["result"], *result);
    }
}

#[tokio::test]
async fn the_end_of_what_cannot_run_is_told() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let told_end = async |id: &JobId, kind: &str| -> Value {
        let told = told(&backend).await;
        let [(WebhookEvent::Ended, body)] = &told[..] else { panic!("{kind}: {told:?}") };
        assert_eq!(body["data"]["id"], id.as_str());
        assert_eq!(
            (&body["data"]["status"], &body["data"]["error"]["kind"]),
            (&"ERROR".into(), &kind.into())
        );
        body["data"].clone()
    };
    // Its message was broken on the way, and its record is there.
    let id = submit(&backend, telling(1)).await;
    let mut message = raw::receive(&place, &place.queue, 0).await.remove(0);
    let options = message.message_attributes.as_mut().expect("attributes").get_mut("haulage").expect("ours");
    let (mut broken, own) = (options.clone(), id.to_string());
    let mut said: Value = serde_json::from_str(broken.string_value().expect("text")).expect("JSON");
    (said["id"], said["encoding"]) = (own.into(), "zstd".into());
    broken.string_value = Some(said.to_string());
    *options = broken;
    raw::lose(&place).await;
    raw::resend(&place, &place.queue, &message).await;
    assert_eq!(claim(&backend, LONG).await, []);
    told_end(&id, "invalid_body").await;

    // A message that is no job, and says whom to tell.
    let options = serde_json::json!({ "v": 1, "encoding": "zstd", "webhook": URL });
    let id = JobId::from(raw::send_with(&place, &options, "not base64!").await);
    assert_eq!(claim(&backend, LONG).await, []);
    told_end(&id, "invalid_body").await;
    assert_eq!(record(&backend, &id).await.spec.webhook, Some(Webhook::new(URL)));

    // Its message is lost, and its body with it.
    let long = Json::from_stored(format!("\"{}\"", "x".repeat(2000)));
    let id = lost(&place, &backend, NewJob::from_json(long).webhook(Webhook::new(URL))).await;
    backend.redrive(haulage::backend::Redrive::Lost { limit: 10 }).await.expect("redrive");
    told_end(&id, "message_lost").await;

    // Its time to start is over, as somebody finds who looks at a part of each record.
    let late = telling(1).start_within(Duration::from_secs(60)).request_id("r-1");
    let id = lost(&place, &backend, late).await;
    backend.stats().await.expect("stats");
    assert_eq!(told_end(&id, "expired").await["request_id"], "r-1", "what is told is all of it");
}

#[tokio::test]
async fn progress_that_cannot_be_told_yet_costs_no_lease() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    let id = submit(&backend, telling(1)).await;
    let claimed = take(&backend, LONG).await;
    (0..TRIES).for_each(|_| stub.fail_next("TransactWriteItems", Fault::Error));
    tell(&backend, &claimed.key, 0.25).await;
    assert!(stub.is_through(), "what was planned has happened");
    assert_eq!(record(&backend, &id).await.progress.expect("it is recorded").fraction, 0.25);
    assert_eq!(told(&backend).await, []);
    // The next sign of life tells it, though it says nothing new.
    assert!(matches!(beat(&backend, &claimed.key, LONG).await, HeartbeatStatus::Held(_)));
    let (event, body) = told(&backend).await.pop().expect("it is told");
    assert_eq!((event, &body["data"]["progress"]["fraction"]), (WebhookEvent::Progress, &0.25.into()));
    // A process that does not hold the claim tells as well.
    let other = place.open().await;
    tell(&other, &claimed.key, 0.75).await;
    let waits = listed(&other).await;
    assert!(matches!(&waits[..], [waits] if waits.event == WebhookEvent::Progress), "{waits:?}");
}

#[tokio::test]
async fn progress_whose_telling_hangs_costs_no_lease() {
    let place = Place::fifo().await;
    let stub = Stub::start(ministack(), 7);
    let backend = place.through(stub.url()).open().await;
    let id = submit(&backend, telling(1)).await;
    let claimed = take(&backend, LONG).await;
    stub.fail_next("TransactWriteItems", Fault::Slow(20_000));
    let update = Update::default().progress(Progress { fraction: 0.25, message: None });
    // It has eight seconds.
    let beat = Heartbeat::new(claimed.key, Duration::from_secs(32)).update(update);
    let status = backend.heartbeat(vec![beat]).await;
    assert!(matches!(status.as_deref(), Ok([HeartbeatStatus::Held(_)])), "{status:?}");
    assert_eq!(record(&backend, &id).await.progress.expect("it is recorded").fraction, 0.25);
}

/// Deliveries like this one, with these numbers, to another host and due at the moments of these numbers.
async fn copy(
    place: &Place,
    delivery: &Item,
    host: &str,
    numbers: impl IntoIterator<Item = usize>,
) -> Vec<String> {
    let id = |n: usize| format!("msg_{n:024}");
    let put = |n: usize| {
        let mut copy = delivery.clone();
        copy.insert("message_id".into(), AttributeValue::S(format!("webhook#{}", id(n))));
        copy.insert("delivery".into(), AttributeValue::S(id(n)));
        copy.insert("host".into(), AttributeValue::S(host.into()));
        copy.insert("due_at".into(), AttributeValue::N(n.to_string()));
        let put = PutRequest::builder().set_item(Some(copy)).build().expect("an item");
        WriteRequest::builder().put_request(put).build()
    };
    let numbers: Vec<usize> = numbers.into_iter().collect();
    for batch in numbers.chunks(25) {
        let batch: Vec<_> = batch.iter().map(|n| put(*n)).collect();
        let write = place.dynamodb().await.batch_write_item().request_items(&place.table, batch);
        write.send().await.expect("written");
    }
    numbers.into_iter().map(id).collect()
}

/// The items of deliveries, whether they are to be told or dead.
async fn items(place: &Place) -> Vec<Item> {
    let found = place.dynamodb().await.scan().table_name(&place.table).send().await.expect("scan");
    let items = found.items.unwrap_or_default().into_iter();
    items.filter(|item| item.contains_key("webhook_of")).collect()
}

/// Notes deliveries in the record of a job.
async fn note(place: &Place, id: &JobId, deliveries: Vec<String>) {
    let update = place.dynamodb().await.update_item().table_name(&place.table);
    let update = update.key("message_id", AttributeValue::S(id.to_string()));
    let update = update.update_expression("ADD deliveries :deliveries");
    let update = update.expression_attribute_values(":deliveries", AttributeValue::Ss(deliveries));
    update.send().await.expect("an update");
}

#[tokio::test]
async fn nothing_is_told_of_a_job_that_is_purged_however_much_there_is() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, telling(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    let failure = items(&place).await.remove(0);
    let more = copy(&place, &failure, "hooks.example", 0..120).await;
    note(&place, &id, more).await;
    let claimed = take(&backend, LONG).await;
    tell(&backend, &claimed.key, 0.5).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    assert_eq!(listed(&backend).await.len(), 123);
    assert_eq!(backend.purge(Purge::Jobs(vec![id])).await.expect("purge"), 1);
    assert_eq!(listed(&backend).await, []);
}

#[tokio::test]
async fn what_was_told_is_not_noted_for_ever() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, telling(1)).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, retry()).await.expect("the holder");
    let gone = (0..49).map(|n| format!("msg_{n:024}")).collect();
    note(&place, &id, gone).await;
    let claimed = take(&backend, LONG).await;
    settle(&backend, &claimed.key, success()).await.expect("the holder");
    let noted = raw::item(&place, &id).await["deliveries"].as_ss().expect("a set").len();
    assert_eq!(noted, 2, "those that are still to be told");
}

#[tokio::test]
async fn of_several_servers_each_tells_its_part() {
    let place = Place::fifo().await;
    let servers = [place.open().await, place.open().await];
    let jobs: Vec<NewJob> = (0..60).map(telling).collect();
    let answers = servers[0].submit(jobs).await.expect("submit");
    let ids: Vec<JobId> = answers.into_iter().map(|answer| answer.expect("accepted").id).collect();
    servers[0].cancel(ids.clone()).await.expect("cancel");
    let all = async |server: &AwsBackend| {
        let mut claimed = Vec::new();
        loop {
            let few = DeliveryRequest { max: 7, ..request() };
            let some = server.deliveries().expect("webhooks").claim_deliveries(few).await.expect("claim");
            if some.deliveries.is_empty() && listed(server).await.iter().all(|delivery| delivery.tries > 0) {
                return claimed;
            }
            claimed.extend(some.deliveries.into_iter().map(|claimed| claimed.delivery));
        }
    };
    let (one, other) = tokio::join!(all(&servers[0]), all(&servers[1]));
    assert!(!one.is_empty() && !other.is_empty(), "{} and {}", one.len(), other.len());
    let claimed = one.iter().chain(&other);
    assert!(claimed.clone().all(|delivery| delivery.tries == 1), "each once");
    assert_eq!(claimed.map(|delivery| &delivery.job).collect::<HashSet<_>>().len(), ids.len());
}

#[tokio::test]
async fn no_backlog_of_slow_hosts_hides_the_others_for_good() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let id = submit(&backend, job(1).webhook(Webhook::new("https://quick.example"))).await;
    backend.cancel(vec![id]).await.expect("cancel");
    let quick = items(&place).await.remove(0);
    let slow: Vec<String> = (0..20).map(|n| format!("slow-{n}.example")).collect();
    for (n, host) in slow.iter().enumerate() {
        copy(&place, &quick, host, (n..1500).step_by(slow.len())).await;
    }
    // More hosts than there is room for, and each has as much under way as it may.
    let in_flight = slow.into_iter().map(|host| (host, 8)).collect();
    let busy = DeliveryRequest { max: 16, per_host: 8, in_flight, ..request() };
    let look = async || {
        let claimed = backend.deliveries().expect("webhooks").claim_deliveries(busy.clone()).await;
        claimed.expect("claim").deliveries
    };
    assert_eq!(look().await, [], "one look reads so much and no more");
    let claimed = look().await;
    assert!(matches!(&claimed[..], [one] if one.delivery.url == "https://quick.example"), "{claimed:?}");
}

#[tokio::test]
async fn what_is_not_told_is_found_by_a_check() {
    let place = Place::fifo().await;
    let backend = place.open().await;
    let said = async || -> Vec<String> {
        let findings = backend.check().await.expect("check").into_iter();
        let findings = findings.filter(|finding| finding.check == "webhooks");
        findings
            .inspect(|finding| assert_eq!(finding.severity, Severity::Warning))
            .map(|f| f.message)
            .collect()
    };
    let ids = [submit(&backend, telling(1)).await, submit(&backend, telling(2)).await];
    backend.cancel(ids.to_vec()).await.expect("cancel");
    assert_eq!(said().await, [""; 0], "it is due for a moment only");
    let dead = claim_deliveries(&backend).await.remove(0).delivery;
    let outcome = DeliveryOutcome::Dead { error: "HTTP 410".into() };
    let dead = DeliverySettlement { id: dead.id, tries: dead.tries, outcome };
    backend.deliveries().expect("webhooks").settle_deliveries(vec![dead]).await.expect("settle");
    let is_pending =
        |item: &Item| item["webhook_of"].as_s().is_ok_and(|webhook_of| !webhook_of.ends_with("#dead"));
    let pending = items(&place).await.into_iter().find(is_pending).expect("the other");
    let update = place.dynamodb().await.update_item().table_name(&place.table);
    let update =
        update.key("message_id", pending["message_id"].clone()).update_expression("SET due_at = :then");
    let then = backend.clock().now().before(Duration::from_secs(601)).as_micros().to_string();
    update.expression_attribute_values(":then", AttributeValue::N(then)).send().await.expect("an update");
    assert_eq!(
        said().await,
        ["1 webhook delivery has been overdue for more than 10m", "1 webhook delivery is dead"]
    );
}

/// The numbers of docs/aws.md: what a job with a webhook costs more, and that one without costs nothing more.
#[tokio::test]
async fn what_a_delivery_costs() {
    let place = Place::fifo().await;
    let backend = place.builder().await.metered().open().await.expect("a backend");
    let cost = async |job: NewJob| {
        let before = backend.usage();
        submit(&backend, job).await;
        let claimed = take(&backend, LONG).await;
        tell(&backend, &claimed.key, 0.5).await;
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        backend.usage().since(&before)
    };
    let plain = cost(job(1)).await;
    let calls = [("BatchExecuteStatement", 1), ("UpdateItem", 3)];
    let calls: BTreeMap<String, u64> = calls.map(|(name, count)| (name.to_owned(), count)).into();
    let but_pauses = |used: &haulage_aws::Usage| {
        let mut calls = used.dynamodb.clone();
        calls.remove("GetItem");
        calls
    };
    assert_eq!((but_pauses(&plain), plain.write_units), (calls, 4.0));

    let hooked = cost(job(1).webhook(Webhook::new("https://hooks.example/jobs/done"))).await;
    let before = backend.usage();
    assert_eq!(told(&backend).await.len(), 1);
    let told = backend.usage().since(&before);
    let more = hooked.write_units - plain.write_units;
    assert_eq!((more, told.write_units, told.read_units), (4.0, 5.0, 0.5), "{hooked:?} and {told:?}");
    let before = backend.usage();
    assert_eq!(claim_deliveries(&backend).await, []);
    let look = backend.usage().since(&before);
    assert_eq!((look.read_units, look.write_units), (0.5, 0.0), "a look that finds nothing");
}
