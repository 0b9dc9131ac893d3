//! The endpoint of the ECS agent (Amazon ECS Developer Guide, "Amazon ECS task
//! scale-in protection endpoint").
//!
//! A `protection` and a `failure` both come with HTTP status 200, an `error`
//! with 4xx or 5xx; so the answer's text decides, and not its status.

use std::{fmt, time::Duration};

use haulage::{Error, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    header::{ACCEPT, CONTENT_TYPE},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use serde_json::json;

/// An answer is a few hundred bytes.
const MAX_ANSWER: usize = 64 << 10;

/// The agent of this task.
pub(super) struct Agent {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: Uri,
    limit: Duration,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Agent").field(&self.endpoint).finish()
    }
}

/// What the agent says: one of the three.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    protection: Option<Protection>,
    failure: Option<Failure>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Protection {
    protection_enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    reason: String,
    #[serde(default)]
    detail: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    code: String,
    #[serde(default)]
    message: String,
}

impl Agent {
    pub(super) fn new(base: &str, limit: Duration) -> Result<Self> {
        let endpoint = format!("{}/task-protection/v1/state", base.trim_end_matches('/'));
        let bad = || Error::Config(format!("ECS_AGENT_URI is `{base}`, which is not an http:// address"));
        let endpoint: Uri = endpoint.parse().map_err(|_| bad())?;
        if endpoint.scheme_str() != Some("http") || endpoint.host().is_none() {
            return Err(bad());
        }
        // A connection of its own for each call: they are minutes apart.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Ok(Self { client, endpoint, limit })
    }

    /// Sets the protection, or takes it away; what went wrong is in words.
    pub(super) async fn protect(&self, protect: bool, expires: Duration) -> std::result::Result<(), String> {
        let call = self.call(protect, expires);
        match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => answer,
            Err(_) => {
                let limit = humantime::format_duration(self.limit);
                Err(format!("the ECS agent at {} did not answer in {limit}", self.endpoint))
            }
        }
    }

    async fn call(&self, protect: bool, expires: Duration) -> std::result::Result<(), String> {
        let mut body = json!({ "ProtectionEnabled": protect });
        if protect {
            // 1 to 2,880 minutes; the default of the agent is 120.
            let minutes = expires.as_secs().div_ceil(60).clamp(1, 2880);
            body["ExpiresInMinutes"] = json!(minutes);
        }
        let request = Request::builder()
            .method(Method::PUT)
            .uri(self.endpoint.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|e| e.to_string())?;
        let unreachable =
            |e: &dyn fmt::Display| format!("the ECS agent at {} cannot be reached: {e}", self.endpoint);
        let response = self.client.request(request).await.map_err(|e| {
            // The innermost says why: "connection refused" rather than "client error".
            let mut cause: &dyn std::error::Error = &e;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            unreachable(&cause)
        })?;
        let status = response.status();
        let bytes =
            Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| unreachable(&e))?;
        understood(&bytes.to_bytes(), protect, status.as_u16())
    }
}

/// What an answer of the agent, of this HTTP status, says of what was asked for.
pub(crate) fn understood(answer: &[u8], protect: bool, status: u16) -> std::result::Result<(), String> {
    match serde_json::from_slice(answer).unwrap_or_default() {
        Answer { failure: Some(failure), .. } => Err(failure.explain()),
        Answer { error: Some(error), .. } => {
            Err(format!("the ECS agent refuses: {}: {}{}", error.code, error.message, hint(&error.code)))
        }
        Answer { protection: Some(is), .. } if is.protection_enabled == protect => Ok(()),
        Answer { protection: Some(_), .. } => Err("the ECS agent left the protection as it was".into()),
        _ => Err(format!("the ECS agent answered with HTTP status {status} and nothing that can be read")),
    }
}

impl Failure {
    fn explain(&self) -> String {
        let detail = self.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let why = match self.reason.as_str() {
            // "Protect your Amazon ECS tasks from being terminated by scale-in events".
            "DEPLOYMENT_BLOCKED" => {
                "a deployment is replacing this task, and the next task takes over; ECS protects no more tasks \
                 than the service's desired count: let jobs end, or raise the count"
            }
            "TASK_NOT_VALID" => "only running tasks of a service can be protected",
            _ => "see \"Amazon ECS API failure reasons\" in the Amazon ECS Developer Guide",
        };
        format!("{}{detail}: {why}", self.reason)
    }
}

/// What to do about an error, as the page on the endpoint has it.
fn hint(code: &str) -> &'static str {
    match code {
        "AccessDeniedException" => "; the task role needs ecs:UpdateTaskProtection",
        "RequestCanceled" | "RequestError" | "RequestTimeout" => {
            "; the agent cannot reach ECS: see to a way out of the subnet, or to a VPC endpoint for ECS"
        }
        _ => "",
    }
}
