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

    /// A signal that SIGTERM, SIGINT and SIGHUP give as well: the first is
    /// [`stop`](Self::stop), the second [`stop_now`](Self::stop_now). Where
    /// there are no such signals, Ctrl-C. See [`StopSignals`].
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
            StopSignals::listen()?
        };
        std::thread::Builder::new().name("haulage-signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = signals.next() => {}
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

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal {
    /// Its name, such as `SIGTERM`.
    pub name: &'static str,
    /// Its number.
    pub number: i32,
}

/// The signals that ask a process to end: SIGTERM, SIGINT, and SIGHUP, which a
/// terminal or a connection sends that goes away. Where there are no such
/// signals, Ctrl-C.
///
/// A process that was started so that SIGHUP is ignored, as by `nohup`, goes on
/// ignoring it.
#[derive(Debug)]
pub struct StopSignals {
    #[cfg(unix)]
    signals: Vec<(StopSignal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl StopSignals {
    /// Starts to listen, in an async runtime. From then on, these signals do
    /// not end the process any more, for as long as it lives.
    ///
    /// # Errors
    ///
    /// Where the system does not let a signal be caught.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let wanted = [
            ("SIGTERM", SignalKind::terminate()),
            ("SIGINT", SignalKind::interrupt()),
            ("SIGHUP", SignalKind::hangup()),
        ];
        let signals = wanted
            .into_iter()
            .filter(|(_, kind)| *kind != SignalKind::hangup() || !is_ignored(kind.as_raw_value()))
            .map(|(name, kind)| Ok((StopSignal { name, number: kind.as_raw_value() }, signal(kind)?)));
        Ok(Self { signals: without_stop_signals(|| signals.collect::<io::Result<_>>())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> StopSignal {
        std::future::poll_fn(|context| {
            for (which, signal) in &mut self.signals {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Does this while the signals that ask a process to end wait: in this thread, and for
/// good in those that it starts. One that comes between the moment in which a signal is
/// caught and the one in which somebody listens is lost otherwise, and the process that
/// was to end goes on.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(crate) fn without_stop_signals<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: all zeros is a valid set of signals, which the calls fill; the mask is that
    // of this thread alone.
    let before = unsafe {
        let (mut signals, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut signals, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, &raw mut before);
        before
    };
    let done = work();
    // SAFETY: the set is the one that the first call has filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    done
}

/// There are no such signals.
#[cfg(not(unix))]
pub(crate) fn without_stop_signals<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Whether the process was started so that this signal does nothing.
#[cfg(unix)]
#[allow(unsafe_code)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid `sigaction`, which the call fills; where no
    // new action is given, it changes nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
impl StopSignals {
    /// Starts to listen.
    ///
    /// # Errors
    ///
    /// None.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> StopSignal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        StopSignal { name: "Ctrl-C", number: 2 }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_without_stop_signals_leaves_them_to_others() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
            let blocked =
                status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("a mask").trim();
            u64::from_str_radix(blocked, 16).expect("hexadecimal") & (1 << (libc::SIGTERM - 1)) != 0
        };
        assert!(!mask());
        let (within, started) = without_stop_signals(|| (mask(), std::thread::spawn(mask)));
        assert!(within && started.join().expect("joins"));
        assert!(!mask());
    }
}
