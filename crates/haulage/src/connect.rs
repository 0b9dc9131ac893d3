//! From a URL to a backend.

use std::sync::Arc;

use crate::{
    Backend, Error, Result,
    memory::MemoryBackend,
    url::{self, Scheme},
};

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
    let (scheme, rest) = url::split(url)?;
    match scheme {
        Scheme::Memory if rest.is_empty() => Ok(Arc::new(MemoryBackend::new())),
        Scheme::Memory => Err(Error::Config(format!(
            "memory:// takes neither a path nor parameters, and {url:?} has {rest:?} behind it"
        ))),
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => Ok(Arc::new(crate::sqlite::Options::of_url(rest)?.open().await?)),
        #[cfg(not(feature = "sqlite"))]
        Scheme::Sqlite => Err(Error::Config(
            "the crate haulage is built without SQLite here; build it with its feature `sqlite`".into(),
        )),
        Scheme::Sqs => Err(Error::Config(
            "sqs:// URLs are for the crate haulage-aws; open them with haulage_aws::AwsBackend::connect"
                .into(),
        )),
        Scheme::Http => Err(Error::Config(
            "http:// and https:// URLs are for the crate haulage-http; open them with haulage_http::HttpBackend::connect"
                .into(),
        )),
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
        assert!(refused("SQS://jobs.fifo").await.contains("haulage_aws::AwsBackend::connect"));
        assert!(refused("https://jobs.example.com").await.contains("haulage_http::HttpBackend::connect"));
        assert!(refused("jobs.db").await.ends_with("write sqlite://jobs.db"));
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
        assert!(refused("sqlite://x.db?busy_timeout").await.contains("30s"));
    }
}
