//! Where a database lies: whether it can be safe there, and whether its files
//! are still those that were opened.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Only its owner reads and writes a new database. The files beside it take
/// the mode of the database, whatever it is later.
pub(super) const NEW_FILE_MODE: u32 = 0o600;

/// The file itself, whatever links lead to it. SQLite keeps its log beside
/// that one, and the wake file must be the same for everybody, too.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match path.canonicalize() {
        // New, or a link to a file that is.
        Err(error) if error.kind() == ErrorKind::NotFound => match path.read_link() {
            Ok(target) => resolve(&parent.join(target)),
            Err(_) => Ok(parent.canonicalize()?.join(path.file_name().unwrap_or_default())),
        },
        found => found,
    }
}

/// The file beside the database whose name ends in `suffix`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Makes an empty file for a new database, where there is none yet.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(NEW_FILE_MODE).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What an error of the file system means for who asked: that the disk is to
/// blame, or the path.
pub(super) fn to_error(message: String, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::unavailable(format!("{message}: the disk is full; free some space and try again"), error)
        }
        ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::ReadOnlyFilesystem => {
            Error::Config(format!("{message}: {error}; the folder must be writable"))
        }
        _ => Error::unavailable(format!("{message}: {error}"), error),
    }
}

/// Refuses a place where two processes could take different files for the same
/// database, and what is no file. `path` is resolved.
pub(super) fn check(path: &Path, allow_network: bool) -> Result<()> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Err(Error::Config(format!(
                "{shown} is a folder, not a database; name a file in it, such as {}",
                path.join("haulage.db").display()
            )));
        }
        Ok(meta) if !meta.is_file() => {
            return Err(Error::Config(format!(
                "{shown} is a device, not a file; name a file on a local disk"
            )));
        }
        Ok(meta) if meta.nlink() > 1 => {
            return Err(Error::Config(format!(
                "{shown} has a second name (a hard link). SQLite keeps a log for each name, so whoever opens the \
                 other one sees other jobs; remove the other name, or make a real copy of the file"
            )));
        }
        Ok(meta) if meta.len() > 0 => {}
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::Config(format!("cannot read {shown}: {error}")));
        }
        // SQLite would delete a log that has no database.
        _ => {
            let log = beside(path, "-wal");
            if fs::metadata(&log).is_ok_and(|meta| meta.len() > 0) {
                return Err(Error::Config(format!(
                    "there is no database {shown}, but its log: {} holds jobs of a database that was moved or \
                     deleted; put that back, or delete the log, too",
                    log.display()
                )));
            }
        }
    }
    // Where there is no such list (not Linux, no /proc), nothing is known.
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    let Some(mount) = Mount::of(path, &mounts) else { return Ok(()) };
    if mount.point == path {
        return Err(Error::Config(format!(
            "{shown} is mounted as a single file. Its log would stay in this container, and everybody else would \
             see other jobs; mount the folder that holds it"
        )));
    }
    match mount.kind() {
        Kind::Network if !allow_network => Err(Error::Config(format!(
            "{shown} is on a network file system ({}), where SQLite's log does not work: jobs would be lost as \
             soon as two machines open it; use a local disk. If only this machine ever opens it, add \
             `?allow_network_filesystem=true` to the URL",
            mount.filesystem
        ))),
        Kind::Unknown if !allow_network => {
            tracing::warn!(
                path = %shown, filesystem = mount.filesystem,
                "this file system may be one of another machine; the database is safe only while all who open it \
                 are on one machine"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A line of `/proc/self/mountinfo` (see proc(5)).
#[derive(Debug, PartialEq)]
struct Mount<'a> {
    point: PathBuf,
    filesystem: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Local,
    Network,
    /// Somebody's program, or the host of this virtual machine.
    Unknown,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        Some(Self { point: unescape(before.split(' ').nth(4)?), filesystem: after.split(' ').next()? })
    }

    /// The mount that holds `path`: the deepest, and of several at one place the last.
    fn of(path: &Path, mounts: &'a str) -> Option<Self> {
        let holding = mounts.lines().filter_map(Self::parse).filter(|mount| path.starts_with(&mount.point));
        holding.max_by_key(|mount| mount.point.components().count())
    }

    fn kind(&self) -> Kind {
        const NETWORK: &[&str] = &[
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "coda",
            "gfs2",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
            "ocfs2",
            "orangefs",
            "panfs",
            "pvfs2",
            "smb3",
            "smbfs",
        ];
        const NETWORK_FUSE: &[&str] = &[
            "blobfuse",
            "blobfuse2",
            "ceph-fuse",
            "gcsfuse",
            "glusterfs",
            "goofys",
            "juicefs",
            "mount-s3",
            "rclone",
            "s3fs",
            "sshfs",
        ];
        match self.filesystem.split_once('.') {
            Some(("fuse" | "fuseblk", program)) if NETWORK_FUSE.contains(&program) => Kind::Network,
            Some(("fuse", _)) => Kind::Unknown,
            _ if NETWORK.contains(&self.filesystem) => Kind::Network,
            _ if matches!(self.filesystem, "fuse" | "9p" | "virtiofs" | "vboxsf" | "prl_fs") => Kind::Unknown,
            _ => Kind::Local,
        }
    }
}

/// The kernel writes a space, tab, line end or backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;

    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// The database and its log, as they were when they were opened.
///
/// Whoever deletes or moves them leaves us with files that nobody else sees,
/// and that are gone when we close them. What is written there is not stored.
#[derive(Clone, Debug)]
pub(super) struct Files {
    database: (PathBuf, FileId),
    log: (PathBuf, FileId),
}

type FileId = (u64, u64);

fn id(meta: &Metadata) -> FileId {
    (meta.dev(), meta.ino())
}

impl Files {
    /// To be called when a connection has been opened, and has read: it has
    /// both files open then, and keeps others from deleting them.
    pub(super) fn opened(path: &Path) -> Result<Self> {
        let found = |path: PathBuf| match fs::metadata(&path) {
            Ok(meta) => Ok((path, id(&meta))),
            Err(_) => Err(gone(&path, "nothing was stored")),
        };
        Ok(Self { database: found(path.to_owned())?, log: found(beside(path, "-wal"))? })
    }

    /// Whether both are still where they were; `so` says what that means for
    /// what was asked for.
    pub(super) fn check(&self, so: &str) -> Result<()> {
        for (path, opened) in [&self.database, &self.log] {
            match fs::metadata(path) {
                Ok(meta) if id(&meta) == *opened => {}
                // Out of sight, such as after rights were given up, is not gone.
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                _ => return Err(gone(path, so)),
            }
        }
        Ok(())
    }
}

fn gone(path: &Path, so: &str) -> Error {
    Error::Unavailable {
        message: format!(
            "{} was deleted, moved or replaced while this process had it open: {so}; put the database's files back \
             as they were, or restart what uses it",
            path.display()
        ),
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime - nfs4 server:/home rw
31 22 0:41 / /mnt/my\\040disk rw - fuse.sshfs me@host: rw
32 22 0:42 / /mnt/c rw - 9p drvfs rw
33 22 8:1 /srv/x.db /data/x.db rw - ext4 /dev/sda1 rw
34 30 8:2 / /home/me/scratch rw - xfs /dev/sdb rw
35 22 0:43 / /over rw - nfs server:/over rw
36 35 0:44 / /over rw - tmpfs none rw";

    fn kind(path: &str) -> Kind {
        Mount::of(Path::new(path), MOUNTS).expect("there is a root").kind()
    }

    #[test]
    fn network_file_systems_are_known_by_name() {
        assert_eq!(kind("/srv/x.db"), Kind::Local);
        assert_eq!(kind("/home/me/x.db"), Kind::Network);
        assert_eq!(kind("/homes/x.db"), Kind::Local);
        assert_eq!(kind("/home/me/scratch/x.db"), Kind::Local);
        assert_eq!(kind("/mnt/my disk/x.db"), Kind::Network);
        assert_eq!(kind("/mnt/c/x.db"), Kind::Unknown);
        assert_eq!(kind("/over/x.db"), Kind::Local, "what was mounted over it counts");
    }

    #[test]
    fn a_file_that_is_mounted_alone_is_known() {
        let path = Path::new("/data/x.db");
        assert_eq!(Mount::of(path, MOUNTS).expect("mount").point, path);
    }

    #[test]
    fn a_hard_link_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        create(&path).expect("create");
        check(&path, false).expect("one name");
        fs::hard_link(&path, folder.path().join("y.db")).expect("link");
        let error = check(&path, false).expect_err("two names").to_string();
        assert!(error.contains("second name (a hard link)") && error.contains("a real copy"), "{error}");
    }
}
