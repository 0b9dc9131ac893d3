//! Pages about a consumer, over HTTP.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::AbortHandle,
};

use super::{Labels, Meter, Snapshot};
use crate::{Error, Result};

/// How long a request may take, from its connection to the end of the answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How many connections there are at most. One more ends the oldest.
const MOST_CONNECTIONS: usize = 64;
/// How many bytes the head of a request may have.
const MOST_HEAD_BYTES: usize = 8 << 10;
/// How long to wait where the system gives no connection, for want of file
/// descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const PATHS: [&str; 4] = ["/metrics", "/health", "/ready", "/busy"];

/// An address at which there are pages about a consumer that is yet to come.
///
/// A worker may take minutes to begin: to load a model, to wait for
/// credentials. The pages are there meanwhile, and say that it is
/// [starting](super::WorkerState::Starting), so that nobody takes it for dead.
/// Dropped, it ends the answers, and the address is free.
#[derive(Debug)]
#[must_use = "dropped, it ends the answers"]
pub struct Listener {
    pages: Arc<Pages>,
    address: SocketAddr,
    serving: Serving,
}

impl Listener {
    /// Takes the address: host and port, as in `127.0.0.1:9464`. Port 0 is one
    /// that is free; see [`Listener::address`], and the log. `labels` are
    /// those of `/metrics`.
    ///
    /// Answers from then on, from a thread of its own, so that neither the
    /// consumer nor its handlers are in the way.
    ///
    /// | path | answer to GET and HEAD |
    /// | --- | --- |
    /// | `/metrics` | 200, [`Snapshot::prometheus`] |
    /// | `/health` | 200 while the consumer is [alive](super::WorkerState::is_alive), else 500 |
    /// | `/ready` | 200 while it is [ready](super::WorkerState::is_ready), else 500 |
    /// | `/busy` | 503 while it holds jobs or a handler runs, else 200 |
    ///
    /// The last three say the same in JSON, as in `{"status":"ok"}`; `/health`
    /// and `/ready` with a `reason` where it is not ready, `/health` with the number of
    /// calls that are [`stuck`](super::Snapshot::stuck), if there are any. Another
    /// path is a 404 that lists these, another method a 405.
    ///
    /// A request may take 5 s and have a head of 8 KiB; there are 64
    /// connections at most, and one more ends the oldest. Each takes one request.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where this is no address, or it cannot be had;
    /// [`Error::Unavailable`] where the system has no thread left.
    pub fn bind(address: &str, labels: Labels) -> Result<Self> {
        let refused = |error: io::Error| {
            Error::Config(format!(
                "cannot listen on {address}: {error}; write it like 127.0.0.1:9464, with a port that is free"
            ))
        };
        let listener = StdListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let pages = Arc::new(Pages { meter: OnceLock::new(), labels });
        let serving = Serving::start(listener, pages.clone())
            .map_err(|error| Error::unavailable("cannot start the HTTP pages", error))?;
        tracing::info!("http://{address} has /metrics, /health, /ready and /busy");
        Ok(Self { pages, address, serving })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, the pages are about the consumer of this meter, until what
    /// this returns is dropped.
    pub fn serve(self, meter: Meter) -> Serving {
        // Nobody has set another: it takes `self`.
        let _ = self.pages.meter.set(meter);
        self.serving
    }
}

/// Dropped, it ends the answers of a [`Listener`], whose address is free then.
#[derive(Debug)]
#[must_use = "dropped, it ends the answers"]
pub struct Serving {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    fn start(listener: StdListener, pages: Arc<Pages>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let serve = move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, pages) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("haulage-http".into()).spawn(serve)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics no more than it waits for anybody.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Pages {
    /// None yet, where the consumer is yet to be made.
    meter: OnceLock<Meter>,
    labels: Labels,
}

async fn accept(listener: TcpListener, pages: Arc<Pages>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() == MOST_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = tokio::spawn(tokio::time::timeout(REQUEST_LIMIT, answer(stream, pages.clone())));
        open.push_back(connection.abort_handle());
    }
}

async fn answer(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(|request: Request<Incoming>| {
        let page = pages.page(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(page) }
    });
    // What goes wrong is the client's business.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Pages {
    fn page(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !PATHS.contains(&path) {
            return page(StatusCode::NOT_FOUND, &json!({ "status": "not found", "paths": PATHS }));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal =
                page(StatusCode::METHOD_NOT_ALLOWED, &json!({ "status": "method not allowed" }));
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let snapshot = self.meter.get().map_or_else(|| Snapshot::starting(0, []), Meter::snapshot);
        let state = snapshot.state;
        let (code, status) = match path {
            "/metrics" => {
                let text = snapshot.prometheus(&self.labels);
                return response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text);
            }
            "/busy" if snapshot.held > 0 || snapshot.busy > 0 => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            "/busy" => (StatusCode::OK, "idle"),
            // Alive is well enough: to restart it would not bring the queue back.
            "/health" if state.is_alive() => (StatusCode::OK, "ok"),
            _ if state.is_ready() => (StatusCode::OK, state.as_str()),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, state.as_str()),
        };
        let mut body = json!({ "status": status });
        if let Some(reason) = snapshot.reason.as_deref().filter(|_| path != "/busy") {
            body["reason"] = reason.into();
        }
        if snapshot.stuck > 0 && path == "/health" {
            body["stuck"] = snapshot.stuck.into();
        }
        page(code, &body)
    }
}

fn page(code: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    response(code, "application/json", format!("{body}\n"))
}

fn response(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
