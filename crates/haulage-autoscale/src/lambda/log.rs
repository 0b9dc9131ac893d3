//! The log: lines of JSON on standard output, which Lambda sends to CloudWatch.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use serde_json::json;

use crate::{
    event::{BadEvent, Pair},
    failure::Failure,
};

/// A sample is through.
pub(crate) fn looked(put: usize, failed: usize, took: Duration) {
    let millis = took.as_millis() as u64;
    println!(
        "{}",
        json!({ "level": "INFO", "message": "looked", "put": put, "failed": failed, "ms": millis })
    );
}

/// A service has another desired count.
pub(crate) fn scaled(pair: &Pair, from: u32, to: u32) {
    let pair = pair.to_string();
    println!("{}", json!({ "level": "INFO", "message": "scaled", "pair": pair, "from": from, "to": to }));
}

/// There is no time for so many of the samples.
pub(crate) fn left_out(left_out: u32, samples: u32) {
    let line = json!({
        "level": "WARN",
        "message": format!("{left_out} of {samples} samples left out: the Lambda's timeout ends it before they would begin"),
        "left_out": left_out,
        "samples_per_minute": samples,
        "advice": "raise the Lambda's timeout to 59 s, as terraform/modules/scaler has it, or lower samples_per_minute",
    });
    println!("{line}");
}

/// A pair has failed.
pub(crate) fn failed(pair: &Pair, failure: &Failure) {
    let line = json!({
        "level": "ERROR",
        "message": format!("{} failed: {}", failure.operation, failure.reason),
        "pair": pair.to_string(),
        "operation": failure.operation,
        "code": failure.code,
        "advice": failure.advice,
    });
    println!("{line}");
}

/// An event makes no sense.
pub(crate) fn refused(error: &BadEvent) {
    let line = json!({ "level": "ERROR", "message": error.to_string(), "advice": BadEvent::ADVICE });
    println!("{line}");
}
