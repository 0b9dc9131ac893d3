//! SIGTERM and SIGINT, as a worker takes them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use haulage::shutdown::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Exit, Result};

/// A signal that comes so soon after the first is the same one: `timeout`, and
/// programs that pass Ctrl-C on to children that had it from the terminal,
/// send it twice.
const ECHO: Duration = Duration::from_millis(250);

/// Listens for signals: the first asks the worker to stop, the second ends it.
#[derive(Debug)]
pub(super) struct Stop {
    shutdown: Shutdown,
    stopping: CancellationToken,
    /// The second signal's number; 0 while there was none.
    forced_by: Arc<AtomicU8>,
}

impl Stop {
    /// Starts to listen.
    pub(super) fn listen() -> Result<Self> {
        let failed = |error| Exit::new(Code::Failure, format!("cannot listen for signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let stop =
            Self { shutdown: Shutdown::new(), stopping: CancellationToken::new(), forced_by: Arc::default() };
        let (shutdown, stopping, forced_by) =
            (stop.shutdown.clone(), stop.stopping.clone(), Arc::clone(&stop.forced_by));
        tokio::spawn(async move {
            let name = next(&mut terminate, &mut interrupt).await.0;
            stopping.cancel();
            shutdown.stop();
            tracing::info!("{name}: no more jobs are taken, and those that run may finish");
            let echo = async {
                loop {
                    next(&mut terminate, &mut interrupt).await;
                }
            };
            let _ = tokio::time::timeout(ECHO, echo).await;
            tracing::info!("a second signal ends the jobs that run at once");
            let (name, number) = next(&mut terminate, &mut interrupt).await;
            tracing::warn!("{name} again: the jobs that run are given back");
            forced_by.store(number, Ordering::Relaxed);
            shutdown.stop_now();
        });
        Ok(stop)
    }

    /// Waits for the first signal.
    pub(super) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// What the consumer is to run with.
    pub(super) fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// How the signals make the program end.
    pub(super) fn ending(&self) -> Result {
        match self.forced_by.load(Ordering::Relaxed) {
            0 => Ok(()),
            number => Err(Exit::silent(Code::Signal(number))),
        }
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, u8) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 15),
        _ = interrupt.recv() => ("SIGINT", 2),
    }
}
