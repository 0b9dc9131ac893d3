//! How a database is opened.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use super::{
    Connections, SqliteBackend, location, locks, reader::Reader, schema, wake::Wake, writer::Writer,
};
use crate::{Clock, Error, Result};

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
                "this process was forked from one that had a database open, and cannot open {} itself; open it in \
                 the child only, or start the child as a program of its own",
                path.display()
            )));
        }
        locks::install();
        let path: Arc<Path> = location::resolve(&path)
            .map_err(|e| Error::Config(format!("cannot find the folder of {}: {e}", path.display())))?
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
