//! From a URL to a backend.

use std::sync::Arc;

use crate::{Backend, Error, Result, memory::MemoryBackend};

/// Opens the backend that a URL names.
///
/// | URL | backend |
/// | --- | --- |
/// | `memory://` | a new, empty [`MemoryBackend`], gone with its last handle |
/// | `sqlite://jobs.db` | the embedded backend, in this file of the working directory |
/// | `sqlite:///srv/haulage/jobs.db` | the same, by an absolute path |
/// | `sqlite://jobs.db?busy_timeout=30s` | with a limit to the wait for another process's transaction |
/// | `sqlite:///mnt/jobs.db?allow_network_filesystem=true` | although two machines must never open it there |
///
/// In the path, `%20` and the like stand for the bytes that they encode. URLs
/// of AWS, `sqs://…`, are for `AwsBackend::connect` of the crate `haulage-aws`, and those of a
/// server, `https://…`, for `HttpBackend::connect` of the crate `haulage-http`.
///
/// # Errors
///
/// [`Error::Config`] where the URL is not one of these, with what would be;
/// whatever opening the backend gives.
pub async fn connect(url: &str) -> Result<Arc<dyn Backend>> {
    let url = url.trim();
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Error::Config(no_scheme(url)));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "memory" if rest.is_empty() => Ok(Arc::new(MemoryBackend::new())),
        "memory" => Err(Error::Config(format!(
            "memory:// takes neither a path nor parameters, and {url:?} has {rest:?} behind it"
        ))),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::options(rest)?.open().await?)),
        "sqs" => Err(Error::Config(
            "sqs:// URLs are for the crate haulage-aws; open them with haulage_aws::AwsBackend::connect"
                .into(),
        )),
        "http" | "https" => Err(Error::Config(
            "http:// and https:// URLs are for the crate haulage-http; open them with haulage_http::HttpBackend::connect"
                .into(),
        )),
        _ => Err(Error::Config(format!("unknown URL scheme `{scheme}`; this build knows {KNOWN}"))),
    }
}

#[cfg(feature = "sqlite")]
const KNOWN: &str = "sqlite:// and memory://";
#[cfg(not(feature = "sqlite"))]
const KNOWN: &str = "memory://";

fn no_scheme(text: &str) -> String {
    if text.is_empty() {
        "the backend's URL is empty; for a file of this machine, write sqlite://haulage.db".to_owned()
    } else {
        // `sqlite:x.db` and `sqlite:/x.db` are other programs' ways to say it.
        let path = match text.split_once(':') {
            Some((scheme, path)) if scheme.eq_ignore_ascii_case("sqlite") => path,
            _ => text,
        };
        format!("`{text}` is not a URL; for a file of this machine, write sqlite://{path}")
    }
}

#[cfg(feature = "sqlite")]
pub(crate) mod sqlite {
    use crate::{
        Error, Result,
        sqlite::{Options, SqliteBackend},
    };

    /// What follows `sqlite://`: the path, and the parameters.
    pub(crate) fn options(rest: &str) -> Result<Options> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() {
            return Err(Error::Config(
                "the path is missing: write sqlite://haulage.db for a file of the working directory, \
                 or sqlite:///srv/haulage.db for an absolute path"
                    .into(),
            ));
        }
        if path == ":memory:" {
            return Err(Error::Config(
                "sqlite:// keeps jobs in a file; for jobs that are gone with the program, write memory://"
                    .into(),
            ));
        }
        let mut options = SqliteBackend::options(decode(path)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match name {
                "busy_timeout" => {
                    let timeout = crate::parse_duration(&value).map_err(|e| {
                        Error::Config(format!("busy_timeout={value}: {e}; write it like 500ms or 30s"))
                    })?;
                    options = options.busy_timeout(timeout);
                }
                "allow_network_filesystem" => {
                    let allow = value.parse().map_err(|_| {
                        Error::Config(format!("allow_network_filesystem={value}: write true or false"))
                    })?;
                    options = options.allow_network_filesystem(allow);
                }
                _ => {
                    return Err(Error::Config(format!(
                        "unknown parameter `{name}`; sqlite:// knows busy_timeout and allow_network_filesystem"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// Takes the percent-encoding off.
    pub(crate) fn decode(text: &str) -> Result<String> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            if *first == b'%' {
                let byte = after
                    .get(..2)
                    .and_then(|hex| std::str::from_utf8(hex).ok())
                    .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let Some(byte) = byte else {
                    return Err(Error::Config(format!(
                        "in `{text}`, a % is not followed by two hexadecimal digits; write %25 for a percent sign"
                    )));
                };
                bytes.push(byte);
                rest = &after[2..];
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        String::from_utf8(bytes).map_err(|_| Error::Config(format!("`{text}` does not decode to UTF-8")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> String {
        match connect(url).await {
            Err(Error::Config(message)) => message,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn opens_memory() {
        assert_eq!(connect("memory://").await.expect("memory").name(), "memory");
        assert!(refused("memory://x").await.contains("neither a path nor parameters"));
    }

    #[tokio::test]
    async fn says_what_would_be_right() {
        assert!(refused("amqp://host").await.contains("unknown URL scheme `amqp`; this build knows"));
        assert!(refused("SQS://jobs.fifo").await.contains("haulage_aws::AwsBackend::connect"));
        assert!(refused("https://jobs.example.com").await.contains("haulage_http::HttpBackend::connect"));
        assert!(refused("jobs.db").await.ends_with("write sqlite://jobs.db"));
        assert!(refused("sqlite:jobs.db").await.ends_with("write sqlite://jobs.db"));
        assert!(refused("sqlite:/srv/jobs.db").await.ends_with("write sqlite:///srv/jobs.db"));
        assert!(refused("").await.contains("empty"));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn opens_sqlite() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("my jobs.db");
        let url = format!("SQLite://{}/my%20jobs.db?busy_timeout=500ms", directory.path().display());
        assert_eq!(connect(&url).await.expect("sqlite").name(), "embedded");
        assert!(path.exists());
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn says_what_is_wrong_with_a_path() {
        assert!(refused("sqlite://").await.contains("sqlite:///srv/haulage.db"));
        assert!(refused("sqlite://?busy_timeout=1s").await.contains("path is missing"));
        assert!(refused("sqlite://:memory:").await.ends_with("write memory://"));
        assert!(refused("sqlite://x.db?allow_network_filesystem=yes").await.contains("true or false"));
        assert!(refused("sqlite://x.db?cache=1").await.contains("unknown parameter `cache`"));
        assert!(refused("sqlite://x.db?busy_timeout=soon").await.contains("30s"));
        assert!(refused("sqlite://x%zz.db").await.contains("%25"));
        assert!(refused("sqlite://x%").await.contains("%25"));
        assert!(refused("sqlite://x.db?busy_timeout").await.contains("30s"));
        assert_eq!(sqlite::decode("a%20b/%C3%A9%25.db").expect("decode"), "a b/é%.db");
    }
}
