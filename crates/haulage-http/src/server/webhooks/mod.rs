//! Telling webhooks: what the store keeps for them is taken from it, signed, and sent.
//!
//! Of several servers over one store each takes its part, by leases. What a server has in its hands when it
//! dies is told by another one, or by the next, when its lease is over.

mod reach;
mod retry;
mod secret;
mod sender;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use haulage::{
    Backend, Error, Result, Webhook,
    backend::{Delivery, DeliveryOutcome, DeliveryRequest, DeliverySettlement},
};
use hyper::Uri;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

pub(super) use self::reach::Reach;
pub use self::secret::WebhookSecret;
use self::{retry::Answer, secret::SecretFile, sender::Sender};
use super::{Api, Network, request::invalid, watch};
use crate::Problem;

/// How many deliveries are under way at once.
const AT_ONCE: usize = 256;
/// How many of one host are.
const PER_HOST: usize = 8;
/// How long a delivery is this server's: time enough for a try, and to say what came of it.
const LEASE: Duration = Duration::from_secs(30);
/// How often to look by itself: not all that is to be told comes with a signal.
const LOOK: Duration = Duration::from_secs(1);
/// The same where looks are paid for, and there are no signals.
const PAID_LOOK: Duration = Duration::from_secs(2);
/// The least time between two looks: a signal may come with each job that ends.
const BETWEEN: Duration = Duration::from_millis(20);
/// How long to leave the store alone after it has failed.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// How a server delivers webhooks; see [`Builder::webhooks`](super::Builder::webhooks).
#[derive(Debug)]
#[must_use]
pub struct Webhooks {
    secrets: PathBuf,
    allowed: Vec<Network>,
    delivers: bool,
}

impl Webhooks {
    /// Deliveries are signed by the secrets in this file: one a line, one or two. With two, each delivery
    /// has two signatures, for as long as receivers change from one to the other. The file is read again
    /// when it changes.
    pub fn new(secrets: impl Into<PathBuf>) -> Self {
        Self { secrets: secrets.into(), allowed: Vec::new(), delivers: true }
    }

    /// Deliveries may go to this network, even where it is not public, and without TLS. Default:
    /// none; deliveries go over TLS to addresses of the internet alone.
    pub fn allow(mut self, network: Network) -> Self {
        self.allowed.push(network);
        self
    }

    /// Jobs with webhooks are accepted, and other servers over this store deliver.
    pub fn leave_to_others(mut self) -> Self {
        self.delivers = false;
        self
    }

    pub(super) fn open(self, backend: &Arc<dyn Backend>) -> Result<Teller> {
        if !backend.capabilities().webhooks {
            return Err(Error::Config(format!(
                "the {} store does not support webhooks; start the server without --webhook-secret-file",
                backend.name()
            )));
        }
        let reach = Arc::new(Reach::new(self.allowed));
        let secrets = SecretFile::open(self.secrets)?;
        let sender = Arc::new(Sender::new(Arc::clone(&reach), secrets));
        let every = if backend.capabilities().cheap_looks { LOOK } else { PAID_LOOK };
        Ok(Teller { backend: Arc::clone(backend), sender, reach, delivers: self.delivers, every })
    }
}

/// Refuses a webhook, where there is one, that this server would not tell.
pub(super) fn check(api: &Api, webhook: Option<&Webhook>) -> Result<(), Problem> {
    let Some(webhook) = webhook else { return Ok(()) };
    let refused = |detail: String| invalid("webhook", format!("webhook: {detail}"));
    if !api.capabilities().webhooks {
        return Err(refused(format!("the {} store does not support webhooks", api.backend.name()))
            .remedy("leave it out, and wait for the job or poll it"));
    }
    let Some(reach) = &api.reach else {
        return Err(refused("webhooks are not enabled on this server: it has no signing secret".into())
            .remedy(
                "start it with --webhook-secret-file FILE; `haulage webhook secret > FILE` makes a secret",
            ));
    };
    let uri: Uri =
        webhook.url.parse().map_err(|error| refused(format!("this URL cannot be used: {error}")))?;
    let is_secure = uri.scheme_str() == Some("https");
    if !is_secure && !reach.allows_plain() {
        return Err(refused("this server delivers webhooks over HTTPS only".into()).remedy(
            "use an https:// URL; or start the server with --webhook-allow and the receiver's network",
        ));
    }
    let host = uri.host().unwrap_or_default();
    let remedy = match is_secure {
        true => "use a public address; or start the server with --webhook-allow and the receiver's network",
        false => "use an https:// URL; or start the server with --webhook-allow and the receiver's network",
    };
    reach.check_literal(host, is_secure).map_err(|why| refused(why).remedy(remedy))
}

/// Takes deliveries from the store, and tries them.
#[derive(Debug)]
pub(super) struct Teller {
    backend: Arc<dyn Backend>,
    sender: Arc<Sender>,
    pub(super) reach: Arc<Reach>,
    delivers: bool,
    /// How often it looks by itself.
    every: Duration,
}

/// What a look has found.
struct Looked {
    /// Something was due, so more may be.
    more: bool,
    /// When to look again at the latest.
    next: Duration,
}

/// What is under way.
#[derive(Debug, Default)]
struct UnderWay {
    tries: JoinSet<Tried>,
    /// How many each host has.
    hosts: BTreeMap<String, usize>,
    /// What came of tries, of which the store does not know yet.
    tried: Vec<Tried>,
}

#[derive(Debug)]
struct Tried {
    host: String,
    delivery: Delivery,
    outcome: DeliveryOutcome,
}

impl Teller {
    /// Goes on until it is stopped, and ends with what is under way then.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let mut under_way = UnderWay::default();
        let mut signal = self.backend.signals().outcomes;
        let mut failed = false;
        while self.delivers && !stopping.is_cancelled() {
            let began = Instant::now();
            let looked = self.look(&mut under_way).await;
            let looked_for = began.elapsed();
            let (wait, rest) = match &looked {
                Ok(Looked { more: true, next }) => (*next, BETWEEN),
                // A look takes longer where many hosts wait, and the store has others to serve.
                Ok(Looked { next, .. }) => (*next, (looked_for * 4).clamp(BETWEEN, LOOK)),
                Err(error) => {
                    if !failed {
                        tracing::warn!(target: "haulage::webhooks", %error, "cannot claim webhook deliveries; trying again");
                    }
                    (Duration::ZERO, STORE_AGAIN)
                }
            };
            failed = looked.is_err();
            tokio::select! {
                () = under_way.any() => {}
                () = watch::signal(&mut signal) => {}
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = stopping.cancelled() => break,
            }
        }
        while let Some(tried) = under_way.tries.join_next().await {
            under_way.tried.extend(tried);
        }
        if let Err(error) = self.settle(&mut under_way).await {
            tracing::warn!(target: "haulage::webhooks", %error, "cannot store the outcome of the last webhook deliveries; they will be sent again");
        }
    }

    /// Settles what has been tried, and begins to try more.
    async fn look(&self, under_way: &mut UnderWay) -> Result<Looked> {
        self.settle(under_way).await?;
        let max = AT_ONCE.saturating_sub(under_way.tries.len());
        let Some(deliveries) = self.backend.deliveries().filter(|_| max > 0) else {
            return Ok(Looked { more: false, next: self.every });
        };
        let in_flight = under_way.hosts.clone();
        let claimed = deliveries
            .claim_deliveries(DeliveryRequest { max, per_host: PER_HOST, in_flight, lease: LEASE })
            .await?;
        let more = !claimed.deliveries.is_empty();
        for claimed in claimed.deliveries {
            let host = Webhook::new(claimed.delivery.url.as_str()).host();
            *under_way.hosts.entry(host.clone()).or_default() += 1;
            let (sender, clock) = (Arc::clone(&self.sender), self.backend.clock().clone());
            under_way.tries.spawn(async move {
                let answer = AssertUnwindSafe(sender.send(&claimed, clock.now())).catch_unwind().await;
                let answer = answer.unwrap_or_else(|_| Answer::None("the server panicked".into()));
                let outcome = retry::outcome(&claimed, answer, clock.now(), fastrand::f64());
                Tried { host, delivery: claimed.delivery, outcome }
            });
        }
        let now = self.backend.clock().now();
        let next = claimed.next.map_or(self.every, |next| next.since(now).min(self.every));
        Ok(Looked { more, next })
    }

    /// Tells the store what came of tries.
    async fn settle(&self, under_way: &mut UnderWay) -> Result<()> {
        while let Some(tried) = under_way.tries.try_join_next() {
            under_way.tried.extend(tried);
        }
        let Some(deliveries) = self.backend.deliveries().filter(|_| !under_way.tried.is_empty()) else {
            return Ok(());
        };
        let settlement = |Tried { delivery, outcome, .. }: &Tried| {
            let (id, tries, outcome) = (delivery.id.clone(), delivery.tries, outcome.clone());
            DeliverySettlement { id, tries, outcome }
        };
        let known = deliveries.settle_deliveries(under_way.tried.iter().map(settlement).collect()).await?;
        for (tried, known) in under_way.tried.drain(..).zip(known) {
            // One that was not settled is another's by now, or has been replaced by what is newer.
            if known {
                tried.log();
            }
            let host = tried.host;
            if let Some(count) = under_way.hosts.get_mut(&host) {
                *count -= 1;
                if *count == 0 {
                    under_way.hosts.remove(&host);
                }
            }
        }
        Ok(())
    }
}

impl UnderWay {
    /// Waits for a try to end.
    async fn any(&mut self) {
        match self.tries.join_next().await {
            Some(tried) => self.tried.extend(tried),
            None => std::future::pending().await,
        }
    }
}

impl Tried {
    /// Says what came of it. Of the URL, the host alone: the rest may be a secret.
    fn log(&self) {
        let Self { host, delivery, outcome } = self;
        let Delivery { id, job, event, tries, .. } = delivery;
        match outcome {
            DeliveryOutcome::Done => {
                tracing::debug!(target: "haulage::webhooks", id, %job, %event, host, tries, "delivered");
            }
            DeliveryOutcome::Again { after, error } => {
                let wait = after.as_secs_f64();
                tracing::info!(target: "haulage::webhooks", id, %job, %event, host, tries, wait, error, "not delivered; retrying");
            }
            DeliveryOutcome::Dead { error } => {
                tracing::warn!(target: "haulage::webhooks", id, %job, %event, host, tries, error, "not delivered; the delivery is dead");
            }
        }
    }
}
