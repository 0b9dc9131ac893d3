//! Where the server is, and with which key.

use std::{sync::Arc, time::Duration};

use haulage::{Clock, Error, Result};
use hyper::Uri;

use super::{HttpBackend, connection::Connection};
use crate::protocol;

/// The environment variable with the key.
const KEY: &str = "HAULAGE_KEY";

/// Sets up an [`HttpBackend`].
#[derive(Clone)]
#[must_use]
pub struct HttpBackendBuilder {
    url: String,
    key: Option<String>,
    patience: Duration,
    compress: Option<bool>,
    clock: Option<Clock>,
}

impl std::fmt::Debug for HttpBackendBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpBackendBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl HttpBackendBuilder {
    /// How long calls are repeated while the server cannot be reached, unless it is told
    /// otherwise: 15 s.
    pub const PATIENCE: Duration = Duration::from_secs(15);

    pub(super) fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), key: None, patience: Self::PATIENCE, compress: None, clock: None }
    }

    /// The key. Default: what the environment has in `HAULAGE_KEY`, if it has something there.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// How long a call is repeated while the server cannot be reached: it may be in the middle of a restart.
    /// Default: [`HttpBackendBuilder::PATIENCE`].
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether bodies of more than a kilobyte are compressed, both ways: for a slow network, or one that is
    /// paid for. Default: what the URL says (`?compress=false`), or where it says nothing, if the server is
    /// on another machine.
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = Some(compress);
        self
    }

    /// The clock of the server, for tests that move it. Default: this machine's, corrected by
    /// what the server says.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Asks the server what it can do.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the URL is not one, or the key is refused, or it would go
    /// over a network unencrypted; [`Error::Unavailable`] where the server does not answer.
    pub async fn open(self) -> Result<HttpBackend> {
        let Self { url, key, patience, compress, clock } = self;
        let ServerUrl { base, allows_plain, compress: asked } = server_url(&url)?;
        let key = key.or_else(|| std::env::var(KEY).ok()).filter(|key| !key.trim().is_empty());
        let is_remote = !protocol::is_loopback_name(base.host().unwrap_or_default());
        if key.is_some() && base.scheme_str() == Some("http") && is_remote && !allows_plain {
            return Err(Error::Config(format!(
                "the key would go to {base} unencrypted, for everybody on the way to read: use https://, or where \
                 that network is trusted, add ?allow_plain_http=true to the URL"
            )));
        }
        let compress = compress.or(asked).unwrap_or(is_remote);
        let connection = Connection::new(base, key.as_deref().map(str::trim), patience, compress)?;
        HttpBackend::open(Arc::new(connection), clock).await
    }
}

/// What a URL says.
struct ServerUrl {
    /// Without a slash at the end.
    base: Uri,
    allows_plain: bool,
    compress: Option<bool>,
}

fn server_url(url: &str) -> Result<ServerUrl> {
    let (place, query) = url.trim().split_once('?').unwrap_or((url.trim(), ""));
    let wrong = |why: &str| Error::Config(format!("{place}: {why}; write it like https://jobs.example.com"));
    if place.split_once("://").is_none_or(|(_, rest)| rest.trim_matches('/').is_empty()) {
        return Err(wrong("this is not a URL"));
    }
    let base: Uri = place.trim_end_matches('/').parse().map_err(|_| wrong("this is not a URL"))?;
    if !matches!(base.scheme_str(), Some("http" | "https")) {
        return Err(wrong("the scheme is not http or https"));
    }
    let authority = base.authority().ok_or_else(|| wrong("the URL names no server"))?;
    if authority.as_str().contains('@') {
        return Err(Error::Config(
            "a name and password in the URL are not supported; the key goes into HAULAGE_KEY".into(),
        ));
    }
    if authority.as_str().len() > authority.host().len() && !matches!(authority.port_u16(), Some(1..)) {
        return Err(wrong("the port is not a number from 1 to 65535"));
    }
    let (mut allows_plain, mut compress) = (false, None);
    for parameter in haulage::url::parameters(query) {
        let (name, value) = parameter?;
        match name {
            "allow_plain_http" => allows_plain = flag(name, &value)?,
            "compress" => compress = Some(flag(name, &value)?),
            _ => {
                return Err(Error::Config(format!(
                    "unknown parameter `{name}`; http:// and https:// know allow_plain_http and compress"
                )));
            }
        }
    }
    Ok(ServerUrl { base, allows_plain, compress })
}

fn flag(name: &str, value: &str) -> Result<bool> {
    value.parse().map_err(|_| Error::Config(format!("{name}={value}: write true or false")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server() {
        for (url, base) in [
            ("https://jobs.example.com", "https://jobs.example.com/"),
            (" http://localhost:8080/ ", "http://localhost:8080/"),
            ("https://example.com/haulage/", "https://example.com/haulage"),
            ("http://[::1]:80?allow_plain_http=true&compress=false", "http://[::1]:80/"),
        ] {
            assert_eq!(server_url(url).expect(url).base.to_string(), base);
        }
        for (url, says) in [
            ("ftp://x", "not http or https"),
            ("https://", "not a URL"),
            ("https://a:b@x", "HAULAGE_KEY"),
            ("https://x:99999", "port"),
            ("https://x?key=1", "unknown parameter `key`"),
            ("https://x?allow_plain_http=maybe", "true or false"),
            ("https://x?compress=", "true or false"),
        ] {
            let error = server_url(url).err().unwrap_or_else(|| panic!("{url}")).to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn a_key_does_not_go_over_a_network_unencrypted() {
        let refused = HttpBackendBuilder::new("http://192.0.2.1:8080").key("haulage_x").open().await;
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains("unencrypted") && !error.contains("haulage_x"), "{error}");
    }
}
