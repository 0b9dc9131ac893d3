//! The log: lines of JSON on standard output, which Lambda sends to CloudWatch.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use serde_json::json;

use crate::{
    event::{BadEvent, Pair},
    failure::Failure,
};

/// A look is through.
pub(crate) fn looked(put: usize, failed: usize, took: Duration) {
    let millis = took.as_millis() as u64;
    println!(
        "{}",
        json!({ "level": "INFO", "message": "looked", "put": put, "failed": failed, "ms": millis })
    );
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
