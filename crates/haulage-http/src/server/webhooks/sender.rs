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
    body::Incoming,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};

use super::{reach::Reach, retry::Answer, secret::SecretFile};
use crate::{
    pool::{self, Options, Pool},
    retry_after,
};

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

/// Sends deliveries, over connections that are kept for the next ones.
#[derive(Debug)]
pub(super) struct Sender {
    plain: Result<Pool, String>,
    /// Or why there can be none.
    secure: Result<Pool, String>,
    reach: Arc<Reach>,
    secrets: SecretFile,
}

impl Sender {
    pub(super) fn new(reach: Arc<Reach>, secrets: SecretFile) -> Self {
        let pool = |is_secure| {
            let (connect, keepalive, idle) = (TIMEOUT, None, IDLE);
            let options = Options { is_secure, connect, keepalive, idle, head: Some(HEAD) };
            pool::pool(&options, Reach::resolver(&reach, is_secure))
        };
        // Certificates are there in most containers, and where they are not, receivers may need none.
        let secure = pool(true);
        if let Err(why) = &secure {
            tracing::warn!("no webhook can be delivered over HTTPS: {why}");
        }
        Self { plain: pool(false), secure, reach, secrets }
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
        let uri: Uri = url.parse().map_err(|error| format!("this URL cannot be used: {error}"))?;
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
        let pool = if is_secure { &self.secure } else { &self.plain };
        let answer = pool.as_ref().map_err(Clone::clone)?.request(request).await;
        let answer = answer.map_err(|error| with_causes(&error))?;
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
        let asked = asked.and_then(|after| retry_after(after, SystemTime::now()));
        Ok((Answer::Status(status, asked), answer.into_body()))
    }
}
