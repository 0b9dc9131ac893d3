//! A proxy for the failures that concern a part of a batch, or one call at a
//! moment that a test chooses; it also counts the calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;

use self::{parts::Part, visibility::Receipts};

mod parts;
mod visibility;

/// The name of the service whose calls have no header `X-Amz-Target`.
const S3: &str = "S3";

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused: too many requests.
    Throttle,
    /// It fails with HTTP status 500, and has not been made.
    Error,
    /// It is made, and fails with HTTP status 500.
    ErrorAfter,
    /// The connection breaks, and it has not been made.
    Reset,
    /// It is made, and the connection breaks before the answer.
    LostAnswer,
    /// It is made after so many milliseconds.
    Slow(u64),
    /// A part of the batch fails, and has not been done.
    Part,
    /// A part of the batch is said to have failed, and has been done.
    LostPart,
    /// DynamoDB refuses it, as a transaction writes the same item.
    Conflict,
    /// DynamoDB refuses it, if it is for a record as it was seen: another writer was faster.
    Changed,
}

impl Fault {
    /// One of each kind that any call may meet.
    pub const ALL: [Self; 8] = [
        Self::Throttle,
        Self::Error,
        Self::ErrorAfter,
        Self::Reset,
        Self::LostAnswer,
        Self::Slow(300),
        Self::Part,
        Self::LostPart,
    ];
}

/// A proxy in front of a server, in this process.
#[derive(Debug)]
pub struct Stub {
    url: String,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    rate: f64,
    outage: Option<(String, Fault)>,
    next: Vec<(String, Fault)>,
    calls: BTreeMap<String, u64>,
    keys: BTreeMap<String, BTreeSet<String>>,
    bucket_owners: BTreeSet<(String, Option<String>)>,
    faults: u64,
    ends: BTreeMap<String, u32>,
    tokens: BTreeSet<String>,
    receipts: Receipts,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and tells what goes wrong with it.
    fn called(&self, service: &str, operation: &str) -> Option<Fault> {
        let mut state = self.state();
        *state.calls.entry(operation.to_owned()).or_default() += 1;
        let planned = state.next.iter().position(|(of, _)| of == operation);
        let outage = state.outage.as_ref().filter(|(of, _)| service.starts_with(of)).map(|(_, fault)| *fault);
        let fault = match planned {
            Some(at) => Some(state.next.remove(at).1),
            None if outage.is_some() => outage,
            None if state.rate > 0.0 && state.random.f64() < state.rate => {
                let at = state.random.usize(..Fault::ALL.len());
                Some(Fault::ALL[at])
            }
            None => None,
        };
        state.faults += u64::from(fault.is_some());
        fault
    }
}

impl Stub {
    /// Starts a proxy in front of `upstream`, through which everything goes well.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub fn start(upstream: &str, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a socket");
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            rate: 0.0,
            outage: None,
            next: Vec::new(),
            calls: BTreeMap::new(),
            keys: BTreeMap::new(),
            bucket_owners: BTreeSet::new(),
            faults: 0,
            ends: BTreeMap::new(),
            tokens: BTreeSet::new(),
            receipts: Receipts::default(),
        };
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), state: Mutex::new(state) });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(serve(listener, shared.clone()));
        Self { url: format!("http://{address}"), shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on, this part of all calls goes wrong, in a way chosen at random.
    pub fn fail_at_random(&self, rate: f64) {
        self.shared.state().rate = rate;
    }

    /// From now on, all calls of a service go wrong so, by the beginning of its name in the header
    /// `X-Amz-Target`, or `S3`; `None` ends that.
    pub fn outage(&self, outage: Option<(&str, Fault)>) {
        self.shared.state().outage = outage.map(|(service, fault)| (service.to_owned(), fault));
    }

    /// The next call of this operation goes wrong so; after those that were
    /// planned before.
    pub fn fail_next(&self, operation: &str, fault: Fault) {
        self.shared.state().next.push((operation.to_owned(), fault));
    }

    /// Whether all that was planned has happened.
    pub fn is_through(&self) -> bool {
        self.shared.state().next.is_empty()
    }

    /// Calls so far, by operation, those included that went wrong.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.shared.state().calls.clone()
    }

    /// The access keys with which each service was called, by the service's name in
    /// the header `X-Amz-Target`.
    pub fn keys(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.shared.state().keys.clone()
    }

    /// The calls of S3, each as its method and what is asked for besides an object (`GET`, `GET ?lifecycle`),
    /// with the account that the bucket has to be in, where they say it.
    pub fn bucket_owners(&self) -> BTreeSet<(String, Option<String>)> {
        self.shared.state().bucket_owners.clone()
    }

    /// How often each job's record was brought to an end, by the writes that
    /// the server has taken.
    pub fn ends(&self) -> BTreeMap<String, u32> {
        self.shared.state().ends.clone()
    }

    /// How many messages were to be hidden for longer than SQS allows.
    pub fn hidden_too_long(&self) -> u64 {
        self.shared.state().receipts.refused
    }

    /// How many of them went wrong.
    pub fn faults(&self) -> u64 {
        self.shared.state().faults
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // A test drops it on a runtime of its own, where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Upstream = Client<HttpConnector, Full<Bytes>>;

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let upstream: Upstream = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (shared, upstream) = (shared.clone(), upstream.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(shared.clone(), upstream.clone(), request));
            // An error is a connection that broke, by our own doing or another's.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(
    shared: Arc<Shared>,
    upstream: Upstream,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let target = request.headers().get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (service, operation) = match target.rsplit_once('.') {
        Some((service, operation)) => (service.to_owned(), operation.to_owned()),
        // S3 names what it is asked for in the request itself.
        None => (S3.to_owned(), request.method().to_string()),
    };
    if let Some(key) = access_key(&request) {
        let service = service.clone();
        shared.state().keys.entry(service).or_default().insert(key);
    }
    if service == S3 {
        shared.state().bucket_owners.insert(bucket_owner(&request));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let fault = shared.called(&service, &operation);
    // In a task of its own, which goes on where the client has gone away: what
    // the server has done is to be counted.
    let forward = |body: Bytes| {
        let call = forward(shared.clone(), upstream.clone(), head.clone(), body);
        async { tokio::spawn(call).await.map_err(io::Error::other)? }
    };
    match fault {
        None if operation == "ChangeMessageVisibilityBatch" => {
            let mut json: Value = serde_json::from_slice(&body).unwrap_or_default();
            let refused = shared.state().receipts.refuse(&mut json);
            if refused.is_empty() {
                return forward(body).await;
            }
            let nothing_left = json["Entries"].as_array().is_none_or(Vec::is_empty);
            let answer = if nothing_left {
                Value::Null
            } else {
                let answer = forward(Bytes::from(json.to_string())).await?;
                let bytes = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
                serde_json::from_slice(&bytes).unwrap_or_default()
            };
            Ok(json_response(StatusCode::OK, &visibility::with_failed(answer, refused)))
        }
        None => forward(body).await,
        Some(Fault::Slow(millis)) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            forward(body).await
        }
        Some(Fault::Throttle) if service == S3 => Ok(slow_down()),
        Some(Fault::Throttle) => Ok(error(&operation, StatusCode::BAD_REQUEST, "ThrottlingException")),
        Some(Fault::Error) => Ok(error(&operation, StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")),
        Some(Fault::ErrorAfter) => {
            forward(body).await?;
            Ok(error(&operation, StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"))
        }
        Some(Fault::Conflict) => Ok(conflict(&operation)),
        Some(Fault::Changed) => {
            let mut json: Value = serde_json::from_slice(&body).unwrap_or_default();
            // The server answers with the record as it is.
            if let Some(seen) = json["ExpressionAttributeValues"].get_mut(":seen_op") {
                *seen = serde_json::json!({ "S": "another" });
            }
            forward(Bytes::from(json.to_string())).await
        }
        Some(Fault::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::LostAnswer) => {
            forward(body).await?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(fault @ (Fault::Part | Fault::LostPart)) => {
            let json: Value = serde_json::from_slice(&body).unwrap_or_default();
            let pick = |count: usize| {
                let mut state = shared.state();
                let sure = state.random.usize(..count.max(1));
                (0..count).map(|n| n == sure || state.random.bool()).collect::<Vec<_>>()
            };
            let Some(part) = Part::of(&operation, &json, pick) else { return forward(body).await };
            let sent = if fault == Fault::Part { part.rest(json) } else { Some(json) };
            let answer = match sent {
                Some(sent) => {
                    let answer = forward(Bytes::from(sent.to_string())).await?;
                    if !answer.status().is_success() {
                        return Ok(answer);
                    }
                    let bytes = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
                    serde_json::from_slice(&bytes).unwrap_or_default()
                }
                None => Value::default(),
            };
            Ok(json_response(StatusCode::OK, &part.answer(answer, fault == Fault::LostPart)))
        }
    }
}

async fn forward(
    shared: Arc<Shared>,
    upstream: Upstream,
    head: hyper::http::request::Parts,
    body: Bytes,
) -> io::Result<Response<Full<Bytes>>> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(&head.method).uri(format!("{}{path}", shared.upstream));
    for (name, value) in &head.headers {
        if name != "content-length" && name != "host" {
            request = request.header(name, value);
        }
    }
    let sent = body.clone();
    let is_receive =
        head.headers.get("x-amz-target").is_some_and(|target| target == "AmazonSQS.ReceiveMessage");
    let request = request.body(Full::new(body)).map_err(io::Error::other)?;
    let end = ended(&sent);
    let (head, body) = upstream.request(request).await.map_err(io::Error::other)?.into_parts();
    if let Some((job, token)) = end.filter(|_| head.status.is_success()) {
        let mut state = shared.state();
        // A transaction that comes again under its token is not made again.
        if token.is_none_or(|token| state.tokens.insert(token)) {
            *state.ends.entry(job).or_default() += 1;
        }
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if is_receive {
        shared.state().receipts.note(&serde_json::from_slice(&body).unwrap_or_default());
    }
    let mut response = Response::builder().status(head.status);
    for (name, value) in &head.headers {
        // The checksum of a body that may be another by now.
        if !["content-length", "transfer-encoding", "connection", "x-amz-crc32"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    response.body(Full::new(body)).map_err(io::Error::other)
}

/// The access key by which a request is signed.
fn access_key<B>(request: &Request<B>) -> Option<String> {
    let signature = request.headers().get("authorization")?.to_str().ok()?;
    Some(signature.split_once("Credential=")?.1.split('/').next()?.to_owned())
}

/// What a call of S3 asks for, and the account that the bucket has to be in.
fn bucket_owner<B>(request: &Request<B>) -> (String, Option<String>) {
    let asked = request.uri().query().unwrap_or_default().split('&');
    // The SDK adds the operation's name to the calls for objects.
    let asked: String =
        asked.filter(|of| !of.is_empty() && !of.starts_with("x-id=")).map(|of| format!(" ?{of}")).collect();
    let owner = request.headers().get("x-amz-expected-bucket-owner").and_then(|owner| owner.to_str().ok());
    (format!("{}{asked}", request.method()), owner.map(str::to_owned))
}

/// The job whose record this call brings to an end, and the token of the call where it is a transaction.
fn ended(body: &[u8]) -> Option<(String, Option<String>)> {
    let end = b"#finished_at = :finished_at";
    if !body.windows(end.len()).any(|part| part == end) {
        return None;
    }
    let call: Value = serde_json::from_slice(body).ok()?;
    // Together with what a webhook is told of it, the record comes first.
    let update = call["TransactItems"].get(0).map_or(&call, |item| &item["Update"]);
    let job = update["Key"]["message_id"]["S"].as_str()?.to_owned();
    Some((job, call["ClientRequestToken"].as_str().map(str::to_owned)))
}

/// As S3 throttles.
fn slow_down() -> Response<Full<Bytes>> {
    let body = "<Error><Code>SlowDown</Code><Message>planned</Message></Error>";
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn error(operation: &str, status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let service =
        if operation.contains("Message") { "com.amazonaws.sqs" } else { "com.amazonaws.dynamodb.v20120810" };
    json_response(status, &serde_json::json!({ "__type": format!("{service}#{code}"), "message": "planned" }))
}

fn conflict(operation: &str) -> Response<Full<Bytes>> {
    if operation != "TransactWriteItems" {
        return error(operation, StatusCode::BAD_REQUEST, "TransactionConflictException");
    }
    let answer = serde_json::json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "planned",
        "CancellationReasons": [{ "Code": "TransactionConflict" }, { "Code": "None" }],
    });
    json_response(StatusCode::BAD_REQUEST, &answer)
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    response.body(Full::new(Bytes::from(body.to_string()))).expect("a response")
}
