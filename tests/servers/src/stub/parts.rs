//! Which part of a batch fails, and how the answer says so.

use serde_json::{Map, Value, json};

/// The shapes that batches have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `Entries`, answered by `Successful` and `Failed`.
    Sqs,
    /// `Statements`, answered by `Responses`.
    Statements,
    /// `RequestItems`, answered by `Responses` and `UnprocessedKeys`.
    Get,
}

/// The entries of a batch that are to fail.
#[derive(Debug)]
pub(super) struct Part {
    shape: Shape,
    fails: Vec<bool>,
    /// The request as it came.
    request: Value,
}

impl Part {
    /// `None` where the call is no batch.
    pub(super) fn of(operation: &str, request: &Value, pick: impl Fn(usize) -> Vec<bool>) -> Option<Self> {
        let shape = match operation {
            "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => Shape::Sqs,
            "BatchExecuteStatement" => Shape::Statements,
            "BatchGetItem" => Shape::Get,
            _ => return None,
        };
        let count = entries(shape, request)?.len();
        Some(Self { shape, fails: pick(count), request: request.clone() })
    }

    /// What is left of the request; `None` for nothing.
    pub(super) fn rest(&self, mut request: Value) -> Option<Value> {
        let kept: Vec<Value> = self.split(false);
        if kept.is_empty() {
            return None;
        }
        *entries_mut(self.shape, &mut request)? = kept;
        Some(request)
    }

    /// The entries that fail, or those that do not.
    fn split(&self, failing: bool) -> Vec<Value> {
        let all = entries(self.shape, &self.request).into_iter().flatten();
        all.zip(&self.fails).filter(|(_, fails)| **fails == failing).map(|(entry, _)| entry.clone()).collect()
    }

    /// The answer, with the failures in it. `done` tells whether they are in the
    /// server's answer as successes.
    pub(super) fn answer(&self, mut answer: Value, done: bool) -> Value {
        if !answer.is_object() {
            answer = json!({});
        }
        match self.shape {
            Shape::Sqs => {
                let ids: Vec<Value> = self.split(true).iter().map(|entry| entry["Id"].clone()).collect();
                if let Some(successful) = answer["Successful"].as_array_mut() {
                    successful.retain(|entry| !ids.contains(&entry["Id"]));
                } else {
                    answer["Successful"] = json!([]);
                }
                let failed = ids.into_iter().map(|id| {
                    json!({ "Id": id, "SenderFault": false, "Code": "InternalError", "Message": "planned" })
                });
                let mut all = answer["Failed"].as_array().cloned().unwrap_or_default();
                all.extend(failed);
                answer["Failed"] = Value::from(all);
            }
            Shape::Statements => {
                let error = json!({ "Error": { "Code": "ThrottlingError", "Message": "planned" } });
                let mut given = answer["Responses"].as_array().cloned().unwrap_or_default().into_iter();
                let responses = self.fails.iter().map(|fails| match (fails, done) {
                    (true, true) => {
                        given.next();
                        error.clone()
                    }
                    (true, false) => error.clone(),
                    (false, _) => given.next().unwrap_or_default(),
                });
                answer["Responses"] = responses.collect();
            }
            Shape::Get => {
                let failing = self.split(true);
                let mut table = Map::new();
                if let Some((name, request)) =
                    self.request["RequestItems"].as_object().and_then(|all| all.iter().next())
                {
                    // A list also where nothing is left to ask the server for.
                    let mut items = answer["Responses"][name].as_array().cloned().unwrap_or_default();
                    items.retain(|item| !failing.iter().any(|key| has_key(item, key)));
                    answer["Responses"][name] = Value::from(items);
                    let mut request = request.clone();
                    request["Keys"] = Value::from(failing);
                    table.insert(name.clone(), request);
                }
                answer["UnprocessedKeys"] = Value::from(table);
            }
        }
        answer
    }
}

fn has_key(item: &Value, key: &Value) -> bool {
    key.as_object().is_some_and(|key| key.iter().all(|(name, value)| item[name] == *value))
}

fn entries(shape: Shape, request: &Value) -> Option<&Vec<Value>> {
    match shape {
        Shape::Sqs => request["Entries"].as_array(),
        Shape::Statements => request["Statements"].as_array(),
        Shape::Get => request["RequestItems"].as_object()?.values().next()?["Keys"].as_array(),
    }
}

fn entries_mut(shape: Shape, request: &mut Value) -> Option<&mut Vec<Value>> {
    match shape {
        Shape::Sqs => request["Entries"].as_array_mut(),
        Shape::Statements => request["Statements"].as_array_mut(),
        Shape::Get => request["RequestItems"].as_object_mut()?.values_mut().next()?["Keys"].as_array_mut(),
    }
}
