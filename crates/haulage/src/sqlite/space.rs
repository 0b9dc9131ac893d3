//! The reserve on the disk: what new jobs leave free, so that those that are
//! there can be ended and deleted.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::sys;
use crate::{Error, Result};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// WAL pages after which a commit also moves them into the database file.
/// Larger means less often, and each page once for more changes, but a longer
/// log: this is 32 MiB of it, less on disks below 2 GiB. SQLite's own default,
/// 1,000, costs throughput.
pub const CHECKPOINT_PAGES: u32 = 8_000;

/// What new jobs leave of a disk: a twentieth, 64 MiB at most and 1 MiB at least.
pub(super) fn reserve(disk: u64) -> u64 {
    (disk / 20).clamp(MIB, 64 * MIB)
}

/// How many pages the log of a database on such a disk may have before they
/// are moved into the database. They need the same space there once more, so
/// the log stays below half of the reserve.
pub(super) fn checkpoint_pages(disk: u64) -> u32 {
    let pages = (disk / 64 / PAGE).clamp(16, CHECKPOINT_PAGES.into());
    u32::try_from(pages).unwrap_or(CHECKPOINT_PAGES)
}

/// What is left on the disk of one database.
#[derive(Debug)]
pub(super) struct Space {
    path: Arc<Path>,
    /// When there was last so much that it need not be asked again at once.
    plenty: Option<Instant>,
}

impl Space {
    pub(super) fn new(path: &Arc<Path>) -> Self {
        Self { path: Arc::clone(path), plenty: None }
    }

    /// Whether there is so little that the log has to be kept short.
    pub(super) fn is_short(&mut self) -> bool {
        !self.is_plenty(0) && sys::disk(&self.path).is_ok_and(|disk| disk.free < 2 * reserve(disk.total))
    }

    /// Whether there is room for new jobs of so many bytes, beside the reserve.
    pub(super) fn room_for(&mut self, bytes: usize, connection: &Connection) -> Result<()> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.is_plenty(bytes) {
            return Ok(());
        }
        // A disk that cannot be asked will tell by itself when it is full.
        let Ok(disk) = sys::disk(&self.path) else { return Ok(()) };
        // Once in the log, and once in the database, where the space of deleted
        // jobs is used first.
        let deleted = connection
            .prepare_cached("PRAGMA freelist_count")
            .and_then(|mut pages| pages.query_row([], |r| r.get::<_, u32>(0)))
            .map_or(0, |pages| u64::from(pages) * PAGE);
        let needed = reserve(disk.total).saturating_add(bytes.saturating_mul(2));
        if disk.free >= bytes && disk.free.saturating_add(deleted) >= needed {
            return Ok(());
        }
        Err(Error::Unavailable {
            message: format!(
                "the disk that holds {} is nearly full: nothing was stored. The last {} are kept for jobs that are \
                 there already; free some space, or delete records with `haulage purge`",
                self.path.display(),
                in_mib(reserve(disk.total)),
            ),
            source: None,
        })
    }

    /// Whether so much was free a moment ago that a look can be saved.
    fn is_plenty(&mut self, bytes: u64) -> bool {
        const MOMENT: Duration = Duration::from_millis(100);
        const PLENTY: u64 = 1024 * MIB;
        if bytes > PLENTY / 4 {
            return false;
        }
        if self.plenty.is_none_or(|at| at.elapsed() > MOMENT) {
            self.plenty = sys::disk(&self.path).is_ok_and(|disk| disk.free > PLENTY).then(Instant::now);
        }
        self.plenty.is_some()
    }
}

pub(super) fn in_mib(bytes: u64) -> String {
    format!("{:.*} MiB", usize::from(bytes < 10 * MIB), bytes as f64 / MIB as f64)
}
