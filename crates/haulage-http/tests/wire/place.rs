//! A server over a database of its own, and the backend that speaks to it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use haulage::{Backend, Clock, Timestamp, conformance::Subject, sqlite::SqliteBackend};
use haulage_http::{HttpBackend, server::Server};
use haulage_servers::Flaky;
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
}

impl Wire {
    pub(crate) fn new(faults: f64) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        Self { folder, next: AtomicUsize::new(0), faults, places: Mutex::default() }
    }

    /// How much has gone wrong so far, in the places that are still kept.
    pub(crate) fn faults(&self) -> u64 {
        self.places.lock().expect("places").iter().map(|(_, flaky)| flaky.faults()).sum()
    }
}

/// A server over this backend, on a free port.
pub(crate) fn serve(backend: Arc<dyn Backend>) -> Server {
    Server::builder(backend).listen("127.0.0.1:0").start().expect("a server")
}

#[async_trait::async_trait]
impl Subject for Wire {
    async fn fresh(&self) -> Arc<dyn Backend> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.db"));
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let store = SqliteBackend::options(path).clock(clock.clone()).open().await.expect("open");
        let server = serve(Arc::new(store));
        let flaky = Flaky::start(server.address(), number as u64);
        let client = HttpBackend::builder(flaky.url()).clock(clock).patience(Duration::from_secs(60));
        let client = client.open().await.expect("the server answers");
        flaky.fail_at_random(self.faults);
        let mut places = self.places.lock().expect("places");
        places.push_back((server, flaky));
        if places.len() > KEPT {
            places.pop_front();
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
