//! The event of the scaling Lambda.
#![no_main]

#[path = "../../crates/haulage-autoscale/src/lambda/event.rs"]
#[allow(dead_code, reason = "all of it is the Lambda's")]
mod event;

use std::collections::BTreeSet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(json) = serde_json::from_slice(data) else { return };
    match event::Event::read(&json) {
        Ok(event) => {
            assert!((1..=6).contains(&event.samples_per_minute.get()));
            let pairs = event.pairs.as_slice();
            let distinct: BTreeSet<_> = pairs.iter().map(event::Pair::dimensions).collect();
            assert!(!pairs.is_empty() && distinct.len() == pairs.len());
        }
        Err(bad) => assert!(bad.to_string().starts_with("the event is not understood: ")),
    }
});
