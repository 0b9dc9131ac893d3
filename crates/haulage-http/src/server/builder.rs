//! What a server is set up with.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use haulage::{Backend, Error, Producer, Result};
use tokio::runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Api, Map, Server, backend,
    calls::Calls,
    connection::{self, Limits},
    forwarded::Network,
    keys::KeyFile,
    memory::Memory,
    pages,
    pressure::Pressure,
    tls::Tls,
    watch::Watches,
    webhooks::Webhooks,
};
use crate::protocol;

/// How many threads answer, at most: what costs time is the store.
const MOST_THREADS: usize = 4;

/// Sets up a [`Server`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    backend: Arc<dyn Backend>,
    address: String,
    keys: Option<KeyFile>,
    tls: Option<(PathBuf, PathBuf)>,
    max_body: usize,
    max_waiting: Option<u64>,
    origins: BTreeSet<String>,
    proxies: Vec<Network>,
    webhooks: Option<Webhooks>,
    limits: Limits,
}

impl Builder {
    /// Where a server listens unless it is told otherwise.
    pub const ADDRESS: &'static str = "127.0.0.1:8080";
    /// The largest body or result, unless it is told otherwise, in bytes: 64 MiB.
    pub const MAX_BODY: usize = 64 << 20;
    /// How many connections there are at most, unless it is told otherwise. One that waits for a job
    /// takes some 20 KB.
    pub const MAX_CONNECTIONS: usize = 16_384;

    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            address: Self::ADDRESS.to_owned(),
            keys: None,
            tls: None,
            max_body: Self::MAX_BODY,
            max_waiting: None,
            origins: BTreeSet::new(),
            proxies: Vec::new(),
            webhooks: None,
            limits: Limits { connections: Self::MAX_CONNECTIONS, patience: Duration::from_secs(30) },
        }
    }

    /// Host and port, as in `0.0.0.0:8080`. Port 0 is one that is free. Default:
    /// [`Builder::ADDRESS`].
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Whoever asks needs one of these keys. Default: nobody does, and the server is for this
    /// machine alone.
    pub fn keys(mut self, keys: KeyFile) -> Self {
        self.keys = Some(keys);
        self
    }

    /// TLS, by a certificate with its chain and its key, each a file in PEM. They are read again when
    /// they change. Default: none.
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// The largest body or result, in bytes. Default: [`Builder::MAX_BODY`].
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// How many jobs may wait in each queue. More are refused, with 429 and `Retry-After`; of a submit of
    /// several, the first are accepted as far as there is room. Counts are half a second old at most; on AWS,
    /// as old as those of SQS. Default: any number.
    pub fn max_waiting(mut self, jobs: u64) -> Self {
        self.max_waiting = Some(jobs);
        self
    }

    /// How many connections there are at most; more wait for one to end. Default:
    /// [`Builder::MAX_CONNECTIONS`].
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections.max(1);
        self
    }

    /// How long a client may take for the head of a request, for the next part of its body, or to take an
    /// answer in, before its connection is cut. Default: 30 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Pages of this origin, such as `https://app.example.com`, may ask (CORS). Default: none.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.insert(origin.into());
        self
    }

    /// What this proxy says of its clients, in `X-Forwarded-For`, `X-Forwarded-Host` or `Forwarded`, is
    /// believed: the log names their addresses, and without keys they count as what they are. Of whoever else
    /// sends such headers they count for nothing. Default: nobody is believed.
    pub fn trust_forwarded(mut self, proxy: Network) -> Self {
        self.proxies.push(proxy);
        self
    }

    /// What becomes of jobs is told to their webhooks. Default: it is not, and jobs that have one are refused.
    pub fn webhooks(mut self, webhooks: Webhooks) -> Self {
        self.webhooks = Some(webhooks);
        self
    }

    /// Begins to answer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the address cannot be had, where others than this machine could
    /// reach it and there are no keys, or where there is something wrong with the certificate or with the
    /// secrets of webhooks;
    /// [`Error::Unavailable`] where the system has no thread left.
    pub fn start(self) -> Result<Server> {
        let Self { backend, address, keys, tls, max_body, max_waiting, origins, proxies, webhooks, limits } =
            self;
        let refused = |error: std::io::Error| {
            Error::Config(format!(
                "cannot listen on {address}: {error}; write it like 127.0.0.1:8080, with a port that is free"
            ))
        };
        let tls = tls.map(|(certificate, key)| Tls::open(certificate, key)).transpose()?;
        let teller = webhooks.map(|webhooks| webhooks.open(&backend)).transpose()?;
        let listener = TcpListener::bind(&address).map_err(refused)?;
        let bound: SocketAddr = listener.local_addr().map_err(refused)?;
        if keys.is_none() && !bound.ip().is_loopback() {
            return Err(Error::Config(format!(
                "{address} can be reached from other machines, and there are no keys: anybody could submit, read and \
                 run jobs; make a key with `haulage key create`, or listen on 127.0.0.1"
            )));
        }
        listener.set_nonblocking(true).map_err(refused)?;
        let no_random = |e| Error::unavailable("the system gives no random numbers", e);
        let (stopping, requests) = (CancellationToken::new(), TaskTracker::new());
        let api = Arc::new(Api {
            producer: Producer::new(Arc::clone(&backend)),
            watches: Watches::new(Arc::clone(&backend)),
            calls: Calls::new(Arc::clone(&backend), stopping.clone()),
            backend,
            map: Map::new(keys.is_some())?,
            keys,
            instance: protocol::random(8).map_err(no_random)?,
            max_body,
            patience: limits.patience,
            memory: Arc::new(Memory::new(max_body.saturating_add(backend::BESIDE))),
            pressure: Pressure::new(max_waiting),
            history: pages::History::default(),
            failing_slots: pages::FailingSlots::default(),
            origins,
            proxies,
            reach: teller.as_ref().map(|teller| Arc::clone(&teller.reach)),
            stopping: stopping.clone(),
            requests: requests.clone(),
        });
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("haulage-serve")
            .enable_all()
            .build()
            .map_err(|e| Error::unavailable(format!("cannot start a thread: {e}"), e))?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(refused)?
        };
        let (connections, telling) = (TaskTracker::new(), TaskTracker::new());
        if let Some(teller) = teller {
            runtime.spawn(telling.track_future(teller.run(stopping.clone())));
        }
        let is_secure = tls.is_some();
        runtime.spawn(pages::look(Arc::clone(&api)));
        runtime.spawn(connection::accept(listener, api, tls, limits, connections.clone()));
        let runtime = Some(runtime);
        Ok(Server { address: bound, is_secure, stopping, connections, requests, telling, runtime })
    }
}
