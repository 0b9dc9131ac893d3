//! The server: jobs over HTTP, for programs in any language and for workers anywhere.

#[cfg(test)]
mod access;
mod backend;
mod builder;
mod call_table;
mod caller;
mod calls;
mod compressed;
mod connection;
mod content;
mod deliveries;
mod events;
mod forwarded;
mod jobs;
mod keys;
mod memory;
mod openapi;
mod pages;
mod pressure;
mod queues;
mod reply;
mod request;
mod route;
mod routes;
mod settle;
mod submission;
mod submit;
mod tag;
mod tls;
mod unready;
mod upload;
mod waiting;
mod watch;
mod webhooks;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use haulage::{Backend, Error, JobId, Producer, backend::Capabilities};
use hyper::{
    HeaderMap, Method, StatusCode,
    body::{Bytes, Incoming},
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, AUTHORIZATION, HeaderName, HeaderValue,
        ORIGIN, VARY,
    },
};
use percent_encoding::percent_decode_str;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    builder::Builder,
    forwarded::Network,
    keys::{Key, KeyFile, Scope},
    webhooks::{WebhookSecret, Webhooks},
};
use self::{
    caller::Caller,
    calls::Calls,
    content::Content,
    keys::Identity,
    memory::Memory,
    pressure::Pressure,
    reply::Reply,
    request::{Query, Request},
    route::Route,
    watch::Watches,
    webhooks::Reach,
};
use crate::{Problem, gzip, protocol};

/// The longest wait of a request. Many proxies cut a connection that has been silent for a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A label of a job that was submitted with a key: the key's name.
pub const KEY_LABEL: &str = "haulage.key";

/// A server, which answers from threads of its own until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    is_secure: bool,
    stopping: CancellationToken,
    connections: TaskTracker,
    requests: TaskTracker,
    /// What tells webhooks.
    telling: TaskTracker,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Sets up a server over this backend.
    pub fn builder(backend: Arc<dyn Backend>) -> Builder {
        Builder::new(backend)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// How many requests are being answered now; those that wait are among them.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Ends it: no more connections are taken, waits end with 503 and `Retry-After`, and what
    /// is being answered, or told to webhooks, has so long to come to its end. True if all of it has.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.stopping.cancel();
        self.connections.close();
        self.telling.close();
        let ended = async { tokio::join!(self.connections.wait(), self.telling.wait()) };
        let all = tokio::time::timeout(grace, ended).await.is_ok();
        self.end();
        all
    }

    fn end(&mut self) {
        self.stopping.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The answer to whoever waits while the server ends.
fn stopping() -> Problem {
    Problem::new(503, protocol::STOPPING, "The server is stopping", "the server is being stopped")
        .remedy("try again in a moment; nothing was lost")
}

/// What all requests share.
#[derive(Debug)]
struct Api {
    backend: Arc<dyn Backend>,
    producer: Producer,
    /// Without keys, everybody may do everything, and everybody is on this machine.
    keys: Option<KeyFile>,
    calls: Calls,
    watches: Watches,
    /// See [`protocol::INSTANCE`].
    instance: String,
    /// The largest body or result, in bytes.
    max_body: usize,
    memory: Arc<Memory>,
    /// How long a client may take for the next part of a body.
    patience: Duration,
    pressure: Pressure,
    history: pages::History,
    failing_slots: pages::FailingSlots,
    /// Pages of these origins may ask.
    origins: BTreeSet<String>,
    /// These are believed what they say of their clients.
    proxies: Vec<Network>,
    /// Where webhooks may be told, if this server tells any.
    reach: Option<Arc<Reach>>,
    stopping: CancellationToken,
    /// Those that are being answered.
    requests: TaskTracker,
    map: Map,
}

/// The routes, and which path leads to which.
struct Map {
    routes: Vec<Route>,
    paths: matchit::Router<Vec<usize>>,
    document: Bytes,
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

impl Map {
    fn new(needs_key: bool) -> haulage::Result<Self> {
        let routes = routes::routes();
        let mut by_path: Vec<(&str, Vec<usize>)> = Vec::new();
        for (n, route) in routes.iter().enumerate() {
            match by_path.iter_mut().find(|(path, _)| *path == route.path) {
                Some((_, of_path)) => of_path.push(n),
                None => by_path.push((route.path, vec![n])),
            }
        }
        let mut paths = matchit::Router::new();
        for (path, of_path) in by_path {
            paths
                .insert(path, of_path)
                .map_err(|error| Error::Config(format!("the route {path}: {error}")))?;
        }
        let document = openapi::of(&routes, needs_key).into();
        Ok(Self { routes, paths, document })
    }
}

impl Api {
    /// The answer to a request, whatever it is, that comes from this address.
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>, peer: IpAddr) -> Reply {
        let _open = self.requests.token();
        let reader = pages::Reader::of(&request);
        let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok()).map(str::to_owned);
        let accepts_gzip = gzip::is_accepted(request.headers());
        let allowed = origin.as_ref().filter(|origin| self.origins.contains(*origin)).cloned();
        let mut reply = if request.method() == Method::OPTIONS && allowed.is_some() {
            // What a browser asks before it asks; it sends no key.
            reply::bytes(StatusCode::NO_CONTENT, reply::JSON, Bytes::new())
        } else {
            match Arc::clone(&self).handle(request, peer, origin.as_deref(), allowed.is_some()).await {
                Ok(reply) => reply,
                Err(problem) => match reader {
                    Some(reader) => reader.problem(&problem, self.keys.is_some()),
                    None => reply::problem(&problem),
                },
            }
        };
        reply::header(&mut reply, HeaderName::from_static(protocol::INSTANCE), &self.instance);
        if let Some(origin) = allowed {
            reply.headers_mut().append(VARY, HeaderValue::from_static("origin"));
            for (name, value) in [
                (ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_str()),
                (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, DELETE"),
                (
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    "Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-None-Match, If-Range, \
                     Last-Event-ID, Prefer, Range",
                ),
                (
                    ACCESS_CONTROL_EXPOSE_HEADERS,
                    "Content-Range, ETag, Location, Preference-Applied, Retry-After",
                ),
                (ACCESS_CONTROL_MAX_AGE, "600"),
            ] {
                reply::header(&mut reply, name, value);
            }
        }
        compressed::compressed(reply, accepts_gzip)
    }

    async fn handle(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        peer: IpAddr,
        origin: Option<&str>,
        is_allowed: bool,
    ) -> Result<Reply, Problem> {
        let (head, body) = request.into_parts();
        // Nothing is read, looked up or told before it is known who asks.
        let source = forwarded::source(peer, &head.headers, &self.proxies);
        let is_page = pages::is_page(head.uri.path());
        let identity = match self.identify(&head.headers, is_page) {
            Err(_) if pages::is_public(&head.method, head.uri.path()) => Identity::nobody(),
            Err(refusal) => {
                tracing::debug!(client = %source.address, path = head.uri.path(), "no key that is known");
                return Err(refusal);
            }
            Ok(identity) => identity,
        };
        let who = Arc::new(Caller::new(identity, source.address));
        if self.keys.is_none() {
            check_page(&source, origin.filter(|_| !is_allowed))?;
        }
        if is_page && ![Method::GET, Method::HEAD].contains(&head.method) {
            pages::check_same_origin(&head.headers)?;
        }
        backend::received(&self, &who, &head.headers);
        let unknown = || {
            Problem::new(
                404,
                "no_such_path",
                "There is nothing here",
                format!("there is no {}", head.uri.path()),
            )
            .remedy("GET /openapi.json lists what there is")
        };
        let found = self.map.paths.at(head.uri.path()).map_err(|_| unknown())?;
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let of_path = || found.value.iter().filter_map(|n| self.map.routes.get(*n));
        let Some(route) = of_path().find(|route| route.method == method) else {
            let allowed: Vec<_> = of_path().map(|route| route.method.as_str()).collect();
            let allowed = allowed.join(", ");
            let detail = format!("{} takes {allowed}", head.uri.path());
            let mut refusal =
                reply::problem(&Problem::new(405, "method", "This cannot be done here", detail));
            reply::header(&mut refusal, ALLOW, &allowed);
            return Ok(refusal);
        };
        who.need(route.scopes)?;
        let query = Query::parse(head.uri.query().unwrap_or_default());
        query.check(route.known())?;
        let part = |name: &'static str| {
            let raw = found.params.get(name).unwrap_or_default();
            percent_decode_str(raw).decode_utf8().map(|text| (name, text.into_owned())).map_err(|_| unknown())
        };
        let path = route.names().map(part).collect::<Result<_, _>>()?;
        let memory = Arc::clone(&self.memory);
        let body = Content::new(body, &head.headers, self.patience)?;
        let request = Request { headers: head.headers, path, query, body, who, memory, room: None };
        let answer = (route.handler)(Arc::clone(&self), request);
        answer.await
    }

    /// Whose key it is. A browser's counts for pages alone, so that no other page makes calls with it.
    fn identify(&self, headers: &HeaderMap, is_page: bool) -> Result<Identity, Problem> {
        let Some(keys) = &self.keys else { return Ok(Identity::anybody()) };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        // Of two keys, nobody knows which is meant.
        let given = given.next().filter(|_| given.next().is_none());
        let secret = given.and_then(|given| {
            let given = given.to_str().ok()?;
            let (scheme, secret) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
        });
        let secret = secret.or_else(|| pages::secret(headers).filter(|_| is_page));
        let who = secret.and_then(|secret| keys.identify(secret, haulage::Clock::system().now()));
        who.ok_or_else(keys::unauthorized)
    }

    /// Whether the key of whoever asked still counts.
    fn still_knows(&self, who: &Caller) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.still_has(who, haulage::Clock::system().now()))
    }

    /// What the store can, within the limits of this server.
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.backend.capabilities();
        capabilities.max_payload = capabilities.max_payload.min(self.max_body);
        capabilities.atomic_submit &= !self.pressure.is_limited();
        capabilities
    }

    /// Says in the log who did what to which jobs.
    fn audit<'a>(&self, who: &Caller, action: &str, jobs: impl Iterator<Item = &'a JobId>) {
        /// More are counted.
        const NAMED: usize = 10;
        let Some(key) = &who.name else { return };
        let mut jobs = jobs.peekable();
        if jobs.peek().is_none() {
            return;
        }
        let named: Vec<_> = jobs.by_ref().take(NAMED).map(JobId::as_str).collect();
        let count = named.len() + jobs.count();
        let (key_id, client) = (&who.id, who.address);
        tracing::info!(target: "haulage::audit", key, key_id, %client, action, count, jobs = ?named, "asked by key");
    }

    /// The same of what is not about single jobs.
    fn audit_what(&self, who: &Caller, action: &str, what: &str) {
        if let Some(key) = &who.name {
            let (key_id, client) = (&who.id, who.address);
            tracing::info!(target: "haulage::audit", key, key_id, %client, action, what, "asked by key");
        }
    }
}

/// Does something, and says so in the log, also where the client that asked for it does not wait for the
/// end: what it hears of is dropped with its connection.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|_| {
        Err(Problem::new(500, "failed", "The server failed", "the request ended without an answer"))
    })
}

/// Without keys: whoever is on this machine may ask, but not somebody elsewhere for whom a proxy asks, nor
/// a page from elsewhere that a browser of this machine shows, be it under a name that leads here.
fn check_page(source: &forwarded::Source, origin: Option<&str>) -> Result<(), Problem> {
    const MAKE_A_KEY: &str = "make a key with `haulage key create`, and restart the server";
    let refused = |detail: String| {
        Problem::new(403, "forbidden", "A server without keys is for this machine only", detail)
    };
    if source.is_unnamed_proxy {
        let detail = "a proxy has sent this, and nothing says that it is to be believed where it comes from";
        let remedy = format!("{MAKE_A_KEY}; or name the address of the proxy with --trust-forwarded");
        return Err(refused(detail.to_owned()).remedy(remedy));
    }
    if !source.address.is_loopback() {
        return Err(refused(format!("{} is another machine", source.address)).remedy(MAKE_A_KEY));
    }
    if let Some(host) = source.hosts.iter().find(|host| !is_loopback(host)) {
        let detail = format!("the host {host:?} is not a name of this machine itself");
        return Err(refused(detail).remedy(MAKE_A_KEY));
    }
    let Some(origin) = origin else { return Ok(()) };
    match origin.split_once("://") {
        Some((_, page)) if source.hosts.iter().any(|host| host == page) => Ok(()),
        Some(_) => Err(refused(format!("pages of {origin} may not use this server"))
            .remedy(format!("start the server with --cors-origin {origin}"))),
        // What a browser says of files and sandboxes, so of anybody's pages.
        None => Err(refused("pages without an origin may not use this server".to_owned())
            .remedy("serve the page over HTTP, and name its origin with --cors-origin")),
    }
}

/// Whether a host, with or without its port, is this machine to itself.
fn is_loopback(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    protocol::is_loopback_name(without_port)
}

/// A time in a query: a number of seconds, or as in `5m`. One that is longer than anything is the longest.
fn seconds(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return match Duration::try_from_secs_f64(seconds) {
            Ok(duration) => Ok(duration),
            Err(_) if seconds > 0.0 && seconds.is_finite() => Ok(Duration::MAX),
            Err(_) => Err(format!("{text} is not a number of seconds")),
        };
    }
    haulage::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 90s, 5m or 1h30m, or as a number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_a_query_is_as_long_as_it_likes() {
        let [second, long] = [1, 1 << 40].map(Duration::from_secs);
        for (text, expected) in [
            ("1", second),
            ("1.0", second),
            ("1s", second),
            ("1099511627776", long),
            ("1e308", Duration::MAX),
            ("18446744073709551616", Duration::MAX),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in
            ["", " ", "-1", "nan", "inf", "1e999", "soon", "1 x", "18446744073709551615s 1000000000ns"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_names_of_this_machine() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "10.0.0.1", "127.0.0.1.evil.example", "0.0.0.0"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
