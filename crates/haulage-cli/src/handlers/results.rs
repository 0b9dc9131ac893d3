//! The files that a program may write its result and its checkpoint to.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempDir;

/// The folder for them; a clone is the same one, and the last deletes it.
#[derive(Clone, Debug)]
pub(super) struct Folder(Option<Arc<TempDir>>);

impl Folder {
    /// Makes it where temporary files go; where none can be made there, in
    /// memory.
    pub(super) fn new() -> Self {
        let named = |place: PathBuf| {
            let place = fs::canonicalize(place)?;
            tempfile::Builder::new().prefix("haulage-").tempdir_in(place)
        };
        let made = named(std::env::temp_dir()).or_else(|error| named("/dev/shm".into()).map_err(|_| error));
        match made {
            Ok(folder) => Self(Some(Arc::new(folder))),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "there is no place for temporary files, so HAULAGE_RESULT and HAULAGE_CHECKPOINT are not set; TMPDIR can name one"
                );
                Self(None)
            }
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.0.as_deref().map(TempDir::path)
    }

    /// A place for something of one attempt. There is no file yet.
    pub(super) fn place(&self) -> Option<AttemptFile> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.path().map(|folder| AttemptFile(folder.join(format!("{number}.json"))))
    }
}

/// Where something of one attempt goes. Dropping it deletes the file.
#[derive(Debug)]
pub(super) struct AttemptFile(PathBuf);

/// What a program left there.
#[derive(Debug)]
pub(super) enum Written {
    Nothing,
    Result(Vec<u8>),
    TooMuch,
}

impl AttemptFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What the program wrote, up to `limit` bytes.
    pub(super) async fn read(&self, limit: usize) -> io::Result<Written> {
        let length = match fs::symlink_metadata(&self.0) {
            Ok(file) if file.is_file() => file.len(),
            Ok(_) => return Err(io::Error::other("it is not a plain file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written::Nothing),
            Err(error) => return Err(error),
        };
        if usize::try_from(length).map_or(true, |length| length > limit) {
            return Ok(Written::TooMuch);
        }
        let path = self.0.clone();
        tokio::task::spawn_blocking(move || fs::read(path)).await?.map(Written::Result)
    }
}

impl Drop for AttemptFile {
    fn drop(&mut self) {
        // Usually there is none.
        let _ = fs::remove_file(&self.0);
    }
}
