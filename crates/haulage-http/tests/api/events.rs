//! What becomes of a job, as it comes.

use std::{sync::atomic::Ordering, time::Duration};

use haulage::{
    Progress,
    backend::{Heartbeat, Outcome, Update},
};
use haulage_http::server::{KeyFile, Scope};
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};

use crate::client::{Site, add_key};

/// The events of a job, as they come.
struct Events {
    body: hyper::body::Incoming,
    text: String,
}

/// One of them: its id, its name and its data.
type Event = (String, String, serde_json::Value);

impl Events {
    async fn of(site: &Site, path: &str, headers: &[(&str, &str)]) -> Self {
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build_http::<http_body_util::Empty<hyper::body::Bytes>>();
        let mut request = hyper::Request::get(format!("{}{path}", site.server.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response =
            client.request(request.body(Default::default()).expect("a request")).await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next one; none where the stream ends.
    async fn next(&mut self) -> Option<Event> {
        // The signs of life in between are no events.
        tokio::time::timeout(Duration::from_secs(60), self.read()).await.expect("an event")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                let data = serde_json::from_str(field("data: "));
                let (id, name) = (field("id: ").to_owned(), field("event: ").to_owned());
                self.text = rest.to_owned();
                if let Ok(data) = data {
                    return Some((id, name, data));
                }
            }
            let data = self.body.frame().await?.expect("a part").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
    }

    /// The next one, which is of this name and status; gives its id.
    async fn expect(&mut self, name: &str, status: &str) -> String {
        let (id, event, data) = self.next().await.expect("an event");
        assert_eq!((event.as_str(), &data["status"]), (name, &status.into()), "{data}");
        id
    }
}

#[tokio::test]
async fn what_becomes_of_a_job_comes_as_events() {
    let site = Site::new().await;
    let path = format!("/v1/jobs/{}/events", site.client().submit(r#"{"body": 1}"#).await);
    let waits = Events::of(&site, &path, &[]).await.expect("status", "SUBMITTED").await;
    // Who comes back is not told again what it has heard.
    let mut events = Events::of(&site, &path, &[("last-event-id", &waits)]).await;
    let job = site.claim().await;
    let runs = events.expect("status", "IN_PROGRESS").await;
    let half = Update::default().progress(Progress { fraction: 0.5, message: Some("half".into()) });
    let beat = Heartbeat::new(job.key.clone(), Duration::from_secs(60)).update(half);
    site.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    events.expect("progress", "IN_PROGRESS").await;
    let mut late = Events::of(&site, &path, &[("last-event-id", &runs)]).await;
    site.settle(&job, Outcome::Success(haulage::Json::parse("1").expect("JSON"))).await;
    let end = events.expect("status", "SUCCESS").await;
    assert!(events.next().await.is_none(), "the stream ends with the job");
    // Of what happened in between, there is one event at least; the last is the end.
    let mut last = None;
    while let Some((id, _, data)) = late.next().await {
        last = Some((id, data["status"].clone()));
    }
    assert_eq!(last, Some((end.clone(), "SUCCESS".into())));
    // Who has seen the end is told not to come back.
    let again = site.client().get_with(&path, &[("last-event-id", &end)]).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
    site.client().get("/v1/jobs/no-such-job/events").await.problem(404);
}

#[tokio::test]
async fn who_listens_to_a_job_hears_that_it_was_deleted() {
    let site = Site::new().await;
    let job = format!("/v1/jobs/{}", site.client().submit(r#"{"body": 1}"#).await);
    let mut events = Events::of(&site, &format!("{job}/events"), &[]).await;
    events.expect("status", "SUBMITTED").await;
    assert_eq!(site.client().send(Method::DELETE, &job, &[], "").await.status, StatusCode::NO_CONTENT);
    let (_, event, data) = events.next().await.expect("an event");
    assert_eq!((event.as_str(), &data["problem"]["status"]), ("gone", &404.into()));
    assert!(events.next().await.is_none(), "the stream ends with the job");
}

#[tokio::test]
async fn the_end_of_a_job_is_told_though_the_store_was_out_of_reach() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let path = format!("/v1/jobs/{}/events", site.client().submit(r#"{"body": 1}"#).await);
    let mut events = Events::of(&site, &path, &[]).await;
    events.expect("status", "SUBMITTED").await;
    let job = site.claim().await;
    events.expect("status", "IN_PROGRESS").await;
    // Nothing changes any more after what is missed.
    store.failing.store(1, Ordering::Relaxed);
    site.settle(&job, Outcome::Success(haulage::Json::parse("1").expect("JSON"))).await;
    events.expect("status", "SUCCESS").await;
    assert_eq!(store.failing.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn who_has_no_key_any_more_hears_nothing_more() {
    let (mut secret, mut keys) = (String::new(), std::path::PathBuf::new());
    let site = Site::with(|builder, folder| {
        keys = folder.path().join("keys");
        secret = add_key(&keys, "web", &[Scope::Submit, Scope::Read], Vec::new());
        builder.keys(KeyFile::open(&keys).expect("open"))
    })
    .await;
    let path = format!("/v1/jobs/{}/events", site.client().with_key(&secret).submit(r#"{"body": 1}"#).await);
    let mut events = Events::of(&site, &path, &[("authorization", &format!("Bearer {secret}"))]).await;
    events.expect("status", "SUBMITTED").await;
    KeyFile::change(&keys, |keys| {
        keys.clear();
        Ok(())
    })
    .expect("write");
    site.claim().await;
    assert!(events.next().await.is_none(), "the stream ends with the key");
}
