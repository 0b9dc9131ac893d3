//! A server over a database of its own, and the backend that speaks to it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use haulage::{
    Backend, Clock, Json, NewJob, Timestamp,
    backend::{ClaimKey, ClaimRequest, Outcome, Settlement},
    conformance::Subject,
    sqlite::SqliteBackend,
};
use haulage_http::{
    HttpBackend,
    server::{Server, WebhookSecret, Webhooks},
};
use haulage_servers::{Break, Flaky};
use tempfile::TempDir;

/// How many places are kept: a test uses the last one.
const KEPT: usize = 4;

/// Backends, each with a server and a database of its own, on a clock that only the suite moves.
pub(crate) struct Wire {
    folder: TempDir,
    next: AtomicUsize,
    /// The part of what goes over the wire that goes wrong.
    faults: f64,
    places: Mutex<VecDeque<(Server, Flaky)>>,
    /// What has gone wrong in places that are kept no more.
    earlier_faults: AtomicU64,
}

impl Wire {
    pub(crate) fn new(faults: f64) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        Self {
            folder,
            next: AtomicUsize::new(0),
            faults,
            places: Mutex::default(),
            earlier_faults: AtomicU64::new(0),
        }
    }

    /// How much has gone wrong so far.
    pub(crate) fn faults(&self) -> u64 {
        let kept: u64 = self.places.lock().expect("places").iter().map(|(_, flaky)| flaky.faults()).sum();
        kept + self.earlier_faults.load(Ordering::Relaxed)
    }
}

/// A server over this backend, on a free port. It takes jobs with webhooks, and leaves it to the test to tell.
pub(crate) fn serve(backend: Arc<dyn Backend>, folder: &TempDir) -> Server {
    let secrets = folder.path().join("webhook-secrets");
    std::fs::write(&secrets, WebhookSecret::create().expect("a secret")).expect("write");
    let webhooks = Webhooks::new(secrets).leave_to_others();
    Server::builder(backend).listen("127.0.0.1:0").webhooks(webhooks).start().expect("a server")
}

#[async_trait::async_trait]
impl Subject for Wire {
    async fn fresh(&self) -> Arc<dyn Backend> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.db"));
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let store = SqliteBackend::options(path).clock(clock.clone()).open().await.expect("open");
        let server = serve(Arc::new(store), &self.folder);
        let flaky = Flaky::start(server.address(), number as u64);
        let client = HttpBackend::builder(flaky.url()).clock(clock).patience(Duration::from_secs(60));
        // With faults, so that both ways are tried.
        let client = client.compress(self.faults > 0.0);
        let client = client.open().await.expect("the server answers");
        flaky.fail_at_random(self.faults);
        let mut places = self.places.lock().expect("places");
        places.push_back((server, flaky));
        if places.len() > KEPT
            && let Some((_, flaky)) = places.pop_front()
        {
            self.earlier_faults.fetch_add(flaky.faults(), Ordering::Relaxed);
        }
        Arc::new(client)
    }

    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn pass(&self, backend: &dyn Backend, by: Duration) {
        backend.clock().advance(by);
    }
}

/// One server, on the real clock, with breaks of the test's choice on the way to it.
pub(crate) struct Place {
    pub(crate) store: Arc<dyn Backend>,
    pub(crate) server: Option<Server>,
    pub(crate) flaky: Flaky,
    pub(crate) client: HttpBackend,
    folder: TempDir,
}

impl Place {
    pub(crate) async fn new(patience: Duration) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let store: Arc<dyn Backend> =
            Arc::new(SqliteBackend::open(folder.path().join("x.db")).await.expect("open"));
        let server = serve(store.clone(), &folder);
        let flaky = Flaky::start(server.address(), 1);
        let client = HttpBackend::builder(flaky.url()).patience(patience).open().await.expect("open");
        Self { store, server: Some(server), flaky, client, folder }
    }

    /// One that waits until a server is there again.
    pub(crate) async fn patient() -> Self {
        Self::new(Duration::from_secs(60)).await
    }

    /// One that gives up at once.
    pub(crate) async fn hasty() -> Self {
        Self::new(Duration::ZERO).await
    }

    pub(crate) async fn submit(&self, count: u64) {
        let jobs = (0..count).map(|n| NewJob::new(&n).expect("JSON")).collect();
        self.store.submit(jobs).await.expect("submit");
    }

    pub(crate) async fn visible(&self) -> u64 {
        self.store.stats().await.expect("stats").visible
    }

    /// Waits until the server answers so many requests.
    pub(crate) async fn open(&self, requests: usize) {
        let reached = async {
            while self.server.as_ref().is_some_and(|server| server.open_requests() != requests) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("these requests");
    }

    /// Another server takes the place of this one, which knows nothing of it.
    pub(crate) fn restart(&mut self) {
        let server = serve(self.store.clone(), &self.folder);
        self.flaky.lead_to(server.address());
        self.server = Some(server);
    }
}

pub(crate) fn request(max: usize) -> ClaimRequest {
    ClaimRequest::new("w", Duration::from_secs(300)).max(max).wait(Duration::from_secs(60))
}

pub(crate) fn success(key: &ClaimKey) -> Settlement {
    Settlement::new(key.clone(), Outcome::Success(Json::parse("1").expect("JSON")))
}

/// What happens to an answer.
pub(crate) const LOST: [Break; 2] = [Break::LostAnswer, Break::HalfAnswer];
