//! A copy of the database, made while it is in use.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{SqliteBackend, fault, location, sys};
use crate::{Error, Result};

impl SqliteBackend {
    /// Copies the database as it is at one moment into a new file at `path`, with
    /// mode 0600, while jobs go on. When this answers, the copy is on the disk; until
    /// then there is no file of that name. What was deleted is not in it.
    ///
    /// Jobs that are in progress are in progress in the copy: where it is opened,
    /// their leases run out there, and they run again.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where there is something at `path` already, which is
    /// left alone, or no file can be made there; [`Error::Unavailable`] where the
    /// database cannot be read, or the copy not be written.
    pub async fn backup(&self, path: impl Into<PathBuf>) -> Result<()> {
        let (from, to) = (self.path.clone(), path.into());
        tokio::task::spawn_blocking(move || backup(&from, &to))
            .await
            .map_err(|e| Error::unavailable("the backup was interrupted", e))?
    }
}

fn backup(from: &Path, to: &Path) -> Result<()> {
    // Absolute, as SQLite takes what begins with `file:` for a URI.
    let to =
        &std::path::absolute(to).map_err(|e| Error::Invalid(format!("cannot make {}: {e}", to.display())))?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(exists(to));
    }
    let part = Part::create(to)?;
    copy(from, &part.path)?;
    part.finish(to)
}

fn exists(path: &Path) -> Error {
    Error::Invalid(format!("{} is there already, and is left as it is; name another file", path.display()))
}

/// On a connection of its own, so that it holds up no other call. A database
/// that is made anew has no page of what was deleted.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copied = Connection::open_with_flags(from, flags).and_then(|connection| {
        let Some(to) = to.to_str() else {
            return Err(rusqlite::Error::InvalidPath(to.to_owned()));
        };
        connection.execute("VACUUM INTO ?1", [to]).map(drop)
    });
    copied.map_err(|error| match error {
        rusqlite::Error::InvalidPath(path) => {
            Error::Invalid(format!("{} is not UTF-8, as a name of a file must be here", path.display()))
        }
        error => fault::to_error(from, &error),
    })
}

/// A file beside the one that is to be, until it is whole.
struct Part {
    path: PathBuf,
}

impl Part {
    fn create(to: &Path) -> Result<Self> {
        let mut name = OsString::from(to);
        // A process that was killed may have left one, and another may have its id.
        name.push(format!(".part-{:08x}", fastrand::u32(..)));
        let path = PathBuf::from(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(location::NEW_FILE_MODE).open(&path);
        made.map_err(|e| Error::Invalid(format!("cannot make {}: {e}", path.display())))?;
        Ok(Self { path })
    }

    /// Gives it its name, and has both on the disk.
    fn finish(self, to: &Path) -> Result<()> {
        let named = || -> io::Result<()> {
            File::open(&self.path)?.sync_all()?;
            sys::name_new(&self.path, to)?;
            let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        named().map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => exists(to),
            _ => Error::unavailable(format!("cannot write {}", to.display()), e),
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Where it has its name, it is gone from here.
        let _ = fs::remove_file(&self.path);
    }
}
