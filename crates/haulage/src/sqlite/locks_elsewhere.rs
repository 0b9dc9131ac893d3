//! Where there are no locks of open files, SQLite's own are all there is.

use std::{
    fs::File,
    path::Path,
    process,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

/// How many backends there are, closed or not, and of which process.
static OPEN: AtomicUsize = AtomicUsize::new(0);
static OPENER: AtomicU32 = AtomicU32::new(0);

pub(super) fn install() {}

#[derive(Debug)]
pub(super) struct Shut;

pub(super) fn shut_in_children(_file: &File) -> Shut {
    OPENER.store(process::id(), Ordering::Relaxed);
    OPEN.fetch_add(1, Ordering::Relaxed);
    Shut
}

impl Drop for Shut {
    fn drop(&mut self) {
        if OPENER.load(Ordering::Relaxed) == process::id() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

pub(super) fn was_forked() -> bool {
    OPEN.load(Ordering::Relaxed) > 0 && OPENER.load(Ordering::Relaxed) != process::id()
}

pub(super) fn holder(_database: &Path) -> Option<i32> {
    None
}
