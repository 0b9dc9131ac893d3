//! What goes wrong inside the embedded backend, and how it reads outside.

use std::path::Path;

use rusqlite::ErrorCode;

use super::sys;
use crate::Error;

/// An error on its way out: SQLite's, or one that is ready for the caller.
#[derive(Debug)]
pub(super) enum Fault {
    Sqlite(rusqlite::Error),
    Ready(Error),
}

impl Fault {
    pub(super) fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Sqlite(error) => to_error(path, &error),
            Self::Ready(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ready(error)
    }
}

/// SQLite's own words, kept as the source of ours.
#[derive(Debug, thiserror::Error)]
#[error("SQLite: {0}")]
struct Cause(String);

/// Whether somebody else has the lock.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn is_full(path: &Path, error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull) || sys::disk(path).is_ok_and(|disk| disk.free == 0)
}

/// Says what happened to the database at `path`, and what to do.
pub(super) fn to_error(path: &Path, error: &rusqlite::Error) -> Error {
    let shown = path.display();
    let cause = Cause(error.to_string());
    let message = match error.sqlite_error_code() {
        // Where a file beside the database cannot be made or grown, the disk is
        // full, too.
        Some(ErrorCode::DiskFull | ErrorCode::CannotOpen) if is_full(path, error) => {
            format!("the disk that holds {shown} is full: nothing was stored; free some space and try again")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("{shown} is locked by another program: nothing was stored; close it and try again")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            return Error::Config(format!(
                "cannot write to {shown}: the file or its folder is read-only for this user ({cause})"
            ));
        }
        Some(ErrorCode::NotADatabase) => {
            return Error::Config(format!(
                "{shown} is not a Haulage database: it is not an SQLite file; name another file, or move this one away"
            ));
        }
        // SQLite says so of a page that a failing disk did not read, too.
        Some(ErrorCode::DatabaseCorrupt) => {
            format!(
                "{shown} could not be read ({cause}): the disk failed to read it, or the file is damaged; \
                 `haulage doctor` checks every page and tells which"
            )
        }
        Some(ErrorCode::SystemIoFailure) if is_full(path, error) => {
            format!(
                "the disk that holds {shown} is full ({cause}): what was asked for may or may not have been stored; free some space and try again"
            )
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!(
                "the disk that holds {shown} failed to read or write ({cause}): what was asked for may or may not have been stored; see the system's log"
            )
        }
        _ => format!("the database {shown} refused to work ({cause})"),
    };
    Error::unavailable(message, cause)
}
