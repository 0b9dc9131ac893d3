//! One try of a delivery.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use haulage::{
    Result, Timestamp,
    backend::{ClaimedDelivery, Delivery},
    with_causes,
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Uri,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    reach::{CheckedResolver, Reach},
    retry::Answer,
    secret::SecretFile,
};
use crate::retry_after;

/// How long a receiver may take, from the look-up of its name to the head of its answer. Whoever has more to
/// do answers first, and does it then.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// How long an unused connection is kept: each host may have some, and the process has so many files.
const IDLE: Duration = Duration::from_secs(5);
/// How much of an answer is read, so that its connection can be used again, and for how long.
const READ: usize = 64 << 10;
const READ_FOR: Duration = Duration::from_secs(1);

/// The longest head of an answer.
const HEAD: usize = 32 << 10;

type Pool<C> = Client<C, Full<Bytes>>;

/// Sends deliveries, over connections that are kept for the next ones.
#[derive(Debug)]
pub(super) struct Sender {
    plain: Pool<HttpConnector<CheckedResolver>>,
    /// Or why there can be none.
    secure: Result<Pool<HttpsConnector<HttpConnector<CheckedResolver>>>, String>,
    reach: Arc<Reach>,
    secrets: SecretFile,
}

impl Sender {
    pub(super) fn new(reach: Arc<Reach>, secrets: SecretFile) -> Self {
        let connector = |is_secure| {
            let mut connector =
                HttpConnector::new_with_resolver(CheckedResolver { reach: Arc::clone(&reach), is_secure });
            connector.set_connect_timeout(Some(TIMEOUT));
            connector.set_nodelay(true);
            connector.enforce_http(false);
            connector
        };
        // Certificates are there in most containers, and where they are not, receivers may need none.
        let secure = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map(|https| pool(https.https_only().enable_http1().wrap_connector(connector(true))))
            .map_err(|error| {
                format!(
                    "cannot read the system's certificates: {error}; install ca-certificates, or set SSL_CERT_FILE"
                )
            });
        if let Err(why) = &secure {
            tracing::warn!("no webhook can be delivered over HTTPS: {why}");
        }
        Self { plain: pool(connector(false)), secure, reach, secrets }
    }

    /// Tries to deliver, once.
    pub(super) async fn send(&self, claimed: &ClaimedDelivery, now: Timestamp) -> Answer {
        match tokio::time::timeout(TIMEOUT, self.post(claimed, now)).await {
            Ok(Ok((answer, body))) => {
                // What it says beside the status is its own affair: of what is told of it, somebody else may be
                // the reader.
                let _ = tokio::time::timeout(READ_FOR, Limited::new(body, READ).collect()).await;
                answer
            }
            Ok(Err(why)) => Answer::None(why),
            Err(_) => Answer::None(format!("no answer in {}", humantime::format_duration(TIMEOUT))),
        }
    }

    async fn post(&self, claimed: &ClaimedDelivery, now: Timestamp) -> Result<(Answer, Incoming), String> {
        let ClaimedDelivery { delivery: Delivery { id, url, .. }, body, .. } = claimed;
        let uri: Uri = url.parse().map_err(|error| format!("this is not a URL that can be used: {error}"))?;
        let is_secure = uri.scheme_str() == Some("https");
        self.reach.check_literal(uri.host().unwrap_or_default(), is_secure)?;
        let seconds = now.as_micros().div_euclid(1_000_000);
        let signatures: Vec<_> =
            self.secrets.secrets().iter().map(|secret| secret.sign(id, seconds, body)).collect();
        let request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("haulage/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures.join(" "))
            .body(Full::from(body.clone()))
            .map_err(|error| error.to_string())?;
        let answer = match (is_secure, &self.secure) {
            (false, _) => self.plain.request(request).await,
            (true, Ok(secure)) => secure.request(request).await,
            (true, Err(why)) => return Err(why.clone()),
        };
        let answer = answer.map_err(|error| with_causes(&error))?;
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
        let asked = asked.and_then(|after| retry_after(after, SystemTime::now()));
        Ok((Answer::Status(status, asked), answer.into_body()))
    }
}

fn pool<C>(connector: C) -> Pool<C>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).http1_max_buf_size(HEAD);
    client.build(connector)
}
