//! Sends each job to an HTTP server: body by POST, result in the answer.

use std::{
    error::Error,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use haulage::{Context, Failure, Job, Json, NewJob, with_causes};
use haulage_http::retry_after;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT},
    http::request::Builder,
    http::uri::PathAndQuery,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_service::Service as _;

use super::{HandlerEnd, Headers, TAIL, result, too_large};
use crate::{
    exit::{Code, Exit, Result},
    output::sanitized,
};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is checked, so that a job of hours neither
/// loses it to a router that forgets nor waits on a machine that is gone.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long the question whether the server is ready may take.
const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer that is no result is read, to keep its end.
const MAX_ERROR_BODY: usize = 1 << 20;

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    connection: Connection,
    target: Uri,
    headers: Headers,
    /// How long an answer may take, for a job without a timeout.
    timeout: Duration,
    /// Answers 2xx while the server is ready for jobs.
    ready: Option<Uri>,
    limit: usize,
    longest_wait: Duration,
}

/// Certificates are read only where they are needed: many containers have none.
#[derive(Clone, Debug)]
enum Connection {
    Plain(Client<HttpConnector, Full<Bytes>>, HttpConnector),
    Secure(Client<HttpsConnector<HttpConnector>, Full<Bytes>>, HttpsConnector<HttpConnector>),
}

/// Why there is no answer.
struct NoAnswer {
    why: String,
    /// The server may have got the request, or a part of it.
    sent: bool,
}

impl Http {
    /// The server at `url`, and the path on it that says whether it is ready.
    pub(crate) fn new(url: &str, ready: Option<&str>) -> Result<Self> {
        let wrong = |why: &str| {
            let url = without_secrets(url);
            Exit::usage(format!("--http {url}: {why}; write it like http://localhost:8080/invocations"))
        };
        let target: Uri = url.parse().map_err(|_| wrong("this is not a URL"))?;
        let authority = target.authority().ok_or_else(|| wrong("the URL names no server"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a name and password in the URL are not supported; use --http-header-file"));
        }
        if authority.as_str().len() > authority.host().len() && !matches!(authority.port_u16(), Some(1..)) {
            return Err(wrong("the port is not a number from 1 to 65535"));
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
            Some("http") => Connection::Plain(client.build(connector.clone()), connector),
            Some("https") => {
                let https = HttpsConnectorBuilder::new()
                    .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                    .map_err(|error| {
                        Exit::new(Code::Failure, format!(
                            "cannot read the system's certificates: {error}; install ca-certificates, or set SSL_CERT_FILE"
                        ))
                    })?;
                let connector = https.https_only().enable_http1().wrap_connector(connector);
                Connection::Secure(client.build(connector.clone()), connector)
            }
            _ => return Err(wrong("the scheme is not http or https")),
        };
        let ready = ready.map(|path| beside(&target, path)).transpose()?;
        Ok(Self {
            connection,
            target,
            headers: Headers::default(),
            timeout: NewJob::MAX_DURATION,
            ready,
            limit: usize::MAX,
            longest_wait: Duration::MAX,
        })
    }

    /// The largest result that the backend takes, and the longest wait that a
    /// server can ask for.
    #[must_use]
    pub(crate) const fn limits(mut self, bytes: usize, longest_wait: Duration) -> Self {
        (self.limit, self.longest_wait) = (bytes, longest_wait);
        self
    }

    /// The URL, for people: without its query, in which there may be a token.
    pub(crate) fn shown(&self) -> String {
        without_secrets(&self.target.to_string())
    }

    /// What the server is sent with each request, and how long it has for a job
    /// that has no timeout.
    #[must_use]
    pub(crate) fn asked(mut self, headers: Headers, timeout: Duration) -> Self {
        (self.headers, self.timeout) = (headers, timeout);
        self
    }

    /// Whether the server would take a job: its readiness path answers 2xx, or
    /// where there is none, it takes a connection.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let Some(uri) = &self.ready else {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
            let connected =
                connected.unwrap_or_else(|_| Err(format!("no connection in {CONNECT_TIMEOUT:?}")));
            return connected.map_err(|why| format!("cannot connect to {}: {why}", self.shown()));
        };
        let request = self.request(Method::GET, uri)?.body(Full::default());
        let request = request.map_err(|error| error.to_string())?;
        let why = match tokio::time::timeout(READY_TIMEOUT, self.send(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return Ok(()),
            Ok(Ok(response)) => format!("HTTP {}", response.status()),
            Ok(Err(none)) => none.why,
            Err(_) => format!("no answer in {READY_TIMEOUT:?}"),
        };
        Err(format!("{} is not ready: {why}", without_secrets(&uri.to_string())))
    }

    /// Makes a connection, and lets it go.
    async fn connect(&self) -> Result<(), String> {
        let target = self.target.clone();
        match &self.connection {
            Connection::Plain(_, connector) => {
                connector.clone().call(target).await.map(drop).map_err(|error| with_causes(&error))
            }
            Connection::Secure(_, connector) => {
                connector.clone().call(target).await.map(drop).map_err(|error| with_causes(&*error))
            }
        }
    }

    pub(crate) async fn run(&self, job: Job<Json>, context: Context) -> Result<Json, HandlerEnd> {
        // The job's own timeout is the consumer's affair.
        let limit = if context.deadline().is_some() { NewJob::MAX_DURATION } else { self.timeout };
        tokio::select! {
            result = tokio::time::timeout(limit, self.post(job, &context)) => result.unwrap_or_else(|_| {
                let (server, limit) = (self.shown(), humantime::format_duration(limit));
                Err(Failure::retry(format!("no whole answer from {server} within {limit} (--http-timeout)")).into())
            }),
            // Dropping the other future closes the connection.
            () = context.cancelled() => Err(Failure::cancelled().into()),
        }
    }

    async fn post(&self, job: Job<Json>, context: &Context) -> Result<Json, HandlerEnd> {
        let request = self
            .request(Method::POST, &self.target)
            .map_err(Failure::not_ready)?
            .header(CONTENT_TYPE, "application/json")
            .header("x-haulage-job-id", header(job.id.as_str()))
            .header("x-request-id", header(context.request_id()))
            .header("x-haulage-attempt", context.attempt());
        let request = match context.task() {
            Some(task) => request.header("x-haulage-task", header(task)),
            None => request,
        };
        let request = match context.last_checkpoint().and_then(|last| checkpoint_header(&last)) {
            Some(last) => request.header(CHECKPOINT, last),
            None => request,
        };
        let request = request
            .body(Full::from(job.body.as_str().to_owned()))
            .map_err(|error| Failure::fatal(format!("cannot make a request of this job: {error}")))?;
        let mut response = self.send(request).await.map_err(|NoAnswer { why, sent }| {
            if sent {
                Failure::retry(format!("no answer from {}: {why}", self.shown()))
            } else {
                Failure::not_ready(format!("cannot reach {}: {why}", self.shown()))
            }
        })?;
        if let Some(left) = response.headers().get(CHECKPOINT) {
            leave_checkpoint(left, context);
        }
        let status = response.status();
        if status.is_success() {
            let body = read(&mut response, self.limit).await;
            let body = body.map_err(|why| Failure::retry(format!("the answer broke off: {why}")))?;
            if body.len() > self.limit {
                return Err(too_large("the server's answer", self.limit).into());
            }
            let body = if body.trim_ascii().is_empty() { b"null" } else { body.as_slice() };
            return Ok(result(body, "the server's answer", "")?);
        }
        // The status says enough, should its body break off.
        let body = read(&mut response, MAX_ERROR_BODY).await.unwrap_or_default();
        Err(self.refusal(&response, &body))
    }

    /// What an answer other than 2xx means for the job.
    fn refusal(&self, response: &Response<Incoming>, body: &[u8]) -> HandlerEnd {
        let Some(why) = response.headers().get(BROKEN) else { return self.failure(response, body).into() };
        let why = sanitized(String::from_utf8_lossy(why.as_bytes()).trim());
        let why = if why.is_empty() { "without a reason".into() } else { why };
        HandlerEnd::Broken(format!("{} says that it is broken: {why}", self.shown()))
    }

    fn failure(&self, response: &Response<Incoming>, body: &[u8]) -> Failure {
        let status = response.status();
        let named = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let mut message = format!("HTTP {status} from {}", self.shown());
        if status.is_redirection() {
            let place = named(LOCATION).map_or("another place".into(), without_secrets);
            return Failure::fatal(format!("{message}: it redirects to {place}; give that URL to --http"));
        }
        let tail = String::from_utf8_lossy(&body[body.len().saturating_sub(TAIL)..]);
        let tail = sanitized(tail.trim_start_matches(char::REPLACEMENT_CHARACTER).trim());
        if !tail.is_empty() {
            let _ = write!(message, ": {tail}");
        }
        // It turns the job down unseen: it loads, or has its hands full.
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Failure::not_ready(message);
        }
        let retryable = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        match named(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now())) {
            _ if !retryable => Failure::fatal(message),
            Some(delay) => Failure::retry_after(message, delay.min(self.longest_wait)),
            None => Failure::retry(message),
        }
    }

    fn request(&self, method: Method, uri: &Uri) -> Result<Builder, String> {
        let agent = concat!("haulage/", env!("CARGO_PKG_VERSION"));
        let request = Request::builder().method(method).uri(uri);
        let request = request.header(ACCEPT, "application/json").header(USER_AGENT, agent);
        let headers = self.headers.read()?;
        Ok(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoAnswer> {
        match &self.connection {
            Connection::Plain(client, _) => client.request(request).await,
            Connection::Secure(client, _) => client.request(request).await,
        }
        .map_err(|error| NoAnswer { why: with_causes(&error), sent: may_have_been_sent(&error) })
    }
}

/// Whether the server may have seen the request that ended so. Not, for sure,
/// where there was no connection (names, TCP and TLS are the connector's), or
/// where it was gone before hyper took the request up: that is what it calls
/// cancelled.
fn may_have_been_sent(error: &hyper_util::client::legacy::Error) -> bool {
    let cancelled = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    !error.is_connect() && !cancelled.is_some_and(hyper::Error::is_canceled)
}

/// Another path on the same server.
fn beside(target: &Uri, path: &str) -> Result<Uri> {
    let refused = || Exit::usage(format!("--http-ready {path}: this is not a path; write it like /ping"));
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(path.parse::<PathAndQuery>().map_err(|_| refused())?);
    Uri::from_parts(parts).map_err(|_| refused())
}

/// A URL without what may be a secret: name and password, query, fragment.
fn without_secrets(url: &str) -> String {
    let (start, more) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let (scheme, rest) = start.split_once("://").unwrap_or(("", start));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{host}{path}{}", if more.is_empty() { "" } else { "?…" })
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

/// The header in which a server says that what it runs on is broken, and why.
const BROKEN: &str = "x-haulage-worker-broken";

/// The header in which a server gets the last checkpoint, and leaves the next.
const CHECKPOINT: &str = "x-haulage-checkpoint";

/// Servers take some thousand bytes of headers, and refuse what has more.
const MAX_CHECKPOINT_HEADER: usize = 4 << 10;

fn checkpoint_header(last: &Json) -> Option<HeaderValue> {
    let text = last.compact();
    let value = HeaderValue::from_str(&text).ok().filter(|_| text.len() <= MAX_CHECKPOINT_HEADER);
    if value.is_none() {
        tracing::warn!("the last checkpoint is not sent to the server: it is not ASCII, or has over 4 KiB");
    }
    value
}

fn leave_checkpoint(left: &HeaderValue, context: &Context) {
    let kept = left
        .to_str()
        .map_err(|error| error.to_string())
        .and_then(|text| Json::parse(text).map_err(|error| error.to_string()))
        .and_then(|json| context.set_checkpoint(json).map_err(|error| error.to_string()));
    if let Err(why) = kept {
        tracing::warn!("the server's X-Haulage-Checkpoint was not kept: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, shown) in [
            ("http://localhost:8080/invocations", "http://localhost:8080/invocations"),
            ("https://a.b/x?api_key=s3cret", "https://a.b/x?…"),
            ("https://me:s3cret@a.b", "https://a.b"),
            ("/elsewhere?token=s3cret", "/elsewhere?…"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
