//! A limit of SQS that local servers do not have: a message is hidden for 12
//! hours from its receive, and no longer (Amazon SQS Developer Guide, "Amazon
//! SQS visibility timeout").

use std::{collections::HashMap, time::Instant};

use serde_json::{Value, json};

/// In seconds.
const LIMIT: f64 = 43_200.0;

/// When each receipt was given out, and how often one was to last for too long.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    given: HashMap<String, Instant>,
    pub(super) refused: u64,
}

impl Receipts {
    /// Notes what a receive has brought.
    pub(super) fn note(&mut self, answer: &Value) {
        for message in answer["Messages"].as_array().into_iter().flatten() {
            if let Some(receipt) = message["ReceiptHandle"].as_str() {
                self.given.insert(receipt.to_owned(), Instant::now());
            }
        }
    }

    /// Takes the entries out that SQS would refuse; their answers.
    pub(super) fn refuse(&mut self, request: &mut Value) -> Vec<Value> {
        let mut refused = Vec::new();
        let Some(entries) = request["Entries"].as_array_mut() else { return refused };
        entries.retain(|entry| {
            let given = entry["ReceiptHandle"].as_str().and_then(|receipt| self.given.get(receipt));
            let time = entry["VisibilityTimeout"].as_f64().unwrap_or(0.0);
            let too_long = given.is_some_and(|given| given.elapsed().as_secs_f64() + time > LIMIT);
            if too_long {
                refused.push(json!({
                    "Id": entry["Id"], "SenderFault": true, "Code": "InvalidParameterValue",
                    "Message": "beyond the 43200 seconds from the receive",
                }));
            }
            !too_long
        });
        self.refused += refused.len() as u64;
        refused
    }
}

/// An answer with these failures in it as well.
pub(super) fn with_failed(mut answer: Value, refused: Vec<Value>) -> Value {
    if !answer.is_object() {
        answer = json!({ "Successful": [] });
    }
    let mut failed = answer["Failed"].as_array().cloned().unwrap_or_default();
    failed.extend(refused);
    answer["Failed"] = Value::from(failed);
    answer
}
