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

/// How long the worker may take to answer: less than the 5 s that a health
/// check of ECS has, unless it was told otherwise.
const LIMIT: Duration = Duration::from_secs(4);

/// Ask a worker of this machine whether it is well: for a container's health check
///
/// Asks for /health at the address of the worker's --http-listen. Ends with exit code 1 where
/// the worker says that it is not well, or does not answer within 4 s.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haulage health --http-listen 127.0.0.1:9464")]
pub(crate) struct Args {
    #[arg(
        long, value_name = "ADDRESS", required = true,
        env = env::HTTP_LISTEN.name, help = "Where the worker listens"
    )]
    http_listen: String,
}

impl Args {
    pub(crate) async fn run(self, output: Output) -> Result {
        let address = within(&self.http_listen);
        let uri: Uri = format!("http://{address}/health").parse().map_err(|_| {
            let given = sanitized(&self.http_listen);
            Exit::usage(format!("--http-listen {given} is not an address; write it like 127.0.0.1:9464"))
        })?;
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let asked = async {
            let response = client.get(uri).await.map_err(|error| with_causes(&error))?;
            let status = response.status();
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
                Err(Exit::new(Code::Failure, format!("the worker at {address} is not well: {why}")))
            }
        }
    }
}

/// The address as one connects to it: a worker that listens on all of the
/// machine's is to be found on the loopback one.
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
