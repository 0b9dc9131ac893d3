//! A receiver of webhooks that answers as a test says.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

pub(crate) struct Receiver {
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
    /// Answers go out one for each permit, where it is told to wait.
    pub(crate) answers: Arc<Semaphore>,
    task: AbortHandle,
}

impl Receiver {
    /// Gives these answers, and then the last one for ever: a status, and a header.
    pub(crate) async fn answering(answers: &'static [(u16, &'static str, &'static str)]) -> Self {
        Self::start(answers, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))).await
    }

    /// Takes everything in.
    pub(crate) async fn new() -> Self {
        Self::answering(&[(204, "x-nothing", "1")]).await
    }

    /// Answers as often as the test lets it.
    pub(crate) async fn slow() -> Self {
        Self::start(&[(204, "x-nothing", "1")], Arc::new(Semaphore::new(0))).await
    }

    async fn start(given: &'static [(u16, &'static str, &'static str)], answers: Arc<Semaphore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, received) = mpsc::unbounded_channel();
        let (may, count) = (Arc::clone(&answers), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (sender, may, count) = (sender.clone(), Arc::clone(&may), Arc::clone(&count));
                let answer = move |request: Request<Incoming>| {
                    let (sender, may, count) = (sender.clone(), Arc::clone(&may), Arc::clone(&count));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        let body = String::from_utf8(body.to_vec()).expect("text");
                        let _ =
                            sender.send(Received { path: head.uri.to_string(), headers: head.headers, body });
                        may.acquire().await.expect("the test goes on").forget();
                        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(given.len() - 1);
                        let (status, name, value) = given[n];
                        let response = Response::builder().status(status).header(name, value);
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::new())).expect("a response"))
                    }
                };
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer)),
                );
            }
        });
        Self { address, received, answers, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks?token=secret", self.address)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(Duration::from_secs(60), self.received.recv()).await;
        next.expect("a delivery").expect("the receiver runs")
    }

    /// What has come beside what was asked for.
    pub(crate) fn rest(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.received.try_recv().ok()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}
