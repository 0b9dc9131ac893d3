//! Payloads: every JSON value comes back exactly, as body and as result.

use super::{
    Case,
    trial::{Trial, job, json},
};
use crate::{Backend, Json, NewJob, Status, backend::Outcome};

pub(super) const CASES: &[Case] = &[
    Case::new("payloads: values that look like nothing", &[10], |t| {
        Box::pin(all(t, &["null", "0", "\"\"", "[]", "{}", "false", "-0", "0.0", "[null]", "{\"\":null}"]))
    }),
    Case::new("payloads: numbers that no float holds", &[10], |t| {
        Box::pin(all(
            t,
            &[
                "9223372036854775807",
                "-9223372036854775808",
                "18446744073709551615",
                "9007199254740993",
                "123456789012345678901234567890",
                "0.1000000000000000055511151231257827",
                "1e400",
                "-1E-7",
                "[1.0,1,1e0]",
            ],
        ))
    }),
    Case::new("payloads: Unicode, escaped and not", &[10], |t| {
        Box::pin(all(
            t,
            &[
                "\"ünï \u{1f6b2} 値 \u{202e}\u{feff}\"",
                r#""\u00fc \ud83d\udeb2 \u0000 \ud800 \" \\ \/""#,
                "{\"ключ\":\"\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\"}",
                "\"\u{7f}\u{80}\u{ffff}\u{10ffff}\"",
                "\"'; DROP TABLE jobs; -- $1 ? % {}\"",
            ],
        ))
    }),
    Case::new("payloads: order, spaces and repeated keys stay as they are", &[10], |t| {
        Box::pin(all(t, &["{\"b\":1,\"a\":2,\"b\":3}", "{ \"a\" :\t[ 1 ,\n2 ] }"]))
    }),
    Case::new("payloads: deep and wide", &[10], |t| Box::pin(deep_and_wide(t))),
    Case::new("payloads: 16 MiB", &[10], |t| Box::pin(large(t))).needs(takes_16_mib),
    Case::new("payloads: many large ones at once", &[1, 10], |t| Box::pin(many_large(t))).needs(takes_1_mib),
];

const MIB: usize = 1 << 20;

fn takes_16_mib(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().max_payload < 17 * MIB).then_some("takes less than 17 MiB")
}

fn takes_1_mib(backend: &dyn Backend) -> Option<&'static str> {
    (backend.capabilities().max_payload < MIB).then_some("takes less than 1 MiB")
}

async fn all(t: &Trial<'_>, texts: &[&str]) {
    for text in texts {
        round_trip(t, json(text)).await;
    }
}

async fn deep_and_wide(t: &Trial<'_>) {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let wide: Vec<_> = (0..10_000).map(|n| format!("\"key {n}\":{n}")).collect();
    all(t, &[&deep, &format!("{{{}}}", wide.join(","))]).await;
}

async fn large(t: &Trial<'_>) {
    let mut numbers = "[0".to_owned();
    for n in 1u64.. {
        numbers += &format!(",{}", n * 7919);
        if numbers.len() >= 16 * MIB {
            break;
        }
    }
    let numbers = Json::from_stored(numbers + "]");
    let text = Json::from_stored(format!("\"{}\"", "x🚲\\n".repeat(16 * MIB / 7 + 1)));
    for document in [numbers, text] {
        assert!((16 * MIB..17 * MIB).contains(&document.size()), "{} bytes", document.size());
        round_trip(t, document).await;
    }
}

async fn many_large(t: &Trial<'_>) {
    let documents: Vec<_> = (0..9u8).map(|n| super::submit::filled(MIB - usize::from(n))).collect();
    for chunk in documents.chunks(t.backend.capabilities().max_submit.min(3)) {
        t.submit_all(chunk.iter().cloned().map(NewJob::from_json).collect()).await;
    }
    for document in documents {
        let claimed = t.take().await;
        assert!(claimed.body == document, "{} bytes came back as {}", document.size(), claimed.body.size());
        t.finish(&claimed.key, Outcome::Success(claimed.body)).await;
    }
}

/// As body and as result, through every verb that shows one.
async fn round_trip(t: &Trial<'_>, document: Json) {
    let assert_same = |what: &str, came: Option<&Json>| {
        let same = came.is_some_and(|came| came.as_str() == document.as_str());
        assert!(same, "{:.200} came back from {what} as {:.200}", document.as_str(), format!("{came:?}"));
    };
    let claimed = t.start(NewJob::from_json(document.clone())).await;
    assert_same("claim", Some(&claimed.body));
    let record = t.record(&claimed.key.id).await;
    let keeps = t.backend.capabilities().keeps_bodies;
    let assert_body = |body: Option<&Json>| match body {
        None => assert!(!keeps, "get, as body: {:.200} is not there", document.as_str()),
        body => assert_same("get, as body", body),
    };
    assert_body(record.body.as_ref());
    assert_eq!(record.result, None);
    assert_eq!(t.finish(&claimed.key, Outcome::Success(document.clone())).await, Status::Success);
    let record = t.record(&claimed.key.id).await;
    assert_same("get, as result", record.result.as_ref());
    assert_body(record.body.as_ref());

    // And as the result of another body.
    let other = t.start(job(1)).await;
    t.finish(&other.key, Outcome::Success(document.clone())).await;
    let record = t.record(&other.key.id).await;
    assert_same("get, as result", record.result.as_ref());
    assert_eq!(record.body.as_ref().map(Json::as_str), Some("1"));
}
