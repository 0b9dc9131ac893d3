//! Keys: who may ask for what.
//!
//! A key is a name, scopes, perhaps queues, and a secret of 256 bits, of which only the
//! SHA-256 is kept: a secret that nobody can guess needs no slow hash. The secrets are
//! compared in constant time. Keys are in a file of their own, whatever keeps the jobs, so
//! that they work over any backend, can be mounted from wherever secrets are kept, and are
//! in no copy of the jobs. A server looks with each request whether the file has changed, so
//! what changes there holds at once, without a restart.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use haulage::{Clock, Error, NewJob, QueueName, Result, Timestamp};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::KEY_LABEL;
use crate::{Problem, protocol};

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To submit jobs, and to cancel jobs by their ids.
    Submit,
    /// To look at jobs, bodies, results, queues, numbers and webhook deliveries.
    Read,
    /// To run jobs, and to see numbers.
    Work,
    /// To cancel, redrive and delete jobs, to redrive webhook deliveries, to pause queues, and to see numbers.
    Operate,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Read, Self::Work, Self::Operate];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Work => "work",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::Invalid(format!("unknown scope {text:?}; the scopes are {names}"))
        })
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Key {
    /// By which it is revoked; also a part of the secret.
    pub id: String,
    /// Whose it is: shown in the log and with the jobs that it submits. Several keys may have
    /// one name, while one takes the place of another.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// In which queues; in all of them where there are none here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueName>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The SHA-256 of the secret, in hexadecimal digits.
    hash: String,
}

impl Key {
    /// The longest name, in bytes.
    pub const MAX_NAME_BYTES: usize = 64;

    /// A key of this name, and its secret, which is told this once and kept nowhere.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where the name is empty, longer than [`Key::MAX_NAME_BYTES`] or has control
    /// characters, or where there is no scope; [`Error::Unavailable`] where the system gives no
    /// random numbers.
    pub fn create(
        name: impl Into<String>,
        mut scopes: Vec<Scope>,
        queues: Vec<QueueName>,
        expires_at: Option<Timestamp>,
    ) -> Result<(Self, String)> {
        let name = name.into();
        let limit = Self::MAX_NAME_BYTES;
        if name.is_empty() || name.len() > limit || name.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "{name:?} is not a name for a key: it has 1 to {limit} bytes, and no control characters"
            )));
        }
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() {
            return Err(Error::Invalid("a key needs a scope: submit, read, work or operate".into()));
        }
        let no_random = |e| Error::unavailable("the system gives no random numbers", e);
        let id = protocol::random(4).map_err(no_random)?;
        let secret = format!("{PREFIX}{id}_{}", protocol::random(32).map_err(no_random)?);
        let created_at = Clock::system().now();
        Ok((Self { hash: hash(&secret), id, name, scopes, queues, created_at, expires_at }, secret))
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// By which a secret is known for what it is where it should not be.
const PREFIX: &str = "haulage_";

fn hash(secret: &str) -> String {
    protocol::hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// A file of keys.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    read: Mutex<Read>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Read {
    keys: Vec<Key>,
    /// Which file that was.
    stamp: Option<Stamp>,
    /// Why it could not be read, while that is so.
    refused: Option<String>,
}

/// Tells one state of a file from another.
type Stamp = (u64, u64, u64, i64, i64);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    keys: Vec<Key>,
}

impl KeyFile {
    /// The keys in this file.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where it is not there, cannot be read, or has something else in it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let mut read = Read::default();
        read.look(&path)?;
        Ok(Self { path, read: Mutex::new(read) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys that are in it now.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn keys(path: &Path) -> Result<Vec<Key>> {
        let refused = |why: &dyn fmt::Display| {
            Error::Config(format!("cannot read the keys in {}: {why}", path.display()))
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) => return Err(refused(&error)),
        };
        serde_json::from_slice::<Document>(&text)
            .map(|document| document.keys)
            .map_err(|error| refused(&error))
    }

    /// Changes the keys of a file, which is made where it is not there yet, for its owner
    /// alone. One that is there keeps its owner, its group and its permissions, so that the server can read
    /// it, whoever changes it. Whoever reads it meanwhile has what was there before or what is there then.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where it cannot be read or written, or has another owner and this process may not
    /// give it to them; whatever `change` gives.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Vec<Key>) -> Result<T>) -> Result<T> {
        let cannot =
            |error: io::Error| Error::Config(format!("cannot write the keys to {}: {error}", path.display()));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Of two who change it at once, the second waits. The file itself is replaced, so the lock is
        // on its folder.
        let lock = fs::File::open(folder).map_err(cannot)?;
        lock.lock().map_err(cannot)?;
        let before = match fs::metadata(path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot(error)),
        };
        let mut keys = if before.is_some() { Self::keys(path)? } else { Vec::new() };
        let changed = change(&mut keys)?;
        let write = || -> io::Result<()> {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let beside = folder.join(format!(".{name}.{}", protocol::random(4)?));
            let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
            let mut text = serde_json::to_vec_pretty(&Document { keys })?;
            text.push(b'\n');
            let written = match &before {
                Some(before) => take_over(&file, before),
                None => Ok(()),
            };
            let written = written
                .and_then(|()| file.write_all(&text))
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&beside, path));
            if written.is_err() {
                let _ = fs::remove_file(&beside);
            }
            written?;
            lock.sync_all()
        };
        write().map_err(cannot)?;
        Ok(changed)
    }

    /// Whose secret that is.
    pub(super) fn identify(&self, secret: &str, now: Timestamp) -> Option<Identity> {
        let given = hash(secret);
        let read = self.current();
        // All of them are looked at, so that the time tells nothing of which it is.
        let found = read.keys.iter().fold(None, |found, key| {
            let same = bool::from(key.hash.as_bytes().ct_eq(given.as_bytes()));
            if same { Some(key) } else { found }
        });
        let key = found.filter(|key| key.is_valid(now))?;
        let (name, scopes, queues) = (key.name.clone(), key.scopes.clone(), key.queues.clone());
        Some(Identity { id: key.id.clone(), name: Some(name), scopes, queues })
    }

    /// Whether the key that somebody had when they asked still counts.
    pub(super) fn still_has(&self, identity: &Identity, now: Timestamp) -> bool {
        self.current().keys.iter().any(|key| key.id == identity.id && key.is_valid(now))
    }

    /// What is in the file now, or was before where that cannot be read: a file that somebody writes just
    /// now locks nobody out.
    fn current(&self) -> MutexGuard<'_, Read> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = read.look(&self.path).err().map(|error| error.to_string());
        if let Some(error) = refused.as_ref().filter(|_| refused != read.refused) {
            tracing::warn!(error, "cannot read the keys; those read before stay in use");
        }
        read.refused = refused;
        read
    }
}

impl Read {
    /// Reads the file, where it is another than before.
    fn look(&mut self, path: &Path) -> Result<()> {
        // One that is not there is refused by the reading.
        let stamp = fs::metadata(path).ok().map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()));
        if stamp.is_none() || stamp != self.stamp {
            self.keys = KeyFile::keys(path)?;
            self.stamp = stamp;
        }
        Ok(())
    }
}

/// Gives a file that takes the place of another its owner, group and permissions.
fn take_over(file: &fs::File, before: &fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
        fchown(file, Some(before.uid()), Some(before.gid())).map_err(|error| {
            let (uid, gid) = (before.uid(), before.gid());
            io::Error::new(
                error.kind(),
                format!("it belongs to user {uid} and group {gid} ({error}); change it as them, or as root"),
            )
        })?;
    }
    file.set_permissions(before.permissions())
}

/// Who asks, and what they may.
#[derive(Debug)]
pub(super) struct Identity {
    /// Of the key.
    pub(super) id: String,
    /// `None` on a server without keys, where everybody on the machine may do everything.
    pub(super) name: Option<String>,
    scopes: Vec<Scope>,
    queues: Vec<QueueName>,
}

impl Identity {
    /// Anybody, where there are no keys.
    pub(super) fn anybody() -> Self {
        Self { id: String::new(), name: None, scopes: Scope::ALL.to_vec(), queues: Vec::new() }
    }

    /// A stranger, who may do nothing that needs a scope.
    pub(super) fn nobody() -> Self {
        Self { id: String::new(), name: None, scopes: Vec::new(), queues: Vec::new() }
    }

    /// Whether it has one of these scopes.
    pub(super) fn may(&self, any: &[Scope]) -> bool {
        any.iter().any(|scope| self.scopes.contains(scope))
    }

    /// Refuses whoever has none of these scopes, where there are some.
    pub(super) fn need(&self, any: &[Scope]) -> Result<(), Problem> {
        if any.is_empty() || self.may(any) {
            return Ok(());
        }
        let names: Vec<_> = any.iter().map(|scope| scope.as_str()).collect();
        let names = names.join(" or ");
        Err(forbidden(format!("this key does not have the scope {names}"))
            .remedy(format!("`haulage key create --name NAME --scope {}` makes one that has it", any[0])))
    }

    /// The queues to which it is confined.
    pub(super) fn confined_to(&self) -> Option<&[QueueName]> {
        Some(&self.queues[..]).filter(|queues| !queues.is_empty())
    }

    /// Refuses queues that are not those of the key.
    pub(super) fn need_queues<'a>(
        &self,
        queues: impl IntoIterator<Item = &'a QueueName>,
    ) -> Result<(), Problem> {
        let Some(own) = self.confined_to() else { return Ok(()) };
        match queues.into_iter().find(|queue| !own.contains(queue)) {
            None => Ok(()),
            Some(queue) => Err(self.confined(&format!("{queue} is not one of them"))),
        }
    }

    /// Marks a job with the name of the key: what a client says there is no proof. And of a key for some
    /// queues, the job's idempotency key counts in its queue alone: those of a store are one space, in which
    /// it would find jobs of other queues, or take the keys of theirs before they come.
    pub(super) fn sign(&self, job: &mut NewJob) {
        if let Some(name) = &self.name {
            job.spec.metadata.insert(KEY_LABEL.to_owned(), name.clone());
        }
        if let (Some(_), Some(key)) = (self.confined_to(), &mut job.idempotency_key) {
            // A hash, since there is no room for both, and no name that others have by chance.
            *key = hash(&format!("{}/{key}", job.spec.queue));
        }
    }

    /// Refuses what is not about single queues.
    pub(super) fn need_all_queues(&self) -> Result<(), Problem> {
        match self.confined_to() {
            None => Ok(()),
            Some(_) => Err(self.confined("this request is about all queues")),
        }
    }

    fn confined(&self, why: &str) -> Problem {
        let own: Vec<_> = self.queues.iter().map(QueueName::as_str).collect();
        forbidden(format!("this key is only for the queues {}; {why}", own.join(", "))).field("queue")
    }
}

fn forbidden(detail: String) -> Problem {
    Problem::new(403, "forbidden", "The key does not allow this", detail)
}

/// The one answer that a stranger gets, whatever was asked for.
pub(super) fn unauthorized() -> Problem {
    Problem::new(401, "unauthorized", "A key is needed", "no key was given that this server knows")
        .remedy("send it as `Authorization: Bearer …`; `haulage key create` makes one")
}

#[cfg(test)]
mod tests;
