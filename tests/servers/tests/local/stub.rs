//! The stub: batches that fail in part, and whole calls.

use std::{
    thread,
    time::{Duration, Instant},
};

use haulage_servers::{Stub, stub::Fault};
use serde_json::{Value, json};

use crate::wire::{Connection, call, done, keys, messages, put, queue, server, table};

/// The values of one field of all entries in a list of the answer.
fn all(answer: &Value, list: &str, field: &str) -> Vec<String> {
    let entries = answer[list].as_array().into_iter().flatten();
    entries.map(|entry| entry[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn ids() -> Vec<String> {
    (0..10).map(|n| n.to_string()).collect()
}

fn batch(queue: &Value, entry: impl Fn(&str) -> Value) -> Value {
    let entries: Vec<Value> = ids().iter().map(|id| entry(id)).collect();
    json!({ "QueueUrl": queue, "Entries": entries })
}

/// Makes a call of ten entries; the ids of those that failed.
fn fails(stub: &Stub, operation: &str, body: &Value) -> Vec<String> {
    let (status, answer) = call(stub.url(), operation, body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let failed = all(&answer, "Failed", "Id");
    let mut both = [all(&answer, "Successful", "Id"), failed.clone()].concat();
    both.sort();
    assert_eq!(both, ids(), "each entry is told of once: {answer}");
    assert!(!failed.is_empty(), "a part fails: {answer}");
    for entry in answer["Failed"].as_array().expect("failed") {
        assert_eq!(entry["SenderFault"], json!(false));
        assert!(entry["Code"].is_string());
    }
    failed
}

#[test]
fn a_part_of_a_send_fails() {
    let (stub, queue) = (Stub::start(server(), 1), queue());
    let send = batch(&queue, |id| json!({ "Id": id, "MessageBody": id }));
    stub.fail_next("SendMessageBatch", Fault::Part);
    stub.fail_next("SendMessageBatch", Fault::LostPart);
    let failed = fails(&stub, "SendMessageBatch", &send).len();
    assert_eq!(messages(&queue), 10 - failed as u64, "what failed has not been sent");
    fails(&stub, "SendMessageBatch", &send);
    assert_eq!(messages(&queue), 20 - failed as u64, "all of it has been sent");
    assert!(stub.is_through());
    assert_eq!((stub.calls()["SendMessageBatch"], stub.faults()), (2, 2));
}

#[test]
fn a_part_of_a_delete_fails() {
    let (stub, queue) = (Stub::start(server(), 2), queue());
    for (fault, is_done) in [(Fault::Part, false), (Fault::LostPart, true)] {
        let (receipts, before) = received(&queue);
        let delete = batch(&queue, |id| json!({ "Id": id, "ReceiptHandle": receipts(id) }));
        stub.fail_next("DeleteMessageBatch", fault);
        let failed = fails(&stub, "DeleteMessageBatch", &delete).len() as u64;
        assert_eq!(messages(&queue), before - 10 + if is_done { 0 } else { failed });
    }
}

#[test]
fn a_part_of_a_change_of_visibility_fails() {
    let (stub, queue) = (Stub::start(server(), 3), queue());
    for (fault, is_done) in [(Fault::Part, false), (Fault::LostPart, true)] {
        let (receipts, _) = received(&queue);
        let change =
            batch(&queue, |id| json!({ "Id": id, "ReceiptHandle": receipts(id), "VisibilityTimeout": 0 }));
        stub.fail_next("ChangeMessageVisibilityBatch", fault);
        let failed = fails(&stub, "ChangeMessageVisibilityBatch", &change).len();
        let receive = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10 });
        let shown = done("ReceiveMessage", &receive)["Messages"].as_array().map_or(0, Vec::len);
        assert_eq!(shown, if is_done { 10 } else { 10 - failed });
    }
}

/// Sends and receives ten messages: the receipt for each id, and how many
/// messages the queue holds.
fn received(queue: &Value) -> (impl Fn(&str) -> Value, u64) {
    done("SendMessageBatch", &batch(queue, |id| json!({ "Id": id, "MessageBody": id })));
    let answer = done("ReceiveMessage", &json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10 }));
    let receipts = all(&answer, "Messages", "ReceiptHandle");
    assert_eq!(receipts.len(), 10);
    (move |id: &str| json!(receipts[id.parse::<usize>().expect("a number")]), messages(queue))
}

#[test]
fn some_statements_fail() {
    let stub = Stub::start(server(), 4);
    for (fault, is_done) in [(Fault::Part, false), (Fault::LostPart, true)] {
        let table = table();
        // One that is there already is told as such, in its place.
        done("PutItem", &put(&table, "3"));
        let statement = format!("INSERT INTO \"{table}\" VALUE {{'message_id': ?}}");
        let statements: Vec<_> =
            ids().iter().map(|id| json!({ "Statement": statement, "Parameters": [{ "S": id }] })).collect();
        stub.fail_next("BatchExecuteStatement", fault);
        let body = json!({ "Statements": statements });
        let (_, answer) = call(stub.url(), "BatchExecuteStatement", &body).expect("an answer");
        let codes: Vec<_> = answer["Responses"]
            .as_array()
            .expect("responses")
            .iter()
            .map(|one| one["Error"]["Code"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(codes.len(), 10);
        assert!(codes.contains(&"ThrottlingError"), "{codes:?}");
        assert!(["ThrottlingError", "DuplicateItem"].contains(&codes[3]), "{codes:?}");
        let there = keys(&table);
        for (id, code) in ids().iter().zip(&codes) {
            let expected = is_done || *code != "ThrottlingError" || id == "3";
            assert_eq!(there.contains(id), expected, "{id}: {code}");
        }
    }
}

#[test]
fn some_keys_are_not_processed() {
    let (stub, table) = (Stub::start(server(), 5), table());
    for id in ids() {
        done("PutItem", &put(&table, &id));
    }
    // One key, too: then nothing is left to ask the server for.
    for wanted in [ids(), vec!["0".to_owned()]] {
        let asked: Vec<_> = wanted.iter().map(|id| json!({ "message_id": { "S": id } })).collect();
        let body = json!({ "RequestItems": { &table: { "Keys": asked, "ConsistentRead": true } } });
        stub.fail_next("BatchGetItem", Fault::Part);
        let (_, answer) = call(stub.url(), "BatchGetItem", &body).expect("an answer");
        let key = |item: &Value| item["message_id"]["S"].as_str().unwrap_or_default().to_owned();
        let given = answer["Responses"][&table].as_array().expect("a list, if an empty one");
        let left = &answer["UnprocessedKeys"][&table];
        assert_eq!(left["ConsistentRead"], json!(true), "it is a request for the rest");
        let left = left["Keys"].as_array().expect("keys");
        assert!(!left.is_empty());
        let mut both: Vec<_> = given.iter().chain(left).map(key).collect();
        both.sort();
        assert_eq!(both, wanted);
    }
}

#[test]
fn a_call_fails_before_or_after_it_is_made() {
    let (stub, table) = (Stub::start(server(), 6), table());
    let refused = |code: &str| Some((code == "ThrottlingException", code.to_owned()));
    let cases = [
        (Fault::Throttle, refused("ThrottlingException"), false),
        (Fault::Error, refused("InternalServerError"), false),
        (Fault::ErrorAfter, refused("InternalServerError"), true),
        (Fault::Reset, None, false),
        (Fault::LostAnswer, None, true),
    ];
    for (n, (fault, told, is_done)) in cases.into_iter().enumerate() {
        let key = n.to_string();
        stub.fail_next("PutItem", fault);
        let answer = call(stub.url(), "PutItem", &put(&table, &key));
        match told {
            Some((callers_fault, code)) => {
                let (status, body) = answer.expect("an answer");
                assert_eq!(status, if callers_fault { 400 } else { 500 }, "{fault:?}");
                let given = body["__type"].as_str().expect("a type");
                assert!(given.ends_with(&format!("#{code}")), "{fault:?}: {given}");
            }
            None => assert!(answer.is_err(), "{fault:?}: {answer:?}"),
        }
        assert_eq!(keys(&table).contains(&key), is_done, "{fault:?}");
    }
    assert_eq!(stub.calls()["PutItem"], 5);
}

#[test]
fn a_slow_call_is_made() {
    let (stub, table) = (Stub::start(server(), 7), table());
    stub.fail_next("PutItem", Fault::Slow(400));
    let start = Instant::now();
    let (status, _) = call(stub.url(), "PutItem", &put(&table, "slow")).expect("an answer");
    assert_eq!(status, 200);
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(keys(&table), ["slow"]);
}

#[test]
fn only_what_is_planned_goes_wrong() {
    let (stub, table) = (Stub::start(server(), 8), table());
    stub.fail_next("PutItem", Fault::Error);
    stub.fail_next("PutItem", Fault::Throttle);
    let scan = json!({ "TableName": table });
    assert_eq!(call(stub.url(), "Scan", &scan).expect("an answer").0, 200);
    let statuses = [0, 1, 2].map(|_| call(stub.url(), "PutItem", &put(&table, "x")).expect("an answer").0);
    assert_eq!(statuses, [500, 400, 200], "in the order of the plan");
    // An error of the server comes through as it is.
    let (status, answer) = call(stub.url(), "Scan", &json!({ "TableName": "none" })).expect("an answer");
    assert_eq!(status, 400);
    assert!(answer["__type"].as_str().is_some_and(|given| given.ends_with("ResourceNotFoundException")));
    let calls: Vec<_> = stub.calls().into_iter().collect();
    assert_eq!(calls, [("PutItem".to_owned(), 3), ("Scan".to_owned(), 2)]);
}

/// Which of 100 calls do not go well.
fn at_random(seed: u64) -> Vec<usize> {
    let (stub, table) = (Stub::start(server(), seed), table());
    stub.fail_at_random(0.2);
    let get = json!({ "TableName": table, "Key": { "message_id": { "S": "x" } } });
    let well = |answer: std::io::Result<(u16, Value)>| answer.is_ok_and(|(status, _)| status == 200);
    (0..100).filter(|_| !well(call(stub.url(), "GetItem", &get))).collect()
}

#[test]
fn a_seed_repeats_what_happens_at_random() {
    let first = at_random(9);
    assert!((5..40).contains(&first.len()), "about a fifth, of which some only are slow: {first:?}");
    assert_eq!(at_random(9), first);
    assert_ne!(at_random(10), first);
}

#[test]
fn many_connections_are_kept_at_once() {
    const THREADS: u64 = 16;
    const CALLS: u64 = 40;
    let (stub, table) = (Stub::start(server(), 11), table());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stub, table) = (&stub, &table);
            scope.spawn(move || {
                let mut connection = Connection::open(stub.url()).expect("a connection");
                for call in 0..CALLS {
                    let put = put(table, &format!("{thread}-{call}"));
                    assert_eq!(connection.call("PutItem", &put).expect("an answer").0, 200);
                }
            });
        }
    });
    assert_eq!(stub.calls()["PutItem"], THREADS * CALLS);
    assert_eq!(keys(&table).len() as u64, THREADS * CALLS);
}
