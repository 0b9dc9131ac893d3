//! `haulage queue …`, as far as it is the library's.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
};
use haulage::{
    Backend, Error,
    backend::{DeliveryQuery, Finding, ListQuery, Severity},
};
use haulage_aws::{
    AwsBackend, Config,
    setup::{self, Outcome, QueueSettings, Step},
};
use haulage_servers::Stub;

use crate::{
    helpers::{LONG, job, settle, submit, success, take},
    place::{Place, ministack, sdk},
    raw,
};

fn outcomes(steps: &[Step]) -> Vec<Outcome> {
    steps.iter().map(|step| step.outcome).collect()
}

fn config(name: &str) -> Config {
    let mut config = Config::new(name);
    config.bucket = Some(format!("bucket-{}", name.trim_end_matches(".fifo")));
    // Local servers have no host names for buckets.
    config.endpoint = Some(ministack().into());
    config
}

#[tokio::test]
async fn makes_everything_that_a_backend_needs() {
    for name in ["setup-1.fifo", "setup-2"] {
        let config = config(name);
        let sdk = Some(sdk(ministack()).await);
        let made = setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
        assert_eq!(outcomes(&made), [Outcome::Created; 4], "{made:?}");

        let bucket = config.bucket.clone().expect("a bucket");
        let open = AwsBackend::builder(name).bucket(bucket).endpoint(ministack());
        let own = self::sdk(ministack()).await;
        let backend = open.sdk_config(own).open().await.expect("a backend");
        let id = submit(&backend, job(1)).await;
        let claimed = take(&backend, LONG).await;
        assert_eq!(claimed.key.id, id);
        settle(&backend, &claimed.key, success()).await.expect("the holder");
        let findings = backend.check().await.expect("check");
        let bad: Vec<&Finding> = findings.iter().filter(|f| f.severity != Severity::Ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(findings.iter().filter(|f| f.check.starts_with("may ")).count() >= 14, "{findings:#?}");
        drop(backend);

        let again = setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
        assert_eq!(outcomes(&again), [Outcome::Exists; 4]);
        assert!(again.iter().all(|step| step.notes.is_empty()), "nothing differs: {again:?}");
        let mut other = QueueSettings::default();
        other.max_receives = 3;
        let differs = setup::create(&config, &other, sdk.clone()).await.expect("create");
        assert!(differs[1].notes[0].contains("RedrivePolicy is"), "{differs:?}");

        let shown = setup::describe(&config, sdk.clone()).await.expect("describe");
        assert_eq!(outcomes(&shown), [Outcome::Exists; 4]);
        let gone = setup::delete(&config, sdk.clone()).await.expect("delete");
        assert_eq!(outcomes(&gone), [Outcome::Deleted, Outcome::Deleted, Outcome::Deleted, Outcome::Kept]);
        let shown = setup::describe(&config, sdk.clone()).await.expect("describe");
        assert_eq!(outcomes(&shown)[..3], [Outcome::Missing; 3]);
        let again = setup::delete(&config, sdk).await.expect("delete");
        assert_eq!(outcomes(&again)[..3], [Outcome::Missing; 3]);
    }
}

#[tokio::test]
async fn a_table_that_is_there_already_is_given_its_indexes() {
    let place = Place::fifo().await;
    let table = format!("{}-old", place.table);
    let key = KeySchemaElement::builder().attribute_name("message_id").key_type(KeyType::Hash);
    let id = AttributeDefinition::builder().attribute_name("message_id");
    let create = place.dynamodb().await.create_table().table_name(&table);
    create
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.build().expect("a key"))
        .attribute_definitions(id.attribute_type(ScalarAttributeType::S).build().expect("an attribute"))
        .send()
        .await
        .expect("a table");
    let backend = place.builder().await.table(&table).open().await.expect("a backend");
    let indexes = async || -> Vec<Severity> {
        let findings = backend.check().await.expect("check");
        findings.into_iter().filter(|f| f.check.starts_with("index of ")).map(|f| f.severity).collect()
    };
    assert_eq!(indexes().await, [Severity::Warning; 2]);
    let error = backend.list(ListQuery::new().dead(true)).await.expect_err("no index");
    assert!(error.to_string().contains("`haulage queue create` adds it"), "{error}");
    let deliveries = backend.deliveries().expect("webhooks");
    let error = deliveries.list_deliveries(DeliveryQuery::new(1)).await.expect_err("no index");
    assert!(error.to_string().contains("no index webhooks"), "{error}");

    let mut config = Config::new(&place.queue);
    (config.table, config.endpoint) = (table, Some(ministack().into()));
    let settings = QueueSettings::default();
    let steps = setup::create(&config, &settings, Some(sdk(ministack()).await)).await.expect("create");
    let step = steps.iter().find(|step| step.what.starts_with("table ")).expect("a step");
    assert!(step.notes[0].contains("dead_letters is being added"), "{step:?}");
    assert!(step.notes[1].contains("webhooks is being added"), "{step:?}");
    assert_eq!(indexes().await, [Severity::Ok; 2]);
    assert_eq!(backend.list(ListQuery::new().dead(true)).await.expect("list"), []);
    assert_eq!(deliveries.list_deliveries(DeliveryQuery::new(1)).await.expect("list"), []);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let sdk = sdk(ministack()).await;
    let error =
        AwsBackend::builder("no-such-queue.fifo").sdk_config(sdk.clone()).open().await.expect_err("no queue");
    let message = error.to_string();
    assert!(message.contains("no-such-queue.fifo") && message.contains("haulage queue create"), "{message}");

    let place = Place::fifo().await;
    let backend = AwsBackend::builder(&place.queue).table("no-such-table").sdk_config(sdk).open().await;
    let backend = backend.expect("the table is looked for when it is needed");
    let answer = backend.submit(vec![job(1)]).await.expect("sent").remove(0).expect_err("no table");
    assert!(answer.to_string().contains("no-such-table"), "{answer}");
    let findings = backend.check().await.expect("check");
    let table = findings.iter().find(|f| f.check == "table").expect("a finding");
    assert_eq!(table.severity, Severity::Problem, "{table:?}");
    // The job is not lost.
    assert_eq!(raw::count(&place, &place.queue).await, 1);
}

/// The bucket of a configuration, and a client for it.
async fn s3(config: &Config) -> (aws_sdk_s3::Client, String) {
    let s3 = aws_sdk_s3::config::Builder::from(&sdk(ministack()).await).force_path_style(true).build();
    (aws_sdk_s3::Client::from_conf(s3), config.bucket.clone().expect("a bucket"))
}

fn rule(id: &str, prefix: &str, days: i32, status: ExpirationStatus) -> LifecycleRule {
    LifecycleRule::builder()
        .id(id)
        .status(status)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .expiration(LifecycleExpiration::builder().days(days).build())
        .build()
        .expect("a rule")
}

#[tokio::test]
async fn rules_of_others_stay_and_are_judged() {
    let config = config("setup-rules.fifo");
    let (s3, bucket) = s3(&config).await;
    s3.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let others = BucketLifecycleConfiguration::builder()
        .rules(rule("logs", "logs/", 7, ExpirationStatus::Enabled))
        .rules(rule("haulage-60-days", "haulage/60d/", 60, ExpirationStatus::Disabled))
        .rules(rule("tidy", "", 365, ExpirationStatus::Enabled))
        .build()
        .expect("rules");
    s3.put_bucket_lifecycle_configuration()
        .bucket(&bucket)
        .lifecycle_configuration(others)
        .send()
        .await
        .expect("set");

    let sdk = Some(sdk(ministack()).await);
    let made = setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
    let of_bucket = made.last().expect("a step");
    assert_eq!(of_bucket.outcome, Outcome::Exists);
    let [early] = &of_bucket.notes[..] else { panic!("{of_bucket:?}") };
    assert!(early.contains("objects under `` expire after 365 days") && early.contains("400d"), "{early}");

    let rules = s3.get_bucket_lifecycle_configuration().bucket(&bucket).send().await.expect("rules");
    let ids: Vec<_> = rules.rules().iter().filter_map(LifecycleRule::id).collect();
    assert_eq!(ids, ["logs", "haulage-60-days", "tidy"], "what expires anyway needs no rule of ours");

    let backend = AwsBackend::builder("setup-rules.fifo").bucket(&bucket).endpoint(ministack());
    let backend = backend.sdk_config(sdk.clone().expect("set")).open().await.expect("a backend");
    let findings = backend.check().await.expect("check");
    let found = findings.iter().find(|f| f.check == "bucket lifecycle").expect("a finding");
    assert_eq!(found.severity, Severity::Problem, "{found:?}");
    assert!(found.message.contains("365 days"), "{found:?}");

    // Without the rule for all, the missing ones are added beside the others.
    let others = BucketLifecycleConfiguration::builder()
        .rules(rule("logs", "logs/", 7, ExpirationStatus::Enabled))
        .rules(rule("haulage-60-days", "haulage/60d/", 60, ExpirationStatus::Disabled));
    s3.put_bucket_lifecycle_configuration()
        .bucket(&bucket)
        .lifecycle_configuration(others.build().expect("rules"))
        .send()
        .await
        .expect("set");
    let made = setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
    let added = &made.last().expect("a step").notes;
    assert!(added[0].contains("haulage/45d/, haulage/60d/"), "{added:?}");
    let rules = s3.get_bucket_lifecycle_configuration().bucket(&bucket).send().await.expect("rules");
    let logs = rules.rules().iter().filter(|rule| rule.id() == Some("logs")).count();
    assert_eq!((rules.rules().len(), logs), (12, 1), "two of others, ten of ours: {rules:?}");
    let shown = setup::describe(&config, sdk).await.expect("describe");
    let notes = &shown.last().expect("a step").notes;
    assert!(notes.iter().any(|note| note.contains("`haulage/60d/` expires after 60 days")), "{notes:?}");
}

#[tokio::test]
async fn only_an_empty_bucket_is_deleted_and_only_when_asked() {
    let config = config("setup-bucket");
    let sdk = Some(sdk(ministack()).await);
    setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
    let (s3, bucket) = s3(&config).await;
    s3.put_object().bucket(&bucket).key("mine").body(vec![1].into()).send().await.expect("put");

    let last = |steps: Vec<Step>| steps.last().map(|step| step.outcome).expect("a step");
    let delete = || setup::delete_with_bucket(&config, sdk.clone());
    let kept = delete().await.expect("delete");
    assert_eq!(outcomes(&kept), [Outcome::Deleted, Outcome::Deleted, Outcome::Deleted, Outcome::Kept]);
    assert!(kept[3].notes[0].contains("not empty"), "{kept:?}");
    s3.delete_object().bucket(&bucket).key("mine").send().await.expect("delete");
    assert_eq!(last(setup::delete(&config, sdk.clone()).await.expect("delete")), Outcome::Kept);
    assert_eq!(last(delete().await.expect("delete")), Outcome::Deleted);
    assert_eq!(last(delete().await.expect("delete")), Outcome::Missing);
}

/// Rules are set, and a bucket is deleted, only where it is of that account.
#[tokio::test]
async fn s3_is_told_whose_bucket_it_is() {
    let stub = Stub::start(ministack(), 7);
    let mut config = config("setup-owner");
    config.endpoint = Some(stub.url().into());
    config.bucket_owner = Some("000000000000".into());
    let sdk = Some(sdk(stub.url()).await);
    setup::create(&config, &QueueSettings::default(), sdk.clone()).await.expect("create");
    setup::describe(&config, sdk.clone()).await.expect("describe");
    setup::delete_with_bucket(&config, sdk).await.expect("delete");
    let calls = stub.bucket_owners();
    // That it is made says who owns it.
    let untold: Vec<&str> =
        calls.iter().filter(|(_, owner)| owner.is_none()).map(|(call, _)| &**call).collect();
    assert_eq!(untold, ["PUT"]);
    let told = calls.iter().filter(|(_, owner)| *owner == config.bucket_owner).map(|(call, _)| &**call);
    let expected = ["DELETE", "GET ?lifecycle", "HEAD", "PUT ?lifecycle", "PUT ?publicAccessBlock"];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn settings_out_of_range_make_nothing() {
    let config = config("setup-never");
    let sdk = Some(sdk(ministack()).await);
    let long = Config::new("x".repeat(76));
    let set = |change: fn(&mut QueueSettings)| {
        let mut settings = QueueSettings::default();
        change(&mut settings);
        settings
    };
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(QueueSettings::default().retention, day * 14);
    for (config, settings, part) in [
        (&config, set(|s| s.visibility_timeout = Duration::from_secs(12 * 3600 + 1)), "12 hours"),
        (&config, set(|s| s.retention = Duration::from_secs(59)), "1 minute"),
        (&config, set(|s| s.retention = Duration::from_secs(15 * 24 * 3600)), "14 days"),
        (&config, set(|s| s.max_receives = 0), "1,000"),
        (&long, QueueSettings::default(), "longer than 80 characters"),
    ] {
        let refused = setup::create(config, &settings, sdk.clone()).await.expect_err(part);
        assert!(matches!(&refused, Error::Config(text) if text.contains(part)), "{refused}");
    }
    let shown = setup::describe(&config, sdk).await.expect("describe");
    assert_eq!(outcomes(&shown), [Outcome::Missing; 4]);
}
