//! AWS, as far as these tests need it: in this process, so that a test can
//! hold the clock, and refuse what local servers never refuse.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use crate::services::Services;

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operation: String,
    /// What was asked; `null` for CloudWatch, which is not spoken to in JSON.
    pub(super) body: Value,
    /// Since the start.
    pub(super) at: Duration,
    raw: Vec<u8>,
}

impl Call {
    /// Whether this is anywhere in what was asked.
    pub(super) fn has(&self, text: &str) -> bool {
        self.raw.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

/// How it is answered.
#[derive(Debug)]
pub(super) enum Answer {
    Good(Value),
    Bad(u16, &'static str),
    /// Well, after so long.
    Slow(Duration),
    Never,
}

type Respond = dyn Fn(&Call) -> Option<Answer> + Send + Sync;

/// Answers every call well, other than `respond` says.
#[derive(Clone)]
pub(super) struct Fake {
    start: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    respond: Arc<Respond>,
}

impl Fake {
    pub(super) fn new(respond: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self { start: Instant::now(), calls: Arc::default(), respond: Arc::new(respond) }
    }

    pub(super) fn services(&self) -> Services {
        let connector = SharedHttpConnector::new(self.clone());
        let credentials = Credentials::new("key", "secret", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .disable_request_compression(true)
            .http_client(http_client_fn(move |_, _| connector.clone()));
        Services::new(&config.build())
    }

    pub(super) fn calls(&self, operation: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| call.operation == operation).cloned().collect()
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl HttpConnector for Fake {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target");
        let operation = target.map_or_else(
            || request.uri().rsplit('/').next().unwrap_or_default().to_owned(),
            |target| target.rsplit('.').next().unwrap_or_default().to_owned(),
        );
        let raw = request.body().bytes().unwrap_or_default().to_vec();
        let body = serde_json::from_slice(&raw).unwrap_or_default();
        let call = Call { operation, body, at: self.start.elapsed(), raw };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
        let (status, body, after) = match (self.respond)(&call) {
            None => (200, usual(&call), Duration::ZERO),
            Some(Answer::Good(body)) => (200, body, Duration::ZERO),
            Some(Answer::Bad(status, code)) => {
                (status, json!({ "__type": code, "message": "as planned" }), Duration::ZERO)
            }
            Some(Answer::Slow(after)) => (200, usual(&call), after),
            Some(Answer::Never) => return HttpConnectorFuture::new(std::future::pending()),
        };
        let body = if call.body.is_null() { cbor(&body) } else { body.to_string().into_bytes() };
        let status = StatusCode::try_from(status).expect("a status");
        let mut response = HttpResponse::new(status, SdkBody::from(body));
        response.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
        HttpConnectorFuture::new(async move {
            sleep(after).await;
            Ok(response)
        })
    }
}

/// One job that waits, on one task.
fn usual(call: &Call) -> Value {
    match call.operation.as_str() {
        "GetQueueAttributes" => json!({ "Attributes": {
            "ApproximateNumberOfMessages": "1",
            "ApproximateNumberOfMessagesNotVisible": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
        } }),
        "DescribeServices" => {
            let names = call.body["services"].as_array().into_iter().flatten();
            let services: Vec<_> = names.map(|name| service(name, "ACTIVE")).collect();
            json!({ "services": services, "failures": [] })
        }
        _ => json!({}),
    }
}

pub(super) fn service(name: &Value, status: &str) -> Value {
    json!({ "serviceName": name, "status": status, "runningCount": 1, "pendingCount": 0, "desiredCount": 1 })
}

/// RFC 8949, as much of it as the answers need.
fn cbor(value: &Value) -> Vec<u8> {
    let head = |kind: u8, length: usize| match u8::try_from(length).expect("a short one") {
        length @ 0..24 => vec![kind << 5 | length],
        length => vec![kind << 5 | 24, length],
    };
    match value {
        Value::String(text) => [head(3, text.len()), text.as_bytes().to_vec()].concat(),
        Value::Array(items) => [head(4, items.len()), items.iter().flat_map(cbor).collect()].concat(),
        // What is a moment: a tag, and seconds of Unix time.
        Value::Object(fields) if fields.contains_key("$seconds") => {
            [vec![0xc1], cbor(&fields["$seconds"])].concat()
        }
        Value::Object(fields) => {
            let pairs = fields.iter().flat_map(|(name, value)| [cbor(&name.as_str().into()), cbor(value)]);
            [head(5, fields.len()), pairs.flatten().collect()].concat()
        }
        Value::Number(number) => {
            [vec![0xfb], number.as_f64().expect("a number").to_be_bytes().to_vec()].concat()
        }
        Value::Null | Value::Bool(_) => vec![0xf6],
    }
}
