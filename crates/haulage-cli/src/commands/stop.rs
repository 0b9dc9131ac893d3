//! The signals that stop a command which has something to end first.

use std::{
    io,
    process::exit,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use haulage::shutdown::{Shutdown, StopSignal, StopSignals};
use tokio::runtime;

use crate::exit::{Code, Exit, Result};

/// A signal that comes so soon after the first is the same one: `timeout`, and
/// programs that pass Ctrl-C on to children that had it from the terminal,
/// send it twice.
const ECHO: Duration = Duration::from_millis(250);

/// How long the command may take to end after the second signal. It takes less,
/// unless something blocks it that nobody thought of.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Listens for signals: the first asks the command to stop, the second ends it.
#[derive(Debug)]
pub(super) struct Stop {
    shutdown: Shutdown,
    signalled: Arc<Signalled>,
}

/// What has come, for the command to say what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    First(&'static str),
    /// From now on another one is the second.
    Armed,
    Second(&'static str),
}

#[derive(Debug, Default)]
struct Signalled {
    /// The signals' numbers; 0 while there was none.
    stopped_by: AtomicU8,
    forced_by: AtomicU8,
    /// Held from what a signal does until it is said: an idle worker has ended
    /// a moment later, and is to end after that line.
    saying: Mutex<()>,
}

impl Signalled {
    /// Does what a signal asks for, then says so.
    fn obey(&self, act: impl FnOnce(), say: impl FnOnce()) {
        let _saying = self.saying.lock().unwrap_or_else(PoisonError::into_inner);
        act();
        say();
    }
}

impl Stop {
    /// Starts to listen, in a thread of its own: signals are heard whatever
    /// holds up the others.
    pub(super) fn listen(tell: impl Fn(Heard) + Send + 'static) -> Result<Self> {
        let stop = Self { shutdown: Shutdown::new(), signalled: Arc::default() };
        let (shutdown, signalled) = (stop.shutdown.clone(), Arc::clone(&stop.signalled));
        let listening = || -> io::Result<_> {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let signals = {
                let _entered = runtime.enter();
                StopSignals::listen()?
            };
            thread::Builder::new()
                .name("haulage-signals".into())
                .spawn(move || runtime.block_on(listen(signals, &shutdown, &signalled, tell)))
        };
        listening()
            .map_err(|error| Exit::new(Code::Failure, format!("cannot listen for signals: {error}")))?;
        Ok(stop)
    }

    /// Waits for the first signal.
    pub(super) async fn stopping(&self) {
        self.shutdown.stopping().await;
    }

    /// Waits for the second one.
    pub(super) async fn stopping_now(&self) {
        self.shutdown.stopping_now().await;
    }

    /// The code for a command that the first signal has ended early.
    pub(super) fn early_end(&self) -> Exit {
        Exit::silent(Code::Signal(self.signalled.stopped_by.load(Ordering::Relaxed)))
    }

    /// What the consumer is to run with.
    pub(super) fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// How the signals make the program end, once the log has said what they did.
    pub(super) fn ending(&self) -> Result {
        drop(self.signalled.saying.lock());
        match self.signalled.forced_by.load(Ordering::Relaxed) {
            0 => Ok(()),
            number => Err(Exit::silent(Code::Signal(number))),
        }
    }
}

async fn listen(mut signals: StopSignals, shutdown: &Shutdown, signalled: &Signalled, tell: impl Fn(Heard)) {
    let StopSignal { name, number } = signals.next().await;
    signalled.stopped_by.store(u8::try_from(number).unwrap_or(u8::MAX), Ordering::Relaxed);
    signalled.obey(|| shutdown.stop(), || tell(Heard::First(name)));
    let echo = async {
        loop {
            signals.next().await;
        }
    };
    let _ = tokio::time::timeout(ECHO, echo).await;
    tell(Heard::Armed);
    let StopSignal { name, number } = signals.next().await;
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    signalled.forced_by.store(number, Ordering::Relaxed);
    signalled.obey(|| shutdown.stop_now(), || tell(Heard::Second(name)));
    tokio::time::sleep(END_LIMIT).await;
    exit(i32::from(Code::Signal(number).number()));
}
