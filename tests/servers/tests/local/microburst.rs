//! Microburst takes a misspelt rule without a word; here is seen that ours work.

use std::time::{Duration, Instant};

use haulage_servers::{Microburst, microburst::Rule};
use serde_json::json;

use crate::wire::{call, keys, messages, put, queue, server, table};

#[test]
fn rules_do_what_they_say() {
    let (proxy, table, queue) = (Microburst::start(server()), table(), queue());
    let write = |key: &str| call(proxy.url(), "PutItem", &put(&table, key));
    let send = || call(proxy.url(), "SendMessage", &json!({ "QueueUrl": queue, "MessageBody": "x" }));
    assert_eq!(write("without rules").expect("an answer").0, 200);

    proxy.set(&[Rule::error("dynamodb", "ProvisionedThroughputExceededException", 400, 1.0).only("PutItem")]);
    let (status, answer) = write("refused").expect("an answer");
    assert_eq!(status, 400);
    let code = answer["__type"].as_str().expect("a type");
    assert!(code.ends_with("ProvisionedThroughputExceededException"), "{code}");
    assert_eq!(send().expect("an answer").0, 200, "another service");
    assert!(call(proxy.url(), "Scan", &json!({ "TableName": table })).is_ok_and(|(status, _)| status == 200));

    proxy.set(&[Rule::reset("sqs", 1.0)]);
    assert!(send().is_err());
    assert_eq!(messages(&queue), 1, "it has not been sent");
    proxy.set(&[Rule::lost_answer("sqs", 1.0)]);
    assert!(send().is_err());
    assert_eq!(messages(&queue), 2, "it has been sent");

    proxy.set(&[Rule::slow("dynamodb", 300, 400, 1.0).times(1)]);
    let start = Instant::now();
    assert_eq!(write("slow").expect("an answer").0, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));

    let fired = proxy.fired();
    assert_eq!(fired, 4);
    proxy.set(&[Rule::error("sqs", "InternalFailure", 500, 1.0).times(2)]);
    assert_eq!([0, 1, 2].map(|_| send().expect("an answer").0), [500, 500, 200]);
    assert_eq!(proxy.fired(), fired + 2);
    assert_eq!(keys(&table), ["slow", "without rules"]);
}
