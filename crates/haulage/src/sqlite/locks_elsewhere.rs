//! Where there are no locks of open files, SQLite's own are all there is.

use std::{fs::File, path::Path};

pub(super) fn install() {}

#[derive(Debug)]
pub(super) struct Shut;

pub(super) fn shut_in_children(_file: &File) -> Shut {
    Shut
}

pub(super) fn was_forked() -> bool {
    false
}

pub(super) fn holder(_database: &Path) -> Option<i32> {
    None
}
