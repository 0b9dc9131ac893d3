//! What every command gets: where the jobs are, and where its words go.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use haulage::{
    Backend, Producer,
    sqlite::SqliteBackend,
    url::{self, Scheme},
};
use haulage_http::HttpBackend;

use crate::{
    exit::{Exit, Result},
    output::Output,
};

/// The options that all commands share.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) url: String,
    pub(crate) output: Output,
    opened: Mutex<Vec<Arc<dyn Backend>>>,
}

impl Session {
    pub(crate) fn new(url: String, output: Output) -> Self {
        Self { url, output, opened: Mutex::default() }
    }

    /// Opens the backend, which is closed with the session.
    pub(crate) async fn backend(&self) -> Result<Arc<dyn Backend>> {
        Ok(self.keep(self.open().await?))
    }

    /// Opens an embedded database that there is already.
    pub(crate) async fn database(&self) -> Result<SqliteBackend> {
        if self.is_server() {
            return Err(Exit::usage(
                "this needs the database itself; run it on the server's machine, with the sqlite:// URL of the database",
            ));
        }
        self.check_existing()?;
        let database = SqliteBackend::connect(&self.url).await?;
        self.keep(Arc::new(database.clone()));
        Ok(database)
    }

    /// Closes what has been opened, so that nothing is left to be tidied up.
    pub(crate) async fn close(&self) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for backend in opened {
            // The command has done what it was asked to: all the same.
            if let Err(error) = backend.close().await {
                tracing::debug!(%error, "not closed");
            }
        }
    }

    async fn open(&self) -> Result<Arc<dyn Backend>> {
        match url::split(&self.url)?.0 {
            Scheme::Sqlite => Ok(haulage::connect(&self.url).await?),
            Scheme::Http => Ok(Arc::new(HttpBackend::connect(&self.url).await?)),
            Scheme::Sqs => aws(&self.url).await,
            Scheme::Memory => Err(Exit::usage(
                "memory:// is gone when this command ends, and other commands cannot see it; keep the jobs in a \
                 file, with sqlite://haulage.db",
            )),
        }
    }

    fn is_of(&self, scheme: Scheme) -> bool {
        url::split(&self.url).is_ok_and(|(found, _)| found == scheme)
    }

    /// Whether a server keeps the jobs, by whatever.
    pub(crate) fn is_server(&self) -> bool {
        self.is_of(Scheme::Http)
    }

    /// Whether the jobs are in SQS and DynamoDB.
    pub(crate) fn is_aws(&self) -> bool {
        self.is_of(Scheme::Sqs)
    }

    /// Opens a backend that there is already: looking at jobs in the wrong
    /// folder must not leave an empty database there.
    pub(crate) async fn existing(&self) -> Result<Arc<dyn Backend>> {
        self.check_existing()?;
        self.backend().await
    }

    /// The same, for who looks at records only: on AWS they are there also where the queue is gone.
    pub(crate) async fn records(&self) -> Result<Arc<dyn Backend>> {
        #[cfg(feature = "aws")]
        if self.is_aws() {
            let config = haulage_aws::Config::from_url(&self.url)?;
            let backend = haulage_aws::AwsBackend::with_config(config).queue_optional().open().await?;
            return Ok(self.keep(Arc::new(backend)));
        }
        self.existing().await
    }

    fn keep(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&backend));
        backend
    }

    fn check_existing(&self) -> Result {
        if let Some(path) = self.url.strip_prefix("sqlite://") {
            let path = path.split('?').next().unwrap_or_default();
            // An encoded path is left to be read by who knows how.
            if !path.is_empty() && !path.contains('%') && !Path::new(path).exists() {
                return Err(Exit::usage(format!(
                    "there is no database {path} yet; the first submit or worker makes it, or name another with --url"
                )));
            }
        }
        Ok(())
    }

    /// Opens the backend for a producer.
    pub(crate) async fn producer(&self) -> Result<Producer> {
        Ok(Producer::new(self.backend().await?))
    }
}

#[cfg(feature = "aws")]
async fn aws(url: &str) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(haulage_aws::AwsBackend::connect(url).await?))
}

#[cfg(not(feature = "aws"))]
async fn aws(_url: &str) -> Result<Arc<dyn Backend>> {
    Err(without_aws())
}

/// What is said where AWS would be needed and is not built in.
#[cfg(not(feature = "aws"))]
pub(crate) fn without_aws() -> Exit {
    Exit::usage(
        "this program is built without AWS; build it with `--features aws`, or use the one that comes with the \
         Python package",
    )
}
