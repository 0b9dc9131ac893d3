//! The one thread of a process that writes.
//!
//! Group commit: whatever has been asked for while the last transaction was
//! on its way to the disk goes into the next one together, so that one flush
//! of the disk serves many callers, and nobody is kept waiting for company.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    fault::{self, Fault},
    purge, schema,
    tx::Tx,
    wake::Wake,
};
use crate::{Clock, Error, Result, Timestamp};

/// How much goes into one transaction, in rows. More would not be faster, and
/// would keep other processes from the database for longer.
const MAX_ROWS: usize = 4_000;
/// The same, in bytes of bodies and results.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// How much a call adds to a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Hands work to the writing thread. The thread ends when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Work>>,
    path: Arc<Path>,
    wake: Arc<Wake>,
    busy_timeout: Duration,
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

struct Call<T, F> {
    weight: Weight,
    work: Option<F>,
    done: Option<T>,
    reply: oneshot::Sender<Result<T>>,
    /// Set by whoever comes first: the thread that begins, or the caller who gives up.
    taken: Arc<AtomicBool>,
}

impl<T, F> Work for Call<T, F>
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
        path: &Path,
        current: bool,
        wake: Arc<Wake>,
        clock: Clock,
        busy_timeout: Duration,
    ) -> Result<Self> {
        let open = || schema::open_writer(path, busy_timeout).map_err(|fault| fault.into_error(path));
        let connection = if current {
            open()?
        } else {
            // Beside writers that come and go there is no moment to take it; but
            // then the database is there already, and nothing is left to do.
            let end = std::time::Instant::now() + busy_timeout;
            loop {
                match wake.take_pen_within(Duration::from_millis(50)) {
                    Ok(_pen) => break open()?,
                    Err(_) if schema::inspect(path, busy_timeout)? => break open()?,
                    Err(_) if std::time::Instant::now() >= end => {
                        return Err(locked(path, busy_timeout, &wake));
                    }
                    Err(_) => {}
                }
            }
        };
        let (queue, calls) = mpsc::channel();
        let this = Thread {
            calls,
            connection,
            wake: Arc::clone(&wake),
            next_sweep: clock.now(),
            clock,
            path: path.to_owned(),
            busy_timeout,
        };
        thread::Builder::new()
            .name("haulage-writer".into())
            .spawn(move || this.run())
            .map_err(|e| Error::unavailable(format!("cannot start the writing thread: {e}"), e))?;
        Ok(Self { queue, path: path.into(), wake, busy_timeout })
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
        let call = Call { weight, work: Some(work), done: None, reply, taken: Arc::clone(&taken) };
        self.queue.send(Box::new(call)).map_err(|_| closed())?;
        // The thread itself gives up after `busy_timeout` on a lock of SQLite's;
        // on our own it waits, and the caller must not wait with it for ever.
        match tokio::time::timeout(self.busy_timeout + Duration::from_secs(1), &mut answer).await {
            Ok(answer) => answer.map_err(|_| closed())?,
            // It is being done: only the answer tells what came of it.
            Err(_) if taken.swap(true, Ordering::AcqRel) => answer.await.map_err(|_| closed())?,
            Err(_) => Err(locked(&self.path, self.busy_timeout, &self.wake)),
        }
    }
}

/// Some other process has the pen and does not give it back.
fn locked(path: &Path, waited: Duration, wake: &Wake) -> Error {
    let message = format!(
        "{} has been locked for more than {}: nothing was stored; process {} wrote last: see whether it hangs",
        path.display(),
        humantime::format_duration(waited),
        wake.writer_pid(),
    );
    Error::Unavailable { message, source: None }
}

/// How often a writing process looks for records whose time is over.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

struct Thread {
    calls: mpsc::Receiver<Box<dyn Work>>,
    connection: Connection,
    wake: Arc<Wake>,
    clock: Clock,
    path: PathBuf,
    busy_timeout: Duration,
    next_sweep: Timestamp,
}

impl Thread {
    fn run(mut self) {
        let mut carried = None;
        while let Some(first) = carried.take().or_else(|| self.calls.recv().ok()) {
            carried = self.transact(first);
        }
    }

    /// Runs one transaction; returns the call that did not fit into it.
    fn transact(&mut self, first: Box<dyn Work>) -> Option<Box<dyn Work>> {
        let mut calls = Vec::new();
        let (result, carried) = self.collect(first, &mut calls);
        for call in calls {
            call.answer(result.clone());
        }
        carried
    }

    /// Readers that overlap for ever keep SQLite from starting the log over,
    /// and it grows. Once it is long, wait for them, briefly.
    fn trim(&self) {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        if std::fs::metadata(log).map_or(0, |m| m.len()) < 4 * u64::from(schema::CHECKPOINT_PAGES) * 4096 {
            return;
        }
        let _ = self.connection.busy_timeout(Duration::from_millis(500));
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        let _ = self.connection.busy_timeout(self.busy_timeout);
    }

    fn collect(
        &mut self,
        first: Box<dyn Work>,
        calls: &mut Vec<Box<dyn Work>>,
    ) -> (Result<()>, Option<Box<dyn Work>>) {
        let pen = match self.wake.take_pen() {
            Ok(pen) => pen,
            Err(error) => {
                calls.push(first);
                return (Err(Error::unavailable(format!("cannot lock the wake file: {error}"), error)), None);
            }
        };
        let mut tx = match Tx::begin(&self.connection, &self.clock) {
            Ok(tx) => tx,
            Err(error) => {
                calls.push(first);
                return (Err(fault::to_error(&self.path, &error)), None);
            }
        };
        let (mut next, mut total) = (Some(first), Weight::default());
        while let Some(mut call) = next.take().or_else(|| self.calls.try_recv().ok()) {
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
            total.rows = total.rows.saturating_add(weight.rows);
            total.bytes = total.bytes.saturating_add(weight.bytes);
            // A panic, which would be a mistake of ours, must not end the thread
            // on which every later call depends.
            let run = catch_unwind(AssertUnwindSafe(|| call.run(&mut tx)));
            calls.push(call);
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
        let swept = self.next_sweep <= tx.now;
        if swept {
            match purge::sweep(&mut tx) {
                // As long as there is more, some goes with each transaction.
                Ok(more) => self.next_sweep = tx.now.after(if more { Duration::ZERO } else { SWEEP_EVERY }),
                Err(error) => {
                    tx.roll_back();
                    return (Err(fault::to_error(&self.path, &error)), next);
                }
            }
        }
        match tx.commit() {
            Ok(changes) => {
                if swept {
                    self.trim();
                }
                drop(pen);
                for bell in changes {
                    self.wake.ring(bell);
                }
                (Ok(()), next)
            }
            Err(error) => (Err(fault::to_error(&self.path, &error)), next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, NewJob, sqlite::SqliteBackend};

    const SHORT: Duration = Duration::from_millis(100);

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        match result {
            Err(Error::Unavailable { message, .. }) => message,
            other => panic!("not an outage: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_process_that_hangs_while_it_writes_is_named_and_hangs_no_reader() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let hung = Wake::open(&path).expect("open");
        let pen = hung.take_pen().expect("pen");
        let creating = message(SqliteBackend::options(&path).busy_timeout(SHORT).open().await);
        assert!(creating.contains(&format!("process {} wrote last", std::process::id())), "{creating}");

        drop(pen);
        SqliteBackend::open(&path).await.expect("create");
        let pen = hung.take_pen().expect("pen");
        let backend = SqliteBackend::options(&path).busy_timeout(SHORT).open().await.expect("open");
        assert_eq!(backend.stats().await.expect("stats").unfinished(), 0);
        let job = NewJob::new("late").expect("JSON");
        let submitting = message(backend.submit(vec![job]).await);
        assert!(submitting.contains("nothing was stored"), "{submitting}");
        drop(pen);
        // What was given up is not done later, either.
        let job = NewJob::new("in time").expect("JSON");
        backend.submit(vec![job]).await.expect("submit");
        assert_eq!(backend.stats().await.expect("stats").unfinished(), 1);
    }

    #[tokio::test]
    async fn a_panic_in_a_call_fails_that_transaction_and_no_other() {
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
        let call = backend.writer.run(Weight::default(), |_| -> Result<(), Fault> { panic!("a mistake") });
        assert!(message(call.await).contains("panicked"));
        backend.submit(vec![NewJob::new("after").expect("JSON")]).await.expect("submit");
        assert_eq!(backend.stats().await.expect("stats").unfinished(), 1);
    }
}
