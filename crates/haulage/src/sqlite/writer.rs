//! The one thread of a process that writes.
//!
//! Group commit: whatever has been asked for while the last transaction was
//! on its way to the disk goes into the next one together, so that one flush
//! of the disk serves many callers, and nobody is kept waiting for company.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    fault::{self, Fault},
    holder,
    location::{self, Files},
    log::Log,
    schema, shrink,
    space::Space,
    sweep::{self, Pace, Step},
    thread::Worker,
    trim::{self, Trim},
    turn::Turns,
    tx::Tx,
    wake::Wake,
};
use crate::{Clock, Error, Result};

/// How much goes into one transaction, in rows. More would not be faster, and
/// would keep other processes from the database for longer.
const MAX_ROWS: usize = 4_000;
/// The same, in bytes of bodies and results.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How much a call adds to a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// It adds jobs, and has to leave room for ending those that are there.
    pub(super) adds: bool,
}

/// Hands work to the writing thread.
pub(super) struct Writer {
    thread: Worker<Box<dyn Work>>,
    path: Arc<Path>,
    wake: Arc<Wake>,
    busy_timeout: Duration,
    erase_log: Arc<AtomicBool>,
}

/// One call, waiting for its turn.
trait Work: Send {
    fn weight(&self) -> Weight;
    /// Does it, within the transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    /// Tells the caller, once the transaction has ended.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
    /// Whether it may be done: its caller is still there, and waits for the
    /// answer from here on.
    fn begin(&self) -> bool;
}

struct WriteCall<T, F> {
    weight: Weight,
    work: Option<F>,
    done: Option<T>,
    reply: oneshot::Sender<Result<T>>,
    /// Set by whoever comes first: the thread that begins, or the caller who gives up.
    taken: Arc<AtomicBool>,
}

impl<T, F> Work for WriteCall<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send,
{
    fn weight(&self) -> Weight {
        self.weight
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        if let Some(work) = self.work.take() {
            self.done = Some(work(tx)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let Self { done, reply, .. } = *self;
        // A caller that has gone away does not want to know.
        let _ = reply.send(committed.and_then(|()| done.ok_or_else(closed)));
    }

    fn begin(&self) -> bool {
        !self.reply.is_closed() && !self.taken.swap(true, Ordering::AcqRel)
    }
}

fn closed() -> Error {
    Error::Unavailable {
        message: "the database was closed before the answer came: it may or may not have been stored".into(),
        source: None,
    }
}

impl Writer {
    /// Opens the database and starts the thread. A database that is not
    /// `current` is created or migrated first, in turn with other processes.
    pub(super) fn start(
        path: &Arc<Path>,
        current: bool,
        wake: Arc<Wake>,
        clock: Clock,
        busy_timeout: Duration,
    ) -> Result<Self> {
        let turns = Turns::new(Arc::clone(&wake));
        let turn = if current { None } else { turns.take() };
        let connection = schema::open_writer(path, busy_timeout).map_err(|fault| match fault {
            Fault::Sqlite(error) if fault::is_busy(&error) => locked(path, busy_timeout, &wake),
            fault => fault.into_error(path),
        })?;
        drop(turn);
        let erase_log = Arc::new(AtomicBool::new(false));
        let this = Thread {
            erase_log: Arc::clone(&erase_log),
            files: Files::opened(path)?,
            space: Space::new(path),
            turns,
            connection,
            wake: Arc::clone(&wake),
            next_look: clock.monotonic(),
            pace: Pace::new(),
            trim: Trim::new(Instant::now()),
            log: Log::new(path),
            clock,
            path: Arc::clone(path),
            busy_timeout,
        };
        let thread = Worker::start("haulage-writer", move |calls| this.run(&calls))?;
        Ok(Self { thread, path: Arc::clone(path), wake, busy_timeout, erase_log })
    }

    /// Runs `work` in a transaction, together with other calls, and returns
    /// when it is on the disk. If any of them fails, nothing of any is stored.
    pub(super) async fn run<T, F>(&self, weight: Weight, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, mut answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let call = WriteCall { weight, work: Some(work), done: None, reply, taken: Arc::clone(&taken) };
        self.thread.send(Box::new(call))?;
        // The thread itself gives up after `busy_timeout`; but there may be others before this one.
        match tokio::time::timeout(self.busy_timeout + Duration::from_secs(1), &mut answer).await {
            Ok(answer) => answer.map_err(|_| closed())?,
            // It is being done: only the answer tells what came of it.
            Err(_) if taken.swap(true, Ordering::AcqRel) => answer.await.map_err(|_| closed())?,
            Err(_) => Err(locked(&self.path, self.busy_timeout, &self.wake)),
        }
    }

    /// Empties the log, in which deleted jobs can still be read, and gives back some of
    /// the space that they took; the sweep does the rest. What was deleted is so whatever
    /// comes of this.
    pub(super) async fn erase_log(&self) {
        if let Err(error) = self.try_to_erase_log().await {
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "what was deleted can be read in the log until that is emptied"
            );
        }
    }

    async fn try_to_erase_log(&self) -> Result<()> {
        self.empty_log().await?;
        if !self.run(Weight::default(), |tx| Ok(shrink::is_due(tx)?)).await? {
            return Ok(());
        }
        let until = Instant::now() + GIVING_BACK;
        let some = |tx: &mut Tx<'_>| Ok(shrink::give_back(tx, Instant::now() + sweep::SLICE)?);
        while self.run(Weight::default(), some).await? && Instant::now() < until {}
        // Pages that changed places are in the log, too, and the file is cut when it is empty.
        self.empty_log().await
    }

    async fn empty_log(&self) -> Result<()> {
        self.erase_log.store(true, Ordering::Release);
        self.run(Weight::default(), |_| Ok(())).await
    }

    /// Ends the thread, after what it has been given, and waits until its
    /// connection is closed.
    pub(super) fn close(&self, patience: Duration) -> bool {
        self.thread.end(patience)
    }
}

/// Some other process has the database and does not give it back.
fn locked(path: &Path, waited: Duration, wake: &Wake) -> Error {
    let message = format!(
        "{} has been locked for more than {}: nothing was stored; {}",
        path.display(),
        humantime::format_duration(waited),
        holder::describe(path, wake),
    );
    Error::Unavailable { message, source: None }
}

/// How often a writing process looks for records whose time is over, and for
/// leases from a time when the clock was ahead.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the sweep waits for somebody who has locked the database: calls
/// wait behind it.
const SWEEP_PATIENCE: Duration = Duration::from_millis(50);

/// How long a purge gives back space for, at most.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// How long the readers of a log that is to be erased are waited for.
const ERASING: Duration = Duration::from_secs(2);

struct Thread {
    connection: Connection,
    files: Files,
    space: Space,
    turns: Turns,
    wake: Arc<Wake>,
    clock: Clock,
    path: Arc<Path>,
    busy_timeout: Duration,
    /// By [`Clock::monotonic`]: the wall clock may be set back.
    next_look: Duration,
    pace: Pace,
    trim: Trim,
    log: Log,
    erase_log: Arc<AtomicBool>,
}

type Calls = mpsc::Receiver<Box<dyn Work>>;

impl Thread {
    fn run(mut self, calls: &Calls) {
        let mut carried = None;
        loop {
            let call = match (carried.take(), self.pace.step(&self.wake)) {
                (Some(call), _) => Ok(call),
                (None, Step::Rest) => calls.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (None, Step::Pause(left)) => calls.recv_timeout(left),
                (None, Step::Sweep) => calls.recv_timeout(Duration::ZERO),
            };
            match call {
                Ok(call) => carried = self.transact(call, calls),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.pace.step(&self.wake) == Step::Sweep {
                self.sweep();
            }
        }
    }

    /// Deletes some of what has expired, unless somebody else has written
    /// while this waited for its turn. Nobody waits for it.
    fn sweep(&mut self) {
        let turn = self.turns.take();
        if self.files.check("nothing was deleted").is_err() {
            return self.pace.give_up();
        }
        if self.pace.step(&self.wake) != Step::Sweep {
            return;
        }
        let (began, short) = (Instant::now(), self.space.is_short());
        let _ = self.connection.busy_timeout(SWEEP_PATIENCE);
        let swept = sweep::transact(&self.connection, &self.clock, &self.wake, &self.pace, short);
        let _ = self.connection.busy_timeout(self.busy_timeout);
        self.log.committed(&self.connection);
        drop(turn);
        match swept {
            Ok(swept) => {
                self.pace.swept(&self.wake, began.elapsed(), swept);
                self.trim();
            }
            Err(error) => self.pace.failed(&self.path, &error),
        }
    }

    /// Runs one transaction; returns the call that did not fit into it.
    fn transact(&mut self, first: Box<dyn Work>, calls: &Calls) -> Option<Box<dyn Work>> {
        let mut done = Vec::new();
        let (result, carried) = self.collect(first, calls, &mut done);
        if result.is_ok()
            && self.erase_log.swap(false, Ordering::AcqRel)
            && !self.checkpoint("TRUNCATE", ERASING)
        {
            tracing::warn!(
                path = %self.path.display(),
                "a reader keeps the log from being emptied: what was deleted can be read in it until it is"
            );
        }
        for call in done {
            call.answer(result.clone());
        }
        if result.is_ok() {
            self.trim();
        }
        carried
    }

    /// Keeps the log short.
    fn trim(&mut self) {
        if self.space.is_short() {
            self.checkpoint("RESTART", Duration::ZERO);
            return;
        }
        let length = || std::fs::metadata(location::beside(&self.path, "-wal")).map_or(0, |m| m.len());
        if self.trim.is_due(Instant::now(), length) && self.checkpoint("RESTART", trim::PATIENCE) {
            self.trim.emptied();
        }
    }

    /// Moves all of the log into the database. False where somebody who reads
    /// it, or writes, goes on for longer than `patience`.
    fn checkpoint(&self, mode: &str, patience: Duration) -> bool {
        // Most of it while others may write.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        let _ = self.connection.busy_timeout(patience);
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let done = self.connection.query_row(&sql, [], |r| Ok(r.get::<_, i64>(0)? == 0));
        let _ = self.connection.busy_timeout(self.busy_timeout);
        done.unwrap_or(false)
    }

    fn collect(
        &mut self,
        first: Box<dyn Work>,
        calls: &Calls,
        done: &mut Vec<Box<dyn Work>>,
    ) -> (Result<()>, Option<Box<dyn Work>>) {
        if let Err(error) = self.files.check("nothing was stored") {
            done.push(first);
            return (Err(error), None);
        }
        let turn = self.turns.take();
        let begun = Tx::begin(&self.connection, &self.clock);
        // First, so that no call finds a job that should be over.
        let mut tx = match begun.and_then(|mut tx| tx.end_late().map(|()| tx)) {
            Ok(tx) => tx,
            Err(error) => {
                done.push(first);
                let error = if fault::is_busy(&error) {
                    locked(&self.path, self.busy_timeout, &self.wake)
                } else {
                    fault::to_error(&self.path, &error)
                };
                return (Err(error), None);
            }
        };
        self.wake.begin_turn();
        let (mut next, mut total) = (Some(first), Weight::default());
        while let Some(mut call) = next.take().or_else(|| calls.try_recv().ok()) {
            let weight = call.weight();
            if total.rows > 0
                && (total.rows.saturating_add(weight.rows) > MAX_ROWS
                    || total.bytes.saturating_add(weight.bytes) > MAX_BYTES)
            {
                next = Some(call);
                break;
            }
            // Its caller gave up waiting, and has been told that nothing happened.
            if !call.begin() {
                continue;
            }
            if weight.adds
                && let Err(error) =
                    self.space.room_for(total.bytes.saturating_add(weight.bytes), &self.connection)
            {
                call.answer(Err(error));
                continue;
            }
            total.rows = total.rows.saturating_add(weight.rows);
            total.bytes = total.bytes.saturating_add(weight.bytes);
            // A panic, which would be a mistake of ours, must not end the thread
            // on which every later call depends.
            let run = catch_unwind(AssertUnwindSafe(|| call.run(&mut tx)));
            done.push(call);
            let error = match run {
                Ok(Ok(())) => continue,
                Ok(Err(fault)) => fault.into_error(&self.path),
                Err(_) => Error::Unavailable {
                    message: format!(
                        "a call on {} panicked: nothing was stored; please report this",
                        self.path.display()
                    ),
                    source: None,
                },
            };
            tx.roll_back();
            return (Err(error), None);
        }
        let since = self.clock.monotonic();
        if self.next_look <= since {
            self.next_look = since + LOOK_EVERY;
            match tx.apart(|tx| tx.cut_leases().and_then(|()| sweep::is_due(tx))) {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => self.pace.begin(&self.wake),
                Ok(Err(error)) => self.pace.failed(&self.path, &error),
                Err(error) => {
                    tx.roll_back();
                    return (Err(fault::to_error(&self.path, &error)), next);
                }
            }
        }
        let changes = match tx.commit() {
            Ok(changes) => changes,
            Err(error) => return (Err(fault::to_error(&self.path, &error)), next),
        };
        self.log.committed(&self.connection);
        drop(turn);
        changes.send(&self.wake);
        // What has just gone into a file that nobody can find is not stored.
        (self.files.check("what was asked for may not be stored"), next)
    }
}

#[cfg(test)]
mod tests;
