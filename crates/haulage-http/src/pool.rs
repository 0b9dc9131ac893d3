//! Connections to other servers, which are kept for the next requests.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

/// One type for all there are: each further one is a copy of all that speaks HTTP.
pub(crate) type Pool = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// How connections are made and kept.
pub(crate) struct Options {
    /// Over TLS alone, or without alone.
    pub(crate) is_secure: bool,
    /// How long a server may take to accept a connection.
    pub(crate) connect: Duration,
    /// How often a silent connection is checked, so that a machine that is gone is known to be.
    pub(crate) keepalive: Option<Duration>,
    /// How long an unused connection is kept.
    pub(crate) idle: Duration,
    /// How many bytes the head of an answer may have, where not as many as hyper takes.
    pub(crate) head: Option<usize>,
}

/// Makes none yet; the error tells why there can be none.
pub(crate) fn pool(options: &Options, resolver: Resolver) -> Result<Pool, String> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.set_connect_timeout(Some(options.connect));
    http.set_keepalive(options.keepalive);
    http.set_nodelay(true);
    http.enforce_http(false);
    let provider = rustls::crypto::ring::default_provider();
    let https = if options.is_secure {
        // Certificates are read only where they are needed: many containers have none.
        let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(|error| {
            format!(
                "cannot read the system's certificates: {error}; install ca-certificates, or set SSL_CERT_FILE"
            )
        })?;
        https.https_only()
    } else {
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http()
    };
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_idle_timeout(options.idle).pool_timer(TokioTimer::new());
    if let Some(head) = options.head {
        client.http1_max_buf_size(head);
    }
    Ok(client.build(https.enable_http1().wrap_connector(http)))
}

/// Of the addresses of a name, those to which a connection may be made, or why to none.
type Choose = dyn Fn(&str, Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up.
#[derive(Clone, Default)]
pub(crate) struct Resolver(Option<Arc<Choose>>);

impl Resolver {
    /// Gives only the addresses that are chosen.
    #[cfg(feature = "server")]
    pub(crate) fn choosing(
        choose: impl Fn(&str, Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(choose)))
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let choose = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let chosen = match choose {
                Some(choose) => choose(name.as_str(), found)?,
                None => found,
            };
            Ok(chosen.into_iter())
        })
    }
}
