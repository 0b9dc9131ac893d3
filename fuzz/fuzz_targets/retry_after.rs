//! The `Retry-After` of a server.
#![no_main]

use std::time::{Duration, SystemTime};

#[path = "../../crates/haulage-http/src/retry_after.rs"]
mod retry_after;

libfuzzer_sys::fuzz_target!(|value: &str| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    if let Some(delay) = retry_after::parse(value, now) {
        assert!(delay <= haulage::NewJob::MAX_DURATION);
        let seconds = delay.as_secs().to_string();
        assert_eq!(retry_after::parse(&seconds, now), Some(Duration::from_secs(delay.as_secs())));
    }
});
