//! `haulage health`

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use haulage::with_causes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Uri, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::{
    env,
    exit::{Code, Exit, Result},
    output::{Output, sanitized},
};

/// How long the answer may take: less than the 5 s that a health check of ECS has, unless it was told otherwise.
const LIMIT: Duration = Duration::from_secs(4);

/// Ask a worker or a server of this machine whether it is well: for a container's health check
///
/// Asks for /health at the address of the worker's --http-listen. A server, at its --listen, is well where
/// it answers plain HTTP at all, whether its store does or not. Ends with exit code 1 where the worker says
/// that it is not well, or there is no answer within 4 s.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage health --http-listen 127.0.0.1:9464\n  haulage health --listen 127.0.0.1:8080"
)]
pub(crate) struct Args {
    /// Where the worker listens [env: HAULAGE_HTTP_LISTEN]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "listen")]
    http_listen: Option<String>,

    /// Where the server listens, which is asked in place of a worker [env: HAULAGE_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Args {
    /// What was written on the command line counts before the environment, in which images have an address of
    /// a worker.
    fn chosen(self) -> Result<(bool, String)> {
        let variable =
            |setting: &env::Setting| std::env::var(setting.name).ok().filter(|value| !value.is_empty());
        match (self.listen, self.http_listen) {
            (Some(listen), _) => Ok((true, listen)),
            (None, Some(listen)) => Ok((false, listen)),
            (None, None) => match (variable(&env::LISTEN), variable(&env::HTTP_LISTEN)) {
                (Some(listen), _) => Ok((true, listen)),
                (None, Some(listen)) => Ok((false, listen)),
                (None, None) => Err(Exit::usage(
                    "nothing says whose health; give --http-listen of a worker, or --listen of a server",
                )),
            },
        }
    }

    pub(crate) async fn run(self, output: Output) -> Result {
        let (is_server, given) = self.chosen()?;
        let (who, path, option, example) = if is_server {
            ("server", "/v1/backend", "--listen", "127.0.0.1:8080")
        } else {
            ("worker", "/health", "--http-listen", "127.0.0.1:9464")
        };
        let address = within(&given);
        let uri: Uri = format!("http://{address}{path}").parse().map_err(|_| {
            let given = sanitized(&given);
            Exit::usage(format!("{option} {given} is not an address; write it like {example}"))
        })?;
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let asked = async {
            let response = client.get(uri).await.map_err(|error| with_causes(&error))?;
            let status = response.status();
            // Whoever asks has no key.
            if is_server && !status.is_server_error() {
                return Ok("the server answers".to_owned());
            }
            let body = Limited::new(response.into_body(), 4096).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            if status.is_success() { Ok(text) } else { Err(format!("HTTP {status}: {text}")) }
        };
        let answer = tokio::time::timeout(LIMIT, asked).await;
        match answer.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}"))) {
            Ok(text) => output.line(sanitized(&text)),
            Err(why) => {
                let why = sanitized(&why);
                Err(Exit::new(Code::Failure, format!("the {who} at {address} is not well: {why}")))
            }
        }
    }
}

/// The address as one connects to it: who listens on all of the machine's is to be found on the loopback one.
fn within(listen: &str) -> String {
    let Ok(mut address) = listen.parse::<SocketAddr>() else { return listen.to_owned() };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_on_loopback() {
        for (listen, connect) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:80", "[::1]:80"),
            ("10.0.0.3:9464", "10.0.0.3:9464"),
            ("localhost:9464", "localhost:9464"),
        ] {
            assert_eq!(within(listen), connect);
        }
    }
}
