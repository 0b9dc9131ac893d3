//! How a database is opened.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use super::{
    Connections, SqliteBackend, location, locks, reader::Reader, schema, wake::Wake, writer::Writer,
};
use crate::{
    Clock, Error, Result,
    url::{decode, parameters},
};

/// How to open a [`SqliteBackend`].
#[derive(Clone, Debug)]
pub struct Options {
    path: PathBuf,
    clock: Clock,
    busy_timeout: Duration,
    allow_network_filesystem: bool,
}

impl Options {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            clock: Clock::system(),
            busy_timeout: Duration::from_secs(30),
            allow_network_filesystem: false,
        }
    }

    /// By what follows `sqlite://` in a URL: the path, and the parameters.
    pub(crate) fn of_url(rest: &str) -> Result<Self> {
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
        let mut options = Self::new(decode(path)?.into());
        for parameter in parameters(query) {
            let (name, value) = parameter?;
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

    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }

    /// The clock to judge leases by. Default: the machine's. All processes on
    /// one database must agree on the time.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long to wait for another process that holds the database, a day at
    /// most. Default: 30 s.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(Duration::from_secs(24 * 3600));
        self
    }

    /// Opens the database although it is on a network file system. Default:
    /// that is refused. SQLite's log works only for processes of one machine:
    /// with two, jobs are lost.
    #[must_use]
    pub fn allow_network_filesystem(mut self, allow: bool) -> Self {
        self.allow_network_filesystem = allow;
        self
    }

    /// Opens the database, creates it where there is none, and brings one of
    /// an older version up to date.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the path cannot hold a database of ours, or
    /// holds something else; [`Error::Unavailable`] where it is locked, or the
    /// disk is full or failing.
    pub async fn open(self) -> Result<SqliteBackend> {
        tokio::task::spawn_blocking(move || self.open_blocking())
            .await
            .map_err(|e| Error::unavailable("opening the database was interrupted", e))?
    }

    fn open_blocking(self) -> Result<SqliteBackend> {
        let Self { path, clock, busy_timeout, allow_network_filesystem } = self;
        if locks::was_forked() {
            return Err(Error::Config(format!(
                "this process was forked from one that had a database open, and cannot open {} itself; close all \
                 databases before the fork, open them in the child only, or start the child as a program of its own",
                path.display()
            )));
        }
        locks::install();
        let path: Arc<Path> = location::resolve(&path)
            .map_err(|e| {
                Error::Config(format!(
                    "cannot find the folder of {}: {e}; create it, or name a file in another one",
                    path.display()
                ))
            })?
            .into();
        location::check(&path, allow_network_filesystem)?;
        let found = schema::inspect(&path, busy_timeout)?;
        let wake = Arc::new(Wake::open(&path)?);
        let writer = Writer::start(&path, found.current, Arc::clone(&wake), clock.clone(), busy_timeout)?;
        let reader = Reader::start("haulage-reader", &path, busy_timeout)?;
        let scans = Reader::start("haulage-scans", &path, busy_timeout)?;
        drop(found);
        let connections = Arc::new(Connections { reader, scans, writer });
        // Not looked at yet.
        let deliveries_at = Arc::new(AtomicI64::new(i64::MAX));
        Ok(SqliteBackend { path, clock, wake, connections, deliveries_at })
    }
}
