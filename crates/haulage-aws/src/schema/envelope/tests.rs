use std::time::Duration;

use super::*;

fn message(envelope: &Envelope) -> Message {
    Message::builder()
        .message_id("m-1")
        .body(envelope.message_body())
        .set_message_attributes(Some(attributes(envelope)))
        .build()
}

fn round_trip(job: &NewJob, config: &Config) -> (Envelope, Envelope) {
    let envelope = Envelope::new(job, config, Timestamp::from_micros(1_000_000)).expect("an envelope");
    assert!(envelope.options().chars().all(is_allowed) && envelope.message_body().chars().all(is_allowed));
    let read = Envelope::read(&message(&envelope), &Config::new("jobs.fifo"), &QueueName::default())
        .expect("no poison");
    (envelope, read)
}

#[test]
fn everything_comes_back() {
    let job = NewJob::from_json(Json::parse("[\"\u{ffff}\"]").expect("JSON"))
        .request_id("r \u{ffff}\u{1}")
        .group("g '1'")
        .task("embed \u{1}")
        .delay(Duration::from_secs(3))
        .max_attempts(9)
        .timeout(Duration::from_millis(1500))
        .result_ttl(Duration::ZERO)
        .metadata("ключ", "値\n🚲\u{fffe}")
        .idempotency_key("k");
    let (sent, read) = round_trip(&job, &Config::new("jobs.fifo"));
    assert_eq!(format!("{sent:?}"), format!("{read:?}"));
    assert_eq!(read.body.packed.expect("a body").unpack(100).expect("JSON"), job.body);
    assert_eq!(sent.sqs_group().len(), 64);
}

#[test]
fn the_default_is_small_and_readable() {
    let job = NewJob::from_json(Json::parse("{\"number\": 4}").expect("JSON"));
    let (sent, read) = round_trip(&job, &Config::new("jobs"));
    assert_eq!(sent.message_body(), "{\"number\": 4}");
    assert!(sent.options().len() < 100, "{}", sent.options());
    assert_eq!(format!("{sent:?}"), format!("{read:?}"));
}

#[test]
fn objects_are_named_by_address() {
    let mut config = Config::new("jobs.fifo");
    config.bucket = Some("payloads".into());
    let job = NewJob::from_json(Json::from_stored(format!("\"{}\"", "x".repeat(40_000))));
    let envelope = Envelope::new(&job, &config, Timestamp::from_micros(0)).expect("an envelope");
    assert!(
        envelope.message_body().starts_with("\"s3:haulage/45d/jobs.fifo/"),
        "{}",
        envelope.message_body()
    );
    let read = Envelope::read(&message(&envelope), &Config::new("jobs.fifo"), &QueueName::default())
        .expect("no poison");
    assert_eq!((read.body.packed, read.body.place), (None, envelope.body.place));
}

#[test]
fn other_messages_are_jobs_if_they_are_json() {
    let plain = |body: &str| Message::builder().message_id("m-2").body(body).build();
    let envelope =
        Envelope::read(&plain("{\"a\":1}"), &Config::new("jobs.fifo"), &QueueName::default()).expect("a job");
    assert_eq!((envelope.token.as_str(), envelope.spec.max_attempts), ("m-2", 3));
    let poison = Envelope::read(&plain("hello"), &Config::new("jobs.fifo"), &QueueName::default())
        .expect_err("no job");
    assert!(poison.reason.contains("not JSON"), "{}", poison.reason);
}

fn with_options(options: &serde_json::Value) -> Message {
    let value = MessageAttributeValue::builder().data_type("String").string_value(options.to_string());
    let message = Message::builder().message_id("m-3").body("1");
    message.message_attributes(ATTRIBUTE, value.build().expect("a type")).build()
}

#[test]
fn options_that_no_submit_takes_make_a_message_no_job() {
    for (option, value, why) in [
        ("result_ttl", serde_json::json!(1e18), "result_ttl is longer than 366 days"),
        ("timeout", serde_json::json!(0), "timeout is 0"),
        ("max_attempts", serde_json::json!(0), "max_attempts is 0"),
        ("group", serde_json::json!(""), "group is empty"),
    ] {
        let message = with_options(&serde_json::json!({ "v": 1, "token": "t", option: value }));
        let poison =
            Envelope::read(&message, &Config::new("jobs.fifo"), &QueueName::default()).expect_err("no job");
        assert!(poison.reason.contains(why), "{}", poison.reason);
        assert!(poison.envelope.spec.is_default(), "a record can hold it");
        let later = with_options(&serde_json::json!({ "v": 2, "token": "t", option: value }));
        let poison = Envelope::read(&later, &Config::new("jobs.fifo"), &QueueName::default())
            .expect_err("no job of ours");
        assert!(poison.is_newer && poison.envelope.spec.is_default());
    }
}

/// Or no message could be sent in place of one with an odd group.
#[test]
fn sqs_takes_the_group_of_any_message() {
    let long = "x".repeat(129);
    for (token, group) in [("t", Some("🚲")), ("t", Some("g 1")), ("t", Some(&long)), ("", Some(&long))] {
        let message = with_options(&serde_json::json!({ "v": 1, "token": token, "group": group }));
        let group = Envelope::read(&message, &Config::new("jobs.fifo"), &QueueName::default())
            .expect("a job")
            .sqs_group();
        assert!((1..=128).contains(&group.len()) && group.chars().all(|c| c.is_ascii_graphic()), "{group}");
    }
}

#[test]
fn a_message_names_nothing_that_is_not_its_own() {
    let other = "item:body#other";
    let hash = "a".repeat(64);
    let why = |options: serde_json::Value| {
        let mut all = serde_json::json!({ "v": 1, "token": "t" });
        all.as_object_mut().expect("an object").extend(options.as_object().expect("an object").clone());
        Envelope::read(&with_options(&all), &Config::new("jobs.fifo"), &QueueName::default()).err().map(
            |poison| {
                let Poison { reason, envelope, .. } = *poison;
                assert_eq!((envelope.token.as_str(), envelope.id, envelope.key), ("m-3", None, None));
                assert_eq!(envelope.body.place, DocumentPlace::Record);
                reason
            },
        )
    };
    for (options, expected) in [
        (serde_json::json!({ "id": format!("key#jobs.fifo#{hash}") }), "an id that no job has"),
        (serde_json::json!({ "id": "" }), "an id that no job has"),
        (serde_json::json!({ "id": "two\nlines" }), "an id that no job has"),
        (serde_json::json!({ "id": "x".repeat(129) }), "an id that no job has"),
        (serde_json::json!({ "token": "a b" }), "its token"),
        (serde_json::json!({ "token": "x".repeat(129) }), "its token"),
        (serde_json::json!({ "token": "t/other" }), "its token"),
        (serde_json::json!({ "proof": "t#" }), "its proof"),
        (serde_json::json!({ "key": format!("key#other.fifo#{hash}") }), "not one of jobs.fifo"),
        (serde_json::json!({ "key": "a-job" }), "not one of jobs.fifo"),
        (serde_json::json!({ "body_at": other }), "a place that is not its own"),
        (serde_json::json!({ "token": "", "body_at": "item:body#" }), "a place that is not its own"),
        (serde_json::json!({ "body_at": "item:a-job" }), "a place that is not its own"),
        (serde_json::json!({ "body_at": "nowhere" }), "a place that is not its own"),
        (
            serde_json::json!({ "encoding": "object", "body_at": "s3:haulage/45d/jobs.fifo/other/body.json" }),
            "a place that is not its own",
        ),
        (
            serde_json::json!({ "encoding": "object", "body_at": "s3:haulage/45d/jobs.fifo/t/../other/body.json" }),
            "a place that is not its own",
        ),
        (serde_json::json!({ "submitted_at": -1 }), "a moment that cannot be"),
        (serde_json::json!({ "not_before": i64::MAX }), "longer than 366 days"),
    ] {
        let why = why(options.clone()).unwrap_or_default();
        assert!(why.contains(expected), "{options}: {why}");
    }
    for options in [
        serde_json::json!({ "id": "a-job", "proof": "p", "body_at": "item:body#p" }),
        serde_json::json!({ "encoding": "object", "body_at": "s3:haulage/45d/jobs.fifo/t/body.json" }),
        serde_json::json!({ "key": format!("key#jobs.fifo#{hash}") }),
    ] {
        assert_eq!(why(options.clone()), None, "{options}");
    }
}

#[test]
fn a_job_was_submitted_before_its_message_was_sent() {
    let sent = |submitted_at: i64| {
        let options = serde_json::json!({ "v": 1, "token": "t", "submitted_at": submitted_at });
        let mut message = with_options(&options);
        message.attributes = Some([(MessageSystemAttributeName::SentTimestamp, "1000".to_owned())].into());
        Envelope::read(&message, &Config::new("jobs.fifo"), &QueueName::default())
    };
    assert!(sent(3_600_000_000).is_ok(), "clocks differ");
    assert!(sent(i64::MAX).expect_err("no job").reason.contains("a moment that cannot be"));
}

#[test]
fn too_many_labels_are_refused() {
    let mut job = NewJob::from_json(Json::from_stored("1"));
    for n in 0..40 {
        job = job.metadata(format!("k{n}"), "x".repeat(1000));
    }
    let error = Envelope::new(&job, &Config::new("jobs"), Timestamp::from_micros(0)).expect_err("too much");
    assert!(error.to_string().contains("32768"), "{error}");
}
