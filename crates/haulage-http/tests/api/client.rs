//! A client that knows nothing of Haulage, and a server for it.

use std::{path::Path, sync::Arc, time::Duration};

use haulage::{
    Backend, Clock, Json, QueueName, Timestamp,
    backend::{ClaimRequest, Claimed, Outcome, Settlement},
    sqlite::SqliteBackend,
};
use haulage_http::server::{Builder, Key, KeyFile, Scope, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::store::Store;

/// A server over a database of its own.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) folder: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(|builder, _| builder).await
    }

    pub(crate) async fn with(set_up: impl FnOnce(Builder, &TempDir) -> Builder) -> Self {
        Self::on(Clock::system(), set_up).await
    }

    /// On a clock that stands still.
    pub(crate) async fn standing_still() -> Self {
        Self::standing_still_with(|builder, _| builder).await
    }

    pub(crate) async fn standing_still_with(set_up: impl FnOnce(Builder, &TempDir) -> Builder) -> Self {
        Self::on(Clock::manual(Timestamp::from_micros(1_800_000_000_000_000)), set_up).await
    }

    async fn on(clock: Clock, set_up: impl FnOnce(Builder, &TempDir) -> Builder) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = database(&folder, clock).await;
        Self::start(Arc::clone(&backend), backend, folder, set_up)
    }

    /// Over a store that does as it is told.
    pub(crate) async fn on_store(set_up: impl FnOnce(Builder, &TempDir) -> Builder) -> (Self, Arc<Store>) {
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = database(&folder, Clock::system()).await;
        let store = Store::over(Arc::clone(&backend));
        (Self::start(Arc::clone(&store) as Arc<dyn Backend>, backend, folder, set_up), store)
    }

    fn start(
        served: Arc<dyn Backend>,
        backend: Arc<dyn Backend>,
        folder: TempDir,
        set_up: impl FnOnce(Builder, &TempDir) -> Builder,
    ) -> Self {
        let builder = Server::builder(served).listen("127.0.0.1:0");
        let server = set_up(builder, &folder).start().expect("a server");
        Self { server, backend, folder }
    }

    pub(crate) fn client(&self) -> Client {
        Client { base: self.server.url(), key: None, pool: Pool::builder(TokioExecutor::new()).build_http() }
    }

    /// Claims the one job that waits.
    pub(crate) async fn claim(&self) -> Claimed {
        let request = ClaimRequest::new("worker-1", Duration::from_secs(60)).wait(Duration::from_secs(60));
        self.backend.claim(request, Default::default()).await.expect("claim").pop().expect("a job")
    }

    pub(crate) async fn settle(&self, job: &Claimed, outcome: Outcome) {
        let settled = self.backend.settle(vec![Settlement::new(job.key.clone(), outcome)]).await;
        settled.expect("settle").remove(0).expect("settled");
    }

    /// Runs the one job that waits, with this result.
    pub(crate) async fn succeed(&self, result: &str) {
        let job = self.claim().await;
        self.settle(&job, Outcome::Success(Json::parse(result).expect("JSON"))).await;
    }
}

async fn database(folder: &TempDir, clock: Clock) -> Arc<dyn Backend> {
    let path = folder.path().join("x.db");
    Arc::new(SqliteBackend::options(path).clock(clock).open().await.expect("open"))
}

/// Adds a key to a file, and gives its secret.
pub(crate) fn add_key(path: &Path, name: &str, scopes: &[Scope], queues: Vec<QueueName>) -> String {
    let (key, secret) = Key::create(name, scopes.to_vec(), queues, None).expect("a key");
    KeyFile::change(path, |keys| {
        keys.push(key);
        Ok(())
    })
    .expect("write");
    secret
}

#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    key: Option<String>,
    pool: Pool<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = self.pool.request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send(Method::POST, path, &headers, body.to_owned()).await
    }

    /// A page, as a browser asks for it.
    pub(crate) async fn page(&self, path: &str) -> Answer {
        self.get_with(
            path,
            &[("accept", "text/html,application/xhtml+xml"), ("sec-fetch-site", "same-origin")],
        )
        .await
    }

    /// The text of a page that is there.
    pub(crate) async fn read(&self, path: &str) -> String {
        let answer = self.page(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        answer.text()
    }

    /// Sends a form of one of the pages, and gives where that leads.
    pub(crate) async fn press(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let headers = [
            ("accept", "text/html"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.send(Method::POST, path, &headers, form).await
    }

    /// Submits a job, and gives its id.
    pub(crate) async fn submit(&self, job: &str) -> String {
        let answer = self.post("/v1/jobs", job).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("text")
    }

    /// Where a form has led.
    #[track_caller]
    pub(crate) fn led_to(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{self:?}");
        self.header("location")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// What kind of problem it is, with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("haulage:")), "{problem}");
        problem
    }
}
