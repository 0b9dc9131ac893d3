//! Sends each job to an HTTP server: body by POST, result in the answer.

use std::{
    error::Error,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use haulage::{Context, Failure, Job, Json};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT},
    http::request::Builder,
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{TAIL, result, retry_after, too_large};
use crate::exit::{Code, Exit, Result};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is checked, so that a job of hours neither
/// loses it to a router that forgets nor waits on a machine that is gone.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How often to ask whether the server is ready.
const READY_INTERVAL: Duration = Duration::from_millis(250);
/// How long one such question may take.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer that is no result is read, to keep its end.
const MAX_ERROR_BODY: usize = 1 << 20;

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    connection: Connection,
    target: Uri,
    limit: usize,
}

/// Certificates are read only where they are needed: many containers have none.
#[derive(Clone, Debug)]
enum Connection {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Secure(Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Http {
    /// The server at `url`.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Exit::usage(format!("--http {url}: {why}; write it like http://localhost:8080/invocations"))
        };
        let target: Uri = url.parse().map_err(|_| wrong("this is not a URL"))?;
        let authority = target.authority().ok_or_else(|| wrong("the URL names no server"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a name and password in the URL are not supported"));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        // Connections are not kept: one that the server closes just as the
        // next job is sent on it would cost that job an attempt.
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        let connection = match target.scheme_str() {
            Some("http") => Connection::Plain(client.build(connector)),
            Some("https") => {
                let https = HttpsConnectorBuilder::new()
                    .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                    .map_err(|error| {
                        Exit::new(Code::Failure, format!(
                            "cannot read the system's certificates: {error}; install ca-certificates, or set SSL_CERT_FILE"
                        ))
                    })?;
                Connection::Secure(client.build(https.https_only().enable_http1().wrap_connector(connector)))
            }
            _ => return Err(wrong("the scheme is not http or https")),
        };
        Ok(Self { connection, target, limit: usize::MAX })
    }

    /// The largest result that the backend takes.
    #[must_use]
    pub(crate) fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The URL.
    pub(crate) const fn target(&self) -> &Uri {
        &self.target
    }

    /// Waits until a GET of `path` is answered with 2xx.
    pub(crate) async fn ready(&self, path: &str) -> Result {
        let mut parts = self.target.clone().into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| not_a_path(path))?);
        let uri = Uri::from_parts(parts).map_err(|_| not_a_path(path))?;
        let mut said = false;
        loop {
            let request = request(Method::GET, &uri).body(Full::default()).map_err(|_| not_a_path(path))?;
            let why = match tokio::time::timeout(READY_TIMEOUT, self.send(request)).await {
                Ok(Ok(response)) if response.status().is_success() => return Ok(()),
                Ok(Ok(response)) => format!("HTTP {}", response.status()),
                Ok(Err(why)) => why,
                Err(_) => "no answer".into(),
            };
            if !std::mem::replace(&mut said, true) {
                tracing::info!(%uri, why, "waiting for the server to be ready");
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }

    pub(crate) async fn run(&self, job: Job<Json>, context: Context) -> Result<Json, Failure> {
        tokio::select! {
            result = self.post(job, &context) => result,
            // Dropping the other future closes the connection.
            () = context.cancelled() => Err(Failure::cancelled()),
        }
    }

    async fn post(&self, job: Job<Json>, context: &Context) -> Result<Json, Failure> {
        let request = request(Method::POST, &self.target)
            .header(CONTENT_TYPE, "application/json")
            .header("x-haulage-job-id", header(job.id.as_str()))
            .header("x-request-id", header(context.request_id()))
            .header("x-haulage-attempt", context.attempt())
            .body(Full::from(job.body.as_str().to_owned()))
            .map_err(|error| Failure::fatal(format!("cannot make a request of this job: {error}")))?;
        let mut response = self
            .send(request)
            .await
            .map_err(|why| Failure::retry(format!("no answer from {}: {why}", self.target)))?;
        let status = response.status();
        if status.is_success() {
            let body = read(&mut response, self.limit).await;
            let body = body.map_err(|why| Failure::retry(format!("the answer broke off: {why}")))?;
            if body.len() > self.limit {
                return Err(too_large("the server's answer", self.limit));
            }
            return if body.trim_ascii().is_empty() {
                result(b"null", "")
            } else {
                result(&body, "the server's answer")
            };
        }
        // The status says enough, should its body break off.
        let body = read(&mut response, MAX_ERROR_BODY).await.unwrap_or_default();
        Err(self.refusal(&response, &body))
    }

    /// What an answer other than 2xx means for the job.
    fn refusal(&self, response: &Response<Incoming>, body: &[u8]) -> Failure {
        let status = response.status();
        let named = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let mut message = format!("HTTP {status} from {}", self.target);
        if status.is_redirection() {
            let place = named(LOCATION).unwrap_or("another place");
            return Failure::fatal(format!("{message}: it redirects to {place}; give that URL to --http"));
        }
        let tail = String::from_utf8_lossy(&body[body.len().saturating_sub(TAIL)..]);
        let tail = tail.trim_start_matches(char::REPLACEMENT_CHARACTER).trim();
        if !tail.is_empty() {
            let _ = write!(message, ": {tail}");
        }
        let retryable = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        match named(RETRY_AFTER).and_then(|value| retry_after::parse(value, SystemTime::now())) {
            _ if !retryable => Failure::fatal(message),
            Some(delay) => Failure::retry_after(message, delay),
            None => Failure::retry(message),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        match &self.connection {
            Connection::Plain(client) => client.request(request).await,
            Connection::Secure(client) => client.request(request).await,
        }
        .map_err(|error| with_causes(&error))
    }
}

fn not_a_path(path: &str) -> Exit {
    Exit::usage(format!("--http-ready {path}: this is not a path; write it like /ping"))
}

fn request(method: Method, uri: &Uri) -> Builder {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("haulage/", env!("CARGO_PKG_VERSION")))
}

/// The text as a header's value, without what a header cannot hold.
fn header(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_control()).collect();
    HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static(""))
}

/// Reads the body, and stops when there is more of it than `limit`.
async fn read(response: &mut Response<Incoming>, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame.map_err(|error| with_causes(&error))?.into_data() {
            body.extend_from_slice(&data);
        }
        if body.len() > limit {
            break;
        }
    }
    Ok(body)
}

/// An error with its causes, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
