//! `haulage serve`

use std::{path::PathBuf, time::Duration};

use haulage_http::server::{KeyFile, Network, Server, Webhooks};

use super::{
    key,
    stop::{Heard, Stop},
};
use crate::{
    env,
    exit::{Exit, Result},
    logging, options,
    output::LogFormat,
    session::Session,
};

/// Serve jobs over HTTP, to programs in any language and to workers anywhere
///
/// Every request needs a key (`haulage key create`); without keys, the server listens only on this machine.
/// Workers, and every other command except `backup`, `sql` and `key`, take the URL of the server in place of
/// the store's.
///
/// SIGTERM, SIGHUP or Ctrl-C ends waits, answers what is open within the grace period, and stops the
/// server; a second one stops it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  haulage serve\n  \
                  haulage serve --url sqlite:///var/lib/haulage/jobs.db --listen 0.0.0.0:8080\n  \
                  haulage serve --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem")]
pub(crate) struct Args {
    #[arg(
        long, value_name = "ADDRESS",
        env = env::LISTEN.name, default_value = env::LISTEN.fallback(), help = env::LISTEN.help
    )]
    listen: String,

    #[arg(long, value_name = "FILE", env = env::KEYS.name, help = env::KEYS.help)]
    keys: Option<PathBuf>,

    #[arg(long, value_name = "FILE", requires = "tls_key", env = env::TLS_CERT.name, help = env::TLS_CERT.help)]
    tls_cert: Option<PathBuf>,

    #[arg(long, value_name = "FILE", requires = "tls_cert", env = env::TLS_KEY.name, help = env::TLS_KEY.help)]
    tls_key: Option<PathBuf>,

    #[arg(
        long, value_name = "SIZE", value_parser = options::size,
        env = env::MAX_BODY.name, default_value = env::MAX_BODY.fallback(), help = env::MAX_BODY.help
    )]
    max_body: u64,

    #[arg(long, value_name = "NUMBER", env = env::MAX_WAITING.name, help = env::MAX_WAITING.help)]
    max_waiting: Option<u64>,

    #[arg(
        long, value_name = "NUMBER", env = env::MAX_CONNECTIONS.name,
        default_value = env::MAX_CONNECTIONS.fallback(), help = env::MAX_CONNECTIONS.help
    )]
    max_connections: usize,

    #[arg(
        long, value_name = "ORIGIN", value_delimiter = ',',
        env = env::CORS_ORIGIN.name, help = env::CORS_ORIGIN.help
    )]
    cors_origin: Vec<String>,

    #[arg(
        long, value_name = "ADDRESS", value_delimiter = ',',
        env = env::TRUST_FORWARDED.name, help = env::TRUST_FORWARDED.help
    )]
    trust_forwarded: Vec<Network>,

    #[arg(
        long, value_name = "FILE",
        env = env::WEBHOOK_SECRET_FILE.name, help = env::WEBHOOK_SECRET_FILE.help
    )]
    webhook_secret_file: Option<PathBuf>,

    #[arg(
        long, value_name = "NETWORK", value_delimiter = ',', requires = "webhook_secret_file",
        env = env::WEBHOOK_ALLOW.name, help = env::WEBHOOK_ALLOW.help
    )]
    webhook_allow: Vec<Network>,

    /// How long what is being answered may take to end after SIGTERM or Ctrl-C
    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::SHUTDOWN_GRACE_PERIOD.name, default_value = env::SHUTDOWN_GRACE_PERIOD.fallback()
    )]
    shutdown_grace_period: Duration,

    /// What the server logs: a level, or a filter such as `info,haulage::audit=off`
    #[arg(long, value_name = "FILTER", env = env::LOG.name, default_value = env::LOG.fallback())]
    log: String,

    /// How the server logs
    #[arg(
        long, value_name = "FORMAT", value_enum,
        env = env::LOG_FORMAT.name, default_value = env::LOG_FORMAT.fallback()
    )]
    log_format: LogFormat,
}

impl Args {
    /// How the lines of the log look.
    pub(crate) const fn log_format(&self) -> LogFormat {
        self.log_format
    }

    pub(crate) async fn run(self, session: &Session) -> Result {
        if session.is_server() {
            return Err(Exit::usage(
                "`haulage serve` needs the URL of a database, or of a queue on AWS, not another server's",
            ));
        }
        logging::start(&self.log, self.log_format)?;
        let stop = Stop::listen(tell)?;
        let backend = tokio::select! {
            backend = session.backend() => backend?,
            () = stop.stopping() => return stop.ending(),
        };
        let keys = match &self.keys {
            Some(path) => Some(KeyFile::open(path)?),
            // What is beside the database counts without a word, so that a key that was made holds.
            None => key::default_file(session).filter(|path| path.exists()).map(KeyFile::open).transpose()?,
        };
        let shown = keys.as_ref().map(|keys| keys.path().display().to_string());
        let max_body = usize::try_from(self.max_body).unwrap_or(usize::MAX);
        let mut builder = Server::builder(backend)
            .listen(&self.listen)
            .max_body(max_body)
            .max_connections(self.max_connections);
        if let Some(jobs) = self.max_waiting {
            builder = builder.max_waiting(jobs);
        }
        if let Some(keys) = keys {
            builder = builder.keys(keys);
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            builder = builder.tls(certificate, key);
        }
        for origin in &self.cors_origin {
            builder = builder.allow_origin(origin);
        }
        for proxy in self.trust_forwarded {
            builder = builder.trust_forwarded(proxy);
        }
        if let Some(secrets) = self.webhook_secret_file {
            let webhooks = self.webhook_allow.into_iter().fold(Webhooks::new(secrets), Webhooks::allow);
            builder = builder.webhooks(webhooks);
        }
        let server = builder.start()?;
        match shown {
            Some(keys) => tracing::info!(store = session.url, keys, "serving on {}", server.url()),
            None => tracing::info!(
                store = session.url,
                "serving on {} for this machine only: there are no keys, so anyone on it may do everything",
                server.url()
            ),
        }
        stop.stopping().await;
        let ending = server.stop(self.shutdown_grace_period);
        tokio::select! {
            all = ending => {
                if !all {
                    let limit = humantime::format_duration(self.shutdown_grace_period);
                    tracing::warn!("some requests were not answered within {limit}");
                }
                tracing::info!("the server has stopped");
                stop.ending()
            }
            () = stop.stopping_now() => stop.ending(),
        }
    }
}

fn tell(heard: Heard) {
    match heard {
        Heard::First(name) => tracing::info!("{name}: no new requests are taken; open ones are answered"),
        Heard::Armed => tracing::info!("send it again to end them now"),
        Heard::Second(name) => tracing::warn!("{name} again: connections are cut"),
    }
}
