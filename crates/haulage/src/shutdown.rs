//! How a consumer is told to stop.

use std::{io, sync::Arc};

use tokio_util::sync::CancellationToken;

/// Tells a [`Consumer`](crate::Consumer) to stop: first politely, then at once.
///
/// A clone is the same signal, so one `Shutdown` stops as many consumers as it
/// was given to.
///
/// | call | what the consumer does |
/// | --- | --- |
/// | [`stop`](Self::stop) | claims no more, finishes what runs within the `shutdown_grace_period`, gives back the rest |
/// | [`stop_now`](Self::stop_now) | gives back everything at once |
///
/// A job that is given back can be claimed by another consumer at once, and
/// the attempt does not count.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stop: CancellationToken,
    now: CancellationToken,
    /// Fires when the last clone is gone; the thread that waits for signals
    /// then ends, too.
    forgotten: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.forgotten.cancel();
    }
}

impl Shutdown {
    /// A signal that only the program itself gives.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that SIGTERM and SIGINT give as well: the first is
    /// [`stop`](Self::stop), the second [`stop_now`](Self::stop_now). Where
    /// there are no such signals, Ctrl-C.
    ///
    /// A thread of its own waits for them, so that a handler that keeps every
    /// thread of the async runtime busy does not keep the signals out. From the
    /// first call on these signals do not end the process any more; they stay
    /// so for as long as the process lives.
    ///
    /// # Errors
    ///
    /// Where the system does not let a thread start or a signal be caught.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let forgotten = shutdown.0.forgotten.clone();
        let (stop, now) = (shutdown.0.stop.clone(), shutdown.0.now.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _guard = runtime.enter();
            Signals::new()?
        };
        std::thread::Builder::new().name("haulage-signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        () = signals.next() => {}
                        () = forgotten.cancelled() => return,
                    }
                    if stop.is_cancelled() {
                        now.cancel();
                        return;
                    }
                    stop.cancel();
                }
            });
        })?;
        Ok(shutdown)
    }

    /// Stop claiming, finish what runs, give back what is left after the grace
    /// period.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Give back everything at once.
    pub fn stop_now(&self) {
        self.0.stop.cancel();
        self.0.now.cancel();
    }

    /// Whether it has been told to stop, in either way.
    pub fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }

    /// Whether it has been told to stop at once.
    pub fn is_stopping_now(&self) -> bool {
        self.0.now.is_cancelled()
    }

    /// Waits until it is told to stop, in either way.
    pub async fn stopping(&self) {
        self.0.stop.cancelled().await;
    }

    /// Waits until it is told to stop at once.
    pub async fn stopping_now(&self) {
        self.0.now.cancelled().await;
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
