//! `/openapi.json`: made of the routes, and of the schemas beside them.

use std::{collections::BTreeMap, sync::Arc};

use haulage::WebhookEvent;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::{
    Api,
    reply::{self, Reply},
    request::Request,
    route::{QUEUE, Route},
};
use crate::{Problem, problem::MEDIA_TYPE};

/// What is in bodies and answers; a test holds it against the types.
const SCHEMAS: &str = include_str!("schemas.json");

pub(super) async fn document(api: Arc<Api>, _: Request) -> Result<Reply, Problem> {
    Ok(reply::bytes(StatusCode::OK, reply::JSON, api.map.document.clone()))
}

/// The document of these routes, on a server that asks for a key or on one that does not.
pub(super) fn of(routes: &[Route], needs_key: bool) -> String {
    let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for route in routes.iter().filter(|route| !route.summary.is_empty()) {
        let of_path = paths.entry(route.path).or_default();
        of_path.insert(route.method.as_str().to_lowercase(), operation(route, needs_key));
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Haulage",
            "description": "Submit jobs, wait for them, and look after them. \
                Workers in any language are served by `haulage worker`.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "webhooks": webhooks(),
        "components": { "schemas": schemas },
    });
    if needs_key {
        document["security"] = json!([{ "key": [] }]);
        document["components"]["securitySchemes"] = json!({
            "key": { "type": "http", "scheme": "bearer", "description": "A key of `haulage key create`" },
        });
    }
    format!("{document:#}\n")
}

/// What is sent to the webhooks of jobs.
fn webhooks() -> Value {
    let header = |name: &str, what: &str| json!({ "name": name, "in": "header", "required": true, "description": what, "schema": { "type": "string" } });
    let what = |event| match event {
        WebhookEvent::Ended => "A job has ended",
        WebhookEvent::AttemptFailed => "An attempt has failed, and another one follows",
        WebhookEvent::Progress => "A job has reported progress",
        _ => "A later event",
    };
    let webhook = |event: WebhookEvent| {
        let operation = json!({
            "operationId": format!("webhook_{event}"),
            "summary": what(event),
            "description": "Signed as Standard Webhooks specifies.",
            "security": [],
            "parameters": [
                header("webhook-id", "The delivery: the same with each try"),
                header("webhook-timestamp", "The time of the try, in seconds since 1970"),
                header("webhook-signature", "`v1,` and a signature in base64; two with a space between them while a secret is replaced"),
            ],
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": reference("Event") } },
            },
            "responses": {
                "2XX": { "description": "It has arrived" },
                "410": { "description": "The delivery is dead" },
                "default": { "description": "It is retried for a day" },
            },
        });
        (event.kind(), json!({ "post": operation }))
    };
    let all: BTreeMap<_, _> = WebhookEvent::ALL.into_iter().map(webhook).collect();
    json!(all)
}

fn operation(route: &Route, needs_key: bool) -> Value {
    let in_path = route.names().map(|name| {
        let schema = if name == "queue" { QUEUE } else { r#"{"type":"string","minLength":1}"# };
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let others = route.parameters.iter().map(|parameter| {
        let place = if parameter.is_header { "header" } else { "query" };
        let schema: Value = serde_json::from_str(parameter.schema).unwrap_or_default();
        json!({ "name": parameter.name, "in": place, "description": parameter.what, "schema": schema })
    });
    let parameters: Vec<_> = in_path.chain(others).collect();
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for (status, meaning, schema) in route.answers {
        let mut answer = json!({ "description": meaning });
        for schema in schema.split(", ").filter(|schema| !schema.is_empty()) {
            let (kind, content) = match schema {
                "Problem" => (MEDIA_TYPE, json!({ "schema": reference("Problem") })),
                // Some tools take a schema here for that of an event, and others for that of its data.
                "Events" => ("text/event-stream", json!({})),
                // By itself, it is no JSON.
                "Part" => ("application/json", json!({})),
                "Lines" => ("application/jsonl", json!({ "schema": { "type": "string" } })),
                schema => ("application/json", json!({ "schema": reference(schema) })),
            };
            answer["content"][kind] = content;
        }
        responses.insert(status.to_string(), answer);
    }
    let problem = json!({ MEDIA_TYPE: { "schema": reference("Problem") } });
    responses.insert(
        "default".to_owned(),
        json!({ "description": "What went wrong, and what to do about it", "content": problem }),
    );
    let scopes: Vec<_> = route.scopes.iter().map(|scope| scope.as_str()).collect();
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "responses": responses,
    });
    if needs_key {
        operation["description"] = format!("Needs a key with the scope {}.", scopes.join(" or ")).into();
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some((schema, kinds)) = route.body {
        let content: BTreeMap<_, _> = kinds
            .iter()
            .map(|kind| match *kind {
                "application/json" => (*kind, json!({ "schema": reference(schema) })),
                // One of the schema a line.
                kind => (kind, json!({ "schema": { "type": "string" } })),
            })
            .collect();
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// `get_jobs_result` of `GET /v1/jobs/{id}/result`: for the names of functions in other languages.
fn operation_id(route: &Route) -> String {
    let parts = route.path.trim_start_matches("/v1").split(['/', '.']).filter(|part| !part.is_empty());
    let parts = parts.map(|part| if part.starts_with('{') { "one" } else { part });
    let path: Vec<_> = parts.collect();
    format!("{}_{}", route.method.as_str().to_lowercase(), path.join("_"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use haulage::{
        FailureKind, JobError, JobSpec, Json, NewJob, Progress, Record, Status, Timestamp, Webhook,
        WebhookEvent,
        backend::{Backlog, Delivery, QueueBacklog, QueueStats, Stats, Submitted},
    };
    use serde::Serialize;

    use super::{super::routes::routes, *};

    fn schema(name: &str) -> Value {
        let schemas: Value = serde_json::from_str(SCHEMAS).expect("JSON");
        schemas[name].clone()
    }

    /// The document says of a type what it has, no more and no less.
    fn assert_described<T: Serialize>(name: &str, value: &T) {
        let written = serde_json::to_value(value).expect("JSON");
        let fields: BTreeSet<_> = written.as_object().expect("an object").keys().cloned().collect();
        let schema = schema(name);
        let described: BTreeSet<_> =
            schema["properties"].as_object().unwrap_or_else(|| panic!("{name}")).keys().cloned().collect();
        assert_eq!(fields, described, "{name}");
    }

    fn full_record() -> Record {
        let mut spec: JobSpec = serde_json::from_str(
            r#"{"queue":"bulk","task":"embed","request_id":"r","group":"g","timeout":1,"start_within":2,
                "drop_body":true,"metadata":{"a":"b"},"webhook":"https://a.example"}"#,
        )
        .expect("a spec");
        spec.max_attempts = 5;
        let at = Timestamp::from_micros(1);
        let mut record = Record::new("id".into(), spec, at);
        record.status = Status::Success;
        record.slot = Some("slot 3, GPU 1".into());
        record.progress = Some(Progress { fraction: 0.5, message: Some("half".into()) });
        record.checkpoint = Some(Json::parse("1").expect("JSON"));
        record.error = Some(JobError::new(FailureKind::Handler, "no").of_type(Some("E".into())));
        record.result = Some(Json::parse("1").expect("JSON"));
        record.body = Some(Json::parse("1").expect("JSON"));
        record.started_at = Some(at);
        record.attempt = 1;
        record.remember(Vec::new());
        record
    }

    #[test]
    fn the_schemas_have_the_fields_of_the_types() {
        assert_described("Job", &full_record());
        assert_described("Attempt", &full_record().attempts[0]);
        assert_described("JobError", &full_record().error);
        assert_described("Progress", &full_record().progress);
        assert_described("Submitted", &Submitted { id: "id".into(), duplicate: false });
        assert_described("Stats", &Stats::default());
        assert_described("QueueStats", &QueueStats::default());
        assert_described("Backlog", &Backlog::default());
        assert_described("QueueBacklog", &QueueBacklog::default());
        let delivery: Delivery = serde_json::from_value(serde_json::json!({
            "id": "msg_1", "job": "j", "queue": "default", "event": "ended", "url": "https://a.example",
            "created_at": Timestamp::from_micros(1), "tries": 1, "due_at": null, "dead_at": null, "error": null,
        }))
        .expect("a delivery");
        assert_described("Delivery", &delivery);
        assert_described("Webhook", &full_record().spec.webhook);
        let problem = Problem {
            detail: "d".into(),
            field: Some("f".into()),
            remedy: Some("r".into()),
            id: Some("id".into()),
            job_status: Some(Status::Error),
            error: full_record().error,
            attempt: Some(1),
            key: Some("k".into()),
            size: Some(2),
            limit: Some(1),
            line: Some(1),
            column: Some(1),
            ..Problem::default()
        };
        assert_described("Problem", &problem);
        let statuses: Vec<String> = serde_json::from_value(schema("Status")["enum"].clone()).expect("names");
        assert_eq!(statuses, Status::ALL.map(Status::as_str));
        let kinds: Vec<String> =
            serde_json::from_value(schema("JobError")["properties"]["kind"]["enum"].clone()).expect("names");
        assert_eq!(kinds, FailureKind::ALL.map(FailureKind::as_str));
        let events: Vec<String> =
            serde_json::from_value(schema("WebhookEvent")["enum"].clone()).expect("names");
        assert_eq!(events, WebhookEvent::ALL.map(WebhookEvent::as_str));
        let told = &schema("Event")["properties"]["type"]["enum"];
        let told: Vec<String> = serde_json::from_value(told.clone()).expect("names");
        assert_eq!(told, WebhookEvent::ALL.map(WebhookEvent::kind));
    }

    #[test]
    fn the_schemas_have_the_limits_of_the_types() {
        assert_eq!(schema("Label")["maxLength"], NewJob::MAX_LABEL_BYTES);
        assert_eq!(schema("JobTime")["oneOf"][0]["maximum"], NewJob::MAX_DURATION.as_secs());
        assert_eq!(schema("Webhook")["properties"]["url"]["maxLength"], Webhook::MAX_URL_BYTES);
        let metadata = &schema("Submission")["properties"]["metadata"];
        assert_eq!(metadata["additionalProperties"]["maxLength"], NewJob::MAX_METADATA_BYTES);
    }

    #[test]
    fn what_is_referred_to_is_there_and_every_operation_has_a_name_of_its_own() {
        let document: Value = serde_json::from_str(&of(&routes(), true)).expect("JSON");
        fn references(value: &Value, into: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        into.insert(reference.clone());
                    }
                    fields.values().for_each(|value| references(value, into));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, into)),
                _ => {}
            }
        }
        let mut all = BTreeSet::new();
        references(&document, &mut all);
        for reference in &all {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} is not there");
        }
        let named = document["components"]["schemas"].as_object().expect("schemas").keys();
        for name in named {
            assert!(all.contains(&format!("#/components/schemas/{name}")), "{name} is used nowhere");
        }
        let public: Vec<_> = routes().into_iter().filter(|route| !route.summary.is_empty()).collect();
        let ids: BTreeSet<_> = public.iter().map(operation_id).collect();
        assert_eq!(ids.len(), public.len(), "{ids:?}");
    }
}
