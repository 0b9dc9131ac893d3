//! What a disk has kept, and what it would lose with the power.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// One disk: the files of one folder.
pub(crate) struct Disk {
    state: Mutex<State>,
    mended: Condvar,
    /// How many flushes have begun.
    flushes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    files: Files,
    trouble: Option<Trouble>,
    unreadable: Option<String>,
    witness: Option<Witness>,
}

/// Is shown what is on the disk each time that something is about to change.
type Witness = Box<dyn FnMut(&Files) + Send>;

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No file can grow.
    Full,
    /// Nothing can be written.
    NoWrites,
    /// What was written does not get out of the cache.
    NoFlushes,
    /// A flush ends only when the disk is mended.
    Stuck,
}

/// What files hold: for sure, and in a cache.
#[derive(Clone, Default)]
pub(crate) struct Files(BTreeMap<String, Contents>);

#[derive(Clone, Default)]
struct Contents {
    kept: Vec<u8>,
    cached: Vec<Change>,
    length: usize,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[*at..end].copy_from_slice(bytes);
            }
            Self::Length(length) => contents.resize(*length, 0),
        }
    }
}

impl Files {
    /// Puts into `folder` what is left after the power was lost: all that had
    /// been flushed and, of the rest, each change with this chance in percent.
    pub(crate) fn after_loss_of_power(&self, folder: &Path, chance: u8, random: &mut fastrand::Rng) {
        for (name, Contents { kept, cached, .. }) in &self.0 {
            let mut contents = kept.clone();
            for change in cached {
                if random.u8(..100) < chance {
                    change.apply(&mut contents);
                }
            }
            fs::write(folder.join(name), contents).expect("write");
        }
    }
}

impl Disk {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), mended: Condvar::new(), flushes: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn files(&self) -> Files {
        self.state().files.clone()
    }

    pub(crate) fn breaks(&self, trouble: Trouble) {
        self.state().trouble = Some(trouble);
    }

    /// The next read of a page that holds this text fails.
    pub(crate) fn misreads_once(&self, text: &str) {
        self.state().unreadable = Some(text.to_owned());
    }

    pub(super) fn misreads(&self, bytes: &[u8]) -> bool {
        let found = |text: &mut String| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        self.state().unreadable.take_if(found).is_some()
    }

    pub(crate) fn mend(&self) {
        self.state().trouble = None;
        self.mended.notify_all();
    }

    /// Shows the disk to `witness` before each change, until told otherwise.
    pub(crate) fn show(&self, witness: impl FnMut(&Files) + Send + 'static) {
        self.state().witness = Some(Box::new(witness));
    }

    pub(crate) fn show_nobody(&self) {
        self.state().witness = None;
    }

    /// How many flushes of the write-ahead log have begun; one a transaction.
    pub(crate) fn flushes(&self) -> watch::Receiver<u64> {
        self.flushes.subscribe()
    }

    fn change(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let Some(mut witness) = state.witness.take() {
            witness(&state.files);
            state.witness = Some(witness);
        }
        state
    }

    /// Before a file is opened: `found` is what it holds, should it be there.
    pub(super) fn opened(&self, name: &str, found: impl FnOnce() -> Vec<u8>) {
        self.state().files.0.entry(name.into()).or_insert_with(|| {
            let kept = found();
            Contents { length: kept.len(), kept, cached: Vec::new() }
        });
    }

    /// Does a write, if the disk takes it.
    pub(super) fn write(
        &self,
        name: &str,
        at: usize,
        bytes: &[u8],
        write: impl FnOnce() -> bool,
    ) -> Result<(), Trouble> {
        let mut state = self.change();
        let trouble = state.trouble;
        let file = state.files.0.entry(name.into()).or_default();
        let end = at + bytes.len();
        match trouble {
            Some(Trouble::NoWrites) => return Err(Trouble::NoWrites),
            Some(Trouble::Full) if end > file.length => return Err(Trouble::Full),
            _ => {}
        }
        if !write() {
            return Err(Trouble::NoWrites);
        }
        file.length = file.length.max(end);
        file.cached.push(Change::Write(at, bytes.to_vec()));
        Ok(())
    }

    pub(super) fn truncated(&self, name: &str, length: usize) {
        let mut state = self.change();
        let file = state.files.0.entry(name.into()).or_default();
        file.length = length;
        file.cached.push(Change::Length(length));
    }

    pub(super) fn deleted(&self, name: &str) {
        self.change().files.0.remove(name);
    }

    pub(super) fn flush(&self, name: &str) -> Result<(), Trouble> {
        let state = self.change();
        if name.ends_with("-wal") {
            self.flushes.send_modify(|n| *n += 1);
        }
        let stuck = |state: &mut State| state.trouble == Some(Trouble::Stuck);
        let mut state = self.mended.wait_while(state, stuck).unwrap_or_else(PoisonError::into_inner);
        if state.trouble == Some(Trouble::NoFlushes) {
            return Err(Trouble::NoFlushes);
        }
        let file = state.files.0.entry(name.into()).or_default();
        for change in file.cached.drain(..) {
            change.apply(&mut file.kept);
        }
        Ok(())
    }
}
