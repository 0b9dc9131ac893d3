//! What processes on one database tell each other: that something changed,
//! and who is writing.
//!
//! It lives in a small file beside the database (`…-wake`). Nothing durable
//! is in it: it may be deleted when no process has the database open.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    location,
    locks::{self, Shut},
    roster::{Mask, NO_LISTENER, Roster, RosterPlace},
    sys::{self, SharedPage},
};
use crate::{Error, QueueName, Result};

/// What everybody hears. The discriminant is the word in the shared page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    /// A record may have become terminal.
    Outcomes = 1,
    /// A running job may have been cancelled.
    Cancels = 2,
}

/// The words of the page beside those of the signals.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    /// How often jobs became ready.
    Ready = 0,
    /// The process that writes, or wrote last.
    Writer = 3,
    /// How many turns at writing there have been.
    Turns = 4,
    /// How often somebody has deleted what had expired.
    Sweeps = 5,
    /// What makes the file ours.
    Magic = 7,
}

/// "Haul", as everywhere where a file of ours is marked.
const MAGIC: u32 = u32::from_ne_bytes(*b"Haul");
/// How often a listener looks whether it is still wanted.
const LISTENER_TURN: Duration = Duration::from_secs(1);

/// The wake file of one database.
#[derive(Debug)]
pub(super) struct Wake {
    // First, so that it goes before the file does.
    _shut: Shut,
    file: File,
    page: Arc<SharedPage>,
    roster: Roster,
    outcomes: Channel,
    cancels: Channel,
}

/// A signal that everybody hears who wants to.
#[derive(Debug)]
struct Channel {
    word: usize,
    changes: Arc<watch::Sender<u64>>,
    listening: Arc<Mutex<bool>>,
}

impl Wake {
    /// Opens the wake file of a database, and makes it where there is none.
    pub(super) fn open(database: &Path) -> Result<Self> {
        let path = location::beside(database, "-wake");
        let failed = |error| location::to_error(format!("cannot write {}", path.display()), error);
        let file = open_own(&path)?;
        like_database(&file, database);
        let page = Arc::new(SharedPage::map(&file, Word::Magic as usize, MAGIC).map_err(failed)?);
        let channel = |signal| Channel {
            word: signal as usize,
            changes: Arc::new(watch::Sender::new(0)),
            listening: Arc::default(),
        };
        let (outcomes, cancels) = (channel(Signal::Outcomes), channel(Signal::Cancels));
        let roster = Roster::new(Arc::clone(&page), Word::Ready as usize);
        let shut = locks::shut_in_children(&file);
        Ok(Self { _shut: shut, file, page, roster, outcomes, cancels })
    }

    /// Calls so many of those who wait for jobs of these queues.
    pub(super) fn call(&self, queues: Mask, count: u32) {
        self.roster.call(queues, count);
    }

    /// Tells everybody on this database, in this process and in others.
    pub(super) fn notify(&self, signal: Signal) {
        let channel = match signal {
            Signal::Outcomes => &self.outcomes,
            Signal::Cancels => &self.cancels,
        };
        self.page.word(channel.word).fetch_add(1, Ordering::Release);
        self.page.wake(channel.word, u32::MAX, u32::MAX);
        channel.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// A place among those who wait for jobs of these queues.
    pub(super) fn place(&self, queues: Mask, list: Arc<[QueueName]>) -> RosterPlace {
        self.roster.place(queues, list)
    }

    /// Lets all claims of this process look again.
    pub(super) fn call_all_here(&self) {
        self.roster.call_all_here();
    }

    /// A receiver that changes whenever a job has ended, wherever that was.
    pub(super) fn outcomes(&self) -> watch::Receiver<u64> {
        self.outcomes.subscribe(&self.page)
    }

    /// The same for jobs that run and were cancelled.
    pub(super) fn cancels(&self) -> watch::Receiver<u64> {
        self.cancels.subscribe(&self.page)
    }

    /// The file, whose bytes are locked in turn by those who write.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn read(&self, word: Word) -> u32 {
        self.page.word(word as usize).load(Ordering::Relaxed)
    }

    /// Notes that this process has deleted what had expired.
    pub(super) fn count_sweep(&self) {
        self.page.word(Word::Sweeps as usize).fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that this process writes now.
    pub(super) fn begin_turn(&self) {
        self.page.word(Word::Writer as usize).store(std::process::id(), Ordering::Relaxed);
        self.page.word(Word::Turns as usize).fetch_add(1, Ordering::Relaxed);
    }
}

/// What a transaction has changed that others wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    /// How many jobs became ready, for each bit of a [`Mask`].
    ready: [u32; 32],
    /// Everybody who waits for a job has to look.
    all_ready: bool,
    outcomes: bool,
    cancels: bool,
}

impl Changes {
    pub(super) const fn add(&mut self, signal: Signal) {
        match signal {
            Signal::Outcomes => self.outcomes = true,
            Signal::Cancels => self.cancels = true,
        }
    }

    pub(super) fn add_ready(&mut self, queue: &QueueName) {
        self.ready[Mask::of(queue).bit()] += 1;
    }

    pub(super) const fn add_all_ready(&mut self) {
        self.all_ready = true;
    }

    /// Tells those who wait.
    pub(super) fn send(self, wake: &Wake) {
        if self.all_ready {
            wake.call(Mask::ALL, u32::MAX);
        } else {
            let ready = self.ready.into_iter().enumerate().filter(|(_, jobs)| *jobs > 0);
            ready.for_each(|(bit, jobs)| wake.call(Mask::at(bit), jobs));
        }
        let signals = [(self.outcomes, Signal::Outcomes), (self.cancels, Signal::Cancels)];
        signals.into_iter().filter(|(changed, _)| *changed).for_each(|(_, signal)| wake.notify(signal));
    }
}

/// Opens a file that is ours or new. What else has that name is refused before
/// anything is written: it may be somebody's who wants it overwritten.
fn open_own(path: &Path) -> Result<File> {
    let shown = path.display();
    let foreign = || {
        Error::Config(format!(
            "{shown} is not a file of Haulage's, which needs that name for itself; move it away, or delete it"
        ))
    };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(location::NEW_FILE_MODE)
        // No link is followed, and no pipe waited for.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENXIO) => foreign(),
            _ => location::to_error(format!("cannot write {shown}"), error),
        })?;
    let failed = |error| location::to_error(format!("cannot read {shown}"), error);
    let meta = file.metadata().map_err(failed)?;
    let mut page = [0; sys::PAGE];
    match meta.len() {
        _ if !meta.is_file() => return Err(foreign()),
        // Another process may just be about to fill it.
        0 => return Ok(file),
        n if n == page.len() as u64 => file.read_exact_at(&mut page, 0).map_err(failed)?,
        _ => return Err(foreign()),
    }
    let at = 4 * Word::Magic as usize;
    if page[at..at + 4] == MAGIC.to_ne_bytes() || page.iter().all(|byte| *byte == 0) {
        Ok(file)
    } else {
        Err(foreign())
    }
}

/// Whoever may use the database may use this file: it gets its mode and, from
/// root, its owner. Those who are not the owner leave it as it is.
fn like_database(file: &File, database: &Path) {
    let (Ok(database), Ok(now)) = (fs::metadata(database), file.metadata()) else { return };
    if (database.uid(), database.gid()) != (now.uid(), now.gid()) {
        let _ = std::os::unix::fs::fchown(file, Some(database.uid()), Some(database.gid()));
    }
    let _ = file.set_permissions(Permissions::from_mode(database.mode() & 0o777));
}

impl Channel {
    fn subscribe(&self, page: &Arc<SharedPage>) -> watch::Receiver<u64> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.changes.subscribe();
        if !*listening {
            let (page, word) = (Arc::clone(page), self.word);
            let (changes, going_on) = (Arc::downgrade(&self.changes), Arc::clone(&self.listening));
            let seen = page.word(word).load(Ordering::Acquire);
            let listener = thread::Builder::new()
                .name("haulage-wake".into())
                .spawn(move || listen(&page, word, seen, &changes, &going_on));
            match listener {
                Ok(_) => *listening = true,
                // Waiters still look every so often by themselves.
                Err(error) => tracing::warn!(%error, "{NO_LISTENER}"),
            }
        }
        receiver
    }
}

/// Hands a signal on, until nobody in this process wants it any more.
fn listen(
    page: &SharedPage,
    word: usize,
    mut seen: u32,
    changes: &Weak<watch::Sender<u64>>,
    listening: &Mutex<bool>,
) {
    loop {
        page.wait(word, seen, u32::MAX, LISTENER_TURN);
        let Some(changes) = changes.upgrade() else { return };
        let mut listening = listening.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.receiver_count() == 0 {
            *listening = false;
            return;
        }
        drop(listening);
        let now = page.word(word).load(Ordering::Acquire);
        if now != seen {
            seen = now;
            changes.send_modify(|n| *n = n.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_across_open_files() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let (a, b) = (Wake::open(&path).expect("open"), Wake::open(&path).expect("open"));
        let mut heard = b.outcomes();
        a.call(Mask::ALL, 1);
        assert!(!heard.has_changed().expect("open"));
        a.notify(Signal::Outcomes);
        heard.changed().await.expect("open");
    }

    /// Without the wake-up, most signals would be heard only at the end of the
    /// listener's turn, since they come at its beginning.
    #[tokio::test]
    async fn other_processes_hear_at_once_and_not_when_they_look_by_themselves() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let (a, b) = (Wake::open(&path).expect("open"), Wake::open(&path).expect("open"));
        let mut heard = b.outcomes();
        let mut times = Vec::new();
        for _ in 0..9 {
            let notified = std::time::Instant::now();
            a.notify(Signal::Outcomes);
            heard.changed().await.expect("open");
            times.push(notified.elapsed());
        }
        times.sort();
        assert!(times[4] < LISTENER_TURN / 2, "{times:?}");
    }

    #[test]
    fn no_link_and_no_foreign_file_is_written_to() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (database, wake) = (dir.path().join("x.db"), dir.path().join("x.db-wake"));
        let victim = dir.path().join("victim.conf");
        // Not even an empty file, or one that would be made, is reached by a link.
        std::os::unix::fs::symlink(&victim, &wake).expect("link");
        assert!(Wake::open(&database).is_err());
        assert!(!victim.exists());
        fs::remove_file(&wake).expect("remove");
        let text = "do not overwrite";
        fs::write(&victim, text).expect("write");
        std::os::unix::fs::symlink(&victim, &wake).expect("link");
        let refused = || Wake::open(&database).expect_err("foreign").to_string();
        assert!(refused().contains("x.db-wake is not a file of Haulage's"), "{}", refused());
        fs::remove_file(&wake).expect("remove");
        for foreign in [text.to_owned(), text.repeat(256)] {
            fs::write(&wake, &foreign).expect("write");
            assert!(refused().contains("move it away"), "{}", refused());
            assert_eq!(fs::read_to_string(&wake).expect("read"), foreign);
        }
        assert_eq!(fs::read_to_string(&victim).expect("read"), text);
        // Nor is a pipe waited for, or taken for a file that is empty.
        fs::remove_file(&wake).expect("remove");
        let made = std::process::Command::new("mkfifo").arg(&wake).status().expect("mkfifo");
        assert!(made.success());
        assert!(refused().contains("move it away"), "{}", refused());
        fs::remove_file(&wake).expect("remove");
        // Made by another process that has not filled it yet, or emptied by a crash.
        for unfinished in [0, sys::PAGE] {
            fs::write(&wake, vec![0; unfinished]).expect("write");
            Wake::open(&database).expect("ours");
        }
        Wake::open(&database).expect("ours, marked");
    }

    #[test]
    fn the_wake_file_is_open_to_whom_the_database_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        let database = dir.path().join("x.db");
        let mode = || fs::metadata(dir.path().join("x.db-wake")).expect("metadata").mode() & 0o777;
        Wake::open(&database).expect("open");
        assert_eq!(mode(), 0o600);
        fs::write(&database, "").expect("create");
        fs::set_permissions(&database, Permissions::from_mode(0o660)).expect("chmod");
        Wake::open(&database).expect("open");
        assert_eq!(mode(), 0o660);
    }
}
