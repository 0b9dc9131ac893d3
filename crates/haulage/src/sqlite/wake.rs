//! What processes on one database tell each other: that something changed,
//! and whose turn it is to write.
//!
//! It lives in a small file beside the database (`…-wake`). Nothing durable
//! is in it: it may be deleted when no process has the database open.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::sys::{self, Lock, SharedPage};

/// What can have changed. The discriminant is the word in the shared page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bell {
    /// A job may be ready to be claimed.
    Ready = 0,
    /// A record may have become terminal.
    Outcomes = 1,
    /// A running job may have been cancelled.
    Cancels = 2,
}

/// The word that holds the process id of whoever writes.
const WRITER: usize = 3;
/// How often a listener looks whether it is still wanted.
const LISTENER_TURN: Duration = Duration::from_secs(1);
const TURNSTILE: i64 = 0;
const PEN: i64 = 1;

/// The wake file of one database.
#[derive(Debug)]
pub(super) struct Wake {
    file: File,
    page: Arc<SharedPage>,
    bells: [Channel; 3],
}

#[derive(Debug)]
struct Channel {
    changes: Arc<watch::Sender<u64>>,
    listening: AtomicBool,
}

impl Wake {
    /// Where the wake file of a database is.
    pub(super) fn path(database: &Path) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push("-wake");
        path.into()
    }

    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(Self::path(database))?;
        let page = Arc::new(SharedPage::map(&file)?);
        let channel =
            || Channel { changes: Arc::new(watch::Sender::new(0)), listening: AtomicBool::new(false) };
        Ok(Self { file, page, bells: [channel(), channel(), channel()] })
    }

    /// Tells everybody on this database, in this process and in others.
    pub(super) fn ring(&self, bell: Bell) {
        self.page.word(bell as usize).fetch_add(1, Ordering::Release);
        self.page.wake(bell as usize);
        self.bells[bell as usize].changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// A receiver that changes whenever the bell rings, wherever it was rung.
    pub(super) fn subscribe(&self, bell: Bell) -> watch::Receiver<u64> {
        let channel = &self.bells[bell as usize];
        let receiver = channel.changes.subscribe();
        if !channel.listening.swap(true, Ordering::AcqRel) {
            let (page, changes) = (Arc::clone(&self.page), Arc::downgrade(&channel.changes));
            let seen = page.word(bell as usize).load(Ordering::Acquire);
            let listener = thread::Builder::new()
                .name("haulage-wake".into())
                .spawn(move || listen(&page, bell as usize, seen, &changes));
            if let Err(error) = listener {
                // Waiters still look every so often by themselves.
                channel.listening.store(false, Ordering::Release);
                tracing::warn!(%error, "no thread for wake-ups from other processes; they will take seconds");
            }
        }
        receiver
    }

    /// Waits until it is this process's turn to write.
    ///
    /// SQLite's own lock keeps writers apart; this one makes them take turns.
    /// Who waits holds the turnstile, so that a writer who comes straight back
    /// finds it closed and cannot overtake.
    pub(super) fn take_pen(&self) -> io::Result<Pen<'_>> {
        self.take(Lock::Wait)
    }

    /// The same, for as long as `patience` lasts.
    pub(super) fn take_pen_within(&self, patience: Duration) -> io::Result<Pen<'_>> {
        let end = Instant::now() + patience;
        loop {
            match self.take(Lock::Try) {
                // EACCES and EAGAIN both mean that somebody has it.
                Err(error)
                    if Instant::now() < end
                        && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied) =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                taken => return taken,
            }
        }
    }

    fn take(&self, lock: Lock) -> io::Result<Pen<'_>> {
        sys::lock_byte(&self.file, TURNSTILE, lock)?;
        let taken = sys::lock_byte(&self.file, PEN, lock);
        sys::lock_byte(&self.file, TURNSTILE, Lock::Free)?;
        taken?;
        self.page.word(WRITER).store(std::process::id(), Ordering::Relaxed);
        Ok(Pen(self))
    }

    /// The process that writes now or wrote last, as far as is known.
    pub(super) fn writer_pid(&self) -> u32 {
        self.page.word(WRITER).load(Ordering::Relaxed)
    }
}

/// The right to write, until dropped.
#[derive(Debug)]
pub(super) struct Pen<'a>(&'a Wake);

impl Drop for Pen<'_> {
    fn drop(&mut self) {
        // Unlocking an open file cannot fail in a way that we could mend; the
        // kernel frees the lock at the latest when the file is closed.
        let _ = sys::lock_byte(&self.0.file, PEN, Lock::Free);
    }
}

fn listen(page: &SharedPage, word: usize, mut seen: u32, changes: &Weak<watch::Sender<u64>>) {
    loop {
        page.wait(word, seen, LISTENER_TURN);
        let Some(changes) = changes.upgrade() else { return };
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
        let mut heard = b.subscribe(Bell::Outcomes);
        a.ring(Bell::Ready);
        assert!(!heard.has_changed().expect("open"));
        a.ring(Bell::Outcomes);
        heard.changed().await.expect("open");
    }

    #[test]
    fn writers_take_turns() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("x.db");
        let turns = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for name in 0..3 {
                let (path, turns) = (&path, &turns);
                scope.spawn(move || {
                    let wake = Wake::open(path).expect("open");
                    for _ in 0..50 {
                        let pen = wake.take_pen().expect("lock");
                        turns.lock().expect("lock").push(name);
                        thread::sleep(Duration::from_micros(200));
                        drop(pen);
                    }
                });
            }
        });
        // Without the turnstile one thread takes nearly all its turns in a row.
        let turns = turns.into_inner().expect("lock");
        let repeats = turns.windows(2).take(100).filter(|w| w[0] == w[1]).count();
        assert!(repeats < 50, "{repeats} of 100 turns went to the same writer again: {turns:?}");
    }
}
