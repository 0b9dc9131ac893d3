//! The one thread of a process that only reads, beside whoever writes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    fault::{self, Fault},
    schema,
};
use crate::{Error, Result};

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// Hands queries to the reading thread. It ends when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    queue: mpsc::Sender<Query>,
    path: std::sync::Arc<Path>,
}

impl Reader {
    pub(super) fn start(path: &Path, busy_timeout: Duration) -> Result<Self> {
        let connection = schema::open_reader(path, busy_timeout).map_err(|e| fault::to_error(path, &e))?;
        let (queue, queries) = mpsc::channel::<Query>();
        thread::Builder::new()
            .name("haulage-reader".into())
            .spawn(move || {
                for query in queries {
                    query(&connection);
                }
            })
            .map_err(|e| Error::unavailable(format!("cannot start the reading thread: {e}"), e))?;
        Ok(Self { queue, path: path.into() })
    }

    /// Runs a query on one consistent state of the database.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let path = std::sync::Arc::clone(&self.path);
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
        let closed = || Error::Unavailable { message: "the database was closed".into(), source: None };
        self.queue.send(query).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}
