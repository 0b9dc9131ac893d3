//! A thread that only reads, beside whoever writes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::oneshot;

use super::{
    fault::{self, Fault},
    location::Files,
    schema,
    thread::Worker,
};
use crate::{Error, Result};

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// Hands queries to the reading thread.
pub(super) struct Reader {
    thread: Worker<Query>,
    path: Arc<Path>,
    files: Files,
    interrupt: InterruptHandle,
}

impl Reader {
    pub(super) fn start(name: &str, path: &Arc<Path>, busy_timeout: Duration) -> Result<Self> {
        let connection = schema::open_reader(path, busy_timeout).map_err(|e| fault::to_error(path, &e))?;
        let files = Files::opened(path)?;
        let interrupt = connection.get_interrupt_handle();
        let thread = Worker::start(name, move |queries: mpsc::Receiver<Query>| {
            for query in queries {
                query(&connection);
            }
        })?;
        Ok(Self { thread, path: Arc::clone(path), files, interrupt })
    }

    /// Ends the thread, and waits until its connection is closed.
    pub(super) fn close(&self, patience: Duration) -> bool {
        self.interrupt.interrupt();
        self.thread.end(patience)
    }

    /// Runs a query on one consistent state of the database.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.files.check("what it says is out of date")?;
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let query: Query = Box::new(move |connection| {
            // A panic drops the reply, which the caller sees; the thread goes on.
            let run = || {
                let snapshot = connection.unchecked_transaction()?;
                query(&snapshot)
            };
            if let Ok(result) = catch_unwind(AssertUnwindSafe(run)) {
                let _ = reply.send(result.map_err(|fault: Fault| fault.into_error(&path)));
            }
        });
        self.thread.send(query)?;
        let closed = || Error::Unavailable { message: "the database was closed".into(), source: None };
        answer.await.map_err(|_| closed())?
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use crate::{
        Backend, NewJob,
        backend::{Detail, ListQuery, Lookup},
        sqlite::SqliteBackend,
    };

    #[tokio::test]
    async fn whoever_looks_a_record_up_and_whoever_goes_over_many_do_not_wait_for_each_other() {
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
        let job = NewJob::new("x").expect("JSON");
        let id = backend.submit(vec![job]).await.expect("submit").remove(0).expect("a job").id;
        for scan in [true, false] {
            let connections = &backend.connections;
            let busy = if scan { &connections.scans } else { &connections.reader };
            let (go_on, wait) = mpsc::channel::<()>();
            let slow = busy.run(move |_| Ok(wait.recv()));
            let others = async {
                if scan {
                    let found = backend.get(vec![id.clone()], Detail::Full).await.expect("get");
                    assert!(matches!(found[..], [Lookup::Found(_)]), "{found:?}");
                } else {
                    assert_eq!(backend.stats().await.expect("stats").visible, 1);
                    assert_eq!(backend.list(ListQuery::default()).await.expect("list").len(), 1);
                    assert!(!backend.check().await.expect("check").is_empty());
                }
                drop(go_on);
            };
            let both = async { tokio::join!(slow, others) };
            let (slow, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("nobody waits");
            slow.expect("the slow query").expect_err("it was let go");
        }
    }
}
